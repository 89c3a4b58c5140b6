/*
 * landlock: a second lock on the files that the mount namespace shows.
 *
 * What the kernel may read and write is said once more, by hierarchy: should a mount be wrong, a
 * directory of the host be reachable through a descriptor or a link, or the mount namespace have a
 * hole, nothing outside the places named here opens. Where the system has them (ABI 6), signals and
 * abstract sockets end at the sandbox too, and sockets with a path that others made (ABI 9). TCP
 * ports are not restricted: lo is the kernel's own. Never logs.
 */
#ifndef SANDBOX_LANDLOCK_H
#define SANDBOX_LANDLOCK_H

#include "sandbox/base.h"

struct build;

/* Stage of the kernel, after all mounts. Returns 0, also where there is no Landlock. */
int landlock_kernel(struct build *build, struct err *err);

#endif
