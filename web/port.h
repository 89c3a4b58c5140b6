/*
 * port: one connection of this process to a kernel's socket: a lane (sandbox/lane.h) in the loop.
 *
 * No thread of libzmq's stands between the kernel and the loop: a message is taken in the round in
 * which its bytes came, and what is not taken waits in the kernel's socket, so that it is bounded
 * in bytes and the kernel feels it. Connects until somebody listens at the path, and again when the
 * other end went away. Never blocks, never logs.
 */
#ifndef WEB_PORT_H
#define WEB_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "sandbox/base.h"
#include "sandbox/wall.h"

#define PORT_IDENTITY 16 /* bytes at the most */

struct loop;
struct port;

/* The functions may close their port. */
struct port_user {
	/* One message, its ZeroMQ frames: borrowed, but for `block` (unless NULL), from malloc,
	 * that they lie in: it now belongs to the user. */
	void (*message)(void *arg, const struct iovec *frames, size_t count, void *block);
	/* One was past what a message may have, and is gone. */
	void (*skipped)(void *arg);
	/* Whether nothing is to be read now; port_look when that ends. */
	bool (*waits)(void *arg);
	/* After port_send gave -EAGAIN: it takes messages again. */
	void (*writable)(void *arg);
};

/*
 * A DEALER with this identity, or for iopub a SUB of everything, of the kernel's socket at `path`.
 * Copies path and identity, borrows `user` and `arg`. Returns 0, -ENAMETOOLONG or -ENOMEM.
 */
int port_open(struct loop *loop, const char *path, enum wall_channel channel, const char *identity,
	      const struct port_user *user, void *arg, struct port **ret_port);
/* What is to be sent is forgotten. Accepts NULL; returns NULL. */
struct port *port_close(struct port *port);
/* Queues a copy of the frames, sends what the socket takes. Returns 0, -EAGAIN when enough waits
 * already, or -ENOMEM. */
int port_send(struct port *port, const struct iovec *frames, size_t count);
/* Bytes that wait to be sent. */
size_t port_queued(const struct port *port);
/* Takes at once, whatever `waits` says, all that a kernel which has ended left in the socket,
 * 16 MiB at the most: a child that still has it may write on. Accepts NULL. */
void port_drain(struct port *port);
/* Looks at the socket, and at `waits`, soon. Accepts NULL. */
void port_look(struct port *port);

#endif
