#include "tests/unit/kernelspec/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "kernelspec/inputs.h"
#include "kernelspec/record.h"

/* Takes the place of libc's: a file system without locks, as NFS without a lock daemon. */
static int lock_error;

int flock(int fd, int operation)
{
	if (lock_error) {
		errno = lock_error;
		return -1;
	}
	return (int)syscall(SYS_flock, fd, operation);
}

static const char *folder(void)
{
	return at("home/project");
}

static int setup(void **state)
{
	int r = tree_setup(state);

	lock_error = 0;
	make_dir("home/project/data/2026");
	make_file("home/project/utils.py", 0644, "x = 1\n");
	make_dir("big/set");
	return r == 0 ? chdir(folder()) : r;
}

static int teardown(void **state)
{
	return chdir("/") == 0 ? tree_teardown(state) : -1;
}

#define inputs_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* ---- what is taken ---- */

/* A word of a table; "@name" is in the tree. */
static int parse(const char *text, struct input *input, struct err *err)
{
	return inputs_parse(folder(), text[0] == '@' ? at(text + 1) : text, input, err);
}

static void takes_paths_and_names(void **state)
{
	struct {
		const char *text, *name, *source, *real;
	} cases[] = {
		{"data", "data", NULL, "home/project/data"},
		{"./data//2026/", "data/2026", NULL, "home/project/data/2026"},
		{"data/../utils.py", "utils.py", NULL, "home/project/utils.py"},
		{"@home/project/utils.py", "utils.py", NULL, "home/project/utils.py"},
		{"../project/data", "data", NULL, "home/project/data"},
		{"../../big/set", "set", "big/set", "big/set"},
		{"link", "link", NULL, "big/set"},
		{"odd=x", "odd=x", NULL, "home/project/odd=x"},
	};
	struct input input;
	struct err err;

	(void)state;
	make_link("home/project/link", at("big/set"));
	make_file("home/project/odd=x", 0644, "");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (parse(cases[i].text, &input, &err) < 0)
			fail_msg("%s: %s", cases[i].text, err.text);
		assert_string_equal(input.name, cases[i].name);
		assert_string_equal(input.real, at(cases[i].real));
		if (cases[i].source)
			assert_string_equal(input.source, at(cases[i].source));
		else
			assert_null(input.source);
		input_done(&input);
	}
}

static void takes_a_name_for_an_absolute_path(void **state)
{
	char text[TREE_PATH];
	struct input input;
	struct err err;

	(void)state;
	print_to(text, "in/set=%s", at("big/set"));
	assert_int_equal(inputs_parse(folder(), text, &input, &err), 0);
	assert_string_equal(input.name, "in/set");
	assert_string_equal(input.source, at("big/set"));
	input_done(&input);
}

static void all_is_the_folder(void **state)
{
	const char *const texts[] = {".", "./", "../project", "@home/project", "data/.."};
	struct input input;
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_int_equal(parse(texts[i], &input, &err), 0);
		assert_string_equal(input.name, INPUTS_ALL);
		assert_null(input.source);
		input_done(&input);
	}
}

/* A folder that is the home, holds it, or is "/". */
static void all_of_the_home_is_refused(void **state)
{
	const char *const folders[] = {"home", ""};
	struct input input;
	struct err err;
	char place[TREE_PATH];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		print_to(place, "%s%s%s", tree, *folders[i] ? "/" : "", folders[i]);
		assert_int_equal(chdir(place), 0);
		assert_int_equal(inputs_parse(place, ".", &input, &err), -EACCES);
		assert_non_null(strstr(err.text, "home"));
	}
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(inputs_parse("/", ".", &input, &err), -EACCES);
	/* A name in it is no matter. */
	assert_int_equal(chdir(at("home")), 0);
	assert_int_equal(inputs_parse(at("home"), "project", &input, &err), 0);
	assert_string_equal(input.name, "project");
	input_done(&input);
}

