/* The same bytes are kept once; what was changed in one place does not come into another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/pool.h"
#include "sandbox/base.h"
#include "sandbox/tree.h"

/* printf "same" | sha256sum */
static const char same[] = "0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5";
static char base[] = "/tmp/test_pool-XXXXXX";
static int top, tree, pool;

static int set_up(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(base));
	top = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(top, "tree", 0755) + mkdirat(top, "pool", 0755), 0);
	tree = openat(top, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	pool = openat(top, "pool", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(tree);
	close(pool);
	assert_int_equal(tree_empty(top), 0);
	close(top);
	assert_int_equal(rmdir(base), 0);
	return 0;
}

static void add(const char *name, const char *text, mode_t mode)
{
	int fd = openat(tree, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write_full(fd, text, strlen(text)), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
	pool_share(pool, tree, name, same, mode == 0555);
}

static struct stat status_of(const char *name)
{
	struct stat status;

	assert_int_equal(fstatat(tree, name, &status, AT_SYMLINK_NOFOLLOW), 0);
	return status;
}

static void shares_and_mends(void **state)
{
	char *text;
	int fd;

	(void)state;
	add("one", "same", 0444);
	add("two", "same", 0444);
	add("tool", "same", 0555);
	assert_int_equal(status_of("one").st_ino, status_of("two").st_ino);
	assert_int_not_equal(status_of("one").st_ino, status_of("tool").st_ino);
	assert_int_equal(status_of("tool").st_mode & 0777, 0555);
	/* somebody changes the bytes: the next tree has its own, and those after it share them */
	assert_int_equal(fchmodat(tree, "one", 0644, 0), 0);
	fd = openat(tree, "one", O_WRONLY | O_CLOEXEC);
	assert_int_equal(write_full(fd, "evil", 4), 0);
	close(fd);
	assert_int_equal(fchmodat(tree, "one", 0444, 0), 0);
	add("three", "same", 0444);
	add("four", "same", 0444);
	assert_int_not_equal(status_of("three").st_ino, status_of("one").st_ino);
	assert_int_equal(status_of("three").st_ino, status_of("four").st_ino);
	assert_int_equal(read_file(tree, "four", 100, &text, NULL, NULL), 0);
	assert_string_equal(text, "same");
	free(text);
	/* other modes, links and directories in its place are as good as nothing */
	assert_int_equal(fchmodat(tree, "three", 0666, 0), 0);
	add("five", "same", 0444);
	assert_int_not_equal(status_of("five").st_ino, status_of("three").st_ino);
	pool_share(-1, tree, "five", same, false);
}

static void finds_what_has_these_bytes(void **state)
{
	int fd;

	(void)state;
	assert_true(pool_find(pool, tree, "found", same, false, "same", 4));
	assert_int_equal(status_of("found").st_ino, status_of("five").st_ino);
	assert_false(pool_find(pool, tree, "found", same, false, "same", 4));
	assert_false(pool_find(pool, tree, "other", same, false, "sama", 4));
	assert_false(pool_find(pool, tree, "other", same, false, "sam", 3));
	assert_false(pool_find(pool, tree, "other", same, false, "same!", 5));
	assert_false(pool_find(-1, tree, "other", same, false, "same", 4));
	assert_int_equal(unlinkat(tree, "found", 0), 0);
	/* somebody changed them since */
	assert_int_equal(fchmodat(tree, "five", 0644, 0), 0);
	assert_false(pool_find(pool, tree, "other", same, false, "same", 4));
	fd = openat(tree, "five", O_WRONLY | O_CLOEXEC);
	assert_int_equal(write_full(fd, "evil", 4), 0);
	close(fd);
	assert_int_equal(fchmodat(tree, "five", 0444, 0), 0);
	assert_false(pool_find(pool, tree, "other", same, false, "same", 4));
	assert_int_equal(faccessat(tree, "other", F_OK, 0), -1);
}

static void sweeps_what_nobody_has(void **state)
{
	static const char *const all[] = {"one", "two", "three", "four", "five"};
	struct stat status;
	char name[80];

	(void)state;
	(void)snprintf(name, sizeof(name), "%.2s/%sf", same, same + 2);
	pool_sweep(pool);
	assert_int_equal(fstatat(pool, name, &status, 0), 0);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		assert_int_equal(unlinkat(tree, all[i], 0), 0);
	pool_sweep(pool);
	assert_int_equal(fstatat(pool, name, &status, 0), -1);
	name[strlen(name) - 1] = 'x';
	assert_int_equal(fstatat(pool, name, &status, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares_and_mends),
		cmocka_unit_test(finds_what_has_these_bytes),
		cmocka_unit_test(sweeps_what_nobody_has),
	};

	return cmocka_run_group_tests_name("pool", tests, set_up, tear_down);
}
