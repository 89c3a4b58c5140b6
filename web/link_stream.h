/*
 * link_stream: one end of a session of the link, without its sockets: messages in, DATA frames out,
 * and back (link_frame.h). What was sent and not acknowledged is kept, so that nothing is lost or
 * comes twice when the connection is made anew.
 *
 * Bounded: frames are made while less than LINK_WINDOW bytes wait for their acknowledgement (shell
 * and stdin may go LINK_RESERVE past that, control twice as far); what waits to become frames is
 * the caller's to limit, by link_stream_queued. A message that comes is collected up to the size
 * given to link_stream_new, in memory that grows with what has arrived. Never logs, never blocks.
 */
#ifndef WEB_LINK_STREAM_H
#define WEB_LINK_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "sandbox/base.h"
#include "web/link_frame.h"

/* At a round trip of 100 ms still 40 MB/s; at 10 MB/s an interrupt's answer waits 0.4 s at most. */
#define LINK_WINDOW    (4u * 1024 * 1024)
#define LINK_RESERVE   (1024u * 1024)
#define LINK_PARTS_MAX 4096u

struct link_stream;

/* `message_max`: bytes that messages which come may have together. NULL: no memory. */
struct link_stream *link_stream_new(size_t message_max);
/* Releases what is queued. Accepts NULL; returns NULL. */
struct link_stream *link_stream_free(struct link_stream *stream);

/*
 * Queues a message. The bytes are borrowed until `release(arg)` is called (may be NULL), when all
 * of it has become frames; the array is copied. Returns 0; -EMSGSIZE for too many parts or bytes;
 * -ENOMEM: then it is not called.
 */
int link_stream_put(struct link_stream *stream, unsigned channel, const struct iovec *parts,
		    size_t count, void (*release)(void *arg), void *arg);
/* Bytes that are not acknowledged yet, in frames or before. */
size_t link_stream_queued(const struct link_stream *stream);

/*
 * The next frame to send: valid until link_stream_sent, which says that it is on its way. Returns
 * 1; 0 when there is none or the window is full; -ENOMEM.
 */
int link_stream_next(struct link_stream *stream, const void **ret_frame, size_t *ret_size);
void link_stream_sent(struct link_stream *stream);
/* ACK. Returns 0, or -EPROTO for what was never sent. */
int link_stream_acked(struct link_stream *stream, uint64_t received, struct err *err);
/* A new connection, whose other end has received so much: the rest is sent again. As above. */
int link_stream_resume(struct link_stream *stream, uint64_t received, struct err *err);

/* What came whole; `parts` point into `data`. */
struct link_message {
	unsigned channel;
	size_t count;
	struct iovec *parts; /* in the same block as the struct */
	void *data;	     /* from malloc; may be taken (set it NULL) */
};
struct link_message *link_message_free(struct link_message *message); /* accepts NULL; NULL */

/*
 * Takes a DATA frame. Returns 1 and a message that is complete (caller frees); 0 when there is none
 * yet; -EPROTO (a gap, a message that is malformed or too large) or -ENOMEM: end the connection.
 */
int link_stream_take(struct link_stream *stream, const struct link_frame *frame,
		     struct link_message **ret_message, struct err *err);
/* The last sequence number that was taken. */
uint64_t link_stream_received(const struct link_stream *stream);

#endif
