#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/failure.h"
#include "proxy/hint.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define FOLDER	     "/home/ada/project"

static bool read_text(const char *text, struct hint *hint)
{
	return hint_read((struct iovec){(void *)(uintptr_t)text, strlen(text)}, FOLDER, hint);
}

/* As ipykernel writes it: the traceback first. */
static bool read_error(const char *name, const char *value, struct hint *hint)
{
	json_t *content = json_pack("{s:[s,s], s:s, s:s}", "traceback", "\x1b[0;31mline \"1\\\" {",
				    "}]", "ename", name, "evalue", value);
	char *text = json_dumps(content, JSON_COMPACT);
	bool found = read_text(text, hint);

	free(text);
	json_decref(content);
	return found;
}

static void modules_are_looked_for_as_python_does(void **state)
{
	struct hint hint;

	(void)state;
	assert_true(read_error("ModuleNotFoundError", "No module named 'utils'", &hint));
	assert_int_equal(hint.count, 3);
	assert_string_equal(hint.place[0].path, "utils/__init__.py");
	assert_int_equal(hint.place[0].named, strlen("utils"));
	assert_string_equal(hint.place[1].path, "utils.py");
	assert_int_equal(hint.place[1].named, strlen("utils.py"));
	assert_string_equal(hint.place[2].path, "utils");
	assert_true(read_error("ModuleNotFoundError",
			       "No module named 'pkg.sub'; 'pkg' is not a package", &hint));
	assert_string_equal(hint.place[1].path, "pkg.py");
	assert_true(read_error("ImportError",
			       "cannot import name 'b' from 'pkg.sub' (unknown location)", &hint));
	assert_string_equal(hint.place[2].path, "pkg");
}

static void files_are_found_in_what_libraries_say(void **state)
{
	static const char *const said[][2] = {
		{"[Errno 2] No such file or directory: 'data/x.csv'", "data/x.csv"},
		{"[Errno 2] No such file or directory: './data//./x.csv'", "data/x.csv"},
		{"[Errno 2] No such file or directory: '/work/data/x.csv'", "data/x.csv"},
		{"[Errno 2] No such file or directory: '" FOLDER "/data/x.csv'", "data/x.csv"},
		{"[Errno 2] No such file or directory: 'data/'", "data"},
		{"[Errno 2] No such file or directory: 'my data.csv'", "my data.csv"},
		{"[Errno 2] No such file or directory: 'donn\xc3\xa9"
		 "es.csv'",
		 "donn\xc3\xa9"
		 "es.csv"},
		{"data/x.txt not found.", "data/x.txt"},
		{"File data/x.h5 does not exist", "data/x.h5"},
		{"No such file or directory (os error 2): data/x.parquet", "data/x.parquet"},
		{"data/x.parquet", "data/x.parquet"},
		{"[Errno 2] Unable to open file (unable to open file: name = 'x.h5', errno = 2)",
		 "x.h5"},
	};
	struct hint hint;

	(void)state;
	for (size_t i = 0; i < COUNT(said); i++) {
		if (!read_error("FileNotFoundError", said[i][0], &hint))
			fail_msg("nothing in: %s", said[i][0]);
		assert_string_equal(hint.place[0].path, said[i][1]);
		assert_int_equal(hint.place[0].named, strlen(said[i][1]));
	}
	assert_true(read_error("FileNotFoundError",
			       "[Errno 2] No such file or directory: 'a' -> 'b'", &hint));
	assert_int_equal(hint.count, 2);
	assert_true(read_error("Exception", "File `'helper.py'` not found.", &hint));
	assert_string_equal(hint.place[0].path, "helper.py");
}

