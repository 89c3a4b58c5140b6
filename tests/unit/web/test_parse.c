/* Heads, targets, chunks and ranges: what is let through, and what two parsers could read in two
 * ways. */
#include "web/parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static char text[4096];
static struct parse_head head;

static int parse(const char *data)
{
	size_t size = strlen(data);

	assert_int_equal(parse_head_size(data, size), size);
	memcpy(text, data, size + 1);
	return parse_head(text, size, &head);
}

static void test_a_head(void **state)
{
	(void)state;
	assert_int_equal(parse("PUT /a/b%20c?x=1&y=a%2Bb+c HTTP/1.1\r\nHOST: h\r\nX-A:  b \t\r\n"
			       "Content-Length: 7\r\nConnection: keep-alive, Close\r\n\r\n"),
			 0);
	assert_int_equal(head.method, HTTP_PUT);
	assert_string_equal(head.path, "/a/b%20c");
	assert_string_equal(parse_find(head.header, head.headers, "x-a"), "b");
	assert_int_equal(head.length, 7);
	assert_false(head.keep);
	assert_int_equal(parse_head_size("GET / HTTP/1.1\r\nHost: a\r\n", 25), 0);
}

static void test_refused_heads(void **state)
{
	static const struct {
		const char *data;
		int status;
	} heads[] = {
		{"GET / HTTP/1.1\r\n\r\n", 400},
		{"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 505},
		{"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
		{"G\tT / HTTP/1.1\r\nHost: a\r\n\r\n", 501},
		{"GET / HTTP/1.1\r\nHost: a\r\nA\x01: b\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a\r\nA: \x7f\r\n\r\n", 400},
		{"GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
		 "Transfer-Encoding: chunked\r\n\r\n",
		 400},
		{"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 501},
		{"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400},
		{"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		assert_int_equal(parse(heads[i].data), heads[i].status);
}

static int parts_of(const char *path, char *part[HTTP_PARTS_MAX])
{
	static char copy[512];

	(void)snprintf(copy, sizeof(copy), "%s", path);
	return parse_parts(copy, part);
}

static void test_paths(void **state)
{
	static const char *const refused[] = {"//",	 "/a//b",  "/.",      "/a/..",
					      "/%2e%2e", "/a%2fb", "/%00",    "/%0a",
					      "/%",	 "/%g0",   "/%c0%af", "/%ed%a0%80"};
	char *part[HTTP_PARTS_MAX];

	(void)state;
	assert_int_equal(parts_of("/", part), 0);
	assert_int_equal(parts_of("/a/b%20c/", part), 2);
	assert_string_equal(part[1], "b c");
	assert_int_equal(parts_of("/%C3%A4/..a", part), 2);
	assert_string_equal(part[0], "\xc3\xa4");
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		assert_int_equal(parts_of(refused[i], part), -1);
}

static void test_queries(void **state)
{
	struct http_pair pair[HTTP_QUERY_MAX];
	char query[] = "a=1&&b&c=%26+x", bad[] = "a=%zz";

	(void)state;
	assert_int_equal(parse_query(query, pair), 3);
	assert_string_equal(pair[1].value, "");
	assert_string_equal(pair[2].value, "& x");
	assert_int_equal(parse_query(bad, pair), -1);
	assert_int_equal(parse_query(NULL, pair), 0);
}

/* Decodes with `step` bytes at a time. Returns the bytes taken, or -1. */
static ptrdiff_t decode(const char *data, size_t step, char *out)
{
	struct parse_chunks chunks = {0};
	size_t taken = 0, size = strlen(data);

	*out = '\0';
	while (taken < size && chunks.state != CHUNK_DONE) {
		const char *found;
		size_t count, most = size - taken < step ? size - taken : step;
		ptrdiff_t used = parse_chunk(&chunks, data + taken, most, &found, &count);

		if (used < 0)
			return -1;
		taken += (size_t)used;
		strncat(out, found ? found : "", count);
	}
	return chunks.state == CHUNK_DONE ? (ptrdiff_t)taken : -2;
}

static void test_chunks(void **state)
{
	static const char *const refused[] = {
		"\r\n",	  "g\r\n",	     "5\n",	"5 \r\nhello\r\n",
		"-1\r\n", "5\r\nhelloo\r\n", "0x5\r\n", "11112222333344445\r\n"};
	const char *good = "5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nA: b\r\n\r\nGET";
	char out[64];

	(void)state;
	for (size_t step = 1; step < 20; step++) {
		assert_int_equal(decode(good, step, out), strlen(good) - 3);
		assert_string_equal(out, "hello world");
	}
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		assert_int_equal(decode(refused[i], 3, out), -1);
}

static void test_ranges(void **state)
{
	uint64_t from = 0, count = 0;

	(void)state;
	assert_int_equal(parse_range("bytes=10-19", 100, &from, &count), 1);
	assert_true(from == 10 && count == 10);
	assert_int_equal(parse_range("bytes=90-", 100, &from, &count), 1);
	assert_true(from == 90 && count == 10);
	assert_int_equal(parse_range("bytes=-30", 100, &from, &count), 1);
	assert_true(from == 70 && count == 30);
	assert_int_equal(parse_range("bytes=0-999", 100, &from, &count), 1);
	assert_true(from == 0 && count == 100);
	assert_int_equal(parse_range("bytes=100-", 100, &from, &count), -1);
	assert_int_equal(parse_range("bytes=5-4", 100, &from, &count), -1);
	assert_int_equal(parse_range("bytes=-0", 100, &from, &count), -1);
	assert_int_equal(parse_range("bytes=0-1,3-4", 100, &from, &count), 0);
	assert_int_equal(parse_range("bytes=", 100, &from, &count), 0);
	assert_int_equal(parse_range("bytes=0-", 0, &from, &count), -1);
}

/* Any number in 2 to 4 bytes, also where UTF-8 does not allow it. */
static size_t encode(uint32_t number, unsigned more, char out[4])
{
	static const unsigned char first[] = {0, 0xc0, 0xe0, 0xf0};

	for (unsigned i = more; i; i--, number >>= 6)
		out[i] = (char)(0x80 | (number & 0x3f));
	out[0] = (char)(first[more] | number);
	return more + 1;
}

static void test_utf8(void **state)
{
	static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
	char all[4];

	(void)state;
	for (unsigned more = 1; more <= 3; more++)
		for (uint32_t number = 0; number < 1u << (6 + 5 * more); number++) {
			size_t size = encode(number, more, all);
			bool good = number >= least[more] && number <= 0x10ffff &&
				    (number < 0xd800 || number > 0xdfff);

			if (parse_utf8(all, size) != good ||
			    parse_utf8_whole(all, size) != (good ? (ptrdiff_t)size : -1))
				fail_msg("%x in %zu bytes", (unsigned)number, size);
			for (size_t part = 1; good && part < size; part++)
				if (parse_utf8_whole(all, part) != 0 || parse_utf8(all, part))
					fail_msg("%zu bytes of %x", part, (unsigned)number);
		}
	assert_int_equal(parse_utf8_whole("abcdefghabcdefgh\xe2\x82", 18), 16);
	assert_int_equal(parse_utf8_whole("abcdefghabcdefg\x80", 16), -1);
	assert_int_equal(parse_utf8_whole("\xf4\x90", 2), -1);
	assert_int_equal(parse_utf8_whole("\xed\xa0", 2), -1);
	assert_int_equal(parse_utf8_whole("a\xe0\x9f", 3), -1);
	assert_int_equal(parse_utf8_whole("", 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_head), cmocka_unit_test(test_refused_heads),
		cmocka_unit_test(test_paths),  cmocka_unit_test(test_queries),
		cmocka_unit_test(test_chunks), cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
