#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "web/frames.h"

static struct frames_message message;
static char room[FRAMES_ROOM(64)];
static struct iovec vector[FRAMES_VECTOR_MAX(64)];

static struct iovec text(const char *from)
{
	return (struct iovec){.iov_base = (void *)(uintptr_t)from, .iov_len = strlen(from)};
}

static size_t join(const struct iovec *ranges, int count, unsigned char *out)
{
	size_t at = 0;

	for (int i = 0; i < count; i++) {
		memcpy(out + at, ranges[i].iov_base, ranges[i].iov_len);
		at += ranges[i].iov_len;
	}
	return at;
}

static void expect(struct iovec part, const char *wanted)
{
	assert_int_equal(part.iov_len, strlen(wanted));
	assert_memory_equal(part.iov_base, wanted, part.iov_len);
}

/* The vectors of jupyter_server's serialize_msg_to_ws_v1 and serialize_binary_message. */
static void test_v1_vector(void **state)
{
	static const unsigned char table[] = {8, 0, 0, 0, 0, 0, 0, 0,	0x48,
					      0, 0, 0, 0, 0, 0, 0, 0x4d};
	struct iovec parts[6] = {text("{\"msg_id\":\"a\"}"), text("{}"),  text("{}"), text("{}"),
				 text("\x01\x02"),	     text("\xff")};
	unsigned char out[256];
	size_t bytes;
	int n = frames_write_v1(WALL_IOPUB, parts, 6, room, vector, &bytes);

	(void)state;
	assert_int_equal(bytes, 100);
	assert_int_equal(join(vector, n, out), 100);
	assert_memory_equal(out, table, sizeof(table));
	assert_memory_equal(out + 0x48, "iopub{\"msg_id\":\"a\"}{}{}{}\x01\x02\xff", 28);
	assert_int_equal(out[64], 100);
}

static void test_legacy_vector(void **state)
{
	struct iovec parts[6] = {text("{\"msg_id\":\"a\",\"msg_type\":\"t\"}"),
				 text("{}"),
				 text("{}"),
				 text("{\"x\":NaN}"),
				 text("\x01\x02"),
				 text("\xff")};
	unsigned char out[512];
	size_t bytes;
	bool binary;
	int n = frames_write_legacy(WALL_IOPUB, parts, 6, room, vector, &bytes, &binary);

	(void)state;
	assert_true(binary);
	assert_int_equal(join(vector, n, out), bytes);
	assert_memory_equal(out, "\0\0\0\3\0\0\0\x10", 8);
	assert_int_equal(out[11], bytes - 3);
	assert_int_equal(out[15], bytes - 1);
	assert_memory_equal(out + bytes - 3, "\x01\x02\xff", 3);
	assert_memory_equal(out + 16, "{\"channel\":\"iopub\",\"msg_id\":\"a\",\"msg_type\":\"t\",",
			    46);
	n = frames_write_legacy(WALL_SHELL, parts, 4, room, vector, &bytes, &binary);
	assert_false(binary);
	assert_int_equal(join(vector, n, out), bytes);
	assert_true(frames_is_json(out, bytes));
}

static void test_legacy_takes_only_json(void **state)
{
	static const char *const bad[] = {"",
					  "{",
					  "{}}",
					  "{\"a\":\"\xff\"}",
					  "{,}",
					  "[1,]",
					  "\"a\nb\"",
					  "01",
					  "nul",
					  "{\"a\"}",
					  "[1 2]",
					  "\"\\x\"",
					  "{a:1}",
					  "\"\\u12\"",
					  "-",
					  "{}, \"channel\":\"shell\"",
					  "\"\xed\xa0\x80\""};
	static const char *const good[] = {"{}",
					   " [1, -2.5e+3, \"\\ud800\", true, null]\n",
					   "{\"a\":{\"b\":[]}}",
					   "NaN",
					   "-Infinity",
					   "\"\xc3\xa4\"",
					   "\"0123456789abcdef\\n\""};
	struct iovec parts[4] = {text("{}"), text("{}"), text("{}"), text("{}")};
	size_t bytes;
	bool binary;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(frames_is_json(bad[i], strlen(bad[i])));
		parts[3] = text(bad[i]);
		assert_true(frames_write_legacy(WALL_IOPUB, parts, 4, room, vector, &bytes,
						&binary) < 0);
	}
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(frames_is_json(good[i], strlen(good[i])));
}

