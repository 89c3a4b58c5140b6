/*
 * header: the few fields of a message header that decide its way, and headers of our own.
 *
 * In: the raw bytes of a header frame. What is written as headers mostly are is read here, the rest
 * by jansson after a scan that caps size (HEADER_MAX) and depth. Every field is copied into a fixed
 * array; one too long is an error, not a cut.
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
	char version[8];	       /* "5.N", or "" when it is anything else */
};

/* Returns 0, or -EPROTO with a reason. msg_id and msg_type must be strings; session may be absent.
 * An object that is empty ("{}", a parent_header of nobody) gives -ENOENT without text. */
int header_parse(struct iovec raw, struct header *ret_header, struct err *err);

/*
 * A new header as JSON text (caller frees): fresh msg_id, `session`, `msg_type`, username
 * "cellwall", date now in UTC ISO 8601, version "5.4". NULL when out of memory.
 */
char *header_make(const char *msg_type, const char *session);

/*
 * The header that a kernel's message gets, as JSON text in `out`: its own msg_id, which every front
 * end can take (1 to 128 of A-Z a-z 0-9 _ . -), `msg_type` and `session` of ours, username
 * "kernel", date now, its own version or 5.4. Returns the length, or -EINVAL.
 */
#define HEADER_REBUILT 1024
int header_rebuild(const struct header *from, const char *msg_type, const char *session,
		   char out[HEADER_REBUILT]);

/* A JSON string literal with its quotes (caller frees) for any bytes: malformed UTF-8 becomes
 * U+FFFD. NULL: no memory. */
char *json_literal(const void *text, size_t size);
/*
 * Length of the well-formed UTF-8 sequence at `text` (The Unicode Standard, table 3-7: no overlong
 * forms, no surrogates, nothing above U+10FFFF), or 0.
 */
size_t json_sequence(const unsigned char *text, size_t size);

/* False when objects and lists are nested deeper than `depth`: jansson recurses per level. */
bool json_shallow(const void *text, size_t size, size_t depth);

#endif
