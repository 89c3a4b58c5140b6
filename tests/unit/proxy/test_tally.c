#include "proxy/tally.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void name(int fd)
{
	char text[16];

	(void)snprintf(text, sizeof(text), "%d", fd);
	assert_int_equal(setenv("CELLWALL_TALLY", text, 1), 0);
}

static void test_counted_there_and_read_here(void **state)
{
	const struct tally *tally = NULL;
	struct tally *theirs, sum = {0};
	int fd = -1, status;

	(void)state;
	assert_int_equal(tally_make(&tally, &fd, NULL), 0);
	name(fd);
	if (fork() == 0) {
		theirs = tally_take();
		tally_message(theirs, true, WALL_SHELL, TALLY_PASSED, 100);
		tally_message(theirs, true, WALL_SHELL, TALLY_PASSED, 20);
		tally_message(theirs, false, WALL_IOPUB, TALLY_CHANGED, 3);
		tally_blocked(theirs, TALLY_CONNECT, 7);
		_exit(theirs ? 0 : 1);
	}
	assert_true(wait(&status) > 0 && status == 0);
	tally_add(&sum, tally);
	tally_add(&sum, tally);
	assert_int_equal(sum.messages[1][WALL_SHELL][TALLY_PASSED], 4);
	assert_int_equal(sum.bytes[1][WALL_SHELL][TALLY_PASSED], 240);
	assert_int_equal(sum.messages[0][WALL_IOPUB][TALLY_CHANGED], 2);
	assert_int_equal(sum.messages[0][WALL_IOPUB][TALLY_PASSED], 0);
	assert_int_equal(sum.blocked[TALLY_CONNECT], 14);
	assert_int_equal(ftruncate(fd, 0), -1); /* who reads would end by SIGBUS */
	close(fd);
	assert_null(tally_done(tally));
}

/* What looks at foreign bytes is forked from who counts. */
static void test_not_there_after_a_fork(void **state)
{
	const struct tally *tally = NULL;
	struct tally *theirs;
	int fd = -1, status;

	(void)state;
	assert_int_equal(tally_make(&tally, &fd, NULL), 0);
	name(fd);
	theirs = tally_take();
	assert_non_null(theirs);
	if (fork() == 0) {
		unsigned char there;

		_exit(mincore(theirs, 1, &there) == 0);
	}
	assert_true(wait(&status) > 0 && status == 0);
	assert_null(tally_done(tally));
	assert_null(tally_done(theirs));
}

static void test_nothing_else_is_taken(void **state)
{
	FILE *file = tmpfile();
	int memory = memfd_create("other", MFD_CLOEXEC);

	(void)state;
	assert_non_null(file);
	name(fileno(file));
	assert_null(tally_take());
	name(memory); /* without the seals */
	assert_null(tally_take());
	name(2);
	assert_null(tally_take());
	assert_int_equal(setenv("CELLWALL_TALLY", "none", 1), 0);
	assert_null(tally_take());
	assert_int_equal(unsetenv("CELLWALL_TALLY"), 0);
	assert_null(tally_take());
	tally_message(NULL, true, WALL_SHELL, TALLY_PASSED, 1);
	tally_blocked(NULL, TALLY_READ, 1);
	tally_add(NULL, NULL);
	fclose(file);
	close(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counted_there_and_read_here),
		cmocka_unit_test(test_not_there_after_a_fork),
		cmocka_unit_test(test_nothing_else_is_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
