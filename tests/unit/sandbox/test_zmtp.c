#include "sandbox/zmtp.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "sandbox/lane.h"

static void test_frames(void **state)
{
	static const uint8_t reserved[] = {8, 0}, continued[] = {5, 0},
			     negative[] = {2, 0xff, 0, 0, 0, 0, 0, 0, 0};
	struct zmtp_frame frame;
	uint8_t front[ZMTP_FRAME_MAX];

	(void)state;
	for (size_t size = 0; size < 70000; size += size < 300 ? 1 : 4999) {
		const size_t length = zmtp_front(front, size, size % 2);

		for (size_t i = 0; i < length; i++)
			assert_int_equal(zmtp_frame(front, i, &frame), 0);
		assert_int_equal(zmtp_frame(front, length, &frame), 1);
		assert_int_equal(frame.size, size);
		assert_int_equal(frame.front, length);
		assert_int_equal(frame.more, size % 2);
		assert_false(frame.command);
	}
	assert_int_equal(zmtp_frame(reserved, 2, &frame), -EPROTO);
	assert_int_equal(zmtp_frame(continued, 2, &frame), -EPROTO);
	assert_int_equal(zmtp_frame(negative, 9, &frame), -EPROTO);
}

static void test_hello_is_what_is_taken(void **state)
{
	uint8_t hello[ZMTP_HELLO_MAX];
	struct zmtp_frame frame;
	size_t size = zmtp_hello(hello, "DEALER", "0123456789abcdef");

	(void)state;
	assert_true(size <= sizeof(hello));
	assert_true(zmtp_greeting_ok(hello));
	assert_int_equal(zmtp_frame(hello + 64, size - 64, &frame), 1);
	assert_true(frame.command);
	assert_int_equal(64 + frame.front + frame.size, size);
	assert_true(zmtp_ready_ok(hello + 66, size - 66));
	for (size_t i = 0; i < size - 66; i++) /* cut: good before and between the properties */
		assert_int_equal(zmtp_ready_ok(hello + 66, i),
				 i == 6 ||
					 i == 6 + 1 + strlen("Socket-Type") + 4 + strlen("DEALER"));
	hello[10] = 2;
	assert_false(zmtp_greeting_ok(hello));
	hello[10] = 3;
	memcpy(hello + 12, "CURVE", 5);
	assert_false(zmtp_greeting_ok(hello));
}

static void test_ping(void **state)
{
	uint8_t out[ZMTP_FRAME_MAX + 32];

	(void)state;
	assert_int_equal(zmtp_pong(out, (const uint8_t *)"\4PING\0\0abc", 10), 10);
	assert_memory_equal(out, "\4\10\4PONGabc", 10);
	assert_int_equal(zmtp_pong(out, (const uint8_t *)"\4PING\0", 6), 0);
	assert_int_equal(zmtp_pong(out, (const uint8_t *)"\4PING\0\0abcdefghijklmnopq", 24), 0);
	assert_int_equal(zmtp_pong(out, (const uint8_t *)"\4PANG\0\0", 7), 0);
}

/* ---- lanes ---- */

struct seen {
	char text[4096];
	size_t messages, streamed, whole, skipped;
	size_t skipped_bytes;
	bool opened, closed, broken;
	enum lane_fate fate;
};

static void on_opened(void *arg, struct lane *lane)
{
	(void)lane;
	((struct seen *)arg)->opened = true;
}

static void on_closed(void *arg, struct lane *lane, bool broken)
{
	struct seen *seen = arg;

	(void)lane;
	seen->closed = true;
	seen->broken = broken;
}

static void on_message(void *arg, struct lane *lane, const struct iovec *parts, size_t count,
		       size_t bytes)
{
	struct seen *seen = arg;

	(void)lane;
	(void)bytes;
	for (size_t i = 0; i < count && parts[i].iov_len < 100; i++) {
		size_t end;

		assert_true(strlen(seen->text) + parts[i].iov_len + 1 < sizeof(seen->text));
		(void)strncat(seen->text, parts[i].iov_base, parts[i].iov_len);
		end = strlen(seen->text);
		seen->text[end] = i + 1 < count ? ',' : ';';
		seen->text[end + 1] = '\0';
	}
	seen->messages++;
}

