/*
 * socket: a WebSocket client of one kernel, and the session it comes back to.
 *
 * In: what the HTTP side upgraded after it checked who asks (server.c calls these from its
 * libwebsockets callback). Out: the kernel's messages in the protocol that was chosen (frames.h).
 *
 * A session is kernel and session_id together. It outlives its connection: what the kernel says
 * meanwhile waits within SESSION_REPLAY_BYTES and is sent when a client comes back with the same
 * session_id; a second connection replaces the first. Without a session_id it ends with its
 * connection. A client that takes nothing for BRIDGE_STALL_MS while it holds up the kernel is cut
 * off. Never parses what the v1 protocol carries.
 */
#ifndef WEB_SOCKET_H
#define WEB_SOCKET_H

#include <stdbool.h>
#include <stddef.h>

#include "sandbox/base.h"

struct kernel;
struct loop;
struct lws;
struct socket;

/* The one subprotocol; a client that offers none speaks legacy JSON. */
#define SOCKET_V1	   "v1.kernel.websocket.jupyter.org"
#define SOCKET_SESSION_MAX 128 /* characters of a session_id: A-Z a-z 0-9 _ . - */

struct socket_open {
	struct loop *loop;
	struct kernel *kernel;
	const char *session_id; /* NULL or "": none */
	const char *user_agent; /* may be NULL; Tornado's client takes 10 MiB in one message */
	bool v1;
};
/* LWS_CALLBACK_ESTABLISHED. Returns 0 or a negative errno: then close the connection. */
int socket_open(struct lws *wsi, const struct socket_open *open, struct socket **ret_socket,
		struct err *err);
/*
 * LWS_CALLBACK_RECEIVE, with its fragments: `first` and `last` of a message (lws_is_first_fragment,
 * lws_is_final_fragment and no lws_remaining_packet_payload). Non-zero: close the connection.
 */
int socket_receive(struct socket *socket, const void *data, size_t size, bool first, bool last,
		   bool binary);
int socket_writable(struct socket *socket); /* LWS_CALLBACK_SERVER_WRITEABLE; non-zero: close */
void socket_closed(struct socket *socket);  /* LWS_CALLBACK_CLOSED; accepts NULL */

/* Connections open now, of all kernels. */
size_t socket_count(void);

#endif
