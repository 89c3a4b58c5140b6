#include "sandbox/relay.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sandbox/airlock.h"
#include "sandbox/base.h"
#include "sandbox/lane.h"
#include "sandbox/process.h"
#include "sandbox/spec.h"
#include "sandbox/wall.h"

/*
 * Theory of operation
 *
 * One thread. Each pass of the loop: poll(2) on the wall, the lifeline and the lanes; take messages
 * from the lanes, replies before output; write.
 *
 * What comes from the kernel is never parsed but for its framing. Small messages are copied into
 * the wall's queue, a large output goes on piece by piece as it comes: the proxy then works on its
 * beginning while the kernel still writes its end. When such a one breaks off, zeroes take the
 * place of the rest, and its signature is wrong. The wall is never waited for: what it does not
 * take is kept, output past a limit is dropped and counted, replies past a limit stay in the
 * kernel's sockets.
 *
 * Nothing from the wall goes to the kernel before the connection to its iopub stands: what it
 * publishes while nobody is subscribed is lost, and its first "busy" would be.
 */

enum state {
	STATE_CONNECTING, /* the kernel's iopub is not there yet; the wall is not read */
	STATE_RELAYING,
	STATE_DRAINING, /* the proxy has shut down its side */
	STATE_FLUSHING,
};

struct relay {
	struct lane lanes[WALL_CHANNELS];
	struct wall_reader *reader;
	struct wall_writer *writer;
	char identity[17];
	enum state state;
	int64_t settle_at;	      /* now_ms; 0: not set */
	int64_t quiet_at, drained_at; /* in STATE_DRAINING; then the end of STATE_FLUSHING */
	int64_t gather_until;	      /* output is left where it is before; 0: not now */
	int gather_ms;		      /* how long the last such wait was */
	bool gathered;		      /* it has ended in this pass, by its time */
	int64_t stall_until;	      /* a large one waits for the wall before; 0: not now */
	size_t passed_output;	      /* bytes, in this pass */
	bool passed_reply;	      /* in this pass */
	bool gap[WALL_CHANNELS];      /* the connection ended where it should not */
	bool replies_paused;
	bool dropping;
	uint64_t dropped_messages, dropped_bytes; /* not told yet */
	size_t held_output, held_replies;	  /* in the writer */
	size_t queued;				  /* in the lanes, for the kernel */
};

