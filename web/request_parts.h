/*
 * request_parts: what of a request its handler does not see. For the HTTP rooms alone.
 */
#ifndef WEB_REQUEST_PARTS_H
#define WEB_REQUEST_PARTS_H

#include "web/http.h"
#include "web/parse.h"
#include "web/routes.h"

#define REQUEST_STRANGER_MAX 4096u /* on routes that ask for nobody */
#define REQUEST_BODY_MAX     (1024u * 1024)
#define REQUEST_LARGE_MAX    (16u * 1024 * 1024)
#define REQUEST_ADDED_MAX    4096u /* bytes of added headers */

struct request_parts {
	struct parse_head head;
	char *memory; /* the head's text */
	char *cut;    /* the path, cut and decoded */
	struct http_pair query[HTTP_QUERY_MAX];
	size_t queries;
	const struct route *route;
	char *body;
	size_t body_room;
	bool held;	  /* a handler or the gate has it: it is not freed below them */
	bool body_wanted; /* http_take_body was called */
	struct http_sink sink;
	void *sink_arg;
	void (*gone)(void *arg);
	void *gone_arg;
	char added[REQUEST_ADDED_MAX];
	size_t added_size;
	int64_t begun;
};

/*
 * A request of one head; copies it. NULL with the status to refuse it with (400 …, 503: no memory).
 */
struct request *request_new(struct conn *conn, const char *data, size_t size, int *ret_status);
struct request *request_free(struct request *request); /* accepts NULL; returns NULL */
/* The client is gone: tells the handler. */
void request_lost(struct request *request);
/* Bytes of a body that this route collects. */
size_t request_body_max(const struct route *route);
/* One part of the body; 0, or the status to refuse it with (413, 503), or -1: end the connection.
 */
int request_body(struct request *request, const char *data, size_t size);
/* All of the body is there. Calls the handler, or the sink's end. */
void request_complete(struct request *request);
/* A refusal of something that never became a request. */
void request_refuse(struct conn *conn, int status);
const char *request_reason(int status);
const char *request_method(enum http_method method);

/* websocket.c */
/* Returns how much was used: less when it is paused. */
size_t websocket_feed(struct conn *conn, const char *data, size_t size);
void websocket_tick(struct conn *conn); /* pings */
/* Users have changed: closes those whose token has ended. */
void websocket_check_all(struct conns *conns);
void websocket_flushed(struct conn *conn); /* some of the queue was written */
void websocket_end(struct conn *conn);	   /* frees it, calls `closed` */

#endif
