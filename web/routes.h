/*
 * routes: which handler answers what, and who may ask: one table, in routes.c.
 */
#ifndef WEB_ROUTES_H
#define WEB_ROUTES_H

#include <stdbool.h>
#include <stddef.h>

#include "web/http.h"

enum route_who {
	ROUTE_ANYBODY, /* no user is needed (login, static page) */
	ROUTE_USER,
	ROUTE_ADMIN /* users with "admin", or the local one of the Unix socket */
};
enum {
	ROUTE_STREAM = 1,  /* the body is not collected: http_take_body */
	ROUTE_UPGRADE = 2, /* a WebSocket: ?token= is looked at */
	ROUTE_LARGE = 4	   /* a body of up to 16 MiB (JSON of a request) instead of 1 MiB */
};

struct route {
	unsigned methods;    /* HTTP_GET | … ; GET includes HEAD */
	const char *pattern; /* "/api/kernels/{}": {} is one part, a last {...} one or more */
	enum route_who who;
	unsigned flags;
	void (*handler)(struct request *request); /* part[] holds all parts of the path */
};

/*
 * The route of a path that was cut into parts. Returns NULL when there is none; *ret_methods is
 * then what other methods this path has (0: 404, else 405). Pure.
 */
const struct route *routes_find(unsigned method, char *const *part, size_t parts,
				unsigned *ret_methods);

#endif