static void refuses_with_words(void **state)
{
	const struct {
		const char *text;
		int code;
		const char *words;
	} cases[] = {
		{"", -EINVAL, "empty"},
		{"nothing", -ENOENT, "not there"},
		{"no/where", -ENOENT, "not there"},
		{"/", -EACCES, "home"},
		{"..", -EACCES, "home"},
		{"@home", -EACCES, "home"},
		{"/proc", -EACCES, "system"},
		{"/proc/self", -EACCES, "system"},
		{"/dev", -EACCES, "system"},
		{"x=/run", -EACCES, "system"},
		{"proc", -EACCES, "system"},
		{"keys", -EACCES, "hidden place"},
		{"loop", -ELOOP, "symbolic links"},
		{"staging", -EINVAL, "belongs to cellwall"},
		{"staging/in", -EINVAL, "always staged"},
		{"staging/in/x", -EINVAL, "always staged"},
		{"staging/out", -EINVAL, "belongs to cellwall"},
		{"../x=/usr", -EINVAL, "plain"},
		{"a/../b=/usr", -EINVAL, "plain"},
		{"staging/out/x=/usr", -EINVAL, "belongs to cellwall"},
		{".cellwall-history.sqlite=/usr", -EINVAL, "taken"},
	};
	struct input input;
	struct err err;

	(void)state;
	make_dir("home/.ssh");
	make_dir("home/project/staging/in/x");
	make_dir("home/project/staging/out");
	make_link("home/project/keys", at("home/.ssh"));
	make_link("home/project/proc", "/proc/self");
	make_link("home/project/loop", "loop");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int r = parse(cases[i].text, &input, &err);

		if (r != cases[i].code || !strstr(err.text, cases[i].words))
			fail_msg("%s: %d %s", cases[i].text, r, r < 0 ? err.text : "");
	}
	/* By its own path it is meant. */
	assert_int_equal(inputs_parse(folder(), at("home/.ssh"), &input, &err), 0);
	input_done(&input);
}

/* What holds the folder holds everything beside the notebook. */
static void refuses_what_holds_the_folder(void **state)
{
	struct input input;
	struct err err;

	(void)state;
	make_dir("course/week/one");
	make_link("course/week/one/up", "..");
	assert_int_equal(chdir(at("course/week/one")), 0);
	assert_int_equal(inputs_parse(at("course/week/one"), "../..", &input, &err), -EACCES);
	assert_non_null(strstr(err.text, "holds the notebook's folder"));
	assert_int_equal(inputs_parse(at("course/week/one"), "up", &input, &err), -EACCES);
}

static void a_link_of_staging_must_lead_out_to_be_agreed_to(void **state)
{
	struct input input;
	struct err err;

	(void)state;
	make_link("home/project/staging", at("big/set"));
	assert_int_equal(inputs_parse(folder(), "staging", &input, &err), 0);
	assert_string_equal(input.name, "staging");
	assert_string_equal(input.real, at("big/set"));
	input_done(&input);
}

/* What was agreed to is where it led then. */
static void a_link_that_leads_elsewhere_is_not_followed(void **state)
{
	char *real = NULL;
	struct input input;
	struct err err;

	(void)state;
	make_dir("big/other");
	make_link("home/project/link", at("big/set"));
	assert_int_equal(inputs_parse(folder(), "link", &input, &err), 0);
	assert_int_equal(inputs_resolve(folder(), &input, &real, &err), 0);
	free(real);
	make_link("home/project/link", at("big/other"));
	assert_int_equal(inputs_resolve(folder(), &input, &real, &err), -ESTALE);
	assert_non_null(strstr(err.text, "big/other"));
	make_link("home/project/link", "data"); /* in the folder it may lead anywhere */
	assert_int_equal(inputs_resolve(folder(), &input, &real, &err), 0);
	assert_string_equal(real, at("home/project/data"));
	free(real);
	input_done(&input);
}

static int note_entry(void *arg, const char *name)
{
	char *text = arg;

	print_to(text + strlen(text), "%s ", name);
	return 0;
}

