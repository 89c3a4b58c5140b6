/* What a kernel that has ended still said, read by bridge_drain: each listener gets it, whoever
 * leaves meanwhile, and none is told to send more. The kernel's end is libzmq's. */
#include "web/bridge.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include <cmocka.h>

#include "web/loop.h"

#define CLIENTS 3
#define FRAMES	8

static char directory[] = "/tmp/cellwall-bridge-XXXXXX", key[] = "key", scheme[] = "hmac-sha256";
static struct loop *loop;
static struct bridge *bridge;
static struct connection connection = {.scheme = scheme, .key = key, .key_size = 3};
static void *context, *shell, *iopub;
static struct client {
	struct listener listener;
	unsigned messages, writable;
	struct client *sends_away; /* with its first message */
} clients[CLIENTS];

/* What came on shell, with its signature, which is good for iopub too. */
struct request {
	char text[FRAMES][1024];
	size_t size[FRAMES], count;
};
static struct request info, asked[CLIENTS];

static void take_message(struct listener *listener, struct packet *packet)
{
	struct client *client = listener->arg;

	(void)packet;
	client->messages++;
	if (client->sends_away)
		bridge_leave(&client->sends_away->listener);
}

static void take_writable(struct listener *listener)
{
	struct client *client = listener->arg;

	client->writable++;
}

static void take_state(void *arg, const char *state)
{
	(void)arg;
	(void)state;
}

static void take_activity(void *arg)
{
	(void)arg;
}

static void go_round(void)
{
	assert_int_equal(loop_once(loop, 20, NULL), 0);
}

static void *bind_kernel(int type, enum wall_channel channel)
{
	void *kernel = zmq_socket(context, type);

	assert_non_null(kernel);
	assert_int_equal(zmq_bind(kernel, connection.endpoint[channel]), 0);
	return kernel;
}

static void take_request(struct request *request)
{
	int more = 1;
	size_t size = sizeof(more);

	memset(request, 0, sizeof(*request));
	for (; more; request->count++) {
		char *text = request->text[request->count];
		int r;

		assert_true(request->count < FRAMES);
		while ((r = zmq_recv(shell, text, 1023, ZMQ_DONTWAIT)) < 0)
			go_round();
		assert_true(r <= 1023);
		request->size[request->count] = (size_t)r;
		assert_int_equal(zmq_getsockopt(shell, ZMQ_RCVMORE, &more, &size), 0);
	}
}

/* With the identity of who asked as the first frame, which for iopub is any topic. */
static void say(void *kernel, const struct request *request)
{
	for (size_t i = 0; i < request->count; i++)
		assert_int_equal(zmq_send(kernel, request->text[i], request->size[i],
					  i + 1 < request->count ? ZMQ_SNDMORE : 0),
				 request->size[i]);
}

/* Returns when all is written and the sockets are closed. */
static void end_kernel(void)
{
	(void)zmq_close(shell);
	(void)zmq_close(iopub);
	(void)zmq_ctx_term(context);
	context = NULL;
}

static uint64_t heard(enum wall_channel channel)
{
	return bridge_figures(bridge)->out[channel];
}

/* Until the kernel has answered on shell and knows who hears iopub, but has said nothing there. */
static int begin(void **state)
{
	const struct bridge_owner owner = {.state = take_state, .activity = take_activity};
	struct err err;
	char subscription[16];

	(void)state;
	context = zmq_ctx_new();
	if (!context || !mkdtemp(directory) || loop_new(&loop, &err) < 0 ||
	    bridge_new(loop, &owner, &bridge, &err) < 0)
		return -1;
	for (int i = 0; i < WALL_CHANNELS; i++)
		(void)snprintf(connection.endpoint[i], sizeof(connection.endpoint[i]),
			       "ipc://%s/%d", directory, i);
	shell = bind_kernel(ZMQ_ROUTER, WALL_SHELL);
	iopub = bind_kernel(ZMQ_XPUB, WALL_IOPUB);
	memset(clients, 0, sizeof(clients));
	for (size_t i = CLIENTS; i > 0; i--) { /* the last who joins is the first in the list */
		clients[i - 1].listener = (struct listener){
			.message = take_message, .writable = take_writable, .arg = &clients[i - 1]};
		if (bridge_join(bridge, &clients[i - 1].listener) < 0)
			return -1;
	}
	if (bridge_connect(bridge, &connection, &err) < 0)
		return -1;
	take_request(&info);
	say(shell, &info);
	while (!heard(WALL_SHELL) || zmq_recv(iopub, subscription, 16, ZMQ_DONTWAIT) < 0)
		go_round();
	return 0;
}

static int finish(void **state)
{
	char path[64];

	(void)state;
	bridge = bridge_free(bridge, "");
	loop = loop_free(loop);
	for (int i = 0; i < WALL_CHANNELS; i++) {
		(void)snprintf(path, sizeof(path), "%s/%d", directory, i);
		(void)unlink(path);
	}
	(void)rmdir(directory);
	memcpy(strrchr(directory, '-'), "-XXXXXX", 7);
	return 0;
}

static int ask(struct client *client)
{
	char header[] = "{\"msg_type\":\"execute_request\"}", none[] = "{}";
	const struct iovec parts[] = {
		{header, sizeof(header) - 1}, {none, 2}, {none, 2}, {none, 2}};

	return bridge_send(&client->listener, WALL_SHELL, parts, 4);
}

static void test_what_a_dead_kernel_says_hands_out_nothing(void **state)
{
	(void)state;
	assert_int_equal(ask(&clients[0]), -EAGAIN);
	say(iopub, &info); /* the last thing that it takes to be ready */
	end_kernel();
	bridge_drain(bridge);
	assert_int_equal(heard(WALL_IOPUB), 1);
	for (size_t i = 0; i < CLIENTS; i++) {
		assert_int_equal(clients[i].messages, 1);
		assert_int_equal(clients[i].writable, 0);
	}
	assert_int_equal(ask(&clients[0]), -EAGAIN);
}

static void test_one_leaves_while_another_is_drained(void **state)
{
	(void)state;
	say(iopub, &info);
	while (!clients[0].writable)
		go_round();
	for (size_t i = 0; i < CLIENTS; i++) {
		clients[i].messages = 0;
		assert_int_equal(ask(&clients[i]), 0);
		do /* the bridge may have asked again meanwhile */
			take_request(&asked[i]);
		while (!strstr(asked[i].text[3], "execute_request"));
	}
	for (size_t i = 0; i < CLIENTS; i++)
		say(shell, &asked[i]);
	end_kernel();
	clients[0].sends_away = &clients[1];
	bridge_drain(bridge);
	assert_int_equal(clients[0].messages, 1);
	assert_int_equal(clients[1].messages, 0);
	assert_int_equal(clients[2].messages, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_a_dead_kernel_says_hands_out_nothing,
						begin, finish),
		cmocka_unit_test_setup_teardown(test_one_leaves_while_another_is_drained, begin,
						finish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
