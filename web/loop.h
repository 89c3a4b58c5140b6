/*
 * loop: the one event loop of the server: descriptors and timers, over epoll(7).
 *
 * One thread. Callbacks may watch, unwatch, set and cancel whatever they like, themselves included:
 * what is unwatched or cancelled is never called again. Descriptors are level-triggered. A ZeroMQ
 * socket's ZMQ_FD is readable when ZMQ_EVENTS has to be asked again, and is to be drained after
 * each use (zmq_getsockopt(3)). Never logs.
 */
#ifndef WEB_LOOP_H
#define WEB_LOOP_H

#include <stdbool.h>

#include "sandbox/base.h"

struct loop;
struct watch;
struct timer;

enum { LOOP_READ = 1, LOOP_WRITE = 2, LOOP_HANGUP = 4 }; /* HANGUP is told without being asked */

int loop_new(struct loop **ret_loop, struct err *err);
/* Whatever is still watched or set is forgotten. Accepts NULL; returns NULL. */
struct loop *loop_free(struct loop *loop);

/* Calls `ready` with what of `events` is so. Borrows fd and arg. Returns 0 or a negative errno. */
int loop_watch(struct loop *loop, int fd, unsigned events,
	       void (*ready)(void *arg, unsigned events), void *arg, struct watch **ret_watch,
	       struct err *err);
/* Other events from now on; 0: only hang-ups. Returns 0 or a negative errno. */
int loop_change(struct watch *watch, unsigned events);
/* Call it before the descriptor is closed. Accepts NULL. Returns NULL. */
struct watch *loop_unwatch(struct watch *watch);

/*
 * Calls `call` once, in `ms` milliseconds (0: after what is ready now); the timer is gone then, so
 * forget it in `call`. Returns 0 or a negative errno.
 */
int loop_after(struct loop *loop, int64_t ms, void (*call)(void *arg), void *arg,
	       struct timer **ret_timer, struct err *err);
/* The same timer, `ms` from now: no allocation, cannot fail. */
void loop_again(struct timer *timer, int64_t ms);
/* Accepts NULL. Returns NULL. */
struct timer *loop_cancel(struct timer *timer);

/* Runs until loop_stop. Returns 0 or a negative errno. */
int loop_run(struct loop *loop, struct err *err);
/* One round: what is ready within `ms` (-1: wait). Returns 0 or a negative errno. */
int loop_once(struct loop *loop, int64_t ms, struct err *err);
void loop_stop(struct loop *loop);

#endif
