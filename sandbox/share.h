/*
 * share: the sandbox's share of the machine, as far as its own processes take it on themselves.
 * Stages of the builder, pid 1 and the kernel; what the supervisor does is in bounds.h.
 */
#ifndef SANDBOX_SHARE_H
#define SANDBOX_SHARE_H

#include "sandbox/base.h"

struct build;

/* Builder: into its cgroup, when there is one, before anything is made; and first to go when the
 * whole machine runs out of memory. */
int share_enter(struct build *build, struct err *err);
/* pid 1: bounds shared memory of System V. */
int share_segments(struct build *build, struct err *err);
/* pid 1: hands /proc and the mounts that live in memory to the supervisor. */
int share_show(struct build *build, struct err *err);
/* Kernel: on as many processors as it may use, for good, where no cgroup counts their time. */
int share_processors(struct build *build, struct err *err);

#endif
