/*
 * frames: the two forms a Jupyter message has on a WebSocket. Pure functions, nothing is copied.
 *
 * Legacy: JSON text {"channel", "header", "parent_header", "metadata", "content", "buffers", ...};
 * with buffers a binary frame: nbufs | off_0 ... off_n-1 | JSON | buffer ... (big-endian u32).
 * v1.kernel.websocket.jupyter.org: n | off_0 ... off_n-1 | channel | header | parent_header |
 * metadata | content | buffer ... (little-endian u64). (jupyter_server
 * docs/source/developers/websocket-protocols.rst)
 *
 * The legacy form is taken apart by a scanner that checks the JSON of the outermost object for its
 * shape and hands out its members as they came, and put together from the raw parts: those are
 * checked for being JSON in UTF-8 (frames_is_json), as a text frame has to be. In: foreign bytes.
 * Bounded by what it is given. Never logs, never allocates.
 */
#ifndef WEB_FRAMES_H
#define WEB_FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "sandbox/base.h"
#include "sandbox/wall.h"

#define FRAMES_BUFFERS_MAX 4000u
#define FRAMES_PARTS_MAX   (4 + FRAMES_BUFFERS_MAX)

/* A message of a client: `parts` point into its bytes. */
struct frames_message {
	enum wall_channel channel; /* shell, control or stdin */
	size_t count;
	struct iovec parts[FRAMES_PARTS_MAX];
};

/* Return 0, or -EPROTO with a reason. */
int frames_read_v1(const void *data, size_t size, struct frames_message *ret_message,
		   struct err *err);
int frames_read_legacy(const void *data, size_t size, bool binary,
		       struct frames_message *ret_message, struct err *err);

/*
 * What stands before, between and after the parts of a kernel's message: `ret_vector` (room for
 * FRAMES_VECTOR_MAX(count)) borrows the parts and `room` (FRAMES_ROOM(count) bytes). Returns the
 * number of ranges; *ret_bytes is their sum, *ret_binary whether it is a binary frame. -EPROTO: it
 * cannot be said in the legacy form (a part is no JSON, or offsets past 4 GiB).
 */
#define FRAMES_ROOM(count)	 (640 + 8 * ((count) + 3))
#define FRAMES_VECTOR_MAX(count) ((count) + 8)
int frames_write_v1(enum wall_channel channel, const struct iovec *parts, size_t count, char *room,
		    struct iovec *ret_vector, size_t *ret_bytes);
int frames_write_legacy(enum wall_channel channel, const struct iovec *parts, size_t count,
			char *room, struct iovec *ret_vector, size_t *ret_bytes, bool *ret_binary);

/* One JSON value in well-formed UTF-8, nested FRAMES_DEPTH deep at the most, with Python's NaN and
 * Infinity; nothing before or after it but white space. */
#define FRAMES_DEPTH 512
bool frames_is_json(const void *text, size_t size);

/* The string value of a member of a flat JSON object without escapes in it ("msg_type" of a
 * header); iov_len 0: none. */
struct iovec frames_member(struct iovec object, const char *name);

#endif
