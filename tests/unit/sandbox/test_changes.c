/* What the proxy is told of /work between two collections. Needs an inotify instance. */
#include "staging_world.h"

#include <sys/mman.h>

#include "sandbox/changes.h"

static struct world world;

static int setup(void **state)
{
	(void)state;
	world_new(&world, BYTES, FILES);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	world_end(&world);
	return 0;
}

static bool quiet(void)
{
	return changes_none(staging_changes(world.staging));
}

static void collected(struct world *of)
{
	if (world_collect(of) < 0)
		fail_msg("%s", of->err.text);
}

static void make(const char *name)
{
	assert_int_equal(mkdir(at(&world, name), 0755), 0);
	give(at(&world, name));
}

/* Collects, and expects that nothing is left and everything watched. */
static void level(void)
{
	collected(&world);
	assert_int_equal(world.report.left, 0);
	assert_true(world.report.watched);
	assert_true(quiet());
}

static void a_cell_that_writes_nothing_changes_nothing(void **state)
{
	char buffer[8];
	int fd;

	(void)state;
	put(&world, "w:data.csv", "a,b\n");
	level();
	fd = open(at(&world, "w:data.csv"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, buffer, sizeof(buffer)), 4);
	close(fd);
	assert_int_equal(access(at(&world, "w:missing"), F_OK), -1);
	assert_true(quiet());
}

static void whatever_makes_a_result_shows(void **state)
{
	int fd;

	(void)state;
	make("w:d");
	put(&world, "w:d/old", "1");
	level();
	put(&world, "w:new", "1");
	assert_false(quiet());
	level();
	put(&world, "w:d/old", "22");
	assert_false(quiet());
	level();
	assert_int_equal(rename(at(&world, "w:new"), at(&world, "w:d/other")), 0);
	assert_false(quiet());
	level();
	assert_int_equal(link(at(&world, "w:d/other"), at(&world, "w:third")), 0);
	assert_false(quiet());
	level();
	assert_int_equal(chmod(at(&world, "w:third"), 0755), 0);
	assert_false(quiet());
	level();
	fd = open(at(&world, "w:d/old"), O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_true(quiet()); /* what is merely open does not count */
	assert_int_equal(write(fd, "3", 1), 1);
	assert_false(quiet());
	close(fd);
	level();
}

/* A directory that appeared in between is watched from the next collection on, with all in it. */
static void directories_made_later_are_watched(void **state)
{
	(void)state;
	level();
	make("w:a");
	make("w:a/b");
	assert_false(quiet());
	level();
	put(&world, "w:a/b/deep", "1");
	assert_false(quiet());
	level();
	assert_true(exists(&world, "o:a/b/deep"));
	assert_int_equal(rename(at(&world, "w:a/b"), at(&world, "w:c")), 0);
	level();
	put(&world, "w:c/late", "1");
	assert_false(quiet());
}

/* A mapped page is no event, but its file counts as open until the last event has come. */
static void a_mapped_file_shows_when_it_is_closed(void **state)
{
	char *map;
	int fd;

	(void)state;
	put(&world, "w:map", "0000");
	level();
	fd = open(at(&world, "w:map"), O_RDWR | O_CLOEXEC);
	map = mmap(NULL, 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	close(fd);
	memcpy(map, "1111", 4);
	munmap(map, 4);
	assert_false(quiet());
}

static void more_directories_than_are_watched_are_said(void **state)
{
	char name[64];

	(void)state;
	level();
	for (int i = 0; i < CHANGES_WATCHES_MAX; i++) {
		snprintf(name, sizeof(name), "w:d%d", i);
		make(name);
	}
	collected(&world);
	assert_false(world.report.watched);
	for (int i = 0; i < CHANGES_WATCHES_MAX; i++) {
		snprintf(name, sizeof(name), "w:d%d", i);
		assert_int_equal(rmdir(at(&world, name)), 0);
	}
	collected(&world);
	assert_false(world.report.watched); /* and it stays so */
}

static void without_an_instance_nothing_is_watched(void **state)
{
	struct changes changes = {.fd = -1, .blind = true};

	(void)state;
	changes_forget(&changes);
	changes_watch(&changes, AT_FDCWD);
	assert_true(changes.blind);
}

#define fresh(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		fresh(a_cell_that_writes_nothing_changes_nothing),
		fresh(whatever_makes_a_result_shows),
		fresh(directories_made_later_are_watched),
		fresh(a_mapped_file_shows_when_it_is_closed),
		fresh(more_directories_than_are_watched_are_said),
		cmocka_unit_test(without_an_instance_nothing_is_watched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
