/*
 * guard: what a message's direction, channel and type mean for its way, and which rule looks at
 * what is in it. Pure functions behind one table.
 *
 * A type that the table does not name passes from a client and is refused from the kernel.
 */
#ifndef PROXY_GUARD_H
#define PROXY_GUARD_H

#include "proxy/content.h"
#include "sandbox/wall.h"

enum guard_direction { GUARD_INWARD, GUARD_OUTWARD }; /* from a client; from the kernel */

enum guard_verdict {
	GUARD_PASS,
	GUARD_DROP,   /* goes no further, as it should */
	GUARD_REFUSE, /* goes no further: a kernel has no business with it */
	GUARD_CELL,   /* a request to run code: it is the parent of what the proxy has to say */
	GUARD_URGENT, /* must find the kernel running: a paused one is continued first */
	GUARD_RESULT, /* ends a cell: held until its files are in staging/out */
	GUARD_STATUS, /* ends a cell when it says idle */
	GUARD_ERROR,  /* a cell's error: it may name what was not staged, see hint.h */
};

struct guard {
	enum guard_verdict verdict;
	enum content_rule rule;
	const char *msg_type; /* the table's own copy; of an unknown type NULL */
};

/* `extra_types`: further types of iopub that pass, NULL-terminated; may be NULL. */
struct guard guard_judge(enum guard_direction direction, enum wall_channel channel,
			 const char *msg_type, char *const *extra_types);

#endif
