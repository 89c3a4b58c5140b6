/* pressure: pause past HIGH, resume below LOW, cut who stands still, let requests through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/limits.h"
#include "proxy/pressure.h"

static void test_pauses_and_resumes(void **state)
{
	struct pressure p = {0};

	(void)state;
	assert_int_equal(pressure_step(&p, OUTPUT_AT_ONCE, 0, 1), PRESSURE_NONE);
	assert_int_equal(pressure_step(&p, OUTPUT_AT_ONCE + 1, 0, 1), PRESSURE_PAUSE);
	assert_int_equal(pressure_step(&p, OUTPUT_AT_ONCE + 1, 0, 1), PRESSURE_NONE);
	assert_int_equal(pressure_step(&p, OUTPUT_LOW, 1, 2), PRESSURE_NONE);
	assert_int_equal(pressure_step(&p, OUTPUT_LOW - 1, 2, 3), PRESSURE_RESUME);
	assert_int_equal(pressure_step(&p, OUTPUT_LOW - 1, 2, 4), PRESSURE_NONE);
}

static void test_one_large_output_is_no_pressure(void **state)
{
	struct pressure p = {0};
	int64_t now = 1000;

	(void)state;
	assert_int_equal(pressure_step(&p, OUTPUT_HIGH, 0, now), PRESSURE_NONE);
	assert_int_equal(pressure_step(&p, OUTPUT_HIGH + 1, 0, now), PRESSURE_NONE);
	now += PAUSE_AFTER_MS - 1;
	assert_int_equal(pressure_step(&p, OUTPUT_HIGH + 1, 0, now), PRESSURE_NONE);
	assert_int_equal(pressure_step(&p, OUTPUT_LOW, 1, now), PRESSURE_NONE); /* it is out */
	assert_int_equal(pressure_step(&p, OUTPUT_HIGH + 1, 1, now), PRESSURE_NONE);
	now += PAUSE_AFTER_MS - 1;
	assert_int_equal(pressure_step(&p, OUTPUT_HIGH + 1, 1, now), PRESSURE_NONE);
	assert_int_equal(pressure_step(&p, OUTPUT_HIGH + 1, 1, now + 1), PRESSURE_PAUSE);
}

static void test_cuts_only_who_stands_still(void **state)
{
	struct pressure p = {0};
	int64_t now = 1000;

	(void)state;
	assert_int_equal(pressure_step(&p, OUTPUT_HIGH * 3, 0, now), PRESSURE_PAUSE);
	/* a slow client that takes one message now and then is not cut */
	for (unsigned long taken = 1; taken < 20; taken++) {
		now += STALL_MS - 1;
		assert_int_equal(pressure_step(&p, OUTPUT_HIGH, taken, now), PRESSURE_NONE);
	}
	now += STALL_MS - 1;
	assert_int_equal(pressure_step(&p, OUTPUT_HIGH, 19, now), PRESSURE_NONE);
	assert_int_equal(pressure_step(&p, OUTPUT_HIGH, 19, now + 1), PRESSURE_CUT);
	/* and the next one gets its full time again */
	assert_int_equal(pressure_step(&p, OUTPUT_HIGH, 19, now + 2), PRESSURE_NONE);
	assert_int_equal(pressure_step(&p, OUTPUT_HIGH, 19, now + 1 + STALL_MS), PRESSURE_CUT);
}

static void test_a_request_gets_through(void **state)
{
	struct pressure p = {0};

	(void)state;
	assert_int_equal(pressure_exempt(&p, 0), PRESSURE_NONE);
	assert_int_equal(pressure_step(&p, OUTPUT_HIGH * 3, 0, EXEMPT_MS - 1), PRESSURE_NONE);
	assert_int_equal(pressure_step(&p, OUTPUT_HIGH * 3, 0, EXEMPT_MS), PRESSURE_PAUSE);
	assert_int_equal(pressure_exempt(&p, EXEMPT_MS), PRESSURE_RESUME);
	assert_int_equal(pressure_exempt(&p, EXEMPT_MS), PRESSURE_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pauses_and_resumes),
		cmocka_unit_test(test_one_large_output_is_no_pressure),
		cmocka_unit_test(test_cuts_only_who_stands_still),
		cmocka_unit_test(test_a_request_gets_through),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
