#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/header.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int parse(const char *text, struct header *header, struct err *err)
{
	return header_parse((struct iovec){(void *)(uintptr_t)text, strlen(text)}, header, err);
}

static void reads_the_fields(void **state)
{
	struct header header;

	(void)state;
	assert_int_equal(parse("{\"msg_id\": \"a_1\", \"msg_type\": \"execute_request\", "
			       "\"username\": \"u\", "
			       "\"session\": \"s\", \"date\": \"2026-01-01T00:00:00.000000Z\", "
			       "\"version\": \"5.4\", "
			       "\"subshell_id\": \"sub\", \"extra\": [1, {\"x\": null}]}",
			       &header, NULL),
			 0);
	assert_string_equal(header.msg_id, "a_1");
	assert_string_equal(header.msg_type, "execute_request");
	assert_string_equal(header.session, "s");
	assert_string_equal(header.subshell_id, "sub");
}

static void needs_only_id_and_type(void **state)
{
	struct header header;

	(void)state;
	assert_int_equal(parse(" {\"msg_type\":\"\\u0078\",\"msg_id\":\"\",\"subshell_id\":null}\n",
			       &header, NULL),
			 0);
	assert_string_equal(header.msg_type, "x");
	assert_string_equal(header.msg_id, "");
	assert_string_equal(header.session, "");
	assert_string_equal(header.subshell_id, "");
}

/* With a space before it every header is jansson's: what is recognised without it must be read
 * alike. */
static void reads_alike_what_it_recognises(void **state)
{
	static const char *const cases[] = {
		"{\"msg_id\": \"a_1\", \"msg_type\": \"stream\", \"username\": \"u\", "
		"\"session\": \"s\", \"date\": \"2026-01-01T00:00:00.000000Z\", \"version\": "
		"\"5.4\"}",
		"{\"date\":\"d\",\"msg_id\":\"i\",\"msg_type\":\"t\",\"session\":\"\",\"username\":"
		"\"\","
		"\"version\":\"5.2\",\"subshell_id\":\"b\"}",
		"{\"msg_id\":\"i\",\"msg_type\":\"t\"}",
		"{\"msg_id\":\"i\",\"msg_type\":\"t\",\"version\":\"5.10\"}",
		"{\"msg_id\":\"i\",\"msg_type\":\"t\",\"version\":\"6.0\",\"session\":\"~ \"}",
		"{\"msg_id\":\"i\",\"msg_type\":\"t\\n\",\"session\":\"\xc3\xa9\"}",
		/* no header, one way or the other */
		"{\"msg_id\":\"i\",\"msg_type\":\"t\",\"msg_id\":\"i\"}",
		"{\"msg_id\":\"i\",\"msg_type\":\"t\",}",
		"{\"msg_id\":\"i\",\"msg_type\":\"t\"",
		"{\"msg_id\":\"i\",\"msg_type\":\"t",
		"{\"msg_id\":\"i\",\"msg_type\":",
		"{\"msg_id\":\"i\",\"msg_type\"",
		"{\"msg_id\":\"i\" \"msg_type\":\"t\"}",
		"{\"msg_id\":\"i\",\"msg_type\":\"t\"}}",
		"{\"msg_id\":\"i\",\"session\":\"t\"}",
		"{\"msg_id\":\"i\",\"msg_type\":\"\x01\"}",
		"{",
	};
	char spaced[512];

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct header plain = {0}, other = {0};
		const int r = parse(cases[i], &plain, NULL);

		(void)snprintf(spaced, sizeof(spaced), " %s", cases[i]);
		assert_int_equal(r, parse(spaced, &other, NULL));
		assert_int_equal(r, i < 6 ? 0 : -EPROTO);
		assert_memory_equal(&plain, &other, sizeof(plain));
	}
}

/* Python writes integers of any length; a field that is not looked at must not matter. */
static void takes_large_numbers(void **state)
{
	struct header header;

	(void)state;
	assert_int_equal(
		parse("{\"msg_id\":\"i\",\"msg_type\":\"t\",\"n\":123456789012345678901234567890}",
		      &header, NULL),
		0);
}

static void says_when_it_is_empty(void **state)
{
	struct header header;
	struct err err = {0, "before"};

	(void)state;
	assert_int_equal(parse("{}", &header, &err), -ENOENT);
	assert_string_equal(err.text, "");
	assert_int_equal(parse(" {\n} ", &header, NULL), -ENOENT);
}

