/*
 * wall: the framing of the one socket that goes through the wall, used by both of its ends.
 *
 * A frame is a fixed header, the length of each part, then the parts:
 *
 *   offset 0  u32  magic 'C' 'W' '0' '1'
 *          4  u8   kind     enum wall_kind
 *          5  u8   channel  enum wall_channel
 *          6  u16  count    number of parts, at most WALL_PARTS_MAX
 *          8  u32  total    bytes of all parts together, at most WALL_TOTAL_MAX
 *         12  u32  sizes[count], whose sum must be total
 *         ..  the bytes of the parts
 *
 * A message has at least one part, WALL_READY none, WALL_DROPPED one of 16 bytes.
 * All integers little-endian. Both ends treat the other as hostile: a header that breaks a rule
 * ends the connection (-EPROTO). The reader pulls with recv(2), never recvmsg(2): SCM_RIGHTS would
 * carry descriptors through the wall (unix(7)).
 *
 * Memory: one allocation per frame, after its header and sizes were checked; for a large one it is
 * a mapping of huge pages where the system has them. Never logs, never blocks.
 */
#ifndef SANDBOX_WALL_H
#define SANDBOX_WALL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "sandbox/base.h"

#define WALL_PARTS_MAX                                                                             \
	4096u /* a comm message has one part per binary buffer; widgets send dozens */
#define WALL_TOTAL_MAX (512u * 1024 * 1024) /* five times the 100 MB output that must pass */

enum wall_kind {
	WALL_MESSAGE =
		1, /* parts: the ZeroMQ frames of one message, without the relay's own identity */
	WALL_READY = 2,	  /* relay -> proxy, once: connected to the kernel's iopub; no parts */
	WALL_DROPPED = 3, /* relay -> proxy: one part, two u64: messages and bytes given up since
			     the last */
};

enum wall_channel {
	WALL_SHELL = 0,
	WALL_CONTROL = 1,
	WALL_STDIN = 2,
	WALL_IOPUB = 3,
	WALL_HB = 4,
	WALL_CHANNELS = 5
};

/*
 * A received frame: one heap block with a reference count, so that a part can be lent to a ZeroMQ
 * message without a copy. Parts point into the same block, or into `added`.
 */
struct wall_frame {
	atomic_uint refs;
	uint8_t kind;
	uint8_t channel;
	uint16_t count;
	uint32_t total;
	bool again;	      /* its mapping is kept for the next */
	size_t mapped;	      /* bytes of its own mapping; 0: it lies on the heap */
	void *added;	      /* from malloc: what parts were exchanged for; freed with the frame */
	struct iovec parts[]; /* `count` of them; iov_base is never NULL */
};

struct wall_frame *wall_frame_ref(struct wall_frame *frame);
/* Drops one reference; frees at the last. Accepts NULL. Safe from another thread (a ZeroMQ free
 * callback). */
void wall_frame_unref(struct wall_frame *frame);

/* The receiving half: bytes in, frames out. */
struct wall_reader;
struct wall_reader *wall_reader_new(void); /* NULL when out of memory */
/* From now on the mapping of its last large frame is kept when that is let go, for the next one.
 * One for the whole process, at most 128 MiB, until wall_drop_spare is called (from any thread). */
void wall_reader_again(struct wall_reader *reader);
void wall_drop_spare(void);
struct wall_reader *wall_reader_free(struct wall_reader *reader); /* accepts NULL; returns NULL */
/*
 * Where the next bytes go, and how many fit (never 0 once wall_reader_next has returned NULL: take
 * all frames before asking for room). The caller puts up to *ret_size bytes there and says how many
 * with wall_reader_advance, before the next wall_reader_next. Large bodies are received in place;
 * small frames come many to a read.
 */
void *wall_reader_buffer(struct wall_reader *reader, size_t *ret_size);
/* Returns 0, or a negative errno (then the reader is of no more use). Foreign bytes are judged by
 * wall_reader_next. */
int wall_reader_advance(struct wall_reader *reader, size_t size, struct err *err);
/* The next complete frame (the caller owns one reference), or NULL when more bytes are needed, or
 * on an error (then *ret_code is negative; 0 otherwise). */
struct wall_frame *wall_reader_next(struct wall_reader *reader, int *ret_code, struct err *err);

/*
 * The sending half: a queue of frames and non-blocking writes. The caller lends the parts until
 * `done(arg)` is called: after the last byte was written, or by wall_writer_free.
 */
struct wall_writer;
struct wall_writer *wall_writer_new(void);			  /* NULL when out of memory */
struct wall_writer *wall_writer_free(struct wall_writer *writer); /* accepts NULL; returns NULL */
/*
 * Queues one frame. `urgent` frames go before all frames that are not urgent and have not begun.
 * `parts` (the array) is copied, the bytes are borrowed. Returns 0; -EMSGSIZE when a limit of the
 * format is exceeded, -EINVAL when no frame of this kind looks like this, or -ENOMEM: then `done`
 * was not called and nothing was queued. `done` may be NULL, and may push.
 */
int wall_writer_push(struct wall_writer *writer, enum wall_kind kind, enum wall_channel channel,
		     bool urgent, const struct iovec *parts, size_t count, void (*done)(void *arg),
		     void *arg);
/* The same for a message; `block` (from malloc) holds its parts and is freed when they were
 * written. What it costs in memory is in *held meanwhile. */
int wall_writer_give(struct wall_writer *writer, enum wall_channel channel, bool urgent,
		     const struct iovec *parts, size_t count, void *block, size_t *held);
/* The same with a copy of the bytes; `held` may be NULL. */
int wall_writer_copy(struct wall_writer *writer, enum wall_channel channel, bool urgent,
		     const struct iovec *parts, size_t count, size_t *held);
/*
 * Queues a message whose last part, of `last` bytes, is to come: its iov_base is not looked at, the
 * others are copied. One at a time: -EBUSY; otherwise as wall_writer_push. Nothing goes between its
 * bytes, so that the other end waits for them.
 */
int wall_writer_open(struct wall_writer *writer, enum wall_channel channel,
		     const struct iovec *parts, size_t count, size_t last, size_t *held);
/* The next bytes of that part: written at once as far as nothing is before them, the rest copied.
 * Returns 0, -EINVAL when nothing is open or it is more than is missing, or another negative errno.
 */
int wall_writer_feed(struct wall_writer *writer, int fd, const void *bytes, size_t size,
		     size_t *held);
/* They will not come: zeroes instead, which no signature fits. Returns 0 or -ENOMEM. */
int wall_writer_fill(struct wall_writer *writer);
/* Until its last byte was written. */
bool wall_writer_is_open(const struct wall_writer *writer);
/*
 * Writes what the socket takes now, a few MiB at the most so that other events have their turn.
 * Returns 0 (look at wall_writer_pending), or a negative errno. The socket may be blocking or not.
 */
int wall_writer_flush(struct wall_writer *writer, int fd);
/* Bytes not written yet, headers included. */
size_t wall_writer_pending(const struct wall_writer *writer);
/* Whether some of them can be: else there is no need to poll for writing. */
bool wall_writer_ready(const struct wall_writer *writer);

#endif
