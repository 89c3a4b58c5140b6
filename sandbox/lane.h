/*
 * lane: a connection to a kernel, of the relay's or of `cellwall serve`: a ZeroMQ DEALER or SUB
 * with one peer behind a unix socket.
 *
 * In: whatever the kernel sends (zmtp.h), of which nothing but the framing is looked at; frames of
 * the wall to send. Out: whole messages as they lie in its buffer, large ones piece by piece.
 * Bounded: 64 KiB, and of a message that does not fit in there at most WALL_TOTAL_MAX bytes and
 * WALL_PARTS_MAX parts; past that it is read and forgotten. A peer that breaks the format loses the
 * connection. Never blocks, never logs.
 */
#ifndef SANDBOX_LANE_H
#define SANDBOX_LANE_H

#include <sys/queue.h>

#include "sandbox/wall.h"
#include "sandbox/zmtp.h"

#define LANE_BUFFER (64u * 1024)
/* A last part from this size on may go on while it comes, when no more than FRONT is before it. */
#define LANE_STREAM_LEAST (256u * 1024)
#define LANE_STREAM_FRONT (64u * 1024)
/* Where such a part, and what is forgotten, passes through; what a cache holds. */
#define LANE_SCRATCH (256u * 1024)

struct lane;

/* What becomes of a large message. */
enum lane_fate {
	LANE_KEEP,   /* collected until it is whole */
	LANE_STREAM, /* goes on as it comes */
	LANE_SKIP,   /* over a cap, or not wanted */
};

/* Who takes what comes. Parts and bytes are borrowed. */
struct lane_user {
	void (*opened)(void *arg, struct lane *lane); /* the handshake is done */
	/* `broken`: it was not ended between two messages, or by a fault of the peer's. */
	void (*closed)(void *arg, struct lane *lane, bool broken);
	void (*message)(void *arg, struct lane *lane, const struct iovec *parts, size_t count,
			size_t bytes);
	/* The sizes of all parts of a large one are known, in parts[].iov_len alone but for the
	 * last part all bytes are there; `last` are to come. */
	enum lane_fate (*large)(void *arg, struct lane *lane, const struct iovec *parts,
				size_t count, size_t bytes, size_t last);
	void (*stream)(void *arg, struct lane *lane, const void *bytes, size_t size);
	/* A large one is whole: `block` holds its parts and now belongs to the user. */
	void (*whole)(void *arg, struct lane *lane, const struct iovec *parts, size_t count,
		      size_t bytes, void *block);
	void (*skipped)(void *arg, struct lane *lane, size_t bytes);
};

/* A message that does not fit into the buffer, frame by frame. */
struct lane_large {
	bool on;
	bool last; /* this frame is */
	enum lane_fate fate;
	uint64_t left; /* of this frame */
	uint64_t bytes;
	size_t count;
	uint8_t *block; /* LANE_KEEP: what is there of the parts, one behind the other */
	size_t size, room;
	struct iovec parts[WALL_PARTS_MAX];
};

enum lane_state { LANE_AWAY, LANE_GREETING, LANE_READY, LANE_OPEN };

struct lane_message;
STAILQ_HEAD(lane_messages, lane_message);

struct lane {
	/* set by the caller */
	enum wall_channel channel;
	const char *path; /* of the kernel's socket */
	const char *type; /* "DEALER", "SUB" */
	const char *identity;
	const struct lane_user *user;
	void *arg;
	/* for the caller to read */
	enum lane_state state;
	int fd;		    /* polled while the state is not LANE_AWAY */
	int64_t connect_at; /* LANE_AWAY: when to try again, now_ms; 0: at once */
	bool look;	    /* there may be something to take; set by lane_read, and by who polls */
	bool deaf;	    /* the other end is closed: what it had written is still to be taken */
	/* its own */
	struct lane_messages out;
	size_t *queued;	  /* counts what `out` costs */
	uint8_t say[256]; /* greeting, commands: what goes between two messages */
	size_t say_size, say_done;
	bool direct; /* the room given out last is not in the buffer */
	size_t start, end;
	uint8_t in[LANE_BUFFER];
	struct lane_large large;
};

/* `queued` counts what is to be sent, of all lanes that share it. */
void lane_init(struct lane *lane, size_t *queued);
/* Looks for the kernel's socket. Without one it is LANE_AWAY still, until connect_at. */
void lane_connect(struct lane *lane, int64_t now);
/* Ends a connection, not to be tried again for `wait_ms`. What is to be sent stays. */
void lane_close(struct lane *lane, int64_t now, int wait_ms, bool broken);

/* Takes up to about `budget` bytes. `look` says whether to come again. */
void lane_read(struct lane *lane, size_t budget, int64_t now);

/* Whether nothing of a message is there without the rest of it. */
bool lane_between(const struct lane *lane);

/* Queues a frame's parts as one message, and keeps a reference until it is sent. Returns 0 or
 * -ENOMEM. */
int lane_send(struct lane *lane, struct wall_frame *frame);
/* Forgets what was queued. */
void lane_drop(struct lane *lane);
/* Sends what the socket takes. When the other end is closed the connection ends with the last of
 * what it had written, in lane_read. */
void lane_flush(struct lane *lane, int64_t now);
bool lane_wants_write(const struct lane *lane);

/* The halves of lane_read, for tests: where the next bytes go (never no room), and how many came.
 * Returns 0 or -EPROTO. */
void *lane_room(struct lane *lane, size_t *ret_size);
int lane_advance(struct lane *lane, size_t size);

#endif