/* In the current directory. */
static const char *const paths[WALL_CHANNELS] = {
	[WALL_SHELL] = INSIDE_IPC_NAME "-1", [WALL_IOPUB] = INSIDE_IPC_NAME "-2",
	[WALL_STDIN] = INSIDE_IPC_NAME "-3", [WALL_CONTROL] = INSIDE_IPC_NAME "-4",
	[WALL_HB] = INSIDE_IPC_NAME "-5",
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

/* ---- from the kernel ---- */

/* Whether a message goes on. Once output is dropped it is until half of it is gone: one gap, not
 * one per message. */
static bool wanted(struct relay *relay, const struct lane *lane)
{
	if (lane->channel != WALL_IOPUB)
		return true;
	become_ready(relay);
	if (relay->held_output >= RELAY_OUTPUT_MAX)
		relay->dropping = true;
	return !relay->dropping;
}

static size_t *held(struct relay *relay, const struct lane *lane)
{
	return lane->channel == WALL_IOPUB ? &relay->held_output : &relay->held_replies;
}

static void passed(struct relay *relay, const struct lane *lane, size_t bytes)
{
	if (lane->channel == WALL_IOPUB)
		relay->passed_output += bytes;
	else
		relay->passed_reply = true;
	if (relay->state == STATE_DRAINING)
		relay->quiet_at = now_ms() + RELAY_QUIET_MS;
}

static void take_message(void *arg, struct lane *lane, const struct iovec *parts, size_t count,
			 size_t bytes)
{
	struct relay *relay = arg;

	passed(relay, lane, bytes);
	if (!wanted(relay, lane) ||
	    wall_writer_copy(relay->writer, lane->channel, lane->channel != WALL_IOPUB, parts,
			     count, held(relay, lane)) < 0)
		count_dropped(relay, bytes);
}

/* Whether zeroes in the last part would be noticed: signatures cover all but buffers. */
static bool is_signed(const struct iovec *parts, size_t count)
{
	for (size_t i = 0; i + 1 < count; i++)
		if (parts[i].iov_len == 9 && memcmp(parts[i].iov_base, "<IDS|MSG>", 9) == 0)
			return i + 6 == count;
	return true; /* none that the proxy takes */
}

static enum lane_fate take_large(void *arg, struct lane *lane, const struct iovec *parts,
				 size_t count, size_t bytes, size_t last)
{
	struct relay *relay = arg;

	if (!wanted(relay, lane))
		return LANE_SKIP;
	/* A reply may wait: control and shell would share the one frame that can be open. */
	if (lane->channel != WALL_IOPUB || last < LANE_STREAM_LEAST ||
	    bytes - last > LANE_STREAM_FRONT || !is_signed(parts, count) ||
	    wall_writer_open(relay->writer, lane->channel, parts, count, last,
			     &relay->held_output) < 0)
		return LANE_KEEP;
	relay->stall_until = now_ms() + RELAY_STALL_MS;
	return LANE_STREAM;
}

static void take_stream(void *arg, struct lane *lane, const void *bytes, size_t size)
{
	struct relay *relay = arg;
	int r;

	passed(relay, lane, size);
	/* What stands before it goes first. */
	r = wall_writer_flush(relay->writer, RELAY_FD_WALL);
	if (r == 0)
		r = wall_writer_feed(relay->writer, RELAY_FD_WALL, bytes, size,
				     &relay->held_output);
	if (r < 0)
		_exit(r == -ENOMEM || r == -EINVAL ? 1 : 0); /* otherwise the proxy is gone */
}

static void take_whole(void *arg, struct lane *lane, const struct iovec *parts, size_t count,
		       size_t bytes, void *block)
{
	struct relay *relay = arg;

	passed(relay, lane, bytes);
	if (wall_writer_give(relay->writer, lane->channel, lane->channel != WALL_IOPUB, parts,
			     count, block, held(relay, lane)) < 0) {
		free(block);
		count_dropped(relay, bytes);
	}
}

static void take_skipped(void *arg, struct lane *lane, size_t bytes)
{
	struct relay *relay = arg;

	passed(relay, lane, bytes);
	if (lane->channel == WALL_IOPUB)
		become_ready(relay); /* also with what is over a cap */
	count_dropped(relay, bytes);
}

static void lane_opened(void *arg, struct lane *lane)
{
	struct relay *relay = arg;

	if (relay->gap[lane->channel] && relay->state != STATE_CONNECTING) {
		count_dropped(relay, 0); /* what ended the connection, at least */
		if (!relay->dropping)
			tell_dropped(relay);
	}
	relay->gap[lane->channel] = false;
	if (lane->channel == WALL_IOPUB && relay->state == STATE_CONNECTING)
		relay->settle_at = now_ms() + RELAY_SETTLE_MS;
}

static void lane_closed(void *arg, struct lane *lane, bool broken)
{
	struct relay *relay = arg;

	relay->gap[lane->channel] = relay->gap[lane->channel] || broken;
	if (lane->channel != WALL_IOPUB)
		return;
	relay->settle_at = 0;
	if (wall_writer_fill(relay->writer) < 0)
		_exit(1); /* nothing else could ever go on */
}

static const struct lane_user user = {.opened = lane_opened,
				      .closed = lane_closed,
				      .message = take_message,
				      .large = take_large,
				      .stream = take_stream,
				      .whole = take_whole,
				      .skipped = take_skipped};

/* The next output waits, see RELAY_GATHER_MS. */
static void begin_gathering(struct relay *relay)
{
	const struct lane *iopub = &relay->lanes[WALL_IOPUB];
	const int longer = relay->gathered ? 2 * relay->gather_ms : RELAY_GATHER_MS;

	relay->gathered = false;
	if (relay->passed_output > 0 && relay->passed_output < RELAY_GATHER_MOST &&
	    !relay->passed_reply && !iopub->look && lane_between(iopub) &&
	    relay->state == STATE_RELAYING) {
		relay->gather_ms = longer < RELAY_GATHER_MOST_MS ? longer : RELAY_GATHER_MOST_MS;
		relay->gather_until = now_ms() + relay->gather_ms;
	}
}

static void end_gathering(struct relay *relay)
{
	if (relay->gather_until && relay->lanes[WALL_IOPUB].state != LANE_AWAY)
		relay->lanes[WALL_IOPUB].look = true; /* its descriptor was not watched */
	relay->gather_until = 0;
}

/* ---- to the kernel ---- */

static void to_kernel(struct relay *relay, struct wall_frame *frame)
{
	if (frame->kind != WALL_MESSAGE || frame->channel == WALL_IOPUB)
		return; /* nothing the proxy has reason to say */
	if (lane_send(&relay->lanes[frame->channel], frame) < 0)
		_exit(1);
}

static void flush_lanes(struct relay *relay)
{
	for (size_t i = 0; i < WALL_CHANNELS; i++)
		if (lane_wants_write(&relay->lanes[i]))
			lane_flush(&relay->lanes[i], now_ms());
}

static void begin_drain(struct relay *relay)
{
	int64_t now = now_ms();

	relay->state = STATE_DRAINING;
	relay->quiet_at = now + RELAY_QUIET_MS;
	relay->drained_at = now + RELAY_DRAIN_MS;
}

static bool input_full(const struct relay *relay)
{
	return relay->queued >= RELAY_INPUT_MAX;
}

/* Reads what the wall has. Ends the process when the proxy is gone or does not keep to the format.
 */
static void read_wall(struct relay *relay)
{
	for (unsigned turns = 0; turns < 16 && !input_full(relay); turns++) {
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

/* Does what time has come for. */
static void keep_time(struct relay *relay, int64_t now)
{
	for (size_t i = 0; i < WALL_CHANNELS && relay->state != STATE_FLUSHING; i++) {
		struct lane *lane = &relay->lanes[i];

		if (lane->state == LANE_AWAY && now >= lane->connect_at)
			lane_connect(lane, now);
	}
	if (relay->settle_at && now >= relay->settle_at)
		become_ready(relay);
	relay->gathered = relay->gather_until && now >= relay->gather_until;
	if (relay->gathered || relay->state != STATE_RELAYING)
		end_gathering(relay);
	if (now >= relay->stall_until || !wall_writer_is_open(relay->writer))
		relay->stall_until = 0;
	if (relay->state == STATE_DRAINING &&
	    (now >= relay->quiet_at || now >= relay->drained_at)) {
		relay->state = STATE_FLUSHING;
		relay->drained_at = now + RELAY_FLUSH_MS;
		if (wall_writer_fill(relay->writer) < 0)
			_exit(1);
	}
	if (relay->state == STATE_FLUSHING &&
	    (wall_writer_pending(relay->writer) == 0 || now >= relay->drained_at))
		_exit(0);
}

/* The earlier of two moments; 0 is none. */
static int64_t earlier(int64_t one, int64_t other)
{
	return one && (!other || one < other) ? one : other;
}

/* Keeps time; returns for how many milliseconds poll(2) may sleep, -1 for ever. */
static int time_to_sleep(struct relay *relay)
{
	bool away = false;
	int64_t next, now;

	for (size_t i = 0; i < WALL_CHANNELS; i++)
		away = away || relay->lanes[i].state == LANE_AWAY;
	if (relay->state < STATE_DRAINING && !relay->settle_at && !relay->gather_until &&
	    !relay->stall_until && !away)
		return -1;
	now = now_ms();
	keep_time(relay, now);
	next = earlier(relay->settle_at, relay->gather_until);
	next = earlier(next, relay->stall_until);
	if (relay->state == STATE_DRAINING)
		next = earlier(next, relay->quiet_at);
	if (relay->state >= STATE_DRAINING)
		next = earlier(next, relay->drained_at);
	for (size_t i = 0; i < WALL_CHANNELS && relay->state != STATE_FLUSHING; i++)
		if (relay->lanes[i].state == LANE_AWAY)
			next = earlier(next, relay->lanes[i].connect_at);
	return !next ? -1 : next > now ? (int)(next - now) : 0;
}

enum { POLL_WALL, POLL_LIFELINE, POLL_LANES, POLL_COUNT = POLL_LANES + WALL_CHANNELS };

/* Whether a lane is read now. */
static bool lane_is_read(const struct relay *relay, size_t channel)
{
	if (relay->state == STATE_FLUSHING || relay->lanes[channel].state == LANE_AWAY)
		return false;
	if (channel == WALL_IOPUB)
		return !relay->gather_until &&
		       !(relay->stall_until && relay->state == STATE_RELAYING &&
			 wall_writer_ready(relay->writer));
	return !relay->replies_paused;
}

/* What to wait for. Returns true when a lane may have messages already. */
static bool fill_poll(const struct relay *relay, struct pollfd fds[POLL_COUNT])
{
	bool work = false;

	fds[POLL_WALL] = (struct pollfd){.fd = RELAY_FD_WALL};
	fds[POLL_LIFELINE] = (struct pollfd){.fd = RELAY_FD_LIFELINE}; /* hang-ups come unasked */
	if (relay->state == STATE_CONNECTING)
		fds[POLL_WALL].events = POLLRDHUP;
	else if (relay->state == STATE_RELAYING && !input_full(relay))
		fds[POLL_WALL].events = POLLIN;
	if (wall_writer_ready(relay->writer))
		fds[POLL_WALL].events |= POLLOUT;
	for (size_t i = 0; i < WALL_CHANNELS; i++) {
		const bool in = lane_is_read(relay, i), out = lane_wants_write(&relay->lanes[i]);

		/* A descriptor that nothing is asked of would still tell of its hang-up. */
		fds[POLL_LANES + i].fd = in || out ? relay->lanes[i].fd : -1;
		fds[POLL_LANES + i].events = (short)((in ? POLLIN : 0) | (out ? POLLOUT : 0));
		work = work || (in && relay->lanes[i].look);
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
		flush_lanes(relay);
		relay->replies_paused =
			relay->held_replies >
			(relay->replies_paused ? RELAY_REPLIES_MAX / 2 : RELAY_REPLIES_MAX);
		relay->passed_output = 0;
		relay->passed_reply = false;
		for (size_t i = 0; i < WALL_CHANNELS; i++) {
			if (relay->passed_reply)
				end_gathering(relay);
			if (relay->lanes[order[i]].look && lane_is_read(relay, order[i]))
				/* 2 bytes of a reply may cost 128 here. */
				lane_read(&relay->lanes[order[i]],
					  relay->stall_until || order[i] != WALL_IOPUB
						  ? LANE_SCRATCH
						  : RELAY_TURN_BYTES,
					  now_ms());
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

static void set_lane(struct relay *relay, enum wall_channel channel)
{
	struct lane *lane = &relay->lanes[channel];

	lane->channel = channel;
	lane->path = paths[channel];
	lane->type = channel == WALL_IOPUB ? "SUB" : "DEALER";
	/* One identity: ipykernel sends input_request on stdin to the identity it saw on shell. */
	lane->identity = channel == WALL_SHELL || channel == WALL_CONTROL || channel == WALL_STDIN
				 ? relay->identity
				 : "";
	lane->user = &user;
	lane->arg = relay;
	lane_init(lane, &relay->queued);
}

static int start(struct relay *relay, bool plain, struct err *err)
{
	struct airlock airlock = {
		.plain = plain, .lifeline = RELAY_FD_LIFELINE, .sockets = RELAY_FD_SOCKETS};

	if (airlock_enter(&airlock, err) < 0)
		return err->code;
	relay->reader = wall_reader_new();
	relay->writer = wall_writer_new();
	if (!relay->reader || !relay->writer)
		return err_set(err, -ENOMEM, "wall: out of memory");
	if (random_hex(relay->identity, (sizeof(relay->identity) - 1) / 2) < 0)
		return err_errno(err, "identity: no random bytes");
	for (enum wall_channel i = 0; i < WALL_CHANNELS; i++)
		set_lane(relay, i);
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
