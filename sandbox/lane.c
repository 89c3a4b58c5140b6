#include "sandbox/lane.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "sandbox/relay.h"

/*
 * Theory of operation
 *
 * Bytes arrive in `in`. A message that lies there whole is handed on from there: no copy, no
 * allocation, and many to one recv(2). One that cannot fit is taken frame by frame (`large`); its
 * bodies are received in place, or in `scratch` when they go on at once or nowhere.
 *
 * What is sent is made of the wall's frame as it goes: the position in the first message of `out`
 * is a part and an offset, which counts from the frame's flags. A message whose connection ended in
 * the middle is sent again from its beginning: the kernel has seen none of it.
 */

static uint8_t scratch[LANE_SCRATCH];

/* So much more room than is needed is made at the most. */
#define AHEAD_MOST (1024u * 1024)

/* A client's message on its way to the kernel. */
struct lane_message {
	STAILQ_ENTRY(lane_message) entry;
	struct wall_frame *frame;
	size_t cost;
	size_t part, offset;
};

void lane_init(struct lane *lane, size_t *queued)
{
	lane->fd = -1;
	lane->queued = queued;
	STAILQ_INIT(&lane->out);
}

/* ---- the connection ---- */

void lane_close(struct lane *lane, int64_t now, int wait_ms, bool broken)
{
	struct lane_message *first = STAILQ_FIRST(&lane->out);
	const bool was = lane->state != LANE_AWAY;

	close_fd(&lane->fd);
	broken = broken || !lane_between(lane);
	free(lane->large.block);
	lane->large.block = NULL;
	lane->large.on = false;
	lane->start = lane->end = 0;
	lane->say_size = lane->say_done = 0;
	if (first)
		first->part = first->offset = 0;
	lane->state = LANE_AWAY;
	lane->look = lane->deaf = false;
	lane->connect_at = now + wait_ms;
	if (was)
		lane->user->closed(lane->arg, lane, broken);
}

