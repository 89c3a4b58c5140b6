#include "tests/unit/kernelspec/tree.h"

#include <signal.h>
#include <sys/wait.h>

#include "kernelspec/probe.h"

static void says(struct probe_result *result)
{
	probe_say(result, PROBE_LIMITED, "do that", "%d of %d", 1, 2);
}

static void dies(struct probe_result *result)
{
	(void)result;
	raise(SIGKILL);
}

static void leaves(struct probe_result *result)
{
	(void)result;
	_exit(0);
}

static void test_answer(void **state)
{
	const struct probe probe = {"x", true, says};
	struct probe_result result;

	(void)state;
	probe_run(&probe, &result);
	assert_int_equal(result.state, PROBE_LIMITED);
	assert_string_equal(result.detail, "1 of 2");
	assert_string_equal(result.help, "do that");
}

static void test_no_answer_is_missing(void **state)
{
	const struct probe probes[] = {{"x", true, dies}, {"y", true, leaves}};
	struct probe_result result;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		probe_run(&probes[i], &result);
		assert_int_equal(result.state, PROBE_MISSING);
		assert_string_not_equal(result.detail, "");
	}
}

/* Whatever this host gives: every probe answers, changes nothing here, and leaves no child. */
static void test_host(void **state)
{
	char before[4096], after[4096];
	struct probe_result result;
	ssize_t size;

	(void)state;
	size = readlink("/proc/self/ns/user", before, sizeof(before) - 1);
	assert_true(size > 0);
	before[size] = '\0';
	for (size_t i = 0; i < probe_host_count; i++) {
		probe_run(&probe_host[i], &result);
		assert_string_not_equal(result.detail, "");
		assert_string_not_equal(result.detail, "the probe did not answer");
	}
	size = readlink("/proc/self/ns/user", after, sizeof(after) - 1);
	assert_true(size > 0);
	after[size] = '\0';
	assert_string_equal(before, after);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answer),
		cmocka_unit_test(test_no_answer_is_missing),
		cmocka_unit_test(test_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