/* A kernel that says it misses what it would like to have. */
static void what_is_not_said(void **state)
{
	static const char *const names[] = {
		".env",
		"sub/.env",
		".git/config",
		"..",
		"../x",
		"data/../../x",
		"data/..",
		"/etc/shadow",
		"/home/ada/other/x",
		"/home/ada/projects/x",
		"/work",
		"/work/",
		FOLDER,
		"id_rsa",
		"keys/ID_RSA.bak",
		"server.PEM",
		"app.key",
		"my-passwords.txt",
		"aws_credentials.csv",
		"secrets/x.csv",
		"-rf",
		"x=/etc/passwd",
		"x=y",
		"a`b",
		"a\nb",
		"a\x1b[2Jb",
		"a\xe2\x80\xae"
		"b",
		"a\xe2\x80\x8b"
		"b",
		"",
		".",
		"./",
		"/",
	};
	static const char *const modules[] = {".env", "id_rsa", "secrets", "..x", "a/b",
					      "",     "../x",	"-c",	   "x=y", "a b\n"};
	char value[256];
	struct hint hint;

	(void)state;
	for (size_t i = 0; i < COUNT(names); i++) {
		snprintf(value, sizeof(value), "[Errno 2] No such file or directory: '%s'",
			 names[i]);
		if (read_error("FileNotFoundError", value, &hint))
			fail_msg("%s: %s", names[i], hint.place[0].path);
		if (names[i][0] && read_error("FileNotFoundError", names[i], &hint))
			fail_msg("%s: %s", names[i], hint.place[0].path);
	}
	for (size_t i = 0; i < COUNT(modules); i++) {
		snprintf(value, sizeof(value), "No module named '%s'", modules[i]);
		if (read_error("ModuleNotFoundError", value, &hint))
			fail_msg("%s: %s", modules[i], hint.place[0].path);
	}
	assert_false(read_error("FileNotFoundError", "No such file: 'it\\'s'", &hint));
	assert_false(read_error("FileNotFoundError", "No such file: 'a\\nb'", &hint));
	assert_false(read_error("FileNotFoundError", "No such file: 'a", &hint));
}

static void other_errors_say_nothing(void **state)
{
	static const char *const said[][2] = {
		{"ImportError", "cannot import name 'b' from 'pkg' (/work/pkg.py)"},
		{"ImportError", "attempted relative import with no known parent package"},
		{"ImportError", "No module named 'utils'"},
		{"ModuleNotFoundError", "utils"},
		{"ModuleNotFoundError", ""},
		{"OSError", "[Errno 2] No such file or directory: 'x'"},
		{"Exception", "no 'x' here"},
		{"", "'x'"},
		{"FileNotFoundErrorFileNotFoundErrorFileNotFoundError", "'x'"},
	};
	struct hint hint;

	(void)state;
	for (size_t i = 0; i < COUNT(said); i++)
		assert_false(read_error(said[i][0], said[i][1], &hint));
}

#define ERROR(value) "{\"ename\":\"FileNotFoundError\",\"evalue\":" value "}"

static void content_is_scanned_strictly(void **state)
{
	static const char *const good[] = {
		ERROR("\"'x'\""),
		" {\n\"evalue\" : \"'x'\" ,\"t\":[{\"evalue\":[\"}\",1e9]},null],\"ename\":"
		"\"FileNotFoundError\"} ",
		ERROR("\"\\u0027\\u0078'\""),
		"{\"\\u0065name\":\"FileNotFoundError\",\"evalue\":\"'x'\",\"n\":NaN}",
	};
	static const char *const bad[] = {
		"",
		"{",
		"{}",
		"[]",
		"null",
		"\"ename\"",
		ERROR("\"'x'"),
		ERROR("\"'x'\\"),
		ERROR("\"'x'\\q\""),
		ERROR("\"'x'\\u12\""),
		ERROR("\"'x\\u0000'\""),
		ERROR("\"'x\\ud800'\""),
		ERROR("\"'x\\udc00\\ud800'\""),
		ERROR("null"),
		ERROR("[\"'x'\"]"),
		ERROR("\"'x'\",\"evalue\":\"'x'\""),
		"{\"evalue\":\"'x'\"}",
		"{\"ename\":\"FileNotFoundError\",\"evalue\":\"'x'\"",
		"{\"ename\":\"FileNotFoundError\",\"evalue\":\"'x'\",}",
		"{\"t\":[\"ename\":\"FileNotFoundError\",\"evalue\":\"'x'\"}",
		"{\"t\":]]],\"ename\":\"FileNotFoundError\",\"evalue\":\"'x'\"}",
	};
	struct hint hint;

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++) {
		if (!read_text(good[i], &hint))
			fail_msg("not taken: %s", good[i]);
		assert_string_equal(hint.place[0].path, "x");
	}
	for (size_t i = 0; i < COUNT(bad); i++)
		if (read_text(bad[i], &hint))
			fail_msg("taken: %s", bad[i]);
}

