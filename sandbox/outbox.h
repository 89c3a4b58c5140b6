/*
 * outbox: what the supervisor still has to say to the proxy.
 *
 * The supervisor waits for nobody: a kernel can make more to report than a busy proxy reads, and
 * whoever waits for the proxy then cannot be told to end. A packet that does not fit into the
 * socket is kept here when it must not be lost, and is counted and forgotten when it may be; the
 * count is told later. Never blocks but in outbox_drain; never logs.
 */
#ifndef SANDBOX_OUTBOX_H
#define SANDBOX_OUTBOX_H

#include "sandbox/base.h"

#define OUTBOX_MAX 128

struct outbox {
	struct {
		void *data;
		size_t size;
	} waiting[OUTBOX_MAX]; /* a ring */
	size_t first, count;
	uint64_t dropped; /* not told yet */
};

/*
 * Sends one packet of status.h, or keeps it behind those that wait; with `droppable` it goes at
 * once or not at all. Whether the proxy is still there is for others to find out.
 */
void outbox_put(struct outbox *outbox, int fd, bool droppable, const char *word,
		const char *const *fields, size_t count);
/* True when the socket should be watched for room. */
bool outbox_waits(const struct outbox *outbox);
/* Sends what goes. */
void outbox_flush(struct outbox *outbox, int fd);
/* The same until all is gone, or the peer is, or `deadline` (now_ms): for the last word. */
void outbox_drain(struct outbox *outbox, int fd, int64_t deadline);

#endif
