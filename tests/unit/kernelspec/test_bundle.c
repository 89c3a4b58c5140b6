/* What a build claims to have made: what is taken, and what is refused with its name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/bundle.h"
#include "sandbox/tree.h"
#include "tests/unit/kernelspec/bundles.h"

static char base[] = "/tmp/cellwall-bundle-XXXXXX";
static int top = -1, tree = -1, wheels = -1;
static struct err err;
static char seen[4096];
static int full; /* what the sink says */

static void see(const char *text)
{
	assert_true(strlen(seen) + strlen(text) < sizeof(seen));
	strncat(seen, text, sizeof(seen) - strlen(seen) - 1);
}

static int note_entry(void *arg, char kind, const char *path, const char *digest, const char *to,
		      uint64_t size)
{
	const char letter[] = {kind, ' ', '\0'};

	(void)arg;
	(void)digest;
	(void)size;
	see(letter);
	see(path);
	if (to) {
		see(">");
		see(to);
	}
	see(";");
	return full;
}

static int note_note(void *arg, const char *name, const char *text, size_t size)
{
	(void)arg;
	assert_int_equal(strlen(text), size);
	see("m ");
	see(name);
	see("=");
	see(text);
	see(";");
	return full;
}

static int setup(void **state)
{
	(void)state;
	memcpy(base + sizeof(base) - 7, "XXXXXX", 6);
	assert_non_null(mkdtemp(base));
	top = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(top, "tree", 0755), 0);
	assert_int_equal(mkdirat(top, "wheels", 0755), 0);
	tree = openat(top, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	wheels = openat(top, "wheels", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	seen[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(tree);
	close(wheels);
	assert_int_equal(tree_empty(top), 0);
	close(top);
	assert_int_equal(rmdir(base), 0);
	return 0;
}

static FILE *begin(int *ret_fd)
{
	FILE *out;

	*ret_fd = memfd_create("bundle", MFD_CLOEXEC);
	out = fdopen(dup(*ret_fd), "w");
	assert_non_null(out);
	(void)fputs("cellwall bundle 1\n", out);
	return out;
}

static int finish(FILE *out, int fd, bool whole)
{
	const struct bundle_sink sink = {note_entry, note_note, NULL};
	int r;

	if (whole)
		(void)fputc('e', out);
	assert_int_equal(fclose(out), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	err.text[0] = '\0';
	r = bundle_read(fd, tree, wheels, -1, &sink, &err);
	close(fd);
	return r;
}

static void writes_a_tree(void **state)
{
	struct stat status;
	int fd;
	FILE *out = begin(&fd);

	(void)state;
	put_text(out, 'm', "lock", "six==1");
	put_text(out, 'w', "six-1-py3-none-any.whl", "wheel");
	put(out, 'd', "bin");
	put_text(out, 'l', "bin/python3", "/usr/bin/python3");
	put_text(out, 'x', "bin/tool", "#!");
	put(out, 'd', "lib");
	put(out, 'd', "lib/a");
	put_text(out, 'f', "lib/a/x.py", "1\n");
	put(out, 'd', "lib/b");
	put_text(out, 'l', "lib64", "lib");
	assert_int_equal(finish(out, fd, true), 0);
	assert_string_equal(seen, "m lock=six==1;d bin;l bin/python3>/usr/bin/python3;x bin/tool;"
				  "d lib;d lib/a;f lib/a/x.py;d lib/b;l lib64>lib;");
	assert_int_equal(fstatat(tree, "bin/tool", &status, 0), 0);
	assert_int_equal(status.st_mode & 07777, 0555);
	assert_int_equal(fstatat(tree, "lib/a/x.py", &status, 0), 0);
	assert_int_equal(status.st_mode & 07777, 0444);
	assert_int_equal(status.st_size, 2);
	assert_int_equal(fstatat(tree, "lib/a", &status, 0), 0);
	assert_int_equal(status.st_mode & 07777, 0555);
}

/* One record after "d dir", which is there. */
static void assert_refuses(char kind, const char *name, const char *text, const char *why)
{
	int fd;
	FILE *out;

	teardown(NULL);
	setup(NULL);
	out = begin(&fd);
	put(out, 'd', "dir");
	if (text)
		put_text(out, kind, name, text);
	else
		put(out, kind, name);
	assert_int_equal(finish(out, fd, true), -EPROTO);
	if (!strstr(err.text, why))
		fail_msg("%s: %s", name, err.text);
}

static void refuses_names(void **state)
{
	(void)state;
	assert_refuses('f', "../escape", "x", "not taken");
	assert_refuses('f', "/etc/passwd", "x", "not taken");
	assert_refuses('f', "dir/../../x", "x", "not taken");
	assert_refuses('f', "dir//x", "x", "not taken");
	assert_refuses('f', "dir/.", "x", "not taken");
	assert_refuses('f', "dir/", "x", "not taken");
	assert_refuses('f', "dir/a\nb", "x", "not taken");
	assert_refuses('f', "dir/\033[2J", "x", "\\x1b[2J");
	assert_refuses('f', "nowhere/x", "x", "did not come right before");
	assert_refuses('f', "di/x", "x", "did not come right before");
	assert_refuses('d', "dir", NULL, "twice");
	assert_refuses('f', "", "x", "0 bytes");
	assert_refuses('q', "dir/x", NULL, "no kind");
	assert_refuses('m', "lock", "late", "too late");
	assert_refuses('w', "x.whl", "late", "too late");
}

static void refuses_links_that_lead_out(void **state)
{
	static const char *const targets[] = {"/etc", "../../x", "..//../x", "", "a/../../../b"};

	(void)state;
	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++)
		assert_refuses('l', "dir/link", targets[i], "leads out");
	assert_refuses('l', "bin/../python", "/usr/bin/python3", "not taken");
	assert_refuses('l', "python", "/usr/bin/python3", "leads out");
}

/* Through a link that is in the tree nothing is written. */
static void writes_through_no_link(void **state)
{
	int fd;
	FILE *out = begin(&fd);

	(void)state;
	put(out, 'd', "dir");
	put_text(out, 'l', "link", "dir");
	put_text(out, 'f', "link/x", "1");
	assert_int_equal(finish(out, fd, true), -EPROTO);
	assert_int_equal(faccessat(tree, "dir/x", F_OK, 0), -1);
}

static void refuses_what_is_cut(void **state)
{
	int fd;
	FILE *out = begin(&fd);

	(void)state;
	put(out, 'd', "dir");
	assert_int_equal(finish(out, fd, false), -EPROTO);
	assert_non_null(strstr(err.text, "too early"));
	fd = memfd_create("bundle", MFD_CLOEXEC);
	assert_int_equal(write(fd, "something else at all", 21), 21);
	out = fdopen(dup(fd), "a");
	assert_int_equal(finish(out, fd, true), -EPROTO);
	assert_non_null(strstr(err.text, "no bundle"));
}

static void refuses_what_is_too_deep_or_large(void **state)
{
	char name[2 * BUNDLE_DEPTH + 8] = "d";
	int fd;
	FILE *out = begin(&fd);

	(void)state;
	put(out, 'd', name);
	for (int i = 0; i < BUNDLE_DEPTH; i++) {
		strncat(name, "/d", sizeof(name) - strlen(name) - 1);
		put(out, 'd', name);
	}
	assert_int_equal(finish(out, fd, true), -EPROTO);
	assert_non_null(strstr(err.text, "too deep"));
	teardown(NULL);
	setup(NULL);
	out = begin(&fd);
	put(out, 'f', "big");
	for (int i = 0; i < 8; i++)
		(void)fputc(0xff, out);
	assert_int_equal(finish(out, fd, true), -EPROTO);
	assert_non_null(strstr(err.text, "too large"));
}

/* One that cannot take it has no words of its own. */
static void says_what_the_sink_could_not(void **state)
{
	const char kinds[] = {'m', 'd', 'f', 'l'};

	(void)state;
	full = -ENOSPC;
	for (size_t i = 0; i < sizeof(kinds); i++) {
		int fd;
		FILE *out = begin(&fd);

		if (kinds[i] == 'd')
			put(out, 'd', "d");
		else
			put_text(out, kinds[i], kinds[i] == 'f' ? "f" : "l", "to");
		assert_int_equal(finish(out, fd, true), -ENOSPC);
		assert_non_null(strstr(err.text, "No space left"));
		assert_int_equal(err.code, -ENOSPC);
	}
	full = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(writes_a_tree, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_names, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_links_that_lead_out, setup, teardown),
		cmocka_unit_test_setup_teardown(writes_through_no_link, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_what_is_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_what_is_too_deep_or_large, setup, teardown),
		cmocka_unit_test_setup_teardown(says_what_the_sink_could_not, setup, teardown),
	};

	return cmocka_run_group_tests_name("bundle", tests, NULL, NULL);
}
