/* replica: bounded copies of trees that somebody else made. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "sandbox/replica.h"
#include "sandbox/tree.h"

struct world {
	char path[64];
	int top, from, to;
	struct replica replica;
};

static int make_world(void **state)
{
	struct world *world = calloc(1, sizeof(*world));

	if (!world)
		return -1;
	(void)snprintf(world->path, sizeof(world->path), "/var/tmp/replica-XXXXXX");
	if (!mkdtemp(world->path))
		return -1;
	world->top = open(world->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (mkdirat(world->top, "from", 0755) < 0 || mkdirat(world->top, "to", 0755) < 0)
		return -1;
	world->from = openat(world->top, "from", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	world->to = openat(world->top, "to", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	replica_init(&world->replica, REPLICA_ALL);
	*state = world;
	return 0;
}

static int end_world(void **state)
{
	struct world *world = *state;

	(void)tree_empty(world->top);
	(void)rmdir(world->path);
	close(world->from);
	close(world->to);
	close(world->top);
	free(world);
	return 0;
}

static void put(const struct world *world, const char *name, const char *text, mode_t mode)
{
	int fd = openat(world->from, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write_full(fd, text, strlen(text)), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static bool has(const struct world *world, const char *name, const char *text)
{
	cleanup(free_ptr) char *found = NULL;

	return read_file(world->to, name, 1000, &found, NULL, NULL) == 0 &&
	       strcmp(found, text) == 0;
}

static bool there(const struct world *world, const char *name)
{
	struct stat status;

	return fstatat(world->to, name, &status, AT_SYMLINK_NOFOLLOW) == 0;
}

static void fill(const struct world *world)
{
	put(world, "a.txt", "a", 0640);
	put(world, ".hidden", "h", 0644);
	assert_int_equal(mkdirat(world->from, "d", 0750), 0);
	assert_int_equal(mkdirat(world->from, "d/e", 0755), 0);
	assert_int_equal(mkdirat(world->from, "d/empty", 0755), 0);
	put(world, "d/e/b.txt", "b", 04755);
	assert_int_equal(symlinkat("/etc/passwd", world->from, "d/link"), 0);
}

static void test_everything(void **state)
{
	struct world *world = *state;
	struct stat status;

	fill(world);
	assert_int_equal(replica_tree(&world->replica, world->from, world->to), 0);
	assert_int_equal(world->replica.left, 0);
	assert_true(has(world, "a.txt", "a") && has(world, ".hidden", "h"));
	assert_true(has(world, "d/e/b.txt", "b") && there(world, "d/empty"));
	assert_int_equal(fstatat(world->to, "d/link", &status, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISLNK(status.st_mode));
	assert_int_equal(fstatat(world->to, "d/e/b.txt", &status, 0), 0);
	assert_int_equal(status.st_mode & 07777, 0755); /* no setuid */
	assert_int_equal(world->replica.files, 4);
}

static void test_results(void **state)
{
	struct world *world = *state;

	world->replica.what = REPLICA_RESULTS;
	fill(world);
	assert_int_equal(replica_tree(&world->replica, world->from, world->to), 0);
	assert_true(has(world, "a.txt", "a") && has(world, "d/e/b.txt", "b"));
	assert_false(there(world, ".hidden") || there(world, "d/link"));
	assert_int_equal(world->replica.left, 1);
	assert_string_equal(world->replica.first, "d/link");
}

static void count(void *arg, const struct stat *status)
{
	uint64_t *bytes = arg;

	*bytes += (uint64_t)status->st_size;
}

static void test_foreign(void **state)
{
	struct world *world = *state;
	uint64_t bytes = 0;

	fill(world);
	world->replica.what = REPLICA_FOREIGN;
	world->replica.uid = geteuid();
	world->replica.gid = getegid();
	world->replica.copied = count;
	world->replica.arg = &bytes;
	assert_int_equal(replica_tree(&world->replica, world->from, world->to), 0);
	assert_false(there(world, "a.txt") || there(world, "d"));
	/* somebody else's are copied, and so are the directories that lead to them */
	world->replica.uid = geteuid() + 1;
	world->replica.left = 0;
	assert_int_equal(replica_tree(&world->replica, world->from, world->to), 0);
	assert_true(has(world, "a.txt", "a") && has(world, "d/e/b.txt", "b"));
	assert_int_equal(bytes, 2);
}

