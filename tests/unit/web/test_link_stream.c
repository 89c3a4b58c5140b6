#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "web/link_stream.h"

#define BYTES_MAX (64u * 1024 * 1024)

static struct iovec part(const char *text)
{
	return (struct iovec){(void *)(uintptr_t)text, strlen(text)};
}

static void count_release(void *arg)
{
	++*(int *)arg;
}

static void put(struct link_stream *stream, unsigned channel, const char *text)
{
	const struct iovec parts[] = {part(text), part("")};

	assert_int_equal(link_stream_put(stream, channel, parts, 2, NULL, NULL), 0);
}

/* Carries up to `most` frames; returns how many. Messages that come are compared with `expected`
 * ("channel:text", in order), of which `at` counts. */
struct carried {
	const char *const *expected;
	size_t at;
};

static unsigned carry(struct link_stream *from, struct link_stream *to, unsigned most,
		      struct carried *carried)
{
	unsigned count = 0;

	while (count < most) {
		struct link_message *message = NULL;
		struct link_frame frame;
		const void *bytes;
		size_t size;
		struct err err;
		int code = link_stream_next(from, &bytes, &size);

		assert_true(code >= 0);
		if (code == 0)
			return count;
		assert_int_equal(link_frame_parse(bytes, size, &frame, &err), 0);
		code = link_stream_take(to, &frame, &message, &err);
		assert_true(code >= 0);
		link_stream_sent(from);
		count++;
		if (code > 0 && carried) {
			const char *expected = carried->expected[carried->at++];

			assert_non_null(expected);
			assert_int_equal(message->channel, expected[0] - '0');
			assert_int_equal(message->count, 2);
			assert_int_equal(message->parts[0].iov_len, strlen(expected + 2));
			assert_memory_equal(message->parts[0].iov_base, expected + 2,
					    strlen(expected + 2));
		}
		link_message_free(message);
	}
	return count;
}

static void messages_arrive_control_first(void **state)
{
	static const char *const expected[] = {"1:interrupt", "4:state", "0:shell", "2:stdin",
					       "3:output",    "3:more",	 NULL};
	struct carried carried = {expected, 0};
	struct link_stream *a = link_stream_new(BYTES_MAX), *b = link_stream_new(BYTES_MAX);

	(void)state;
	put(a, WALL_IOPUB, "output");
	put(a, WALL_IOPUB, "more");
	put(a, WALL_SHELL, "shell");
	put(a, WALL_STDIN, "stdin");
	put(a, WALL_CONTROL, "interrupt");
	put(a, LINK_EVENTS, "state");
	assert_int_equal(carry(a, b, 100, &carried), 6);
	assert_int_equal(carried.at, 6);
	assert_int_equal(link_stream_acked(a, link_stream_received(b), NULL), 0);
	assert_int_equal(link_stream_queued(a), 0);
	link_stream_free(a);
	link_stream_free(b);
}

/* An output of 16 windows: a control message overtakes it, memory stays within the window. */
static void control_overtakes_a_large_output(void **state)
{
	const size_t size = 16 * LINK_WINDOW;
	char *large = calloc(1, size);
	const struct iovec parts[] = {{large, size}};
	struct link_stream *a = link_stream_new(BYTES_MAX), *b = link_stream_new(2 * BYTES_MAX);
	static const char *const expected[] = {"1:now", NULL};
	struct carried carried = {expected, 0};
	unsigned frames;
	int released = 0;

	(void)state;
	assert_non_null(large);
	assert_int_equal(link_stream_put(a, WALL_IOPUB, parts, 1, count_release, &released), 0);
	frames = carry(a, b, 100000, NULL);
	assert_true(frames * LINK_PIECE <= LINK_WINDOW + LINK_PIECE);
	assert_int_equal(carry(a, b, 100000, NULL), 0);
	put(a, WALL_CONTROL, "now");
	assert_int_equal(carry(a, b, 100000, &carried), 1);
	assert_int_equal(carried.at, 1);
	assert_int_equal(released, 0);
	for (int i = 0; i < 100 && !released; i++) {
		assert_int_equal(link_stream_acked(a, link_stream_received(b), NULL), 0);
		carry(a, b, 100000, NULL);
	}
	assert_int_equal(released, 1);
	link_stream_free(a);
	link_stream_free(b);
	free(large);
}

/* Cut after every number of frames, with an acknowledgement or without: each message comes once,
 * in order. */
static void nothing_is_lost_or_doubled_by_cuts(void **state)
{
	static const char *const expected[] = {"3:one",	 "3:two", "3:three", "3:four",
					       "3:five", "3:six", NULL};

	(void)state;
	for (unsigned cut = 0; cut < 36; cut++) {
		struct carried carried = {expected, 0};
		struct link_stream *a = link_stream_new(1000), *b = link_stream_new(1000);

		for (int i = 0; i < 6; i++)
			put(a, WALL_IOPUB, expected[i] + 2);
		carry(a, b, cut / 6, &carried);
		if (cut % 2)
			assert_int_equal(link_stream_acked(a, link_stream_received(b), NULL), 0);
		/* a frame that is sent and does not arrive */
		if (cut % 3) {
			const void *bytes;
			size_t size;

			if (link_stream_next(a, &bytes, &size) == 1)
				link_stream_sent(a);
		}
		assert_int_equal(link_stream_resume(a, link_stream_received(b), NULL), 0);
		carry(a, b, cut % 6, &carried);
		assert_int_equal(link_stream_resume(a, link_stream_received(b), NULL), 0);
		carry(a, b, 100, &carried);
		assert_int_equal(carried.at, 6);
		link_stream_free(a);
		link_stream_free(b);
	}
}

