#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "proxy/watch.h"

#define LONG_MS 5000

/* A ROUTER that is watched, a DEALER that speaks to it, and a pipe. */
struct world {
	void *context, *router, *dealer;
	struct watch watch;
	int pipe[2];
	zmq_pollitem_t items[2];
};

static int begin(void **state)
{
	static struct world world;

	world = (struct world){.context = zmq_ctx_new()};
	world.router = zmq_socket(world.context, ZMQ_ROUTER);
	world.dealer = zmq_socket(world.context, ZMQ_DEALER);
	if (zmq_bind(world.router, "inproc://watch") < 0 ||
	    zmq_connect(world.dealer, "inproc://watch") < 0 ||
	    watch_init(&world.watch, world.router) < 0 || pipe(world.pipe) < 0)
		return -1;
	world.items[0] = (zmq_pollitem_t){.socket = world.router, .events = ZMQ_POLLIN};
	world.items[1] = (zmq_pollitem_t){.fd = world.pipe[0], .events = ZMQ_POLLIN};
	*state = &world;
	return 0;
}

static int end(void **state)
{
	struct world *world = *state;

	(void)close(world->pipe[0]);
	if (world->pipe[1] >= 0)
		(void)close(world->pipe[1]);
	(void)zmq_close(world->router);
	(void)zmq_close(world->dealer);
	return zmq_ctx_term(world->context);
}

/* As zmq_poll would: spurious wake-ups are passed over. */
static int wait_for(struct world *world, int rounds)
{
	int ready = 0;

	for (int i = 0; i < rounds && ready == 0; i++)
		ready = watch_poll(&world->watch, 1, world->items, 2, rounds > 1 ? LONG_MS : 0);
	return ready;
}

/* Takes one message of two frames; false when there is none. */
static bool take(struct world *world)
{
	char data[16];

	world->watch.look = true;
	if (zmq_recv(world->router, data, sizeof(data), ZMQ_DONTWAIT) < 0)
		return false;
	assert_int_equal(zmq_recv(world->router, data, sizeof(data), ZMQ_DONTWAIT), 1);
	return true;
}

static void say(struct world *world)
{
	assert_int_equal(zmq_send(world->dealer, "x", 1, 0), 1);
}

static void nothing(void **state)
{
	struct world *world = *state;

	assert_int_equal(wait_for(world, 1), 0);
	assert_int_equal(world->items[0].revents, 0);
	assert_int_equal(world->items[1].revents, 0);
	assert_false(world->watch.look);
}

/* Told again until all are taken, and again for the next. */
static void messages(void **state)
{
	struct world *world = *state;

	for (int turn = 0; turn < 3; turn++) {
		say(world);
		say(world);
		for (int i = 0; i < 2; i++) {
			assert_int_equal(wait_for(world, 100), 1);
			assert_int_equal(world->items[0].revents, ZMQ_POLLIN);
			assert_int_equal(wait_for(world, 1), 1); /* it stays so */
			assert_true(take(world));
		}
		assert_int_equal(wait_for(world, 1), 0);
		assert_false(take(world));
	}
}

/* A call on the socket swallows what its descriptor had to say: the next look finds the message. */
static void swallowed(void **state)
{
	struct world *world = *state;
	int events;
	size_t size = sizeof(events);

	assert_int_equal(wait_for(world, 1), 0);
	say(world);
	assert_int_equal(zmq_getsockopt(world->router, ZMQ_EVENTS, &events, &size), 0);
	world->watch.look = true;
	assert_int_equal(wait_for(world, 1), 1);
	assert_int_equal(world->items[0].revents, ZMQ_POLLIN);
}

/* A socket that is not wanted now wakes nobody, and loses nothing. */
static void not_wanted(void **state)
{
	struct world *world = *state;

	world->items[0].events = 0;
	say(world);
	assert_int_equal(wait_for(world, 1), 0);
	assert_int_equal(world->items[0].revents, 0);
	world->items[0].events = ZMQ_POLLIN;
	assert_int_equal(wait_for(world, 100), 1);
	assert_true(take(world));
}

static void descriptors(void **state)
{
	struct world *world = *state;
	char byte;

	assert_int_equal(write(world->pipe[1], "x", 1), 1);
	say(world);
	while (wait_for(world, 100) != 2)
		;
	assert_int_equal(world->items[1].revents, ZMQ_POLLIN);
	assert_true(take(world));
	assert_int_equal(wait_for(world, 100), 1);
	assert_int_equal(world->items[0].revents, 0);
	assert_int_equal(read(world->pipe[0], &byte, 1), 1);
	assert_int_equal(wait_for(world, 1), 0);
	(void)close(world->pipe[1]);
	world->pipe[1] = -1;
	assert_int_equal(wait_for(world, 1), 1);
	assert_int_equal(world->items[1].revents, ZMQ_POLLERR); /* a hang-up, unasked */
}

static void too_many(void **state)
{
	zmq_pollitem_t items[WATCH_ITEMS_MAX + 1] = {{0}};

	(void)state;
	assert_int_equal(watch_poll(NULL, 0, items, WATCH_ITEMS_MAX + 1, 0), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(nothing, begin, end),
		cmocka_unit_test_setup_teardown(messages, begin, end),
		cmocka_unit_test_setup_teardown(swallowed, begin, end),
		cmocka_unit_test_setup_teardown(not_wanted, begin, end),
		cmocka_unit_test_setup_teardown(descriptors, begin, end),
		cmocka_unit_test(too_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
