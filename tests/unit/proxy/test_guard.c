/* guard: the table's verdicts, and that an unknown type passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/guard.h"

static void test_table(void **state)
{
	(void)state;
	assert_int_equal(guard_judge(GUARD_INWARD, WALL_SHELL, "execute_request"), GUARD_CELL);
	assert_int_equal(guard_judge(GUARD_INWARD, WALL_CONTROL, "interrupt_request"),
			 GUARD_URGENT);
	assert_int_equal(guard_judge(GUARD_OUTWARD, WALL_SHELL, "execute_reply"), GUARD_RESULT);
	assert_int_equal(guard_judge(GUARD_OUTWARD, WALL_IOPUB, "status"), GUARD_STATUS);
	assert_int_equal(guard_judge(GUARD_OUTWARD, WALL_IOPUB, "iopub_welcome"), GUARD_DROP);
}

/* A direction or a channel that the table does not name gives a type no special meaning. */
static void test_elsewhere_passes(void **state)
{
	(void)state;
	assert_int_equal(guard_judge(GUARD_OUTWARD, WALL_SHELL, "execute_request"), GUARD_PASS);
	assert_int_equal(guard_judge(GUARD_INWARD, WALL_SHELL, "execute_reply"), GUARD_PASS);
	assert_int_equal(guard_judge(GUARD_OUTWARD, WALL_SHELL, "status"), GUARD_PASS);
	assert_int_equal(guard_judge(GUARD_INWARD, WALL_SHELL, "no_such_request"), GUARD_PASS);
	assert_int_equal(guard_judge(GUARD_OUTWARD, WALL_IOPUB, ""), GUARD_PASS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_elsewhere_passes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
