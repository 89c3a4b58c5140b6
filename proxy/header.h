/*
 * header: the few fields of a message header that decide its way, and headers of our own.
 *
 * In: the raw bytes of a header frame whose signature was checked. Parsed by jansson after a scan
 * that caps size (HEADER_MAX) and depth. Every field is copied into a fixed array; one too long is
 * an error, not a cut.
 */
#ifndef PROXY_HEADER_H
#define PROXY_HEADER_H

#include <stddef.h>
#include <sys/uio.h>

#include "sandbox/base.h"

#define HEADER_MAX   (64 * 1024) /* real ones are 200 to 400 bytes; extensions may add fields */
#define HEADER_DEPTH 16
#define HEADER_TEXT  256 /* msg_id, session, msg_type: uuids and words */

struct header {
	char msg_id[HEADER_TEXT];
	char msg_type[HEADER_TEXT];
	char session[HEADER_TEXT];
	char subshell_id[HEADER_TEXT]; /* "" when absent or null */
};

/* Returns 0, or -EPROTO with a reason. msg_id and msg_type must be strings; session may be absent.
 * An object that is empty ("{}", a parent_header of nobody) gives -ENOENT without text. */
int header_parse(struct iovec raw, struct header *ret_header, struct err *err);

/*
 * A new header as JSON text (caller frees): fresh msg_id, `session`, `msg_type`, username
 * "cellwall", date now in UTC ISO 8601, version "5.4". NULL when out of memory.
 */
char *header_make(const char *msg_type, const char *session);

/* A JSON string literal with its quotes (caller frees) for any bytes: malformed UTF-8 becomes
 * U+FFFD. NULL: no memory. */
char *json_literal(const void *text, size_t size);

#endif
