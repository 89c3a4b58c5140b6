/* The audit logs on the page: what is found and counted, and that no turn of the loop reads much of
 * them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/logbook.h"
#include "web/loop.h"
#include "web/trail.h"

static struct place {
	char root[40], logs[80];
	struct loop *loop;
	struct trail *trail;
	char made[48][LOGBOOK_NAME];
	unsigned files;
} place;

static int begin(void **state)
{
	char path[80];

	(void)state;
	place = (struct place){.root = "/tmp/cellwall-trail-XXXXXX"};
	if (!mkdtemp(place.root))
		return -1;
	(void)setenv("XDG_STATE_HOME", place.root, 1);
	(void)snprintf(path, sizeof(path), "%s/cellwall", place.root);
	(void)snprintf(place.logs, sizeof(place.logs), "%s/cellwall/log", place.root);
	if (mkdir(path, 0700) < 0 || mkdir(place.logs, 0700) < 0)
		return -1;
	if (loop_new(&place.loop, NULL) < 0)
		return -1;
	place.trail = trail_new(place.loop);
	return place.trail ? 0 : -1;
}

static int end(void **state)
{
	char path[160];

	(void)state;
	place.trail = trail_free(place.trail);
	place.loop = loop_free(place.loop);
	for (unsigned i = 0; i < place.files; i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", place.logs, place.made[i]);
		(void)unlink(path);
	}
	(void)rmdir(place.logs);
	(void)snprintf(path, sizeof(path), "%s/cellwall", place.root);
	(void)rmdir(path);
	return rmdir(place.root);
}

static void append(unsigned number, const char *text)
{
	char path[160], name[LOGBOOK_NAME];
	int fd;

	(void)snprintf(name, sizeof(name), "20260101T000000.000Z-0123456789abcdef.%04u.jsonl",
		       number);
	(void)snprintf(path, sizeof(path), "%s/%s", place.logs, name);
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	for (unsigned i = 0; i < place.files; i++)
		if (strcmp(place.made[i], name) == 0)
			return;
	assert_true(place.files < 48);
	memcpy(place.made[place.files++], name, sizeof(name));
}

/* A try again; what takes so long never comes. */
static void again(unsigned *tries)
{
	assert_true(++*tries < 60000);
	(void)usleep(1000);
}

/* `count` lines of this kernel with `event`, numbered from `from`. */
static void put(unsigned number, const char *kernel, const char *event, unsigned from,
		unsigned count)
{
	char *text = calloc(count + 1, 256);
	size_t size = 0;

	assert_non_null(text);
	for (unsigned i = from; i < from + count; i++)
		size += (size_t)snprintf(text + size, 256,
					 "{\"seq\":%u,\"time\":\"T%u\",\"kernel\":\"%s\","
					 "\"user\":\"u\",\"event\":\"%s\",\"reason\":\"word-%u\","
					 "\"prev\":\"0\"}\n",
					 i, i, kernel, event, i);
	append(number, text);
	free(text);
}

struct found {
	json_t *answer, *lines;
	bool done;
};

static void take(void *arg, json_t *answer)
{
	struct found *found = arg;

	assert_false(found->done);
	*found = (struct found){answer, json_object_get(answer, "lines"), true};
}

static void ask(struct found *found, const char *kernel, bool blocked, const char *words,
		const char *since)
{
	const struct trail_wanted wanted = {kernel, "anna", blocked, words, since};

	*found = (struct found){0};
	assert_int_equal(trail_search(place.trail, &wanted, take, found), 0);
	assert_false(found->done);
}

static void wait_for(const struct found *found)
{
	while (!found->done)
		assert_int_equal(loop_once(place.loop, -1, NULL), 0);
}

static void look(struct found *found, const char *kernel, bool blocked, const char *words,
		 const char *since)
{
	ask(found, kernel, blocked, words, since);
	wait_for(found);
}

static json_int_t seq(const struct found *found, size_t place_of)
{
	return json_integer_value(json_object_get(json_array_get(found->lines, place_of), "seq"));
}

static void check(struct found *found, size_t count, json_int_t first, json_int_t last)
{
	assert_int_equal(json_array_size(found->lines), count);
	if (count > 0) {
		assert_int_equal(seq(found, 0), first);
		assert_int_equal(seq(found, count - 1), last);
	}
	json_decref(found->answer);
}

