#include "sandbox/wall.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define READER_ROOM   (64u * 1024)

static struct err err;

/* A stream put together by hand: the tests do not believe the writer. */
static uint8_t stream[2 * 1024 * 1024];
static size_t length;

static void put8(unsigned value)
{
	assert_true(length < sizeof(stream));
	stream[length++] = (uint8_t)value;
}

static void put32(uint64_t value)
{
	for (unsigned i = 0; i < 4; i++)
		put8((unsigned)(value >> (8 * i)) & 255);
}

static void put_header(unsigned kind, unsigned channel, unsigned count, uint64_t total)
{
	put8('C');
	put8('W');
	put8('0');
	put8('1');
	put8(kind);
	put8(channel);
	put8(count & 255);
	put8(count >> 8);
	put32(total);
}

static void put_bytes(size_t size, unsigned seed)
{
	for (size_t i = 0; i < size; i++)
		put8((unsigned)(seed + i * 7) & 255);
}

/* A message of `count` parts with the sizes given. */
static void put_message(unsigned channel, const uint32_t *sizes, unsigned count)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < count; i++)
		total += sizes[i];
	put_header(WALL_MESSAGE, channel, count, total);
	for (unsigned i = 0; i < count; i++)
		put32(sizes[i]);
	for (unsigned i = 0; i < count; i++)
		put_bytes(sizes[i], i);
}

static void check_message(const struct wall_frame *frame, unsigned channel, const uint32_t *sizes,
			  unsigned count)
{
	uint64_t total = 0;

	assert_non_null(frame);
	assert_int_equal(frame->kind, WALL_MESSAGE);
	assert_int_equal(frame->channel, channel);
	assert_int_equal(frame->count, count);
	for (unsigned i = 0; i < count; i++) {
		const uint8_t *bytes = frame->parts[i].iov_base;

		assert_non_null(bytes);
		assert_int_equal(frame->parts[i].iov_len, sizes[i]);
		for (size_t j = 0; j < sizes[i]; j++) {
			if (bytes[j] != ((i + j * 7) & 255))
				fail_msg("part %u differs at byte %zu", i, j);
		}
		total += sizes[i];
	}
	assert_int_equal(frame->total, total);
}

/* Feeds bytes as the caller of recv would. Returns 0 or what wall_reader_advance returned. */
static void feed(struct wall_reader *reader, const uint8_t *bytes, size_t size)
{
	while (size > 0) {
		size_t room = 0, part;
		void *to = wall_reader_buffer(reader, &room);

		assert_non_null(to);
		assert_true(room > 0);
		part = room < size ? room : size;
		memcpy(to, bytes, part);
		assert_int_equal(wall_reader_advance(reader, part, &err), 0);
		bytes += part;
		size -= part;
		if (size > 0) { /* room for the rest only after all frames were taken */
			int code = 0;

			assert_null(wall_reader_next(reader, &code, &err));
			assert_int_equal(code, 0);
		}
	}
}

static struct wall_frame *next(struct wall_reader *reader)
{
	int code = 1;
	struct wall_frame *frame = wall_reader_next(reader, &code, &err);

	assert_int_equal(code, 0);
	return frame;
}

/* One frame out of `stream`; whatever its verdict, the reader's code. */
static int verdict(void)
{
	struct wall_reader *reader = wall_reader_new();
	struct wall_frame *frame;
	int code = 1;

	feed(reader, stream, length);
	frame = wall_reader_next(reader, &code, &err);
	if (code < 0) {
		size_t room;
		int again = 0;

		assert_null(frame);
		assert_true(strlen(err.text) > 0);
		/* Broken for good. */
		assert_null(wall_reader_next(reader, &again, &err));
		assert_int_equal(again, code);
		assert_non_null(wall_reader_buffer(reader, &room));
		assert_int_equal(wall_reader_advance(reader, 0, &err), code);
	}
	wall_frame_unref(frame);
	assert_null(wall_reader_free(reader));
	return code;
}

