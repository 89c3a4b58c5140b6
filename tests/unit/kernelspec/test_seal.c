/* The store: what becomes of a bundle, that no change of a tree passes, and what goes when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/sealed.h"
#include "sandbox/tree.h"
#include "tests/unit/kernelspec/bundles.h"

#define PATH 512

static char base[] = "/tmp/cellwall-seal-XXXXXX";
static char *store;
static struct err err;

static int setup(void **state)
{
	(void)state;
	memcpy(base + sizeof(base) - 7, "XXXXXX", 6);
	assert_non_null(mkdtemp(base));
	assert_int_equal(setenv("XDG_DATA_HOME", base, 1), 0);
	assert_int_equal(sealed_store(&store, &err), 0);
	return 0;
}

static int teardown(void **state)
{
	int top = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	free(store);
	assert_int_equal(tree_empty(top), 0);
	close(top);
	assert_int_equal(rmdir(base), 0);
	return 0;
}

/* ---- a bundle ---- */

/* One whose module and wheel say `word`. */
static int bundle(const char *word)
{
	int fd = memfd_create("bundle", MFD_CLOEXEC);
	FILE *out = fdopen(dup(fd), "w");
	char lock[256], hex[SEALED_HASH + 1];

	assert_non_null(out);
	assert_int_equal(sealed_digest(word, strlen(word), hex), 0);
	(void)snprintf(lock, sizeof(lock), "six==1 --hash=sha256:%s\n", hex);
	(void)fputs("cellwall bundle 1\n", out);
	put_text(out, 'm', "lock", lock);
	put_text(out, 'w', "six-1-py3-none-any.whl", word);
	put(out, 'd', "bin");
	put_text(out, 'l', "bin/python", "/usr/bin/python3");
	put_text(out, 'x', "bin/tool", "#!");
	put(out, 'd', "lib");
	put_text(out, 'f', "lib/empty", "");
	put(out, 'd', "lib/six");
	put_text(out, 'f', "lib/six/word.py", word);
	put_text(out, 'l', "lib/six/z", "word.py");
	(void)fputc('e', out);
	assert_int_equal(fclose(out), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

/* A build of `name` from bundle(word), whose record names `tree` (NULL: none). */
static int64_t make(const char *name, const char *word, const char *tree)
{
	struct sealed_build build;
	json_t *record = json_pack("{s:s}", "python", "/usr/bin/python3");
	int in = bundle(word);
	int64_t number;

	if (tree)
		assert_int_equal(json_object_set_new(record, "tree", json_string(tree)), 0);
	assert_int_equal(sealed_begin(name, &build, &err), 0);
	assert_int_equal(sealed_take(&build, in, &err), 0);
	number = sealed_commit(&build, record, &err);
	sealed_abandon(&build);
	json_decref(record);
	close(in);
	return number;
}

static void find(const char *name, struct sealed *sealed)
{
	assert_int_equal(sealed_find(name, 0, false, sealed, &err), 0);
}

__attribute__((format(printf, 1, 2))) static bool is_there(const char *format, ...)
{
	char *rest, *path;
	va_list args;
	bool there;

	va_start(args, format);
	assert_true(vasprintf(&rest, format, args) > 0);
	va_end(args);
	path = path_join(store, rest);
	assert_non_null(path);
	there = faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	free(path);
	free(rest);
	return there;
}

/* ---- what is noted ---- */

static void notes_every_entry(void **state)
{
	char tool[SEALED_HASH + 1], empty[SEALED_HASH + 1], word[SEALED_HASH + 1], all[4096];
	char lock[SEALED_HASH + 1], *text, *path, *lines;
	struct sealed sealed;
	size_t size;

	(void)state;
	assert_int_equal(make("e", "1\n", NULL), 1);
	find("e", &sealed);
	assert_int_equal(sealed_digest("#!", 2, tool), 0);
	assert_int_equal(sealed_digest("", 0, empty), 0);
	assert_int_equal(sealed_digest("1\n", 2, word), 0);
	path = path_join(sealed.directory, "lock");
	assert_int_equal(read_file(AT_FDCWD, path, 4096, &lines, &size, &err), 0);
	assert_int_equal(sealed_digest(lines, size, lock), 0);
	free(path);
	free(lines);
	assert_int_equal(sealed_manifest(sealed.directory, sealed.hash, NULL, NULL, &text, &err),
			 0);
	(void)snprintf(all, sizeof(all),
		       "d bin\nl bin/python\t/usr/bin/python3\nx %s 2 bin/tool\nd lib\n"
		       "f %s 0 lib/empty\nd lib/six\nf %s 2 lib/six/word.py\n"
		       "l lib/six/z\tword.py\nm %s %zu lock\n",
		       tool, empty, word, lock, size);
	assert_string_equal(text, all);
	free(text);
	assert_int_equal(sealed_verify(sealed.directory, sealed.hash, NULL, NULL, &err), 0);
	/* the same again is the same tree, and a record that names another is refused */
	assert_int_equal(make("e", "1\n", sealed.hash), 2);
	assert_int_equal(make("e", "2\n", sealed.hash), -EBADMSG);
	assert_false(is_there("names/e/3.json"));
	sealed_done(&sealed);
}

/* What could be written but not read would be the current generation all the same. */
static void refuses_a_large_record(void **state)
{
	struct sealed_build build;
	struct sealed sealed;
	json_t *many = json_array(), *record;
	int in = bundle("2\n");
	char *text;

	(void)state;
	assert_int_equal(make("e", "1\n", NULL), 1);
	for (int i = 0; i < 200000; i++) /* a line each */
		assert_int_equal(json_array_append_new(many, json_integer(1)), 0);
	record = json_pack("{s:s, s:o}", "python", "/usr/bin/python3", "sources", many);
	text = json_dumps(record, JSON_COMPACT);
	assert_true(strlen(text) < 1 << 20);
	free(text);
	assert_int_equal(sealed_begin("e", &build, &err), 0);
	assert_int_equal(sealed_take(&build, in, &err), 0);
	assert_int_equal(sealed_commit(&build, record, &err), -E2BIG);
	sealed_abandon(&build);
	json_decref(record);
	close(in);
	find("e", &sealed);
	assert_int_equal(sealed.number, 1);
	sealed_done(&sealed);
}

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* What `text` as the manifest of an empty tree is to sealed_verify. */
static int64_t verify_manifest(const char *text)
{
	char hash[SEALED_HASH + 1], file[PATH];
	int64_t found;

	(void)snprintf(file, sizeof(file), "%s/manifest", base);
	assert_int_equal(write_new_file(AT_FDCWD, file, 0644, text, strlen(text), &err), 0);
	assert_int_equal(sealed_digest(text, strlen(text), hash), 0);
	found = sealed_verify(base, hash, NULL, NULL, &err);
	assert_int_equal(unlink(file), 0);
	return found;
}

/* Lines of entries in the manifest itself are none: they are in its parts. */
static void takes_no_other_form(void **state)
{
	static const char *const forms[] = {
		"",
		"lock\n",
		"p x\n",
		"m " EMPTY " 0 other\n",
		"m " EMPTY " 0 lock", /* no line */
		"m " EMPTY " 0 lock\nm " EMPTY " 0 lock\n",
		"m " EMPTY " 0 lock\np " EMPTY " 0 parts/1\n",
		"d bin\nm " EMPTY " 0 lock\n",
		"f " EMPTY " 0 bin\nm " EMPTY " 0 lock\n",
		"p " EMPTY " 0 parts/../lock\nm " EMPTY " 0 lock\n",
	};
	char path[PATH];

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/tree", base);
	assert_int_equal(mkdir(path, 0555), 0);
	(void)snprintf(path, sizeof(path), "%s/lock", base);
	assert_int_equal(write_new_file(AT_FDCWD, path, 0644, "", 0, &err), 0);
	(void)snprintf(path, sizeof(path), "%s/parts", base);
	assert_int_equal(mkdir(path, 0755), 0);
	(void)snprintf(path, sizeof(path), "%s/parts/1", base);
	assert_int_equal(write_new_file(AT_FDCWD, path, 0644, "", 0, &err), 0);
	assert_int_equal(verify_manifest("p " EMPTY " 0 parts/1\nm " EMPTY " 0 lock\n"), 0);
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
		assert_int_equal(verify_manifest(forms[i]), -EINVAL);
}

/* ---- what changed ---- */

static char told[256];

static void tell(void *arg, const char *path, const char *how)
{
	(void)arg;
	(void)snprintf(told, sizeof(told), "%s %s", path, how);
}

static int64_t verify(const struct sealed *sealed)
{
	told[0] = '\0';
	return sealed_verify(sealed->directory, sealed->hash, tell, NULL, &err);
}

/* Each byte of a file of the sealed tree in its turn, one that is added and one that is not there.
 */
static void change_bytes(const struct sealed *sealed, const char *name)
{
	char *path = path_join(sealed->directory, name);
	struct stat status;
	char byte, other;
	int fd;

	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(chmod(path, 0600), 0);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(chmod(path, status.st_mode & 07777), 0);
	for (off_t i = 0; i < status.st_size; i++) {
		assert_int_equal(pread(fd, &byte, 1, i), 1);
		other = (char)(byte ^ 1);
		assert_int_equal(pwrite(fd, &other, 1, i), 1);
		assert_int_not_equal(verify(sealed), 0);
		assert_int_equal(pwrite(fd, &byte, 1, i), 1);
	}
	assert_int_equal(pwrite(fd, "\n", 1, status.st_size), 1);
	assert_int_not_equal(verify(sealed), 0);
	assert_int_equal(ftruncate(fd, status.st_size), 0);
	if (status.st_size > 0) {
		assert_int_equal(pread(fd, &byte, 1, status.st_size - 1), 1);
		assert_int_equal(ftruncate(fd, status.st_size - 1), 0);
		assert_int_not_equal(verify(sealed), 0);
		assert_int_equal(pwrite(fd, &byte, 1, status.st_size - 1), 1);
	}
	close(fd);
	assert_int_equal(verify(sealed), 0);
	free(path);
}

static void every_byte_counts(void **state)
{
	static const char *const names[] = {
		"manifest", "lock",	     "parts/1",	       "parts/2",
		"parts/3",  "tree/bin/tool", "tree/lib/empty", "tree/lib/six/word.py"};
	struct sealed sealed;

	(void)state;
	assert_int_equal(make("e", "1 + 1\n", NULL), 1);
	find("e", &sealed);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		change_bytes(&sealed, names[i]);
	sealed_done(&sealed);
}

static void expect(const struct sealed *sealed, const char *words)
{
	assert_int_equal(verify(sealed), 1);
	assert_string_equal(told, words);
}

static void change_mode(const struct sealed *sealed, const char *name, mode_t mode)
{
	char words[128];
	struct stat status;

	assert_int_equal(fstatat(sealed->held, name, &status, 0), 0);
	assert_int_equal(fchmodat(sealed->held, name, mode, 0), 0);
	(void)snprintf(words, sizeof(words), "%s has another mode",
		       strcmp(name, ".") == 0 ? "tree" : name);
	expect(sealed, words);
	assert_int_equal(fchmodat(sealed->held, name, status.st_mode & 07777, 0), 0);
	assert_int_equal(verify(sealed), 0);
}

static void every_mode_counts(void **state)
{
	static const struct {
		const char *name;
		mode_t mode;
	} changes[] = {
		{".", 0755},
		{"lib", 0755},
		{"lib/six", 0777},
		{"lib", 0500},
		{"lib", 01555},
		{"lib/six/word.py", 0644},
		{"lib/six/word.py", 0555},
		{"lib/six/word.py", 0440},
		{"bin/tool", 0444},
		{"bin/tool", 0755},
		{"bin/tool", 04555},
		{"lib/six/word.py", 0446},
	};
	struct sealed sealed;

	(void)state;
	assert_int_equal(make("e", "1\n", NULL), 1);
	find("e", &sealed);
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
		change_mode(&sealed, changes[i].name, changes[i].mode);
	sealed_done(&sealed);
}

/* An entry that is another: as `how`, the tree is verified, and it is put back. */
static void every_kind_counts(void **state)
{
	struct sealed sealed;
	int tree, six;

	(void)state;
	assert_int_equal(make("e", "1\n", NULL), 1);
	find("e", &sealed);
	tree = sealed.held;
	assert_int_equal(fchmodat(tree, "lib", 0755, 0), 0);
	assert_int_equal(fchmodat(tree, "lib/six", 0755, 0), 0);
	six = openat(tree, "lib/six", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(renameat(six, "z", six, "kept"), 0);
	assert_int_equal(symlinkat("/word.py", six, "z"), 0);
	assert_int_equal(unlinkat(six, "kept", 0), 0);
	assert_int_equal(fchmodat(tree, "lib/six", 0555, 0), 0);
	assert_int_equal(fchmodat(tree, "lib", 0555, 0), 0);
	expect(&sealed, "lib/six/z leads elsewhere");
	assert_int_equal(fchmodat(tree, "lib/six", 0755, 0), 0);
	assert_int_equal(unlinkat(six, "z", 0), 0);
	assert_int_equal(fchmodat(tree, "lib/six", 0555, 0), 0);
	expect(&sealed, "lib/six/z is missing");
	assert_int_equal(fchmodat(tree, "lib/six", 0755, 0), 0);
	assert_int_equal(linkat(six, "word.py", six, "z", 0), 0);
	assert_int_equal(fchmodat(tree, "lib/six", 0555, 0), 0);
	expect(&sealed, "lib/six/z is no link any more");
	assert_int_equal(fchmodat(tree, "lib/six", 0755, 0), 0);
	assert_int_equal(unlinkat(six, "z", 0), 0);
	assert_int_equal(symlinkat("word.py", six, "z"), 0);
	assert_int_equal(renameat(six, "word.py", six, "other.py"), 0);
	assert_int_equal(symlinkat("other.py", six, "word.py"), 0);
	assert_int_equal(fchmodat(tree, "lib/six", 0555, 0), 0);
	assert_int_equal(verify(&sealed), 2); /* and other.py was not built */
	assert_int_equal(fchmodat(tree, "lib/six", 0755, 0), 0);
	assert_int_equal(renameat(six, "other.py", six, "word.py"), 0);
	assert_int_equal(fchmodat(tree, "lib/six", 0555, 0), 0);
	assert_int_equal(verify(&sealed), 0);
	close(six);
	sealed_done(&sealed);
}

/* ---- what goes ---- */

static uint64_t collect(void)
{
	uint64_t removed = 0;

	assert_int_equal(sealed_collect(store, &removed, &err), 0);
	return removed;
}

static void keeps_what_is_needed(void **state)
{
	char word[] = "0\n", wheel[2][SEALED_HASH + 1];

	(void)state;
	for (int i = 1; i <= 6; i++) {
		word[0] = (char)('0' + i);
		assert_int_equal(make("e", word, NULL), i);
		if (i == 1 || i == 6)
			assert_int_equal(sealed_digest(word, 2, wheel[i == 6]), 0);
	}
	assert_true(is_there("wheels/%s/six-1-py3-none-any.whl", wheel[0]));
	/* two generations, each with a tree and a wheel */
	assert_int_equal(collect(), 4);
	for (int i = 1; i <= 6; i++)
		assert_int_equal(is_there("names/e/%d.json", i), i >= 6 - SEALED_KEPT);
	assert_false(is_there("wheels/%s", wheel[0]));
	assert_true(is_there("wheels/%s", wheel[1]));
	/* what is after the one that was chosen stays */
	assert_int_equal(sealed_choose(store, "e", 3, &err), 0);
	assert_int_equal(collect(), 0);
	assert_int_equal(make("e", "7\n", NULL), 7);
	assert_int_equal(collect(), 2);
	assert_false(is_there("names/e/3.json"));
	assert_true(is_there("names/e/4.json"));
	assert_int_equal(sealed_forget(store, "e", &err), 0);
	assert_int_equal(collect(), 8);
	assert_false(is_there("wheels/%s", wheel[1]));
}

/* What a removal leaves that was killed in its midst. */
static void forgets_what_nobody_finds(void **state)
{
	char *path = format_string("%s/names/gone/current", store);
	char *stale = format_string("%s/names/kept/.current-0123456789abcdef", store);
	char *other = format_string("%s/names/gone/.current-0123456789abcdef", store);

	(void)state;
	assert_int_equal(make("gone", "1\n", NULL), 1);
	assert_int_equal(make("kept", "2\n", NULL), 1);
	assert_int_equal(write_new_file(AT_FDCWD, stale, 0644, "1\n", 2, &err), 0);
	assert_int_equal(write_new_file(AT_FDCWD, other, 0644, "1\n", 2, &err), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(collect(), 2); /* a tree and a wheel */
	assert_false(is_there("names/gone"));
	assert_true(is_there("names/kept/1.json"));
	assert_int_equal(access(stale, F_OK), -1);
	assert_int_equal(collect(), 0);
	free(path);
	free(stale);
	free(other);
}

static void removes_what_nobody_holds(void **state)
{
	static const char *const places[] = {"builds", "live"};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		char *dead, *alive;
		int held, kept;

		assert_int_equal(sealed_hold(store, places[i], &dead, &held, &err), 0);
		assert_int_equal(mkdirat(held, "out", 0755), 0);
		close(held);
		assert_int_equal(sealed_hold(store, places[i], &alive, &kept, &err), 0);
		/* whoever makes one clears up too */
		assert_int_equal(access(dead, F_OK), -1);
		free(dead);
		assert_int_equal(sealed_hold(store, places[i], &dead, &held, &err), 0);
		assert_int_equal(mkdirat(held, "out", 0755), 0);
		close(held);
		(void)collect();
		assert_int_equal(access(dead, F_OK), -1);
		assert_int_equal(access(alive, F_OK), 0);
		close(kept);
		(void)collect();
		assert_int_equal(access(alive, F_OK), -1);
		free(dead);
		free(alive);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(notes_every_entry, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_a_large_record, setup, teardown),
		cmocka_unit_test_setup_teardown(takes_no_other_form, setup, teardown),
		cmocka_unit_test_setup_teardown(every_byte_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(every_mode_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(every_kind_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(keeps_what_is_needed, setup, teardown),
		cmocka_unit_test_setup_teardown(forgets_what_nobody_finds, setup, teardown),
		cmocka_unit_test_setup_teardown(removes_what_nobody_holds, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
