/*
 * http: a request as a handler sees it, and the answers it can give.
 *
 * A handler (web/routes.c) gets a request that was parsed, bounded, authenticated and allowed. It
 * owns it from then on and answers it exactly once, at once or later from the loop: every http_*
 * answer takes the request. A client that goes away meanwhile does no harm: the answer is then
 * thrown away; who wants to know of it sets http_on_gone.
 *
 * HTTP/1.1 and RFC 6455 are spoken by rooms of our own (web/parse.h, web/conn.h, web/wsframe.h)
 * over OpenSSL and web/loop.h, not by libwebsockets: Debian 12's 4.1.6 answers `Upgrade: h2c` with
 * 101, has an unmended use after free in its upgrade (NN-2025-0102), takes no chunked bodies and
 * needs a poll(2) of every connection for every message. A kernel's WebSocket is made by
 * http_upgrade, fed by websocket_calls and written with websocket_send.
 *
 * What is in a request comes from strangers: names and paths have been cut at "/" and decoded, no
 * part is empty, "." or "..", or holds a NUL, a "/" or a control character; nothing else was
 * checked. Never logs, never blocks.
 */
#ifndef WEB_HTTP_H
#define WEB_HTTP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "sandbox/base.h"

struct server;
struct user;
struct conn;
struct request;
struct websocket;

#define HTTP_PARTS_MAX	 24
#define HTTP_HEADERS_MAX 64
#define HTTP_QUERY_MAX	 16

enum http_method {
	HTTP_GET = 1,
	HTTP_HEAD = 2,
	HTTP_POST = 4,
	HTTP_PUT = 8,
	HTTP_DELETE = 16,
	HTTP_PATCH = 32,
	HTTP_OPTIONS = 64
};

struct http_pair {
	const char *name;
	const char *value;
};

struct request {
	struct server *server;
	struct conn *conn;	 /* NULL once the client is gone */
	const struct user *user; /* NULL only on routes that ask for nobody */
	enum http_method method;
	const char
		*path; /* without base URL and query, as the client wrote it; escape it in logs */
	char *part[HTTP_PARTS_MAX]; /* decoded; part[0] of /api/kernels is "api" */
	size_t parts;
	const void *body; /* what came, NUL-terminated; empty for streamed bodies */
	size_t body_size;
	char address[64]; /* of the client, as trusted proxies say it; for logs and metrics */
	struct request_parts *own;
};

/* NULL when it is not there. `name` in lower case. Borrowed until the answer. */
const char *http_header(const struct request *request, const char *name);
const char *http_query(const struct request *request, const char *name);
/* The body as a JSON object (an empty body counts as {}); caller decrefs. -EINVAL with words when
 * it is none: answer 400. */
int http_body_json(const struct request *request, json_t **ret_object, struct err *err);

/* `gone` is called once when the client goes away before the answer; `arg` is borrowed. */
void http_on_gone(struct request *request, void (*gone)(void *arg), void *arg);

/* One more header of the answer, before it is given. Values with control characters are refused
 * (left out). */
void http_add_header(struct request *request, const char *name, const char *value);

/* ---- answers: each takes the request ---- */

void http_empty(struct request *request, int status);
void http_json(struct request *request, int status, json_t *body); /* takes the body too */
/* {"reason": the status's words or `reason`, "message": …}: both are shown to the user by Jupyter.
 */
void http_error(struct request *request, int status, const char *reason, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* Copies. */
void http_bytes(struct request *request, int status, const char *type, const void *data,
		size_t size);
/*
 * A regular file: takes the descriptor, sends its first `size` bytes or what a Range asks of them
 * (206, 416), as an attachment named `name` unless NULL, with nosniff and a CSP sandbox.
 */
void http_file(struct request *request, int fd, uint64_t size, const char *type, const char *name,
	       const char *etag);

/*
 * The body of a streamed route (ROUTE_STREAM) as it comes: `data` returns 0, or a negative errno
 * after which nothing more comes (it may have answered the request, else the connection ends);
 * `end` once when all is there. Not called when the client goes away: http_on_gone tells.
 */
struct http_sink {
	int (*data)(void *arg, const void *data, size_t size);
	void (*end)(void *arg);
};
void http_take_body(struct request *request, const struct http_sink *sink, void *arg);
/* What Content-Length says; -1 for chunked. */
int64_t http_body_length(const struct request *request);

/* ---- WebSockets (RFC 6455) ---- */

struct websocket_calls {
	/* One whole message; borrowed for the call, writable. Text is valid UTF-8. */
	void (*message)(void *arg, bool binary, void *data, size_t size);
	/* The queue was above WEBSOCKET_LOW and is below it again. */
	void (*drained)(void *arg);
	/* The client has read all that was sent before websocket_ping(mark). It may lie. NULL:
	 * nobody asks. */
	void (*pong)(void *arg, uint64_t mark);
	/* Once, last, from the loop: also after websocket_close. The websocket is gone then. `code`
	 * 1006 when the client said none. */
	void (*closed)(void *arg, unsigned code);
};
#define WEBSOCKET_LOW (1u * 1024 * 1024)

/*
 * Takes the request (checked already: method, headers, Origin) and answers 101 with `protocol` (one
 * that http_offers found, or NULL for none). A message above `message_max` closes with 1009. Pings,
 * pongs, fragments and the closing handshake are done here. Returns NULL when the client is gone:
 * nothing is called then.
 */
struct websocket *http_upgrade(struct request *request, const char *protocol, size_t message_max,
			       const struct websocket_calls *calls, void *arg);
/* True when the request wants to become a WebSocket. */
bool http_wants_upgrade(const struct request *request);
/* True when the client offers this subprotocol. */
bool http_offers(const struct request *request, const char *protocol);

/* Sends one message made of the parts, copied. Never blocks; returns 0, -EPIPE when it is closing,
 * or -ENOMEM. */
int websocket_send(struct websocket *websocket, bool binary, const struct iovec *parts,
		   size_t count);
/* Bytes that wait to be sent. */
size_t websocket_queued(const struct websocket *websocket);
/* Asks the client to say with `pong` that it has come so far (RFC 6455, 5.5.2 and 5.5.3); it may
 * answer the last of several alone. */
void websocket_ping(struct websocket *websocket, uint64_t mark);
/* While paused nothing is read from this client, so that it feels the back pressure. */
void websocket_pause(struct websocket *websocket, bool paused);
/* Sends what is queued, then the close frame; `closed` follows. Reasons are 123 bytes at the most.
 */
void websocket_close(struct websocket *websocket, unsigned code, const char *reason);

#endif
