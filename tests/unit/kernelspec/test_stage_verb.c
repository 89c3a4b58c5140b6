#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernelspec/stage.h"
#include "kernelspec/verbs.h"
#include "sandbox/staging.h"
#include "sandbox/tree.h"

static char base[] = "/tmp/cellwall-verb-XXXXXX";
static char text[8192]; /* what the verb wrote */

/* Runs the verb in a child, since argp(3) exits; returns its exit code and leaves both its streams
 * in `text`. */
static int run(const char *folder, const char *first, const char *second, const char *third)
{
	char name[] = "cellwall stage";
	char *arguments[5] = {name, NULL, NULL, NULL, NULL};
	const char *words[3] = {first, second, third};
	size_t used = 0;
	ssize_t got;
	int fds[2], status, count = 1;
	pid_t child;

	for (size_t i = 0; i < 3; i++)
		if (words[i])
			arguments[count++] = strdup(words[i]);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	fflush(NULL);
	child = fork();
	if (child == 0) {
		if (chdir(folder) < 0 || dup2(fds[1], 1) < 0 || dup2(fds[1], 2) < 0)
			_exit(99);
		status = verb_stage(count, arguments);
		fflush(NULL);
		_exit(status);
	}
	close(fds[1]);
	while ((got = read(fds[0], text + used, sizeof(text) - 1 - used)) > 0)
		used += (size_t)got;
	text[used] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	for (int i = 1; i < count; i++)
		free(arguments[i]);
	return WEXITSTATUS(status);
}

static const char *folder(const char *name)
{
	static char path[2][PATH_MAX];
	static unsigned int next;
	char *out = path[next++ % 2];

	snprintf(out, PATH_MAX, "%s/%s", base, name);
	return out;
}

/* A run in `project` that was killed after it had written `name`. */
static struct staging *leave(const char *project, const char *name)
{
	struct staging *staging = NULL;
	struct err err;
	char *state, out[PATH_MAX], path[PATH_MAX];

	(void)mkdir(folder(project), 0755);
	snprintf(out, sizeof(out), "%s/%s/staging/out", base, project);
	assert_int_equal(staging_state_directory(&state, &err), 0);
	assert_int_equal(staging_create(state, out, (uid_t)-1, 1000, 10, &staging, &err), 0);
	free(state);
	snprintf(path, sizeof(path), "%s/%s", staging_work(staging), name);
	assert_int_equal(write_new_file(AT_FDCWD, path, 0644, "content", 7, &err), 0);
	return staging;
}

static bool is_there(const char *name)
{
	return access(folder(name), F_OK) == 0;
}

static int setup(void **state)
{
	(void)state;
	memcpy(base + strlen(base) - 6, "XXXXXX", 6);
	assert_non_null(mkdtemp(base));
	return setenv("XDG_STATE_HOME", folder("state"), 1);
}

static int teardown(void **state)
{
	int fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	assert_int_equal(tree_empty(fd), 0);
	close(fd);
	return rmdir(base);
}

static void explains_itself(void **state)
{
	(void)state;
	assert_int_equal(run(base, "--help", NULL, NULL), 0);
	assert_non_null(strstr(text, "recover"));
	assert_non_null(strstr(text, "--dry-run"));
	assert_int_equal(run(base, NULL, NULL, NULL), 2);
	assert_int_equal(run(base, "frobnicate", NULL, NULL), 2);
	assert_int_equal(run(base, "status", "recover", NULL), 2);
	assert_int_equal(run(base, "status", "--all", NULL), 2);
	assert_int_equal(run(base, "recover", "--nonsense", NULL), 2);
}

static void says_that_nothing_waits(void **state)
{
	(void)state;
	assert_int_equal(run(base, "status", NULL, NULL), 0);
	assert_string_equal(text, "nothing is waiting\n");
	assert_int_equal(run(base, "recover", NULL, NULL), 0);
	assert_string_equal(text, "nothing was left over for this folder\n");
	assert_int_equal(run(base, "recover", "--all", NULL), 0);
	assert_string_equal(text, "nothing was left over\n");
	assert_false(is_there("state"));
}

