#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <zmq.h>

#include "web/link_peers.h"

#define SESSIONS 4
#define MANY	 (LINK_STRANGERS + 20)
#define WAIT_MS	 60000

struct place {
	void *context, *router;
	struct link_peers *peers;
	struct sockaddr_in address;
	unsigned lost;
	int lost_last;
};

static void count_lost(void *arg, int fd)
{
	struct place *place = arg;

	place->lost++;
	place->lost_last = fd;
}

static int make_place(void **state)
{
	struct place *place = calloc(1, sizeof(*place));
	char endpoint[64];
	size_t size = sizeof(endpoint);
	uint64_t port = 0;
	struct err err;

	assert_non_null(place);
	place->context = zmq_ctx_new();
	place->router = zmq_socket(place->context, ZMQ_ROUTER);
	assert_int_equal(link_peers_new(place->context, place->router, SESSIONS, count_lost, place,
					&place->peers, &err),
			 0);
	assert_int_equal(zmq_bind(place->router, "tcp://127.0.0.1:*"), 0);
	assert_int_equal(link_peers_bound(place->peers, place->router, &err), 0);
	assert_int_equal(zmq_getsockopt(place->router, ZMQ_LAST_ENDPOINT, endpoint, &size), 0);
	assert_int_equal(parse_u64(endpoint + sizeof("tcp://127.0.0.1:") - 1, UINT16_MAX, &port),
			 0);
	place->address = (struct sockaddr_in){.sin_family = AF_INET,
					      .sin_addr = {htonl(INADDR_LOOPBACK)},
					      .sin_port = htons((uint16_t)port)};
	*state = place;
	return 0;
}

static int remove_place(void **state)
{
	struct place *place = *state;
	const int none = 0;

	link_peers_free(place->peers, place->router);
	zmq_setsockopt(place->router, ZMQ_LINGER, &none, sizeof(none));
	zmq_close(place->router);
	zmq_ctx_term(place->context);
	free(place);
	return 0;
}

static int come(const struct place *place)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(
		connect(fd, (const struct sockaddr *)&place->address, sizeof(place->address)), 0);
	return fd;
}

/* Whether the other end has ended it, within so many milliseconds. What it greets is read. */
static bool ended(int fd, int ms)
{
	struct pollfd one = {.fd = fd, .events = POLLIN};
	char bytes[256];

	while (poll(&one, 1, ms) == 1)
		if (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) <= 0)
			return true;
	return false;
}

/* What the monitor tells comes from another thread. */
static void serve_until_lost(struct place *place, unsigned count, int64_t now)
{
	for (int i = 0; place->lost < count && i < WAIT_MS; i++) {
		link_peers_serve(place->peers, now);
		usleep(1000);
	}
	assert_int_equal(place->lost, count);
}

static void hear(struct place *place)
{
	zmq_pollitem_t item = {.socket = link_peers_monitor(place->peers), .events = ZMQ_POLLIN};

	assert_int_equal(zmq_poll(&item, 1, WAIT_MS), 1);
	link_peers_serve(place->peers, 0);
}

static void the_oldest_stranger_makes_room(void **state)
{
	struct place *place = *state;
	int fds[MANY];

	for (int i = 0; i < MANY; i++)
		fds[i] = come(place);
	serve_until_lost(place, MANY - LINK_STRANGERS, 0);
	for (int i = 0; i < MANY - LINK_STRANGERS; i++)
		assert_true(ended(fds[i], WAIT_MS));
	for (int i = MANY - LINK_STRANGERS; i < MANY; i++)
		assert_false(ended(fds[i], 0));
	for (int i = 0; i < MANY; i++)
		close(fds[i]);
}

static void who_has_no_session_has_little_time(void **state)
{
	struct place *place = *state;
	int late = come(place);

	hear(place);
	link_peers_serve(place->peers, LINK_STRANGER_MS - 1);
	assert_int_equal(place->lost, 0);
	link_peers_serve(place->peers, LINK_STRANGER_MS);
	assert_int_equal(place->lost, 1);
	assert_true(ended(late, WAIT_MS));
	close(late);
}

