/*
 * trail: what the audit logs (proxy/logbook.h) say of one kernel of this server, for the page.
 *
 * In: the files that the kernels' proxies write, as this account. Out: a count that follows the
 * logs while they grow, and their newest lines. Logs may be large, and all kernels wait for this
 * process: it reads TRAIL_TURN bytes in one turn of the loop (more only for a longer line), and
 * everything else has its turn in between. Never logs.
 */
#ifndef WEB_TRAIL_H
#define WEB_TRAIL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRAIL_LINES    300	      /* of one answer: the newest that are meant */
#define TRAIL_BYTES    (1024u * 1024) /* of one answer, and one line more */
#define TRAIL_TURN     (64u * 1024)
#define TRAIL_SEARCHES 8 /* of one user at the same time */

struct loop;
struct trail;

struct trail *trail_new(struct loop *loop);    /* NULL: no memory */
struct trail *trail_free(struct trail *trail); /* ends all searches; accepts NULL; returns NULL */

/*
 * How many lines tell of something blocked, and when the last was ("" for none; valid until the
 * next call). About *room bytes are read for it now, and taken off, with what opening files costs
 * instead of reading; what is left is read in later turns, for the next who asks.
 */
uint64_t trail_blocked(struct trail *trail, const char *kernel, size_t *room,
		       const char **ret_last);

struct trail_wanted {
	const char *kernel;
	const char *user;  /* who asks: of all searches hers are limited */
	bool blocked;	   /* lines of something blocked alone */
	const char *words; /* lines that hold them in any case; may be NULL */
	const char *since; /* what is newer than an answer's "until" alone; NULL: all */
};

/*
 * Looks for the newest lines, which are as they were written but for "prev". `done` gets them once,
 * from a later turn, as {"lines": oldest first, "until": where they end}, to be freed; NULL: no
 * memory, the logs cannot be opened, or the server ends. Returns 0; -EDQUOT: this user has too
 * many; or -ENOMEM: `done` is not called then.
 */
int trail_search(struct trail *trail, const struct trail_wanted *wanted,
		 void (*done)(void *arg, json_t *answer), void *arg);
/* Nobody waits for it any more: `done` is called in the next turns, with what there is. */
void trail_stop(struct trail *trail, const void *arg);

#endif
