#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/audit.h"
#include "proxy/limits.h"
#include "proxy/logbook.h"

#define MIB (1024u * 1024)

struct world {
	char state[64];
	char *path;
	int directory;
};

static const struct audit_rules usual = {.keep = 256u * MIB};

static int begin(void **state)
{
	static struct world world;

	(void)snprintf(world.state, sizeof(world.state), "/tmp/cwaudit-XXXXXX");
	assert_non_null(mkdtemp(world.state));
	assert_int_equal(setenv("XDG_STATE_HOME", world.state, 1), 0);
	assert_int_equal(logbook_path(&world.path, NULL), 0);
	world.directory = logbook_open(world.path, true, NULL);
	assert_true(world.directory >= 0);
	*state = &world;
	return 0;
}

static int end(void **state)
{
	struct world *world = *state;
	char command[128];

	close(world->directory);
	free(world->path);
	(void)snprintf(command, sizeof(command), "%s/cellwall/log", world->state);
	struct logbook_list list;
	int directory = open(command, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (directory >= 0 && logbook_list(directory, &list, NULL) == 0) {
		for (size_t i = 0; i < list.count; i++)
			(void)unlinkat(directory, list.file[i].name, 0);
		logbook_list_done(&list);
		close(directory);
	}
	(void)rmdir(command);
	*strrchr(command, '/') = '\0';
	(void)rmdir(command);
	(void)rmdir(world->state);
	return 0;
}

static struct audit *open_log(const struct audit_rules *rules)
{
	struct audit *audit = NULL;
	struct err err = {0};

	usleep(2000); /* names are in the order of milliseconds */
	if (audit_open("/x/kernel-0a1b.json", rules, &audit, &err) < 0)
		fail_msg("%s", err.text);
	return audit;
}

/* The newest file's name. */
static void newest(const struct world *world, char name[LOGBOOK_NAME])
{
	struct logbook_list list;

	assert_int_equal(logbook_list(world->directory, &list, NULL), 0);
	assert_true(list.count > 0);
	(void)snprintf(name, LOGBOOK_NAME, "%s", list.file[list.count - 1].name);
	logbook_list_done(&list);
}

static struct logbook_check check(const struct world *world, const char *name)
{
	struct logbook_check found;

	assert_int_equal(logbook_check(world->directory, name, NULL, NULL, &found, NULL), 0);
	return found;
}

static char *slurp(const struct world *world, const char *name)
{
	static char *text;
	size_t size;

	assert_int_equal(read_file(world->directory, name, 64 * MIB, &text, &size, NULL), 0);
	return text;
}

static void rewrite(const struct world *world, const char *name, const char *text)
{
	int fd = openat(world->directory, name, O_WRONLY | O_TRUNC | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write_full(fd, text, strlen(text)), 0);
	close(fd);
}

/* Three notes between begin and end. */
static void write_one(const struct world *world, char name[LOGBOOK_NAME])
{
	struct audit *audit = open_log(&usual);

	newest(world, name);
	audit_note(audit, "blocked", "iopub", "display_data", 396, "text/html", "scripts");
	audit_note(audit, "blocked", "iopub", "display_data", 397, "text/html", "scripts");
	audit_note(audit, "refused", NULL, NULL, 0, NULL,
		   "\x1b]0;x\a \xff \"quoted\"\n\xe2\x80\xae");
	assert_int_equal(audit_close(audit, NULL), 0);
}

static void a_log_is_whole_and_private(void **state)
{
	const struct world *world = *state;
	struct logbook_check found;
	struct stat status;
	char name[LOGBOOK_NAME];
	char *text;

	write_one(world, name);
	found = check(world, name);
	assert_int_equal(found.wrong, 0);
	assert_int_equal(found.lines, 5);
	assert_true(found.ended);
	assert_false(found.in_use);
	assert_int_equal(fstatat(world->directory, name, &status, 0), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(fstat(world->directory, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	text = slurp(world, name);
	for (const char *at = text; *at; at++)
		assert_true(*at == '\n' || (*at >= 0x20 && *at < 0x7f));
	assert_non_null(strstr(text, "\"size\":396"));
	assert_non_null(strstr(text, "\"kernel\":\"0a1b\""));
	free(text);
}

static void what_is_changed_shows(void **state)
{
	const struct world *world = *state;
	char name[LOGBOOK_NAME], *text, *line[6], *copy;
	const char *at;

	write_one(world, name);
	text = slurp(world, name);
	copy = strdup(text);
	at = text;
	for (size_t i = 0; i < 5; i++) {
		line[i] = strndup(at, strcspn(at, "\n"));
		at += strlen(line[i]) + 1;
	}
	/* a changed one */
	memcpy(strstr(copy, ":396"), ":496", 4);
	rewrite(world, name, copy);
	assert_int_equal(check(world, name).wrong, 3);
	free(copy);
	/* a removed one, two exchanged, the first removed */
	copy = format_string("%s\n%s\n%s\n%s\n", line[0], line[1], line[3], line[4]);
	rewrite(world, name, copy);
	assert_int_equal(check(world, name).wrong, 3);
	free(copy);
	copy = format_string("%s\n%s\n%s\n%s\n%s\n", line[0], line[2], line[1], line[3], line[4]);
	rewrite(world, name, copy);
	assert_int_equal(check(world, name).wrong, 2);
	free(copy);
	rewrite(world, name, strchr(text, '\n') + 1);
	assert_int_equal(check(world, name).wrong, 1);
	/* something added behind the end */
	copy = format_string("%s%s\n", text, line[4]);
	rewrite(world, name, copy);
	assert_int_equal(check(world, name).wrong, 6);
	free(copy);
	/* the last line cut off: whole, but without its end */
	copy = format_string("%s\n%s\n%s\n%s\n", line[0], line[1], line[2], line[3]);
	rewrite(world, name, copy);
	assert_int_equal(check(world, name).wrong, 0);
	assert_false(check(world, name).ended);
	free(copy);
	for (size_t i = 0; i < 5; i++)
		free(line[i]);
	free(text);
}

/* As SIGKILL leaves it: half a line at the end. The next log has the hash of the last whole one. */
static void the_next_goes_on_behind_a_torn_line(void **state)
{
	const struct world *world = *state;
	struct logbook_check first, second;
	char name[LOGBOOK_NAME], next[LOGBOOK_NAME], *text;

	write_one(world, name);
	text = slurp(world, name);
	text[strlen(text) - 20] = '\0';
	rewrite(world, name, text);
	free(text);
	first = check(world, name);
	assert_int_equal(first.wrong, 0);
	assert_int_equal(first.lines, 4);
	assert_true(first.torn > 0);
	write_one(world, next);
	second = check(world, next);
	assert_string_equal(second.after, name);
	assert_string_equal(second.prev, first.head);
	assert_int_equal(logbook_has(world->directory, name, second.prev, NULL), 1);
	/* cutting the older one further back shows in the newer one */
	text = slurp(world, name);
	*(strchr(text, '\n') + 1) = '\0';
	rewrite(world, name, text);
	free(text);
	assert_int_equal(logbook_has(world->directory, name, second.prev, NULL), 0);
}

static void a_running_one_is_told(void **state)
{
	const struct world *world = *state;
	struct audit *audit = open_log(&usual);
	char name[LOGBOOK_NAME];

	newest(world, name);
	assert_true(check(world, name).in_use);
	assert_int_equal(audit_close(audit, NULL), 0);
	assert_false(check(world, name).in_use);
}

/* A limit on file size stands for a full disk: a part of the line fits. */
static void a_full_disk_loses_lines_not_the_chain(void **state)
{
	const struct world *world = *state;
	struct rlimit before, small;
	struct logbook_check found;
	struct audit *audit = open_log(&usual);
	struct stat status;
	char name[LOGBOOK_NAME], *text;

	newest(world, name);
	assert_int_equal(fstatat(world->directory, name, &status, 0), 0);
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = (struct rlimit){(rlim_t)status.st_size + 100, before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	for (int i = 0; i < 3; i++) {
		audit_note(audit, "blocked", NULL, NULL, 0, NULL, "while it is full");
		assert_int_equal(audit_flush(audit, NULL), -EFBIG);
	}
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	audit_note(audit, "blocked", NULL, NULL, 0, NULL, "there is room again");
	assert_int_equal(audit_flush(audit, NULL), 0);
	assert_int_equal(audit_close(audit, NULL), 0);
	found = check(world, name);
	assert_int_equal(found.wrong, 0);
	assert_true(found.ended);
	text = slurp(world, name);
	assert_null(strstr(text, "while it is full"));
	assert_non_null(strstr(text, "\"event\":\"lost\",\"lines\":3"));
	assert_non_null(strstr(text, "there is room again"));
	free(text);
}

static void a_flood_is_counted(void **state)
{
	const struct world *world = *state;
	struct audit *audit = open_log(&usual);
	struct logbook_check found;
	char name[LOGBOOK_NAME], *text;

	newest(world, name);
	for (int i = 0; i < 20000; i++)
		audit_note(audit, "blocked", "iopub", "display_data", 1, NULL, "again");
	assert_int_equal(audit_close(audit, NULL), 0);
	found = check(world, name);
	assert_int_equal(found.wrong, 0);
	assert_true(found.lines < 2000);
	text = slurp(world, name);
	assert_non_null(strstr(text, "\"blocked\":20000"));
	assert_non_null(strstr(text, "\"skipped\":"));
	free(text);
}

/* Of one launch the first and the newest files are kept, of all what rules->keep allows. */
static void files_are_limited(void **state)
{
	const struct world *world = *state;
	const struct audit_rules rules = {.messages = true, .keep = MIB};
	struct audit *audit = open_log(&rules);
	struct logbook_list list;
	struct logbook_check found;
	char before[LOGBOOK_NAME], first[LOGBOOK_NAME];
	char filler[] = "{\"text\": \"x\"}";
	struct iovec content = {filler, sizeof(filler) - 1};
	uint64_t total = 0;

	newest(world, first);
	for (int i = 0; i < 20000; i++) {
		audit_message(audit, false, "iopub", "stream", content);
		assert_int_equal(audit_flush(audit, NULL), 0);
	}
	assert_int_equal(audit_close(audit, NULL), 0);
	assert_int_equal(logbook_list(world->directory, &list, NULL), 0);
	assert_in_range(list.count, 3, AUDIT_SEGMENTS + 1);
	assert_string_equal(list.file[0].name, first);
	for (size_t i = 0; i < list.count; i++) {
		found = check(world, list.file[i].name);
		assert_int_equal(found.wrong, 0);
		assert_true(found.ended);
		if (i > 1)
			assert_string_equal(found.after, before);
		(void)snprintf(before, sizeof(before), "%s", list.file[i].name);
		total += list.file[i].size;
	}
	assert_true(total < MIB);
	logbook_list_done(&list);
	/* other kernels: the oldest go */
	for (int i = 0; i < 4; i++) {
		audit = open_log(&rules);
		for (int j = 0; j < 1500; j++) {
			audit_message(audit, false, "iopub", "stream", content);
			assert_int_equal(audit_flush(audit, NULL), 0);
		}
		assert_int_equal(audit_close(audit, NULL), 0);
	}
	assert_int_equal(logbook_list(world->directory, &list, NULL), 0);
	total = 0;
	for (size_t i = 0; i < list.count; i++)
		total += list.file[i].size;
	assert_true(total < MIB + 2 * AUDIT_SEGMENT_LEAST);
	assert_string_not_equal(list.file[0].name, first);
	logbook_list_done(&list);
}

static void cells_are_hashes_unless_asked(void **state)
{
	const struct world *world = *state;
	struct audit_rules rules = usual;
	char request[] = "{\"code\": \"print('a secret')\", \"silent\": false}";
	char broken[] = "{\"code\": \"\\ud800 a secret\"}";
	char name[LOGBOOK_NAME], *text;
	struct audit *audit = open_log(&rules);

	newest(world, name);
	audit_cell(audit, (struct iovec){request, strlen(request)});
	audit_cell(audit, (struct iovec){broken, strlen(broken)});
	assert_int_equal(audit_close(audit, NULL), 0);
	text = slurp(world, name);
	assert_null(strstr(text, "secret"));
	/* sha256sum of print('a secret') */
	assert_non_null(
		strstr(text, "710fd7157367ff489c2397af78d1f351a1e4ba172b82cebc2e515a1468b52c15"));
	free(text);
	rules.content = true;
	audit = open_log(&rules);
	newest(world, name);
	audit_cell(audit, (struct iovec){request, strlen(request)});
	assert_int_equal(audit_close(audit, NULL), 0);
	text = slurp(world, name);
	assert_non_null(strstr(text, "\"content\":\"print('a secret')\""));
	free(text);
}

/* Lines of any length stay whole: half a megabyte of what must be escaped. */
static void long_content_is_cut(void **state)
{
	const struct world *world = *state;
	const struct audit_rules rules = {.content = true, .messages = true, .keep = 256u * MIB};
	const size_t size = 512 * 1024;
	char *much = malloc(size);
	struct audit *audit = open_log(&rules);
	struct logbook_check found;
	char name[LOGBOOK_NAME];

	newest(world, name);
	assert_non_null(much);
	memset(much, 0x01, size);
	for (int i = 0; i < 20; i++)
		audit_message(audit, i % 2, "iopub", "stream", (struct iovec){much, size});
	memset(much, 0xff, size);
	for (int i = 0; i < 20; i++)
		audit_message(audit, i % 2, "iopub", "stream", (struct iovec){much, size});
	assert_int_equal(audit_close(audit, NULL), 0);
	found = check(world, name);
	assert_int_equal(found.wrong, 0);
	assert_int_equal(found.lines, 42);
	free(much);
}

static void without_a_log_nothing_happens(void **state)
{
	(void)state;
	audit_note(NULL, "x", NULL, NULL, 0, NULL, NULL);
	audit_cell(NULL, (struct iovec){NULL, 0});
	assert_int_equal(audit_flush(NULL, NULL), 0);
	assert_int_equal(audit_close(NULL, NULL), 0);
	assert_false(audit_required(NULL));
	assert_null(audit_directory(NULL));
}

static void a_directory_of_others_is_refused(void **state)
{
	const struct world *world = *state;
	struct audit *audit = NULL;
	struct err err;

	assert_int_equal(fchmod(world->directory, 0777), 0);
	assert_int_equal(audit_open("k.json", &usual, &audit, &err), -EPERM);
	assert_int_equal(fchmod(world->directory, 0700), 0);
}

static void names_of_logs(void **state)
{
	(void)state;
	assert_true(logbook_is_name("20261122T080201.042Z-0123456789abcdef.0001.jsonl"));
	assert_false(logbook_is_name("20261122T080201.042Z-0123456789abcdef.0001.json"));
	assert_false(logbook_is_name("20261122T080201.042Z-0123456789abcdeg.0001.jsonl"));
	assert_false(logbook_is_name("../../../../../../../../../etc/passwd....jsonl"));
	assert_false(logbook_is_name(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_log_is_whole_and_private, begin, end),
		cmocka_unit_test_setup_teardown(what_is_changed_shows, begin, end),
		cmocka_unit_test_setup_teardown(the_next_goes_on_behind_a_torn_line, begin, end),
		cmocka_unit_test_setup_teardown(a_running_one_is_told, begin, end),
		cmocka_unit_test_setup_teardown(a_full_disk_loses_lines_not_the_chain, begin, end),
		cmocka_unit_test_setup_teardown(a_flood_is_counted, begin, end),
		cmocka_unit_test_setup_teardown(files_are_limited, begin, end),
		cmocka_unit_test_setup_teardown(cells_are_hashes_unless_asked, begin, end),
		cmocka_unit_test_setup_teardown(long_content_is_cut, begin, end),
		cmocka_unit_test(without_a_log_nothing_happens),
		cmocka_unit_test_setup_teardown(a_directory_of_others_is_refused, begin, end),
		cmocka_unit_test(names_of_logs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
