/*
 * The parser that faces the untrusted side. The input is a list of receives: a byte says how many
 * bytes come, then those bytes. What comes out is compared with a second reader that gets all bytes
 * at once, and checked by hand.
 */
#include <stdint.h>
#include <string.h>

#include "sandbox/wall.h"

#define FRAMES_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition)
		abort();
}

static void check_frame(const struct wall_frame *frame)
{
	const uint8_t *next = frame->count > 0 ? frame->parts[0].iov_base : NULL;
	uint64_t sum = 0;
	volatile uint8_t seen = 0;

	require(atomic_load(&frame->refs) == 1);
	require(frame->kind >= WALL_MESSAGE && frame->kind <= WALL_DROPPED);
	require(frame->channel < WALL_CHANNELS);
	require(frame->count <= WALL_PARTS_MAX && frame->total <= WALL_TOTAL_MAX);
	require(frame->kind == WALL_READY ? frame->count == 0 : frame->count >= 1);
	require(frame->kind != WALL_DROPPED || frame->total == 16);
	for (size_t i = 0; i < frame->count; i++) {
		require(frame->parts[i].iov_base == (const void *)next && next);
		for (size_t j = 0; j < frame->parts[i].iov_len; j++)
			seen = seen ^ next[j]; /* the sanitizer knows where the block ends */
		next += frame->parts[i].iov_len;
		sum += frame->parts[i].iov_len;
	}
	require(sum == frame->total);
}

struct outcome {
	uint64_t frames, digest;
	int code;
};

static void take_all(struct wall_reader *reader, struct outcome *outcome)
{
	struct wall_frame *frame;

	while ((frame = wall_reader_next(reader, &outcome->code, NULL))) {
		require(outcome->code == 0);
		check_frame(frame);
		outcome->frames++;
		outcome->digest = outcome->digest * 31 + frame->kind * 7u + frame->channel * 5u +
				  frame->count;
		for (size_t i = 0; i < frame->total; i++)
			outcome->digest = outcome->digest * 31 +
					  ((const uint8_t *)frame->parts[0].iov_base)[i];
		wall_frame_unref(frame);
	}
}

static void receive(struct wall_reader *reader, const uint8_t *data, size_t size,
		    struct outcome *outcome)
{
	while (size > 0 && outcome->code == 0) {
		size_t room = 0, part;
		void *to = wall_reader_buffer(reader, &room);

		require(to && room > 0);
		part = room < size ? room : size;
		memcpy(to, data, part);
		require(wall_reader_advance(reader, part, NULL) == 0);
		take_all(reader, outcome);
		data += part;
		size -= part;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wall_reader *pieces = wall_reader_new(), *whole = wall_reader_new();
	struct outcome first = {0}, second = {0};
	uint8_t *joined = malloc(size + 1);
	size_t length = 0, at = 0;

	require(pieces && whole && joined);
	while (at < size) {
		size_t part = data[at++];

		part = part < 200
			       ? part
			       : (part - 199) *
					 997; /* some reach past the threshold of a direct body */
		part = part < size - at ? part : size - at;
		memcpy(joined + length, data + at, part);
		length += part;
		receive(pieces, data + at, part, &first);
		at += part;
	}
	receive(whole, joined, length, &second);
	require(first.frames == second.frames && first.digest == second.digest &&
		first.code == second.code);
	wall_reader_free(pieces);
	wall_reader_free(whole);
	free(joined);
	return 0;
}