static void test_every_split(void **state)
{
	static const uint32_t first[] = {3, 0, 5}, second[] = {0}, third[] = {1, 2, 3, 4, 0};

	(void)state;
	length = 0;
	put_message(WALL_IOPUB, first, 3);
	put_header(WALL_READY, 0, 0, 0);
	put_message(WALL_HB, second, 1);
	put_message(WALL_SHELL, third, 5);
	for (size_t split = 0; split <= length; split++) {
		struct wall_reader *reader = wall_reader_new();
		struct wall_frame *frames[8] = {0};
		size_t count = 0;

		feed(reader, stream, split);
		while ((frames[count] = next(reader)))
			count++;
		feed(reader, stream + split, length - split);
		while ((frames[count] = next(reader)))
			count++;
		assert_int_equal(count, 4);
		wall_reader_free(reader); /* frames live on without it */
		check_message(frames[0], WALL_IOPUB, first, 3);
		assert_int_equal(frames[1]->kind, WALL_READY);
		assert_int_equal(frames[1]->count, 0);
		assert_int_equal(frames[1]->total, 0);
		check_message(frames[2], WALL_HB, second, 1);
		check_message(frames[3], WALL_SHELL, third, 5);
		for (size_t i = 0; i < count; i++)
			wall_frame_unref(frames[i]);
	}
}

static void test_byte_by_byte(void **state)
{
	static const uint32_t sizes[] = {3, 0, 5};
	struct wall_reader *reader = wall_reader_new();
	struct wall_frame *frame;

	(void)state;
	length = 0;
	put_message(WALL_STDIN, sizes, 3);
	assert_null(next(reader));
	for (size_t i = 0; i < length - 1; i++) {
		feed(reader, stream + i, 1);
		assert_null(next(reader)); /* cut off at every position: nothing, and no error */
		assert_null(next(reader));
	}
	feed(reader, stream + length - 1, 1);
	frame = next(reader);
	check_message(frame, WALL_STDIN, sizes, 3);
	wall_frame_unref(frame);
	assert_null(next(reader));
	wall_reader_free(reader);
	/* A reader freed in the middle of a body owns it. */
	reader = wall_reader_new();
	feed(reader, stream, length - 1);
	assert_null(next(reader));
	assert_null(wall_reader_free(reader));
	assert_null(wall_reader_free(NULL));
}

static void test_magic(void **state)
{
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		for (size_t have = i + 1; have <= 12; have++) {
			length = 0;
			put_header(WALL_READY, 0, 0, 0);
			stream[i] ^= 0x20;
			length = have; /* refused as early as it can be seen */
			assert_int_equal(verdict(), -EPROTO);
		}
		length = 0;
		put_header(WALL_READY, 0, 0, 0);
		stream[i] ^= 0x20;
		length = i;
		assert_int_equal(verdict(), 0);
	}
}

static int header_verdict(unsigned kind, unsigned channel, unsigned count, uint64_t total)
{
	length = 0;
	put_header(kind, channel, count, total);
	return verdict();
}

static void test_shapes(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < 256; kind++) {
		for (unsigned channel = 0; channel < 256; channel++) {
			int code = header_verdict(kind, channel, 1, 16);
			bool good = (kind == WALL_MESSAGE || kind == WALL_DROPPED) && channel < 5;

			assert_int_equal(code, good ? 0 : -EPROTO);
		}
	}
	assert_int_equal(header_verdict(WALL_READY, 0, 0, 0), 0);
	assert_int_equal(header_verdict(WALL_READY, 4, 0, 0), 0);
	assert_int_equal(header_verdict(WALL_READY, 5, 0, 0), -EPROTO);
	assert_int_equal(header_verdict(WALL_READY, 0, 0, 1), -EPROTO);
	assert_int_equal(header_verdict(WALL_READY, 0, 1, 0), -EPROTO);
	assert_int_equal(header_verdict(WALL_DROPPED, 3, 1, 16), 0);
	assert_int_equal(header_verdict(WALL_DROPPED, 3, 1, 15), -EPROTO);
	assert_int_equal(header_verdict(WALL_DROPPED, 3, 1, 17), -EPROTO);
	assert_int_equal(header_verdict(WALL_DROPPED, 3, 2, 16), -EPROTO);
	assert_int_equal(header_verdict(WALL_DROPPED, 3, 0, 16), -EPROTO);
	assert_int_equal(header_verdict(WALL_MESSAGE, 0, 0, 0), -EPROTO);
	assert_int_equal(header_verdict(WALL_MESSAGE, 0, 0, 1), -EPROTO);
	assert_int_equal(header_verdict(WALL_MESSAGE, 0, 1, 0), 0);
}

