/* The kernels that have ended: whose they were, and no more of them than are kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "web/ended.h"

static int begin(void **state)
{
	*state = ended_new();
	return *state ? 0 : -1;
}

static int end(void **state)
{
	*state = ended_free(*state);
	return 0;
}

static void add(struct ended *ended, unsigned owner, unsigned number)
{
	char name[16], id[16], spec[] = "spec", area[] = "default", reason[] = "because";
	const struct ended_kernel kernel = {.id = id,
					    .spec = spec,
					    .owner = name,
					    .area = area,
					    .reason = reason,
					    .restarts = number};

	(void)snprintf(name, sizeof(name), "user%u", owner);
	(void)snprintf(id, sizeof(id), "%u-%u", owner, number);
	ended_add(ended, &kernel);
}

static size_t count(const struct ended *ended, const char *owner)
{
	const struct ended_kernel *kernel = NULL;
	size_t all = 0;

	while ((kernel = ended_next(ended, owner, kernel)))
		all++;
	return all;
}

static void test_newest_first(void **state)
{
	const struct ended_kernel *kernel;
	struct ended *ended = *state;

	assert_null(ended_next(ended, NULL, NULL));
	add(ended, 1, 1);
	add(ended, 2, 1);
	add(ended, 1, 2);
	kernel = ended_next(ended, "user1", NULL);
	assert_string_equal(kernel->id, "1-2");
	kernel = ended_next(ended, "user1", kernel);
	assert_string_equal(kernel->id, "1-1");
	assert_null(ended_next(ended, "user1", kernel));
	assert_int_equal(count(ended, NULL), 3);
	assert_null(ended_find(ended, "user2", "1-1")); /* somebody else's is not there */
	assert_string_equal(ended_find(ended, NULL, "1-1")->reason, "because");
	assert_string_equal(ended_find(ended, "user2", "2-1")->owner, "user2");
}

static void test_bounds(void **state)
{
	struct ended *ended = *state;

	add(ended, 0, 0);
	for (unsigned i = 0; i < 3 * ENDED_EACH; i++)
		add(ended, 1, i);
	/* Many of one user's take nobody else's place. */
	assert_int_equal(count(ended, "user1"), ENDED_EACH);
	assert_non_null(ended_find(ended, "user1", "1-59"));
	assert_null(ended_find(ended, "user1", "1-39"));
	assert_non_null(ended_find(ended, "user0", "0-0"));
	for (unsigned i = 2; i < 2 * ENDED_ALL; i++)
		add(ended, i, i);
	assert_int_equal(count(ended, NULL), ENDED_ALL);
	assert_null(ended_find(ended, NULL, "0-0"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_newest_first, begin, end),
		cmocka_unit_test_setup_teardown(test_bounds, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
