#include "sandbox/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "sandbox/tree.h"

static struct err err;
static char top[] = "/tmp/cellwall-cgroup-XXXXXX"; /* stands for /sys/fs/cgroup */

static void put(const char *group, const char *file, const char *text)
{
	cleanup(free_ptr) char *directory = path_join(top, group);
	cleanup(free_ptr) char *path = NULL;

	assert_non_null(directory);
	assert_int_equal(make_directories(directory, 0755, &err), 0);
	path = path_join(directory, file);
	assert_non_null(path);
	(void)unlink(path);
	assert_int_equal(write_new_file(AT_FDCWD, path, 0644, text, strlen(text), &err), 0);
}

/* A group as the system makes it. */
static void group(const char *name, const char *controllers, const char *children,
		  const char *processes)
{
	put(name, "cgroup.controllers", controllers);
	put(name, "cgroup.subtree_control", children);
	put(name, "cgroup.procs", processes);
	put(name, "cgroup.type", "domain\n");
}

static char *find(const char *own)
{
	char *found = NULL;
	const int r = cgroup_find_below(top, own, &found, &err);

	assert_int_equal(r == 0, found != NULL);
	return found;
}

static void expect(const char *own, const char *where)
{
	cleanup(free_ptr) char *found = find(own);

	assert_non_null(found);
	assert_string_equal(found + strlen(top), where);
}

static int clear(void **state)
{
	cleanup(close_fd) int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	return tree_empty(fd) < 0 || rmdir(top) < 0 ? -1 : 0;
}

static int make_top(void **state)
{
	(void)state;
	return mkdtemp(top) ? 0 : -1;
}

static void reads_numbers(void **state)
{
	static const char events[] = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
	uint64_t value = 7;

	(void)state;
	assert_int_equal(cgroup_parse(events, "oom_kill", &value), 0);
	assert_int_equal(value, 2);
	assert_int_equal(cgroup_parse(events, "oom", &value), 0);
	assert_int_equal(value, 3);
	assert_int_equal(cgroup_parse("1048576\n", NULL, &value), 0);
	assert_int_equal(value, 1048576);
	assert_int_equal(cgroup_parse("max\n", NULL, &value), 0);
	assert_true(value == CGROUP_NONE);
	value = 7;
	assert_int_equal(cgroup_parse(events, "kill", &value), -ENOENT);
	assert_int_equal(cgroup_parse("", "oom", &value), -ENOENT);
	assert_true(cgroup_parse("", NULL, &value) < 0);
	assert_true(cgroup_parse("oom_kill -1\n", "oom_kill", &value) < 0);
	assert_true(cgroup_parse("99999999999999999999999999\n", NULL, &value) < 0);
	assert_int_equal(value, 7);
}

static void finds_the_nearest_place(void **state)
{
	(void)state;
	/* A service with "Delegate=yes": its processes are in it, its slice is limited. */
	group("", "cpu memory pids\n", "memory pids\n", "1\n");
	group("a.slice", "memory pids\n", "memory pids\n", "");
	group("a.slice/b.service", "cpu io memory pids\n", "", "17\n18\n");
	expect("/a.slice/b.service", "/a.slice");
	/* With a subgroup for its processes: the service itself will do. */
	group("a.slice/b.service", "cpu memory pids\n", "", "");
	group("a.slice/b.service/main", "memory pids\n", "", "17\n");
	expect("/a.slice/b.service/main", "/a.slice/b.service");
	/* The root may have both. */
	expect("/", "");
}

static void says_why_there_is_none(void **state)
{
	cleanup(free_ptr) char *found = NULL;

	(void)state;
	group("", "cpu\n", "cpu\n", "1\n");
	group("a.slice", "cpu memory pids_\n", "cpu memory\n", "");
	found = find("/a.slice");
	assert_null(found);
	assert_non_null(strstr(err.text, "controllers memory and pids"));
	/* A container: one group, with the server in it. */
	group("", "memory pids\n", "", "1\n");
	found = find("/");
	assert_null(found);
	assert_int_equal(err.code, -EBUSY);
	assert_non_null(strstr(err.text, "processes in it"));
	assert_null(find("/gone"));
	if (geteuid() == 0)
		return;
	group("", "memory pids\n", "memory pids\n", "");
	assert_int_equal(chmod(top, 0555), 0);
	found = find("/");
	assert_int_equal(chmod(top, 0755), 0);
	assert_null(found);
	assert_non_null(strstr(err.text, "not delegated"));
}

static void removes_what_killed_ones_left(void **state)
{
	cleanup(close_fd) int parent = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup(close_fd) int held = -1;

	(void)state;
	assert_true(parent >= 0);
	assert_int_equal(mkdirat(parent, "cellwall-00000001", 0755), 0);
	assert_int_equal(mkdirat(parent, "cellwall-00000002", 0755), 0);
	assert_int_equal(mkdirat(parent, "others", 0755), 0);
	held = openat(parent, "cellwall-00000002", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(flock(held, LOCK_EX | LOCK_NB), 0);
	cgroup_sweep(parent);
	assert_int_equal(faccessat(parent, "cellwall-00000001", F_OK, 0), -1);
	assert_int_equal(faccessat(parent, "cellwall-00000002", F_OK, 0), 0);
	assert_int_equal(faccessat(parent, "others", F_OK, 0), 0);
	close_fd(&held);
	cgroup_sweep(parent);
	assert_int_equal(faccessat(parent, "cellwall-00000002", F_OK, 0), -1);
}

static void leaves_nothing_of_a_failure(void **state)
{
	const struct cgroup_limits limits = {.memory = 1 << 20, .pids = 10};
	struct cgroup cgroup = {.parent = -2, .directory = -2};
	const struct dirent *entry;
	DIR *directory;

	(void)state;
	/* In a plain directory no pids.max appears. */
	group("", "memory pids\n", "memory pids\n", "");
	assert_true(cgroup_make(top, &limits, &cgroup, &err) < 0);
	assert_non_null(strstr(err.text, "pids.max"));
	assert_int_equal(cgroup.parent, -2);
	directory = opendir(top);
	assert_non_null(directory);
	while ((entry = readdir(directory)))
		assert_null(strstr(entry->d_name, "cellwall-"));
	assert_int_equal(closedir(directory), 0);
}

static void tells_the_machine(void **state)
{
	(void)state;
	assert_true(cgroup_machine_memory() > 1 << 20);
	assert_true(cgroup_machine_memory() <=
		    (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_numbers),
		cmocka_unit_test(finds_the_nearest_place),
		cmocka_unit_test(says_why_there_is_none),
		cmocka_unit_test(removes_what_killed_ones_left),
		cmocka_unit_test(leaves_nothing_of_a_failure),
		cmocka_unit_test(tells_the_machine),
	};

	return cmocka_run_group_tests(tests, make_top, clear);
}
