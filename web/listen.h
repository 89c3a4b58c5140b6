/*
 * listen: the sockets that clients connect to.
 *
 *   https://ADDRESS:PORT  TLS
 *   http://ADDRESS:PORT   loopback only
 *   unix:PATH             clients are known by their uid (SO_PEERCRED, unix(7)); made 0600, or 0666
 *                         when the token file has users with other uids than ours
 *   curve://ADDRESS:PORT  the link's: checked here, opened by web/link.h
 *
 * ADDRESS is a number ("[::1]"), "localhost", or "*" for all. Not loopback means: TLS, and clients
 * that prove who they are.
 */
#ifndef WEB_LISTEN_H
#define WEB_LISTEN_H

#include <stdbool.h>
#include <sys/socket.h>

#include "sandbox/base.h"

struct conns;
struct listener;
struct server;
struct tls;

enum listen_kind { LISTEN_HTTP, LISTEN_HTTPS, LISTEN_UNIX, LISTEN_CURVE };

struct listen_address {
	enum listen_kind kind;
	bool loopback;
	struct sockaddr_storage address; /* not for LISTEN_UNIX */
	socklen_t size;
	const char *path; /* of LISTEN_UNIX; borrowed */
};

/* Reads one --listen. Pure. Returns 0 or -EINVAL with words. */
int listen_parse(const char *text, struct listen_address *ret_address, struct err *err);
/* An IP address in numbers, as a peer's is written: in inet_ntop(3)'s form, IPv4 in IPv6 as IPv4.
 * False: it is none. */
bool listen_number(const char *text, char out[64]);
/* Opens it. `tls` for LISTEN_HTTPS, borrowed. Returns 0 or a negative errno. */
int listen_open(struct server *server, const struct listen_address *address, struct tls *tls,
		struct listener **ret_listener, struct err *err);
struct listener *listen_close(struct listener *listener); /* accepts NULL; returns NULL */
/* Opens or closes the Unix socket to others as the users are now. Returns 0 or a negative errno. */
int listen_share(const struct listener *listener, struct err *err);
bool listen_is_unix(const struct listener *listener);
bool listen_is_tls(const struct listener *listener);
/* The URL that it has, with the real port. Valid as long as the listener. */
const char *listen_url(const struct listener *listener);

#endif
