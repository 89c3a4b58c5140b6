/*
 * start: the process of one kernel: its connection file, its environment, its end with ours.
 *
 * In: a kernelspec's command, which the operator wrote, and variables that were let through. Out: a
 * process in a session of its own with /dev/null as stdin, stdout and stderr in a pipe, no other
 * descriptor, an empty signal mask, and a death signal: it does not outlive the thread that started
 * it, which has to be the main thread (PR_SET_PDEATHSIG, prctl(2)). `cellwall kernel` gets SIGTERM,
 * so that it brings results out; anything else SIGKILL. Never logs.
 */
#ifndef WEB_START_H
#define WEB_START_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "proxy/connection.h"
#include "sandbox/base.h"

struct start_plan {
	const json_t *spec;    /* kernel.json */
	const char *resources; /* its directory */
	const char *connection_file;
	const char *folder;	 /* the working directory */
	const json_t *variables; /* of the request, filtered; may be NULL */
	bool walled;
	int tally; /* a descriptor it gets (proxy/tally.h), or -1 */
};

struct start_process {
	pid_t pid;
	int pidfd;
	int output; /* what it writes on stdout and stderr; non-blocking */
};

/* Returns 0 or a negative errno. */
int start_run(const struct start_plan *plan, struct start_process *ret_process, struct err *err);

/*
 * Writes a new connection file with a fresh key and ipc sockets "DIRECTORY/s-N", 0600. DIRECTORY is
 * short enough for sun_path (unix(7)) or this is an error. Returns 0 or a negative errno.
 */
int start_connection(const char *directory, const char *file, const char *kernel_name,
		     struct connection *ret_connection, struct err *err);

/*
 * What of a request's environment a kernel gets: KERNEL_USERNAME and KERNEL_LAUNCH_TIMEOUT, and
 * names in `allowed` (may be NULL). Others are left out in silence: clients send much. Returns 0
 * with a new object, or -EINVAL: an allowed one is no string, too long or not printable.
 */
int start_variables(const json_t *environment, const char *const *allowed, json_t **ret_variables,
		    struct err *err);

#endif
