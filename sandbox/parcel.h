/*
 * parcel: how a message passes between libzmq and the wall without being copied, and what it costs
 * meanwhile.
 *
 * From the kernel: a whole ZeroMQ message becomes a parcel, whose parts are lent to the wall's
 * writer and closed when they were written. From the proxy: the parts of a wall frame are lent to
 * libzmq. Nothing is parsed. Bounded by WALL_PARTS_MAX and WALL_TOTAL_MAX; never blocks, never
 * logs.
 */
#ifndef SANDBOX_PARCEL_H
#define SANDBOX_PARCEL_H

#include <stddef.h>

#include "sandbox/base.h"
#include "sandbox/wall.h"

struct parcel;

/*
 * Takes one message off a ZeroMQ socket. Returns 1 and a parcel (the caller frees or pushes it), 0
 * when there is none, or a negative errno for a message that is over a cap or does not fit into
 * memory: it is gone then. *ret_size: its bytes.
 */
int parcel_take(void *socket, struct parcel **ret_parcel, size_t *ret_size);
void parcel_free(struct parcel *parcel);

/*
 * Gives it to the writer; takes it, also when it fails. Adds what it costs in memory to *held until
 * it is written. Returns 0 or a negative errno.
 */
int parcel_push(struct parcel *parcel, struct wall_writer *writer, enum wall_channel channel,
		bool urgent, size_t *held);

/*
 * Sends a wall frame's parts as one ZeroMQ message; borrows the frame. Returns 0, -EAGAIN when the
 * socket has no connection to queue it for, or -ENOMEM (then part of it may have been sent: the
 * socket is of no more use).
 */
int parcel_send(struct wall_frame *frame, void *socket);
/* Bytes that libzmq holds of such messages, in all. */
size_t parcel_sending(void);

#endif
