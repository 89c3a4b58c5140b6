/*
 * link: the host's end of the link: kernels for clients on other hosts, over one port.
 *
 * One ROUTER socket with CURVE; who may connect is asked of a directory of public keys at each
 * handshake (ZAP, ZeroMQ RFC 27), which is read again when it changes. A client is the owner of a
 * key and is known by the name that the key was allowed under; it has the quotas of the user of
 * that name (users.h). The protocol is link_frame.h's. Each session is one kernel (kernels.h), to
 * which it listens (bridge.h): a client reaches its own sessions alone.
 *
 * Bounded: of a session's output LINK_AHEAD bytes wait for a client that is there, LINK_KEPT for
 * one that is away; past that the kernel is paused, for BRIDGE_STALL_MS; then output is dropped,
 * counted and told, unless the client takes what waits, however slowly: for it the kernel is held
 * up again and again. Kernels of a client that stays away are stopped after `link_keep` seconds,
 * those of a revoked key at once. Logs.
 */
#ifndef WEB_LINK_H
#define WEB_LINK_H

#include "sandbox/base.h"

#define LINK_AHEAD	  (8u * 1024 * 1024)
#define LINK_KEPT	  (64u * 1024 * 1024)
#define LINK_SESSIONS_MAX 1024
/* Of one client's message; one session can have so much under way. */
#define LINK_MESSAGE_MAX (128u * 1024 * 1024)
#define LINK_KEEP	 3600 /* seconds, when nothing else is said */

struct link;
struct server;

/*
 * Listens on ADDRESS:PORT. settings.keys names the directory of `cellwall key` (NULL: the user's):
 * host.key_secret is this host's key, clients/ holds the allowed ones. Borrows `server`. Returns 0
 * or a negative errno.
 */
int link_new(struct server *server, const char *address, struct link **ret_link, struct err *err);
/* What its sessions hold. */
struct link_depths {
	size_t sessions, away;
	size_t to_clients, to_kernels; /* bytes */
};
void link_look(const struct link *link, struct link_depths *ret_depths); /* accepts NULL */
/* Says goodbye, when kernels were stopped before. Accepts NULL; returns NULL. */
struct link *link_free(struct link *link);

#endif
