#include "sandbox/relay.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "sandbox/airlock.h"
#include "sandbox/base.h"
#include "sandbox/parcel.h"
#include "sandbox/process.h"
#include "sandbox/spec.h"
#include "sandbox/wall.h"

/*
 * Theory of operation
 *
 * One thread of ours, and libzmq's one I/O thread. Each pass of the loop: poll(2) on the wall, the
 * lifeline and the sockets' descriptors; take messages from the sockets that may have some, replies
 * before output; write.
 *
 * ZMQ_FD is edge-triggered (zmq_getsockopt(3)): it tells of commands between libzmq's threads, not
 * of messages, and any call on the socket may swallow it. So a lane is looked at until it says
 * EAGAIN whenever its descriptor was readable or something was sent on it: `look`. zmq_poll(3)
 * would do the same with three system calls per socket and pass.
 *
 * What comes from the kernel is never parsed. It is lent to the wall's writer in libzmq's own
 * memory and given back when written. The wall is never waited for: output past a limit is dropped
 * and counted, replies past a limit stay in the kernel's sockets.
 *
 * Nothing from the wall goes to the kernel before the connection to its iopub stands: what it
 * publishes while nobody is subscribed is lost, and its first "busy" would be.
 */

struct lane {
	void *socket;
	int fd;	   /* ZMQ_FD */
	bool look; /* it may have messages */
};

enum state {
	STATE_CONNECTING, /* the kernel's iopub is not there yet; the wall is not read */
	STATE_RELAYING,
	STATE_DRAINING, /* the proxy has shut down its side */
	STATE_FLUSHING,
};

struct relay {
	void *context;
	struct lane lanes[WALL_CHANNELS];
	struct lane monitor; /* of iopub */
	struct wall_reader *reader;
	struct wall_writer *writer;
	char identity[17];
	enum state state;
	int64_t settle_at, resubscribe_at; /* now_ms; 0: not set */
	int64_t quiet_at, drained_at;	   /* in STATE_DRAINING; then the end of STATE_FLUSHING */
	int64_t gather_until;		   /* output is left where it is before; 0: not now */
	bool passed_output, passed_reply;  /* in this pass */
	bool resubscribed;		   /* and not connected yet */
	bool replies_paused;
	bool dropping;
	uint64_t dropped_messages, dropped_bytes; /* not told yet */
	size_t held_output, held_replies;	  /* lent to the writer */
};

/* In the current directory. */
static const char *const endpoints[WALL_CHANNELS] = {
	[WALL_SHELL] = "ipc://" INSIDE_IPC_NAME "-1",
	[WALL_IOPUB] = "ipc://" INSIDE_IPC_NAME "-2",
	[WALL_STDIN] = "ipc://" INSIDE_IPC_NAME "-3",
	[WALL_CONTROL] = "ipc://" INSIDE_IPC_NAME "-4",
	[WALL_HB] = "ipc://" INSIDE_IPC_NAME "-5",
};

static void count_dropped(struct relay *relay, size_t bytes)
{
	relay->dropped_messages++;
	relay->dropped_bytes += bytes;
}

/* Says how much was given up since the last time, behind the output that went before it. */
static void tell_dropped(struct relay *relay)
{
	uint64_t *counts = malloc(2 * sizeof(*counts));
	struct iovec part = {.iov_base = counts, .iov_len = 2 * sizeof(*counts)};

	if (!counts)
		return;
	counts[0] = htole64(relay->dropped_messages);
	counts[1] = htole64(relay->dropped_bytes);
	if (wall_writer_push(relay->writer, WALL_DROPPED, WALL_IOPUB, false, &part, 1, free,
			     counts) < 0) {
		free(counts);
		return;
	}
	relay->dropped_messages = 0;
	relay->dropped_bytes = 0;
}

static void become_ready(struct relay *relay)
{
	relay->settle_at = 0;
	if (relay->state != STATE_CONNECTING)
		return;
	if (wall_writer_push(relay->writer, WALL_READY, WALL_IOPUB, true, NULL, 0, NULL, NULL) < 0)
		_exit(1); /* out of memory before anything began */
	relay->state = STATE_RELAYING;
}

