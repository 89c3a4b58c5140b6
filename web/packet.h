/*
 * packet: one Jupyter message on its way through this process, without identities and without a
 * signature.
 *
 * What a kernel sent is copied once, out of the buffer it was received in, or not at all when it is
 * large; all listeners of a kernel share it by a reference count. The loop's thread alone touches
 * packets. Never logs.
 */
#ifndef WEB_PACKET_H
#define WEB_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "sandbox/base.h"
#include "sandbox/wall.h"

#define PACKET_PARTS 4 /* header, parent_header, metadata, content; then the buffers */

struct packet {
	unsigned refs;
	enum wall_channel channel;
	bool status;  /* an iopub status message: never left out of a replay */
	size_t bytes; /* of all parts */
	size_t count; /* of parts, at least PACKET_PARTS */
	void *block;  /* holds the parts of a large one; NULL: they are behind `parts` */
	struct iovec parts[];
};

struct packet *packet_ref(struct packet *packet);
void packet_unref(struct packet *packet); /* accepts NULL; frees at the last */

/* Of these parts, copied; or, unless `block` is NULL, borrowed from it: it is from malloc and taken
 * in any case. NULL: no memory. */
struct packet *packet_new(enum wall_channel channel, const struct iovec *parts, size_t count,
			  void *block);

/*
 * A message of our own: `parent` is the header of the request it belongs to ("{}" when empty).
 * `content` is JSON text. NULL: no memory.
 */
struct packet *packet_make(enum wall_channel channel, const char *msg_type, struct iovec parent,
			   const char *content);

#endif
