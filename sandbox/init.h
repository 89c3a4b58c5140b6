/*
 * init: pid 1 of the sandbox. It reaps, passes signals on, stops and continues everything, and when
 * the kernel ends it ends, which takes everything else in the pid namespace with it
 * (pid_namespaces(7)).
 *
 * It shares its pid namespace with hostile processes of its own uid: it is not dumpable, holds
 * nothing but its lifeline and its control socket, and runs under an allow list of system calls.
 */
#ifndef SANDBOX_INIT_H
#define SANDBOX_INIT_H

#include <stdint.h>

#include "sandbox/base.h"

struct build;

/* Supervisor -> pid 1, one byte each. */
enum init_command {
	INIT_INTERRUPT = 'i', /* SIGINT to the kernel's process group */
	INIT_TERMINATE = 't', /* SIGTERM to it */
	INIT_PAUSE = 'p',     /* SIGSTOP to everything, answered */
	INIT_RESUME = 'r',    /* SIGCONT to everything, answered */
};

/* pid 1 -> supervisor. Read with recv(2): no descriptor comes along. */
enum init_word { INIT_ENDED = 1, INIT_PAUSED = 2, INIT_RESUMED = 3 };

struct init_report {
	uint32_t word;
	int32_t value;	/* ended: exit code; paused: 1 when every process was seen stopped */
	int32_t signal; /* ended: the signal, or 0 */
};

/* Stages. */
int init_start(struct build *build,
	       struct err *err); /* builder: clones pid 1, which does not come back */
int init_enter(struct build *build, struct err *err);	/* pid 1: into the new root */
int init_leave(struct build *build, struct err *err);	/* pid 1: the host's is gone */
int init_release(struct build *build, struct err *err); /* pid 1: its child may go on */
int init_lock(struct build *build, struct err *err);	/* pid 1: no user namespace after U2 */
int init_quiet(struct build *build,
	       struct err *err); /* pid 1: lets go of what only the start needed */

#endif