/* One message from the kernel. Once output is dropped it is until half of it is gone: one gap, not
 * one per message. */
static void from_kernel(struct relay *relay, enum wall_channel channel, struct parcel *parcel,
			size_t size)
{
	bool output = channel == WALL_IOPUB;

	if (output && relay->held_output >= RELAY_OUTPUT_MAX)
		relay->dropping = true;
	if (output && relay->dropping) {
		parcel_free(parcel);
		count_dropped(relay, size);
		return;
	}
	if (parcel_push(parcel, relay->writer, channel, !output,
			output ? &relay->held_output : &relay->held_replies) < 0)
		count_dropped(relay, size);
}

/* Takes what a lane has, within its turn. */
static void take_turn(struct relay *relay, enum wall_channel channel)
{
	struct lane *lane = &relay->lanes[channel];
	size_t bytes = 0;

	for (unsigned i = 0; i < RELAY_TURN_MESSAGES && bytes < RELAY_TURN_BYTES; i++) {
		struct parcel *parcel = NULL;
		size_t size = 0;
		int r = parcel_take(lane->socket, &parcel, &size);

		if (r == 0) {
			lane->look = false;
			break;
		}
		bytes += size;
		if (channel == WALL_IOPUB)
			become_ready(relay);
		if (r < 0)
			count_dropped(relay, size);
		else
			from_kernel(relay, channel, parcel, size);
	}
	if (bytes > 0 && relay->state == STATE_DRAINING)
		relay->quiet_at = now_ms() + RELAY_QUIET_MS;
	if (bytes > 0 && channel == WALL_IOPUB)
		relay->passed_output = true;
	else if (bytes > 0)
		relay->passed_reply = true;
}

/* The next output waits, see RELAY_GATHER_MS; not when some is left that was not taken in its turn.
 */
static void begin_gathering(struct relay *relay)
{
	if (relay->passed_output && !relay->passed_reply && !relay->lanes[WALL_IOPUB].look &&
	    relay->state == STATE_RELAYING)
		relay->gather_until = now_ms() + RELAY_GATHER_MS;
}

static void end_gathering(struct relay *relay)
{
	if (relay->gather_until)
		relay->lanes[WALL_IOPUB].look = true; /* its descriptor was not watched */
	relay->gather_until = 0;
}

static void connect_again(struct relay *relay, enum wall_channel channel)
{
	/* Clears what is left of the connection that libzmq ended; there may be nothing. */
	(void)zmq_disconnect(relay->lanes[channel].socket, endpoints[channel]);
	(void)zmq_connect(relay->lanes[channel].socket, endpoints[channel]);
}

/* One frame of the proxy's to its lane. A kernel that spoilt a connection gets a new one with the
 * next message. */
static void to_kernel(struct relay *relay, struct wall_frame *frame)
{
	struct lane *lane = &relay->lanes[frame->channel];
	int r;

	if (frame->kind != WALL_MESSAGE || frame->channel == WALL_IOPUB)
		return; /* nothing the proxy has reason to say */
	lane->look = true;
	r = parcel_send(frame, lane->socket);
	if (r == -EAGAIN) {
		connect_again(relay, frame->channel);
		r = parcel_send(frame, lane->socket);
	}
	if (r == -ENOMEM)
		_exit(1); /* half a message cannot be taken back */
}

static void begin_drain(struct relay *relay)
{
	int64_t now = now_ms();

	relay->state = STATE_DRAINING;
	relay->quiet_at = now + RELAY_QUIET_MS;
	relay->drained_at = now + RELAY_DRAIN_MS;
}

static bool input_full(void)
{
	return parcel_sending() >= RELAY_INPUT_MAX;
}

/* Reads what the wall has. Ends the process when the proxy is gone or does not keep to the format.
 */
static void read_wall(struct relay *relay)
{
	for (unsigned turns = 0; turns < 16 && !input_full(); turns++) {
		struct wall_frame *frame;
		size_t room = 0;
		void *buffer = wall_reader_buffer(relay->reader, &room);
		/* Not recvmsg(2): it would take descriptors too. */
		ssize_t got = recv(RELAY_FD_WALL, buffer, room, MSG_DONTWAIT);
		int code = 0;

		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got < 0)
			_exit(0);
		if (got == 0) {
			begin_drain(relay);
			return;
		}
		if (wall_reader_advance(relay->reader, (size_t)got, NULL) < 0)
			_exit(1);
		while ((frame = wall_reader_next(relay->reader, &code, NULL))) {
			to_kernel(relay, frame);
			wall_frame_unref(frame);
		}
		if (code < 0)
			_exit(1);
	}
}