static void test_limits(void **state)
{
	(void)state;
	assert_int_equal(header_verdict(WALL_MESSAGE, 0, 4096, 1), 0);
	assert_int_equal(header_verdict(WALL_MESSAGE, 0, 4097, 1), -EPROTO);
	assert_int_equal(header_verdict(WALL_MESSAGE, 0, 65535, 1), -EPROTO);
	assert_int_equal(header_verdict(WALL_MESSAGE, 0, 1, 512u * 1024 * 1024), 0);
	assert_int_equal(header_verdict(WALL_MESSAGE, 0, 1, 512u * 1024 * 1024 + 1), -EPROTO);
	assert_int_equal(header_verdict(WALL_MESSAGE, 0, 1, 0xffffffff), -EPROTO);
	/* The largest frame is taken; its memory is touched only as bytes come. */
	length = 0;
	put_header(WALL_MESSAGE, 0, 1, WALL_TOTAL_MAX);
	put32(WALL_TOTAL_MAX);
	put8(1);
	assert_int_equal(verdict(), 0);
}

static int sizes_verdict(uint64_t total, const uint64_t *sizes, unsigned count)
{
	length = 0;
	put_header(WALL_MESSAGE, 0, count, total);
	for (unsigned i = 0; i < count; i++)
		put32(sizes[i]);
	return verdict();
}

static void test_sums(void **state)
{
	static const uint64_t good[] = {3, 4}, wrap[] = {0xffffffff, 11},
			      wrap_more[] = {0x80000000, 0x80000000, 10};
	static uint64_t many[4096];

	(void)state;
	assert_int_equal(sizes_verdict(7, good, 2), 0);
	assert_int_equal(sizes_verdict(6, good, 2), -EPROTO);
	assert_int_equal(sizes_verdict(8, good, 2), -EPROTO);
	assert_int_equal(sizes_verdict(0, good, 2), -EPROTO);
	/* Modulo 2^32 these would add up. */
	assert_int_equal(sizes_verdict(10, wrap, 2), -EPROTO);
	assert_int_equal(sizes_verdict(10, wrap_more, 3), -EPROTO);
	for (size_t i = 0; i < 4096; i++)
		many[i] = 0xffffffff;
	assert_int_equal(sizes_verdict(0xffffffffu * 4096u, many, 4096), -EPROTO);
	many[0] = 0xfff; /* 0xfff + 4095 * 0xffffffff = 0 modulo 2^32 */
	assert_int_equal(sizes_verdict(0, many, 4096), -EPROTO);
	for (size_t i = 0; i < 4096; i++)
		many[i] = 1;
	assert_int_equal(sizes_verdict(4096, many, 4096), 0);
	many[4095] = 0; /* the last one is looked at too */
	assert_int_equal(sizes_verdict(4096, many, 4096), -EPROTO);
	assert_int_equal(sizes_verdict(4095, many, 4096), 0);
}

static void test_many_in_one_buffer(void **state)
{
	static const uint32_t sizes[] = {7, 1};
	struct wall_reader *reader = wall_reader_new();
	size_t frames = 0, room, count = READER_ROOM / 28;
	struct wall_frame *frame;
	void *to;

	(void)state;
	length = 0;
	for (size_t i = 0; i < count; i++)
		put_message(WALL_IOPUB, sizes, 2);
	to = wall_reader_buffer(reader, &room);
	assert_int_equal(room, READER_ROOM);
	assert_true(length <= room);
	memcpy(to, stream, length);
	assert_int_equal(wall_reader_advance(reader, length, &err), 0);
	while ((frame = next(reader))) {
		check_message(frame, WALL_IOPUB, sizes, 2);
		wall_frame_unref(frame);
		frames++;
	}
	assert_int_equal(frames, count);
	wall_reader_buffer(reader, &room);
	assert_int_equal(room, READER_ROOM);
	assert_int_equal(wall_reader_advance(reader, room + 1, &err), -EINVAL);
	wall_reader_free(reader);
}

/* The longest header, begun at the end of the buffer: there is always room for the rest of it. */
static void test_longest_header(void **state)
{
	static uint32_t sizes[4096];
	static const uint32_t filler[] = {0};

	(void)state;
	for (size_t ahead = 0; ahead < 3; ahead++) {
		struct wall_reader *reader = wall_reader_new();
		struct wall_frame *frame;
		size_t fillers = 4096 - 1 + ahead, at = 0, seen = 0;

		length = 0;
		for (size_t i = 0; i < fillers; i++)
			put_message(WALL_SHELL, filler, 1);
		sizes[4095] = 5;
		put_message(WALL_CONTROL, sizes, 4096);
		while (at < length) {
			size_t room, part;
			void *to = wall_reader_buffer(reader, &room);

			assert_true(room > 0);
			part = room < length - at ? room : length - at;
			memcpy(to, stream + at, part);
			at += part;
			assert_int_equal(wall_reader_advance(reader, part, &err), 0);
			while ((frame = next(reader))) {
				if (seen++ < fillers)
					check_message(frame, WALL_SHELL, filler, 1);
				else
					check_message(frame, WALL_CONTROL, sizes, 4096);
				wall_frame_unref(frame);
			}
		}
		assert_int_equal(seen, fillers + 1);
		wall_reader_free(reader);
	}
}