static void test_depth_is_bounded(void **state)
{
	char deep[2 * FRAMES_DEPTH + 4];

	(void)state;
	memset(deep, '[', FRAMES_DEPTH);
	memset(deep + FRAMES_DEPTH, ']', FRAMES_DEPTH);
	assert_true(frames_is_json(deep, 2 * FRAMES_DEPTH));
	memset(deep, '[', FRAMES_DEPTH + 2);
	memset(deep + FRAMES_DEPTH + 2, ']', FRAMES_DEPTH + 2);
	assert_false(frames_is_json(deep, sizeof(deep)));
}

static void test_read_legacy(void **state)
{
	const char *from =
		" {\"channel\": \"control\", \"header\" : {\"a\":[\"}\"]}, \"content\":{ },"
		"\"other\":[1,{}], \"buffers\":[], \"msg_id\":\"x\"} ";
	struct err err;

	(void)state;
	assert_int_equal(frames_read_legacy(from, strlen(from), false, &message, &err), 0);
	assert_int_equal(message.channel, WALL_CONTROL);
	assert_int_equal(message.count, 4);
	expect(message.parts[0], "{\"a\":[\"}\"]}");
	expect(message.parts[1], "{}");
	expect(message.parts[3], "{ }");
}

static void test_read_legacy_refuses(void **state)
{
	static const char *const bad[] = {"[]",
					  "{}",
					  "{\"header\":1}",
					  "{\"header\":{},\"header\":{}}",
					  "{\"header\":{},\"channel\":\"iopub\"}",
					  "{\"header\":{}} x",
					  "{\"header\":{},\"content\":[]}",
					  "{\"header\":{} \"content\":{}}"};
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_true(frames_read_legacy(bad[i], strlen(bad[i]), false, &message, &err) < 0);
}

static void test_read_legacy_binary(void **state)
{
	static const char good[] = "\0\0\0\3\0\0\0\x10\0\0\0\x1d\0\0\0\x1f{\"header\":{}}\1\2\3";
	static const char bad[] = "\0\0\0\3\0\0\0\x10\0\0\0\x1d\0\0\0\x1c{\"header\":{}}\1\2\3";
	struct err err;

	(void)state;
	assert_int_equal(frames_read_legacy(good, sizeof(good) - 1, true, &message, &err), 0);
	assert_int_equal(message.count, 6);
	assert_int_equal(message.parts[4].iov_len, 2);
	assert_int_equal(message.parts[5].iov_len, 1);
	assert_true(frames_read_legacy(bad, sizeof(bad) - 1, true, &message, &err) < 0);
	assert_true(frames_read_legacy("\xff\xff\xff\xff\0\0\0\0", 8, true, &message, &err) < 0);
	assert_true(frames_read_legacy("", 0, true, &message, &err) < 0);
}

static void test_read_v1(void **state)
{
	struct iovec parts[6] = {text("{\"msg_id\":\"a\"}"), text("{}"),  text("{}"), text("{}"),
				 text("\x01\x02"),	     text("\xff")};
	unsigned char out[256];
	struct err err;
	size_t bytes;
	int n = frames_write_v1(WALL_SHELL, parts, 6, room, vector, &bytes);

	(void)state;
	(void)join(vector, n, out);
	assert_int_equal(frames_read_v1(out, bytes, &message, &err), 0);
	assert_int_equal(message.channel, WALL_SHELL);
	assert_int_equal(message.count, 6);
	expect(message.parts[0], "{\"msg_id\":\"a\"}");
	assert_int_equal(message.parts[4].iov_len, 2);
	for (size_t i = 0; i < bytes; i++)
		assert_true(frames_read_v1(out, i, &message, &err) < 0);
	out[0] = 5;
	assert_true(frames_read_v1(out, bytes, &message, &err) < 0);
	out[0] = 8;
	out[8] = 0; /* an offset into the table */
	assert_true(frames_read_v1(out, bytes, &message, &err) < 0);
}

static void test_member(void **state)
{
	(void)state;
	expect(frames_member(text("{\"a\":{\"msg_type\":\"no\"},\"msg_type\":\"yes\"}"),
			     "msg_type"),
	       "yes");
	assert_int_equal(frames_member(text("{\"msg_type\":\"a\\n\"}"), "msg_type").iov_len, 0);
	assert_int_equal(frames_member(text("{\"msg_type\":1}"), "msg_type").iov_len, 0);
	assert_int_equal(frames_member(text(""), "msg_type").iov_len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_v1_vector),
		cmocka_unit_test(test_legacy_vector),
		cmocka_unit_test(test_legacy_takes_only_json),
		cmocka_unit_test(test_depth_is_bounded),
		cmocka_unit_test(test_read_legacy),
		cmocka_unit_test(test_read_legacy_refuses),
		cmocka_unit_test(test_read_legacy_binary),
		cmocka_unit_test(test_read_v1),
		cmocka_unit_test(test_member),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
