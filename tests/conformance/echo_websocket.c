/*
 * echo_websocket: `cellwall serve` with one route instead of its own: a WebSocket that sends back
 * what it gets, for conformance suites. All else is the server's: listener, HTTP, users, frames.
 *
 *   echo_websocket DIRECTORY       listens on http://127.0.0.1:0; the address is in its log, the
 *                                  token in DIRECTORY/run/token
 */
#include <stdlib.h>
#include <string.h>

#include "sandbox/base.h"
#include "web/eventlog.h"
#include "web/http.h"
#include "web/routes.h"
#include "web/server.h"

#define MESSAGE_MAX (64u * 1024 * 1024)

/* A client that reads less than it sends is not read from meanwhile. */
static void message(void *arg, bool binary, void *data, size_t size)
{
	struct websocket **websocket = arg;
	struct iovec part = {data, size};

	(void)websocket_send(*websocket, binary, &part, 1);
	if (websocket_queued(*websocket) > WEBSOCKET_LOW)
		websocket_pause(*websocket, true);
}

static void drained(void *arg)
{
	struct websocket **websocket = arg;

	websocket_pause(*websocket, false);
}

static void closed(void *arg, unsigned code)
{
	(void)code;
	free(arg);
}

static void echo(struct request *request)
{
	static const struct websocket_calls calls = {
		.message = message, .drained = drained, .closed = closed};
	struct websocket **websocket = calloc(1, sizeof(struct websocket *));

	if (websocket)
		*websocket = http_upgrade(request, NULL, MESSAGE_MAX, &calls, websocket);
	if (!websocket)
		http_error(request, 503, NULL, "no memory");
	else if (!*websocket)
		free(websocket);
}

/* In place of the one in web/routes.c. */
const struct route *routes_find(unsigned method, char *const *part, size_t parts,
				unsigned *ret_methods)
{
	static const struct route route = {HTTP_GET, "/echo", ROUTE_USER, ROUTE_UPGRADE, echo};
	bool found = parts == 1 && strcmp(part[0], "echo") == 0;

	*ret_methods = found ? HTTP_GET : 0;
	return found && (method & HTTP_GET) ? &route : NULL;
}

int main(int argc, char **argv)
{
	cleanup(free_ptr) char *data = argc == 2 ? path_join(argv[1], "data") : NULL;
	cleanup(free_ptr) char *runtime = argc == 2 ? path_join(argv[1], "run") : NULL;
	struct settings settings = {.listen = {"http://127.0.0.1:0"},
				    .base_url = "",
				    .data = data,
				    .runtime = runtime,
				    .max_connections = 64};

	if (!data || !runtime)
		return 2;
	log_setup("echo_websocket", LOG_LEVEL_INFO);
	return server_serve(&settings);
}
