/* Any bytes as a client's frames, in pieces of any size: messages are bounded, text is UTF-8, and
 * it ends once. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "web/auth.h"
#include "web/conn.h"
#include "web/gate.h"
#include "web/request_parts.h"

#define MESSAGE_MAX 4096

static size_t messages;
static bool ended;

/* What of a connection a WebSocket uses. */
int conn_write(struct conn *conn, const struct iovec *parts, size_t count)
{
	for (size_t i = 0; i < count; i++)
		conn->out_size += parts[i].iov_len;
	return conn->state == CONN_GONE ? -EPIPE : 0;
}
void conn_touch(struct conn *conn)
{
	(void)conn;
}
void conn_close(struct conn *conn)
{
	conn->state = CONN_GONE;
}
void conn_finish(struct conn *conn)
{
	conn->state = CONN_CLOSING;
}
void conn_set_state(struct conn *conn, enum conn_state state)
{
	conn->state = state;
}
void gate_log(const struct request *request, int status)
{
	(void)request;
	(void)status;
}
const char *gate_lease(const struct request *request)
{
	(void)request;
	return NULL;
}
int auth_lease_new(struct auth *auth, const struct user *user, const char *token,
		   struct auth_lease *ret_lease)
{
	(void)auth;
	(void)user;
	(void)token;
	*ret_lease = (struct auth_lease){0};
	return 0;
}
void auth_lease_end(struct auth_lease *lease)
{
	(void)lease;
}
bool auth_lease_good(struct auth *auth, const struct user *user, const struct auth_lease *lease)
{
	(void)auth;
	(void)user;
	(void)lease;
	return true;
}
struct request *request_free(struct request *request)
{
	free(request->own->memory);
	free(request->own);
	free(request);
	return NULL;
}
const char *http_header(const struct request *request, const char *name)
{
	return parse_find(request->own->head.header, request->own->head.headers, name);
}
void http_error(struct request *request, int status, const char *reason, const char *format, ...)
{
	(void)status;
	(void)reason;
	(void)format;
	(void)request_free(request);
}
void http_add_header(struct request *request, const char *name, const char *value)
{
	(void)request;
	(void)name;
	(void)value;
}

static void message(void *arg, bool binary, void *data, size_t size)
{
	struct conn *conn = arg;

	if (size > MESSAGE_MAX || (!binary && !parse_utf8(data, size)))
		__builtin_trap();
	if (size)
		memset(data, 0, size);
	if (++messages % 5 == 0)
		conn->paused = true;
}
static void drained(void *arg)
{
	(void)arg;
}
static void pong(void *arg, uint64_t mark)
{
	(void)arg;
	(void)mark;
}
static void closed(void *arg, unsigned code)
{
	(void)arg;
	if (ended || code < 1000)
		__builtin_trap();
	ended = true;
}

static struct request *upgrade(struct conn *conn)
{
	static const char head[] =
		"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
	struct request *request = calloc(1, sizeof(*request));

	if (!request || !(request->own = calloc(1, sizeof(*request->own))) ||
	    !(request->own->memory = strdup(head)))
		abort();
	request->conn = conn;
	if (parse_head(request->own->memory, sizeof(head) - 1, &request->own->head) != 0)
		__builtin_trap();
	return request;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct websocket_calls calls = {
		.message = message, .drained = drained, .pong = pong, .closed = closed};
	struct server server = {0};
	struct conn conn = {.state = CONN_WAIT, .server = &server};
	size_t step = size ? data[0] % 67 + 1u : 1, used = size ? 1 : 0;

	ended = false;
	if (!http_upgrade(upgrade(&conn), NULL, MESSAGE_MAX, &calls, &conn))
		__builtin_trap();
	while (used < size && conn.state == CONN_WEBSOCKET) {
		size_t part = size - used < step ? size - used : step;
		size_t taken = websocket_feed(&conn, (const char *)data + used, part);

		if (taken > part || (taken < part && !conn.paused))
			__builtin_trap();
		conn.paused = false;
		used += taken;
	}
	websocket_end(&conn);
	if (!ended)
		__builtin_trap();
	return 0;
}