static void entries_are_what_is_not_hidden(void **state)
{
	char text[2 * TREE_PATH] = "";
	struct err err;

	(void)state;
	make_file("home/project/.env", 0600, "SECRET=1");
	make_dir("home/project/staging/out");
	make_dir("home/project/.git");
	assert_int_equal(inputs_entries(folder(), note_entry, text, &err), 0);
	assert_string_equal(text, "data utils.py ");
	for (int i = 0; i < INPUTS_ENTRIES_MAX; i++) {
		char name[TREE_PATH];

		print_to(name, "home/project/f%d", i);
		make_file(name, 0644, "");
	}
	assert_int_equal(inputs_entries(folder(), note_entry, text, &err), -E2BIG);
}

/* ---- the record ---- */

static int add(void *arg, struct inputs *inputs, struct err *err)
{
	struct input input = {.name = strdup(arg), .real = path_join(folder(), arg)};

	(void)err;
	assert_int_equal(inputs_put(inputs, &input), 0);
	return 1;
}

static int drop(void *arg, struct inputs *inputs, struct err *err)
{
	if (!inputs_remove(inputs, arg))
		return err_set(err, -ENOENT, "not there");
	return 1;
}

static char *record_place(const char *name)
{
	cleanup(free_ptr) char *directory = NULL;

	assert_int_equal(inputs_directory(folder(), false, &directory, NULL), 0);
	return path_join(directory, name);
}

static size_t count(void)
{
	struct inputs inputs;
	struct err err;
	size_t found;

	if (inputs_read(folder(), &inputs, &err) < 0)
		fail_msg("%s", err.text);
	found = inputs.count;
	inputs_done(&inputs);
	return found;
}