static void test_newest_lines(void **state)
{
	struct found found;
	unsigned tries = 0;

	(void)state;
	look(&found, "a", false, NULL, NULL); /* no log at all */
	check(&found, 0, 0, 0);
	put(1, "a", "cell", 1, 200);
	put(2, "b", "cell", 1, 50);
	put(3, "a", "cell", 201, 150);
	append(3, "{\"seq\":351,\"kernel\":\"a\",\"event\":\"torn");
	do { /* a new log is seen a moment later */
		again(&tries);
		look(&found, "a", false, NULL, NULL);
		if (json_array_size(found.lines) < TRAIL_LINES)
			json_decref(found.answer);
	} while (json_array_size(found.lines) < TRAIL_LINES);
	assert_null(json_object_get(json_array_get(found.lines, 0), "prev"));
	check(&found, TRAIL_LINES, 51, 350);
	look(&found, "b", false, NULL, NULL);
	check(&found, 50, 1, 50);
	look(&found, "nobody's", false, NULL, NULL);
	check(&found, 0, 0, 0);
	look(&found, "a", false, "WORD-34", NULL);
	check(&found, 11, 34, 349);
}

static void test_blocked_and_words(void **state)
{
	struct found found;

	(void)state;
	put(1, "a", "cell", 1, 10);
	put(1, "a", "blocked", 11, 3);
	/* Text that looks like one is none. */
	append(1, "{\"seq\":14,\"kernel\":\"a\",\"event\":\"cell\",\"x\":\"\\\"event\\\":"
		  "\\\"blocked\\\"\"}\n");
	append(1, "no JSON, \"event\":\"blocked\"\n");
	put(1, "a", "attempt", 15, 1);
	look(&found, "a", true, "", NULL);
	check(&found, 4, 11, 15);
	look(&found, "a", true, "word-12", NULL);
	check(&found, 1, 12, 12);
	look(&found, "a", false, "nothing-has-this", NULL);
	check(&found, 0, 0, 0);
}

static void test_what_is_newer(void **state)
{
	struct found found;
	unsigned tries = 0;
	char until[128];

	(void)state;
	put(1, "a", "cell", 1, 1000);
	look(&found, "a", false, NULL, NULL);
	(void)snprintf(until, sizeof(until), "%s",
		       json_string_value(json_object_get(found.answer, "until")));
	check(&found, TRAIL_LINES, 701, 1000);
	look(&found, "a", false, NULL, until);
	assert_string_equal(json_string_value(json_object_get(found.answer, "until")), until);
	check(&found, 0, 0, 0);
	append(1, "{\"seq\":1001,");
	look(&found, "a", false, NULL, until);
	check(&found, 0, 0, 0);
	append(1, "\"kernel\":\"a\",\"event\":\"cell\"}\n");
	look(&found, "a", false, NULL, until);
	check(&found, 1, 1001, 1001);
	put(2, "a", "cell", 1, 2);
	do {
		again(&tries);
		look(&found, "a", false, NULL, until);
		if (json_array_size(found.lines) < 3)
			json_decref(found.answer);
	} while (json_array_size(found.lines) < 3);
	check(&found, 3, 1001, 2);
	/* What is none means all. */
	for (size_t i = 0; i < 6; i++) {
		static const char name[] = "20260101T000000.000Z-0123456789abcdef.0002.jsonl";
		static const char *const wrong[] = {"", ":5", "../x:1", "x:99", NULL, NULL};
		char text[128];

		(void)snprintf(text, sizeof(text), "%s:%s", name, i == 4 ? "99999junk" : "");
		look(&found, "a", false, NULL, wrong[i] ? wrong[i] : text);
		check(&found, TRAIL_LINES, 704, 2);
	}
}

/* A proxy whose disk is full takes back what it could not write whole. */
static void test_what_was_cut_back(void **state)
{
	struct found found;
	size_t room = 100000;
	char path[160], until[128];
	const char *last;
	struct stat status;

	(void)state;
	put(1, "a", "refused", 1, 3);
	(void)snprintf(path, sizeof(path), "%s/%s", place.logs, place.made[0]);
	assert_int_equal(stat(path, &status), 0);
	put(1, "a", "refused", 4, 5);
	look(&found, "a", false, NULL, NULL);
	(void)snprintf(until, sizeof(until), "%s",
		       json_string_value(json_object_get(found.answer, "until")));
	check(&found, 8, 1, 8);
	assert_int_equal(trail_blocked(place.trail, "a", &room, &last), 8);
	assert_int_equal(truncate(path, status.st_size), 0);
	put(1, "a", "refused", 9, 1);
	look(&found, "a", false, NULL, until);
	assert_string_not_equal(json_string_value(json_object_get(found.answer, "until")), until);
	check(&found, 4, 1, 9);
	assert_int_equal(trail_blocked(place.trail, "a", &room, &last), 4);
	assert_true(room > 0);
	/* Nothing is left of it. */
	assert_int_equal(truncate(path, 0), 0);
	look(&found, "a", false, NULL, until);
	assert_string_equal(strrchr(json_string_value(json_object_get(found.answer, "until")), ':'),
			    ":0");
	check(&found, 0, 0, 0);
}