static void test_direct(void **state)
{
	static const uint32_t around[] = {16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 1000000};

	(void)state;
	for (size_t i = 0; i < LENGTH(around); i++) {
		struct wall_reader *reader = wall_reader_new();
		struct wall_frame *frame;
		const uint8_t *to;
		size_t room;

		length = 0;
		put_message(WALL_IOPUB, &around[i], 1);
		feed(reader, stream, 16);
		assert_null(next(reader));
		to = wall_reader_buffer(reader, &room);
		if (around[i] < 16 * 1024) {
			assert_int_equal(room, READER_ROOM); /* the next frames may come along */
		} else {
			assert_int_equal(room, around[i]); /* and not a byte of the next frame */
			assert_ptr_equal(wall_reader_buffer(reader, &room), to);
			assert_int_equal(wall_reader_advance(reader, room + 1, &err), -EINVAL);
			wall_reader_free(reader);
			reader = wall_reader_new();
			feed(reader, stream, 16);
			assert_null(next(reader));
			to = wall_reader_buffer(reader, &room);
		}
		/* In three pieces, with a look in between. */
		feed(reader, stream + 16, 100);
		assert_null(next(reader));
		feed(reader, stream + 116, around[i] - 101);
		assert_null(next(reader));
		feed(reader, stream + 16 + around[i] - 1, 1);
		frame = next(reader);
		check_message(frame, WALL_IOPUB, &around[i], 1);
		if (around[i] >= 16 * 1024)
			assert_ptr_equal(frame->parts[0].iov_base, to); /* never copied */
		wall_frame_unref(frame);
		assert_null(next(reader));
		wall_reader_free(reader);
	}
}

#define THREADS 4
#define ROUNDS	20000

/* A frame with a mapping of its own: every byte arrives, and the last reference ends it. */
static void test_mapped(void **state)
{
	const size_t size = 9 * 1024 * 1024 + 5;
	uint8_t *content = malloc(size);
	struct wall_reader *reader = wall_reader_new();
	struct wall_frame *frame = NULL;
	size_t sent = 0;
	int code = 0;

	(void)state;
	assert_non_null(content);
	assert_non_null(reader);
	for (size_t i = 0; i < size; i++)
		content[i] = (uint8_t)(i * 7 >> 3);
	length = 0;
	put_header(WALL_MESSAGE, WALL_IOPUB, 2, size + 3);
	put32(3);
	put32(size);
	put_bytes(3, 1);
	feed(reader, stream, length);
	while (!(frame = wall_reader_next(reader, &code, NULL))) {
		size_t room = 0;
		void *buffer = wall_reader_buffer(reader, &room);

		assert_int_equal(code, 0);
		assert_true(sent < size);
		if (room > 100003)
			room = 100003;
		if (room > size - sent)
			room = size - sent;
		memcpy(buffer, content + sent, room);
		sent += room;
		assert_int_equal(wall_reader_advance(reader, room, NULL), 0);
	}
	assert_int_equal(frame->count, 2);
	assert_int_equal(frame->parts[1].iov_len, size);
	assert_memory_equal(frame->parts[1].iov_base, content, size);
	assert_null(wall_reader_free(reader)); /* the frame is not the reader's */
	(void)wall_frame_ref(frame);
	wall_frame_unref(frame);
	assert_memory_equal(frame->parts[1].iov_base, content, size);
	wall_frame_unref(frame);
	free(content);
}

/* A frame of `size` bytes of which none has come: its memory is there. */
static uint8_t *begun(struct wall_reader *reader, size_t size)
{
	size_t room;
	int code;

	length = 0;
	put_header(WALL_MESSAGE, WALL_IOPUB, 1, size);
	put32(size);
	feed(reader, stream, length);
	assert_null(wall_reader_next(reader, &code, NULL));
	return wall_reader_buffer(reader, &room);
}