static void refuses_with_a_reason(void **state)
{
	static const struct {
		const char *text, *reason;
	} cases[] = {
		{"", "not valid JSON"},
		{"[]", "not a JSON object"},
		{"\"x\"", "not valid JSON"},
		{"{\"msg_type\":\"t\"}", "header without msg_id"},
		{"{\"msg_id\":\"i\"}", "header without msg_type"},
		{"{\"msg_id\":1,\"msg_type\":\"t\"}", "msg_id in the header is not a string"},
		{"{\"msg_id\":\"i\",\"msg_type\":null}", "msg_type in the header is not a string"},
		{"{\"msg_id\":\"i\",\"msg_type\":\"t\",\"session\":7}",
		 "session in the header is not a string"},
		{"{\"msg_id\":\"i\",\"msg_type\":\"t\",\"subshell_id\":[]}",
		 "subshell_id in the header is not"},
		{"{\"msg_id\":\"i\",\"msg_id\":\"j\",\"msg_type\":\"t\"}", "duplicate object key"},
		{"{\"msg_id\":\"i\",\"msg_type\":\"t\",\"x\":NaN}", "near 'NaN'"},
		{"{\"msg_id\":\"i\",\"msg_type\":\"t\",\"x\":Infinity}", "near 'Infinity'"},
		{"{\"msg_id\":\"\\ud800\",\"msg_type\":\"t\"}", "invalid Unicode '\\\\uD800'"},
		{"{\"msg_id\":\"a\\u0000b\",\"msg_type\":\"t\"}", "not allowed"},
		{"{\"msg_id\":\"\xff\",\"msg_type\":\"t\"}", "not valid JSON"},
		{"{\"msg_id\":\"i\",\"msg_type\":\"t\"} x", "not valid JSON"},
		{"{\"msg_id\":\"i\",\"msg_type\":\"t\",\"x\":1e999}", "not valid JSON"},
	};
	struct header header;
	struct err err;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(parse(cases[i].text, &header, &err), -EPROTO);
		assert_int_equal(err.code, -EPROTO);
		if (!strstr(err.text, cases[i].reason))
			fail_msg("%s: got \"%s\"", cases[i].text, err.text);
	}
}

static void bounds_size_depth_and_fields(void **state)
{
	static char text[HEADER_MAX + 2];
	struct header header;
	struct err err;
	size_t used;

	(void)state;
	memset(text, ' ', sizeof(text) - 1);
	memcpy(text, "{}", 2);
	text[HEADER_MAX] = '\0';
	assert_int_equal(parse(text, &header, &err), -ENOENT);
	text[HEADER_MAX] = ' ';
	assert_int_equal(parse(text, &header, &err), -EPROTO);
	assert_string_equal(err.text, "header of 65537 bytes, at most 65536");

	/* Brackets inside of strings are no depth, also behind an escaped quote. */
	assert_int_equal(parse("{\"msg_id\":\"\\\"[[[[[[[[[[[[[[[[[[[[\",\"msg_type\":\"t\"}",
			       &header, &err),
			 0);
	for (size_t depth = HEADER_DEPTH - 1; depth <= HEADER_DEPTH; depth++) {
		used = (size_t)snprintf(text, sizeof(text),
					"{\"msg_id\":\"i\",\"msg_type\":\"t\",\"x\":");
		memset(text + used, '[', depth);
		memset(text + used + depth, ']', depth);
		memcpy(text + used + 2 * depth, "}", 2);
		assert_int_equal(parse(text, &header, &err), depth < HEADER_DEPTH ? 0 : -EPROTO);
	}
	assert_string_equal(err.text, "header nested deeper than 16");

	for (size_t length = HEADER_TEXT - 1; length <= HEADER_TEXT; length++) {
		used = (size_t)snprintf(text, sizeof(text), "{\"msg_type\":\"t\",\"msg_id\":\"");
		memset(text + used, 'i', length);
		memcpy(text + used + length, "\"}", 3);
		assert_int_equal(parse(text, &header, &err), length < HEADER_TEXT ? 0 : -EPROTO);
	}
	assert_string_equal(err.text, "msg_id in the header has 256 bytes, at most 255");
}

static void makes_headers_that_it_reads(void **state)
{
	char *one = header_make("iopub_welcome", "a\"b\n\xff");
	char *two = header_make("iopub_welcome", "");
	struct header header, other;
	const char *date;
	json_t *object;

	(void)state;
	assert_non_null(one);
	assert_non_null(two);
	assert_int_equal(parse(one, &header, NULL), 0);
	assert_int_equal(parse(two, &other, NULL), 0);
	assert_string_equal(header.msg_type, "iopub_welcome");
	assert_string_equal(header.session, "a\"b\n\xef\xbf\xbd");
	assert_int_equal(strlen(header.msg_id), 32);
	assert_int_equal(strspn(header.msg_id, "0123456789abcdef"), 32);
	assert_string_not_equal(header.msg_id, other.msg_id);
	object = json_loads(one, 0, NULL);
	date = json_string_value(json_object_get(object, "date"));
	assert_int_equal(strlen(date), strlen("2026-01-01T00:00:00.000000Z"));
	for (size_t i = 0; date[i]; i++)
		assert_true("9999-99-99T99:99:99.999999Z"[i] == '9'
				    ? (date[i] >= '0' && date[i] <= '9')
				    : date[i] == "9999-99-99T99:99:99.999999Z"[i]);
	assert_string_equal(json_string_value(json_object_get(object, "version")), "5.4");
	assert_string_equal(json_string_value(json_object_get(object, "username")), "cellwall");
	json_decref(object);
	free(one);
	free(two);
}

