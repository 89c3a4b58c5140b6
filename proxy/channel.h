/*
 * channel: the five client-side sockets, as libzmq sockets that bind what the connection file
 * names.
 *
 * shell, control, stdin and hb are ROUTERs (hb too: it echoes, and a REQ client is at home with
 * either), iopub is an XPUB with XPUB_VERBOSE, so that every subscriber is seen and welcomed (JEP
 * 65). ROUTERs are MANDATORY with a queue of our own for replies whose client is away for a moment
 * (a default ROUTER drops them in silence), and HANDOVER lets a client come back under its identity
 * (libzmq #2892).
 *
 * Memory on its way to clients is counted exactly: message bodies are lent to libzmq
 * (zmq_msg_init_data(3)) and its free callback gives them back when the last client has them.
 * libzmq's own limits are off (HWM 0): past a number of messages they drop, and they do not know
 * bytes.
 */
#ifndef PROXY_CHANNEL_H
#define PROXY_CHANNEL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include <zmq.h>

#include "proxy/connection.h"
#include "sandbox/base.h"
#include "sandbox/wall.h"

/* A message of a client, as it came. Owned by who received it; message_free closes the frames. */
struct message {
	size_t count;
	size_t bytes;
	char signature[160]; /* for the way on: the signature made with the other key */
	bool kept;	     /* by who sends it, also when it is */
	bool sent;
	struct iovec *parts; /* into frames; writable, so that the signature can be exchanged */
	zmq_msg_t frames[];
};
struct message *message_free(struct message *message); /* accepts NULL; returns NULL */

struct channels;

/*
 * Opens and binds all five. EADDRINUSE is tried again for BIND_RETRY_MS (a restarted kernel's
 * predecessor may just be leaving), waking up for `signals` (a descriptor that becomes readable:
 * -EINTR). Files of ipc sockets are 0600. Returns 0 or a negative errno with the endpoint's name.
 */
int channels_open(const struct connection *connection, int signals, struct channels **ret_channels,
		  struct err *err);
/*
 * Closes: listeners first, then what is queued goes out for at most `linger_ms`. Removes ipc files.
 * Returns NULL.
 */
struct channels *channels_free(struct channels *channels, int linger_ms);

/* zmq_poll(3) for items with these channels' sockets and monitors, see watch.h. `channels` may be
 * NULL. */
int channels_poll(struct channels *channels, zmq_pollitem_t *items, size_t count, long timeout);
/* The libzmq socket to poll for reading (never poll one for writing: POLLOUT says nothing on ROUTER
 * and XPUB). */
void *channels_socket(struct channels *channels, enum wall_channel channel);
/* The monitor socket of a channel to poll, and what to call when it is readable. */
void *channels_monitor(struct channels *channels, enum wall_channel channel);
void channels_watch(struct channels *channels, enum wall_channel channel);

/*
 * Takes one message. Returns 1; 0 when there is none; -EMSGSIZE when one was over CLIENT_FRAMES_MAX
 * or WALL_TOTAL_MAX (it was read to its end and is gone); or -ENOMEM.
 */
int channels_receive(struct channels *channels, enum wall_channel channel,
		     struct message **ret_message);

/*
 * Sends a wall frame's parts. Takes one reference of the frame. On a ROUTER whose client is away it
 * is queued for REPLY_RETRY_MS. Returns 0; -ENOMEM; or -ENOBUFS when the retry queue is full (then
 * the message is lost, and counted).
 */
int channels_send(struct channels *channels, enum wall_channel channel, struct wall_frame *frame);
/* Sends parts of our own making (copied) on a channel; for a ROUTER part 0 is the identity. */
int channels_send_own(struct channels *channels, enum wall_channel channel,
		      const struct iovec *parts, size_t count);

/* Tries queued replies again. Returns how many were given up since the last call (their time ran
 * out). */
unsigned channels_retry(struct channels *channels);
bool channels_waiting(const struct channels *channels); /* something is in the retry queue */

/* Bytes lent to libzmq or waiting in the retry queue: everything that is on its way to clients. */
long channels_outstanding(const struct channels *channels);
/* How many bodies of iopub came back so far: a number that stands still while clients take nothing.
 */
unsigned long channels_progress(const struct channels *channels);
/*
 * Cuts the connections that hold unsent data in the operating system's send queue (SIOCOUTQ,
 * tcp(7), unix(7)): the clients that do not read. Returns how many, and in
 * ret_lost how many messages were queued for them; those come back as progress.
 */
unsigned channels_cut_stalled(struct channels *channels, unsigned long *ret_lost);

#endif
