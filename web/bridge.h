/*
 * bridge: the sockets of one kernel, and who listens to it.
 *
 * One SUB for iopub, whose messages go to every listener, and for each listener a DEALER for shell,
 * stdin and control of its own (made at its first message there), so that a reply finds its way
 * back by the socket it arrives on and nothing is parsed for it. Signatures are checked and made
 * here: outside of this room no message has one, and no key is known.
 *
 *   kernel --iopub--> bridge --message()--> listener, listener, ...
 *   kernel <--shell/control/stdin--> bridge <--bridge_send/message()--> that listener
 *
 * Both a WebSocket and a kernel's end of the link are listeners. Bounded: what a listener does not
 * take is kept by the listener, which says bridge_pause when it has too much; then nothing of the
 * kernel is read for anybody until it says bridge_resume, and the kernel's proxy pauses the kernel.
 * A listener that stays stopped has to leave or to drop; BRIDGE_STALL_MS is what the proxy grants.
 */
#ifndef WEB_BRIDGE_H
#define WEB_BRIDGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "proxy/connection.h"
#include "sandbox/base.h"
#include "sandbox/wall.h"
#include "web/packet.h"

#define BRIDGE_STALL_MS 20000 /* less than STALL_MS of proxy/limits.h, after which it is cut */

struct bridge;
struct loop;
struct peer; /* a listener's lines to the kernel */

/*
 * Embedded in what listens (container_of by its first member or by `arg`). The functions may call
 * bridge_send, bridge_pause, bridge_leave of this listener and nothing else of this bridge.
 */
struct listener {
	/* A message of the kernel, or one of our own in its name. Borrowed: packet_ref to keep it.
	 */
	void (*message)(struct listener *listener, struct packet *packet);
	/* "starting", "idle", "busy", "restarting", "dead"; iopub said the same just before. */
	void (*state)(struct listener *listener, const char *state);
	/* A socket that was full takes messages again (after bridge_send gave -EAGAIN). */
	void (*writable)(struct listener *listener);
	/* The kernel was shut down or given up: the listener is out, there will be no further call.
	 */
	void (*gone)(struct listener *listener, const char *reason);
	void *arg; /* the listener's own */

	/* The bridge's, zero before bridge_join. */
	bool away;
	struct bridge *bridge;
	struct listener *next, **link;
	struct peer *peer;
	bool paused;
};

/* Adds a listener (borrowed until bridge_leave or gone). Returns 0, or -EMFILE past
 * BRIDGE_LISTENERS_MAX. */
#define BRIDGE_LISTENERS_MAX 256
int bridge_join(struct bridge *bridge, struct listener *listener);
/* Takes it out; accepts one that is out. Replies to what it asked are gone. */
void bridge_leave(struct listener *listener);

/* Whether nobody is there at the moment: then it is not counted as a connection, and costs no
 * sockets when all that it asked is answered. */
void bridge_set_away(struct listener *listener, bool away);

/*
 * Sends a client's message: `parts` are header, parent_header, metadata, content and the buffers,
 * at least PACKET_PARTS, raw JSON and bytes; copied. Channel: shell, control or stdin. Returns 0;
 * -EAGAIN when the kernel takes no more now (try again after writable()); -EMSGSIZE; -EPROTO for
 * too few parts or another channel; -ENOTCONN when the kernel is dead; -ENOMEM.
 */
int bridge_send(struct listener *listener, enum wall_channel channel, const struct iovec *parts,
		size_t count);

/* Flow control, see above. Idempotent. */
void bridge_pause(struct listener *listener);
void bridge_resume(struct listener *listener);

/* What went through, since the kernel was started first. */
struct bridge_figures {
	uint64_t in[WALL_CHANNELS], in_bytes[WALL_CHANNELS];   /* from clients */
	uint64_t out[WALL_CHANNELS], out_bytes[WALL_CHANNELS]; /* from the kernel */
	uint64_t refused;				       /* a wrong signature, or too large */
};
const struct bridge_figures *bridge_figures(const struct bridge *bridge);

/* ---- for kernels.c ---- */

/* What the owner of a bridge wants to know. */
struct bridge_owner {
	void (*state)(void *arg,
		      const char *state); /* iopub status; "idle" first when it is ready */
	void (*activity)(void *arg);	  /* something other than polling happened */
	void *arg;
};
/* Returns 0 or -ENOMEM. */
int bridge_new(struct loop *loop, const struct bridge_owner *owner, struct bridge **ret_bridge,
	       struct err *err);
/* Connects to a (new) kernel, by ipc; what listeners asked of an old one is forgotten. Copies what
 * it needs. */
int bridge_connect(struct bridge *bridge, const struct connection *connection, struct err *err);
void bridge_disconnect(struct bridge *bridge);
/* The kernel's process has ended: listeners get what it had still said, also those that paused. It
 * is held from then on. */
void bridge_drain(struct bridge *bridge);
/* The kernel is about to end, or has ended and comes back: from now on messages of clients wait for
 * the next bridge_connect. */
void bridge_hold(struct bridge *bridge);
/* A request of our own: "kernel_info_request" on shell, "shutdown_request" and "interrupt_request"
 * on control. */
int bridge_ask(struct bridge *bridge, enum wall_channel channel, const char *msg_type,
	       const char *content);
/* Tells every listener (and iopub) a state of the process: "restarting", "dead". */
void bridge_tell_state(struct bridge *bridge, const char *state);
/* A line on stderr in every notebook, "cellwall: ...". */
void bridge_tell_notice(struct bridge *bridge, const char *text);
/* Those who are not away. */
size_t bridge_listeners(const struct bridge *bridge);
/* Every listener gets gone(reason). Accepts NULL; returns NULL. */
struct bridge *bridge_free(struct bridge *bridge, const char *reason);

#endif
