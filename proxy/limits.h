/*
 * limits: every number of the trusted side, with its reason.
 */
#ifndef PROXY_LIMITS_H
#define PROXY_LIMITS_H

/* A client's message is bounded like the wall's frame; more frames or bytes are refused with a log
 * line. */
#define CLIENT_FRAMES_MAX 4096u

/* Bytes of output on their way to clients (queued here or inside libzmq). Past HIGH the kernel is
 * paused, below LOW it goes on; HIGH holds 50,000 small messages (about 1.3 KB each with overhead)
 * or half of a 100 MB one. */
#define OUTPUT_HIGH (64L * 1024 * 1024)
#define OUTPUT_LOW  (16L * 1024 * 1024)
/* So long it may be past HIGH first, while it stays below AT_ONCE: one 100 MB output takes a client
 * some 100 ms. */
#define PAUSE_AFTER_MS 250
#define OUTPUT_AT_ONCE (128L * 1024 * 1024)
/* A hostile kernel can undo a pause: past HARD the wall is not read any more, the relay then drops
 * with a count. One message of WALL_TOTAL_MAX may come on top. */
#define OUTPUT_HARD (256L * 1024 * 1024)
/* The memory of a large message is kept this long for the next one. */
#define SPARE_MS 3000
/* The relay's own numbers are in sandbox/relay.h. */

/* Pieces of streams that come faster than so many a second, after BURST at once, are joined: nobody
 * reads them one by one, and each is a message that the front end has to take apart. They wait for
 * MS for more of their like, for BEHIND_MS while more than BEHIND bytes are on their way already.
 * Larger pieces go on as they are, and a message gets no larger than MAX. */
#define JOIN_RATE      500u
#define JOIN_BURST     256u
#define JOIN_MS	       20
#define JOIN_BEHIND    (1024L * 1024)
#define JOIN_BEHIND_MS 200
#define JOIN_PIECE     (16u * 1024)
#define JOIN_MAX       (128u * 1024)
/* \r and \b of one message: as many as scan.h takes. */
#define JOIN_MOVES 256u

/* Bytes of a heartbeat with its envelope; clients send "ping". */
#define HEARTBEAT_MAX	4096
#define HEARTBEAT_PARTS 4

/* A client that takes nothing for this long while the kernel is paused for it is disconnected: the
 * others are promised that they stand still for 30 s at the most. */
#define STALL_MS 25000
/* How often the user is told of outputs that were dropped. */
#define DROPPED_EVERY_MS 1000
/* After an interrupt, a shutdown or a debug request a paused kernel runs at least this long. */
#define EXEMPT_MS 2000

/* The reply and the idle status of a cell wait this long for its files to be in staging/out. */
#define HOLD_MS 1000
/* Output that may wait behind the end of a cell; past it nothing waits. */
#define HOLD_BYTES (16u * 1024 * 1024)
/* Cells whose files are awaited at the same time (subshells, several clients); further ones do not
 * wait. */
#define HOLD_MAX 64
/* Entries of a staged tree that are looked at for sockets, fifos and devices before the launch. */
#define STAGE_ENTRIES_MAX 20000
/* Refused names that one cell's notice lists; the log has all of them. */
#define NOTICE_NAMES_MAX 10

/* Different attempts to get out that a notebook is told of; the log has all of them. */
#define ATTEMPTS_MAX 32

/* Lines that wait for the first cell of a kernel; the log has all of them. */
#define EARLY_NOTICES_MAX 16

/* How often bind is tried again on EADDRINUSE: a restarted kernel finds its predecessor's port in
 * use. */
#define BIND_RETRY_MS 5000

/* A reply to a client that is not connected now (a reconnect takes libzmq 100 ms) waits this long,
 * then is logged. */
#define REPLY_RETRY_MS	  10000
#define REPLY_QUEUE_BYTES (16L * 1024 * 1024)
#define REPLY_QUEUE_MAX	  256 /* replies; a kernel can invent clients */
#define REPLY_RETRY_EVERY 50  /* ms */

/* Messages of clients that wait for the relay's socket. The wall's other end is ours; this bounds a
 * stuck kernel. */
#define INPUT_QUEUE_BYTES (256L * 1024 * 1024)

/* Clients' messages that a kernel may answer, and their bytes: half a MiB of headers, the rest is
 * code that waits to be run. */
#define REQUESTS_MAX   65536u
#define REQUESTS_BYTES (64u * 1024 * 1024)

/* What the guard process takes of one message; a larger one is dropped with a notice. Pictures of
 * 16 MiB and widgets' buffers fit. */
#define EXAMINE_CONTENT_MAX (64u * 1024 * 1024)
#define EXAMINE_BUFFERS_MAX 1024u
#define EXAMINE_ANSWER_MAX  (256u * 1024 * 1024) /* markup is escaped twice in its frames */
/* Address space of the guard process: some 20 times a list of small numbers as text. */
#define EXAMINE_MEMORY (2048ull * 1024 * 1024)
/* One message may take so much of the guard process's own time, and so much more for each of its
 * MiB; never more than MOST. 15 MB of "<", the most that escaping makes of anything, take 2 s. In
 * all it may take WAIT longer: on a loaded machine its turn comes late. */
#define EXAMINE_MS	1500
#define EXAMINE_MIB_MS	300
#define EXAMINE_MOST_MS 8000
#define EXAMINE_WAIT_MS 8000

/* Output of one cell, past which further output of it is dropped with a notice: more than any
 * notebook can hold, less than what makes a browser fail. */
#define CELL_OUTPUT_MAX (1024ull * 1024 * 1024)

/* From the kernel's end to ours: what is still on its way out, then the results (clients kill after
 * 5 s). */
#define DRAIN_MS   200
#define COLLECT_MS 2000
/* Orphans of a killed supervisor are gone by then: their lifeline wakes them. */
#define LAST_BREATH_MS 100
/* How long a failed launch answers its clients in words. */
#define FAILED_MS 1500
/* From SIGTERM to the kernel's SIGKILL. */
#define TERMINATE_GRACE_MS 1500

/* A cell after so long without a message is told to the supervisor, which looks at an idle kernel
 * seldom. */
#define BUSY_EVERY_MS 1000

/* The kernel's stderr goes to the log at this many bytes per second, the rest is counted. */
#define STDERR_RATE 65536
/* And at this many bytes in all: a kernel shall not fill the disk that the log is on. */
#define STDERR_TOTAL (64u * 1024 * 1024)

/* What a kernel can cause goes to its audit log at this rate per second, after this many at once;
 * the rest is counted. */
#define AUDIT_RATE  20
#define AUDIT_BURST 200
/* A log goes on in a new file past this; of one launch the first and the newest are kept. */
#define AUDIT_SEGMENT	    (16u * 1024 * 1024)
#define AUDIT_SEGMENT_LEAST (64u * 1024)
#define AUDIT_SEGMENTS	    4
/* Of a cell or message that is recorded itself (audit.content). */
#define AUDIT_CONTENT (32u * 1024)
/* A longer request to run code is hashed as it came, not taken apart. */
#define AUDIT_CODE (4u * 1024 * 1024)
/* And of any other text. */
#define AUDIT_TEXT 2048

#endif
