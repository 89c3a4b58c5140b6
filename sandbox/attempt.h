/*
 * attempt: what a system call that is told (arguments.h) tried, in words.
 *
 * In: the call's arguments and bytes of its caller's memory. They may change while they are looked
 * at, so nothing here decides anything. Out: text that is foreign still: escape it. Never logs.
 */
#ifndef SANDBOX_ATTEMPT_H
#define SANDBOX_ATTEMPT_H

#include "sandbox/base.h"

#define ATTEMPT_TARGET_MAX 256
#define ATTEMPT_WHO_MAX	   64
#define ATTEMPT_WHERE_MAX  256
#define ATTEMPT_HOOK_MAX   1024 /* bytes of what the hook says at once */

/* "203.0.113.5:443" of a socket address of `size` bytes. False: it stays inside (lo, AF_UNIX, any
 * address), or is none. */
bool attempt_address(const void *address, size_t size, char out[ATTEMPT_TARGET_MAX]);
/* "AF_PACKET", "AF_INET type 3 protocol 1" of the arguments of socket(2). */
void attempt_socket(uint64_t domain, uint64_t type, uint64_t protocol,
		    char out[ATTEMPT_TARGET_MAX]);
/* Whether programs of that name are setuid on usual systems: nothing here has such a bit any more,
 * but it was counted on. */
bool attempt_setuid(const char *path);

/* What hook.h says by the path of a chroot(2). */
struct attempt_hook {
	const char *what; /* as in status.h; "where": of the same thread's next call */
	const char *target, *who, *where;
};

/* Splits `text` in place. False: it is somebody's own chroot(2). */
bool attempt_hook(char *text, struct attempt_hook *ret_hook);

/* The process id inside ("12", of the innermost namespace) and outside (0: not found) from the text
 * of /proc/PID/status (proc(5)). */
pid_t attempt_process(const char *status, char inside[16]);

#endif
