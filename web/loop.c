/*
 * Theory of operation
 *
 * Watches live in epoll with their own address; one that is unwatched in the middle of a round is
 * only marked, and freed when the round is over, since epoll_wait may have returned it already.
 * Timers are a binary heap by due time; each knows its place in it.
 */
#include "web/loop.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_MAX 256

struct watch {
	struct loop *loop;
	int fd;
	bool gone;
	void (*ready)(void *arg, unsigned events);
	void *arg;
	struct watch *next_gone;
};

struct timer {
	struct loop *loop;
	int64_t due;
	size_t place; /* in the heap */
	void (*call)(void *arg);
	void *arg;
};

struct loop {
	int epoll;
	bool stopped;
	bool inside; /* a round is going on */
	struct watch *gone;
	struct timer **heap;
	size_t timers;
	size_t room;
};

int loop_new(struct loop **ret_loop, struct err *err)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return err_set(err, -ENOMEM, "loop: no memory");
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll < 0) {
		free(loop);
		return err_errno(err, "loop: epoll_create1");
	}
	*ret_loop = loop;
	return 0;
}

static void free_gone(struct loop *loop)
{
	while (loop->gone) {
		struct watch *watch = loop->gone;

		loop->gone = watch->next_gone;
		free(watch);
	}
}

struct loop *loop_free(struct loop *loop)
{
	if (!loop)
		return NULL;
	free_gone(loop);
	for (size_t i = 0; i < loop->timers; i++)
		free(loop->heap[i]);
	free(loop->heap);
	close_fd(&loop->epoll);
	free(loop);
	return NULL;
}

/* ---- descriptors ---- */

static uint32_t to_epoll(unsigned events)
{
	return (events & LOOP_READ ? (uint32_t)EPOLLIN : 0u) |
	       (events & LOOP_WRITE ? (uint32_t)EPOLLOUT : 0u);
}

static unsigned from_epoll(uint32_t events)
{
	return (events & EPOLLIN ? LOOP_READ : 0u) | (events & EPOLLOUT ? LOOP_WRITE : 0u) |
	       (events & (EPOLLHUP | EPOLLERR) ? LOOP_HANGUP : 0u);
}

int loop_watch(struct loop *loop, int fd, unsigned events,
	       void (*ready)(void *arg, unsigned events), void *arg, struct watch **ret_watch,
	       struct err *err)
{
	struct watch *watch = calloc(1, sizeof(*watch));
	struct epoll_event event = {.events = to_epoll(events)};

	if (!watch)
		return err_set(err, -ENOMEM, "loop: no memory");
	*watch = (struct watch){.loop = loop, .fd = fd, .ready = ready, .arg = arg};
	event.data.ptr = watch;
	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
		int code = err_errno(err, "loop: epoll_ctl");

		free(watch);
		return code;
	}
	*ret_watch = watch;
	return 0;
}

int loop_change(struct watch *watch, unsigned events)
{
	struct epoll_event event = {.events = to_epoll(events), .data.ptr = watch};

	return epoll_ctl(watch->loop->epoll, EPOLL_CTL_MOD, watch->fd, &event) < 0 ? -errno : 0;
}

struct watch *loop_unwatch(struct watch *watch)
{
	struct loop *loop;

	if (!watch)
		return NULL;
	loop = watch->loop;
	(void)epoll_ctl(loop->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
	watch->gone = true;
	watch->next_gone = loop->gone;
	loop->gone = watch;
	if (!loop->inside)
		free_gone(loop);
	return NULL;
}

/* ---- timers ---- */

static void put(struct loop *loop, size_t place, struct timer *timer)
{
	loop->heap[place] = timer;
	timer->place = place;
}

/* Moves the timer at `place` to where its due time belongs. */
static void settle(struct loop *loop, size_t place)
{
	struct timer *timer = loop->heap[place];

	while (place && loop->heap[(place - 1) / 2]->due > timer->due) {
		put(loop, place, loop->heap[(place - 1) / 2]);
		place = (place - 1) / 2;
	}
	for (;;) {
		size_t child = 2 * place + 1;

		if (child + 1 < loop->timers && loop->heap[child + 1]->due < loop->heap[child]->due)
			child++;
		if (child >= loop->timers || loop->heap[child]->due >= timer->due)
			break;
		put(loop, place, loop->heap[child]);
		place = child;
	}
	put(loop, place, timer);
}

int loop_after(struct loop *loop, int64_t ms, void (*call)(void *arg), void *arg,
	       struct timer **ret_timer, struct err *err)
{
	struct timer *timer;

	if (loop->timers == loop->room) {
		size_t room = loop->room ? loop->room * 2 : 64;
		struct timer **heap = reallocarray(loop->heap, room, sizeof(struct timer *));

		if (!heap)
			return err_set(err, -ENOMEM, "loop: no memory");
		loop->heap = heap;
		loop->room = room;
	}
	timer = calloc(1, sizeof(*timer));
	if (!timer)
		return err_set(err, -ENOMEM, "loop: no memory");
	*timer = (struct timer){.loop = loop, .due = now_ms() + ms, .call = call, .arg = arg};
	put(loop, loop->timers++, timer);
	settle(loop, timer->place);
	*ret_timer = timer;
	return 0;
}

void loop_again(struct timer *timer, int64_t ms)
{
	timer->due = now_ms() + ms;
	settle(timer->loop, timer->place);
}

struct timer *loop_cancel(struct timer *timer)
{
	struct loop *loop;
	size_t place;

	if (!timer)
		return NULL;
	loop = timer->loop;
	place = timer->place;
	loop->timers--;
	if (place != loop->timers) {
		put(loop, place, loop->heap[loop->timers]);
		settle(loop, place);
	}
	free(timer);
	return NULL;
}

/* Calls what is due at `now`; what is set meanwhile waits for the next round. */
static void call_due(struct loop *loop, int64_t now)
{
	for (size_t most = loop->timers; most && loop->timers; most--) {
		struct timer *timer = loop->heap[0];
		void (*call)(void *arg) = timer->call;
		void *arg = timer->arg;

		if (timer->due > now)
			return;
		(void)loop_cancel(timer);
		call(arg);
	}
}

/* ---- rounds ---- */

static int wait_time(const struct loop *loop, int64_t ms)
{
	if (loop->timers) {
		int64_t due = loop->heap[0]->due - now_ms();

		if (due < 0)
			due = 0;
		if (ms < 0 || due < ms)
			ms = due;
	}
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

int loop_once(struct loop *loop, int64_t ms, struct err *err)
{
	struct epoll_event events[EVENTS_MAX];
	int count = epoll_wait(loop->epoll, events, EVENTS_MAX, wait_time(loop, ms));

	if (count < 0 && errno != EINTR)
		return err_errno(err, "loop: epoll_wait");
	loop->inside = true;
	for (int i = 0; i < count; i++) {
		struct watch *watch = events[i].data.ptr;

		if (!watch->gone)
			watch->ready(watch->arg, from_epoll(events[i].events));
	}
	call_due(loop, now_ms());
	loop->inside = false;
	free_gone(loop);
	return 0;
}

int loop_run(struct loop *loop, struct err *err)
{
	int code = 0;

	loop->stopped = false;
	while (!loop->stopped && code >= 0)
		code = loop_once(loop, -1, err);
	return code;
}

void loop_stop(struct loop *loop)
{
	loop->stopped = true;
}
