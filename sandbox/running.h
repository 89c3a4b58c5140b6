/*
 * running: the private directory of a kernel that runs, looked at and written to from the host, for
 * `cellwall stage`. Everything in it may be changing under our hands: the rules of the collector
 * hold (tree.h). Never logs.
 */
#ifndef SANDBOX_RUNNING_H
#define SANDBOX_RUNNING_H

#include <stdbool.h>
#include <stdint.h>

#include "sandbox/base.h"

struct running_kernel {
	const char *id;	 /* 32 hex digits: the name of its private directory */
	const char *out; /* the staging/out its results go to */
	int64_t started; /* seconds since the epoch */
};

/* Called for each; strings are lent. */
typedef void running_kernel_fn(void *arg, const struct running_kernel *kernel);
/* Every kernel that runs now and whose results go to `out` (NULL: any). Returns 0 or the first
 * negative errno (it goes on past a failure). */
int running_list(const char *state, const char *out, running_kernel_fn *found, void *arg,
		 struct err *err);

enum running_kind {
	RUNNING_STAGED,	   /* from the host, read-only; `origin` says from where */
	RUNNING_NEW,	   /* written by the kernel, not in staging/out yet */
	RUNNING_CHANGED,   /* and changed since it was brought out */
	RUNNING_COLLECTED, /* in staging/out as it is */
	RUNNING_REFUSED,   /* `origin` is the reason */
};

struct running_file {
	const char *path; /* relative to /work, raw bytes */
	enum running_kind kind;
	uint64_t size;
	const char *origin; /* NULL but for RUNNING_STAGED and RUNNING_REFUSED */
};

typedef void running_file_fn(void *arg, const struct running_file *file);
/* What is in one kernel's /work; at most `limit` files. Returns 0, -E2BIG past the limit, or a
 * negative errno. */
int running_files(const char *state, const char *id, uint64_t limit, running_file_fn *found,
		  void *arg, struct err *err);

/*
 * Copies one regular file out of /work into the directory `target` under `name`, which must not
 * exist (-EEXIST); written under a temporary name first. `progress` (may be NULL) is called with
 * the bytes so far and in all; returning false stops (-ECANCELED).
 */
typedef bool running_progress_fn(void *arg, uint64_t done, uint64_t size);
int running_get(const char *state, const char *id, const char *path, int target, const char *name,
		running_progress_fn *progress, void *arg, struct err *err);
/*
 * Copies the open regular file `source` to `path` in /work, owned by the kernel's uid, replacing
 * nothing (-EEXIST), through no link that the kernel made (-ELOOP); missing directories are made.
 */
int running_put(const char *state, const char *id, int source, const char *path,
		running_progress_fn *progress, void *arg, struct err *err);

#endif
