#include "web/http.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "web/conn.h"
#include "web/gate.h"
#include "web/metrics.h"
#include "web/request_parts.h"
#include "web/users.h"

#define HEAD_SIZE (8u * 1024)

static const struct {
	int status;
	const char *reason;
} reasons[] = {
	{200, "OK"},
	{201, "Created"},
	{202, "Accepted"},
	{204, "No Content"},
	{206, "Partial Content"},
	{302, "Found"},
	{400, "Bad Request"},
	{401, "Unauthorized"},
	{403, "Forbidden"},
	{404, "Not Found"},
	{405, "Method Not Allowed"},
	{409, "Conflict"},
	{411, "Length Required"},
	{413, "Content Too Large"},
	{416, "Range Not Satisfiable"},
	{417, "Expectation Failed"},
	{421, "Misdirected Request"},
	{426, "Upgrade Required"},
	{429, "Too Many Requests"},
	{431, "Request Header Fields Too Large"},
	{500, "Internal Server Error"},
	{501, "Not Implemented"},
	{503, "Service Unavailable"},
	{505, "HTTP Version Not Supported"},
	{507, "Insufficient Storage"},
};

const char *request_reason(int status)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Error";
}

const char *request_method(enum http_method method)
{
	switch (method) {
	case HTTP_GET:
		return "GET";
	case HTTP_HEAD:
		return "HEAD";
	case HTTP_POST:
		return "POST";
	case HTTP_PUT:
		return "PUT";
	case HTTP_DELETE:
		return "DELETE";
	case HTTP_PATCH:
		return "PATCH";
	default:
		return "OPTIONS";
	}
}

/* ---- making and ending ---- */

/* `base` off the front of a path; NULL: the path is not below it. */
static const char *below_base(const char *base, const char *path)
{
	size_t size = strlen(base);

	if (strncmp(base, path, size) != 0)
		return NULL;
	return path[size] == '/' ? path + size : path[size] == '\0' && size ? "/" : NULL;
}

static int take_apart(struct request *request, size_t size)
{
	struct request_parts *own = request->own;
	const char *base = request->server->settings.base_url;
	int status = parse_head(own->memory, size, &own->head);
	int count;

	if (status)
		return status;
	request->method = own->head.method;
	request->path = below_base(base ? base : "", own->head.path);
	if (!request->path)
		return 404;
	own->cut = strdup(request->path);
	if (!own->cut)
		return 503;
	count = parse_parts(own->cut, request->part);
	if (count < 0)
		return 400;
	request->parts = (size_t)count;
	count = parse_query(own->head.query, own->query);
	if (count < 0)
		return 400;
	own->queries = (size_t)count;
	return 0;
}

struct request *request_new(struct conn *conn, const char *data, size_t size, int *ret_status)
{
	struct request *request = calloc(1, sizeof(*request));
	int status = 503;

	if (!request)
		goto failed;
	request->server = conn->server;
	request->conn = conn;
	request->body = "";
	request->own = calloc(1, sizeof(*request->own));
	if (!request->own)
		goto failed;
	request->own->begun = now_ms();
	request->own->memory = malloc(size + 1);
	if (!request->own->memory)
		goto failed;
	memcpy(request->own->memory, data, size);
	request->own->memory[size] = '\0';
	status = take_apart(request, size);
	if (!status) {
		metrics_count(METRIC_REQUESTS);
		return request;
	}
failed:
	request_free(request);
	*ret_status = status;
	return NULL;
}

struct request *request_free(struct request *request)
{
	if (!request)
		return NULL;
	if (request->own) {
		free(request->own->memory);
		free(request->own->cut);
		free(request->own->body);
		free(request->own);
	}
	free(request);
	return NULL;
}

void request_lost(struct request *request)
{
	void (*gone)(void *arg) = request->own->gone;

	request->conn = NULL;
	if (!request->own->held) {
		request_free(request);
		return;
	}
	request->own->gone = NULL;
	if (gone)
		gone(request->own->gone_arg);
}

/* ---- what a handler asks ---- */

const char *http_header(const struct request *request, const char *name)
{
	return parse_find(request->own->head.header, request->own->head.headers, name);
}

const char *http_query(const struct request *request, const char *name)
{
	return parse_find(request->own->query, request->own->queries, name);
}

int http_body_json(const struct request *request, json_t **ret_object, struct err *err)
{
	json_error_t error;
	json_t *object;
	char escaped[128];

	if (!request->body_size) {
		object = json_object();
		if (!object)
			return err_set(err, -ENOMEM, "no memory");
		*ret_object = object;
		return 0;
	}
	object = json_loadb(request->body, request->body_size, JSON_REJECT_DUPLICATES, &error);
	if (!json_is_object(object)) {
		json_decref(object);
		return err_set(err, -EINVAL, "the body is no JSON object: %s",
			       object ? "another value"
				      : escape_string(escaped, sizeof(escaped), error.text));
	}
	*ret_object = object;
	return 0;
}

