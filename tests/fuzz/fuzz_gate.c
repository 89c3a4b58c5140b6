/* Any bytes as what a client sends, in pieces of any size, through the gate to the handlers: nobody
 * reaches what is another's, and each answer is one. The first two bytes say how it comes. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "host.h"
#include "web/auth.h"
#include "web/conn.h"
#include "web/conn_parts.h"
#include "web/http.h"
#include "web/listen.h"
#include "web/request_parts.h"
#include "web/users.h"

#define OUT_MAX (4u * 1024 * 1024)

enum { OVER_TLS = 1, OVER_UNIX = 2, OF_ANNA = 4, BY_PROXY = 8, BELOW_BASE = 16 };

static unsigned way;
static const uint8_t *input;
static size_t input_size;
static char out[OUT_MAX + 1]; /* since the last answer */
static size_t out_size;
static char cookie[AUTH_COOKIE_HEX + 1]; /* of anna, from an earlier login */

/* ---- what is wrapped ---- */

bool __wrap_listen_is_tls(const struct listener *listener);
bool __wrap_listen_is_unix(const struct listener *listener);
const struct user *__wrap_users_by_token(const struct users *users, const char *token, size_t size);
const struct user *__real_users_by_token(const struct users *users, const char *token, size_t size);
void __wrap_auth_token(struct auth *auth, const char *address, const char *token, size_t size,
		       auth_done *done, void *arg);
void __real_auth_token(struct auth *auth, const char *address, const char *token, size_t size,
		       auth_done *done, void *arg);
void __wrap_auth_cookie(struct auth *auth, const char *value, size_t size, auth_done *done,
			void *arg);
void __real_auth_cookie(struct auth *auth, const char *value, size_t size, auth_done *done,
			void *arg);

bool __wrap_listen_is_tls(const struct listener *listener)
{
	(void)listener;
	return way & OVER_TLS;
}

bool __wrap_listen_is_unix(const struct listener *listener)
{
	(void)listener;
	return way & OVER_UNIX;
}

const struct user *__wrap_users_by_token(const struct users *users, const char *token, size_t size)
{
	const struct user *user = __real_users_by_token(users, token, size);
	bool good = !user;

	for (unsigned i = 0; i < HOST_USERS; i++) {
		if (strlen(host_token[i]) != size || memcmp(host_token[i], token, size) != 0)
			continue;
		host_require(user);
		good = host_known[i] = true;
	}
	host_require(good);
	return user;
}

void __wrap_auth_token(struct auth *auth, const char *address, const char *token, size_t size,
		       auth_done *done, void *arg)
{
	char number[64];

	host_require((listen_number(address, number) && strcmp(number, address) == 0) ||
		     strcmp(address, "unix") == 0);
	__real_auth_token(auth, address, token, size, done, arg);
}

/* A browser sends a cookie wherever a page makes it: whose page it is has been looked at. */
void __wrap_auth_cookie(struct auth *auth, const char *value, size_t size, auth_done *done,
			void *arg)
{
	const struct request *request = arg;
	const char *origin = http_header(request, "origin");
	const char *host = http_header(request, "host");

	host_require(origin || request->method & (HTTP_GET | HTTP_HEAD));
	host_require(origin || !(request->own->route->flags & ROUTE_UPGRADE));
	if (origin && strcmp(origin, "https://lab.example") != 0)
		host_require(host && strlen(origin) > strlen(host) &&
			     strcasecmp(origin + strlen(origin) - strlen(host), host) == 0);
	if (size == AUTH_COOKIE_HEX && memcmp(value, cookie, size) == 0)
		host_known[HOST_ANNA] = true;
	__real_auth_cookie(auth, value, size, done, arg);
}

/* ---- the connection ---- */

int conn_write(struct conn *conn, const struct iovec *parts, size_t count)
{
	if (conn->state == CONN_GONE)
		return -EPIPE;
	for (size_t i = 0; i < count; i++) {
		if (!parts[i].iov_len)
			continue;
		conn->out_size += parts[i].iov_len;
		if (conn->state == CONN_WEBSOCKET)
			continue;
		host_require(parts[i].iov_len <= OUT_MAX - out_size);
		memcpy(out + out_size, parts[i].iov_base, parts[i].iov_len);
		out_size += parts[i].iov_len;
	}
	out[out_size] = '\0';
	return 0;
}

void conn_touch(struct conn *conn)
{
	(void)conn;
}

void conn_set_state(struct conn *conn, enum conn_state state)
{
	if (conn->state != CONN_GONE)
		conn->state = state;
}

void conn_close(struct conn *conn)
{
	struct request *request = conn->request;

	if (conn->state == CONN_GONE)
		return;
	conn->state = CONN_GONE;
	conn->request = NULL;
	if (request)
		request_lost(request);
}

void conn_finish(struct conn *conn)
{
	conn->keep = false;
	conn_set_state(conn, CONN_CLOSING);
}

bool conn_writing(const struct conn *conn)
{
	return conn->out_size || conn->file_left;
}

/* Nobody listens: what the other rooms name of these is not called. */
struct conns *conns_new(struct server *server, unsigned most)
{
	(void)server;
	(void)most;
	return NULL;
}

struct conns *conns_free(struct conns *conns)
{
	(void)conns;
	return NULL;
}

void conn_accept(struct conns *conns, struct listener *listener, int fd, SSL_CTX *ctx,
		 const char *peer, unsigned uid)
{
	(void)conns, (void)listener, (void)fd, (void)ctx, (void)peer, (void)uid;
}

