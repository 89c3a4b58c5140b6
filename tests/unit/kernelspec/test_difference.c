#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "kernelspec/difference.h"

/* What is printed; caller frees. */
static char *difference(const char *before, const char *after)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	assert_non_null(out);
	assert_int_equal(difference_print(out, before, strlen(before), after, strlen(after)), 0);
	assert_int_equal(fclose(out), 0);
	return text;
}

static void assert_difference(const char *before, const char *after, const char *wanted)
{
	char *text = difference(before, after);

	assert_string_equal(text, wanted);
	free(text);
}

static void shows_what_changed(void **state)
{
	(void)state;
	assert_difference("a\nb\n", "a\nb\n", "");
	assert_difference("", "a\n", "@@ -0,0 +1,1 @@\n+a\n");
	assert_difference("a\n", "", "@@ -1,1 +0,0 @@\n-a\n");
	assert_difference("a\nb\nc\n", "a\nx\nc\n", "@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n");
	assert_difference("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\n5\n6\n7\n8\nx\n",
			  "@@ -6,4 +6,4 @@\n 6\n 7\n 8\n-9\n+x\n");
	assert_difference(
		"0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n", "x\n1\n2\n3\n4\n5\n6\n7\n8\ny\n",
		"@@ -1,4 +1,4 @@\n-0\n+x\n 1\n 2\n 3\n@@ -7,4 +7,4 @@\n 6\n 7\n 8\n-9\n+y\n");
}

static void is_safe_to_print(void **state)
{
	char before[] = "a\0b";
	char *text = NULL;
	size_t size = 0;
	FILE *out;

	(void)state;
	assert_difference("", "\x1b[31mred\r\xff\n", "@@ -0,0 +1,1 @@\n+\\x1b[31mred\\x0d\\xff\n");
	out = open_memstream(&text, &size);
	assert_int_equal(difference_print(out, before, 3, "x", 1), 0);
	fclose(out);
	assert_string_equal(text, "(not text: they differ)\n");
	free(text);
}

/* Applies what was printed to lines of one character each; the result is left in `out`. */
static void apply(const char *patch, const char *before, char *out)
{
	size_t at = 0, used = 0;

	while (*patch) {
		unsigned long from, of, to, lines;

		assert_int_equal(sscanf(patch, "@@ -%lu,%lu +%lu,%lu @@", &from, &of, &to, &lines),
				 4);
		patch = strchr(patch, '\n') + 1;
		for (; at < 2 * (of > 0 ? from - 1 : from); at++)
			out[used++] = before[at];
		for (; *patch && *patch != '@'; patch += 3) {
			assert_int_equal(patch[2], '\n');
			if (*patch != '+') {
				assert_int_equal(before[at], patch[1]);
				at += 2;
			}
			if (*patch != '-') {
				out[used++] = patch[1];
				out[used++] = '\n';
			}
		}
	}
	strncpy(out + used, before + at, 256 - used);
}

static void leads_from_one_to_the_other(void **state)
{
	unsigned long seed = 1;

	(void)state;
	for (int turn = 0; turn < 3000; turn++) {
		char text[2][256], result[512] = "";
		char *patch;

		for (int i = 0; i < 2; i++) {
			size_t used = 0, lines;

			seed = seed * 6364136223846793005UL + 1442695040888963407UL;
			lines = (seed >> 33) % 40;
			for (size_t line = 0; line < lines; line++) {
				seed = seed * 6364136223846793005UL + 1442695040888963407UL;
				text[i][used++] =
					(char)('a' + (seed >> 33) % (2 + (unsigned)turn % 7));
				text[i][used++] = '\n';
			}
			text[i][used] = '\0';
		}
		patch = difference(text[0], text[1]);
		apply(patch, text[0], result);
		assert_string_equal(result, text[1]);
		free(patch);
	}
}

/* Every line differs: no way is looked for longer than it takes. */
static void is_bounded(void **state)
{
	static char before[400000], after[400000];
	char *text;

	(void)state;
	for (size_t i = 0; i + 8 < sizeof(before); i += 8) {
		(void)snprintf(before + i, 9, "%07zu\n", i);
		(void)snprintf(after + i, 9, "%07zu\n", i + 1);
	}
	text = difference(before, after);
	assert_int_equal(strncmp(text, "@@ -1,49999 +1,49999 @@\n-0000000\n", 33), 0);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shows_what_changed),
		cmocka_unit_test(is_safe_to_print),
		cmocka_unit_test(leads_from_one_to_the_other),
		cmocka_unit_test(is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
