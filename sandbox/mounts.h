/*
 * mounts: the new root, from the tables in mounts.c and etc.c and the sources of the spec.
 */
#ifndef SANDBOX_MOUNTS_H
#define SANDBOX_MOUNTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "sandbox/base.h"

struct build;

/* Stages of the builder. */
int mounts_private(struct build *build,
		   struct err *err); /* nothing is propagated to or from the host */
int mounts_root(struct build *build, struct err *err); /* the new root, with the sockets in it */
int mounts_build(struct build *build, struct err *err);

/* Calls `found` for each host path that the tables want to see inside. Stops at the first negative
 * result. */
typedef int mounts_host_fn(void *arg, bool device, const char *path);
int mounts_each_host_path(mounts_host_fn *found, void *arg);

/* openat2(2), never through a magic link; `resolve` adds to that. Returns a descriptor or a
 * negative errno. */
int mounts_openat2(int directory, const char *path, int flags, uint64_t resolve);
/* The same below `root`, as if that were "/". */
int mounts_open(int root, const char *path, int flags);

/*
 * An unattached mount of a file system, `options` as "key=value" or "key" strings up to a NULL;
 * `attributes` of fsmount(2). Returns a descriptor or a negative errno.
 */
int mounts_new(const char *type, const char *const *options, unsigned attributes, struct err *err);
/* Opens `target` below the new root `root`, making what is missing in our own tmpfs mounts. Returns
 * an O_PATH descriptor or a negative errno; -EROFS: it would have to be made in a bind. */
int mounts_place(int root, const char *target, bool directory);
/* Attaches a detached mount to what `place` (O_PATH) is open on. */
int mounts_attach(int mount, int place, struct err *err);

#endif
