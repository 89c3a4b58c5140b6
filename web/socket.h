/*
 * socket: a WebSocket client of one kernel, and the session it comes back to.
 *
 * In: a request that was allowed, for a kernel that is its user's. Out: the kernel's messages in
 * the protocol that was chosen (frames.h).
 *
 * A session is kernel and session_id together. It outlives its connection: what the kernel says
 * meanwhile is sent when a client comes back with the same session_id, after what was sent and
 * whose arrival no answered ping shows: up to 16 MiB, and past that a line says how many messages
 * are left out; the end may come twice. A second connection replaces the first. Without a
 * session_id it ends with its connection. A client that takes nothing for BRIDGE_STALL_MS while it
 * holds up the kernel is cut off. A message that Tornado's client would not take (10 MiB) is
 * replaced by a line that says so. Never parses what the v1 protocol carries, and never logs.
 */
#ifndef WEB_SOCKET_H
#define WEB_SOCKET_H

#include <stddef.h>

struct kernel;
struct loop;
struct request;

/* The one subprotocol; a client that offers none speaks legacy JSON. */
#define SOCKET_V1	   "v1.kernel.websocket.jupyter.org"
#define SOCKET_SESSION_MAX 128 /* characters of a session_id: A-Z a-z 0-9 _ . - */
/* Of a client: a cell, or buffers of a comm. */
#define SOCKET_MESSAGE_MAX (64u * 1024 * 1024)

/* Answers GET /api/kernels/ID/channels; takes the request. */
void socket_open(struct loop *loop, struct request *request, struct kernel *kernel);

/* What the sessions of all kernels hold. */
struct socket_depths {
	size_t connections;		     /* open now */
	size_t away;			     /* sessions that wait for their client */
	size_t to_clients, to_clients_bytes; /* messages that were not sent */
	size_t to_kernels, to_kernels_bytes; /* and those that a kernel does not take */
};
void socket_look(struct socket_depths *ret_depths);

#endif
