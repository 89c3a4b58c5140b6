/*
 * watch: waits for ZeroMQ sockets and plain descriptors together, as zmq_poll(3) does, at the price
 * of poll(2).
 *
 * zmq_poll asks every socket for its state on each call, twice, with a system call or two each. A
 * watch remembers whether its socket may have messages: it is asked then only. That is known when
 * its descriptor (ZMQ_FD) becomes readable, and has to be said by who uses the socket: any call on
 * it may swallow what the descriptor had to tell (zmq_getsockopt(3), ZMQ_FD: edge-triggered).
 * Never logs, allocates nothing.
 */
#ifndef PROXY_WATCH_H
#define PROXY_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <zmq.h>

#define WATCH_ITEMS_MAX 32

struct watch {
	void *socket; /* borrowed; NULL: none */
	int fd;	      /* its ZMQ_FD */
	bool look;    /* it may have messages; set this after every call on the socket */
};

/* Begins to watch a socket. Returns 0 or a negative errno. */
int watch_init(struct watch *watch, void *socket);

/*
 * Waits for `items` as zmq_poll(3): sockets among the `count` watches (for ZMQ_POLLIN alone, others
 * are not looked at) and descriptors. Returns how many have revents, at times 0 before `timeout`
 * (ms, -1: for ever) is over, or a negative errno; -E2BIG for more than WATCH_ITEMS_MAX.
 */
int watch_poll(struct watch *watches, size_t count, zmq_pollitem_t *items, size_t item_count,
	       long timeout);

#endif