/* The mapping of a large frame is the next one's, when that is asked for and it fits. */
static void test_mapped_again(void **state)
{
	static const size_t sizes[] = {9u << 20, (9u << 20) + 1000, 8u << 20, 6u << 20, 4u << 20};
	uint8_t *at;

	(void)state;
	wall_drop_spare();
	for (size_t i = 0; i < 5; i++) {
		struct wall_reader *reader = wall_reader_new();

		assert_non_null(reader);
		wall_reader_again(reader);
		at = begun(reader, sizes[i]);
		if (i < 4) /* a fresh one would be all zeroes */
			assert_int_equal(*at, i);
		*at = (uint8_t)(i + 1);
		(void)wall_reader_free(reader); /* lets the frame go */
	}
	wall_drop_spare();
	wall_drop_spare();
}

static void *take_and_drop(void *arg)
{
	struct wall_frame *frame = arg;

	for (int i = 0; i < ROUNDS; i++)
		wall_frame_unref(wall_frame_ref(frame));
	wall_frame_unref(frame);
	return NULL;
}

static void test_references(void **state)
{
	static const uint32_t sizes[] = {3};
	struct wall_reader *reader = wall_reader_new();
	pthread_t threads[THREADS];
	struct wall_frame *frame;

	(void)state;
	length = 0;
	put_message(WALL_IOPUB, sizes, 1);
	feed(reader, stream, length);
	frame = next(reader);
	wall_reader_free(reader);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, take_and_drop, wall_frame_ref(frame)), 0);
	for (size_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(atomic_load(&frame->refs), 1);
	check_message(frame, WALL_IOPUB, sizes, 1);
	wall_frame_unref(frame);
	wall_frame_unref(NULL);
}

/* The writer. */
static int done_order[512];
static size_t done_count;

static void note_done(void *arg)
{
	done_order[done_count++] = *(int *)arg;
}

static int ids[512];

static int begin(void **state)
{
	(void)state;
	done_count = 0;
	for (size_t i = 0; i < LENGTH(ids); i++)
		ids[i] = (int)i;
	return 0;
}

static struct iovec part_of(const char *text)
{
	return (struct iovec){.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
}

static void open_sockets(int fds[2], int send_buffer)
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	if (send_buffer > 0)
		assert_int_equal(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &send_buffer,
					    sizeof(send_buffer)),
				 0);
}

static void test_writer_bytes(void **state)
{
	static const uint8_t expected[] = {
		'C', 'W', '0', '1', 1,	 3, 3, 0, 5, 0, 0,   0,	  2,   0,
		0,   0,	  0,   0,   0,	 0, 3, 0, 0, 0, 'a', 'b', 'c', 'd',
		'e', 'C', 'W', '0', '1', 2, 0, 0, 0, 0, 0,   0,	  0,
	};
	struct iovec parts[] = {part_of("ab"), {0}, part_of("cde")};
	struct wall_writer *writer = wall_writer_new();
	uint8_t got[100];
	int fds[2];

	(void)state;
	open_sockets(fds, 0);
	assert_int_equal(wall_writer_flush(writer, fds[0]), 0);
	assert_int_equal(wall_writer_pending(writer), 0);
	assert_int_equal(wall_writer_push(writer, WALL_MESSAGE, WALL_IOPUB, false, parts, 3,
					  note_done, &ids[1]),
			 0);
	memset(parts, 0xff, sizeof(parts)); /* the array was copied */
	assert_int_equal(
		wall_writer_push(writer, WALL_READY, WALL_SHELL, false, NULL, 0, NULL, NULL), 0);
	assert_int_equal(wall_writer_pending(writer), sizeof(expected));
	assert_int_equal(done_count, 0);
	assert_int_equal(wall_writer_flush(writer, fds[0]), 0);
	assert_int_equal(wall_writer_pending(writer), 0);
	assert_int_equal(done_count, 1);
	assert_int_equal(recv(fds[1], got, sizeof(got), 0), sizeof(expected));
	assert_memory_equal(got, expected, sizeof(expected));
	assert_null(wall_writer_free(writer));
	assert_null(wall_writer_free(NULL));
	assert_int_equal(done_count, 1);
	close_fd(&fds[0]);
	close_fd(&fds[1]);
}

