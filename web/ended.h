/*
 * ended: the kernels that were here, for who asks afterwards what they did: the page shows their
 * logs.
 *
 * In: each kernel that ends, however it does. Out: what it was, by owner and ID, the newest first.
 * Bounded: ENDED_EACH of an owner, ENDED_ALL in all, then the oldest goes; nothing of it outlives
 * this process. Never logs.
 */
#ifndef WEB_ENDED_H
#define WEB_ENDED_H

#include <stddef.h>
#include <time.h>

#define ENDED_EACH 20
#define ENDED_ALL  400

struct ended_kernel {
	char *id, *spec, *owner, *area, *reason;
	unsigned restarts;
	struct timespec started, ended; /* CLOCK_REALTIME */
};

struct ended;

struct ended *ended_new(void);		       /* NULL: no memory */
struct ended *ended_free(struct ended *ended); /* accepts NULL; returns NULL */

/* Copies; without memory for it, it is forgotten. */
void ended_add(struct ended *ended, const struct ended_kernel *kernel);
/* The first, and the one that follows it, of this owner (NULL: of anybody). NULL: there is none.
 * Valid until the next ended_add. */
const struct ended_kernel *ended_next(const struct ended *ended, const char *owner,
				      const struct ended_kernel *before);
const struct ended_kernel *ended_find(const struct ended *ended, const char *owner, const char *id);

#endif