static void test_logs_that_cannot_be_read(void **state)
{
	struct found found;

	(void)state;
	put(1, "a", "cell", 1, 2);
	assert_int_equal(chmod(place.logs, 0777), 0); /* others could write them */
	look(&found, "a", false, NULL, NULL);
	assert_null(found.answer);
	assert_int_equal(chmod(place.logs, 0700), 0);
	look(&found, "a", false, NULL, NULL);
	check(&found, 2, 1, 2);
}

static void test_long_lines(void **state)
{
	char *text = malloc(LOGBOOK_LINE_MAX + 64);
	struct found found;

	(void)state;
	assert_non_null(text);
	put(1, "a", "cell", 1, 5);
	memset(text, 'x', LOGBOOK_LINE_MAX + 64);
	memcpy(text, "{\"seq\":6,\"event\":\"refused\",\"x\":\"", 32);
	memcpy(text + LOGBOOK_LINE_MAX - 4, "\"}\n", 4);
	append(1, text);
	put(1, "a", "cell", 7, 1000);
	look(&found, "a", false, "xxx", NULL);
	check(&found, 1, 6, 6);
	look(&found, "a", true, NULL, NULL);
	check(&found, 1, 6, 6);
	/* Nothing that is written is longer: what is before it is passed over, and nobody waits. */
	memset(text, 'x', LOGBOOK_LINE_MAX + 63);
	text[LOGBOOK_LINE_MAX + 62] = '\n';
	text[LOGBOOK_LINE_MAX + 63] = '\0';
	append(1, text);
	put(1, "a", "cell", 1007, 3);
	look(&found, "a", false, NULL, NULL);
	check(&found, 3, 1007, 1009);
	free(text);
}

struct other {
	int fd[2];
	unsigned turns;
	struct watch *watch;
};

static void count_turn(void *arg, unsigned events)
{
	struct other *other = arg;

	(void)events;
	other->turns++;
}

/* Something that is always ready, as a busy kernel of somebody else. */
static void begin_other(struct other *other)
{
	*other = (struct other){0};
	assert_int_equal(pipe2(other->fd, O_CLOEXEC), 0);
	assert_int_equal(write(other->fd[1], "", 1), 1);
	assert_int_equal(loop_watch(place.loop, other->fd[0], LOOP_READ, count_turn, other,
				    &other->watch, NULL),
			 0);
}

static void end_other(struct other *other)
{
	loop_unwatch(other->watch);
	close(other->fd[0]);
	close(other->fd[1]);
}

static void test_a_long_search_lets_others_go_on(void **state)
{
	struct found rare, soon;
	struct other other;
	struct stat status;
	char path[160];

	(void)state;
	put(1, "short", "cell", 1, 3);
	put(2, "noisy", "cell", 1, 40000);
	(void)snprintf(path, sizeof(path), "%s/%s", place.logs, place.made[1]);
	assert_int_equal(stat(path, &status), 0);
	begin_other(&other);
	ask(&rare, "noisy", false, "nothing-has-this", NULL);
	ask(&soon, "short", false, NULL, NULL);
	wait_for(&soon);
	assert_false(rare.done); /* it began first, and has long to go */
	check(&soon, 3, 1, 3);
	wait_for(&rare);
	check(&rare, 0, 0, 0);
	assert_true(other.turns >= status.st_size / TRAIL_TURN);
	end_other(&other);
}

static void test_count(void **state)
{
	const char *last;
	size_t room = 0;
	unsigned tries = 0;

	(void)state;
	put(1, "a", "cell", 1, 3000);
	put(1, "a", "refused", 3001, 5);
	put(2, "b", "refused", 1, 7);
	/* Nothing is read at once, and all of it later. */
	assert_int_equal(trail_blocked(place.trail, "a", &room, &last), 0);
	assert_string_equal(last, "");
	while (trail_blocked(place.trail, "a", &room, &last) < 5) {
		again(&tries);
		assert_int_equal(loop_once(place.loop, 0, NULL), 0);
	}
	assert_int_equal(trail_blocked(place.trail, "a", &room, &last), 5);
	assert_string_equal(last, "T3005");
	/* A short log is read while who asks waits for it. */
	room = 100000;
	assert_int_equal(trail_blocked(place.trail, "b", &room, &last), 7);
	assert_true(room > 0 && room < 100000);
	put(2, "b", "blocked", 8, 1);
	assert_int_equal(trail_blocked(place.trail, "b", &room, &last), 8);
	assert_string_equal(last, "T8");
	/* The next log of the same kernel adds to it. */
	put(3, "b", "skipped", 1, 2);
	while (trail_blocked(place.trail, "b", &room, &last) < 10) {
		again(&tries);
		room = 100000;
	}
	assert_string_equal(last, "T2");
	assert_int_equal(trail_blocked(place.trail, "nobody's", &room, &last), 0);
	assert_string_equal(last, "");
}

