/*
 * portions: a long text, looked at in parts.
 *
 * In: an examination of a stream, or of a display or result with text/plain, whose content may be
 * larger than the guard process takes at once. The text is cut where a line ends, else between two
 * characters; what the scan recognises stays as it is, the rest is asked about portion by portion,
 * and all of it is one message again. Each portion is judged as if the kernel had sent it alone: a
 * front end joins the pieces of a stream in any case. The rest of a display is asked about with a
 * mark in the text's place, which nobody can guess. Out: as of examine(). Takes what examine() may
 * take for each portion, and in all no longer than for messages of the largest size one by one.
 * Never logs.
 */
#ifndef PROXY_PORTIONS_H
#define PROXY_PORTIONS_H

#include "proxy/examine.h"

/* Contents from this size on. */
#define PORTIONS_LEAST (4u * 1024 * 1024)

/* Returns what examine() does, or -EINVAL: there is no such text. */
int portions_examine(struct examine *examine, struct examination *examination, bool links);

/*
 * Bytes of the next portion of `text` (what stands between the quotes of a JSON string), at most
 * `most`, which is 128 at least, and 1 at least: behind its last line end, else its last space,
 * else not within an escape, a surrogate pair, a colour or a character.
 */
size_t portions_next(struct iovec text, size_t most);

#endif
