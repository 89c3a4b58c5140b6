/*
 * portions: a long piece of a stream, looked at in parts.
 *
 * In: an examination of CONTENT_STREAM whose content may be larger than the guard process takes at
 * once. Its text is cut where a line ends, else between two characters; what the scan recognises
 * stays as it is, the rest is asked about portion by portion, and all of it is one message again.
 * Each portion is judged as if the kernel had sent it alone: a front end joins the pieces of a
 * stream in any case. Out: as of examine(). Takes EXAMINE_MOST_MS at the most
 * for each EXAMINE_CONTENT_MAX. Never logs.
 */
#ifndef PROXY_PORTIONS_H
#define PROXY_PORTIONS_H

#include "proxy/examine.h"

/* Contents of streams from this size on. */
#define PORTIONS_LEAST (4u * 1024 * 1024)

/* Returns what examine() does, or -EINVAL: this is no stream. */
int portions_examine(struct examine *examine, struct examination *examination, bool links);

/*
 * Bytes of the next portion of `text` (what stands between the quotes of a JSON string), at most
 * `most`, which is 128 at least, and 1 at least: behind its last line end, else its last space,
 * else not within an escape, a surrogate pair, a colour or a character.
 */
size_t portions_next(struct iovec text, size_t most);

#endif