static void brings_in_what_belongs_here(void **state)
{
	struct staging *running;

	(void)state;
	staging_free(leave("one", "a.csv"));
	staging_free(leave("two", "b.csv"));
	staging_free(leave("two", ".hid\nden"));
	running = leave("three", "c.csv");

	assert_int_equal(run(folder("one"), "status", NULL, NULL), 0);
	assert_non_null(strstr(text, "left over"));
	assert_non_null(strstr(text, "running"));
	assert_non_null(strstr(text, "two/staging/out"));
	assert_int_equal(run(folder("one"), "recover", "--dry-run", NULL), 0);
	assert_non_null(strstr(text, "1 file "));
	assert_non_null(strstr(text, "one/staging/out"));
	assert_null(strstr(text, "two/staging/out"));
	assert_false(is_there("one/staging"));

	assert_int_equal(run(folder("one"), "recover", NULL, NULL), 0);
	assert_non_null(strstr(text, "brought in 1 file (7 B) to "));
	assert_true(is_there("one/staging/out/a.csv"));
	assert_false(is_there("two/staging"));
	assert_int_equal(run(folder("one"), "recover", "-n", "-a"), 0);
	assert_null(strstr(text, "three"));
	assert_int_equal(run(folder("one"), "recover", "--all", NULL), 0);
	assert_true(is_there("two/staging/out/b.csv"));
	assert_non_null(strstr(text, ".hid\\nden: "));
	assert_false(is_there("three/staging"));
	staging_free(running);
}

static void says_what_cannot_be_done(void **state)
{
	(void)state;
	staging_free(leave("gone", "a"));
	assert_int_equal(rmdir(folder("gone")), 0);
	assert_int_equal(run(base, "recover", "--all", NULL), 1);
	assert_non_null(strstr(text, "not there any more"));
	assert_non_null(strstr(text, "is kept"));
	assert_int_equal(mkdir(folder("gone"), 0755), 0);
	assert_int_equal(run(base, "recover", "--all", NULL), 0);
	assert_true(is_there("gone/staging/out/a"));
}

/* What a long copy writes to stderr: a line on a terminal, nothing elsewhere. */
static size_t progress_written(bool terminal, int64_t age)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), saved = dup(STDERR_FILENO), to;
	struct stage_progress progress;
	ssize_t got = 0;
	int pipes[2];

	assert_true(master >= 0 && saved >= 0);
	assert_int_equal(grantpt(master) | unlockpt(master), 0);
	assert_int_equal(pipe2(pipes, O_CLOEXEC | O_NONBLOCK), 0);
	to = terminal ? open(ptsname(master), O_RDWR | O_NOCTTY) : dup(pipes[1]);
	fflush(stderr);
	assert_true(dup2(to, STDERR_FILENO) >= 0);
	stage_progress_begin(&progress, "a\033b");
	progress.begun -= age;
	assert_true(stage_progress_step(&progress, 50000000, 200000000));
	assert_true(stage_progress_step(&progress, 60000000, 200000000)); /* too soon for another */
	fflush(stderr);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	fcntl(master, F_SETFL, O_NONBLOCK);
	got = read(terminal ? master : pipes[0], text, sizeof(text) - 1);
	text[got > 0 ? got : 0] = '\0';
	close(master);
	close(to);
	close(saved);
	close(pipes[0]);
	close(pipes[1]);
	return got > 0 ? (size_t)got : 0;
}

static void says_how_far_on_a_terminal(void **state)
{
	(void)state;
	assert_int_equal(progress_written(false, 1000), 0);
	assert_int_equal(progress_written(true, 0), 0);
	assert_true(progress_written(true, 1000) > 0);
	assert_string_equal(text, "\ra\\x1bb: 50.0 MB of 200.0 MB, 25 %\033[K");
}

static void speaks_json(void **state)
{
	(void)state;
	staging_free(leave("one", "a.csv"));
	assert_int_equal(run(folder("one"), "status", "--json", NULL), 0);
	assert_non_null(strstr(text, "\"running\": false"));
	assert_non_null(strstr(text, "\"files\": 1"));
	assert_int_equal(run(base, "list", "--json", NULL), 0);
	assert_string_equal(text, "[]\n");
	assert_int_equal(run(base, "list", "--json", "--all"), 0);
	assert_string_equal(text, "[]\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(explains_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(says_that_nothing_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(brings_in_what_belongs_here, setup, teardown),
		cmocka_unit_test_setup_teardown(says_what_cannot_be_done, setup, teardown),
		cmocka_unit_test(says_how_far_on_a_terminal),
		cmocka_unit_test_setup_teardown(speaks_json, setup, teardown),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