int64_t http_body_length(const struct request *request)
{
	return request->own->head.chunked ? -1 : (int64_t)request->own->head.length;
}

void http_on_gone(struct request *request, void (*gone)(void *arg), void *arg)
{
	request->own->gone = gone;
	request->own->gone_arg = arg;
}

void http_add_header(struct request *request, const char *name, const char *value)
{
	struct request_parts *own = request->own;
	size_t room = sizeof(own->added) - own->added_size;
	int size;

	for (const char *c = value; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return;
	size = snprintf(own->added + own->added_size, room, "%s: %s\r\n", name, value);
	if (size > 0 && (size_t)size < room)
		own->added_size += (size_t)size;
	own->added[own->added_size] = '\0';
}

/* ---- bodies ---- */

void http_take_body(struct request *request, const struct http_sink *sink, void *arg)
{
	request->own->body_wanted = true;
	request->own->sink = *sink;
	request->own->sink_arg = arg;
	if (!request->conn)
		return;
	if (request->own->head.expects) {
		static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
		struct iovec part = {(void *)(uintptr_t)text, sizeof(text) - 1};

		(void)conn_write(request->conn, &part, 1);
	}
	if (!request->own->head.chunked && !request->own->head.length) {
		sink->end(arg);
		return;
	}
	conn_set_state(request->conn, CONN_BODY);
	conn_touch(request->conn);
}

size_t request_body_max(const struct route *route)
{
	if (route->who == ROUTE_ANYBODY)
		return REQUEST_STRANGER_MAX;
	return route->flags & ROUTE_LARGE ? REQUEST_LARGE_MAX : REQUEST_BODY_MAX;
}

int request_body(struct request *request, const char *data, size_t size)
{
	struct request_parts *own = request->own;
	size_t most = request_body_max(own->route);
	struct conn *conn = request->conn;

	if (own->body_wanted) {
		int code = own->sink.data(own->sink_arg, data, size);

		if (code >= 0)
			return 0;
		return conn->request == request ? -1 : 0; /* it was answered */
	}
	if (size > most - request->body_size)
		return 413;
	if (request->body_size + size + 1 > own->body_room) {
		size_t room = (request->body_size + size) * 2 + 64;
		char *more = realloc(own->body, room);

		if (!more)
			return 503;
		own->body = more;
		own->body_room = room;
	}
	memcpy(own->body + request->body_size, data, size);
	request->body_size += size;
	own->body[request->body_size] = '\0';
	request->body = own->body;
	return 0;
}

void request_complete(struct request *request)
{
	if (request->own->body_wanted) {
		request->own->sink.end(request->own->sink_arg);
		return;
	}
	request->own->held = true;
	request->own->route->handler(request);
}

/* ---- answers ---- */

static const char common[] = "X-Content-Type-Options: nosniff\r\n"
			     "Referrer-Policy: no-referrer\r\n"
			     "Cross-Origin-Resource-Policy: same-origin\r\n"
			     "X-Frame-Options: DENY\r\n";
static const char closed_policy[] =
	"Content-Security-Policy: default-src 'none'; frame-ancestors 'none'; sandbox\r\n";

/* The head of an answer with `size` bytes of body; -1: none may follow. */
static bool put_head(struct request *request, int status, const char *type, int64_t size)
{
	const char *added = request->own->added;
	char head[HEAD_SIZE], length[48] = "", kind[160] = "";
	struct iovec part = {head, 0};
	int count;

	if (size >= 0)
		(void)snprintf(length, sizeof(length), "Content-Length: %" PRId64 "\r\n", size);
	if (type)
		(void)snprintf(kind, sizeof(kind), "Content-Type: %s\r\n", type);
	count = snprintf(head, sizeof(head),
			 "HTTP/1.1 %d %s\r\nServer: cellwall\r\n%s%s%s%s%s%s%s\r\n", status,
			 request_reason(status), kind, length, common,
			 strstr(added, "Content-Security-Policy:") ? "" : closed_policy,
			 strstr(added, "Cache-Control:") ? "" : "Cache-Control: no-store\r\n",
			 request->conn->keep ? "" : "Connection: close\r\n", added);
	if (count < 0 || (size_t)count >= sizeof(head))
		return false;
	part.iov_len = (size_t)count;
	return conn_write(request->conn, &part, 1) == 0;
}

static void count_status(int status)
{
	if (status >= 500)
		metrics_count(METRIC_REQUESTS_FAILED);
	else if (status >= 400)
		metrics_count(METRIC_REQUESTS_REFUSED);
}

/* The end of every answer: the request goes, its connection goes on. */
static void finish(struct request *request, int status, bool put)
{
	struct conn *conn = request->conn;

	count_status(status);
	gate_log(request, status);
	if (conn) {
		if (put)
			conn_answered(conn);
		else
			conn->request = NULL;
	}
	request_free(request);
	if (conn && !put)
		conn_close(conn);
}

/* What was not read of a body would be taken for the next request. */
static void settle_body(struct request *request)
{
	struct conn *conn = request->conn;
	bool body = request->own->head.chunked ? conn->chunks.state != CHUNK_DONE
					       : conn->body_left != 0;

	if (body)
		conn->keep = false;
}

void http_bytes(struct request *request, int status, const char *type, const void *data,
		size_t size)
{
	struct iovec part = {(void *)(uintptr_t)data, size};
	bool put = false;

	if (request->conn) {
		settle_body(request);
		put = put_head(request, status, type, status == 204 ? -1 : (int64_t)size);
		if (put && size && request->method != HTTP_HEAD)
			put = conn_write(request->conn, &part, 1) == 0;
	}
	finish(request, status, put);
}

void http_empty(struct request *request, int status)
{
	http_bytes(request, status, NULL, "", 0);
}

void http_json(struct request *request, int status, json_t *body)
{
	char *text = body ? json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	json_decref(body);
	if (!text) {
		http_bytes(request, 503, "text/plain", "no memory\n", 10);
		return;
	}
	http_bytes(request, status, "application/json", text, strlen(text));
	free(text);
}

void http_error(struct request *request, int status, const char *reason, const char *format, ...)
{
	char text[1024], escaped[1200];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	http_json(request, status,
		  json_pack("{s:s, s:s}", "reason", reason ? reason : request_reason(status),
			    "message", escape_line(escaped, sizeof(escaped), text)));
}

void request_refuse(struct conn *conn, int status)
{
	char text[256];
	struct iovec part = {text, 0};
	int size = snprintf(text, sizeof(text),
			    "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nConnection: close\r\n"
			    "Content-Length: %zu\r\n\r\n%s\n",
			    status, request_reason(status), strlen(request_reason(status)) + 1,
			    request_reason(status));

	metrics_count(METRIC_REQUESTS);
	count_status(status);
	part.iov_len = (size_t)size;
	(void)conn_write(conn, &part, 1);
	conn_finish(conn);
}

/* ---- files ---- */

/* attachment; filename*=UTF-8''… (RFC 6266, RFC 8187) */
static void add_attachment(struct request *request, const char *name)
{
	char text[1024] = "attachment; filename*=UTF-8''";
	size_t size = strlen(text);

	for (; *name && size + 4 < sizeof(text); name++) {
		unsigned char c = (unsigned char)*name;

		if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		    strchr("._-", c))
			text[size++] = (char)c;
		else
			size += (size_t)snprintf(text + size, 4, "%%%02X", c);
	}
	text[size] = '\0';
	http_add_header(request, "Content-Disposition", text);
}

