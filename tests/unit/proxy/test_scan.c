/* scan: what needs no look is recognised, and nothing else is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/scan.h"

static bool keeps(enum content_rule rule, const char *text, bool links)
{
	const size_t size = strlen(text);
	char *copy = malloc(size ? size : 1); /* no byte behind it that a sanitizer would not see */
	bool kept;

	assert_non_null(copy);
	memcpy(copy, text, size);
	kept = scan_keeps(rule, (struct iovec){copy, size}, links);
	free(copy);
	return kept;
}

#define STREAM(text) "{\"name\": \"stdout\", \"text\": \"" text "\"}"
#define LONG	     "0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 0123456789 "

#define SHOW(data) "{\"data\": {" data "}, \"metadata\": {}, \"transient\": {}}"
#define PNG	   "iVBORw0KGgoAAAANSUhEUg=="

static void harmless(void **state)
{
	static const struct {
		enum content_rule rule;
		const char *text;
	} cases[] = {
		{CONTENT_STREAM, STREAM("a\\nb\\t\\\"c\\\" \\\\ 100 % <b> &amp; wow w. ww.")},
		{CONTENT_STREAM, STREAM("\\u001b[31mred\\u001b[0m \\u001b[1;38;5;2mx\\u001b[m")},
		{CONTENT_STREAM, STREAM("10%|#   |\\r20%|##  |\\b|")},
		{CONTENT_STREAM, STREAM("\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 \xe6\x97\xa5")},
		{CONTENT_STREAM, STREAM(LONG LONG "time 12:30, C: drive")},
		{CONTENT_STREAM, "{\"text\":\"a\",\"name\":\"stderr\"}"},
		{CONTENT_DISPLAY, "{\"data\": {\"text/plain\": \"x\"}, \"metadata\": {}, "
				  "\"transient\": {}}"},
		{CONTENT_DISPLAY, "{\"data\":{\"text/plain\":\"x\"},\"metadata\":{}}"},
		{CONTENT_RESULT, "{\"data\": {\"text/plain\": \"2\"}, \"metadata\": {}, "
				 "\"execution_count\": 1}"},
		{CONTENT_DISPLAY, SHOW("\"text/plain\": \"x\", \"image/png\": \"" PNG "\"")},
		{CONTENT_DISPLAY, SHOW("\"image/png\":\"" PNG "\",\"text/plain\":\"x\"")},
		{CONTENT_DISPLAY, SHOW("\"image/png\": \"" PNG "\"")},
		{CONTENT_CLEAR, "{\"wait\": true}"},
		{CONTENT_EXECUTE_REPLY, "{\"status\": \"ok\", \"execution_count\": 1, "
					"\"user_expressions\": {}, \"payload\": []}"},
		{CONTENT_STATUS_REPLY, "{\"status\": \"ok\", \"restart\": false}"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (!keeps(cases[i].rule, cases[i].text, false))
			fail_msg("not kept: %s", cases[i].text);
	assert_true(keeps(CONTENT_STREAM, STREAM("http://host/ www.x data:y"), true));
}

static void everything_else(void **state)
{
	static const struct {
		enum content_rule rule;
		const char *text;
	} cases[] = {
		{CONTENT_STREAM, STREAM("http://host/")},
		{CONTENT_STREAM, "{\"name\": \"stdout\", \"text\": \"x\\"},
		{CONTENT_STREAM, STREAM(LONG "x://host/")},
		{CONTENT_STREAM, STREAM("WwW.host")},
		{CONTENT_STREAM, STREAM(LONG LONG "www.host" LONG LONG)},
		{CONTENT_STREAM, STREAM(LONG "DATA:text/html,x" LONG)},
		{CONTENT_STREAM, STREAM("https:\\u001b[0m//host/")},
		{CONTENT_STREAM, STREAM("https\\u001b[0m://host/")},
		{CONTENT_STREAM, STREAM("w\\u001b[0mww.host")},
		{CONTENT_STREAM, STREAM("https:")},
		{CONTENT_STREAM, STREAM("\\b//host/")},
		{CONTENT_STREAM, STREAM("x\\b")},
		{CONTENT_STREAM, STREAM("xxxxxx//host\\rhttps:")},
		{CONTENT_STREAM, STREAM("ww")},
		{CONTENT_STREAM, STREAM("ww.host")},
		{CONTENT_STREAM, STREAM("\\u001b]8;;x\\u0007")},
		{CONTENT_STREAM, STREAM("\\u001b[2J")},
		{CONTENT_STREAM, STREAM("\\u001b[31")},
		{CONTENT_STREAM, STREAM("\\u0000")},
		{CONTENT_STREAM, STREAM("\\u0041")},
		{CONTENT_STREAM, STREAM("\\f")},
		{CONTENT_STREAM, STREAM("\\/")},
		{CONTENT_STREAM, STREAM("\n")},
		{CONTENT_STREAM, STREAM("\x7f")},
		{CONTENT_STREAM, STREAM("\xc2\x9b"
					"31m")},
		{CONTENT_STREAM, STREAM("\xe2\x80\xae")},
		{CONTENT_STREAM, STREAM("\xe2\x81\xa6")},
		{CONTENT_STREAM, STREAM("\xef\xbb\xbf")},
		{CONTENT_STREAM, STREAM("\xff")},
		{CONTENT_STREAM, STREAM("\xed\xa0\x80")},
		{CONTENT_STREAM, STREAM("\xc3")},
		{CONTENT_STREAM, STREAM("x") " "},
		{CONTENT_STREAM, STREAM("x") "x"},
		{CONTENT_STREAM, "{\"name\": \"stdout\", \"text\": \"a\", \"x\": 1}"},
		{CONTENT_STREAM, "{\"name\": \"stdout\", \"name\": \"stdout\", \"text\": \"a\"}"},
		{CONTENT_STREAM, "{\"name\": \"other\", \"text\": \"a\"}"},
		{CONTENT_STREAM, "{\"text\": \"a\"}"},
		{CONTENT_STREAM, "{\"name\": \"stdout\", \"text\": \"a\""},
		{CONTENT_STREAM, "{\"name\": \"stdout\", \"text\": \"a\","},
		{CONTENT_STREAM, "{\"name\": \"stdout\", \"text\": \"a\\"},
		{CONTENT_STREAM, "{\"name\": \"stdout\", \"text\": [\"a\"]}"},
		{CONTENT_STREAM, "{}"},
		{CONTENT_STREAM, ""},
		{CONTENT_DISPLAY, "{\"data\": {\"text/html\": \"x\"}, \"metadata\": {}}"},
		{CONTENT_DISPLAY, "{\"data\": {\"text/plain\": \"x\", \"text/html\": \"x\"}, "
				  "\"metadata\": {}}"},
		{CONTENT_DISPLAY, "{\"data\": {\"text/plain\": \"x\"}, \"metadata\": "
				  "{\"isolated\": true}}"},
		{CONTENT_DISPLAY, "{\"data\": {\"text/plain\": \"x\"}, \"metadata\": {}, "
				  "\"transient\": {\"display_id\": \"1\"}}"},
		{CONTENT_RESULT, "{\"data\": {\"text/plain\": \"2\"}, \"metadata\": {}, "
				 "\"execution_count\": -1}"},
		{CONTENT_UPDATE, "{\"data\": {\"text/plain\": \"x\"}, \"metadata\": {}}"},
		{CONTENT_DISPLAY, SHOW("")},
		{CONTENT_DISPLAY, SHOW("\"image/png\": \"\"")},
		{CONTENT_DISPLAY, SHOW("\"image/png\": \"R0lGODlhAQABAA==\"")},
		{CONTENT_DISPLAY, SHOW("\"image/png\": \"" PNG "\\n\"")},
		{CONTENT_DISPLAY, SHOW("\"image/png\": \"" PNG "<\"")},
		{CONTENT_DISPLAY, SHOW("\"image/png\": \"" PNG "\",")},
		{CONTENT_DISPLAY, SHOW("\"image/png\": \"" PNG "\", \"image/png\": \"" PNG "\"")},
		{CONTENT_DISPLAY, SHOW("\"text/plain\": \"x\", \"text/plain\": \"x\"")},
		{CONTENT_DISPLAY, SHOW("\"text/plain\": \"www.x\", \"image/png\": \"" PNG "\"")},
		{CONTENT_DISPLAY, "{\"data\": {\"image/png\": \"" PNG},
		{CONTENT_EXECUTE_REPLY, "{\"status\": \"ok\", \"execution_count\": 1, "
					"\"user_expressions\": {}, \"payload\": [{}]}"},
		{CONTENT_KERNEL_INFO_REPLY, "{\"status\": \"ok\"}"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (keeps(cases[i].rule, cases[i].text, false))
			fail_msg("kept: %s", cases[i].text);
}

/* An address is seen wherever it begins, whatever the blocks that are looked at together. */
static void at_every_place(void **state)
{
	static const char *const bad[] = {"://",   "www.x",   "data:x",	     "https:x",
					  "FTP:x", "\\u0007", "\xe2\x80\xae"};
	char text[400];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		for (size_t at = 1; at < 200; at++) {
			memset(text, 'a', sizeof(text));
			text[0] = text[299] = '"';
			assert_non_null(scan_text(text, text + 300, false));
			memcpy(text + at, bad[i], strlen(bad[i]));
			assert_null(scan_text(text, text + 300, false));
			assert_null(scan_text(text, text + 250, true));
		}
}

/* The rest of an address may be in another piece, or in what stands in the line. */
static void in_pieces(void **state)
{
	static const char *const bad[] = {
		"ta:x",	      "ATA:x",	     "\\u001b[1ma:x",	   ":x",	 "a:x",
		"p:x",	      "TPS:x",	     "\\u001b[1ms:x",	   "x\\rhtt\\n", "x\\rf",
		"httx\\bp:y", "x\\rwww\\nz", "x\\rhttps:\\n",	   "x\\raw\\n",	 "x\\rwww",
		"x\\rd\\n",   "datx\\ba:y",  "x\\rww\\u001b[0m\\n"};
	char text[64];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int size = snprintf(text, sizeof(text), "\"%s\"", bad[i]);

		assert_null(scan_text(text, text + size, false));
		assert_non_null(scan_text(text, text + size, true));
	}
	(void)snprintf(text, sizeof(text), "\"beta:x\\r 1it/s]\\n\"");
	assert_non_null(scan_text(text, text + strlen(text), false));
}

static void many_overwrites(void **state)
{
	char text[2000] = "\"";

	(void)state;
	for (size_t i = 0; i < 256; i++)
		memcpy(text + 1 + 2 * i, "\\r", 2);
	memcpy(text + 513, "\"", 2);
	assert_non_null(scan_text(text, text + 514, false));
	memcpy(text + 513, "\\b\"", 4);
	assert_null(scan_text(text, text + 516, false));
}

static struct iovec part(const char *text, char copy[512])
{
	memcpy(copy, text, strlen(text) + 1);
	return (struct iovec){copy, strlen(text)};
}

static void states_and_counts(void **state)
{
	char copy[512];
	struct iovec found;

	(void)state;
	assert_string_equal(scan_state(part("{\"execution_state\": \"idle\"}", copy)), "idle");
	assert_string_equal(scan_state(part("{\"execution_state\":\"starting\"}", copy)),
			    "starting");
	assert_null(scan_state(part("{\"execution_state\": \"dead\"}", copy)));
	assert_null(scan_state(part("{\"execution_state\": \"idle \"}", copy)));
	assert_null(scan_state(part("{\"execution_state\": \"idle\", \"x\": 1}", copy)));
	found = scan_count(part("{\"code\": \"a\\\"\\ud800\", \"execution_count\": 17}", copy));
	assert_int_equal(found.iov_len, 2);
	assert_memory_equal(found.iov_base, "17", 2);
	assert_int_equal(
		scan_count(part("{\"code\": \"a\", \"execution_count\": \"1\"}", copy)).iov_len, 0);
	assert_int_equal(
		scan_count(part("{\"code\": \"a\", \"execution_count\": 1e9}", copy)).iov_len, 0);
}

static void metadata(void **state)
{
	static const char reply[] =
		"{\"started\": \"2026-11-22T08:09:32.816763Z\", \"dependencies_met\": true, "
		"\"engine\": \"61e8332d-58e4-422c\", \"status\": \"ok\"}";
	char copy[512];

	(void)state;
	assert_true(scan_metadata(CONTENT_EXECUTE_REPLY, part(reply, copy)));
	assert_false(scan_metadata(CONTENT_STREAM, part(reply, copy)));
	assert_true(scan_metadata(CONTENT_STREAM, part("{}", copy)));
	assert_true(scan_metadata(CONTENT_COMM_OPEN, part("{\"version\": \"2.1.0\"}", copy)));
	assert_false(scan_metadata(CONTENT_COMM_OPEN, part("{\"version\": \"x\"}", copy)));
	assert_false(scan_metadata(CONTENT_EXECUTE_REPLY, part("{\"started\": \"<b>\"}", copy)));
	assert_false(scan_metadata(CONTENT_EXECUTE_REPLY, part("{\"other\": \"ok\"}", copy)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(harmless),	   cmocka_unit_test(everything_else),
		cmocka_unit_test(at_every_place),  cmocka_unit_test(in_pieces),
		cmocka_unit_test(many_overwrites), cmocka_unit_test(states_and_counts),
		cmocka_unit_test(metadata),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
