/* A connection to a kernel's socket, against libzmq's other end: messages of any size, a socket
 * that comes late and goes away, one that is not read, one that takes nothing, one that is closed
 * while it is read. */
#include "web/port.h"

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

#define LARGE (3u * 1024 * 1024)

static struct loop *loop;
static void *context, *kernel;
static char directory[] = "/tmp/cellwall-port-XXXXXX", path[64], endpoint[80];

static struct {
	struct port *port;
	size_t first, messages, bytes, skipped, writable;
	bool waits, close;
} seen;

static void take(void *arg, const struct iovec *frames, size_t count, void *block)
{
	(void)arg;
	if (count == 1 && frames[0].iov_len == 5 && memcmp(frames[0].iov_base, "first", 5) == 0) {
		seen.first++;
		free(block);
		return;
	}
	seen.messages++;
	for (size_t i = 0; i < count; i++)
		seen.bytes += frames[i].iov_len;
	free(block);
	if (seen.close)
		seen.port = port_close(seen.port);
}
static void skipped(void *arg)
{
	(void)arg;
	seen.skipped++;
}
static bool waits(void *arg)
{
	(void)arg;
	return seen.waits;
}
static void writable(void *arg)
{
	(void)arg;
	seen.writable++;
}

static void go_round(void)
{
	assert_int_equal(loop_once(loop, 20, NULL), 0);
}

static void bind_kernel(int type)
{
	const int none = 0;

	kernel = zmq_socket(context, type);
	assert_non_null(kernel);
	(void)zmq_setsockopt(kernel, ZMQ_LINGER, &none, sizeof(none));
	(void)zmq_setsockopt(kernel, ZMQ_SNDHWM, &none, sizeof(none));
	assert_int_equal(zmq_bind(kernel, endpoint), 0);
}

/* With its context: libzmq would take the path away later on. */
static void unbind_kernel(void)
{
	(void)zmq_close(kernel);
	(void)zmq_ctx_term(context);
	(void)unlink(path);
	context = zmq_ctx_new();
}

static int begin(void **state)
{
	struct err err;

	(void)state;
	memset(&seen, 0, sizeof(seen));
	context = zmq_ctx_new();
	if (!context || !mkdtemp(directory) || loop_new(&loop, &err) < 0)
		return -1;
	(void)snprintf(path, sizeof(path), "%s/socket", directory);
	(void)snprintf(endpoint, sizeof(endpoint), "ipc://%s", path);
	return 0;
}

static int finish(void **state)
{
	(void)state;
	seen.port = port_close(seen.port);
	loop = loop_free(loop);
	unbind_kernel();
	(void)zmq_ctx_term(context);
	(void)rmdir(directory);
	memcpy(strrchr(directory, '-'), "-XXXXXX", 7);
	return 0;
}

static void open_port(enum wall_channel channel)
{
	static const struct port_user user = {take, skipped, waits, writable};

	assert_int_equal(
		port_open(loop, path, channel, "0123456789abcdef", &user, NULL, &seen.port), 0);
}

/* Sends until the subscription is there and one has come. */
static void publish_until_seen(void)
{
	seen.first = 0;
	while (!seen.first) {
		(void)zmq_send(kernel, "first", 5, ZMQ_DONTWAIT);
		go_round();
	}
}

static void test_sizes(void **state)
{
	static const size_t sizes[] = {0, 1, 255, 256, 65000, 65536, 70000, LARGE};
	char *data = calloc(1, LARGE);
	size_t count = 0, bytes = 0;

	(void)state;
	assert_non_null(data);
	open_port(WALL_IOPUB); /* and the socket comes later */
	go_round();
	bind_kernel(ZMQ_PUB);
	publish_until_seen();
	for (int n = 0; n < 50; n++)
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			if (sizes[i] == LARGE && n % 10)
				continue;
			(void)zmq_send(kernel, "topic", 5, ZMQ_SNDMORE);
			(void)zmq_send(kernel, data, sizes[i], 0);
			count++;
			bytes += 5 + sizes[i];
		}
	while (seen.messages < count)
		go_round();
	assert_int_equal(seen.bytes, bytes);
	assert_int_equal(seen.skipped, 0);
	free(data);
}

static void test_it_comes_back(void **state)
{
	(void)state;
	bind_kernel(ZMQ_PUB);
	open_port(WALL_IOPUB);
	publish_until_seen();
	unbind_kernel();
	for (int n = 0; n < 5; n++)
		go_round();
	bind_kernel(ZMQ_PUB);
	publish_until_seen();
}

static void test_not_read(void **state)
{
	static char data[1000];
	size_t before;

	(void)state;
	bind_kernel(ZMQ_PUB);
	open_port(WALL_IOPUB);
	publish_until_seen();
	seen.waits = true;
	for (int n = 0; n < 20000; n++)
		(void)zmq_send(kernel, data, sizeof(data), 0);
	for (int n = 0; n < 10; n++)
		go_round();
	before = seen.messages; /* at most what one turn had begun to read */
	assert_true(before < 1000);
	go_round();
	assert_int_equal(seen.messages, before);
	seen.waits = false;
	port_look(seen.port);
	while (seen.messages < 20000)
		go_round();
	assert_int_equal(seen.bytes, 20000 * sizeof(data));
}

