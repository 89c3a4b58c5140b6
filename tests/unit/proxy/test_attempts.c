#include "proxy/attempts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static char *note(struct attempts *attempts, const char *what, const char *target, const char *who)
{
	const struct status status = {
		.word = "attempt",
		.field = {"python", "7", what, target, who, *who ? "/work/x.py:1" : ""},
		.fields = 6,
	};

	return attempts_note(attempts, NULL, &status);
}

static void expect(struct attempts *attempts, const char *what, const char *target, const char *who,
		   const char *expected)
{
	char *text = note(attempts, what, target, who);

	if (expected) {
		assert_non_null(text);
		assert_string_equal(text, expected);
	} else {
		assert_null(text);
	}
	free(text);
}

static void test_once(void **state)
{
	struct attempts attempts = {0};

	(void)state;
	expect(&attempts, "connect", "203.0.113.5:443", "somepkg",
	       "blocked: `somepkg` tried to connect to 203.0.113.5:443");
	expect(&attempts, "connect", "203.0.113.5:443", "somepkg", NULL);
	expect(&attempts, "connect", "203.0.113.5:443", "",
	       "blocked: `python` tried to connect to 203.0.113.5:443");
	expect(&attempts, "lookup", "example.com", "somepkg",
	       "blocked: `somepkg` tried to look up the name example.com");
	expect(&attempts, "nonsense", "x", "y", NULL);
}

static void test_escaped(void **state)
{
	struct attempts attempts = {0};

	(void)state;
	expect(&attempts, "read", "\x1b[2J\n\xe2\x80\xae", "\r<b>",
	       "blocked: `\\x0d<b>` tried to read \\x1b[2J\\n\\xe2\\x80\\xae");
}

static void test_many(void **state)
{
	struct attempts attempts = {0};
	unsigned said = 0;

	(void)state;
	for (unsigned i = 0; i < 10 * ATTEMPTS_MAX; i++) {
		char target[16], *text;

		(void)snprintf(target, sizeof(target), "%u", i);
		text = note(&attempts, "call", target, "");
		said += text != NULL;
		free(text);
	}
	assert_int_equal(said, ATTEMPTS_MAX + 1);
}

static void test_short(void **state)
{
	struct attempts attempts = {0};
	const struct status status = {.word = "attempt", .field = {"x"}, .fields = 1};

	(void)state;
	assert_null(attempts_note(&attempts, NULL, &status));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_once),
		cmocka_unit_test(test_escaped),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_short),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