void lane_connect(struct lane *lane, int64_t now)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const size_t length = strlen(lane->path);

	lane->connect_at = now + RELAY_RECONNECT_MS;
	if (length >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, lane->path, length);
	if (lane->fd < 0)
		lane->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	/* A socket that found no listener may look again: it is kept. */
	if (lane->fd < 0 || connect(lane->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return;
	lane->state = LANE_GREETING;
	lane->say_size = zmtp_hello(lane->say, lane->type, lane->identity);
	lane->say_done = 0;
	lane_flush(lane, now);
}

/* Queues bytes that belong to no message. A peer that makes us answer and does not read gets no
 * answer. */
static void say(struct lane *lane, const uint8_t *bytes, size_t size)
{
	if (lane->say_done == lane->say_size)
		lane->say_size = lane->say_done = 0;
	if (size > sizeof(lane->say) - lane->say_size)
		return;
	memcpy(lane->say + lane->say_size, bytes, size);
	lane->say_size += size;
}

static void become_open(struct lane *lane)
{
	static const uint8_t everything[] = {0, 1, 1}; /* a message: subscribe to "" */

	lane->state = LANE_OPEN;
	if (strcmp(lane->type, "SUB") == 0)
		say(lane, everything, sizeof(everything));
	lane->user->opened(lane->arg, lane);
}

/* One command, whole. Returns 0 or -EPROTO. */
static int take_command(struct lane *lane, const uint8_t *body, size_t size)
{
	uint8_t answer[ZMTP_FRAME_MAX + 32];

	if (lane->state == LANE_READY) {
		if (!zmtp_ready_ok(body, size))
			return -EPROTO;
		become_open(lane);
		return 0;
	}
	if (size > 6 && memcmp(body, "\5ERROR", 6) == 0)
		return -EPROTO;
	say(lane, answer, zmtp_pong(answer, body, size));
	return 0;
}

/* ---- large messages ---- */

/* Makes room for so many bytes more of parts. Returns false when there is no memory. */
static bool keep_room(struct lane_large *large, uint64_t size)
{
	const size_t ahead = large->room < AHEAD_MOST ? large->room : AHEAD_MOST;
	const size_t room = large->size + (size_t)size + ahead;
	uint8_t *block;

	if (size <= large->room - large->size)
		return true;
	block = realloc(large->block, room);
	if (!block)
		return false;
	large->block = block;
	large->room = room;
	return true;
}

/* The first `count` parts get their places, once the block does not move meanwhile. It may be NULL
 * when they are empty. */
static void place_parts(struct lane_large *large, size_t count)
{
	uint8_t *at = large->block;

	for (size_t i = 0; i < count; i++) {
		large->parts[i].iov_base = at;
		if (large->parts[i].iov_len > 0)
			at += large->parts[i].iov_len;
	}
}

static void forget(struct lane_large *large)
{
	free(large->block);
	large->block = NULL;
	large->size = large->room = 0;
	large->fate = LANE_SKIP;
}

/* A frame of a large message begins. Returns 0 or -EPROTO. */
static int begin_part(struct lane *lane, const struct zmtp_frame *frame)
{
	struct lane_large *large = &lane->large;

	if (frame->size > WALL_TOTAL_MAX)
		return -EPROTO;
	large->left = frame->size;
	large->last = !frame->more;
	large->bytes += frame->size;
	if (large->fate == LANE_KEEP &&
	    (large->count == WALL_PARTS_MAX || large->bytes > WALL_TOTAL_MAX))
		forget(large);
	if (large->fate == LANE_SKIP)
		return 0;
	large->parts[large->count++].iov_len = (size_t)frame->size;
	if (large->last) {
		place_parts(large, large->count - 1);
		large->parts[large->count - 1].iov_base = NULL;
		large->fate = lane->user->large(lane->arg, lane, large->parts, large->count,
						(size_t)large->bytes, (size_t)frame->size);
	}
	if (large->fate == LANE_SKIP ||
	    (large->fate == LANE_KEEP && !keep_room(large, large->left)))
		forget(large);
	return 0;
}

/* So many bytes of the frame's body; in the block already when they were received there. */
static void take_body(struct lane *lane, const uint8_t *bytes, size_t size)
{
	struct lane_large *large = &lane->large;

	if (large->fate == LANE_KEEP) {
		if (size > 0 && bytes != large->block + large->size)
			memcpy(large->block + large->size, bytes, size);
		large->size += size;
	} else if (large->fate == LANE_STREAM) {
		lane->user->stream(lane->arg, lane, bytes, size);
	}
	large->left -= size;
}

static void end_large(struct lane *lane)
{
	struct lane_large *large = &lane->large;
	uint8_t *block = large->block;

	if (large->fate == LANE_KEEP)
		place_parts(large, large->count);
	large->on = false;
	large->block = NULL;
	if (large->fate == LANE_KEEP) {
		lane->user->whole(lane->arg, lane, large->parts, large->count, (size_t)large->bytes,
				  block);
		return;
	}
	free(block);
	if (large->fate == LANE_SKIP)
		lane->user->skipped(lane->arg, lane, (size_t)large->bytes);
}

static void begin_large(struct lane *lane)
{
	struct lane_large *large = &lane->large;

	large->on = true;
	large->last = false;
	large->fate = LANE_KEEP;
	large->left = large->bytes = 0;
	large->count = large->size = large->room = 0;
	large->block = NULL;
}

/* ---- taking apart what is in the buffer ---- */

/* A step: 1 when one was made, 0 when bytes are missing, or -EPROTO. */
static int step_greeting(struct lane *lane)
{
	if (lane->end - lane->start < ZMTP_GREETING_SIZE)
		return 0;
	if (!zmtp_greeting_ok(lane->in + lane->start))
		return -EPROTO;
	lane->start += ZMTP_GREETING_SIZE;
	lane->state = LANE_READY;
	return 1;
}

/* A frame's front, between two bodies; commands whole. */
static int step_frame(struct lane *lane)
{
	const uint8_t *at = lane->in + lane->start;
	const size_t size = lane->end - lane->start;
	struct zmtp_frame frame;
	int r = zmtp_frame(at, size, &frame);

	if (r <= 0)
		return r;
	if (!frame.command) {
		lane->start += frame.front;
		return lane->large.on && begin_part(lane, &frame) == 0 ? 1 : -EPROTO;
	}
	if (frame.size > ZMTP_COMMAND_MAX)
		return -EPROTO;
	if (size < frame.front + frame.size)
		return 0;
	lane->start += frame.front + (size_t)frame.size;
	r = take_command(lane, at + frame.front, (size_t)frame.size);
	return r < 0 ? r : 1;
}

static int step_large(struct lane *lane)
{
	struct lane_large *large = &lane->large;
	const size_t size = lane->end - lane->start;
	int r;

	if (large->left > 0 && size == 0)
		return 0;
	if (large->left > 0) {
		const size_t taken = large->left < size ? (size_t)large->left : size;

		take_body(lane, lane->in + lane->start, taken);
		lane->start += taken;
	} else {
		r = step_frame(lane);
		if (r <= 0)
			return r;
	}
	if (large->last && large->left == 0)
		end_large(lane);
	return 1;
}

static int step_message(struct lane *lane)
{
	static struct iovec parts[WALL_PARTS_MAX];
	size_t count, size, bytes = 0;

	switch (zmtp_message(lane->in + lane->start, lane->end - lane->start, parts, WALL_PARTS_MAX,
			     &count, &size)) {
	case ZMTP_WHOLE:
		for (size_t i = 0; i < count; i++)
			bytes += parts[i].iov_len;
		lane->start += size;
		lane->user->message(lane->arg, lane, parts, count, bytes);
		return 1;
	case ZMTP_PART:
		if (size <= LANE_BUFFER)
			return 0;
		break;
	case ZMTP_MIXED:
		if (count == 0)
			return step_frame(lane);
		break;
	case ZMTP_BROKEN:
		return -EPROTO;
	}
	begin_large(lane);
	return 1;
}

static int step(struct lane *lane)
{
	if (lane->state == LANE_GREETING)
		return step_greeting(lane);
	if (lane->state == LANE_READY)
		return step_frame(lane);
	return lane->large.on ? step_large(lane) : step_message(lane);
}

void *lane_room(struct lane *lane, size_t *ret_size)
{
	struct lane_large *large = &lane->large;

	lane->direct = large->on && large->left > 0 && lane->start == lane->end;
	if (lane->direct && large->fate == LANE_KEEP) {
		*ret_size = (size_t)large->left;
		return large->block + large->size;
	}
	if (lane->direct) {
		*ret_size = large->left < LANE_SCRATCH ? (size_t)large->left : LANE_SCRATCH;
		return scratch;
	}
	if (lane->start > 0) {
		memmove(lane->in, lane->in + lane->start, lane->end - lane->start);
		lane->end -= lane->start;
		lane->start = 0;
	}
	*ret_size = LANE_BUFFER - lane->end;
	return lane->in + lane->end;
}

int lane_advance(struct lane *lane, size_t size)
{
	struct lane_large *large = &lane->large;
	int r = 1;

	if (!lane->direct) {
		lane->end += size;
	} else {
		take_body(lane, large->fate == LANE_KEEP ? large->block + large->size : scratch,
			  size);
		if (large->last && large->left == 0)
			end_large(lane);
	}
	while (r > 0)
		r = step(lane);
	return r;
}

void lane_read(struct lane *lane, size_t budget, int64_t now)
{
	size_t taken = 0;

	lane->look = false;
	while (taken < budget && lane->state != LANE_AWAY) {
		size_t room;
		void *to = lane_room(lane, &room);
		ssize_t got;

		if (room > budget - taken) /* or a fast writer would keep us in one call */
			room = budget - taken;
		/* Not recvmsg(2): it would take descriptors too. */
		got = recv(lane->fd, to, room, MSG_DONTWAIT);

		if (got < 0 && errno == EINTR)
			continue;
		/* One that has closed leaves an end behind what it wrote; one that only reads no
		 * more does not. */
		if (got < 0 && errno == EAGAIN && !lane->deaf)
			return;
		if (got <= 0) {
			lane_close(lane, now, RELAY_RECONNECT_MS, false);
			return;
		}
		taken += (size_t)got;
		if (lane_advance(lane, (size_t)got) < 0) {
			lane_close(lane, now, RELAY_AGAIN_MS, true);
			return;
		}
		if ((size_t)got < room && !lane->deaf)
			return; /* that was all; poll(2) would say otherwise */
	}
	lane->look = lane->state != LANE_AWAY;
}

bool lane_between(const struct lane *lane)
{
	return lane->start == lane->end && !lane->large.on;
}

/* ---- what is sent ---- */

int lane_send(struct lane *lane, struct wall_frame *frame)
{
	struct lane_message *message = malloc(sizeof(*message));

	if (!message)
		return -ENOMEM;
	*message = (struct lane_message){.frame = wall_frame_ref(frame),
					 .cost = sizeof(*message) + sizeof(*frame) + frame->total +
						 frame->count * sizeof(frame->parts[0]) +
						 2 * RELAY_BLOCK_COST};
	*lane->queued += message->cost;
	STAILQ_INSERT_TAIL(&lane->out, message, entry);
	return 0;
}

static void drop_first(struct lane *lane)
{
	struct lane_message *message = STAILQ_FIRST(&lane->out);

	STAILQ_REMOVE_HEAD(&lane->out, entry);
	*lane->queued -= message->cost;
	wall_frame_unref(message->frame);
	free(message);
}

void lane_drop(struct lane *lane)
{
	while (!STAILQ_EMPTY(&lane->out))
		drop_first(lane);
}

#define BATCH 32 /* parts of one sendmsg */

struct batch {
	struct iovec parts[2 * BATCH];
	uint8_t fronts[BATCH][ZMTP_FRAME_MAX];
	size_t count;
};

/* What is left of the first message, as far as it fits. */
static void gather(const struct lane_message *message, struct batch *batch)
{
	const struct wall_frame *frame = message->frame;
	size_t offset = message->offset;

	for (size_t i = message->part; i < frame->count && i < message->part + BATCH; i++) {
		const struct iovec body = frame->parts[i];
		uint8_t *front = batch->fronts[i - message->part];
		const size_t size = zmtp_front(front, body.iov_len, i + 1u < frame->count);

		if (offset < size)
			batch->parts[batch->count++] = (struct iovec){.iov_base = front + offset,
								      .iov_len = size - offset};
		offset = offset < size ? 0 : offset - size;
		if (offset < body.iov_len)
			batch->parts[batch->count++] =
				(struct iovec){.iov_base = (uint8_t *)body.iov_base + offset,
					       .iov_len = body.iov_len - offset};
		offset = 0;
	}
}

/* Moves the position on by what was sent. Returns true at the message's end. */
static bool moved(struct lane_message *message, size_t sent)
{
	const struct wall_frame *frame = message->frame;

	sent += message->offset;
	while (message->part < frame->count) {
		uint8_t front[ZMTP_FRAME_MAX];
		const size_t body = frame->parts[message->part].iov_len;
		const size_t size = zmtp_front(front, body, false) + body;

		if (sent < size)
			break;
		sent -= size;
		message->part++;
	}
	message->offset = sent;
	return message->part == frame->count;
}

/* Sends of the first message. Returns 1 when the socket took some, 0 when it takes no more, or
 * -errno. */
static int send_first(struct lane *lane)
{
	struct lane_message *message = STAILQ_FIRST(&lane->out);
	struct batch batch;
	struct msghdr header = {.msg_iov = batch.parts};
	ssize_t sent;

	batch.count = 0; /* the arrays need no zeroes */
	gather(message, &batch);
	header.msg_iovlen = batch.count;
	sent = sendmsg(lane->fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (sent < 0)
		return errno == EINTR ? 1 : errno == EAGAIN ? 0 : -errno;
	if (moved(message, (size_t)sent))
		drop_first(lane);
	return 1;
}

static int send_said(struct lane *lane)
{
	ssize_t sent = send(lane->fd, lane->say + lane->say_done, lane->say_size - lane->say_done,
			    MSG_NOSIGNAL | MSG_DONTWAIT);

	if (sent < 0)
		return errno == EINTR ? 1 : errno == EAGAIN ? 0 : -errno;
	lane->say_done += (size_t)sent;
	return 1;
}

static bool between_messages(const struct lane *lane)
{
	const struct lane_message *first = STAILQ_FIRST(&lane->out);

	return !first || (first->part == 0 && first->offset == 0);
}

bool lane_wants_write(const struct lane *lane)
{
	if (lane->state == LANE_AWAY || lane->deaf)
		return false;
	return lane->say_done < lane->say_size ||
	       (lane->state == LANE_OPEN && !STAILQ_EMPTY(&lane->out));
}

void lane_flush(struct lane *lane, int64_t now)
{
	int r = 1;

	while (r > 0 && lane_wants_write(lane))
		r = lane->say_done < lane->say_size && between_messages(lane) ? send_said(lane)
									      : send_first(lane);
	if (r == -EPIPE || r == -ECONNRESET)
		lane->deaf = lane->look = true;
	else if (r < 0)
		lane_close(lane, now, RELAY_RECONNECT_MS, false);
}
