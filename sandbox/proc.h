/*
 * proc: a fresh /proc of the sandbox's own pid namespace, with what tells of the host masked.
 */
#ifndef SANDBOX_PROC_H
#define SANDBOX_PROC_H

#include "sandbox/base.h"

struct build;

/* Stages of pid 1: the mount, while the host's /proc is still mounted somewhere (the system asks
 * for that in a user namespace). */
int proc_mount(struct build *build, struct err *err);
int proc_mask(struct build *build, struct err *err); /* and what hides or protects parts of it */

#endif
