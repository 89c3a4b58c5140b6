/*
 * staging_parts: what staging.c (the private directory's life) and collect.c (the collector) share.
 * For them alone.
 */
#ifndef SANDBOX_STAGING_PARTS_H
#define SANDBOX_STAGING_PARTS_H

#include <time.h>

#include "sandbox/changes.h"
#include "sandbox/copy.h"
#include "sandbox/seen.h"
#include "sandbox/staging.h"
#include "sandbox/tree.h"

/* A copy that a deadline interrupted, to be continued by the next call. */
struct partial {
	struct copy copy;
	char *path; /* NULL: none */
	struct seen_source source;
};

struct staging {
	char *directory, *work, *out;
	int fd;	  /* of STATE/<id> */
	int lock; /* flock(2)ed; shared with forked children through the same open file description
		   */
	int work_fd;
	uid_t owner; /* of work/; whatever belongs to somebody else was not made by the kernel */
	mode_t mask; /* permission bits that results never get */
	uint64_t max_bytes, max_files;
	struct timespec since;	/* when the run began, by the clock of the private directory */
	struct timespec opened; /* when this process began with it */
	uint64_t *stubs;	/* inodes of the empty files that staging_place made */
	size_t stub_count;
	struct seen seen;
	struct walk walk;
	struct partial partial;
	struct changes changes;
	bool leases;	/* tell whether a file is open for writing */
	bool swept;	/* of what a killed collector left in OUT */
	bool said_many; /* that more names are refused than are said */
};

void partial_drop(struct partial *partial); /* result.c */

/* places.c: reads the inodes of the places' files. */
int places_read(struct staging *staging, struct err *err);

/* A private directory in the making: this and its id. */
#define STAGING_NEW ".new-"
#define STAGING_ID  32 /* hex digits */

/* As staging_open without the lock, for looking only; the limits are those of the run. */
int staging_peek(const char *directory, struct staging **ret_staging, struct err *err);

#endif
