/*
 * trail: what the audit logs (proxy/logbook.h) say of one kernel of this server, for the page.
 *
 * In: the files that the kernels' proxies write, as this account. Out: a count that follows a log
 * while it grows, and its newest lines. Bounded: so many kernels, so many lines a look. Never logs.
 */
#ifndef WEB_TRAIL_H
#define WEB_TRAIL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define TRAIL_LINES 300 /* of one answer: the newest that are meant */

struct trail;

struct trail *trail_new(void);		       /* NULL: no memory */
struct trail *trail_free(struct trail *trail); /* accepts NULL; returns NULL */

/* How many lines tell of something blocked, and when the last was ("" for none; valid until the
 * next call). */
uint64_t trail_blocked(struct trail *trail, const char *kernel, const char **ret_last);
/*
 * The newest lines of this kernel's logs, oldest first, as they were written but for "prev": those
 * of something blocked alone (`blocked`), those that hold `words` in any case (may be NULL). NULL:
 * no memory.
 */
json_t *trail_lines(struct trail *trail, const char *kernel, bool blocked, const char *words);

#endif
