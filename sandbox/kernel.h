/*
 * kernel: from a fork of pid 1 to the kernel's first instruction.
 */
#ifndef SANDBOX_KERNEL_H
#define SANDBOX_KERNEL_H

#include "sandbox/base.h"

struct build;

/* Stage of pid 1: forks the kernel; sets build->kernel. */
int kernel_start(struct build *build, struct err *err);
/* Stages of the kernel. */
int kernel_detach(struct build *build,
		  struct err *err); /* own session, own three descriptors, no other */
int kernel_prepare(struct build *build, struct err *err); /* signals, umask, /work */
int kernel_wait(struct build *build, struct err *err);	  /* until the host's root is gone */
int kernel_execute(struct build *build, struct err *err); /* does not come back when it succeeds */

#endif
