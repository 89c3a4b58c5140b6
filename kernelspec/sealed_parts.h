/*
 * sealed_parts: what sealed.c, seal.c and sealed_collect.c have in common, for these alone.
 */
#ifndef KERNELSPEC_SEALED_PARTS_H
#define KERNELSPEC_SEALED_PARTS_H

#include <sys/types.h>

#include "sandbox/base.h"

#define RECORD_BYTES ((size_t)1 << 20) /* of a generation, as it is written */

/* flock(2)s the store with `how`: shared (LOCK_SH) while something is built, which waits for one
 * who removes, or alone (LOCK_EX) while something is removed, which does not wait. Returns a
 * descriptor, -EBUSY, -ETIMEDOUT (it waited in vain), -EINTR (a signal that is blocked came), or
 * another negative errno. */
int sealed_lock(const char *store, int how, struct err *err);
/* Until the end of the scope, what is made is readable by everybody where the store is the shared
 * one, whatever the umask. */
#define SEALED_UMASK(store)                                                                        \
	cleanup(sealed_umask_back) __attribute__((unused)) const mode_t umask_before =             \
		sealed_umask(store)
mode_t sealed_umask(const char *store);
void sealed_umask_back(const mode_t *before);
/* Removes the directories of `builds` (lent) whose users are dead: each is locked by who uses it.
 */
void sealed_remove_dead(int builds);

#endif