static void test_sending(void **state)
{
	char *data = calloc(1, LARGE);
	char head[] = "head";
	const struct iovec frames[2] = {{head, 4}, {data, LARGE}};
	char identity[32];
	zmq_msg_t part;
	int sent = 0, got = 0;

	(void)state;
	assert_non_null(data);
	open_port(WALL_SHELL);
	while (port_send(seen.port, frames, 2) ==
	       0) /* nobody is there: it is kept, within bounds */
		sent++;
	assert_int_equal(sent, 1);
	bind_kernel(ZMQ_ROUTER);
	while (!seen.writable)
		go_round();
	assert_int_equal(port_send(seen.port, frames, 2), 0);
	for (sent++; got < sent; got++) {
		while (zmq_recv(kernel, identity, sizeof(identity), ZMQ_DONTWAIT) < 0)
			go_round();
		assert_memory_equal(identity, "0123456789abcdef", 16);
		(void)zmq_msg_init(&part);
		assert_int_equal(zmq_msg_recv(&part, kernel, 0), 4);
		assert_int_equal(zmq_msg_recv(&part, kernel, 0), LARGE);
		assert_false(zmq_msg_more(&part));
		(void)zmq_msg_close(&part);
	}
	free(data);
}

/* What is written last, in ten messages, by an end that is closed then. */
static void say_last_and_go(void)
{
	static char data[1000];
	const int always = -1;

	(void)zmq_setsockopt(kernel, ZMQ_LINGER, &always, sizeof(always));
	for (int n = 0; n < 10; n++) {
		(void)zmq_send(kernel, "0123456789abcdef", 16, ZMQ_SNDMORE);
		assert_int_equal(zmq_send(kernel, data, sizeof(data), 0), sizeof(data));
	}
	unbind_kernel(); /* returns when all is written and the socket closed */
}

/* A kernel's end is seen by a send, by the loop or by its process's end, each the first of all. */
static void test_last_words(void **state)
{
	char word[] = "word";
	const struct iovec frame = {word, 4};
	char got[32];

	(void)state;
	open_port(WALL_SHELL);
	for (int round = 0; round < 4; round++) {
		seen.messages = 0;
		bind_kernel(ZMQ_ROUTER);
		assert_int_equal(port_send(seen.port, &frame, 1), 0);
		while (zmq_recv(kernel, got, sizeof(got), ZMQ_DONTWAIT) < 0)
			go_round();
		assert_int_equal(zmq_recv(kernel, got, sizeof(got), 0), 4);
		seen.waits = round == 1 || round == 3;
		say_last_and_go();
		if (round < 2)
			assert_int_equal(port_send(seen.port, &frame, 1), 0);
		else if (round == 3)
			port_drain(seen.port);
		if (round == 1) {
			for (int n = 0; n < 5; n++)
				go_round();
			assert_int_equal(seen.messages, 0);
		}
		if (round == 3)
			assert_int_equal(seen.messages, 10);
		seen.waits = false;
		port_look(seen.port);
		while (seen.messages < 10)
			go_round();
		bind_kernel(ZMQ_ROUTER); /* what could not be sent is sent to the next one */
		for (int n = 0; round < 2 && n < 1; n++) {
			while (zmq_recv(kernel, got, sizeof(got), ZMQ_DONTWAIT) < 0)
				go_round();
			assert_int_equal(zmq_recv(kernel, got, sizeof(got), 0), 4);
		}
		unbind_kernel();
	}
	bind_kernel(ZMQ_ROUTER);
}

static void test_closed_inside(void **state)
{
	(void)state;
	bind_kernel(ZMQ_PUB);
	open_port(WALL_IOPUB);
	seen.close = true;
	while (seen.port) {
		for (int n = 0; n < 100; n++)
			(void)zmq_send(kernel, "last", 4, 0);
		go_round();
	}
	assert_int_equal(seen.messages, 1);
}

static void test_a_path_that_is_none(void **state)
{
	static const struct port_user user = {take, skipped, waits, writable};
	char name[200];

	(void)state;
	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(port_open(loop, name, WALL_SHELL, "", &user, NULL, &seen.port),
			 -ENAMETOOLONG);
	bind_kernel(ZMQ_PUB);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sizes, begin, finish),
		cmocka_unit_test_setup_teardown(test_it_comes_back, begin, finish),
		cmocka_unit_test_setup_teardown(test_not_read, begin, finish),
		cmocka_unit_test_setup_teardown(test_sending, begin, finish),
		cmocka_unit_test_setup_teardown(test_last_words, begin, finish),
		cmocka_unit_test_setup_teardown(test_closed_inside, begin, finish),
		cmocka_unit_test_setup_teardown(test_a_path_that_is_none, begin, finish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
