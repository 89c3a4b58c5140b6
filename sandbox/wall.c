#include "sandbox/wall.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/socket.h>

/*
 * Theory of operation
 *
 * Reader. There are two states: `body` is NULL (the next bytes are a header) or the frame whose
 * body is being filled. Bytes arrive in `buffer`, or, when much of a body is missing, in the body
 * itself: then a large frame costs no copy, and a small one no system call of its own. All foreign
 * bytes are judged in one function, begin_frame, from a contiguous header; nothing is allocated
 * before it has agreed.
 *
 * Writer. Frames wait in two lists; the one that has begun is `current` and always goes first. One
 * sendmsg takes parts of many frames.
 */

#define HEADER_SIZE  12u
#define HEADER_MAX   (HEADER_SIZE + 4u * WALL_PARTS_MAX)
#define BUFFER_SIZE  (64u * 1024)
#define DIRECT_LEAST (16u * 1024)	/* below this a copy is cheaper than one more recv */
#define BATCH_PARTS  64			/* iovecs of one sendmsg */
#define FLUSH_MOST   (4u * 1024 * 1024) /* then the caller's other events have their turn */
#define DROPPED_SIZE 16u		/* two u64 */
/* Frames from this size on have a mapping of their own: with 4 KiB pages the faults of a 100 MB
 * frame take as long as receiving it. */
#define MAPPED_LEAST (4u * 1024 * 1024)
#define SPARE_MOST   (128u * 1024 * 1024)

static const uint8_t magic[4] = {'C', 'W', '0', '1'};

static uint32_t load32(const uint8_t *from)
{
	uint32_t value;

	memcpy(&value, from, sizeof(value));
	return le32toh(value);
}

static uint16_t load16(const uint8_t *from)
{
	uint16_t value;

	memcpy(&value, from, sizeof(value));
	return le16toh(value);
}

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

/* Whether a frame of this kind may look like this, so that nobody after has to ask before parts[0].
 */
static bool shape_ok(unsigned kind, unsigned channel, size_t count, uint64_t total)
{
	if (channel >= WALL_CHANNELS)
		return false;
	switch (kind) {
	case WALL_MESSAGE:
		return count >= 1;
	case WALL_READY:
		return count == 0 && total == 0;
	case WALL_DROPPED:
		return count == 1 && total == DROPPED_SIZE;
	default:
		return false;
	}
}

struct wall_frame *wall_frame_ref(struct wall_frame *frame)
{
	atomic_fetch_add_explicit(&frame->refs, 1, memory_order_relaxed);
	return frame;
}

/* The mapping of the last large frame that was let go: the system would fill a fresh one with
 * zeroes first, which takes as long as signing what is in it. */
static _Atomic(struct wall_frame *) spare;

static void unmap(struct wall_frame *frame)
{
	if (frame)
		(void)munmap(frame, frame->mapped);
}

void wall_frame_unref(struct wall_frame *frame)
{
	/* Release what this thread did to the frame; acquire what the others did, before free. */
	if (!frame || atomic_fetch_sub_explicit(&frame->refs, 1, memory_order_acq_rel) != 1)
		return;
	free(frame->added);
	if (frame->mapped && frame->mapped <= SPARE_MOST && frame->again)
		unmap(atomic_exchange(&spare, frame));
	else if (frame->mapped)
		unmap(frame);
	else
		free(frame);
}

void wall_drop_spare(void)
{
	unmap(atomic_exchange(&spare, NULL));
}

struct wall_reader {
	struct wall_frame *body; /* being filled, or NULL */
	uint8_t *bytes;		 /* of that body */
	size_t have;		 /* how many of them are there */
	size_t start, end;	 /* of what waits in the buffer */
	bool direct;		 /* the room given out last is in the body */
	int code;		 /* negative once broken */
	bool again;		 /* large frames leave their mapping to the next */
	uint8_t buffer[BUFFER_SIZE];
};

_Static_assert(BUFFER_SIZE > HEADER_MAX, "a partial header leaves room in the buffer");

struct wall_reader *wall_reader_new(void)
{
	return calloc(1, sizeof(struct wall_reader));
}

void wall_reader_again(struct wall_reader *reader)
{
	reader->again = true;
}

struct wall_reader *wall_reader_free(struct wall_reader *reader)
{
	if (reader) {
		wall_frame_unref(reader->body);
		free(reader);
	}
	return NULL;
}

void *wall_reader_buffer(struct wall_reader *reader, size_t *ret_size)
{
	size_t missing = reader->body ? reader->body->total - reader->have : 0;

	reader->direct = missing >= DIRECT_LEAST;
	if (reader->direct) {
		*ret_size = missing;
		return reader->bytes + reader->have;
	}
	if (reader->start > 0) {
		memmove(reader->buffer, reader->buffer + reader->start,
			reader->end - reader->start);
		reader->end -= reader->start;
		reader->start = 0;
	}
	*ret_size = BUFFER_SIZE - reader->end;
	return reader->buffer + reader->end;
}