static void nothing_is_too_long(void **state)
{
	size_t size = FAILURE_CONTENT_MAX + 1;
	char *text = malloc(size + 1), *value = malloc(FAILURE_TEXT_MAX + 1);
	struct hint hint;

	(void)state;
	assert_non_null(text);
	assert_non_null(value);
	memset(value, 'a', FAILURE_TEXT_MAX);
	value[FAILURE_TEXT_MAX] = '\0';
	for (size_t length = HINT_PATH_MAX - 2; length <= FAILURE_TEXT_MAX; length++) {
		value[0] = '\'';
		value[length - 1] = '\'';
		value[length - 300] = '/';
		value[length] = '\0';
		assert_false(read_error("FileNotFoundError", value, &hint) &&
			     strlen(hint.place[0].path) > HINT_PATH_MAX - 2);
		memset(value, 'a', FAILURE_TEXT_MAX);
	}
	/* deep, and then too large */
	memset(text, '[', size);
	text[size] = '\0';
	memcpy(text, "{\"t\":", 5);
	assert_false(read_text(text, &hint));
	memset(text, ' ', size);
	memcpy(text, ERROR("\"'x'\""), strlen(ERROR("\"'x'\"")));
	assert_false(hint_read((struct iovec){text, size}, FOLDER, &hint));
	assert_true(hint_read((struct iovec){text, size - 1}, FOLDER, &hint));
	free(text);
	free(value);
}

static void what_is_staged_is_known(void **state)
{
	struct spec spec = {0};

	(void)state;
	spec.out = strdup(FOLDER "/st/out");
	assert_non_null(spec.out);
	assert_int_equal(spec_add_stage(&spec, "/srv/a", "/work/data", true), 0);
	assert_int_equal(spec_add_stage(&spec, "/srv/b", "/work/pkg/sub/x.py", true), 0);
	assert_true(hint_is_known(&spec, FOLDER, "data"));
	assert_true(hint_is_known(&spec, FOLDER, "data/x.csv"));
	assert_false(hint_is_known(&spec, FOLDER, "data2"));
	assert_false(hint_is_known(&spec, FOLDER, "pkg"));
	assert_false(hint_is_known(&spec, FOLDER, "pkg/sub"));
	assert_true(hint_is_known(&spec, FOLDER, "pkg/sub/x.py"));
	assert_true(hint_is_known(&spec, FOLDER, "staging"));
	assert_true(hint_is_known(&spec, FOLDER, "staging/in/x"));
	assert_true(hint_is_known(&spec, FOLDER, "st"));
	assert_true(hint_is_known(&spec, FOLDER, "st/in/x"));
	assert_false(hint_is_known(&spec, FOLDER, "stage"));
	spec_done(&spec);
}

static void assert_line(const char *path, enum beside kind, const char *begin, const char *command)
{
	char *line = hint_line(path, kind);

	assert_non_null(line);
	if (strncmp(line, begin, strlen(begin)) != 0 || !strstr(line, command))
		fail_msg("%s", line);
	assert_null(strchr(line, '\n'));
	free(line);
}

static void lines_can_be_copied(void **state)
{
	char *line;

	(void)state;
	assert_line("utils.py", BESIDE_FILE, "utils.py is beside the notebook, but was not staged",
		    "`cellwall stage add utils.py` in a terminal");
	assert_line("data/x.csv", BESIDE_FILE, "data/x.csv is",
		    "`cellwall stage add data/x.csv` (or `cellwall stage add data` for all");
	assert_line("data", BESIDE_DIRECTORY, "data (a folder) is", "stage add data` in");
	assert_line("big", BESIDE_LINK, "big (a link) is", "stage add big` in");
	assert_line("my data/a$(b).csv", BESIDE_FILE, "my data/a$(b).csv is",
		    "stage add 'my data/a$(b).csv'` (or `cellwall stage add 'my data'` for");
	assert_line("~x", BESIDE_MOUNT, "~x (a mounted folder) is", "stage add '~x'`");
	assert_null(hint_line("x", BESIDE_NOTHING));
	assert_null(hint_line("it's", BESIDE_FILE));
	line = hint_result_line("sub/model.pkl");
	assert_string_equal(line, "sub/model.pkl is among the results of earlier runs: the kernel "
				  "sees it as staging/out/sub/model.pkl");
	free(line);
	assert_null(hint_result_line("a\nb"));
}

