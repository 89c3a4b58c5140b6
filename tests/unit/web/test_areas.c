#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include "web/areas.h"
#include "web/areas_parts.h"

#define ENTRIES_MOST (4u * AREAS_FILES_MAX) /* of any kind, of one walk */

struct place {
	char path[40];
	int fd;
	unsigned made;
};

static int make_place(void **state)
{
	static struct place place;

	place = (struct place){.path = "/tmp/cellwall-areas-XXXXXX"};
	if (!mkdtemp(place.path))
		return -1;
	place.fd = open(place.path, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
	*state = &place;
	return place.fd < 0;
}

static int remove_place(void **state)
{
	struct place *place = *state;
	char name[16];

	while (place->made) {
		(void)snprintf(name, sizeof(name), "%u", --place->made);
		(void)unlinkat(place->fd, name, 0);
	}
	close(place->fd);
	return rmdir(place->path);
}

static void make(struct place *place, unsigned count, bool files)
{
	char name[16];

	for (unsigned i = 0; i < count; i++) {
		(void)snprintf(name, sizeof(name), "%u", place->made++);
		if (!files)
			assert_int_equal(symlinkat("0", place->fd, name), 0);
		else if (i > 0)
			assert_int_equal(linkat(place->fd, "0", place->fd, name, 0), 0);
		else
			close(openat(place->fd, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	}
}

static struct areas_walk walk(const struct place *place)
{
	struct areas_walk walk = {0};

	areas_walk_into(&walk, openat(place->fd, ".", O_DIRECTORY | O_RDONLY | O_CLOEXEC), "", 0);
	return walk;
}

static void files_past_the_most_are_not_looked_at(void **state)
{
	struct place *place = *state;
	struct areas_walk seen;

	make(place, AREAS_FILES_MAX - 1, true);
	seen = walk(place);
	assert_int_equal(seen.count, AREAS_FILES_MAX - 1);
	assert_false(areas_is_cut(&seen));
	make(place, 9, false);
	assert_int_equal(linkat(place->fd, "0", place->fd, "a", 0), 0);
	assert_int_equal(linkat(place->fd, "0", place->fd, "b", 0), 0);
	seen = walk(place);
	unlinkat(place->fd, "a", 0);
	unlinkat(place->fd, "b", 0);
	assert_int_equal(seen.count, AREAS_FILES_MAX);
	assert_true(areas_is_cut(&seen));
}

/* What is no file costs time as well. */
static void entries_past_the_most_are_not_looked_at(void **state)
{
	struct place *place = *state;
	struct areas_walk seen;

	make(place, ENTRIES_MOST - 100, false);
	seen = walk(place);
	assert_int_equal(seen.count, 0);
	assert_false(areas_is_cut(&seen));
	make(place, 200, false);
	seen = walk(place);
	assert_int_equal(seen.seen, ENTRIES_MOST);
	assert_true(areas_is_cut(&seen));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(files_past_the_most_are_not_looked_at, make_place,
						remove_place),
		cmocka_unit_test_setup_teardown(entries_past_the_most_are_not_looked_at, make_place,
						remove_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