static enum lane_fate on_large(void *arg, struct lane *lane, const struct iovec *parts,
			       size_t count, size_t bytes, size_t last)
{
	(void)lane;
	(void)bytes;
	assert_int_equal(parts[count - 1].iov_len, last);
	return ((struct seen *)arg)->fate;
}

static void on_stream(void *arg, struct lane *lane, const void *bytes, size_t size)
{
	(void)lane;
	(void)bytes;
	((struct seen *)arg)->streamed += size;
}

static void on_whole(void *arg, struct lane *lane, const struct iovec *parts, size_t count,
		     size_t bytes, void *block)
{
	(void)lane;
	(void)bytes;
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < parts[i].iov_len; j++)
			assert_int_equal(((const uint8_t *)parts[i].iov_base)[j], (uint8_t)j);
	((struct seen *)arg)->whole++;
	free(block);
}

static void on_skipped(void *arg, struct lane *lane, size_t bytes)
{
	struct seen *seen = arg;

	(void)lane;
	seen->skipped++;
	seen->skipped_bytes += bytes;
}

static const struct lane_user user = {on_opened, on_closed, on_message, on_large,
				      on_stream, on_whole,  on_skipped};

static struct lane lane;
static struct seen seen;
static size_t queued;
static int peer;

/* A lane with an open connection; `peer` is the kernel's end. */
static int set_up(void **state)
{
	uint8_t hello[ZMTP_HELLO_MAX];
	size_t size = zmtp_hello(hello, "PUB", "");
	int pair[2];

	(void)state;
	memset(&lane, 0, sizeof(lane));
	memset(&seen, 0, sizeof(seen));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
		return -1;
	peer = pair[1];
	lane.type = "SUB";
	lane.identity = "";
	lane.user = &user;
	lane.arg = &seen;
	lane_init(&lane, &queued);
	lane.fd = pair[0];
	lane.state = LANE_GREETING;
	if (write(peer, hello, size) != (ssize_t)size)
		return -1;
	lane_read(&lane, 1000000, 0);
	lane_flush(&lane, 0);
	/* the subscription */
	return lane.state == LANE_OPEN && seen.opened && read(peer, hello, 100) == 3 ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	lane_close(&lane, 0, 0, false);
	(void)close(peer);
	return 0;
}

static void say_bytes(const void *bytes, size_t size)
{
	assert_int_equal(write(peer, bytes, size), size);
	lane_read(&lane, 1000000, 0);
}

static void test_messages(void **state)
{
	(void)state;
	say_bytes("\1\1a\1\0\0\2bc\0\1d\1", 13);
	assert_string_equal(seen.text, "a,,bc;d;");
	assert_false(lane_between(&lane));
	say_bytes("\2ef\0\3ghi", 8);
	assert_string_equal(seen.text, "a,,bc;d;ef,ghi;");
	assert_true(lane_between(&lane));
}

static void test_commands_between(void **state)
{
	uint8_t got[64];

	(void)state;
	say_bytes("\4\7\4PING\0\0\1\1\0\4\7\4PING\0\0\0\1\0", 24);
	assert_int_equal(seen.whole + seen.messages, 1);
	lane_flush(&lane, 0);
	assert_int_equal(read(peer, got, sizeof(got)), 2 * (2 + 5));
}

static void send_large(size_t size, bool all)
{
	uint8_t front[ZMTP_FRAME_MAX];
	uint8_t bytes[997];
	size_t length = zmtp_front(front, size, false);

	say_bytes("\1\4\0\1\2\3", 6);
	say_bytes(front, length);
	for (size_t at = 0; at < (all ? size : size / 2); at += sizeof(bytes)) {
		const size_t part = size - at < sizeof(bytes) ? size - at : sizeof(bytes);

		for (size_t i = 0; i < part; i++)
			bytes[i] = (uint8_t)(at + i);
		say_bytes(bytes, part);
	}
}