static void test_writer_limits(void **state)
{
	static struct iovec parts[4097];
	static char byte;
	struct wall_writer *writer = wall_writer_new();
	struct iovec *one = parts;

#define PUSH(kind, channel, count)                                                                 \
	wall_writer_push(writer, kind, channel, false, parts, count, note_done, &ids[0])
	(void)state;
	assert_int_equal(PUSH(WALL_MESSAGE, WALL_SHELL, 4097), -EMSGSIZE);
	assert_int_equal(PUSH(WALL_MESSAGE, WALL_SHELL, 4096), 0);
	assert_int_equal(wall_writer_pending(writer), 12 + 4 * 4096);
	*one = (struct iovec){.iov_base = &byte, .iov_len = WALL_TOTAL_MAX + 1ul};
	assert_int_equal(PUSH(WALL_MESSAGE, WALL_SHELL, 1), -EMSGSIZE);
	one->iov_len = SIZE_MAX;
	assert_int_equal(PUSH(WALL_MESSAGE, WALL_SHELL, 1), -EMSGSIZE);
	one->iov_len = WALL_TOTAL_MAX;
	parts[1] = (struct iovec){.iov_base = &byte, .iov_len = 1};
	assert_int_equal(PUSH(WALL_MESSAGE, WALL_SHELL, 2), -EMSGSIZE);
	one->iov_len = 2;
	parts[1].iov_len = SIZE_MAX; /* 2 + SIZE_MAX = 1 modulo 2^64 */
	assert_int_equal(PUSH(WALL_MESSAGE, WALL_SHELL, 2), -EMSGSIZE);
	one->iov_len = WALL_TOTAL_MAX;
	assert_int_equal(PUSH(WALL_MESSAGE, WALL_SHELL, 1), 0);
	assert_int_equal(wall_writer_pending(writer), 12 + 4 * 4096 + 16 + WALL_TOTAL_MAX);
	assert_int_equal(PUSH(WALL_MESSAGE, WALL_SHELL, 0), -EINVAL);
	assert_int_equal(PUSH(WALL_READY, WALL_SHELL, 1), -EINVAL);
	assert_int_equal(PUSH(WALL_DROPPED, WALL_SHELL, 1), -EINVAL);
	assert_int_equal(PUSH(WALL_MESSAGE, WALL_CHANNELS, 1), -EINVAL);
	one->iov_len = 16;
	assert_int_equal(PUSH(WALL_DROPPED, WALL_IOPUB, 1), 0);
	assert_int_equal(done_count, 0);
	wall_writer_free(writer);
	assert_int_equal(done_count, 3); /* given back for what was queued, and for nothing else */
#undef PUSH
}

/* A socket that takes little at a time: every frame arrives whole, in order, and is given back
 * once. */
static void test_writer_partial(void **state)
{
	static char large[50000];
	struct wall_writer *writer = wall_writer_new();
	struct wall_reader *reader = wall_reader_new();
	struct wall_frame *frame;
	size_t sent = 0, got = 0, before;
	int fds[2], rounds = 0;

	(void)state;
	memset(large, 'L', sizeof(large));
	open_sockets(fds, 4096);
	for (int i = 0; i < 400; i++) {
		struct iovec parts[] = {
			{.iov_base = &ids[i], .iov_len = sizeof(int)}, {0}, part_of("x")};

		if (i % 40 == 7)
			parts[2] = (struct iovec){.iov_base = large,
						  .iov_len = sizeof(large) - (size_t)i};
		assert_int_equal(wall_writer_push(writer, WALL_MESSAGE, WALL_IOPUB, false, parts, 3,
						  note_done, &ids[i]),
				 0);
		sent += 24 + parts[0].iov_len + parts[2].iov_len;
	}
	assert_int_equal(wall_writer_pending(writer), sent);
	while (wall_writer_pending(writer) > 0) {
		size_t room;
		void *to;
		ssize_t r;

		before = wall_writer_pending(writer);
		assert_int_equal(wall_writer_flush(writer, fds[0]),
				 0); /* a full socket is no error */
		assert_true(wall_writer_pending(writer) < before || rounds > 0);
		rounds++;
		to = wall_reader_buffer(reader, &room);
		r = recv(fds[1], to, room < 3001 ? room : 3001, MSG_DONTWAIT);
		assert_true(r > 0);
		assert_int_equal(wall_reader_advance(reader, (size_t)r, &err), 0);
		while ((frame = next(reader))) {
			assert_int_equal(*(int *)frame->parts[0].iov_base, got);
			assert_int_equal(frame->parts[2].iov_len,
					 got % 40 == 7 ? sizeof(large) - got : 1);
			assert_int_equal(*(char *)frame->parts[2].iov_base,
					 got % 40 == 7 ? 'L' : 'x');
			wall_frame_unref(frame);
			got++;
		}
		assert_true(done_count >= got);
	}
	assert_true(rounds > 10);
	assert_int_equal(done_count, 400);
	for (size_t i = 0; i < 400; i++)
		assert_int_equal(done_order[i], i);
	close_fd(&fds[0]);
	for (;;) {
		size_t room;
		void *to = wall_reader_buffer(reader, &room);
		ssize_t r = recv(fds[1], to, room, 0);

		if (r <= 0)
			break;
		assert_int_equal(wall_reader_advance(reader, (size_t)r, &err), 0);
		while ((frame = next(reader))) {
			assert_int_equal(*(int *)frame->parts[0].iov_base, got++);
			wall_frame_unref(frame);
		}
	}
	assert_int_equal(got, 400);
	wall_reader_free(reader);
	wall_writer_free(writer);
	close_fd(&fds[1]);
}

