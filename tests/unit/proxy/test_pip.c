#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/pip.h"
#include "proxy/requirement.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* What a cell asks for, as text: words with spaces between, "!" before what is refused, ";" after
 * each line. */
static void note(void *arg, const struct pip_line *line)
{
	char *text = arg;
	const size_t room = 2000;

	if (line->refused[0])
		strncat(text, "!", room - strlen(text));
	for (size_t i = 0; !line->refused[0] && i < line->count; i++) {
		strncat(text, i > 0 ? " " : "", room - strlen(text));
		strncat(text, line->word[i].text, room - strlen(text));
		if (line->word[i].kind == PIP_FILE) {
			strncat(text, "=", room - strlen(text));
			strncat(text, line->word[i].file, room - strlen(text));
		}
	}
	strncat(text, line->upgrade ? "^" : "", room - strlen(text));
	strncat(text, line->uv ? "u;" : ";", room - strlen(text));
}

static const char *asked(const char *code)
{
	static char text[2048];

	text[0] = '\0';
	pip_find(code, strlen(code), note, text);
	return text;
}

static void lines_of_cells(void **state)
{
	static const char *const cells[][2] = {
		/* each way to call it */
		{"%pip install a", "a;"},
		{"%uv pip install a", "au;"},
		{"!pip install a", "a;"},
		{"! pip3 install a", "a;"},
		{"!pip3.11 install a", "a;"},
		{"!uv pip install --system a", "--system au;"},
		{"!python -m pip install a", "a;"},
		{"!python3.11 -m pip install a", "a;"},
		{"!{sys.executable} -m pip install a", "a;"},
		/* anywhere in a cell */
		{"import os\n%pip install -q a b\nimport a\n!pip install c # now", "-q a b;c;"},
		{"if True:\n    %pip install a\n", "a;"},
		{"\n\n  %pip install a \\\n   b", "a b;"},
		{"%%time\n%pip install a", "a;"},
		{"%%capture out\n!pip install a", "a;"},
		{"x = '''a'''\r\n%pip install a\r\n", "a;"},
		{"x = f(\n1)\n%pip install a", "a;"},
		{"x = 'it\\'s'\n%pip install a", "a;"},
		{"# a \"quote\n%pip install a", "a;"},
		/* nothing that runs */
		{"pip = 3\nprint('%pip install a')", ""},
		{"x = '''\n%pip install a\n'''", ""},
		{"x = r\"\"\"\n!pip install a\n\"\"\"", ""},
		{"x = 7 \\\n%pip install", ""},
		{"x = (7\n%pip)", ""},
		{"# %pip install a", ""},
		{"%%bash\npip install a", ""},
		{"%%writefile s.py\n%pip install a", ""},
		{"%%html\n!pip install a", ""},
		/* other words of pip, other programs */
		{"%pip list", ""},
		{"%pip uninstall a", ""},
		{"%pip download a", ""},
		{"% pip install a", ""},
		{"!apt install a", ""},
		{"!pipx install a", ""},
		{"!python -c pip install", ""},
		{"!/tmp/python -m pip install a", ""},
		{"%conda install a", ""},
		{"!!pip install a", ""},
		{"", ""},
		{"%", ""},
		{"!", ""},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cells); i++) {
		if (strcmp(asked(cells[i][0]), cells[i][1]) != 0)
			fail_msg("%s\nasks for \"%s\"", cells[i][0], asked(cells[i][0]));
	}
}

static void words_and_options(void **state)
{
	static const char *const cells[][2] = {
		{"%pip install pandas>=2,<3", "pandas>=2,<3;"},
		{"!pip install 'pandas >= 2, < 3'", "pandas >= 2, < 3;"},
		{"!pip install \"a[b,c]\"==1.*", "a[b,c]==1.*;"},
		{"!pip install a'=='1.0", "a==1.0;"},
		{"%pip install 'a; python_version < \"3.13\"'", "a; python_version < \"3.13\";"},
		{"%pip install -U --quiet a", "-U --quiet a^;"},
		{"%pip install -r requirements.txt", "-r requirements.txt=requirements.txt;"},
		{"%pip install --requirement=in/r.txt a", "--requirement=in/r.txt=in/r.txt a;"},
		/* refused */
		{"%pip install", "!;"},
		{"%pip install -q", "!;"},
		{"%pip install -r", "!;"},
		{"!pip install pandas>=2", "!;"},
		{"!pip install a; rm b", "!;"},
		{"!pip install a && b", "!;"},
		{"!pip install a | tail", "!;"},
		{"!pip install $A", "!;"},
		{"%pip install {name}", "!;"},
		{"%pip install '{name}'", "!;"},
		{"!pip install \"$(id)\"", "!;"},
		{"!pip install `id`", "!;"},
		{"!pip install \"`id`\"", "!;"},
		{"!pip install 'a", "!;"},
		{"!pip install \\a", "!;"},
		{"%pip install -e .", "!;"},
		{"%pip install -e.", "!;"},
		{"%pip install --editable=x", "!;"},
		{"%pip install -i https://evil.example/simple a", "!;"},
		{"%pip install -ihttps://evil.example a", "!;"},
		{"%pip install --index-url=https://evil.example a", "!;"},
		{"%pip install --extra-index-url x a", "!;"},
		{"%pip install --find-links x a", "!;"},
		{"%pip install --trusted-host x a", "!;"},
		{"%pip install --target /tmp a", "!;"},
		{"%pip install --global-option=x a", "!;"},
		{"%pip install --config-settings=x=y a", "!;"},
		{"%pip install --upgrade=x a", "!;"},
		{"%pip install .", "!;"},
		{"%pip install ./a", "!;"},
		{"%pip install ../a", "!;"},
		{"%pip install ~/a", "!;"},
		{"%pip install /work/a", "!;"},
		{"%pip install a.whl", "!;"},
		{"%pip install a.tar.gz", "!;"},
		{"%pip install git+https://x/y", "!;"},
		{"%pip install 'a @ https://x/y'", "!;"},
		{"%pip install a@https://x/y", "!;"},
		{"%pip install file:a", "!;"},
		{"%pip install a b c/d", "!;"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cells); i++) {
		if (strcmp(asked(cells[i][0]), cells[i][1]) != 0)
			fail_msg("%s\nasks for \"%s\"", cells[i][0], asked(cells[i][0]));
	}
}

