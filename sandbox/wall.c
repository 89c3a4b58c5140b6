#include "sandbox/wall.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "sandbox/wall_format.h"

/*
 * Theory of operation: the receiving half
 *
 * There are two states: `body` is NULL (the next bytes are a header) or the frame whose
 * body is being filled. Bytes arrive in `buffer`, or, when much of a body is missing, in the body
 * itself: then a large frame costs no copy, and a small one no system call of its own. All foreign
 * bytes are judged in one function, begin_frame, from a contiguous header; nothing is allocated
 * before it has agreed.
 */

#define HEADER_MAX   (WALL_HEADER_SIZE + 4u * WALL_PARTS_MAX)
#define BUFFER_SIZE  (64u * 1024)
#define DIRECT_LEAST (16u * 1024) /* below this a copy is cheaper than one more recv */
/* Frames from this size on have a mapping of their own: with 4 KiB pages the faults of a 100 MB
 * frame take as long as receiving it. */
#define MAPPED_LEAST (4u * 1024 * 1024)
#define SPARE_MOST   (128u * 1024 * 1024)
/* Mappings are whole huge pages: one that is a few bytes longer than the last fits in its room. */
#define MAPPED_UNIT ((size_t)2 * 1024 * 1024)

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
	struct wall_frame *last;
	void *room;

	*ret_mapped = 0;
	if (size < MAPPED_LEAST)
		return malloc(size);
	size = (size + MAPPED_UNIT - 1) / MAPPED_UNIT * MAPPED_UNIT;
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
		frame->parts[i].iov_len = load32(header + WALL_HEADER_SIZE + 4 * i);
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

	if (memcmp(header, WALL_MAGIC, available < WALL_MAGIC_SIZE ? available : WALL_MAGIC_SIZE) !=
	    0)
		return err_set(err, -EPROTO, "wall: bad magic");
	if (available < WALL_HEADER_SIZE)
		return 0;
	count = load16(header + 6);
	total = load32(header + 8);
	if (count > WALL_PARTS_MAX)
		return err_set(err, -EPROTO, "wall: %u parts, at most %u allowed", (unsigned)count,
			       WALL_PARTS_MAX);
	if (total > WALL_TOTAL_MAX)
		return err_set(err, -EPROTO, "wall: %u bytes, at most %u allowed", total,
			       WALL_TOTAL_MAX);
	if (!wall_shape_ok(header[4], header[5], count, total))
		return err_set(err, -EPROTO,
			       "wall: kind %u, channel %u, %u parts, %u bytes is no frame",
			       (unsigned)header[4], (unsigned)header[5], (unsigned)count, total);
	if (available < WALL_HEADER_SIZE + 4u * count)
		return 0;
	for (size_t i = 0; i < count; i++)
		sum += load32(header + WALL_HEADER_SIZE +
			      4 * i); /* 4096 of them cannot overflow 64 bits */
	if (sum != total)
		return err_set(err, -EPROTO, "wall: parts do not add up to the total");
	reader->body = new_frame(header, count, total, reader->again, &reader->bytes);
	if (!reader->body)
		return err_set(err, -ENOMEM, "wall: out of memory for a frame of %u bytes", total);
	reader->have = 0;
	reader->start += WALL_HEADER_SIZE + 4u * count;
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