static void test_large(void **state)
{
	(void)state;
	for (enum lane_fate fate = LANE_KEEP; fate <= LANE_SKIP; fate++) {
		seen.fate = fate;
		send_large(300000, true);
		assert_true(lane_between(&lane));
	}
	assert_int_equal(seen.whole, 1);
	assert_int_equal(seen.streamed, 300000);
	assert_int_equal(seen.skipped, 1);
	assert_int_equal(seen.skipped_bytes, 300004);
	say_bytes("\0\4text", 6);
	assert_string_equal(seen.text, "text;");
}

static void test_breaks_off(void **state)
{
	(void)state;
	seen.fate = LANE_STREAM;
	send_large(300000, false);
	(void)shutdown(peer, SHUT_RDWR);
	lane_read(&lane, 1000000, 0);
	assert_true(seen.closed && seen.broken);
	assert_int_equal(lane.state, LANE_AWAY);
}

static void test_over_the_caps(void **state)
{
	static uint8_t many[2 * 5000];

	(void)state;
	for (size_t i = 0; i < sizeof(many); i += 2)
		many[i] = i + 2 < sizeof(many);
	say_bytes(many, sizeof(many));
	assert_int_equal(seen.skipped, 1);
	assert_int_equal(seen.messages, 0);
	say_bytes("\0\1a", 3);
	assert_string_equal(seen.text, "a;");
	say_bytes("\2\0\0\0\0\x20\0\0\1", 9); /* WALL_TOTAL_MAX and one */
	assert_true(seen.closed && seen.broken);
}

static struct wall_frame *make_wall_frame(size_t size)
{
	struct wall_frame *frame = calloc(1, sizeof(*frame) + 2 * sizeof(frame->parts[0]) + size);

	assert_non_null(frame);
	atomic_init(&frame->refs, 1);
	frame->count = 2;
	frame->total = (uint32_t)size + 1;
	frame->parts[0] = (struct iovec){.iov_base = &frame->parts[2], .iov_len = 1};
	frame->parts[1] = (struct iovec){.iov_base = &frame->parts[2], .iov_len = size};
	return frame;
}

/* A message that a connection was too short for is sent again from its beginning. */
static void test_sends_again(void **state)
{
	struct wall_frame *frame = make_wall_frame(1000000);
	uint8_t *got = malloc(2000000);
	int pair[2];
	ssize_t size = 0;

	(void)state;
	assert_non_null(got);
	assert_int_equal(lane_send(&lane, frame), 0);
	wall_frame_unref(frame);
	assert_true(queued > 1000000);
	lane_flush(&lane, 0);
	assert_true(lane_wants_write(&lane));
	assert_int_equal(send(peer, "\0\4last", 6, 0), 6);
	(void)close(peer);
	lane_flush(&lane, 0);
	assert_false(lane_wants_write(&lane));
	assert_true(lane.look); /* what it wrote before is taken first */
	lane_read(&lane, LANE_SCRATCH, 0);
	assert_int_equal(seen.messages, 1);
	lane_read(&lane, LANE_SCRATCH, 0);
	assert_int_equal(lane.state, LANE_AWAY);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	peer = pair[1];
	lane.fd = pair[0];
	lane.state = LANE_OPEN;
	while (lane_wants_write(&lane)) {
		ssize_t more;

		lane_flush(&lane, 0);
		while ((more = read(peer, got + size, 2000000 - (size_t)size)) > 0)
			size += more;
	}
	assert_int_equal(size, 2 + 1 + 9 + 1000000);
	assert_memory_equal(got, "\1\1\0\2\0\0\0\0\0\x0f\x42\x40", 12);
	assert_int_equal(queued, 0);
	free(got);
}

#define lane_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames),	  cmocka_unit_test(test_hello_is_what_is_taken),
		cmocka_unit_test(test_ping),	  lane_test(test_messages),
		lane_test(test_commands_between), lane_test(test_large),
		lane_test(test_breaks_off),	  lane_test(test_over_the_caps),
		lane_test(test_sends_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
