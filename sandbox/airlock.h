/*
 * airlock: how the relay locks itself in before it touches anything that the kernel can reach.
 *
 * In: a process with full capabilities in its own user, mount and pid namespace, and a descriptor
 * of the shared socket tmpfs. Out: the same process with that tmpfs at RELAY_SOCKETS in an empty
 * read-only root, no capability, and a system call filter that ends it when it asks for anything a
 * relay does not need.
 *
 * The steps are one table in airlock.c. Single-threaded: capabilities(7), seccomp(2) and the root
 * directory of a thread that exists already would not change. Never logs; an error starts with the
 * name of its step.
 */
#ifndef SANDBOX_AIRLOCK_H
#define SANDBOX_AIRLOCK_H

#include "sandbox/base.h"

struct airlock {
	int lifeline; /* read end; see process.h */
	bool plain;   /* without namespaces: Landlock instead of a root of its own */
	int sockets;  /* the tmpfs: a detached mount (open_tree(2)) or a plain directory; closed by
			 airlock_enter */
};

/* Runs every step. Returns 0, or a negative errno; after a failure the process is of no use but to
 * say so. */
int airlock_enter(struct airlock *airlock, struct err *err);

/* The filter alone: airlock_enter's last step. For good, for this thread and all that it starts. */
int airlock_filter(struct err *err);

#endif