/* What became of the connection to the kernel's iopub (zmq_socket_monitor(3)): first frame u16
 * event, u32 value. */
static void read_monitor(struct relay *relay)
{
	uint8_t data[256];
	uint16_t event;

	relay->monitor.look = false;
	while (zmq_recv(relay->monitor.socket, data, sizeof(data), ZMQ_DONTWAIT) >= 2) {
		memcpy(&event, data, sizeof(event));
		(void)zmq_recv(relay->monitor.socket, data, sizeof(data), ZMQ_DONTWAIT);
		if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
			relay->resubscribe_at = 0;
			if (relay->resubscribed && relay->state != STATE_CONNECTING)
				count_dropped(relay, 0); /* what ended the connection, at least */
			relay->resubscribed = false;
			if (relay->state == STATE_CONNECTING)
				relay->settle_at = now_ms() + RELAY_SETTLE_MS;
		} else if (event == ZMQ_EVENT_DISCONNECTED) {
			relay->settle_at = 0;
			relay->resubscribe_at = now_ms() + RELAY_RESUBSCRIBE_MS;
		}
	}
}

/* Does what time has come for. */
static void keep_time(struct relay *relay, int64_t now)
{
	if (relay->settle_at && now >= relay->settle_at)
		become_ready(relay);
	if (now >= relay->gather_until || relay->state != STATE_RELAYING)
		end_gathering(relay);
	if (relay->resubscribe_at && now >= relay->resubscribe_at &&
	    !relay->lanes[WALL_IOPUB].look) { /* with messages left it would lose them */
		relay->resubscribe_at = 0;
		relay->resubscribed = true;
		connect_again(relay, WALL_IOPUB);
		relay->lanes[WALL_IOPUB].look = true;
	}
	if (relay->state == STATE_DRAINING &&
	    (now >= relay->quiet_at || now >= relay->drained_at)) {
		relay->state = STATE_FLUSHING;
		relay->drained_at = now + RELAY_FLUSH_MS;
	}
	if (relay->state == STATE_FLUSHING &&
	    (wall_writer_pending(relay->writer) == 0 || now >= relay->drained_at))
		_exit(0);
}

/* Keeps time; returns for how many milliseconds poll(2) may sleep, -1 for ever. */
static int time_to_sleep(struct relay *relay)
{
	int64_t at[5] = {0};
	int64_t next = 0;
	int64_t now;

	if (relay->state < STATE_DRAINING && !relay->settle_at && !relay->resubscribe_at &&
	    !relay->gather_until)
		return input_full() ? 20 : -1; /* the I/O thread has no way to wake us */
	now = now_ms();
	keep_time(relay, now);
	at[0] = relay->settle_at;
	at[1] = relay->resubscribe_at;
	at[2] = relay->state == STATE_DRAINING ? relay->quiet_at : 0;
	at[3] = relay->state >= STATE_DRAINING ? relay->drained_at : 0;
	at[4] = relay->gather_until;
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		if (at[i] && (!next || at[i] < next))
			next = at[i];
	}
	return !next ? -1 : next > now ? (int)(next - now) : 0;
}

enum {
	POLL_WALL,
	POLL_LIFELINE,
	POLL_MONITOR,
	POLL_LANES,
	POLL_COUNT = POLL_LANES + WALL_CHANNELS
};

/* Whether a lane is read now. */
static bool lane_open(const struct relay *relay, size_t channel)
{
	if (relay->state == STATE_FLUSHING)
		return false;
	return channel == WALL_IOPUB ? !relay->gather_until : !relay->replies_paused;
}

