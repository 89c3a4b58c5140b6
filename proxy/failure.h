/*
 * failure: the name and the text of the exception in the content of an `error` message.
 *
 * In: bytes of the kernel, which may be anything. A strict scanner with a bounded depth of nothing
 * but a counter: jansson would build a tree of the traceback, and refuses what Python writes (NaN,
 * lone surrogates). Pure; libc only.
 */
#ifndef PROXY_FAILURE_H
#define PROXY_FAILURE_H

#include <stdbool.h>
#include <sys/uio.h>

#define FAILURE_CONTENT_MAX (1024 * 1024) /* a traceback of a thousand frames, coloured */
#define FAILURE_TEXT_MAX    4096	  /* a path of the longest sort, and words */

struct failure {
	char name[32]; /* "FileNotFoundError"; a longer one is "" */
	char value[FAILURE_TEXT_MAX];
};

/*
 * Returns whether `content` is an object with one "ename" and one "evalue", both strings; a text
 * that has no room is "". False leaves *ret_failure undefined.
 */
bool failure_read(struct iovec content, struct failure *ret_failure);

#endif