/* The value of a header of the answer that ends at `end`; -1: it has none. */
static long number_of(const char *text, const char *name, const char *end)
{
	const char *at = strcasestr(text, name);

	return at && at < end ? strtol(at + strlen(name), NULL, 10) : -1;
}

/* What was written since the last one: one answer, whole. */
static void check_answer(const struct conn *conn)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	const char *text = out;
	const char *end;
	long status, length;
	size_t body;

	if (strncmp(text, go_on, sizeof(go_on) - 1) == 0)
		text += sizeof(go_on) - 1;
	end = strstr(text, "\r\n\r\n");
	host_require(end && strncmp(text, "HTTP/1.1 ", 9) == 0);
	for (const char *c = text; c < end; c++)
		host_require((unsigned char)*c >= ' ' || (*c == '\r' && c[1] == '\n') ||
			     (*c == '\n' && c[-1] == '\r'));
	status = strtol(text + 9, NULL, 10);
	length = number_of(text, "\r\nContent-Length: ", end);
	body = out_size - (size_t)(end + 4 - out) + conn->file_left;
	host_require(status >= 200 && status <= 599);
	host_require((status == 204) == (length < 0));
	if (conn->request->method == HTTP_HEAD || status == 204)
		host_require(body == 0);
	else
		host_require(body == (size_t)length);
	host_require(strstr(text, "\r\nX-Content-Type-Options: nosniff\r\n"));
	host_require(!memmem(out, out_size, HOST_SECRET, strlen(HOST_SECRET)));
	host_require(host_known[HOST_BEN] || host_known[HOST_ADMIN] ||
		     !memmem(out, out_size, host_bens_kernel, KERNELS_ID));
}

void conn_answered(struct conn *conn)
{
	check_answer(conn);
	conn->request = NULL;
	out_size = 0;
	if (conn->state == CONN_GONE)
		return;
	if (conn->state == CONN_BODY)
		conn->keep = false;
	if (conn->keep)
		conn_set_state(conn, CONN_HEAD);
	else
		conn_finish(conn);
}

/* What is written has gone out, a file too; who reads it may. */
static void flush(struct conn *conn)
{
	char text[sizeof(HOST_SECRET) + sizeof(HOST_BENS)] = "";

	if (conn->file_left && pread(conn->file, text, sizeof(text) - 1, 0) > 0) {
		host_require(!strstr(text, HOST_SECRET));
		host_require(!strstr(text, HOST_BENS) || host_known[HOST_BEN]);
	}
	close_fd(&conn->file);
	conn->file_left = 0;
	conn->out_size = 0;
	if (conn->state == CONN_WEBSOCKET)
		websocket_flushed(conn);
}

/* ---- one client ---- */

static void log_in_before(void)
{
	const struct user *anna = __real_users_by_token(host_server.users, host_token[HOST_ANNA],
							strlen(host_token[HOST_ANNA]));

	host_require(anna &&
		     auth_cookie_new(host_server.auth, anna, host_token[HOST_ANNA], cookie) == 0);
}

/* Those of this input too: their values come again. */
static void log_all_out(void)
{
	char value[AUTH_COOKIE_HEX + 1];
	unsigned drawn = host_drawn;

	for (host_drawn = 100; host_drawn < drawn;) {
		(void)random_hex(value, AUTH_COOKIE_HEX / 2);
		auth_cookie_end(host_server.auth, value, AUTH_COOKIE_HEX);
	}
}

static void connect_as(struct conn *conn)
{
	way = input[0];
	host_server.settings.base_url = way & BELOW_BASE ? "/base" : "";
	if (way & OVER_UNIX) {
		(void)snprintf(conn->peer, sizeof(conn->peer), "unix");
		conn->uid = way & OF_ANNA ? 70001 : 70002;
		host_known[HOST_ANNA] = way & OF_ANNA;
	} else {
		(void)snprintf(conn->peer, sizeof(conn->peer), "%s",
			       way & BY_PROXY ? "10.0.0.1" : "10.0.0.2");
		if (way & OVER_TLS && way & OF_ANNA) {
			conn->certificate_name = strdup("anna-cn");
			host_require(conn->certificate_name);
			host_known[HOST_ANNA] = true;
		}
	}
}

static void send_all(struct conn *conn)
{
	size_t step = input[1] ? input[1] * 5u : 1;

	for (size_t used = 2; used < input_size && conn->state != CONN_GONE;) {
		size_t part = input_size - used < step ? input_size - used : step;

		host_require(conn_use(conn, (const char *)input + used, part));
		used += part;
		for (size_t left = 0; conn->in_size != left && conn->state != CONN_GONE;) {
			left = conn->in_size;
			flush(conn);
			conn->paused = false;
			host_require(conn_use(conn, NULL, 0));
		}
		flush(conn);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct conns conns;
	struct conn conn = {.server = &host_server, .state = CONN_HEAD, .fd = -1, .file = -1};

	if (size < 2)
		return 0;
	host_server.conns = &conns;
	LIST_INIT(&conns.all);
	host_begin();
	input = data;
	input_size = size;
	out_size = 0;
	log_in_before();
	connect_as(&conn);
	send_all(&conn);
	conn_close(&conn);
	flush(&conn);
	if (conn.websocket)
		websocket_end(&conn);
	free(conn.in);
	free(conn.certificate_name);
	log_all_out();
	host_end();
	return 0;
}