static void test_limits(void **state)
{
	struct world *world = *state;
	char name[16];

	for (int i = 0; i < 20; i++) {
		(void)snprintf(name, sizeof(name), "f%d", i);
		put(world, name, "1234567890", 0644);
	}
	world->replica.max_files = 5;
	assert_int_equal(replica_tree(&world->replica, world->from, world->to), 0);
	assert_int_equal(world->replica.files, 5);
	assert_int_equal(world->replica.left, 15);
	assert_string_equal(world->replica.because, "there are too many files");
	assert_int_equal(tree_empty(world->to), 0);
	replica_init(&world->replica, REPLICA_ALL);
	world->replica.max_bytes = 35;
	assert_int_equal(replica_tree(&world->replica, world->from, world->to), 0);
	assert_int_equal(world->replica.files, 3);
	assert_string_equal(world->replica.because, "it is too large");
	assert_int_equal(tree_empty(world->to), 0);
	replica_init(&world->replica, REPLICA_ALL);
	world->replica.deadline = now_ms() - 1;
	assert_int_equal(replica_tree(&world->replica, world->from, world->to), 0);
	assert_int_equal(world->replica.files, 0);
	assert_string_equal(world->replica.because, "it takes too long");
	/* names that are no files are bounded too */
	for (int i = 0; i < 30; i++) {
		(void)snprintf(name, sizeof(name), "d%d", i);
		assert_int_equal(mkdirat(world->from, name, 0755), 0);
	}
	replica_init(&world->replica, REPLICA_ALL);
	world->replica.max_files = 2;
	assert_int_equal(replica_tree(&world->replica, world->from, world->to), 0);
	assert_true(world->replica.left > 0);
}

static void test_a_petabyte_of_holes(void **state)
{
	struct world *world = *state;
	int fd;

	put(world, "sparse", "", 0644);
	fd = openat(world->from, "sparse", O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, (off_t)1 << 42), 0);
	close(fd);
	assert_int_equal(replica_tree(&world->replica, world->from, world->to), 0);
	assert_int_equal(world->replica.files, 0);
	assert_string_equal(world->replica.first, "sparse");
}

static void test_whose_files(void **state)
{
	struct world *world = *state;
	char found[64];

	put(world, "public", "p", 0644);
	put(world, "private", "q", 0600);
	assert_int_equal(mkdirat(world->from, "closed", 0700), 0);
	put(world, "closed/public", "r", 0644);
	assert_int_equal(replica_find_private(world->from, geteuid(), 100, found, sizeof(found)),
			 1);
	assert_int_equal(
		replica_find_private(world->from, geteuid() + 1, 100, found, sizeof(found)), 0);
	assert_int_equal(replica_find_private(world->from, geteuid(), 0, found, sizeof(found)), 0);
	world->replica.owner = geteuid() + 1;
	assert_int_equal(replica_tree(&world->replica, world->from, world->to), 0);
	assert_true(has(world, "public", "p"));
	assert_false(there(world, "private") || there(world, "closed/public"));
	assert_int_equal(world->replica.left, 2);
	assert_string_equal(world->replica.because, "it cannot be read");
}

static void test_never_through_a_link(void **state)
{
	struct world *world = *state;

	put(world, "a.txt", "new", 0644);
	assert_int_equal(mkdirat(world->from, "d", 0755), 0);
	put(world, "d/b.txt", "b", 0644);
	assert_int_equal(mkdirat(world->top, "elsewhere", 0755), 0);
	assert_int_equal(symlinkat("../elsewhere", world->to, "d"), 0);
	assert_true(replica_tree(&world->replica, world->from, world->to) < 0);
	assert_true(faccessat(world->top, "elsewhere/b.txt", F_OK, 0) < 0);
	/* nor over what is there */
	assert_true(replica_tree(&world->replica, world->from, world->to) < 0);
	assert_int_equal(mkfifoat(world->from, "pipe", 0666), 0);
	assert_int_equal(unlinkat(world->to, "d", 0), 0);
	(void)unlinkat(world->to, "a.txt", 0);
	world->replica.left = 0;
	assert_int_equal(replica_tree(&world->replica, world->from, world->to), 0);
	assert_true(has(world, "d/b.txt", "b"));
	assert_int_equal(world->replica.left, 1);
	assert_string_equal(world->replica.because, "it is no file");
}

static void test_one_file(void **state)
{
	struct world *world = *state;
	int fd;

	put(world, "a.txt", "a", 0600);
	fd = openat(world->from, "a.txt", O_RDONLY | O_CLOEXEC);
	assert_int_equal(replica_file(&world->replica, fd, world->to, "0"), 0);
	assert_true(has(world, "0", "a"));
	world->replica.max_bytes = 1; /* one is there */
	assert_int_equal(replica_file(&world->replica, fd, world->to, "1"), 0);
	assert_int_equal(world->replica.left, 1);
	assert_false(there(world, "1"));
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_everything, make_world, end_world),
		cmocka_unit_test_setup_teardown(test_results, make_world, end_world),
		cmocka_unit_test_setup_teardown(test_foreign, make_world, end_world),
		cmocka_unit_test_setup_teardown(test_limits, make_world, end_world),
		cmocka_unit_test_setup_teardown(test_a_petabyte_of_holes, make_world, end_world),
		cmocka_unit_test_setup_teardown(test_whose_files, make_world, end_world),
		cmocka_unit_test_setup_teardown(test_never_through_a_link, make_world, end_world),
		cmocka_unit_test_setup_teardown(test_one_file, make_world, end_world),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
