/*
 * relay: the numbers of the airlock process, each with its reason, and the descriptors it is
 * started with.
 */
#ifndef SANDBOX_RELAY_H
#define SANDBOX_RELAY_H

/* Its one argument, when it has no namespaces to lock itself into. */
#define RELAY_PLAIN "landlock"

/* What the sandbox builder leaves open for cellwall-relay, besides 0, 1 and 2. */
enum {
	RELAY_FD_WALL = 3,     /* the wall: a connected stream socket */
	RELAY_FD_LIFELINE = 4, /* read end of a pipe that only the supervisor holds */
	RELAY_FD_SOCKETS = 5,  /* the shared socket tmpfs */
	RELAY_FD_ERROR = 6,    /* "STAGE: what: errno text" and a newline when the start fails, then
				  end of file */
};

/* Bytes of iopub that wait for the wall, overhead included, before messages are dropped with a
 * count. A kernel that is not paused in time must be able to say a 100 MB output, another, and
 * "idle" while the first is still on its way. One message of WALL_TOTAL_MAX may come on top. */
#define RELAY_OUTPUT_MAX (256L * 1024 * 1024)
/* Bytes of replies that wait for the wall before the kernel's reply sockets are not read any more.
 */
#define RELAY_REPLIES_MAX (16L * 1024 * 1024)
/* Bytes for a kernel that does not take them before the wall is not read any more. Large, because a
 * full queue keeps an interrupt_request on control waiting too. */
#define RELAY_INPUT_MAX (256L * 1024 * 1024)

/* After output was passed on, what comes next waits this long, so that a stream of small messages
 * wakes the threads on its way (ours, two in the proxy, the client's) once for many of them. A
 * reply ends the wait: the end of a cell is never late. While each wait has brought some, the next
 * is twice as long, up to MOST: nobody reads those one by one. */
#define RELAY_GATHER_MS	     2
#define RELAY_GATHER_MOST_MS 8
/* Not after so many bytes at once: meanwhile they stay in the kernel's socket, which holds 200 KiB,
 * and behind it a kernel's iopub drops what is over 1000 messages. */
#define RELAY_GATHER_MOST (16u * 1024)

/* So long in all a large output waits in the kernel's socket while the wall is full; then it is
 * kept here, as nothing that the kernel says may wait for a client. */
#define RELAY_STALL_MS 100

/* Bytes taken from one socket before the others have their turn. */
#define RELAY_TURN_BYTES (4u * 1024 * 1024)
/* What the allocator adds to a block. */
#define RELAY_BLOCK_COST 32u

/* The kernel binds its sockets some 700 ms after it was started; a connect(2) that finds none costs
 * microseconds. */
#define RELAY_RECONNECT_MS 5
/* After the handshake the subscription is on its way to the kernel's iopub socket, which looks for
 * it at the latest 1 ms after it was last used (libzmq's max_command_delay). */
#define RELAY_SETTLE_MS 5
/* After a connection was given up (a frame over WALL_TOTAL_MAX, garbage). */
#define RELAY_AGAIN_MS 100

/* After the proxy has said its last word: until the kernel has been silent for this long, at the
 * most for that long, and then as long as writing may take. */
#define RELAY_QUIET_MS 30
#define RELAY_DRAIN_MS 250
#define RELAY_FLUSH_MS 2000

#endif
