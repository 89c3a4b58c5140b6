/*
 * refusals: what the kernel was refused, or tried in vain, as it is seen by the supervisor
 * (seccomp_unotify(2)).
 *
 * The kernel's filter (arguments.h) has the system ask a listener about the few calls that are
 * worth telling. The answer follows from their registers alone, by the same program: an errno for a
 * call that is refused, or that it goes on, for one that is allowed and reaches nothing outside.
 * What is read from the caller's memory goes into the report and nowhere else, so there is nothing
 * to be won by changing it in between. Bounded: REFUSALS_TURN calls between other events,
 * REFUSALS_WINDOW_CALLS in REFUSALS_WINDOW_MS (further ones wait), and reports by a rate, the
 * others counted. The listener's end, with ours, answers ENOSYS. Not bounded: a caller's page that
 * a hung file system keeps holds the reader up as it does the caller. May log.
 */
#ifndef SANDBOX_REFUSALS_H
#define SANDBOX_REFUSALS_H

#include <linux/filter.h>

#include "sandbox/attempt.h"
#include "sandbox/base.h"

#define REFUSALS_TURN	      32
#define REFUSALS_WINDOW_MS    100
#define REFUSALS_WINDOW_CALLS 4000
#define REFUSALS_BURST	      100  /* reports at once */
#define REFUSALS_EVERY_MS     1000 /* and then one in */
#define REFUSALS_KNOWN	      64   /* reports that are known for repeated */
#define REFUSALS_THREADS      8	   /* that have said where they are, at the same time */
#define REFUSALS_WHERE_MS     1000 /* and so long it holds */

struct supervisor;

/* How many reports may be made. */
struct refusals_rate {
	int64_t refilled; /* now_ms */
	unsigned left;
};

struct refusals {
	struct sock_fprog program; /* of the filter */
	int64_t window;		   /* when it began, now_ms */
	unsigned calls;		   /* in it */
	int64_t wait_until;	   /* now_ms: nothing is taken before; 0: not set */
	bool begun;
	bool blind; /* the host lets nobody read the callers' memory; it was logged */
	/* What is repeated has a rate of its own, so that it hides nothing new. */
	struct refusals_rate first, repeated;
	uint64_t known[REFUSALS_KNOWN]; /* hashes, a ring */
	size_t known_next;
	uint64_t untold;   /* reports that were not made */
	int64_t untold_at; /* now_ms: then their number is told; 0: not set */
	struct refusals_thread {
		pid_t id;
		int64_t until;
		char who[ATTEMPT_WHO_MAX], where[ATTEMPT_WHERE_MAX];
	} threads[REFUSALS_THREADS];
	size_t oldest;
};

/* Takes `listener` over. The launch fails when the system's notifications are not understood. */
void refusals_begin(struct supervisor *supervisor, int listener);
/* Answers what waits. */
void refusals_take(struct supervisor *supervisor);
/* What is due by time. Returns true while nothing is to be taken. */
bool refusals_wait(struct supervisor *supervisor);

#endif
