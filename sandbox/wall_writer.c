#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "sandbox/wall_format.h"

/*
 * Theory of operation: the sending half
 *
 * Frames wait in two lists; the one that has begun is `current` and always goes first. One sendmsg
 * takes parts of many frames.
 *
 * A frame may be opened before all of its bytes are there. What comes of them later are `chunks`;
 * once its front was written (`begun`) nothing else goes before its last byte. `missing` bytes were
 * not given yet.
 */

#define BATCH_PARTS 64		       /* iovecs of one sendmsg */
#define FLUSH_MOST  (4u * 1024 * 1024) /* then the caller's other events have their turn */
#define COST_MALLOC 32		       /* of a block, besides its bytes */
#define ZEROES	    (64u * 1024)

/* What waits: a frame, or a chunk of the open one. The header lies behind the array; parts[0] is
 * the header, then what is not empty. */
struct outgoing {
	STAILQ_ENTRY(outgoing) entry;
	void (*done)(void *arg);
	void *arg;
	size_t *held; /* the counter that includes `cost`, or NULL */
	size_t cost;
	bool opens;   /* chunks follow */
	size_t next;  /* first part not fully written */
	size_t count; /* parts in the array */
	struct iovec parts[];
};

STAILQ_HEAD(outgoing_list, outgoing);

struct wall_writer {
	struct outgoing *current; /* has begun, in no list */
	struct outgoing_list urgent, normal, chunks;
	bool open, begun;
	uint64_t missing;
	size_t pending;
};

static void store32(uint8_t *to, uint32_t value)
{
	value = htole32(value);
	memcpy(to, &value, sizeof(value));
}

static void store16(uint8_t *to, uint16_t value)
{
	value = htole16(value);
	memcpy(to, &value, sizeof(value));
}

struct wall_writer *wall_writer_new(void)
{
	struct wall_writer *writer = calloc(1, sizeof(*writer));

	if (writer) {
		STAILQ_INIT(&writer->urgent);
		STAILQ_INIT(&writer->normal);
		STAILQ_INIT(&writer->chunks);
	}
	return writer;
}

static void finish(struct outgoing *frame)
{
	if (frame->held)
		*frame->held -= frame->cost;
	if (frame->done)
		frame->done(frame->arg);
	free(frame);
}

/* The list whose first goes next when there is no current; NULL: the open frame waits for bytes. */
static struct outgoing_list *next_list(struct wall_writer *writer)
{
	if (writer->begun && (!STAILQ_EMPTY(&writer->chunks) || writer->missing > 0))
		return STAILQ_EMPTY(&writer->chunks) ? NULL : &writer->chunks;
	return STAILQ_EMPTY(&writer->urgent) ? &writer->normal : &writer->urgent;
}

/* What is to be written next, taken out of its list; NULL when there is nothing. */
static struct outgoing *take_first(struct wall_writer *writer)
{
	struct outgoing *frame = writer->current;
	struct outgoing_list *list;

	if (frame) {
		writer->current = NULL;
		return frame;
	}
	list = next_list(writer);
	frame = list ? STAILQ_FIRST(list) : NULL;
	if (frame)
		STAILQ_REMOVE_HEAD(list, entry);
	return frame;
}

struct wall_writer *wall_writer_free(struct wall_writer *writer)
{
	struct outgoing *frame;

	if (!writer)
		return NULL;
	writer->begun = true; /* chunks too, whether or not their frame was */
	writer->missing = 0;
	while ((frame = take_first(writer)))
		finish(frame);
	free(writer);
	return NULL;
}

/* ---- frames ---- */

/* Adds up the parts. Returns 0 or -EMSGSIZE. */
static int measure(const struct iovec *parts, size_t count, uint64_t *ret_total)
{
	uint64_t total = 0;

	if (count > WALL_PARTS_MAX)
		return -EMSGSIZE;
	for (size_t i = 0; i < count; i++) {
		if (parts[i].iov_len > WALL_TOTAL_MAX - total)
			return -EMSGSIZE;
		total += parts[i].iov_len;
	}
	*ret_total = total;
	return 0;
}

