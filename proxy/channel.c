#include "proxy/channel.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/limits.h"
#include "proxy/watch.h"

#define MONITOR_ENDPOINT "inproc://cellwall-monitor-%d"
#define CONNECTIONS_MAX                                                                            \
	1024 /* watched for stalls; more clients than that are served, not watched */

/* Part sizes up to this are copied into libzmq's message, larger ones are lent. */
#define COPY_MAX 512
/* A lent part's loan and libzmq's record of it, with malloc's overhead. */
#define PART_COST 160

/* Bodies on their way, counted by the main thread on lending and by libzmq's I/O thread on return.
 */
struct account {
	atomic_long bytes;
	atomic_ulong returned; /* of output alone: heartbeats go on while a client does not read */
};

struct loan {
	struct wall_frame *frame; /* NULL: the data is a copy of its own */
	struct account *account;
	long bytes;
	bool output;
};

/* A reply whose client is away. */
struct waiting {
	struct waiting *next;
	enum wall_channel channel;
	struct wall_frame *frame;
	int64_t deadline;
	long cost;
};

struct connected {
	int fd; /* libzmq's; ours to look at while `inode` is still behind it */
	ino_t inode;
	enum wall_channel channel;
};

struct channels {
	void *context;
	void *socket[WALL_CHANNELS];
	void *monitor[WALL_CHANNELS];
	struct watch watch[2 * WALL_CHANNELS]; /* the sockets, then the monitors */
	char *ipc_path[WALL_CHANNELS];
	struct account account;
	struct waiting *first, **last;
	long waiting_bytes;
	size_t waiting_count;
	size_t connections;
	struct connected connection[CONNECTIONS_MAX];
};

struct message *message_free(struct message *message)
{
	if (!message)
		return NULL;
	for (size_t i = 0; i < message->count; i++)
		zmq_msg_close(&message->frames[i]);
	free(message);
	return NULL;
}

/* ---- opening ---- */

