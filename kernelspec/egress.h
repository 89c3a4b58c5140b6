/*
 * egress: the one way out of a build. A small HTTP proxy (RFC 9110 section 9.3.6 CONNECT, and plain
 * GET and HEAD for an index without TLS) that leads to the hosts and ports of the package index and
 * nowhere else, from a listener that lies in the build's network namespace.
 *
 * A tunnel must begin with TLS that names the host it was asked for (hello.h).
 *
 * It resolves names itself, once for a connection, and connects to one of the addresses that it
 * judged: those of the local network are refused unless an index was there when the build began.
 * Where this host's own proxy leads to a host, that one resolves the name and decides; of it,
 * exactly that host and port is asked for, and its own address is the configuration's.
 *
 * It counts bytes and seconds, and says of each connection where it went. Every byte of a request
 * is hostile. One process, a child per connection; never logs.
 */
#ifndef KERNELSPEC_EGRESS_H
#define KERNELSPEC_EGRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "sandbox/base.h"

#define EGRESS_HOSTS 32
#define EGRESS_NAME  253 /* bytes of a host's name, RFC 1035 */
#define EGRESS_PINS  8
#define EGRESS_WAYS  4 /* different proxies of this host */

struct egress_host {
	char name[EGRESS_NAME + 1]; /* lower case; an IPv6 address without brackets */
	uint16_t port;
	/* Addresses of the local network that it had at the beginning. */
	struct in6_addr pins[EGRESS_PINS]; /* IPv4 mapped */
	size_t pin_count;
	size_t way; /* of `ways`, plus one: which leads there; 0: it is reached directly */
};

/* A proxy that the host itself must use. */
struct egress_way {
	struct egress_host host;
	char authorization[1024]; /* what its Proxy-Authorization says, or "" */
};

struct egress {
	struct egress_host hosts[EGRESS_HOSTS];
	size_t count;
	struct egress_way ways[EGRESS_WAYS];
	size_t way_count;
	uint64_t bytes; /* of all connections of a build, in both directions */
	/* Milliseconds: for a request, and for the first words of a tunnel; for one address;
	 * without a byte; and for a connection as a whole. 0: the usual ones. */
	struct egress_times {
		int64_t head, connect, idle, connection;
	} times;
};

/* Allows HOST:PORT of a URL (http or https, credentials passed over); `through` is the URL of this
 * host's proxy that leads there, with credentials (http), or NULL. Returns 0, -EINVAL: no such URL,
 * -E2BIG. */
int egress_allow(struct egress *egress, const char *url, const char *through, struct err *err);
/* Notes the local addresses of the hosts that are reached directly. May block on the resolver. */
void egress_pin(struct egress *egress);
/* The rule for a host and port, lent, or NULL. */
const struct egress_host *egress_find(const struct egress *egress,
				      const struct egress_host *wanted);
/* Its addresses (freeaddrinfo(3)), or NULL. May block on the resolver. */
struct addrinfo;
struct addrinfo *egress_resolve(const struct egress_host *host);
/* May a connection for this rule go to that address? */
bool egress_may_reach(const struct egress_host *host, const struct sockaddr *to);
/* Is it an address of this machine or a local network (RFC 6890)? IPv4 mapped. */
bool egress_is_local(const struct in6_addr *address);

/*
 * Serves `listener` (taken) in a child process until `lifeline` (taken: the read end of a pipe)
 * hangs up. Each connection writes one line to `log` (lent), at its end, of at most PIPE_BUF bytes:
 * "VERDICT HOST PORT IN OUT": "ok", "refused", "local", "failed" or "limit"; HOST is escaped.
 * Returns the child's pid or a negative errno.
 */
pid_t egress_start(const struct egress *egress, int listener, int lifeline, int log,
		   struct err *err);

/*
 * Reads the head of a request: `text` of `size` bytes, up to and with the empty line. For CONNECT,
 * `ret_forward` is NULL; else what is to be sent instead of it (caller frees), to a proxy that
 * leads on (`upstream`) or the host itself. Returns 0 or -EPROTO.
 */
int egress_parse(const char *text, size_t size, bool upstream, struct egress_host *ret_host,
		 char **ret_forward);

#endif