/* A frame with room for `slots` parts and `inside` bytes behind its header; parts[0] is the header.
 * *ret_inside: where they go. */
static struct outgoing *make_frame(enum wall_kind kind, enum wall_channel channel,
				   const struct iovec *parts, size_t count, uint64_t total,
				   size_t slots, size_t inside, uint8_t **ret_inside)
{
	const size_t size = WALL_HEADER_SIZE + 4 * count;
	const size_t room = sizeof(struct outgoing) + (slots + 1) * sizeof(struct iovec) + size;
	struct outgoing *frame = malloc(room + inside);
	uint8_t *header;

	if (!frame)
		return NULL;
	*frame = (struct outgoing){.count = 1, .cost = room + inside + COST_MALLOC};
	header = (uint8_t *)&frame->parts[slots + 1];
	memcpy(header, WALL_MAGIC, WALL_MAGIC_SIZE);
	header[4] = (uint8_t)kind;
	header[5] = (uint8_t)channel;
	store16(header + 6, (uint16_t)count);
	store32(header + 8, (uint32_t)total);
	for (size_t i = 0; i < count; i++)
		store32(header + WALL_HEADER_SIZE + 4 * i, (uint32_t)parts[i].iov_len);
	frame->parts[0] = (struct iovec){.iov_base = header, .iov_len = size};
	*ret_inside = header + size;
	return frame;
}

static void enter(struct wall_writer *writer, struct outgoing *frame, struct outgoing_list *list,
		  size_t *held)
{
	frame->held = held;
	if (held)
		*held += frame->cost;
	for (size_t i = 0; i < frame->count; i++)
		writer->pending += frame->parts[i].iov_len;
	STAILQ_INSERT_TAIL(list, frame, entry);
}

static int lend(struct wall_writer *writer, enum wall_kind kind, enum wall_channel channel,
		bool urgent, const struct iovec *parts, size_t count, void (*done)(void *arg),
		void *arg, size_t *held)
{
	struct outgoing *frame;
	uint64_t total;
	uint8_t *inside;

	if (measure(parts, count, &total) < 0)
		return -EMSGSIZE;
	if (!wall_shape_ok(kind, channel, count, total))
		return -EINVAL;
	frame = make_frame(kind, channel, parts, count, total, count, 0, &inside);
	if (!frame)
		return -ENOMEM;
	frame->done = done;
	frame->arg = arg;
	frame->cost += total;
	for (size_t i = 0; i < count; i++)
		if (parts[i].iov_len > 0)
			frame->parts[frame->count++] = parts[i];
	enter(writer, frame, urgent ? &writer->urgent : &writer->normal, held);
	return 0;
}

int wall_writer_push(struct wall_writer *writer, enum wall_kind kind, enum wall_channel channel,
		     bool urgent, const struct iovec *parts, size_t count, void (*done)(void *arg),
		     void *arg)
{
	return lend(writer, kind, channel, urgent, parts, count, done, arg, NULL);
}

int wall_writer_give(struct wall_writer *writer, enum wall_channel channel, bool urgent,
		     const struct iovec *parts, size_t count, void *block, size_t *held)
{
	return lend(writer, WALL_MESSAGE, channel, urgent, parts, count, free, block, held);
}

static uint8_t *copy_parts(uint8_t *to, const struct iovec *parts, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (parts[i].iov_len)
			memcpy(to, parts[i].iov_base, parts[i].iov_len);
		to += parts[i].iov_len;
	}
	return to;
}

int wall_writer_copy(struct wall_writer *writer, enum wall_channel channel, bool urgent,
		     const struct iovec *parts, size_t count, size_t *held)
{
	struct outgoing *frame;
	uint64_t total;
	uint8_t *inside;

	if (measure(parts, count, &total) < 0)
		return -EMSGSIZE;
	if (!wall_shape_ok(WALL_MESSAGE, channel, count, total))
		return -EINVAL;
	frame = make_frame(WALL_MESSAGE, channel, parts, count, total, 0, total, &inside);
	if (!frame)
		return -ENOMEM;
	(void)copy_parts(inside, parts, count);
	frame->parts[0].iov_len += total;
	enter(writer, frame, urgent ? &writer->urgent : &writer->normal, held);
	return 0;
}

