#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "proxy/plain.h"
#include "proxy/traceback.h"

#define APART "\xe2\x80\x8b"

/* NULL: nothing to change. The text has no NUL behind it: reading on would be seen. */
static char *cleaned(const char *text, size_t size, unsigned flags)
{
	char *copy = malloc(size ? size : 1), *made = NULL;
	size_t made_size = 0;
	int r;

	assert_non_null(copy);
	memcpy(copy, text, size);
	r = traceback_clean(copy, size, flags, &made, &made_size);
	free(copy);
	assert_int_equal(r, made ? 1 : 0);
	if (made)
		assert_int_equal(strlen(made), made_size);
	return made;
}

static void check(const char *text, unsigned flags, const char *expected)
{
	char *made = cleaned(text, strlen(text), flags);

	if (expected)
		assert_string_equal(made, expected);
	else
		assert_null(made);
	free(made);
}

static void what_python_writes_stays(void **state)
{
	static const char *const kept[] = {
		"",
		"<",
		"F",
		"In [",
		"ZeroDivisionError                         Traceback (most recent call last)",
		"Cell In[1], line 2\n      1 def f(a, b='x'):\n----> 2     return a / 0",
		"Input In [1], in <cell line: 2>()",
		"File /usr/lib/python3.11/x.py:12, in f(a)\n     11 x = {'a': 1}",
		"  File \"<stdin>\", line 1, in <module>",
		"File ~/it's here",
		"a < b, <abs>, <a, 'File': 'x'",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		check(kept[i], 0, NULL);
}

static void places_with_quotes_are_no_links(void **state)
{
	(void)state;
	check("File x' onfocus='y:3, in f", 0, "File" APART " x' onfocus='y:3, in f");
	check("'File x:3", 0, "'File" APART " x:3");
	check("File x:3\n'", 0, NULL); /* a line is by itself */
	check("File x\n':3", 0, NULL);
	check("'x' Cell In [1]", 0, "'x' Cell" APART " In [1]");
	check("Cell x In[1] \"", 0, "Cell" APART " x In[1] \"");
	check("\x1b[31mCell\x1b[0m ' \x1b[32mI\x1b[0mn [1]", 0,
	      "\x1b[31mCell" APART "\x1b[0m ' \x1b[32mI\x1b[0mn [1]");
	check("'Cell In\xc2\xa0[1]", 0, "'Cell" APART " In\xc2\xa0[1]");
}

static void anchors_are_none(void **state)
{
	(void)state;
	check("<a href='x'>y</a>", 0, "<" APART "a href='x'>y</a>");
	check("x <A\thref", 0, "x <" APART "A\thref");
	check("x <a", 0, "x <" APART "a");
	check("x <a/>", 0, "x <" APART "a/>");
	check("<\x1b[1m\x1b[2ma \n<a>", 0, "<" APART "\x1b[1m\x1b[2ma \n<" APART "a>");
}

static void the_text_is_plain_first(void **state)
{
	(void)state;
	check("\x1b]0;t\x07 https://x.example", 0, " https[:]//x.example");
	check("https://x.example", PLAIN_LINKS, NULL);
	check("<\x07"
	      "a href",
	      PLAIN_LINKS, "<" APART "a href");
	check("\xc2\x9b"
	      "31mFile\x7f 'x:3",
	      0, "File" APART " 'x:3");
}

/* ---- what a front end looks for, of any text ---- */

static void without_colours(const char *text, char *out)
{
	for (; *text; text++) {
		if (*text == '\x1b')
			text = strchr(text, 'm');
		else
			*out++ = *text;
	}
	*out = '\0';
}

static bool is_place(const char *line)
{
	const char *quote = strpbrk(line, "'\""), *place = NULL;

	for (const char *at = strchr(line, ':'); at; at = strchr(at + 1, ':'))
		if (at[1] >= '0' && at[1] <= '9')
			place = at;
	for (const char *at = strstr(line, "File"); at; at = strstr(at + 1, "File"))
		if (quote && place && quote < place && at < place && strchr(" \t", at[4]))
			return true;
	return false;
}

static bool is_cell(const char *line)
{
	const char *cell = strstr(line, "In [");

	for (const char *at = strstr(line, "Cell"); at && cell; at = strstr(at + 1, "Cell"))
		if (strpbrk(line, "'\"") && strncmp(at + 4, APART, 3) != 0 && strstr(at, "In ["))
			return true;
	return false;
}

static bool is_anchor(const char *line)
{
	for (const char *at = strchr(line, '<'); at; at = strchr(at + 1, '<'))
		if ((at[1] == 'a' || at[1] == 'A') && at[2] && strchr(" \t/>", at[2]))
			return true;
	return false;
}

static void no_mixture_is_a_link(void **state)
{
	static const char *const pieces[] = {"File", " ",	 "'",  "\"", ":3",     ":",  "Cell",
					     "In [", "\x1b[31m", "<a", "<",  "\x1b[m", "\n", "x"};
	uint32_t seed = 1;

	(void)state;
	for (unsigned round = 0; round < 30000; round++) {
		char text[128] = "", plain[512];
		char *made, *rest = plain;

		for (unsigned i = 0; i < 12; i++) {
			seed = seed * 1664525u + 1013904223u;
			strncat(text, pieces[(seed >> 16) % 14], sizeof(text) - strlen(text) - 1);
		}
		made = cleaned(text, strlen(text), PLAIN_LINKS);
		without_colours(made ? made : text, plain);
		for (const char *line; (line = strsep(&rest, "\n"));)
			assert_false(is_place(line) || is_cell(line) || is_anchor(line));
		free(made);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_python_writes_stays),
		cmocka_unit_test(places_with_quotes_are_no_links),
		cmocka_unit_test(anchors_are_none),
		cmocka_unit_test(the_text_is_plain_first),
		cmocka_unit_test(no_mixture_is_a_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
