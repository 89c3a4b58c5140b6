/*
 * Theory of operation
 *
 * run() connects, reads and sends, then settles what the loop is asked for. It is called by the
 * loop, never from inside itself; a port that is closed meanwhile is freed at its end. Besides it,
 * port_send sends and settles when run() is not to do it, and port_drain reads what is left when
 * nobody writes any more. While nothing is to be read or sent the descriptor is not watched at all:
 * epoll tells of a hang-up unasked, again and again.
 */
#include "web/port.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

#include "sandbox/lane.h"
#include "sandbox/relay.h"
#include "web/loop.h"

#define ROUND_BYTES (4u * 1024 * 1024)	/* of one port in one round */
#define DRAIN_BYTES (16u * 1024 * 1024) /* more than a socket holds if nobody writes on */
#define TURN_BYTES  (256u * 1024)	/* read between two looks at `waits` */
#define CONNECT_MS  100			/* between two looks for the socket, at the most */
#define SEND_MOST   (1024u * 1024)	/* waits to be sent; one message of any size may */

/* What is small is first and the lane last: of its buffers most pages are never touched. */
struct port {
	struct loop *loop;
	const struct port_user *user;
	void *arg;
	struct watch *watch;
	unsigned events; /* that are watched for */
	struct timer *timer;
	int pause;     /* ms to the next look for the socket; 0: it is there */
	size_t queued; /* bytes to be sent */
	bool full;     /* a send gave EAGAIN */
	bool running, closed;
	char identity[PORT_IDENTITY + 1];
	char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	struct lane lane;
};

/* ---- what the lane says ---- */

static void lane_opened(void *arg, struct lane *lane)
{
	struct port *port = arg;

	(void)lane;
	port->pause = 0;
}

static void lane_closed(void *arg, struct lane *lane, bool broken)
{
	struct port *port = arg;

	(void)lane;
	(void)broken;
	port->watch = loop_unwatch(port->watch);
}

static void lane_message(void *arg, struct lane *lane, const struct iovec *parts, size_t count,
			 size_t bytes)
{
	struct port *port = arg;

	(void)lane;
	(void)bytes;
	if (!port->closed)
		port->user->message(port->arg, parts, count, NULL);
}

static enum lane_fate lane_large(void *arg, struct lane *lane, const struct iovec *parts,
				 size_t count, size_t bytes, size_t last)
{
	(void)arg;
	(void)lane;
	(void)parts;
	(void)count;
	(void)last;
	return bytes <= WALL_TOTAL_MAX ? LANE_KEEP : LANE_SKIP;
}

static void lane_whole(void *arg, struct lane *lane, const struct iovec *parts, size_t count,
		       size_t bytes, void *block)
{
	struct port *port = arg;

	(void)lane;
	(void)bytes;
	if (port->closed)
		free(block);
	else
		port->user->message(port->arg, parts, count, block);
}

static void lane_skipped(void *arg, struct lane *lane, size_t bytes)
{
	struct port *port = arg;

	(void)lane;
	(void)bytes;
	if (!port->closed)
		port->user->skipped(port->arg);
}

static const struct lane_user lane_user = {.opened = lane_opened,
					   .closed = lane_closed,
					   .message = lane_message,
					   .large = lane_large,
					   .whole = lane_whole,
					   .skipped = lane_skipped};

/* ---- in the loop ---- */

static void run(struct port *port);

static void ready(void *arg, unsigned events)
{
	struct port *port = arg;

	port->lane.look = port->lane.look || (events & (LOOP_READ | LOOP_HANGUP));
	run(port);
}

static void later(void *arg)
{
	struct port *port = arg;

	port->timer = NULL;
	run(port);
}

static void come_back(struct port *port, int64_t ms)
{
	if (port->timer)
		loop_again(port->timer, ms);
	else
		(void)loop_after(port->loop, ms, later, port, &port->timer, NULL);
}

static void watch(struct port *port, unsigned events)
{
	if (events == port->events && (port->watch || !events))
		return;
	port->events = events;
	if (!events)
		port->watch = loop_unwatch(port->watch);
	else if (port->watch)
		(void)loop_change(port->watch, events);
	else if (loop_watch(port->loop, port->lane.fd, events, ready, port, &port->watch, NULL) < 0)
		come_back(port, 100);
}

/* What is to wake us. */
static void settle(struct port *port)
{
	const bool reads = !port->user->waits(port->arg);

	if (port->lane.state == LANE_AWAY) {
		const int64_t wait = port->lane.connect_at - now_ms();

		come_back(port, wait > 0 ? wait : 0);
		return;
	}
	watch(port, (reads ? LOOP_READ : 0u) | (lane_wants_write(&port->lane) ? LOOP_WRITE : 0u));
	if (reads && port->lane.look)
		come_back(port, 0);
}

static void read_some(struct port *port)
{
	for (size_t taken = 0; taken < ROUND_BYTES; taken += TURN_BYTES) {
		if (port->closed || !port->lane.look || port->lane.state == LANE_AWAY ||
		    port->user->waits(port->arg))
			return;
		lane_read(&port->lane, TURN_BYTES, now_ms());
	}
}