static void is_written_and_read_again(void **state)
{
	static char odd[] = "n\new \xff%41\x1b[31m\xc3\xa9";
	cleanup(free_ptr) char *file = record_place("inputs.json");
	cleanup(free_ptr) char *directory = paths_parent(file);
	struct inputs inputs;
	struct stat status;
	struct err err;

	(void)state;
	assert_int_equal(count(), 0);
	assert_int_equal(access(at("home/.local"), F_OK), -1); /* reading makes nothing */
	assert_int_equal(inputs_change(folder(), add, odd, &err), 1);
	assert_int_equal(inputs_change(folder(), add, (char[]){"data"}, &err), 1);
	assert_int_equal(inputs_change(folder(), add, (char[]){"data"}, &err), 1); /* once */
	assert_int_equal(inputs_read(folder(), &inputs, &err), 0);
	assert_int_equal(inputs.count, 2);
	assert_string_equal(inputs.items[0].name, odd);
	assert_string_equal(inputs.items[1].name, "data");
	inputs_done(&inputs);
	assert_int_equal(stat(file, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(stat(directory, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	assert_false(paths_exists(folder(), ".cellwall"));
}

static void nothing_left_leaves_nothing(void **state)
{
	cleanup(free_ptr) char *file = record_place("inputs.json");
	cleanup(free_ptr) char *directory = paths_parent(file);
	struct err err;

	(void)state;
	assert_int_equal(inputs_change(folder(), drop, (char[]){"data"}, &err), -ENOENT);
	assert_int_equal(access(directory, F_OK), -1);
	assert_int_equal(inputs_change(folder(), add, (char[]){"data"}, &err), 1);
	assert_int_equal(inputs_change(folder(), drop, (char[]){"x"}, &err), -ENOENT);
	assert_int_equal(count(), 1);
	assert_int_equal(inputs_change(folder(), drop, (char[]){"data"}, &err), 1);
	assert_int_equal(access(directory, F_OK), -1);
}

/* It belongs to the path. */
static void a_folder_that_was_moved_has_none(void **state)
{
	char before[TREE_PATH];
	struct inputs inputs;
	struct err err;

	(void)state;
	print_to(before, "%s", folder());
	assert_int_equal(inputs_change(folder(), add, (char[]){"data"}, &err), 1);
	assert_int_equal(rename(before, at("home/moved")), 0);
	assert_int_equal(inputs_read(at("home/moved"), &inputs, &err), 0);
	assert_int_equal(inputs.count, 0);
	assert_int_equal(count(), 1); /* whoever comes back to that path has it again */
}

static void what_others_can_write_is_not_read(void **state)
{
	cleanup(free_ptr) char *file = record_place("inputs.json");
	cleanup(free_ptr) char *directory = paths_parent(file);
	struct inputs inputs;
	struct err err;

	(void)state;
	assert_int_equal(inputs_change(folder(), add, (char[]){"data"}, &err), 1);
	assert_int_equal(chmod(file, 0620), 0);
	assert_int_equal(inputs_read(folder(), &inputs, &err), -EPERM);
	assert_non_null(strstr(err.text, "written by others"));
	assert_int_equal(chmod(file, 0600), 0);
	assert_int_equal(chmod(directory, 0702), 0);
	assert_int_equal(inputs_read(folder(), &inputs, &err), -EPERM);
	assert_int_equal(inputs_change(folder(), add, (char[]){"x"}, &err), -EPERM);
	assert_int_equal(chmod(directory, 0700), 0);
	assert_int_equal(count(), 1);
	if (geteuid() == 0) {
		assert_int_equal(chown(file, 12345, 0), 0);
		assert_int_equal(inputs_read(folder(), &inputs, &err), -EPERM);
		assert_non_null(strstr(err.text, "belongs to uid 12345"));
	}
}

static void what_is_damaged_says_so(void **state)
{
	static const char *const texts[] = {
		"",
		"{",
		"[]",
		"{\"version\": 2, \"folder\": \"/x\", \"inputs\": []}",
		"{\"version\": 1, \"inputs\": []}",
		"{\"version\": 1, \"folder\": \"/x%\", \"inputs\": []}",
		"{\"version\": 1, \"folder\": \"/x%00\", \"inputs\": []}",
		"{\"version\": 1, \"folder\": \"/x\", \"inputs\": [{\"name\": \"a\"}]}",
		"{\"version\": 1, \"folder\": \"/x\", \"inputs\": [{\"name\": \"../a\", \"real\": "
		"\"/a\"}]}",
		"{\"version\": 1, \"folder\": \"/x\", \"inputs\": [{\"name\": \"a\", \"real\": "
		"\"a\"}]}",
		"{\"version\": 1, \"folder\": \"/x\", \"inputs\": [{\"name\": \".\", \"real\": "
		"\"/a\", \"source\": \"/a\"}]}",
		"{\"version\": 1, \"folder\": \"/x\", \"inputs\": [7]}",
	};
	cleanup(free_ptr) char *file = record_place("inputs.json");
	struct inputs inputs;
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		make_file(file + strlen(tree) + 1, 0600, texts[i]);
		assert_int_equal(inputs_read(folder(), &inputs, &err), -EINVAL);
		assert_non_null(strstr(err.text, "is damaged (remove it)"));
		/* and it is not written over */
		assert_int_equal(inputs_change(folder(), add, (char[]){"x"}, &err), -EINVAL);
	}
	make_file(file + strlen(tree) + 1, 0600,
		  "{\"version\": 1, \"folder\": \"/x\", \"inputs\": []}");
	assert_int_equal(inputs_read(folder(), &inputs, &err), -EINVAL);
	assert_non_null(strstr(err.text, "another folder"));
	unlink(file);
	assert_int_equal(mkfifo(file, 0600), 0); /* must not wait for a writer */
	assert_int_equal(inputs_read(folder(), &inputs, &err), -EINVAL);
	unlink(file);
	make_link(file + strlen(tree) + 1, at("elsewhere"));
	assert_int_equal(inputs_read(folder(), &inputs, &err), -ELOOP);
}

/* Twenty at once, each of which adds and some of which make the directory go away. */
static void changes_at_the_same_time_are_all_there(void **state)
{
	enum { WRITERS = 20 };
	pid_t children[WRITERS];
	int status;

	(void)state;
	for (int i = 0; i < WRITERS; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			char name[24];
			struct err err;

			(void)snprintf(name, sizeof(name), "n%d", i);
			if (inputs_change(folder(), add, name, &err) != 1)
				_exit(1);
			if (i % 2 && inputs_change(folder(), drop, name, &err) != 1)
				_exit(2);
			_exit(0);
		}
	}
	for (int i = 0; i < WRITERS; i++) {
		assert_int_equal(waitpid(children[i], &status, 0), children[i]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(count(), WRITERS / 2);
}

/* Changing without a lock could lose one of two changes; reading needs none. */
static void without_locks_nothing_is_changed(void **state)
{
	struct err err;

	(void)state;
	assert_int_equal(inputs_change(folder(), add, (char[]){"data"}, &err), 1);
	lock_error = ENOLCK;
	assert_int_equal(inputs_change(folder(), add, (char[]){"x"}, &err), -ENOLCK);
	assert_non_null(strstr(err.text, "XDG_STATE_HOME"));
	assert_int_equal(count(), 1);
	lock_error = EOPNOTSUPP;
	assert_int_equal(inputs_change(folder(), add, (char[]){"x"}, &err), -EOPNOTSUPP);
}

static void somebody_who_never_ends_is_not_waited_for(void **state)
{
	cleanup(free_ptr) char *lock = NULL;
	cleanup(close_fd) int fd = -1;
	int64_t begin;
	struct err err;

	(void)state;
	assert_int_equal(inputs_change(folder(), add, (char[]){"data"}, &err), 1);
	lock = record_place("lock");
	fd = open(lock, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	begin = now_ms();
	assert_int_equal(inputs_change(folder(), add, (char[]){"x"}, &err), -EBUSY);
	assert_in_range(now_ms() - begin, 4000, 20000);
}

static void count_folder(void *arg, const char *name, const struct inputs *inputs)
{
	int *found = arg;

	assert_string_equal(name, folder());
	assert_int_equal(inputs->count, 1);
	++*found;
}

static void every_folder_is_found(void **state)
{
	int found = 0;
	struct err err;

	(void)state;
	assert_int_equal(inputs_folders(count_folder, &found, &err), 0);
	assert_int_equal(found, 0);
	assert_int_equal(inputs_change(folder(), add, (char[]){"data"}, &err), 1);
	make_dir("home/.local/state/cellwall/folders/other");
	assert_int_equal(inputs_folders(count_folder, &found, &err), 0);
	assert_int_equal(found, 1);
}

static void is_bounded(void **state)
{
	struct inputs inputs = {0};
	struct input input;
	char name[24];

	(void)state;
	for (int i = 0; i <= INPUTS_MAX; i++) {
		(void)snprintf(name, sizeof(name), "n%d", i);
		input = (struct input){.name = strdup(name), .real = strdup("/x")};
		assert_int_equal(inputs_put(&inputs, &input), i < INPUTS_MAX ? 0 : -E2BIG);
		input_done(&input);
	}
	assert_int_equal(inputs.count, INPUTS_MAX);
	inputs_done(&inputs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		inputs_test(takes_paths_and_names),
		inputs_test(takes_a_name_for_an_absolute_path),
		inputs_test(all_is_the_folder),
		inputs_test(all_of_the_home_is_refused),
		inputs_test(refuses_with_words),
		inputs_test(refuses_what_holds_the_folder),
		inputs_test(a_link_of_staging_must_lead_out_to_be_agreed_to),
		inputs_test(a_link_that_leads_elsewhere_is_not_followed),
		inputs_test(entries_are_what_is_not_hidden),
		inputs_test(is_written_and_read_again),
		inputs_test(nothing_left_leaves_nothing),
		inputs_test(a_folder_that_was_moved_has_none),
		inputs_test(what_others_can_write_is_not_read),
		inputs_test(what_is_damaged_says_so),
		inputs_test(changes_at_the_same_time_are_all_there),
		inputs_test(without_locks_nothing_is_changed),
		inputs_test(somebody_who_never_ends_is_not_waited_for),
		inputs_test(every_folder_is_found),
		inputs_test(is_bounded),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
