/*
 * sealed_parts: what seal.c and sealed_collect.c have in common, for these alone.
 */
#ifndef KERNELSPEC_SEALED_PARTS_H
#define KERNELSPEC_SEALED_PARTS_H

#include "sandbox/base.h"

/* flock(2)s the store with `how`: shared while something is built, alone while something is
 * removed. Returns a descriptor, -EBUSY, or another negative errno. */
int sealed_lock(const char *store, int how, struct err *err);
/* Removes the directories of `builds` (lent) whose users are dead: each is locked by who uses it.
 */
void sealed_remove_dead(int builds);

#endif
