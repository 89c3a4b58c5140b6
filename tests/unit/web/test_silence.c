/* A WebSocket is pinged each 30 s, and ended 90 s after its client was heard last. A whole server
 * on a Unix socket, one route in the place of its own, and the test's own clock. */
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "sandbox/base.h"
#include "web/eventlog.h"
#include "web/http.h"
#include "web/loop.h"
#include "web/routes.h"
#include "web/server.h"

int64_t __wrap_now_ms(void);

static int64_t clock_ms = 1000000;
static char directory[] = "/tmp/cellwall-silence-XXXXXX";
static struct server *server;
static unsigned closed_count;

int64_t __wrap_now_ms(void)
{
	return clock_ms;
}

static void message(void *arg, bool binary, void *data, size_t size)
{
	(void)arg, (void)binary, (void)data, (void)size;
}
static void drained(void *arg)
{
	(void)arg;
}
static void closed(void *arg, unsigned code)
{
	(void)arg, (void)code;
	closed_count++;
}

static void upgrade(struct request *request)
{
	static const struct websocket_calls calls = {
		.message = message, .drained = drained, .closed = closed};

	assert_non_null(http_upgrade(request, NULL, 4096, &calls, NULL));
}

/* In place of the one in web/routes.c. */
const struct route *routes_find(unsigned method, char *const *part, size_t parts,
				unsigned *ret_methods)
{
	static const struct route route = {HTTP_GET, "/", ROUTE_USER, ROUTE_UPGRADE, upgrade};

	(void)method, (void)part, (void)parts;
	*ret_methods = HTTP_GET;
	return &route;
}

static void go_round(void)
{
	assert_int_equal(loop_once(server->loop, 20, NULL), 0);
}

/* Everything that this moment brings. */
static void settle(void)
{
	for (int i = 0; i < 5; i++)
		assert_int_equal(loop_once(server->loop, 0, NULL), 0);
}

static int open_server(void **state)
{
	static char address[64], data[64], runtime[64];
	const struct settings settings = {.listen = {address},
					  .base_url = "",
					  .data = data,
					  .runtime = runtime,
					  .max_connections = 64};
	struct err err = {0};

	(void)state;
	if (!mkdtemp(directory))
		return -1;
	(void)snprintf(address, sizeof(address), "unix:%s/s", directory);
	(void)snprintf(data, sizeof(data), "%s/data", directory);
	(void)snprintf(runtime, sizeof(runtime), "%s/run", directory);
	log_setup("test", LOG_LEVEL_WARNING);
	return server_new(&settings, &server, &err);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *at)
{
	(void)status, (void)type, (void)at;
	return remove(path);
}

static int close_server(void **state)
{
	(void)state;
	server = server_free(server);
	return nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* A connection whose upgrade was answered. */
static int come(void)
{
	static const char head[] =
		"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char answer[1024];
	size_t size = 0;

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", directory);
	assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(send(fd, head, sizeof(head) - 1, 0), sizeof(head) - 1);
	while (!memmem(answer, size, "\r\n\r\n", 4)) {
		ssize_t got = recv(fd, answer + size, sizeof(answer) - size, MSG_DONTWAIT);

		assert_int_not_equal(got, 0);
		size += got > 0 ? (size_t)got : 0;
		go_round();
	}
	assert_memory_equal(answer, "HTTP/1.1 101 ", 13);
	return fd;
}

/* The next ping; false: the end. */
static bool pinged(int fd)
{
	unsigned char frame[2];
	ssize_t got;

	while ((got = recv(fd, frame, sizeof(frame), MSG_DONTWAIT)) < 0 && errno == EAGAIN)
		go_round();
	if (got <= 0)
		return false;
	assert_int_equal(got, 2);
	assert_memory_equal(frame, "\x89\0", 2);
	return true;
}

static bool quiet(int fd)
{
	char byte;

	settle();
	return recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
}

static void test_who_does_not_answer_is_ended(void **state)
{
	static const unsigned char pong[] = {0x8a, 0x80, 1, 2, 3, 4};
	int silent = come(), there = come();

	(void)state;
	for (int round = 1; round <= 4; round++) {
		clock_ms += 29999;
		assert_true(quiet(silent) && quiet(there));
		clock_ms++;
		assert_true(pinged(there));
		assert_int_equal(send(there, pong, sizeof(pong), 0), sizeof(pong));
		assert_int_equal(pinged(silent), round <= 3);
	}
	settle();
	assert_int_equal(closed_count, 1);
	assert_true(quiet(there));
	close(silent);
	close(there);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_does_not_answer_is_ended),
	};

	return cmocka_run_group_tests(tests, open_server, close_server);
}
