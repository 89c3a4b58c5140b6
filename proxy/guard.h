/*
 * guard: what a message's direction, channel and type mean for its way. Pure functions behind one
 * table.
 *
 * Any msg_type, known or not, passes; the table names those that the proxy acts on.
 */
#ifndef PROXY_GUARD_H
#define PROXY_GUARD_H

#include "sandbox/wall.h"

enum guard_direction { GUARD_INWARD, GUARD_OUTWARD }; /* from a client; from the kernel */

enum guard_verdict {
	GUARD_PASS,
	GUARD_DROP,   /* goes no further */
	GUARD_CELL,   /* a request to run code: it is the parent of what the proxy has to say */
	GUARD_URGENT, /* must find the kernel running: a paused one is continued first */
	GUARD_RESULT, /* ends a cell: held until its files are in staging/out */
	GUARD_STATUS, /* ends a cell when it says idle */
	GUARD_ERROR,  /* a cell's error: it may name what was not staged, see hint.h */
};

enum guard_verdict guard_judge(enum guard_direction direction, enum wall_channel channel,
			       const char *msg_type);

#endif
