/* clang-format off */
/*
 * status: what the trusted side and the supervisor say to each other, on one SOCK_SEQPACKET pair
 * (unix(7)).
 *
 * A packet is text: a word, then fields, each after one TAB; at most STATUS_MAX bytes and
 * STATUS_FIELDS fields. TAB, newline and backslash inside a field are written \t \n \\. Both ends
 * are ours; a packet that does not parse is a bug, reported as -EPROTO. Descriptors travel only
 * with "wall" and "egress", only towards the proxy.
 *
 * supervisor -> proxy
 *   wall                     with two descriptors: the wall socket, the kernel's stdout and stderr;
 *                            and a third where the host gives one: see changes.h
 *   egress                   with one descriptor: the listener that a build reaches the index by
 *   error STAGE ERRNO TEXT   the launch failed at STAGE; the supervisor ends after it
 *   layers HAS LACKS         which layers the kernel has, and which this host cannot give: names with
 *                            spaces between; once, before "started"
 *   started                  the kernel's execve succeeded
 *   paused 0|1               answer to pause: 1 when every process was seen stopped
 *   resumed                  answer to resume
 *   collected SEQ FILES BYTES LEFT WATCHED   answer to collect; LEFT: files that wait for a later
 *                            turn; WATCHED 1: what changes from now on shows in the third descriptor
 *   refused PATH REASON      the collector left PATH (relative to /work, raw bytes) out, once each
 *   flagged PATH REASON      PATH was brought out, and may run code when it is opened; once each
 *   attempt PROGRAM PID WHAT TARGET WHO WHERE   the process PID (as it sees itself) tried in vain to reach
 *                            TARGET; WHAT: connect, send, bind, socket, call, exec, lookup, read; the module
 *                            WHO at WHERE (FILE:LINE) did it, as it says itself, or both are empty
 *   untold COUNT             so many more attempts, which came too fast
 *   notice TEXT              anything else the user should read
 *   limits HOLDER REASON     what holds the limits on the whole sandbox: cgroup, or watcher and why no
 *                            cgroup does; once, after "started"
 *   exceeded WHAT WHO USED LIMIT   WHO (kernel, or process: some that it had started) was ended:
 *                            WHAT (memory, disk) was more than the limit, in bytes; for the kernel
 *                            "gone" follows
 *   gone CODE SIGNAL         the kernel ended (one of the two is 0); the final collection begins
 *   done FILES BYTES LEFT    the final collection is over; the supervisor ends after it
 *
 * proxy -> supervisor
 *   interrupt                SIGINT to the kernel's process group, once
 *   terminate                SIGTERM to it, SIGKILL after TERMINATE_GRACE_MS
 *   kill                     SIGKILL to everything inside, now
 *   pause, resume            SIGSTOP, SIGCONT to everything inside
 *   busy                     a cell begins after a pause: limits are to be looked at again
 *   collect SEQ              bring new and changed files out
 *   socket PATH              a socket file that the proxy is about to make for its clients: to
 *                            unlink, when nobody listens there, should the proxy die
 */
/* clang-format on */
#ifndef SANDBOX_STATUS_H
#define SANDBOX_STATUS_H

#include <stddef.h>

#include "sandbox/base.h"

#define STATUS_MAX    8192
#define STATUS_FIELDS 6
#define STATUS_FDS    3

struct status {
	char text[STATUS_MAX];		  /* unescaped in place */
	const char *word;		  /* points into text */
	const char *field[STATUS_FIELDS]; /* NULL past the last */
	size_t fields;
	int fds[STATUS_FDS]; /* -1 when none; owned by the caller after status_receive */
};

/* A peer that has not read for so long has other troubles. */
#define STATUS_WAIT_MS 1000

/*
 * Sends one packet; fields end with NULL: status_send(fd, &err, "gone", "0", "9", NULL). Waits for
 * room at most STATUS_WAIT_MS, whether the socket is blocking or not. A field too long is cut.
 * Returns 0 or a negative errno (-EPIPE: the peer is gone; -EAGAIN: no room in time).
 */
int status_send(int fd, struct err *err, const char *word, ...) __attribute__((sentinel));
/* The same with `count` descriptors (lent, at most STATUS_FDS). */
int status_send_fds(int fd, const int *fds, size_t count, struct err *err, const char *word, ...)
	__attribute__((sentinel));
/*
 * The two halves of it for who must not wait at all (outbox.h): the packet, at most STATUS_MAX - 1
 * bytes of which the size is returned, and one attempt to send it. Returns 0, -EAGAIN when there is
 * no room now, or another negative errno.
 */
size_t status_encode(char packet[STATUS_MAX], const char *word, const char *const *fields,
		     size_t count);
int status_post(int fd, const void *packet, size_t size);
/* Receives one packet. Returns 1; 0 at end of file; -EAGAIN when the socket is non-blocking and
 * empty; or -errno. */
int status_receive(int fd, struct status *ret_status, struct err *err);

#endif
