/*
 * rlimit: the kernel's resource limits (setrlimit(2)), each inherited by all it starts and never
 * raised again.
 */
#ifndef SANDBOX_RLIMIT_H
#define SANDBOX_RLIMIT_H

#include "sandbox/base.h"

struct build;

/* For the supervisor and its children: a descriptor per source, and there may be hundreds. */
int rlimit_open_files(struct err *err);
/* Stage of the kernel: after U2 was entered, so that RLIMIT_NPROC counts what is in it only. */
int rlimit_kernel(struct build *build, struct err *err);
/* For the relay: RLIMIT_DATA is the bound of last resort for what it queues. */
int rlimit_relay(struct err *err);

#endif
