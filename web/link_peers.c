#include "web/link_peers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <zmq.h>

#define MONITOR "inproc://cellwall-link"

struct peer {
	int fd;
	int64_t until; /* 0: it has a session */
};

struct link_peers {
	void *monitor;
	void (*lost)(void *arg, int fd);
	void *arg;
	in_port_t port; /* the router's, in network order */
	size_t count, strangers, most;
	struct peer peers[]; /* the oldest first */
};

int link_peers_new(void *context, void *router, size_t most, void (*lost)(void *arg, int fd),
		   void *arg, struct link_peers **ret_peers, struct err *err)
{
	struct link_peers *peers;
	const int none = 0; /* a monitor that is full holds libzmq's own thread */

	most += LINK_STRANGERS + 1;
	peers = calloc(1, sizeof(*peers) + most * sizeof(struct peer));
	if (!peers)
		return err_set(err, -ENOMEM, "out of memory");
	peers->most = most;
	peers->lost = lost;
	peers->arg = arg;
	peers->monitor = zmq_socket(context, ZMQ_PAIR);
	if (!peers->monitor ||
	    zmq_setsockopt(peers->monitor, ZMQ_RCVHWM, &none, sizeof(none)) < 0 ||
	    zmq_socket_monitor(router, MONITOR, ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED) < 0 ||
	    zmq_connect(peers->monitor, MONITOR) < 0) {
		err_set(err, -errno, "link: no monitor: %s", zmq_strerror(errno));
		link_peers_free(peers, router);
		return err->code;
	}
	*ret_peers = peers;
	return 0;
}

int link_peers_bound(struct link_peers *peers, void *router, struct err *err)
{
	char endpoint[128];
	size_t size = sizeof(endpoint);
	const char *colon;
	uint64_t port;

	if (zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, endpoint, &size) < 0)
		return err_set(err, -errno, "link: %s", zmq_strerror(errno));
	colon = strrchr(endpoint, ':');
	if (!colon || parse_u64(colon + 1, UINT16_MAX, &port) < 0)
		return err_set(err, -EINVAL, "link: %s has no port", endpoint);
	peers->port = htons((uint16_t)port);
	return 0;
}

struct link_peers *link_peers_free(struct link_peers *peers, void *router)
{
	if (!peers)
		return NULL;
	zmq_socket_monitor(router, NULL, 0);
	if (peers->monitor)
		zmq_close(peers->monitor);
	free(peers);
	return NULL;
}

void *link_peers_monitor(struct link_peers *peers)
{
	return peers->monitor;
}

static struct peer *find_peer(struct link_peers *peers, int fd)
{
	for (size_t i = 0; i < peers->count; i++)
		if (peers->peers[i].fd == fd)
			return &peers->peers[i];
	return NULL;
}

static void remove_peer(struct link_peers *peers, struct peer *peer)
{
	const size_t index = (size_t)(peer - peers->peers);

	if (peer->until)
		peers->strangers--;
	peers->count--;
	memmove(peer, peer + 1, (peers->count - index) * sizeof(*peer));
}

static in_port_t port_of(int fd)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);

	if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
		return 0;
	if (address.ss_family == AF_INET)
		return ((const struct sockaddr_in *)&address)->sin_port;
	if (address.ss_family == AF_INET6)
		return ((const struct sockaddr_in6 *)&address)->sin6_port;
	return 0;
}

static void end_peer(struct link_peers *peers, struct peer *peer)
{
	const int fd = peer->fd;

	remove_peer(peers, peer);
	if (port_of(fd) == peers->port)
		(void)shutdown(fd, SHUT_RDWR);
	peers->lost(peers->arg, fd);
}

/* The oldest one without a session; or at all, when there is none. */
static struct peer *oldest(struct link_peers *peers)
{
	for (size_t i = 0; i < peers->count; i++)
		if (peers->peers[i].until)
			return &peers->peers[i];
	return peers->peers;
}

static void add_peer(struct link_peers *peers, int fd, int64_t now)
{
	struct peer *before = find_peer(peers, fd);

	if (before) { /* its end was not told */
		remove_peer(peers, before);
		peers->lost(peers->arg, fd);
	}
	peers->peers[peers->count++] = (struct peer){fd, now + LINK_STRANGER_MS};
	peers->strangers++;
	if (peers->strangers > LINK_STRANGERS || peers->count == peers->most)
		end_peer(peers, oldest(peers));
}

void link_peers_serve(struct link_peers *peers, int64_t now)
{
	unsigned char event[6];
	char address[256];

	/* Frame 1: u16 event, u32 value; frame 2: the address. Both in host order. */
	while (zmq_recv(peers->monitor, event, sizeof(event), ZMQ_DONTWAIT) == sizeof(event)) {
		struct peer *peer;
		uint16_t kind;
		int32_t fd;

		memcpy(&kind, event, sizeof(kind));
		memcpy(&fd, event + sizeof(kind), sizeof(fd));
		(void)zmq_recv(peers->monitor, address, sizeof(address), ZMQ_DONTWAIT);
		if (kind == ZMQ_EVENT_ACCEPTED) {
			add_peer(peers, fd, now);
		} else if ((peer = find_peer(peers, fd))) {
			remove_peer(peers, peer);
			peers->lost(peers->arg, fd);
		}
	}
	for (size_t i = peers->count; i-- > 0;)
		if (peers->peers[i].until && now >= peers->peers[i].until)
			end_peer(peers, &peers->peers[i]);
}

bool link_peers_has(struct link_peers *peers, int fd)
{
	return find_peer(peers, fd) != NULL;
}

void link_peers_keep(struct link_peers *peers, int fd)
{
	struct peer *peer = find_peer(peers, fd);

	if (peer && peer->until) {
		peer->until = 0;
		peers->strangers--;
	}
}

void link_peers_drop(struct link_peers *peers, int fd, int64_t until)
{
	struct peer *peer = find_peer(peers, fd);

	if (!peer)
		return;
	if (!peer->until)
		peers->strangers++;
	if (!peer->until || until < peer->until) /* what it still sends gives it no time */
		peer->until = until;
}
