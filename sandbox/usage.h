/*
 * usage: how much memory a sandbox holds, looked at from outside.
 *
 * In: a descriptor of the sandbox's own /proc, so that every process in it is one of the sandbox,
 * and of the mounts in it that live in memory. A process is named by a descriptor of its directory
 * while it is looked at, and killed through that (pidfd_send_signal(2) takes it): never a number
 * that somebody else may have by then. What the files say is the system's word, but the processes
 * choose how many there are: everything is bounded, nothing is allocated. Never logs.
 *
 * Not seen: shared memory that no process maps whole and no open descriptor names, descriptors on
 * their way through a socket, and buffers of pipes. What sockets hold the system does not say: more
 * of them than a notebook needs count with the most that one of a local pair can be sent.
 * Files in memory and sockets may be several processes' at once: the kernel is ended for them.
 */
#ifndef SANDBOX_USAGE_H
#define SANDBOX_USAGE_H

#include <sys/types.h>

#include "sandbox/base.h"

#define USAGE_ROOMS_MAX	   16
#define USAGE_LARGEST	   64	 /* processes that are named */
#define USAGE_FILES	   1024	 /* files in memory that are told apart */
#define USAGE_DESCRIPTORS  65536 /* looked at for them, in all processes together */
#define USAGE_STATUS_BYTES 8192	 /* of a file in /proc that is read */
#define USAGE_SOCKETS	   1024	 /* that count nothing */
#define USAGE_SOCKET_BYTES                                                                         \
	(2 * UINT64_C(212992)) /* SO_SNDBUF as it is made, socket(7), and one more */

struct inside {
	int proc; /* -1: not known yet */
	int room[USAGE_ROOMS_MAX];
	size_t rooms;
	uint64_t kernel; /* its pid, as seen inside */
	dev_t memory;	 /* of files made by memfd_create(2); 0: not known */
};

struct usage_process {
	uint64_t pid, bytes;
};

struct usage {
	uint64_t total;
	uint64_t kernel;			     /* of it, the kernel's own process */
	uint64_t others;			     /* and all other processes' together */
	uint64_t processes;			     /* how many others */
	struct usage_process largest[USAGE_LARGEST]; /* of the others, largest first */
	size_t count;
};

/*
 * Sums up. Without `exact` pages that several processes share count for each of them: the answer is
 * never too small, and cheap. With it their page tables are walked (smaps_rollup,
 * proc_pid_smaps(5)). Returns 0 or a negative errno.
 */
int usage_measure(const struct inside *inside, bool exact, struct usage *ret_usage);
/* Changes whenever a process came, went, computed or touched new memory. 0 when it cannot be told.
 */
uint64_t usage_activity(const struct inside *inside);
/* SIGKILL to one of them. Returns 0 or a negative errno. */
int usage_kill(const struct inside *inside, uint64_t pid);

/* Bytes of "KEY:   N kB" in a file of that form; 0 when it is not there. */
uint64_t usage_kilobytes(const char *text, const char *key);
/* What the sockets of a /proc/PID/net/sockstat count; 0: malformed. */
uint64_t usage_sockets(const char *text);
/* Of /proc/PID/stat: processor time in ticks and faults together (proc_pid_stat(5)); 0: malformed.
 */
uint64_t usage_ticks(const char *text);

#endif