/* ---- the open frame ---- */

bool wall_writer_is_open(const struct wall_writer *writer)
{
	return writer->open;
}

int wall_writer_open(struct wall_writer *writer, enum wall_channel channel,
		     const struct iovec *parts, size_t count, size_t last, size_t *held)
{
	struct outgoing *frame;
	uint64_t total;
	uint8_t *inside;

	if (writer->open)
		return -EBUSY;
	if (measure(parts, count, &total) < 0)
		return -EMSGSIZE;
	if (!wall_shape_ok(WALL_MESSAGE, channel, count, total) || last == 0 ||
	    last != parts[count - 1].iov_len)
		return -EINVAL;
	frame = make_frame(WALL_MESSAGE, channel, parts, count, total, 0, total - last, &inside);
	if (!frame)
		return -ENOMEM;
	(void)copy_parts(inside, parts, count - 1);
	frame->parts[0].iov_len += total - last;
	frame->opens = true;
	writer->open = true;
	writer->missing = last;
	enter(writer, frame, &writer->normal, held);
	return 0;
}

/* Looks whether the open frame is written to its end. */
static void end_open(struct wall_writer *writer)
{
	if (writer->begun && writer->missing == 0 && !writer->current &&
	    STAILQ_EMPTY(&writer->chunks))
		writer->open = writer->begun = false;
}

static int add_chunk(struct wall_writer *writer, const void *bytes, size_t size, size_t *held)
{
	struct outgoing *chunk = malloc(sizeof(*chunk) + sizeof(chunk->parts[0]) + size);

	if (!chunk)
		return -ENOMEM;
	*chunk = (struct outgoing){
		.count = 1, .cost = sizeof(*chunk) + sizeof(chunk->parts[0]) + size + COST_MALLOC};
	memcpy(&chunk->parts[1], bytes, size);
	chunk->parts[0] = (struct iovec){.iov_base = &chunk->parts[1], .iov_len = size};
	enter(writer, chunk, &writer->chunks, held);
	return 0;
}

int wall_writer_feed(struct wall_writer *writer, int fd, const void *bytes, size_t size,
		     size_t *held)
{
	ssize_t put = 0;

	if (!writer->open || size > writer->missing)
		return -EINVAL;
	if (size == 0)
		return 0;
	if (writer->begun && !writer->current && STAILQ_EMPTY(&writer->chunks)) {
		do
			put = send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
		while (put < 0 && errno == EINTR);
		if (put < 0 && errno != EAGAIN)
			return -errno;
		if (put < 0)
			put = 0;
	}
	if ((size_t)put < size) {
		int r = add_chunk(writer, (const char *)bytes + put, size - (size_t)put, held);

		if (r < 0)
			return r;
	}
	writer->missing -= size;
	end_open(writer);
	return 0;
}

int wall_writer_fill(struct wall_writer *writer)
{
	static uint8_t zeroes[ZEROES];
	const size_t count = (size_t)((writer->missing + ZEROES - 1) / ZEROES);
	struct outgoing *chunk;

	if (!writer->open || count == 0)
		return 0;
	chunk = malloc(sizeof(*chunk) + count * sizeof(chunk->parts[0]));
	if (!chunk)
		return -ENOMEM;
	*chunk = (struct outgoing){.count = count};
	for (size_t i = 0; i < count; i++) {
		const size_t size = writer->missing < ZEROES ? (size_t)writer->missing : ZEROES;

		chunk->parts[i] = (struct iovec){.iov_base = zeroes, .iov_len = size};
		writer->missing -= size;
	}
	enter(writer, chunk, &writer->chunks, NULL);
	return 0;
}

