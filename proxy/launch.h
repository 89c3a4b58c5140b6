/*
 * launch: spawns cellwall-sandbox, the only process the proxy starts, and holds its four handles.
 *
 * By posix_spawn(3) from the main thread (PR_SET_PDEATHSIG fires when the thread ends that started
 * it, so never from another), with an empty environment: what a process was started with shows in
 * /proc/PID/environ.
 */
#ifndef PROXY_LAUNCH_H
#define PROXY_LAUNCH_H

#include <sys/types.h>

#include "sandbox/base.h"
#include "sandbox/spec.h"

struct launch {
	pid_t pid;    /* the supervisor; -1 when there is none */
	int pidfd;    /* readable when it has ended */
	int status;   /* our end of the status socket, non-blocking */
	int lifeline; /* write end: closed by our death, however it comes */
};

/* Starts `program` (the path of cellwall-sandbox) with `spec`. Returns 0 or a negative errno. */
int launch_start(const char *program, const struct spec *spec, struct launch *ret_launch,
		 struct err *err);
/* Closes the handles (the supervisor then ends everything by itself) and reaps it, waiting at most
 * `wait_ms`. */
void launch_done(struct launch *launch, int wait_ms);

#endif
