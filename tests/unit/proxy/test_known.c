/* known: what is remembered, for how long, and that nothing but a finished entry counts. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "proxy/known.h"

static const struct known_comm widget = {.kind = KNOWN_WIDGET, .open = true, .model = 7};

static void test_comm(void **state)
{
	struct known *known = *state;
	struct known_comm comm;

	assert_false(known_comm_get(known, "a", &comm));
	assert_int_equal(comm.kind, KNOWN_NONE);
	assert_int_equal(known_comm_set(known, "a", &widget), 0);
	assert_true(known_comm_get(known, "a", &comm));
	assert_int_equal(comm.kind, KNOWN_WIDGET);
	assert_int_equal(comm.model, 7);
	assert_true(comm.open);
	assert_false(comm.by_client);
	assert_false(known_comm_get(known, "b", NULL));
	/* closed, it is still what it was */
	known_comm_close(known, "a");
	assert_true(known_comm_get(known, "a", &comm));
	assert_false(comm.open);
	assert_int_equal(comm.model, 7);
	known_comm_close(known, "never opened");
}

static void test_odd_ids(void **state)
{
	static const char *const odd[] = {"",	      "a b",	   "a/b",	 "a\n",
					  "\xc3\xa9", "__proto__", "constructor"};
	struct known *known = *state;
	char longest[KNOWN_ID_MAX + 2];

	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
		assert_int_equal(known_comm_set(known, odd[i], &widget), -EINVAL);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[KNOWN_ID_MAX + 1] = '\0';
	assert_int_equal(known_comm_set(known, longest, &widget), -EINVAL);
	longest[KNOWN_ID_MAX] = '\0';
	assert_int_equal(known_comm_set(known, longest, &widget), 0);
	assert_true(known_comm_get(known, longest, NULL));
}

static const char *number(size_t i)
{
	static char text[32];

	snprintf(text, sizeof(text), "n%zu", i);
	return text;
}

static void test_full(void **state)
{
	struct known *known = *state;

	for (size_t i = 0; i < KNOWN_COMMS; i++)
		assert_int_equal(known_comm_set(known, number(i), &widget), 0);
	assert_int_equal(known_comm_set(known, "one more", &widget), -EINVAL);
	assert_int_equal(known_comm_set(known, "one-more", &widget), -ENOSPC);
	/* what is there can still change */
	assert_int_equal(known_comm_set(known, number(5), &widget), 0);
	/* the place of the one that was closed first is taken, not of another */
	known_comm_close(known, number(9));
	known_comm_close(known, number(3));
	assert_int_equal(known_comm_set(known, "one-more", &widget), 0);
	assert_false(known_comm_get(known, number(9), NULL));
	assert_true(known_comm_get(known, number(3), NULL));
	assert_true(known_comm_get(known, "one-more", NULL));
	assert_int_equal(known_comm_set(known, "two-more", &widget), 0);
	assert_false(known_comm_get(known, number(3), NULL));
	assert_int_equal(known_comm_set(known, "three-more", &widget), -ENOSPC);
}

static void test_displays(void **state)
{
	struct known *known = *state;

	assert_false(known_display_has(known, "d", 1));
	known_display_add(known, "d", 1);
	known_display_add(known, "with\0nul", 8);
	assert_true(known_display_has(known, "d", 1));
	assert_true(known_display_has(known, "with\0nul", 8));
	assert_false(known_display_has(known, "with", 4));
	/* a kernel names its displays: one is never taken for markup that was made here */
	assert_false(known_made_has(known, "d", 1));
	known_made_add(known, "<b>", 3);
	assert_true(known_made_has(known, "<b>", 3));
	assert_false(known_display_has(known, "<b>", 3));
	for (size_t i = 0; i < 3 * KNOWN_DISPLAYS; i++)
		known_display_add(known, number(i), strlen(number(i)));
	for (size_t i = 2 * KNOWN_DISPLAYS; i < 3 * KNOWN_DISPLAYS; i++)
		assert_true(known_display_has(known, number(i), strlen(number(i))));
	assert_false(known_display_has(known, "d", 1));
}

/* Shared with a worker, and with the one that comes after it died at any instruction. */
static void test_worker_dies(void **state)
{
	struct known *known = *state;
	int status;
	pid_t pid;

	assert_int_equal(known_comm_set(known, "before", &widget), 0);
	pid = fork();
	if (pid == 0) {
		for (size_t i = 0;; i++) {
			known_comm_set(known, number(i % 1000), &widget);
			known_comm_close(known, number(i % 1000));
		}
	}
	while (!known_comm_get(known, "n0", NULL))
		usleep(100);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	for (size_t i = 0; i < 1000; i++) {
		struct known_comm comm;

		if (known_comm_get(known, number(i), &comm)) {
			assert_int_equal(comm.kind, KNOWN_WIDGET);
			assert_int_equal(comm.model, 7);
		}
	}
	assert_true(known_comm_get(known, "before", NULL));
	assert_int_equal(known_comm_set(known, "after", &widget), 0);
	assert_true(known_comm_get(known, "after", NULL));
}

static void test_debugging(void **state)
{
	struct known *known = *state;

	assert_false(known_debugging(known));
	known_debug(known);
	assert_true(known_debugging(known));
}

static int set_up(void **state)
{
	*state = known_new();
	return *state ? 0 : -1;
}

static int tear_down(void **state)
{
	known_free(*state);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_comm, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_odd_ids, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_full, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_displays, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_worker_dies, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_debugging, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