static void push_id(struct wall_writer *writer, int *id, bool urgent, size_t size)
{
	static char bytes[200000];
	struct iovec parts[] = {{.iov_base = id, .iov_len = sizeof(*id)},
				{.iov_base = bytes, .iov_len = size}};

	assert_int_equal(
		wall_writer_push(writer, WALL_MESSAGE, WALL_SHELL, urgent, parts, 2, note_done, id),
		0);
}

static void drain(struct wall_writer *writer, int fds[2])
{
	static char sink[65536];

	while (wall_writer_pending(writer) > 0) {
		assert_int_equal(wall_writer_flush(writer, fds[0]), 0);
		while (recv(fds[1], sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
	}
}

static void check_order(const int *expected, size_t count)
{
	assert_int_equal(done_count, count);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(done_order[i], expected[i]);
}

static void test_writer_urgent(void **state)
{
	static const int order[] = {0, 3, 4, 1, 2, 5};
	struct wall_writer *writer = wall_writer_new();
	int fds[2];

	(void)state;
	open_sockets(fds, 4096);
	push_id(writer, &ids[0], false, 200000);
	push_id(writer, &ids[1], false, 10);
	assert_int_equal(wall_writer_flush(writer, fds[0]), 0); /* 0 has begun and does not fit */
	assert_true(wall_writer_pending(writer) > 0);
	assert_int_equal(done_count, 0);
	push_id(writer, &ids[2], false, 10);
	push_id(writer, &ids[3], true, 10);
	push_id(writer, &ids[4], true, 0);
	push_id(writer, &ids[5], false, 10);
	drain(writer, fds);
	check_order(order, LENGTH(order));
	wall_writer_free(writer);
	close_fd(&fds[0]);
	close_fd(&fds[1]);
}

/* An urgent frame goes ahead of a frame that was gathered but did not begin. */
static void test_writer_not_begun(void **state)
{
	static const int order[] = {0, 2, 1};
	struct wall_writer *writer = wall_writer_new();
	int fds[2];

	(void)state;
	open_sockets(fds, 4096);
	push_id(writer, &ids[0], true, 200000);
	push_id(writer, &ids[1], false, 5);
	assert_int_equal(wall_writer_flush(writer, fds[0]), 0);
	push_id(writer, &ids[2], true, 5);
	drain(writer, fds);
	check_order(order, LENGTH(order));
	wall_writer_free(writer);
	close_fd(&fds[0]);
	close_fd(&fds[1]);
}

static struct wall_writer *pushed_from_done;

static void push_more(void *arg)
{
	note_done(arg);
	push_id(pushed_from_done, &ids[done_count + 100], true, 3);
}

static void test_writer_push_in_done(void **state)
{
	static const int order[] = {0, 1, 101, 2};
	struct iovec part = part_of("x");
	int fds[2];

	(void)state;
	open_sockets(fds, 0);
	pushed_from_done = wall_writer_new();
	assert_int_equal(wall_writer_push(pushed_from_done, WALL_MESSAGE, WALL_SHELL, false, &part,
					  1, push_more, &ids[0]),
			 0);
	push_id(pushed_from_done, &ids[1], false, 3);
	drain(pushed_from_done, fds); /* one batch took 0 and 1; what 0 pushed comes after */
	push_id(pushed_from_done, &ids[2], false, 3);
	drain(pushed_from_done, fds);
	check_order(order, LENGTH(order));
	wall_writer_free(pushed_from_done);
	close_fd(&fds[0]);
	close_fd(&fds[1]);
}

static void test_writer_many_parts(void **state)
{
	static struct iovec parts[300];
	static char bytes[300];
	struct wall_writer *writer = wall_writer_new();
	struct wall_reader *reader = wall_reader_new();
	struct wall_frame *frame;
	void *to;
	size_t room;
	ssize_t r;
	int fds[2];

	(void)state;
	open_sockets(fds, 0);
	for (size_t i = 0; i < 300; i++) {
		bytes[i] = (char)i;
		parts[i] = (struct iovec){.iov_base = &bytes[i], .iov_len = 1};
	}
	/* 63, 64, 65: header and parts around what one call takes. */
	for (size_t count = 62; count <= 300; count += count == 66 ? 234 : 1) {
		assert_int_equal(wall_writer_push(writer, WALL_MESSAGE, WALL_HB, false, parts,
						  count, NULL, NULL),
				 0);
		assert_int_equal(wall_writer_flush(writer, fds[0]), 0);
		assert_int_equal(wall_writer_pending(writer), 0);
		to = wall_reader_buffer(reader, &room);
		r = recv(fds[1], to, room, 0);
		assert_int_equal(r, 12 + 5 * count);
		assert_int_equal(wall_reader_advance(reader, (size_t)r, &err), 0);
		frame = next(reader);
		assert_int_equal(frame->count, count);
		assert_memory_equal(frame->parts[0].iov_base, bytes, count);
		wall_frame_unref(frame);
	}
	wall_reader_free(reader);
	wall_writer_free(writer);
	close_fd(&fds[0]);
	close_fd(&fds[1]);
}

static void test_writer_peer_gone(void **state)
{
	struct wall_writer *writer = wall_writer_new();
	int fds[2];

	(void)state;
	open_sockets(fds, 0);
	push_id(writer, &ids[0], false, 10);
	push_id(writer, &ids[1], true, 10);
	close_fd(&fds[1]);
	assert_int_equal(wall_writer_flush(writer, fds[0]), -EPIPE); /* and no SIGPIPE */
	assert_int_equal(wall_writer_flush(writer, -1), -EBADF);
	assert_int_equal(done_count, 0);
	wall_writer_free(writer);
	assert_int_equal(done_count, 2);
	close_fd(&fds[0]);
}

/* One flush does not hold the event loop for as long as the other side keeps reading. */
static void *read_forever(void *arg)
{
	static char sink[1 << 20];

	while (recv(*(int *)arg, sink, sizeof(sink), 0) > 0)
		;
	return NULL;
}

static void test_writer_flush_bound(void **state)
{
	static char bytes[1 << 20];
	struct iovec part = {.iov_base = bytes, .iov_len = sizeof(bytes)};
	struct wall_writer *writer = wall_writer_new();
	pthread_t thread;
	int fds[2];

	(void)state;
	open_sockets(fds, 0);
	for (size_t i = 0; i < 64; i++)
		assert_int_equal(wall_writer_push(writer, WALL_MESSAGE, WALL_SHELL, false, &part, 1,
						  NULL, NULL),
				 0);
	assert_int_equal(pthread_create(&thread, NULL, read_forever, &fds[1]), 0);
	while (wall_writer_pending(writer) > 0) {
		size_t before = wall_writer_pending(writer);

		assert_int_equal(wall_writer_flush(writer, fds[0]), 0);
		assert_true(before - wall_writer_pending(writer) <= 4 << 20);
	}
	close_fd(&fds[0]);
	pthread_join(thread, NULL);
	wall_writer_free(writer);
	close_fd(&fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_split),
		cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_magic),
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_sums),
		cmocka_unit_test(test_many_in_one_buffer),
		cmocka_unit_test(test_longest_header),
		cmocka_unit_test(test_direct),
		cmocka_unit_test(test_mapped),
		cmocka_unit_test(test_mapped_again),
		cmocka_unit_test(test_references),
		cmocka_unit_test_setup(test_writer_bytes, begin),
		cmocka_unit_test_setup(test_writer_limits, begin),
		cmocka_unit_test_setup(test_writer_partial, begin),
		cmocka_unit_test_setup(test_writer_urgent, begin),
		cmocka_unit_test_setup(test_writer_not_begun, begin),
		cmocka_unit_test_setup(test_writer_push_in_done, begin),
		cmocka_unit_test_setup(test_writer_many_parts, begin),
		cmocka_unit_test_setup(test_writer_peer_gone, begin),
		cmocka_unit_test_setup(test_writer_flush_bound, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