static void end(struct port *port)
{
	loop_cancel(port->timer);
	loop_unwatch(port->watch);
	lane_drop(&port->lane);
	free(port);
}

/* The sooner it was there a moment ago. */
static void look_for_socket(struct port *port)
{
	const int64_t now = now_ms();

	lane_connect(&port->lane, now);
	if (port->lane.state != LANE_AWAY)
		return;
	port->pause = port->pause ? 2 * port->pause : RELAY_RECONNECT_MS;
	if (port->pause > CONNECT_MS)
		port->pause = CONNECT_MS;
	port->lane.connect_at = now + port->pause;
}

static void run(struct port *port)
{
	port->running = true;
	if (port->lane.state == LANE_AWAY && port->lane.connect_at <= now_ms())
		look_for_socket(port);
	read_some(port);
	if (!port->closed && lane_wants_write(&port->lane))
		lane_flush(&port->lane, now_ms());
	if (!port->closed && port->full && port->queued <= SEND_MOST / 2) {
		port->full = false;
		port->user->writable(port->arg);
	}
	port->running = false;
	if (port->closed)
		end(port);
	else
		settle(port);
}

/* ---- for the bridge ---- */

/* As calloc, but for buffers. */
static struct port *new_port(void)
{
	struct port *port = malloc(sizeof(*port));

	if (!port)
		return NULL;
	memset(port, 0, offsetof(struct port, lane.in));
	memset(&port->lane.large, 0, offsetof(struct lane_large, parts));
	return port;
}

int port_open(struct loop *loop, const char *path, enum wall_channel channel, const char *identity,
	      const struct port_user *user, void *arg, struct port **ret_port)
{
	struct port *port;

	if (strlen(path) >= sizeof(port->path))
		return -ENAMETOOLONG;
	port = new_port();
	if (!port)
		return -ENOMEM;
	port->loop = loop;
	port->user = user;
	port->arg = arg;
	(void)snprintf(port->path, sizeof(port->path), "%s", path);
	(void)snprintf(port->identity, sizeof(port->identity), "%s", identity);
	port->lane.channel = channel;
	port->lane.path = port->path;
	port->lane.type = channel == WALL_IOPUB ? "SUB" : "DEALER";
	port->lane.identity = port->identity;
	port->lane.user = &lane_user;
	port->lane.arg = port;
	lane_init(&port->lane, &port->queued);
	come_back(port, 0);
	if (!port->timer) {
		free(port);
		return -ENOMEM;
	}
	*ret_port = port;
	return 0;
}

struct port *port_close(struct port *port)
{
	if (!port)
		return NULL;
	port->closed = true;
	lane_close(&port->lane, 0, 0, false);
	if (!port->running)
		end(port);
	return NULL;
}

static struct wall_frame *make_frame(const struct iovec *frames, size_t count)
{
	struct wall_frame *frame;
	size_t total = 0;
	char *at;

	for (size_t i = 0; i < count; i++)
		total += frames[i].iov_len;
	frame = malloc(sizeof(*frame) + count * sizeof(frames[0]) + total);
	if (!frame)
		return NULL;
	*frame = (struct wall_frame){.refs = 1,
				     .kind = WALL_MESSAGE,
				     .count = (uint16_t)count,
				     .total = (uint32_t)total};
	at = (char *)&frame->parts[count];
	for (size_t i = 0; i < count; i++) {
		frame->parts[i] = (struct iovec){at, frames[i].iov_len};
		if (frames[i].iov_len > 0)
			memcpy(at, frames[i].iov_base, frames[i].iov_len);
		at += frames[i].iov_len;
	}
	return frame;
}

int port_send(struct port *port, const struct iovec *frames, size_t count)
{
	struct wall_frame *frame;
	int r;

	if (port->queued > SEND_MOST) {
		port->full = true;
		return -EAGAIN;
	}
	frame = make_frame(frames, count);
	r = frame ? lane_send(&port->lane, frame) : -ENOMEM;
	wall_frame_unref(frame);
	if (r < 0 || port->running)
		return r;
	if (port->lane.state == LANE_OPEN)
		lane_flush(&port->lane, now_ms());
	settle(port);
	return 0;
}

void port_drain(struct port *port)
{
	if (!port || port->closed || port->running)
		return;
	port->running = true;
	port->lane.look = port->lane.state != LANE_AWAY;
	for (size_t taken = 0; taken < DRAIN_BYTES && !port->closed && port->lane.look;
	     taken += TURN_BYTES)
		lane_read(&port->lane, TURN_BYTES, now_ms());
	port->running = false;
	if (port->closed)
		end(port);
	else
		settle(port);
}

size_t port_queued(const struct port *port)
{
	return port->queued;
}

void port_look(struct port *port)
{
	if (!port || port->closed)
		return;
	port->lane.look = port->lane.state != LANE_AWAY;
	come_back(port, 0);
}