void http_file(struct request *request, int fd, uint64_t size, const char *type, const char *name,
	       const char *etag)
{
	const char *range = http_header(request, "range");
	const char *if_range = http_header(request, "if-range");
	uint64_t from = 0, count = size;
	char text[96];
	int status = 200, found = 0;
	bool put = false;

	if (range && (!if_range || (etag && strcmp(if_range, etag) == 0)))
		found = parse_range(range, size, &from, &count);
	if (found < 0) {
		close_fd(&fd);
		(void)snprintf(text, sizeof(text), "bytes */%" PRIu64, size);
		http_add_header(request, "Content-Range", text);
		http_empty(request, 416);
		return;
	}
	if (found) {
		(void)snprintf(text, sizeof(text), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, from,
			       from + count - 1, size);
		http_add_header(request, "Content-Range", text);
		status = 206;
	}
	http_add_header(request, "Accept-Ranges", "bytes");
	if (etag)
		http_add_header(request, "ETag", etag);
	if (name)
		add_attachment(request, name);
	if (request->conn) {
		struct conn *conn = request->conn;

		settle_body(request);
		put = put_head(request, status, type, (int64_t)count);
		if (put && request->method != HTTP_HEAD && count) {
			conn->file = steal_fd(&fd);
			conn->file_offset = from;
			conn->file_left = count;
			metrics_add(METRIC_DOWNLOADED_BYTES, count);
		}
	}
	close_fd(&fd);
	finish(request, status, put);
}