int wall_reader_advance(struct wall_reader *reader, size_t size, struct err *err)
{
	size_t room =
		reader->direct ? reader->body->total - reader->have : BUFFER_SIZE - reader->end;

	if (reader->code < 0)
		return err_set(err, reader->code, "wall: the connection is broken");
	if (size > room) /* a slip of the caller, not of the peer */
		return err_set(err, reader->code = -EINVAL, "wall: advanced past the room given");
	if (reader->direct)
		reader->have += size;
	else
		reader->end += size;
	return 0;
}

/* Room for a frame, in *ret_mapped how much of it is a mapping. NULL when out of memory. */
static void *frame_room(size_t size, size_t *ret_mapped)
{
	void *room;

	struct wall_frame *last;

	*ret_mapped = 0;
	if (size < MAPPED_LEAST)
		return malloc(size);
	last = atomic_exchange(&spare, NULL);
	if (last && last->mapped >= size && last->mapped / 2 <= size) {
		*ret_mapped = last->mapped;
		return last;
	}
	unmap(last);
	room = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (room == MAP_FAILED)
		return NULL;
	(void)madvise(room, size, MADV_HUGEPAGE); /* advice: EINVAL where there are none */
	*ret_mapped = size;
	return room;
}

/* The parts of a frame whose header was checked. NULL when out of memory. */
static struct wall_frame *new_frame(const uint8_t *header, uint16_t count, uint32_t total,
				    bool again, uint8_t **ret_bytes)
{
	size_t front = sizeof(struct wall_frame) + count * sizeof(struct iovec);
	size_t mapped;
	struct wall_frame *frame = frame_room(front + total, &mapped);
	uint8_t *next;

	if (!frame)
		return NULL;
	atomic_init(&frame->refs, 1);
	frame->kind = header[4];
	frame->channel = header[5];
	frame->count = count;
	frame->total = total;
	frame->mapped = mapped;
	frame->again = again;
	frame->added = NULL;
	next = (uint8_t *)frame + front;
	*ret_bytes = next;
	for (size_t i = 0; i < count; i++) {
		frame->parts[i].iov_base = next;
		frame->parts[i].iov_len = load32(header + HEADER_SIZE + 4 * i);
		next += frame->parts[i].iov_len;
	}
	return frame;
}

/*
 * Judges the header at the start of the buffer and makes it the body. Returns 1, 0 when bytes are
 * missing, or a negative errno. Everything the peer says about sizes is checked here and nowhere
 * else.
 */
static int begin_frame(struct wall_reader *reader, struct err *err)
{
	const uint8_t *header = reader->buffer + reader->start;
	size_t available = reader->end - reader->start;
	uint64_t sum = 0;
	uint32_t total;
	uint16_t count;

	if (memcmp(header, magic, available < sizeof(magic) ? available : sizeof(magic)) != 0)
		return err_set(err, -EPROTO, "wall: bad magic");
	if (available < HEADER_SIZE)
		return 0;
	count = load16(header + 6);
	total = load32(header + 8);
	if (count > WALL_PARTS_MAX)
		return err_set(err, -EPROTO, "wall: %u parts, at most %u allowed", (unsigned)count,
			       WALL_PARTS_MAX);
	if (total > WALL_TOTAL_MAX)
		return err_set(err, -EPROTO, "wall: %u bytes, at most %u allowed", total,
			       WALL_TOTAL_MAX);
	if (!shape_ok(header[4], header[5], count, total))
		return err_set(err, -EPROTO,
			       "wall: kind %u, channel %u, %u parts, %u bytes is no frame",
			       (unsigned)header[4], (unsigned)header[5], (unsigned)count, total);
	if (available < HEADER_SIZE + 4u * count)
		return 0;
	for (size_t i = 0; i < count; i++)
		sum += load32(header + HEADER_SIZE +
			      4 * i); /* 4096 of them cannot overflow 64 bits */
	if (sum != total)
		return err_set(err, -EPROTO, "wall: parts do not add up to the total");
	reader->body = new_frame(header, count, total, reader->again, &reader->bytes);
	if (!reader->body)
		return err_set(err, -ENOMEM, "wall: out of memory for a frame of %u bytes", total);
	reader->have = 0;
	reader->start += HEADER_SIZE + 4u * count;
	return 1;
}

/* Moves what is in the buffer and belongs to the body there. */
static void fill_body(struct wall_reader *reader)
{
	size_t missing = reader->body->total - reader->have;
	size_t available = reader->end - reader->start;
	size_t size = missing < available ? missing : available;

	memcpy(reader->bytes + reader->have, reader->buffer + reader->start, size);
	reader->have += size;
	reader->start += size;
}