static void keep_words(void *arg, const struct pip_line *line)
{
	(void)snprintf(arg, 256, "%s", line->refused);
}

static void refusals_have_words(void **state)
{
	static const char *const cells[][2] = {
		{"%pip install a @ https://x", "address"},
		{"%pip install -e x", "only packages"},
		{"%pip install git+ssh://x", "address"},
		{"%pip install ./x", "path"},
		{"%pip install --index-url x", "configured"},
		{"%pip install $X", "expanded"},
		{"%pip install -x", "option"},
		{"!pip install a>1", "quotes"},
	};
	char text[256];

	(void)state;
	for (size_t i = 0; i < COUNT(cells); i++) {
		text[0] = '\0';
		assert_int_equal(pip_find(cells[i][0], strlen(cells[i][0]), keep_words, text), 1);
		if (!strstr(text, cells[i][1]))
			fail_msg("%s: %s", cells[i][0], text);
	}
}

static void no_cell_is_too_long(void **state)
{
	const size_t size = 100000;
	char *code = malloc(size + 1), text[2048] = "";

	(void)state;
	assert_non_null(code);
	for (size_t i = 0; i < size; i++)
		code[i] = "a "[i % 2];
	code[size] = '\0';
	memcpy(code, "%pip install ", 13);
	assert_int_equal(pip_find(code, size, note, text), 0);
	assert_int_equal(pip_find(code, 2000, note, text), 1);
	assert_string_equal(text, "!;");
	memset(code, 'a', size);
	memcpy(code, "%pip install ", 13);
	text[0] = '\0';
	assert_int_equal(pip_find(code, 4000, note, text), 1);
	assert_string_equal(text, "!;");
	/* many lines */
	text[0] = '\0';
	for (size_t i = 0; i + 15 < size; i += 15)
		memcpy(code + i, "%pip install a\n", 15);
	assert_int_equal(pip_find(code, size, note, text), PIP_LINES_MAX);
	free(code);
}

static void requirements_files(void **state)
{
	static const char good[] = "# what it needs\n\npandas>=2  # tables\r\n  a[b]\nc";
	static const char *const bad[] = {
		"-r other.txt",	      "--index-url x", "a @ https://x", "a\nb/c",
		"a --hash=sha256:00", "a \\\n",	       "a;\x01",	"${HOME}"};
	char *lines = NULL;
	struct err err;

	(void)state;
	assert_int_equal(requirement_lines(good, strlen(good), 10, &lines, &err), 0);
	assert_string_equal(lines, "pandas>=2\na[b]\nc\n");
	free(lines);
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_true(requirement_lines(bad[i], strlen(bad[i]), 10, &lines, &err) < 0);
	assert_true(requirement_lines("a\nb", 3, 1, &lines, &err) < 0);
	assert_true(requirement_lines("a\0b", 3, 1, &lines, &err) < 0);
}

static void names_are_compared_as_indexes_do(void **state)
{
	char name[REQUIREMENT_NAME + 1];

	(void)state;
	requirement_name("Foo._-Bar[x]>=1", name);
	assert_string_equal(name, "foo-bar");
	requirement_name("a", name);
	assert_string_equal(name, "a");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_of_cells),
		cmocka_unit_test(words_and_options),
		cmocka_unit_test(refusals_have_words),
		cmocka_unit_test(no_cell_is_too_long),
		cmocka_unit_test(requirements_files),
		cmocka_unit_test(names_are_compared_as_indexes_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
