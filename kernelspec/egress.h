/*
 * egress: the one way out of a build. A small HTTP proxy (RFC 9110 section 9.3.6 CONNECT, and plain
 * GET and HEAD for an index without TLS) that leads to the hosts and ports of the package index and
 * nowhere else, from a listener that lies in the build's network namespace.
 *
 * A tunnel must begin with TLS that names the host it was asked for (hello.h).
 *
 * It resolves names itself, refuses addresses of the local network unless an index was there when
 * the build began, counts bytes and seconds, and says of each connection where it went. Every byte
 * of a request is hostile. One process, a child per connection; never logs.
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

struct egress_host {
	char name[EGRESS_NAME + 1]; /* lower case; an IPv6 address without brackets */
	uint16_t port;
	/* Addresses of the local network that it had at the beginning. */
	struct in6_addr pins[EGRESS_PINS]; /* IPv4 mapped */
	size_t pin_count;
};

struct egress {
	struct egress_host hosts[EGRESS_HOSTS];
	size_t count;
	/* A proxy that the host itself must use; port 0: none. */
	struct egress_host upstream;
	char authorization[1024]; /* what its Proxy-Authorization says, or "" */
	uint64_t bytes;		  /* of all connections of a build, in both directions */
	/* Milliseconds: for a request, and for the first words of a tunnel; for one address;
	 * without a byte; and for a connection as a whole. 0: the usual ones. */
	struct egress_times {
		int64_t head, connect, idle, connection;
	} times;
};

/* Allows HOST:PORT of a URL (http or https, credentials passed over). Returns 0, -EINVAL: no such
 * URL, -E2BIG. */
int egress_allow(struct egress *egress, const char *url, struct err *err);
/* Sets the proxy of the host from its URL, with credentials. Returns 0 or -EINVAL. */
int egress_through(struct egress *egress, const char *url, struct err *err);
/* Notes the local addresses of the hosts. May block on the resolver. */
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
 * `ret_forward` is NULL; else what is to be sent instead of it (caller frees). Returns 0 or
 * -EPROTO.
 */
int egress_parse(const char *text, size_t size, bool upstream, struct egress_host *ret_host,
		 char **ret_forward);

#endif
