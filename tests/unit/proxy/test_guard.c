/* guard: the table's verdicts, and that an unknown type passes from a client alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/guard.h"

static void expect(enum guard_direction direction, enum wall_channel channel, const char *type,
		   enum guard_verdict verdict, enum content_rule rule)
{
	const struct guard guard = guard_judge(direction, channel, type, NULL);

	assert_int_equal(guard.verdict, verdict);
	assert_int_equal(guard.rule, rule);
}

static void test_table(void **state)
{
	(void)state;
	expect(GUARD_INWARD, WALL_SHELL, "execute_request", GUARD_CELL, CONTENT_NONE);
	expect(GUARD_INWARD, WALL_CONTROL, "interrupt_request", GUARD_URGENT, CONTENT_NONE);
	expect(GUARD_INWARD, WALL_SHELL, "comm_open", GUARD_PASS, CONTENT_CLIENT_COMM_OPEN);
	expect(GUARD_OUTWARD, WALL_SHELL, "execute_reply", GUARD_RESULT, CONTENT_EXECUTE_REPLY);
	expect(GUARD_OUTWARD, WALL_CONTROL, "debug_reply", GUARD_PASS, CONTENT_DEBUG_REPLY);
	expect(GUARD_OUTWARD, WALL_IOPUB, "status", GUARD_STATUS, CONTENT_NONE);
	expect(GUARD_OUTWARD, WALL_IOPUB, "display_data", GUARD_PASS, CONTENT_DISPLAY);
	expect(GUARD_OUTWARD, WALL_STDIN, "input_request", GUARD_PASS, CONTENT_INPUT_REQUEST);
	expect(GUARD_OUTWARD, WALL_IOPUB, "iopub_welcome", GUARD_DROP, CONTENT_NONE);
}

/* What a direction or a channel has no row for: from a client it passes, from a kernel it does not.
 */
static void test_elsewhere(void **state)
{
	static const char *const foreign[] = {
		"execute_request", "status", "stream ", "Stream", "", "strange_reply", "comm_open"};

	(void)state;
	expect(GUARD_INWARD, WALL_SHELL, "execute_reply", GUARD_PASS, CONTENT_NONE);
	expect(GUARD_INWARD, WALL_SHELL, "no_such_request", GUARD_PASS, CONTENT_NONE);
	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
		expect(GUARD_OUTWARD, WALL_SHELL, foreign[i], GUARD_REFUSE, CONTENT_NONE);
		expect(GUARD_OUTWARD, WALL_STDIN, foreign[i], GUARD_REFUSE, CONTENT_NONE);
	}
	expect(GUARD_OUTWARD, WALL_IOPUB, "execute_reply", GUARD_REFUSE, CONTENT_NONE);
}

/* The policy's own types: iopub alone, and never in place of one of the table. */
static void test_extra_types(void **state)
{
	char glue[] = "glue_news", stream[] = "stream";
	char *const extra[] = {glue, stream, NULL};
	struct guard guard = guard_judge(GUARD_OUTWARD, WALL_IOPUB, "glue_news", extra);

	(void)state;
	assert_int_equal(guard.rule, CONTENT_EXTRA);
	assert_string_equal(guard.msg_type, "glue_news");
	guard = guard_judge(GUARD_OUTWARD, WALL_IOPUB, "stream", extra);
	assert_int_equal(guard.rule, CONTENT_STREAM);
	guard = guard_judge(GUARD_OUTWARD, WALL_SHELL, "glue_news", extra);
	assert_int_equal(guard.verdict, GUARD_REFUSE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_elsewhere),
		cmocka_unit_test(test_extra_types),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