/* What to wait for. Returns true when a lane may have messages already. */
static bool fill_poll(const struct relay *relay, struct pollfd fds[POLL_COUNT])
{
	bool work = false;

	fds[POLL_WALL] = (struct pollfd){.fd = RELAY_FD_WALL};
	fds[POLL_LIFELINE] = (struct pollfd){.fd = RELAY_FD_LIFELINE}; /* hang-ups come unasked */
	fds[POLL_MONITOR] = (struct pollfd){.fd = relay->monitor.fd, .events = POLLIN};
	if (relay->state == STATE_CONNECTING)
		fds[POLL_WALL].events = POLLRDHUP;
	else if (relay->state == STATE_RELAYING && !input_full())
		fds[POLL_WALL].events = POLLIN;
	if (wall_writer_pending(relay->writer) > 0)
		fds[POLL_WALL].events |= POLLOUT;
	for (size_t i = 0; i < WALL_CHANNELS; i++) {
		bool open = lane_open(relay, i);

		fds[POLL_LANES + i].fd = open ? relay->lanes[i].fd : -1;
		fds[POLL_LANES + i].events = POLLIN;
		work = work || (open && relay->lanes[i].look);
	}
	return work;
}

/* Waits for something to do, and notes it. */
static void wait_for_work(struct relay *relay)
{
	struct pollfd fds[POLL_COUNT] = {{0}};
	int timeout = time_to_sleep(relay);

	if (fill_poll(relay, fds))
		timeout = 0;
	if (poll(fds, POLL_COUNT, timeout) <= 0)
		return;
	if (fds[POLL_LIFELINE].revents)
		_exit(EXIT_ORPHAN);
	if (fds[POLL_WALL].revents & (POLLHUP | POLLERR | POLLNVAL))
		_exit(0);
	if (fds[POLL_MONITOR].revents)
		relay->monitor.look = true;
	for (size_t i = 0; i < WALL_CHANNELS; i++)
		relay->lanes[i].look |= fds[POLL_LANES + i].revents != 0;
	if (fds[POLL_WALL].revents & POLLRDHUP)
		begin_drain(relay);
	else if (fds[POLL_WALL].revents & POLLIN)
		read_wall(relay);
}

static void serve(struct relay *relay)
{
	static const enum wall_channel order[] = {WALL_CONTROL, WALL_SHELL, WALL_STDIN, WALL_HB,
						  WALL_IOPUB};

	for (;;) {
		wait_for_work(relay);
		if (relay->monitor.look)
			read_monitor(relay);
		relay->replies_paused =
			relay->held_replies >
			(relay->replies_paused ? RELAY_REPLIES_MAX / 2 : RELAY_REPLIES_MAX);
		relay->passed_output = relay->passed_reply = false;
		for (size_t i = 0; i < WALL_CHANNELS; i++) {
			if (relay->passed_reply)
				end_gathering(relay);
			if (relay->lanes[order[i]].look && lane_open(relay, order[i]))
				take_turn(relay, order[i]);
		}
		begin_gathering(relay);
		if (relay->held_output < RELAY_OUTPUT_MAX / 2 || relay->state == STATE_FLUSHING)
			relay->dropping = false;
		if (relay->dropped_messages > 0 && !relay->dropping)
			tell_dropped(relay);
		if (wall_writer_flush(relay->writer, RELAY_FD_WALL) < 0)
			_exit(0); /* the proxy is gone */
	}
}

static int set_number(void *socket, int option, int value)
{
	return zmq_setsockopt(socket, option, &value, sizeof(value));
}

static int lane_fd(struct lane *lane)
{
	size_t size = sizeof(lane->fd);

	lane->look = true;
	return zmq_getsockopt(lane->socket, ZMQ_FD, &lane->fd, &size);
}

/*
 * One socket with its options. libzmq's 1000 messages would be too few: what is over them it drops
 * without a word. What goes to the kernel has no limit here, or a kernel busy with one cell would
 * block control; see RELAY_INPUT_MAX.
 */
