/*
 * confine: the trusted side's own system call filters (seccomp(2)).
 *
 * Once a process has everything it needs it gives up what it will never ask for again: to execute,
 * to make sockets, processes and mappings that can be executed, to trace, mount or change its user.
 * A bug in what faces the kernel's bytes then finds less to work with. A call that is not listed
 * answers EPERM. Not in builds with a sanitizer, whose runtime asks for more. Never logs.
 */
#ifndef SANDBOX_CONFINE_H
#define SANDBOX_CONFINE_H

#include "sandbox/base.h"

enum confine_as {
	CONFINE_PROXY = 1,	/* threads of libzmq and of its own, clients' connections */
	CONFINE_SUPERVISOR = 2, /* after its last fork */
	CONFINE_COLLECTOR = 4,	/* files */
	CONFINE_EXAMINER = 8,	/* its one socket and memory */
	CONFINE_TEMPLATE = 16,	/* that forks the examiner */
	CONFINE_EGRESS = 32,	/* a connection of a build that is being copied */
	CONFINE_NEAR = 64,	/* as a proxy without files, and it connects to its host */
};

/* For every thread of the process, for good. Returns 0 or a negative errno. */
int confine_enter(enum confine_as as, struct err *err);

#endif