struct wall_frame *wall_reader_next(struct wall_reader *reader, int *ret_code, struct err *err)
{
	struct wall_frame *frame;

	*ret_code = reader->code;
	if (reader->code < 0) {
		(void)err_set(err, reader->code, "wall: the connection is broken");
		return NULL;
	}
	reader->direct = false; /* room given out before is void: this call moves things */
	if (!reader->body) {
		int r = begin_frame(reader, err);

		if (r < 0)
			*ret_code = reader->code = r;
		if (r <= 0)
			return NULL;
	}
	fill_body(reader);
	if (reader->have < reader->body->total)
		return NULL;
	frame = reader->body;
	reader->body = NULL;
	return frame;
}

/* A frame that waits. The header lies behind the array; parts[0] is the header, then what is not
 * empty. */
struct outgoing {
	STAILQ_ENTRY(outgoing) entry;
	void (*done)(void *arg);
	void *arg;
	size_t next;  /* first part not fully written */
	size_t count; /* parts in the array */
	struct iovec parts[];
};

STAILQ_HEAD(outgoing_list, outgoing);

struct wall_writer {
	struct outgoing *current; /* has begun, in no list */
	struct outgoing_list urgent, normal;
	size_t pending;
};

struct wall_writer *wall_writer_new(void)
{
	struct wall_writer *writer = calloc(1, sizeof(*writer));

	if (writer) {
		STAILQ_INIT(&writer->urgent);
		STAILQ_INIT(&writer->normal);
	}
	return writer;
}

static void finish(struct outgoing *frame)
{
	if (frame->done)
		frame->done(frame->arg);
	free(frame);
}

/* The frame whose bytes go next, taken out of its list; NULL when there is none. */
static struct outgoing *take_first(struct wall_writer *writer)
{
	struct outgoing_list *list =
		STAILQ_EMPTY(&writer->urgent) ? &writer->normal : &writer->urgent;
	struct outgoing *frame = writer->current;

	if (frame) {
		writer->current = NULL;
		return frame;
	}
	frame = STAILQ_FIRST(list);
	if (frame)
		STAILQ_REMOVE_HEAD(list, entry);
	return frame;
}

struct wall_writer *wall_writer_free(struct wall_writer *writer)
{
	struct outgoing *frame;

	if (!writer)
		return NULL;
	while ((frame = take_first(writer)))
		finish(frame);
	free(writer);
	return NULL;
}

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

int wall_writer_push(struct wall_writer *writer, enum wall_kind kind, enum wall_channel channel,
		     bool urgent, const struct iovec *parts, size_t count, void (*done)(void *arg),
		     void *arg)
{
	struct outgoing *frame;
	uint64_t total;
	uint8_t *header;
	size_t size;

	if (measure(parts, count, &total) < 0)
		return -EMSGSIZE;
	if (!shape_ok(kind, channel, count, total))
		return -EINVAL;
	size = HEADER_SIZE + 4 * count;
	frame = malloc(sizeof(*frame) + (count + 1) * sizeof(frame->parts[0]) + size);
	if (!frame)
		return -ENOMEM;
	header = (uint8_t *)&frame->parts[count + 1];
	memcpy(header, magic, sizeof(magic));
	header[4] = (uint8_t)kind;
	header[5] = (uint8_t)channel;
	store16(header + 6, (uint16_t)count);
	store32(header + 8, (uint32_t)total);
	frame->done = done;
	frame->arg = arg;
	frame->next = 0;
	frame->count = 1;
	frame->parts[0] = (struct iovec){.iov_base = header, .iov_len = size};
	for (size_t i = 0; i < count; i++) {
		store32(header + HEADER_SIZE + 4 * i, (uint32_t)parts[i].iov_len);
		if (parts[i].iov_len > 0)
			frame->parts[frame->count++] = parts[i];
	}
	if (urgent)
		STAILQ_INSERT_TAIL(&writer->urgent, frame, entry);
	else
		STAILQ_INSERT_TAIL(&writer->normal, frame, entry);
	writer->pending += size + total;
	return 0;
}

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

/* In the order of take_first. */
static void gather(const struct wall_writer *writer, struct batch *batch)
{
	const struct outgoing_list *const lists[] = {&writer->urgent, &writer->normal};
	const struct outgoing *frame;

	if (writer->current)
		add_parts(batch, writer->current);
	for (size_t i = 0; i < 2; i++) {
		STAILQ_FOREACH(frame, lists[i], entry)
		{
			if (batch->count == BATCH_PARTS || batch->room == 0)
				return;
			add_parts(batch, frame);
		}
	}
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
		if (frame->next < frame->count)
			writer->current = frame;
		else
			STAILQ_INSERT_TAIL(&finished, frame, entry);
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