/* More logs of one kernel than are opened at once, and older ones that are known last. */
static void test_count_of_many_logs(void **state)
{
	const char *last;
	size_t room = 100000;
	unsigned tries = 0;

	(void)state;
	for (unsigned i = 1; i <= 40; i++)
		put(i, "a", "refused", i, 1);
	assert_true(trail_blocked(place.trail, "a", &room, &last) < 40);
	assert_int_equal(room, 0); /* first lines cost as well */
	while (trail_blocked(place.trail, "a", &room, &last) < 40) {
		again(&tries);
		assert_int_equal(loop_once(place.loop, 0, NULL), 0);
	}
	assert_string_equal(last, "T40");
	/* So does a look at what has nothing new. */
	room = 100000;
	assert_int_equal(trail_blocked(place.trail, "a", &room, &last), 40);
	assert_true(room < 100000);
}

/* However many have come since. */
static void test_a_log_that_begins_late(void **state)
{
	struct found found;
	unsigned tries = 0;

	(void)state;
	append(1, "");
	append(2, "{\"kernel\":\"late\",");
	for (unsigned i = 3; i <= 40; i++)
		put(i, "other", "cell", i, 1);
	look(&found, "late", false, NULL, NULL);
	check(&found, 0, 0, 0);
	put(1, "late", "cell", 1, 1);
	append(2, "\"seq\":2,\"event\":\"cell\"}\n");
	put(41, "other", "cell", 41, 1); /* the directory has changed */
	do {
		again(&tries);
		look(&found, "late", false, NULL, NULL);
		if (json_array_size(found.lines) < 2)
			json_decref(found.answer);
	} while (json_array_size(found.lines) < 2);
	check(&found, 2, 1, 2);
}

static void test_limits(void **state)
{
	struct found found[TRAIL_SEARCHES + 2];
	struct trail_wanted wanted = {"a", "anna", false, "nothing-has-this", NULL};

	(void)state;
	put(1, "a", "cell", 1, 2000);
	for (unsigned i = 0; i < TRAIL_SEARCHES; i++)
		ask(&found[i], "a", false, "nothing-has-this", NULL);
	assert_int_equal(trail_search(place.trail, &wanted, take, NULL), -EDQUOT);
	wanted.user = "ben";
	found[TRAIL_SEARCHES] = (struct found){0};
	assert_int_equal(trail_search(place.trail, &wanted, take, &found[TRAIL_SEARCHES]), 0);
	trail_stop(place.trail, &found[0]);
	wanted.user = "anna"; /* who waits for one no longer may ask anew */
	found[TRAIL_SEARCHES + 1] = (struct found){0};
	assert_int_equal(trail_search(place.trail, &wanted, take, &found[TRAIL_SEARCHES + 1]), 0);
	wait_for(&found[0]);
	check(&found[0], 0, 0, 0);
	/* With the server all end. */
	place.trail = trail_free(place.trail);
	for (unsigned i = 0; i < TRAIL_SEARCHES + 2; i++) {
		assert_true(found[i].done);
		if (i > 0 && found[i].answer)
			json_decref(found[i].answer);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_newest_lines, begin, end),
		cmocka_unit_test_setup_teardown(test_blocked_and_words, begin, end),
		cmocka_unit_test_setup_teardown(test_what_is_newer, begin, end),
		cmocka_unit_test_setup_teardown(test_what_was_cut_back, begin, end),
		cmocka_unit_test_setup_teardown(test_logs_that_cannot_be_read, begin, end),
		cmocka_unit_test_setup_teardown(test_long_lines, begin, end),
		cmocka_unit_test_setup_teardown(test_a_long_search_lets_others_go_on, begin, end),
		cmocka_unit_test_setup_teardown(test_count, begin, end),
		cmocka_unit_test_setup_teardown(test_count_of_many_logs, begin, end),
		cmocka_unit_test_setup_teardown(test_a_log_that_begins_late, begin, end),
		cmocka_unit_test_setup_teardown(test_limits, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
