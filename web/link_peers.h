/*
 * link_peers: the connections of the link's port. libzmq makes them by itself and neither counts
 * nor ends them; what its monitor tells (zmq_socket_monitor(3)) is enough to do both.
 *
 * A connection is known by its descriptor, which every frame names (ZMQ_SRCFD, zmq_msg_get(3)). It
 * is ended by shutdown(2), from which libzmq learns that it is over; only when the descriptor is a
 * connection of this port, because libzmq may have closed it meanwhile.
 *
 * Bounded: LINK_STRANGERS connections have no session, each for LINK_STRANGER_MS; when there are
 * more the oldest makes room. That is for all keys and addresses together, since before the
 * handshake neither is known: who floods the port delays newcomers and nobody who has a session.
 * Times are now_ms()'s. Never logs.
 */
#ifndef WEB_LINK_PEERS_H
#define WEB_LINK_PEERS_H

#include <stdbool.h>

#include "sandbox/base.h"

#define LINK_STRANGERS	 256
#define LINK_STRANGER_MS 8000

struct link_peers;

/*
 * Watches `router` of `context`, before it is bound. `lost(arg, fd)` is called when a connection
 * has ended. `most`: connections that have a session. Returns 0 or a negative errno.
 */
int link_peers_new(void *context, void *router, size_t most, void (*lost)(void *arg, int fd),
		   void *arg, struct link_peers **ret_peers, struct err *err);
/* Once it is bound to a TCP port, before link_peers_serve. Returns 0 or a negative errno. */
int link_peers_bound(struct link_peers *peers, void *router, struct err *err);
/* Before the router is closed. Accepts NULL; returns NULL. */
struct link_peers *link_peers_free(struct link_peers *peers, void *router);
/* The socket to watch. */
void *link_peers_monitor(struct link_peers *peers);

/* Takes what the monitor has, ends what is late. A connection's end is told before a frame of a
 * later one with its descriptor, when this is called first. */
void link_peers_serve(struct link_peers *peers, int64_t now);
/* False: it has ended, or is being ended to make room. */
bool link_peers_has(struct link_peers *peers, int fd);
/* It has a session, for as long as it likes. */
void link_peers_keep(struct link_peers *peers, int fd);
/* It has none any more: it is ended at `until`. */
void link_peers_drop(struct link_peers *peers, int fd, int64_t until);

#endif
