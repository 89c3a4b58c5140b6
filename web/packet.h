/*
 * packet: one Jupyter message on its way through this process, without identities and without a
 * signature.
 *
 * What a kernel sent lies in the ZeroMQ frames it came in and is never copied; all listeners of a
 * kernel share it by a reference count. The loop's thread alone touches packets. Never logs.
 */
#ifndef WEB_PACKET_H
#define WEB_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include <zmq.h>

#include "sandbox/base.h"
#include "sandbox/wall.h"

#define PACKET_PARTS 4 /* header, parent_header, metadata, content; then the buffers */

struct packet {
	unsigned refs;
	enum wall_channel channel;
	bool status;  /* an iopub status message: never left out of a replay */
	size_t bytes; /* of all parts */
	size_t count; /* of parts, at least PACKET_PARTS */
	struct iovec *parts;
	size_t frame_count;
	zmq_msg_t frames[];
};

struct packet *packet_ref(struct packet *packet);
void packet_unref(struct packet *packet); /* accepts NULL; frees at the last */

/*
 * Takes one message from `socket` without waiting. At most `bytes_max` bytes and PACKET_FRAMES_MAX
 * frames are kept; a larger message is read to its end and is gone. Returns 1; 0 when there is
 * none; -EMSGSIZE; -EPROTO when it is no Jupyter message; -ENOMEM. `ret_signature` points into it.
 */
#define PACKET_FRAMES_MAX 4096
int packet_receive(void *socket, enum wall_channel channel, size_t bytes_max,
		   struct packet **ret_packet, struct iovec *ret_signature);

/*
 * A message of our own: `parent` is the header of the request it belongs to ("{}" when empty).
 * `content` is JSON text. NULL: no memory.
 */
struct packet *packet_make(enum wall_channel channel, const char *msg_type, struct iovec parent,
			   const char *content);

#endif