static void assert_literal(const char *text, size_t size, const char *expected)
{
	char *literal = json_literal(text, size);

	assert_non_null(literal);
	assert_string_equal(literal, expected);
	free(literal);
}

static void writes_literals(void **state)
{
	static const char fffd2[] = "\"\xef\xbf\xbd\xef\xbf\xbd\"";

	(void)state;
	assert_literal(NULL, 0, "\"\"");
	assert_literal("a\0b", 3, "\"a\\u0000b\"");
	assert_literal("\"\\/\b\f\n\r\t\x01\x1f\x7f", 11,
		       "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\\u007f\"");
	assert_literal("\xe2\x80\xa7\xe2\x80\xa8\xe2\x80\xa9\xe2\x80\xaa", 12,
		       "\"\xe2\x80\xa7\\u2028\\u2029\xe2\x80\xaa\"");
	assert_literal("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf", 13,
		       "\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\"");
	/* overlong, cut short, a stray continuation, beyond the last, never valid */
	assert_literal("\xc0\xaf", 2, fffd2);
	assert_literal("\xe2\x82", 2, fffd2);
	assert_literal("\x80\xbf", 2, fffd2);
	assert_literal("\xfe\xff", 2, fffd2);
	assert_literal("\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
	assert_literal("\xf4\x90\x80\x80", 4,
		       "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
	assert_literal("\xe0\x80\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
	assert_literal("\xf0\x80\x80\x80", 4,
		       "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
	/* what follows a malformed byte is kept */
	assert_literal("\xe2\"x", 3, "\"\xef\xbf\xbd\\\"x\"");
}

/* A kernel's header made anew: its own id, and nothing else that it could choose but a version. */
static void rebuilds(void **state)
{
	static const char *const bad[] = {"", "a/b", "a b", "\"", "\xc3\xa9", "<b>"};
	struct header from = {.msg_id = "a_1.B-2", .session = "theirs", .version = "5.3"}, again;
	char out[HEADER_REBUILT], long_id[HEADER_TEXT];
	int size;

	(void)state;
	size = header_rebuild(&from, "stream", "ours", out);
	assert_int_equal(size, strlen(out));
	assert_int_equal(header_parse((struct iovec){out, (size_t)size}, &again, NULL), 0);
	assert_string_equal(again.msg_id, "a_1.B-2");
	assert_string_equal(again.msg_type, "stream");
	assert_string_equal(again.session, "ours");
	assert_string_equal(again.version, "5.3");
	assert_non_null(strstr(out, "\"username\": \"kernel\""));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		memcpy(from.msg_id, bad[i], strlen(bad[i]) + 1);
		assert_int_equal(header_rebuild(&from, "stream", "ours", out), -EINVAL);
	}
	memset(long_id, 'a', sizeof(long_id));
	long_id[128] = '\0';
	memcpy(from.msg_id, long_id, 129);
	assert_true(header_rebuild(&from, "stream", "ours", out) > 0);
	long_id[128] = 'a';
	long_id[129] = '\0';
	memcpy(from.msg_id, long_id, 130);
	assert_int_equal(header_rebuild(&from, "stream", "ours", out), -EINVAL);
}

static void keeps_versions_of_the_protocol(void **state)
{
	static const struct {
		const char *text, *kept;
	} cases[] = {
		{"\"5.3\"", "5.3"}, {"\"5.0\"", "5.0"}, {"\"6.0\"", ""}, {"\"5.10\"", ""},
		{"\"5.x\"", ""},    {"5.3", ""},	{"null", ""},	 {"{}", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[128];
		struct header header;
		const int size = snprintf(
			text, sizeof(text),
			"{\"msg_id\": \"1\", \"msg_type\": \"x\", \"version\": %s}", cases[i].text);

		assert_int_equal(header_parse((struct iovec){text, (size_t)size}, &header, NULL),
				 0);
		assert_string_equal(header.version, cases[i].kept);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_fields),
		cmocka_unit_test(needs_only_id_and_type),
		cmocka_unit_test(reads_alike_what_it_recognises),
		cmocka_unit_test(takes_large_numbers),
		cmocka_unit_test(says_when_it_is_empty),
		cmocka_unit_test(refuses_with_a_reason),
		cmocka_unit_test(bounds_size_depth_and_fields),
		cmocka_unit_test(makes_headers_that_it_reads),
		cmocka_unit_test(writes_literals),
		cmocka_unit_test(rebuilds),
		cmocka_unit_test(keeps_versions_of_the_protocol),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