static int set_int(void *socket, int option, int value)
{
	return zmq_setsockopt(socket, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int set_options(void *socket, enum wall_channel channel, const char *endpoint)
{
	const int64_t most = WALL_TOTAL_MAX;
	int code = 0;

	code |= set_int(socket, ZMQ_SNDHWM, 0);
	code |= set_int(socket, ZMQ_LINGER, 0);
	code |= zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &most, sizeof(most));
	if (endpoint[0] == 't' && strchr(endpoint, '['))
		code |= set_int(socket, ZMQ_IPV6, 1);
	if (channel == WALL_IOPUB) {
		code |= set_int(socket, ZMQ_XPUB_VERBOSE, 1);
	} else {
		code |= set_int(socket, ZMQ_ROUTER_MANDATORY, 1);
		code |= set_int(socket, ZMQ_ROUTER_HANDOVER, 1);
	}
	return code ? -EINVAL : 0;
}

static int bind_patiently(void *socket, const char *endpoint, int64_t deadline, int signals)
{
	while (zmq_bind(socket, endpoint) < 0) {
		struct pollfd woken = {.fd = signals, .events = POLLIN};

		if (errno != EADDRINUSE || now_ms() >= deadline)
			return -errno;
		if (poll(&woken, 1, 20) > 0)
			return -EINTR;
	}
	return 0;
}

static int open_one(struct channels *channels, enum wall_channel channel,
		    const struct connection *connection, int64_t deadline, int signals,
		    struct err *err)
{
	const char *endpoint = connection->endpoint[channel];
	const int type = channel == WALL_IOPUB ? ZMQ_XPUB : ZMQ_ROUTER;
	cleanup(free_ptr) char *monitor = format_string(MONITOR_ENDPOINT, (int)channel);
	void *socket = zmq_socket(channels->context, type);
	int code;

	channels->socket[channel] = socket;
	if (!socket || !monitor || set_options(socket, channel, endpoint) < 0)
		return err_set(err, -ENOMEM, "cannot open a socket for %s: %s", endpoint,
			       zmq_strerror(errno));
	if (zmq_socket_monitor(socket, monitor, ZMQ_EVENT_ACCEPTED) < 0)
		return err_set(err, -ENOMEM, "cannot watch %s: %s", endpoint, zmq_strerror(errno));
	channels->monitor[channel] = zmq_socket(channels->context, ZMQ_PAIR);
	if (!channels->monitor[channel] || zmq_connect(channels->monitor[channel], monitor) < 0 ||
	    watch_init(&channels->watch[channel], socket) < 0 ||
	    watch_init(&channels->watch[WALL_CHANNELS + channel], channels->monitor[channel]) < 0)
		return err_set(err, -ENOMEM, "cannot watch %s: %s", endpoint, zmq_strerror(errno));

	code = bind_patiently(socket, endpoint, deadline, signals);
	if (code == -EINTR)
		return err_set(err, code, "stopped while binding %s", endpoint);
	if (code == -EADDRINUSE)
		return err_set(err, code,
			       "cannot bind %s: the address is in use by another process; start "
			       "the kernel again, "
			       "the client then picks other ports",
			       endpoint);
	if (code < 0)
		return err_set(err, code, "cannot bind %s: %s", endpoint, zmq_strerror(-code));
	if (connection->ipc_path[channel])
		channels->ipc_path[channel] = strdup(connection->ipc_path[channel]);
	return 0;
}

int channels_open(const struct connection *connection, int signals, struct channels **ret_channels,
		  struct err *err)
{
	const int64_t deadline = now_ms() + BIND_RETRY_MS;
	struct channels *channels = calloc(1, sizeof(*channels));
	mode_t mask;
	int code = 0;

	if (!channels)
		return err_set(err, -ENOMEM, "out of memory");
	channels->last = &channels->first;
	channels->context = zmq_ctx_new();
	if (!channels->context) {
		free(channels);
		return err_set(err, -ENOMEM, "cannot start libzmq: %s", zmq_strerror(errno));
	}
	mask = umask(077); /* ipc sockets belong to this user alone */
	for (int i = 0; i < WALL_CHANNELS && code == 0; i++)
		code = open_one(channels, (enum wall_channel)i, connection, deadline, signals, err);
	umask(mask);
	if (code < 0) {
		channels_free(channels, 0);
		return code;
	}
	*ret_channels = channels;
	return 0;
}

struct channels *channels_free(struct channels *channels, int linger_ms)
{
	if (!channels)
		return NULL;
	for (int i = 0; i < WALL_CHANNELS; i++) {
		if (channels->socket[i]) {
			char endpoint[ENDPOINT_MAX] = "";
			size_t size = sizeof(endpoint);

			zmq_getsockopt(channels->socket[i], ZMQ_LAST_ENDPOINT, endpoint, &size);
			zmq_unbind(channels->socket[i], endpoint);
		}
	}
	while (channels->first) {
		struct waiting *waiting = channels->first;

		channels->first = waiting->next;
		wall_frame_unref(waiting->frame);
		free(waiting);
	}
	for (int i = 0; i < WALL_CHANNELS; i++) {
		if (channels->socket[i]) {
			zmq_socket_monitor(channels->socket[i], NULL, 0);
			set_int(channels->socket[i], ZMQ_LINGER, linger_ms);
			zmq_close(channels->socket[i]);
		}
		if (channels->monitor[i])
			zmq_close(channels->monitor[i]);
		if (channels->ipc_path[i])
			unlink(channels->ipc_path[i]); /* libzmq does it too, but not on every path
							*/
		free(channels->ipc_path[i]);
	}
	while (zmq_ctx_term(channels->context) < 0 && errno == EINTR)
		;
	free(channels);
	return NULL;
}

int channels_poll(struct channels *channels, zmq_pollitem_t *items, size_t count, long timeout)
{
	return watch_poll(channels ? channels->watch : NULL, channels ? 2 * WALL_CHANNELS : 0,
			  items, count, timeout);
}

void *channels_socket(struct channels *channels, enum wall_channel channel)
{
	return channels->socket[channel];
}

/* ---- receiving ---- */

/* Reads and forgets the rest of a message that is over a limit. */
static int discard_rest(void *socket)
{
	zmq_msg_t rest;
	bool more = true;

	while (more) {
		zmq_msg_init(&rest);
		if (zmq_msg_recv(&rest, socket, ZMQ_DONTWAIT) < 0)
			more = false;
		else
			more = zmq_msg_more(&rest);
		zmq_msg_close(&rest);
	}
	return -EMSGSIZE;
}

static struct message *message_room(struct message *message, size_t frames)
{
	/* zmq_msg_t may be moved by realloc only through zmq_msg_move, so each growth moves one by
	 * one. */
	struct message *larger =
		calloc(1, sizeof(*larger) + frames * (sizeof(zmq_msg_t) + sizeof(struct iovec)));

	if (!larger) {
		message_free(message);
		return NULL;
	}
	if (message) {
		for (size_t i = 0; i < message->count; i++) {
			zmq_msg_init(&larger->frames[i]);
			zmq_msg_move(&larger->frames[i], &message->frames[i]);
			zmq_msg_close(&message->frames[i]);
		}
		larger->count = message->count;
		larger->bytes = message->bytes;
		free(message);
	}
	larger->parts = (struct iovec *)(void *)&larger->frames[frames];
	return larger;
}

int channels_receive(struct channels *channels, enum wall_channel channel,
		     struct message **ret_message)
{
	void *socket = channels->socket[channel];
	size_t room = 12;
	struct message *message = message_room(NULL, room);
	bool more = true;

	channels->watch[channel].look = true;
	if (!message)
		return -ENOMEM;
	while (more) {
		zmq_msg_t *frame;

		if (message->count == CLIENT_FRAMES_MAX || message->bytes > WALL_TOTAL_MAX) {
			message_free(message);
			return discard_rest(socket);
		}
		if (message->count == room) {
			room *= 4;
			message = message_room(message, room);
			if (!message) {
				discard_rest(socket);
				return -ENOMEM;
			}
		}
		frame = &message->frames[message->count];
		zmq_msg_init(frame);
		if (zmq_msg_recv(frame, socket, ZMQ_DONTWAIT) < 0) {
			zmq_msg_close(frame);
			message_free(message);
			return 0; /* only before the first frame: messages are atomic
				     (zmq_msg_recv(3)) */
		}
		message->count++;
		message->bytes += zmq_msg_size(frame);
		more = zmq_msg_more(frame);
	}
	if (message->bytes > WALL_TOTAL_MAX) {
		message_free(message);
		return -EMSGSIZE;
	}
	for (size_t i = 0; i < message->count; i++)
		message->parts[i] = (struct iovec){.iov_base = zmq_msg_data(&message->frames[i]),
						   .iov_len = zmq_msg_size(&message->frames[i])};
	*ret_message = message;
	return 1;
}

/* ---- sending ---- */

/* libzmq's I/O thread: a body has reached its last client, or its client is gone. */
static void give_back(void *data, void *hint)
{
	struct loan *loan = hint;

	if (!loan->frame)
		free(data);
	atomic_fetch_sub_explicit(&loan->account->bytes, loan->bytes, memory_order_relaxed);
	if (loan->output)
		atomic_fetch_add_explicit(&loan->account->returned, 1, memory_order_relaxed);
	wall_frame_unref(loan->frame);
	free(loan);
}

static int frame_copy(zmq_msg_t *message, const void *data, size_t size)
{
	if (zmq_msg_init_size(message, size) < 0)
		return -ENOMEM;
	if (size)
		memcpy(zmq_msg_data(message), data, size);
	return 0;
}

static int frame_lend(struct channels *channels, enum wall_channel channel, zmq_msg_t *message,
		      struct wall_frame *frame, struct iovec part, long bytes)
{
	struct loan *loan = malloc(sizeof(*loan));

	if (!loan)
		return -ENOMEM;
	*loan = (struct loan){wall_frame_ref(frame), &channels->account, bytes,
			      channel == WALL_IOPUB};
	if (zmq_msg_init_data(message, part.iov_base, part.iov_len, give_back, loan) < 0) {
		wall_frame_unref(frame);
		free(loan);
		return -ENOMEM;
	}
	atomic_fetch_add_explicit(&channels->account.bytes, bytes, memory_order_relaxed);
	return 0;
}

/*
 * What a message costs until its last client has it: its bytes, and for each part what we and, per
 * client, libzmq keep of it. A kernel can send thousands of empty parts.
 */
static long cost_of(const struct channels *channels, size_t bytes, size_t parts)
{
	const size_t clients = channels->connections ? channels->connections : 1;

	return (long)(bytes + sizeof(struct wall_frame) +
		      parts * (sizeof(struct iovec) + PART_COST + clients * sizeof(zmq_msg_t)));
}

/*
 * Sends the parts of `frame`. The first lent part carries the whole frame in the account; a message
 * of small parts lends its last one, so that every message is counted. Returns 0, or -errno of the
 * first part (nothing was sent).
 */
static int send_frame(struct channels *channels, enum wall_channel channel,
		      struct wall_frame *frame)
{
	long bytes = cost_of(channels, frame->total, frame->count);

	channels->watch[channel].look = true;
	for (size_t i = 0; i < frame->count; i++) {
		const bool last = i + 1u == frame->count;
		struct iovec part = frame->parts[i];
		zmq_msg_t message;
		int code;

		if (part.iov_len > COPY_MAX || (last && bytes)) {
			code = frame_lend(channels, channel, &message, frame, part, bytes);
			bytes = 0;
		} else {
			code = frame_copy(&message, part.iov_base, part.iov_len);
		}
		/* A multi-part message cannot be taken back: past the first part an empty one
		 * stands in. */
		if (code < 0 && i == 0)
			return code;
		if (code < 0)
			zmq_msg_init(&message);
		if (zmq_msg_send(&message, channels->socket[channel],
				 ZMQ_DONTWAIT | (last ? 0 : ZMQ_SNDMORE)) < 0) {
			code = -errno;
			zmq_msg_close(&message);
			return code;
		}
	}
	return 0;
}

static bool same_client(const struct waiting *waiting, enum wall_channel channel,
			const struct wall_frame *frame)
{
	const struct iovec *a = &waiting->frame->parts[0], *b = &frame->parts[0];

	return waiting->channel == channel && a->iov_len == b->iov_len &&
	       memcmp(a->iov_base, b->iov_base, a->iov_len) == 0;
}

static int queue_reply(struct channels *channels, enum wall_channel channel,
		       struct wall_frame *frame)
{
	const long cost = cost_of(channels, frame->total, frame->count);
	struct waiting *waiting;

	if (channels->waiting_bytes + cost > REPLY_QUEUE_BYTES ||
	    channels->waiting_count == REPLY_QUEUE_MAX)
		return -ENOBUFS;
	waiting = calloc(1, sizeof(*waiting));
	if (!waiting)
		return -ENOMEM;
	waiting->channel = channel;
	waiting->frame = wall_frame_ref(frame);
	waiting->deadline = now_ms() + REPLY_RETRY_MS;
	*channels->last = waiting;
	channels->last = &waiting->next;
	waiting->cost = cost;
	channels->waiting_bytes += cost;
	channels->waiting_count++;
	return 0;
}

int channels_send(struct channels *channels, enum wall_channel channel, struct wall_frame *frame)
{
	int code = 0;

	if (channel != WALL_IOPUB) {
		/* What waits for the same client goes first. */
		for (const struct waiting *w = channels->first; w && code == 0; w = w->next)
			if (same_client(w, channel, frame))
				code = -EHOSTUNREACH;
	}
	if (code == 0)
		code = send_frame(channels, channel, frame);
	if (code == -EHOSTUNREACH || code == -EAGAIN)
		code = queue_reply(channels, channel, frame);
	wall_frame_unref(frame);
	return code;
}

/* A copy that is counted like a loan: what we say ourselves waits for slow clients too. */
static int frame_own(struct channels *channels, enum wall_channel channel, zmq_msg_t *message,
		     struct iovec part, long bytes)
{
	struct loan *loan = malloc(sizeof(*loan));
	void *copy = malloc(part.iov_len ? part.iov_len : 1);

	if (!loan || !copy) {
		free(loan);
		free(copy);
		return -ENOMEM;
	}
	memcpy(copy, part.iov_base, part.iov_len);
	*loan = (struct loan){NULL, &channels->account, bytes, channel == WALL_IOPUB};
	if (zmq_msg_init_data(message, copy, part.iov_len, give_back, loan) < 0) {
		free(loan);
		free(copy);
		return -ENOMEM;
	}
	atomic_fetch_add_explicit(&channels->account.bytes, bytes, memory_order_relaxed);
	return 0;
}

int channels_send_own(struct channels *channels, enum wall_channel channel,
		      const struct iovec *parts, size_t count)
{
	size_t bytes = 0;

	for (size_t i = 0; i < count; i++)
		bytes += parts[i].iov_len;
	channels->watch[channel].look = true;
	for (size_t i = 0; i < count; i++) {
		const bool last = i + 1 == count;
		zmq_msg_t message;
		int code = last ? frame_own(channels, channel, &message, parts[i],
					    cost_of(channels, bytes, count))
				: frame_copy(&message, parts[i].iov_base, parts[i].iov_len);

		if (code < 0 && i == 0)
			return code;
		if (code < 0)
			zmq_msg_init(&message); /* what has begun must end */
		if (zmq_msg_send(&message, channels->socket[channel],
				 ZMQ_DONTWAIT | (last ? 0 : ZMQ_SNDMORE)) < 0) {
			code = -errno;
			zmq_msg_close(&message);
			return code;
		}
	}
	return 0;
}

unsigned channels_retry(struct channels *channels)
{
	struct waiting **link = &channels->first;
	const int64_t now = now_ms();
	unsigned given_up = 0;

	while (*link) {
		struct waiting *waiting = *link;
		int code = send_frame(channels, waiting->channel, waiting->frame);

		if (code < 0 && now < waiting->deadline) {
			link = &waiting->next;
			continue;
		}
		if (code < 0)
			given_up++;
		*link = waiting->next;
		channels->waiting_bytes -= waiting->cost;
		channels->waiting_count--;
		wall_frame_unref(waiting->frame);
		free(waiting);
	}
	channels->last = link;
	return given_up;
}

bool channels_waiting(const struct channels *channels)
{
	return channels->first != NULL;
}

long channels_outstanding(const struct channels *channels)
{
	return atomic_load_explicit(&channels->account.bytes, memory_order_relaxed) +
	       channels->waiting_bytes;
}

unsigned long channels_progress(const struct channels *channels)
{
	return atomic_load_explicit(&channels->account.returned, memory_order_relaxed);
}

/* ---- clients that do not read ---- */

static bool still_there(const struct connected *connected)
{
	struct stat now;

	return fstat(connected->fd, &now) == 0 && S_ISSOCK(now.st_mode) &&
	       now.st_ino == connected->inode;
}

/* The connections are remembered on libzmq's ACCEPTED event, which names the descriptor
 * (zmq_socket_monitor(3)). */
static void remember(struct channels *channels, enum wall_channel channel, int fd)
{
	struct stat now;
	size_t kept = 0;

	for (size_t i = 0; i < channels->connections; i++)
		if (still_there(&channels->connection[i]))
			channels->connection[kept++] = channels->connection[i];
	channels->connections = kept;
	if (kept < CONNECTIONS_MAX && fstat(fd, &now) == 0 && S_ISSOCK(now.st_mode))
		channels->connection[channels->connections++] =
			(struct connected){.fd = fd, .inode = now.st_ino, .channel = channel};
}

void *channels_monitor(struct channels *channels, enum wall_channel channel)
{
	return channels->monitor[channel];
}

void channels_watch(struct channels *channels, enum wall_channel channel)
{
	channels->watch[WALL_CHANNELS + channel].look = true;
	for (;;) {
		unsigned char event[6] = {0};
		uint32_t fd;
		char address[ENDPOINT_MAX];

		/* Frame 1: u16 event, u32 value; frame 2: the address. Both in host order. */
		if (zmq_recv(channels->monitor[channel], event, sizeof(event), ZMQ_DONTWAIT) < 0)
			return;
		zmq_recv(channels->monitor[channel], address, sizeof(address), ZMQ_DONTWAIT);
		memcpy(&fd, event + 2, sizeof(fd));
		remember(channels, channel, (int)fd);
	}
}

/*
 * libzmq lets go of what it held for a cut client in steps that both of its threads take; asking
 * for events makes ours take its own. The count is whole when it stands still.
 */
static unsigned long settled_progress(struct channels *channels)
{
	const int64_t until = now_ms() + 500;
	unsigned long seen, now = channels_progress(channels);

	do {
		seen = now;
		poll(NULL, 0, 20);
		for (int i = 0; i < WALL_CHANNELS; i++) {
			int events;
			size_t size = sizeof(events);

			zmq_getsockopt(channels->socket[i], ZMQ_EVENTS, &events, &size);
			channels->watch[i].look = true;
		}
		poll(NULL, 0, 20);
		now = channels_progress(channels);
	} while (seen != now && now_ms() < until);
	return now;
}

unsigned channels_cut_stalled(struct channels *channels, unsigned long *ret_lost)
{
	const unsigned long before = channels_progress(channels);
	unsigned cut = 0;

	for (size_t i = 0; i < channels->connections; i++) {
		const struct connected *connected = &channels->connection[i];
		int unsent = 0;

		if (!still_there(connected) || ioctl(connected->fd, SIOCOUTQ, &unsent) < 0 ||
		    unsent == 0)
			continue;
		if (shutdown(connected->fd, SHUT_RDWR) == 0)
			cut++;
	}
	*ret_lost = cut ? settled_progress(channels) - before : 0;
	return cut;
}
