/*
 * wire: the frames of one Jupyter message, found in a list of byte ranges.
 *
 *   [identity ...] "<IDS|MSG>" signature header parent_header metadata content [buffer ...]
 *   (jupyter_client docs/messaging.rst, "The Wire Protocol")
 *
 * In: frames as they came from a socket or the wall. Out: a view into them; nothing is copied,
 * nothing is parsed. Bounded by the number of frames it is given. Never logs, never allocates.
 */
#ifndef PROXY_WIRE_H
#define PROXY_WIRE_H

#include <stddef.h>
#include <sys/uio.h>

#include "sandbox/base.h"

#define WIRE_IDENTITY_MAX 255 /* zmq_setsockopt(3) ZMQ_ROUTING_ID */

struct wire_msg {
	size_t identities; /* frames before the delimiter: routing identities, or the iopub topic */
	struct iovec signature;	     /* lower-case hex, or empty */
	struct iovec signed_part[4]; /* header, parent_header, metadata, content: what a signature
					covers */
	size_t first_buffer;	     /* index of the first buffer frame */
	size_t count;		     /* frames in all */
};
enum { WIRE_HEADER, WIRE_PARENT, WIRE_METADATA, WIRE_CONTENT };

/* Returns 0, or -EPROTO with a reason; `frames` must outlive ret_msg. */
int wire_parse(const struct iovec *frames, size_t count, struct wire_msg *ret_msg, struct err *err);

/* The delimiter frame's bytes: "<IDS|MSG>". */
extern const char wire_delimiter[9];

#endif