static int open_lane(struct relay *relay, enum wall_channel channel)
{
	struct lane *lane = &relay->lanes[channel];
	const int64_t largest = WALL_TOTAL_MAX;
	int r = 0;

	lane->socket = zmq_socket(relay->context, channel == WALL_IOPUB ? ZMQ_SUB : ZMQ_DEALER);
	if (!lane->socket)
		return -1;
	r |= set_number(lane->socket, ZMQ_LINGER, 0);
	r |= set_number(lane->socket, ZMQ_SNDHWM, 0);
	r |= set_number(lane->socket, ZMQ_RCVHWM,
			channel == WALL_IOPUB ? RELAY_OUTPUT_HWM : RELAY_REPLIES_HWM);
	r |= set_number(lane->socket, ZMQ_RECONNECT_IVL, RELAY_RECONNECT_MS);
	r |= zmq_setsockopt(lane->socket, ZMQ_MAXMSGSIZE, &largest, sizeof(largest));
	if (channel == WALL_IOPUB)
		r |= zmq_setsockopt(lane->socket, ZMQ_SUBSCRIBE, "", 0);
	/* One identity: ipykernel sends input_request on stdin to the identity it saw on shell. */
	if (channel == WALL_SHELL || channel == WALL_CONTROL || channel == WALL_STDIN)
		r |= zmq_setsockopt(lane->socket, ZMQ_ROUTING_ID, relay->identity,
				    strlen(relay->identity));
	return r < 0 ? -1 : lane_fd(lane);
}

/* The monitor's queue has no limit: libzmq's I/O thread would wait for us. */
static int open_monitor(struct relay *relay)
{
	static const char name[] = "inproc://iopub";

	relay->monitor.socket = zmq_socket(relay->context, ZMQ_PAIR);
	if (!relay->monitor.socket || set_number(relay->monitor.socket, ZMQ_RCVHWM, 0) < 0 ||
	    zmq_socket_monitor(relay->lanes[WALL_IOPUB].socket, name,
			       ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED) < 0 ||
	    zmq_connect(relay->monitor.socket, name) < 0)
		return -1;
	return lane_fd(&relay->monitor);
}

/* For the airlock: zmq_ctx_new looks up a protocol by name, which loads what /etc/nsswitch.conf
 * says. */
static int prepare(void *arg, struct err *err)
{
	struct relay *relay = arg;

	relay->context = zmq_ctx_new();
	if (!relay->context || zmq_ctx_set(relay->context, ZMQ_IO_THREADS, 1) < 0 ||
	    zmq_ctx_set(relay->context, ZMQ_MAX_SOCKETS, 16) < 0)
		return err_errno(err, "cannot make a ZeroMQ context");
	return 0;
}

static int start(struct relay *relay, bool plain, struct err *err)
{
	struct airlock airlock = {.plain = plain,
				  .lifeline = RELAY_FD_LIFELINE,
				  .sockets = RELAY_FD_SOCKETS,
				  .prepare = prepare,
				  .arg = relay};

	if (airlock_enter(&airlock, err) < 0)
		return err->code;
	relay->reader = wall_reader_new();
	relay->writer = wall_writer_new();
	if (!relay->reader || !relay->writer)
		return err_set(err, -ENOMEM, "wall: out of memory");
	if (random_hex(relay->identity, (sizeof(relay->identity) - 1) / 2) < 0)
		return err_errno(err, "identity: no random bytes");
	for (enum wall_channel i = 0; i < WALL_CHANNELS; i++) {
		if (open_lane(relay, i) < 0)
			return err_errno(err, "channels: cannot open %s", endpoints[i]);
	}
	if (open_monitor(relay) < 0)
		return err_errno(err, "channels: cannot watch %s", endpoints[WALL_IOPUB]);
	for (size_t i = 0; i < WALL_CHANNELS; i++) {
		if (zmq_connect(relay->lanes[i].socket, endpoints[i]) < 0)
			return err_errno(err, "channels: cannot connect to %s", endpoints[i]);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static struct relay relay;
	struct err err = {0};
	char line[sizeof(err.text) + 1];
	int size;

	if (start(&relay, argc == 2 && strcmp(argv[1], RELAY_PLAIN) == 0, &err) < 0) {
		/* One write: whoever reads the pipe once has all of it. */
		if ((size = snprintf(line, sizeof(line), "%s\n", err.text)) > 0)
			(void)write_full(RELAY_FD_ERROR, line, (size_t)size);
		_exit(1);
	}
	(void)close(RELAY_FD_ERROR);
	serve(&relay);
}