static void one_look_per_cell(void **state)
{
	struct hint_cells cells = {0};
	char id[32];
	unsigned looks = 0;

	(void)state;
	assert_false(hint_cells_take(&cells, "a"));
	assert_false(hint_cells_take(&cells, ""));
	hint_cells_add(&cells, "a");
	assert_false(hint_cells_take(&cells, "b"));
	assert_true(hint_cells_take(&cells, "a"));
	assert_false(hint_cells_take(&cells, "a"));
	for (int i = 0; i < 2 * HINT_CELLS; i++) {
		snprintf(id, sizeof(id), "cell-%d", i);
		hint_cells_add(&cells, id);
	}
	for (int i = 0; i < 2 * HINT_CELLS; i++) {
		snprintf(id, sizeof(id), "cell-%d", i);
		looks += hint_cells_take(&cells, id);
	}
	assert_int_equal(looks, HINT_CELLS);
}

/* ---- the look ---- */

static char top[] = "/tmp/cellwall-beside-XXXXXX";

static int make_top(void **state)
{
	int fd;

	(void)state;
	if (!mkdtemp(top) || chdir(top) < 0 || mkdir("p", 0755) < 0 || mkdir("p/d", 0755) < 0 ||
	    mkdir("out", 0755) < 0 || symlink("../out", "p/l") < 0 || symlink("gone", "p/g") < 0 ||
	    mkfifo("p/f", 0600) < 0)
		return -1;
	fd = open("p/d/x", O_WRONLY | O_CREAT | O_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	close(fd);
	fd = open("out/x", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	close(fd);
	return chdir("p");
}

static int remove_top(void **state)
{
	static const char *const names[] = {"p/d/x", "out/x", "p/l", "p/g", "p/f",
					    "p/d",   "p",     "out", ""};
	char path[128];

	(void)state;
	for (size_t i = 0; i < COUNT(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", top, names[i]);
		(void)remove(path);
	}
	return chdir("/");
}

static enum beside look(const char *path, size_t *ret_length)
{
	char folder[64];

	*ret_length = 0;
	snprintf(folder, sizeof(folder), "%s/p", top);
	return beside_look(folder, path, ret_length);
}

/* Neither the link's target nor what is above the folder is seen: that it is there makes no
 * difference. */
static void looks_without_following(void **state)
{
	size_t length;

	(void)state;
	assert_int_equal(look("d", &length), BESIDE_DIRECTORY);
	assert_int_equal(length, 1);
	assert_int_equal(look("d/x", &length), BESIDE_FILE);
	assert_int_equal(length, 3);
	assert_int_equal(look("d/y", &length), BESIDE_NOTHING);
	assert_int_equal(look("d/x/y", &length), BESIDE_NOTHING);
	assert_int_equal(look("f", &length), BESIDE_NOTHING);
	assert_int_equal(look("l/x", &length), BESIDE_LINK);
	assert_int_equal(length, 1);
	assert_int_equal(look("l/y", &length), BESIDE_LINK);
	assert_int_equal(look("g", &length), BESIDE_LINK);
	assert_int_equal(look("../out", &length), BESIDE_NOTHING);
	assert_int_equal(look("d/../d", &length), BESIDE_NOTHING);
	assert_int_equal(look("./d", &length), BESIDE_NOTHING);
	assert_int_equal(look("/d", &length), BESIDE_NOTHING);
	assert_int_equal(look("d/", &length), BESIDE_NOTHING);
	assert_int_equal(look("", &length), BESIDE_NOTHING);
	assert_int_equal(beside_look("/nowhere", "d", &length), BESIDE_NOTHING);
	/* another file system is not entered */
	assert_int_equal(beside_look("/", "proc/version", &length), BESIDE_MOUNT);
	assert_int_equal(length, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(modules_are_looked_for_as_python_does),
		cmocka_unit_test(files_are_found_in_what_libraries_say),
		cmocka_unit_test(what_is_not_said),
		cmocka_unit_test(other_errors_say_nothing),
		cmocka_unit_test(content_is_scanned_strictly),
		cmocka_unit_test(nothing_is_too_long),
		cmocka_unit_test(what_is_staged_is_known),
		cmocka_unit_test(lines_can_be_copied),
		cmocka_unit_test(one_look_per_cell),
		cmocka_unit_test_setup_teardown(looks_without_following, make_top, remove_top),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