static void a_resume_that_cannot_be_is_refused(void **state)
{
	struct link_stream *a = link_stream_new(1000), *b = link_stream_new(1000);

	(void)state;
	put(a, WALL_SHELL, "x");
	carry(a, b, 1, NULL);
	assert_int_equal(link_stream_acked(a, 2, NULL), -EPROTO);
	assert_int_equal(link_stream_acked(a, 1, NULL), 0);
	assert_int_equal(link_stream_resume(a, 0, NULL), -EPROTO);
	assert_int_equal(link_stream_resume(a, 2, NULL), -EPROTO);
	put(a, WALL_SHELL, "y");
	assert_int_equal(link_stream_resume(a, 1, NULL), 0);
	assert_int_equal(link_stream_acked(a, 2, NULL), -EPROTO);
	link_stream_free(a);
	link_stream_free(b);
}

/* One DATA frame with this body, from a hostile end. */
static int take(struct link_stream *stream, uint64_t number, bool last, const char *body,
		size_t size)
{
	unsigned char bytes[LINK_HEADER + 64];
	struct link_message *message = NULL;
	struct link_frame frame;
	int code;

	link_frame_header(bytes, LINK_DATA, WALL_SHELL, last, number);
	memcpy(bytes + LINK_HEADER, body, size);
	if (link_frame_parse(bytes, LINK_HEADER + size, &frame, NULL) < 0)
		return -EPROTO;
	code = link_stream_take(stream, &frame, &message, NULL);
	link_message_free(message);
	return code;
}

static int take_first(bool last, const char *body, size_t size)
{
	struct link_stream *stream = link_stream_new(40);
	const int code = take(stream, 1, last, body, size);

	link_stream_free(stream);
	return code;
}

static void hostile_frames_are_refused(void **state)
{
	struct link_stream *stream = link_stream_new(40);

	(void)state;
	assert_int_equal(take_first(true, "\1\0\0\0\2\0\0\0ab", 10), 1);
	assert_int_equal(take_first(true, "\1\0\0\0\3\0\0\0ab", 10), -EPROTO);
	assert_int_equal(take_first(true, "\1\0\0\0\1\0\0\0ab", 10), -EPROTO);
	assert_int_equal(take_first(true,
				    "\1\0\0\0\xff\xff\xff\xff"
				    "ab",
				    10),
			 -EPROTO);
	assert_int_equal(take_first(true, "\0\0\0\0", 4), -EPROTO);
	assert_int_equal(take_first(true, "\1\0", 2), -EPROTO);
	assert_int_equal(take_first(true, "\xff\xff\xff\xff", 4), -EPROTO);
	assert_int_equal(take_first(true, "\377\17\0\0", 4), -EPROTO);
	assert_int_equal(take_first(false, "", 0), -EPROTO);
	assert_int_equal(take(stream, 2, false, "a", 1), -EPROTO); /* a gap */
	assert_int_equal(take(stream, 1, false, "0123456789012345678901234567890123456789", 40), 0);
	assert_int_equal(take(stream, 1, false, "again", 5), 0);
	assert_int_equal(take(stream, 2, false, "x", 1), -EPROTO); /* larger than allowed */
	for (unsigned channel = LINK_CHANNELS; channel < 256; channel++) {
		const struct link_frame frame = {.a = (uint8_t)channel,
						 .number = 2,
						 .body = (const unsigned char *)"x",
						 .size = 1};

		assert_int_equal(link_stream_take(stream, &frame, NULL, NULL), -EPROTO);
	}
	link_stream_free(stream);
}

static void frames_of_other_forms_are_refused(void **state)
{
	unsigned char bytes[LINK_HEADER + LINK_ID + 1] = {0};
	struct link_frame frame;

	(void)state;
	assert_int_equal(link_frame_parse(bytes, LINK_HEADER - 1, &frame, NULL), -EPROTO);
	link_frame_header(bytes, LINK_HELLO, 0, 0, 0);
	assert_int_equal(link_frame_parse(bytes, LINK_HEADER, &frame, NULL), -EPROTO);
	assert_int_equal(link_frame_parse(bytes, LINK_HEADER + LINK_ID, &frame, NULL), 0);
	link_frame_header(bytes, LINK_HELLO, 1, 0, 0);
	assert_int_equal(link_frame_parse(bytes, LINK_HEADER + LINK_ID + 1, &frame, NULL), -EPROTO);
	link_frame_header(bytes, LINK_DATA, LINK_CHANNELS, 0, 1);
	assert_int_equal(link_frame_parse(bytes, LINK_HEADER + 1, &frame, NULL), -EPROTO);
	link_frame_header(bytes, LINK_DATA, 0, 0, 0);
	assert_int_equal(link_frame_parse(bytes, LINK_HEADER + 1, &frame, NULL), -EPROTO);
	link_frame_header(bytes, LINK_ACK, 0, 0, 7);
	assert_int_equal(link_frame_parse(bytes, LINK_HEADER, &frame, NULL), 0);
	assert_int_equal(frame.number, 7);
	bytes[0] = LINK_VERSION + 1; /* of another version the header alone is looked at */
	assert_int_equal(link_frame_parse(bytes, LINK_HEADER + 1, &frame, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_arrive_control_first),
		cmocka_unit_test(control_overtakes_a_large_output),
		cmocka_unit_test(nothing_is_lost_or_doubled_by_cuts),
		cmocka_unit_test(a_resume_that_cannot_be_is_refused),
		cmocka_unit_test(hostile_frames_are_refused),
		cmocka_unit_test(frames_of_other_forms_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
