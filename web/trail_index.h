/*
 * trail_index: which audit log (proxy/logbook.h) is which kernel's, for trail.c alone.
 *
 * In: the directory of the logs, its descriptor. Out: the names of a kernel's, in order. The first
 * line of each is read once, so many of them at a time. Never logs.
 */
#ifndef WEB_TRAIL_INDEX_H
#define WEB_TRAIL_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "proxy/logbook.h"

#define TRAIL_KERNEL 65 /* of an ID, as audit.c has it */

struct trail_file {
	char name[LOGBOOK_NAME], kernel[TRAIL_KERNEL];
	enum {
		TRAIL_UNKNOWN,
		TRAIL_KNOWN,
		TRAIL_EMPTY /* had no whole first line, or could not be read: looked at again */
	} state;
};

struct trail_index {
	struct trail_file *file; /* oldest first */
	size_t count, unknown;
	struct timespec changed; /* the directory, when it was listed */
	bool settled;		 /* it will change its time with whatever comes */
	int64_t listed;		 /* now_ms() */
	unsigned generation;	 /* goes up with each new name that is known */
};

/* Lists the directory again when it has changed. */
void trail_index_look(struct trail_index *index, int directory);
/* Reads the first lines of up to `most` new logs, the newest first. Returns true when all are
 * known. */
bool trail_index_learn(struct trail_index *index, int directory, unsigned most);
/* The kernel's first log that is newer than `name` ("": the oldest), or its last that is older
 * ("": the newest). NULL: there is none. Valid until the next look. */
const char *trail_index_newer(const struct trail_index *index, const char *kernel,
			      const char *name);
const char *trail_index_older(const struct trail_index *index, const char *kernel,
			      const char *name);
void trail_index_done(struct trail_index *index);

/* The log's descriptor, and its size; -1 when it is not to be had. */
int trail_open(int directory, const char *name, uint64_t *ret_size);

#endif