/* The router's end of a connection, once it was accepted. */
static int other_end(int fd)
{
	struct sockaddr_in own, peer;
	socklen_t size = sizeof(own), peer_size = sizeof(peer);

	assert_int_equal(getsockname(fd, (struct sockaddr *)&own, &size), 0);
	for (int i = 0; i < WAIT_MS; i++) {
		for (int other = 0; other < 1024; other++) {
			peer_size = sizeof(peer);
			if (getpeername(other, (struct sockaddr *)&peer, &peer_size) == 0 &&
			    peer.sin_family == AF_INET && peer.sin_port == own.sin_port)
				return other;
		}
		usleep(1000);
	}
	fail();
	return -1;
}

/* The oldest is to make room, before anything was told of its end: its descriptor is another socket
 * by then. */
static void what_has_the_descriptor_of_one_that_ended_goes_on(void **state)
{
	struct place *place = *state;
	int fds[LINK_STRANGERS + 1], pair[2], there;
	char byte;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	for (unsigned i = 0; i < LINK_STRANGERS + 1; i++) {
		fds[i] = come(place);
		(void)other_end(fds[i]);
	}
	there = other_end(fds[0]);
	close(fds[0]);
	for (int i = 0; fcntl(there, F_GETFD) >= 0 && i < WAIT_MS; i++)
		usleep(1000);
	assert_int_equal(dup2(pair[0], there), there);
	serve_until_lost(place, 1, 0);
	assert_false(link_peers_has(place->peers, there));
	assert_int_equal(recv(pair[1], &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
	for (unsigned i = 1; i < LINK_STRANGERS + 1; i++) {
		assert_true(link_peers_has(place->peers, other_end(fds[i])));
		close(fds[i]);
	}
	close(there);
	close(pair[0]);
	close(pair[1]);
}

/* A frame names its connection's descriptor. */
static void who_has_a_session_stays_until_it_is_dropped(void **state)
{
	struct place *place = *state;
	void *dealer = zmq_socket(place->context, ZMQ_DEALER);
	void *monitor = zmq_socket(place->context, ZMQ_PAIR);
	zmq_pollitem_t item = {.socket = monitor, .events = ZMQ_POLLIN};
	const int never = -1;
	char endpoint[64];
	zmq_msg_t frame;
	int fd;

	(void)snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%u",
		       ntohs(place->address.sin_port));
	assert_int_equal(zmq_setsockopt(dealer, ZMQ_RECONNECT_IVL, &never, sizeof(never)), 0);
	assert_int_equal(zmq_socket_monitor(dealer, "inproc://dealer", ZMQ_EVENT_DISCONNECTED), 0);
	assert_int_equal(zmq_connect(monitor, "inproc://dealer"), 0);
	assert_int_equal(zmq_connect(dealer, endpoint), 0);
	assert_int_equal(zmq_send(dealer, "x", 1, 0), 1);
	zmq_msg_init(&frame);
	assert_true(zmq_msg_recv(&frame, place->router, 0) > 0);
	assert_int_equal(zmq_msg_recv(&frame, place->router, 0), 1);
	fd = zmq_msg_get(&frame, ZMQ_SRCFD);
	zmq_msg_close(&frame);
	link_peers_serve(place->peers, 0);
	link_peers_keep(place->peers, fd);
	link_peers_serve(place->peers, INT64_MAX);
	link_peers_drop(place->peers, fd, 1000);
	link_peers_serve(place->peers, 999);
	assert_int_equal(place->lost, 0);
	assert_int_equal(zmq_poll(&item, 1, 0), 0);
	link_peers_serve(place->peers, 1000);
	assert_int_equal(place->lost, 1);
	assert_int_equal(place->lost_last, fd);
	assert_int_equal(zmq_poll(&item, 1, WAIT_MS), 1);
	zmq_socket_monitor(dealer, NULL, 0);
	zmq_close(monitor);
	zmq_close(dealer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_oldest_stranger_makes_room, make_place,
						remove_place),
		cmocka_unit_test_setup_teardown(who_has_no_session_has_little_time, make_place,
						remove_place),
		cmocka_unit_test_setup_teardown(what_has_the_descriptor_of_one_that_ended_goes_on,
						make_place, remove_place),
		cmocka_unit_test_setup_teardown(who_has_a_session_stays_until_it_is_dropped,
						make_place, remove_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
