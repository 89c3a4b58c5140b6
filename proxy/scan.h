/*
 * scan: recognises the messages that kernels send all the time and that hold nothing to change
 * (text, states, replies, a PNG), byte for byte, so that they need neither a parser nor the guard
 * process.
 *
 * Flat objects of known members in any order, as json.dumps and others write them: at most one
 * space after a colon or a comma, each member once. What is not exactly so is not recognised, which
 * costs time and nothing else. Never allocates, never logs.
 */
#ifndef PROXY_SCAN_H
#define PROXY_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "proxy/content.h"

/* True when `rule` would leave this content as it is. `links`: addresses in text may stay. */
bool scan_keeps(enum content_rule rule, struct iovec content, bool links);

/* The same of a stream, with its name and its text as they stand between their quotes. */
bool scan_stream(struct iovec content, bool links, struct iovec *ret_name, struct iovec *ret_text);

/* The state in a status message's content: "busy", "idle" or "starting"; else NULL. */
const char *scan_state(struct iovec content);
/* The digits of execution_count in an execute_input's content (iov_len 0: it is something else). */
struct iovec scan_count(struct iovec content);
/* True when a message's metadata may stay as it is: empty, or what front ends use of an
 * execute_reply and of a comm_open. */
bool scan_metadata(enum content_rule rule, struct iovec metadata);

/*
 * The end of the JSON string that begins at `at` (its quote), when its text is clean: well-formed
 * UTF-8, of control characters \n \t and some \r \b, of escape sequences SGR alone, nothing that
 * changes the direction or cannot be seen, and unless `links` nothing that a front end takes for an
 * address. NULL: it is not.
 */
const char *scan_text(const char *at, const char *end, bool links);

#endif
