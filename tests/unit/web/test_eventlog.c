#include "web/eventlog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

static int ends[2];
static char said[8192];

/* What was said since the last time, on a stderr that is a pipe. */
static const char *take(void)
{
	const ssize_t size = read(ends[0], said, sizeof(said) - 1);

	assert_true(size > 0);
	said[size] = '\0';
	return said;
}

/* The line after its prefix. */
static void expect(const char *line)
{
	const char *text = strstr(take(), "]: ");

	assert_non_null(text);
	assert_string_equal(text + 3, line);
}

static json_t *object(void)
{
	json_t *line = json_loads(take(), 0, NULL);

	assert_non_null(line);
	return line;
}

static const char *text_of(const json_t *line, const char *key)
{
	return json_string_value(json_object_get(line, key));
}

static const char foreign[] = "a\" event=b c=\"d\\\" e\n\x1b[2J \xff \xc3\xa9";

static void test_text(void **state)
{
	(void)state;
	event_info("start", "a=%s b=%d c=%u d=%zu e=word", "x/y", -1, 2u, (size_t)3);
	expect("event=start a=x/y b=-1 c=2 d=3 e=word\n");
	event_info("start", "a=%s b=%s", "", "two words");
	expect("event=start a=\"\" b=\"two words\"\n");
	event_info("start", "a=%s b=%d", foreign, 1);
	expect("event=start a=\"a\\\" event=b c=\\\"d\\\\\\\" e\\n\\x1b[2J \\xff \xc3\xa9\" b=1\n");
	eventlog_output("k", "as it is\n", 9);
	assert_string_equal(take(), "as it is\n");
	event_debug("start", "a=%d", 1); /* not wanted */
}

static void test_json(void **state)
{
	char big[5000];
	json_t *line;

	(void)state;
	eventlog_as_json();
	event_warning("start", "a=%s b=%d c=word d=%zu", foreign, -1, (size_t)INT64_MAX);
	line = object();
	assert_string_equal(text_of(line, "event"), "start");
	assert_string_equal(text_of(line, "level"), "warning");
	assert_string_equal(text_of(line, "a"),
			    "a\" event=b c=\"d\\\" e\\n\\x1b[2J \\xff \xc3\xa9");
	assert_string_equal(text_of(line, "c"), "word");
	assert_int_equal(json_integer_value(json_object_get(line, "b")), -1);
	assert_int_equal(json_object_size(line), 7);
	json_decref(line);
	/* Whatever is in it and however much: one object, with what is after it or without. */
	for (int fill = 1; fill < 256; fill++) {
		memset(big, fill, sizeof(big) - 1);
		big[sizeof(big) - 1] = '\0';
		event_error("start", "a=%s b=%s c=%s d=%s e=%zu", big, big, big + fill, big,
			    (size_t)INT64_MAX);
		line = object();
		assert_non_null(text_of(line, "a"));
		json_decref(line);
	}
	eventlog_output("k", "one\n\ntwo \"x\"\nthree", 18);
	take();
	assert_non_null(strstr(said, "\"kernel\":\"k\",\"text\":\"one\"}\n"));
	assert_non_null(strstr(said, "\"text\":\"two \\\"x\\\"\"}\n"));
	assert_non_null(strstr(said, "\"text\":\"three\"}\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_json),
	};

	if (pipe(ends) < 0 || dup2(ends[1], STDERR_FILENO) < 0)
		return 1;
	log_setup("test", LOG_LEVEL_INFO);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
