#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "proxy/plain.h"

static void check_sized(const char *text, size_t size, unsigned flags, const char *expected)
{
	char *made = NULL;
	size_t made_size = 0;
	int r = plain_clean(text, size, flags, &made, &made_size);

	if (!expected) {
		assert_int_equal(r, 0);
		assert_true(plain_is_clean(text, size, flags));
		return;
	}
	assert_int_equal(r, 1);
	assert_false(plain_is_clean(text, size, flags));
	assert_string_equal(made, expected);
	assert_int_equal(made_size, strlen(expected));
	assert_true(plain_is_clean(made, made_size, flags));
	free(made);
}

/* NULL: nothing to change. */
static void check(const char *text, unsigned flags, const char *expected)
{
	check_sized(text, strlen(text), flags, expected);
}

static void what_text_is_made_of_stays(void **state)
{
	static const char *const kept[] = {
		"",
		"hello\tworld\n",
		"\x1b[31mred\x1b[0m \x1b[1;38;5;200mpink\x1b[m \x1b[38:2:1:2:3mx\x1b[0m",
		"\r 10%|\xe2\x96\x88         | 1/10 [00:00<00:01, 9.5it/s]",
		"ab\b\bcd",
		"line\r\nline\r\n",
		"gr\xc3\xb6\xc3\x9f, \xe2\x82\xac \xf0\x9f\x98\x80 \xd7\xa9\xe2\x80\x8f",
		"a: b, c/d, 12:30, x = {'data': 1}, data: 5, data:\n, www",
		"File /usr/lib/python3/x.py:12, in <module>",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		check(kept[i], 0, NULL);
	check("ends with:", 0, NULL);
}

static void controls_and_sequences_go(void **state)
{
	(void)state;
	check("a\x1b]8;;https://attacker.example/"
	      "?d=1\aclick\x1b]8;;\ab\x1b]52;c;cm0gLXJm\a\x1bPq#0\x1b\\"
	      "\xc2\x9d"
	      "0;t\a",
	      0, "aclickb");
	check("\x1b[2J\x1b[1;1Hx\x1b[?25ly", 0, "xy");
	check("\x1b"
	      "cx\x1b(By\x1b=z",
	      0, "xyz");
	check("\xc2\x9b"
	      "31mx\xc2\x85y\x7fz\x01\x0b\x0c.",
	      0, "xyz.");
	check_sized("a\0b", 3, 0, "ab");
	check("\x1b_x\x1b\\a\x1b^y\xc2\x9c"
	      "b\x1bXz\x1b\\c",
	      0, "abc");
	check("x\x1b]0;no end\nnext\x1b]0;again", 0, "x\nnext");
	check("\x1b", 0, "");
	check("\x1b[", 0, "");
	check("\x1b[31", 0, "");
	check("x\x1b[3\x1b[1my", 0, "x\x1b[1my");
}

static void directions_are_shown(void **state)
{
	(void)state;
	check("a\xe2\x80\xae"
	      "b\xe2\x81\xa6"
	      "c",
	      0, "a\\u202eb\\u2066c");
	check("\xe2\x80\xaa\xe2\x80\xab\xe2\x80\xac\xe2\x80\xad\xe2\x81\xa9", 0,
	      "\\u202a\\u202b\\u202c\\u202d\\u2069");
}

static void addresses_are_no_links(void **state)
{
	(void)state;
	check("https://secret.attacker.example/ www.secret2.attacker.example data:text/html,x", 0,
	      "https[:]//secret.attacker.example/ www[.]secret2.attacker.example "
	      "data[:]text/html,x");
	check("FTP://x WWW.x DATA:x", 0, "FTP[:]//x WWW[.]x DATA[:]x");
	check_sized("ht\0tps:\x01//x", 11, 0, "https[:]//x");
	check("https:\x1b[0m/\x1b[1m/x", 0, "https[:]\x1b[0m/\x1b[1m/x");
	check("w\x1b[0mw\x1b[0mw\x1b[0m.x", 0, "w\x1b[0mw\x1b[0mw\x1b[0m[.]x");
	check("https\x1b]0;x\a://x", 0, "https[:]//x");
	check("https://x www.y data:z", PLAIN_LINKS, NULL);
	check("ends data:", PLAIN_STREAM, "ends data[:]");
	check("ta:text", PLAIN_STREAM, "ta\xe2\x81\xa0:text");
	check("\x1b[1mAt\x1b[0mA:x", PLAIN_STREAM, "\x1b[1mAt\x1b[0mA\xe2\x81\xa0:x");
	check("a:x", PLAIN_STREAM, "a\xe2\x81\xa0:x");
	check(":x", PLAIN_STREAM, "\xe2\x81\xa0:x");
	check(": x", PLAIN_STREAM, NULL);
	check("at", PLAIN_STREAM, NULL);
	check("data", PLAIN_STREAM, NULL);
	check("ta:x", 0, NULL);
	check("ta: 5", PLAIN_STREAM, NULL);
	check("beta:x", PLAIN_STREAM, NULL);
}

/* nbclassic makes a link of them, which Firefox looks up. */
static void nor_are_those_without_slashes(void **state)
{
	(void)state;
	check("https:x http:\\\\x HTTP:/x ftp:x", 0, "https[:]x http[:]\\\\x HTTP[:]/x ftp[:]x");
	check("http: x https:\nftp:\tx http:", 0, NULL);
	check("ht\x1b[0mtp\x1b[1m:x", 0, "ht\x1b[0mtp\x1b[1m[:]x");
	check("tps:x", PLAIN_STREAM, "tps\xe2\x81\xa0:x");
	check("p:x", PLAIN_STREAM, "p\xe2\x81\xa0:x");
	check("p:x tps:x", 0, NULL);
	check("xxxp:evil\rhtt\n", 0, "xxxp:evil\rhtt\xe2\x81\xa0\n");
	check("xxx:evil\rftp", 0, "xxx:evil\rftp\xe2\x81\xa0");
	check("httx\bps:y", 0, "httx\b\xe2\x81\xa0ps:y");
	check("https:x", PLAIN_LINKS, NULL);
}

static void nor_are_their_pieces(void **state)
{
	(void)state;
	check("https:", PLAIN_STREAM, "https[:]");
	check("x:", PLAIN_STREAM, "x:\xe2\x81\xa0");
	check("https:/", PLAIN_STREAM, "https[:]/");
	check("://x", PLAIN_STREAM, "[:]//x");
	check("www", PLAIN_STREAM, "www\xe2\x81\xa0");
	check("w", PLAIN_STREAM, "w\xe2\x81\xa0");
	check("ww.x", PLAIN_STREAM, "ww[.]x");
	check("w.x", PLAIN_STREAM, "w[.]x");
	check("know", PLAIN_STREAM, NULL);
	check("\b//x", PLAIN_STREAM, "\b\xe2\x81\xa0//x");
	check("xxxxxx//evil\rhttps:", PLAIN_STREAM, "xxxxxx//evil\rhttps[:]");
	check("https:\rx", 0, "https[:]\rx");
	check("\b", PLAIN_STREAM, "\b\xe2\x81\xa0");
	check("Result:\r\n", PLAIN_STREAM, NULL);
	check("xxx.evil\rwww\nwww\n", 0, "xxx.evil\rwww\xe2\x81\xa0\nwww\n");
	check("xxx.evil\rwww\xe2\x80\xa8", 0, "xxx.evil\rwww\xe2\x81\xa0\xe2\x80\xa8");
	check("xxww.evil\raw", 0, "xxww.evil\raw\xe2\x81\xa0");
	check("xxxxxx//evil\rhttps:\x1b[0m\n", 0, "xxxxxx//evil\rhttps[:]\x1b[0m\n");
	check("xxxx:text\rdata\n", 0, "xxxx:text\rdata\xe2\x81\xa0\n");
	check("datx\ba:text", 0,
	      "datx\b\xe2\x81\xa0"
	      "a:text");
	check("\r 10%| | 1/2\r 20%| | 2/2 [1it/s]\n", PLAIN_STREAM, NULL);
}

static void prompts_stand_still(void **state)
{
	(void)state;
	check("\x1b[31mName\r\b: ", PLAIN_PROMPT, "Name: ");
}

static void too_many_moves_are_carried_out(void **state)
{
	char text[4 * PLAIN_MOVES], expected[] = "zz\nend\r\n";
	size_t used = 0;

	(void)state;
	for (unsigned i = 0; i <= PLAIN_MOVES; i++) {
		text[used++] = 'a';
		text[used++] = i % 2 ? '\r' : '\b';
	}
	memcpy(text + used, "\rzz\nend\r\n", 10);
	expected[6] = '\n';
	expected[7] = '\0';
	check(text, 0, expected);
}

/* Long texts go another way: each change is found wherever it is. */
static void long_texts_are_read_to_the_end(void **state)
{
	static const char *const bad[] = {"\x01", "https://x", "www.x", "\xe2\x80\xae", "\x1b[2J"};
	char text[400];

	(void)state;
	for (size_t b = 0; b < sizeof(bad) / sizeof(bad[0]); b++) {
		for (size_t at = 0; at + strlen(bad[b]) <= sizeof(text); at++) {
			memset(text, 'x', sizeof(text));
			assert_true(plain_is_clean(text, sizeof(text), PLAIN_STREAM));
			memcpy(text + at, bad[b], strlen(bad[b]));
			assert_false(plain_is_clean(text, sizeof(text), 0));
		}
	}
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = ':';
	assert_false(plain_is_clean(text, sizeof(text), PLAIN_STREAM));
	assert_true(plain_is_clean(text, sizeof(text), 0));
	memset(text, 'x', sizeof(text));
	memcpy(text, "w.", 2);
	assert_false(plain_is_clean(text, sizeof(text), PLAIN_STREAM));
	memset(text, 'x', sizeof(text));
	for (size_t at = 0; at + 2 < sizeof(text); at++) {
		memcpy(text + at, "w.", 2);
		assert_int_equal(plain_is_clean(text, sizeof(text), PLAIN_STREAM), at > 0);
		memcpy(text + at, "xx", 2);
	}
}

static void strings_of_objects_change(void **state)
{
	json_t *object = json_pack("{s:s, s:s, s:i}", "a", "x\x1b[2J", "b", "y", "c", 1);

	(void)state;
	assert_int_equal(plain_string(object, "a", 0), 1);
	assert_string_equal(json_string_value(json_object_get(object, "a")), "x");
	assert_int_equal(plain_string(object, "b", 0), 0);
	assert_true(plain_string(object, "c", 0) < 0);
	assert_true(plain_string(object, "d", 0) < 0);
	json_decref(object);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_text_is_made_of_stays),
		cmocka_unit_test(controls_and_sequences_go),
		cmocka_unit_test(directions_are_shown),
		cmocka_unit_test(addresses_are_no_links),
		cmocka_unit_test(nor_are_those_without_slashes),
		cmocka_unit_test(nor_are_their_pieces),
		cmocka_unit_test(prompts_stand_still),
		cmocka_unit_test(too_many_moves_are_carried_out),
		cmocka_unit_test(long_texts_are_read_to_the_end),
		cmocka_unit_test(strings_of_objects_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