/* ---- writing ---- */

struct batch {
	struct iovec parts[BATCH_PARTS];
	size_t count;
	size_t room; /* bytes it may still take: with a fast reader one sendmsg would go on for all
			there is */
};

/* Adds what is not written yet of one frame, as far as it fits. */
static void add_parts(struct batch *batch, const struct outgoing *frame)
{
	for (size_t i = frame->next;
	     i < frame->count && batch->count < BATCH_PARTS && batch->room > 0; i++) {
		struct iovec part = frame->parts[i];

		if (part.iov_len > batch->room)
			part.iov_len = batch->room;
		batch->room -= part.iov_len;
		batch->parts[batch->count++] = part;
	}
}

/* Adds what is in a list, up to a frame that was opened. Returns false when nothing may follow. */
static bool add_list(struct batch *batch, const struct outgoing_list *list)
{
	const struct outgoing *frame;

	STAILQ_FOREACH(frame, list, entry)
	{
		if (batch->count == BATCH_PARTS || batch->room == 0)
			return false;
		add_parts(batch, frame);
		if (frame->opens)
			return false;
	}
	return true;
}

/* In the order of take_first; behind the front of an open frame the next batch goes on. */
static void gather(const struct wall_writer *writer, struct batch *batch)
{
	if (writer->current)
		add_parts(batch, writer->current);
	if (writer->current && writer->current->opens)
		return;
	if (writer->begun) {
		if (!add_list(batch, &writer->chunks) || writer->missing > 0)
			return;
	}
	if (add_list(batch, &writer->urgent))
		(void)add_list(batch, &writer->normal);
}

/* Takes `size` bytes off the front of a frame; returns what is left of `size`. */
static size_t consume(struct outgoing *frame, size_t size)
{
	while (size > 0 && frame->next < frame->count) {
		struct iovec *part = &frame->parts[frame->next];
		size_t taken = size < part->iov_len ? size : part->iov_len;

		part->iov_base = (uint8_t *)part->iov_base + taken;
		part->iov_len -= taken;
		size -= taken;
		if (part->iov_len == 0)
			frame->next++;
	}
	return size;
}

/*
 * Accounts for `size` written bytes. Callbacks come last: one that pushes an urgent frame must not
 * change the order while it is being followed.
 */
static void written(struct wall_writer *writer, size_t size)
{
	struct outgoing_list finished = STAILQ_HEAD_INITIALIZER(finished);
	struct outgoing *frame;

	writer->pending -= size;
	while (size > 0 && (frame = take_first(writer))) {
		size = consume(frame, size);
		if (frame->next < frame->count) {
			writer->current = frame;
			continue;
		}
		if (frame->opens)
			writer->begun = true;
		STAILQ_INSERT_TAIL(&finished, frame, entry);
		end_open(writer);
	}
	while ((frame = STAILQ_FIRST(&finished))) {
		STAILQ_REMOVE_HEAD(&finished, entry);
		finish(frame);
	}
}

int wall_writer_flush(struct wall_writer *writer, int fd)
{
	size_t left = FLUSH_MOST;

	while (writer->pending > 0 && left > 0) {
		struct batch batch;
		struct msghdr message = {.msg_iov = batch.parts};
		ssize_t put;

		batch.count = 0; /* the array needs no zeroes */
		batch.room = left;
		gather(writer, &batch);
		if (batch.count == 0)
			return 0; /* all of it is behind what is missing of the open frame */
		message.msg_iovlen = batch.count;
		put = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return errno == EAGAIN ? 0 : -errno;
		written(writer, (size_t)put);
		left -= (size_t)put;
	}
	return 0;
}

size_t wall_writer_pending(const struct wall_writer *writer)
{
	return writer->pending;
}

bool wall_writer_ready(const struct wall_writer *writer)
{
	const bool stuck = writer->begun && !writer->current && writer->missing > 0 &&
			   STAILQ_EMPTY(&writer->chunks);

	return writer->pending > 0 && !stuck;
}
