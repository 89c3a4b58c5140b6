/* Any bytes as a cell: what is asked for is a requirement, an option of a few, or a file's name;
 * nothing of it is an address, a path to a package or something that is expanded. */
#include <stdint.h>
#include <string.h>

#include "proxy/pip.h"
#include "proxy/requirement.h"

static void check_line(void *arg, const struct pip_line *line)
{
	size_t *wanted = arg, any = 0;
	struct err err;

	if (line->count > PIP_WORDS_MAX || !memchr(line->refused, '\0', sizeof(line->refused)))
		__builtin_trap();
	for (size_t i = 0; i < line->count; i++) {
		const struct pip_word *word = &line->word[i];
		const char *text = word->text;
		char name[REQUIREMENT_NAME + 1];

		/* a shell leaves ` as it is in single quotes, where a file's name may have it */
		if (strpbrk(text, word->kind == PIP_FILE ? "${}\n" : "$`{}\n") ||
		    strlen(text) >= PIP_TEXT_MAX)
			__builtin_trap();
		any += word->kind != PIP_OPTION;
		if (word->kind == PIP_FILE && !word->file)
			__builtin_trap();
		if (word->kind != PIP_REQUIREMENT)
			continue;
		if (requirement_check(text, strlen(text), &err) < 0 || strpbrk(text, "/@:\\") ||
		    text[0] == '-' || text[0] == '.')
			__builtin_trap();
		requirement_name(text, name);
		if (!name[0])
			__builtin_trap();
	}
	if (!line->refused[0] && any == 0)
		__builtin_trap();
	(*wanted)++;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *code = (const char *)data;
	char *lines = NULL;
	size_t wanted = 0;

	if (pip_find(code, size, check_line, &wanted) != wanted || wanted > PIP_LINES_MAX)
		__builtin_trap();
	if (requirement_lines(code, size, 50, &lines, NULL) == 0 && strpbrk(lines, "/@:\\#$"))
		__builtin_trap();
	free(lines);
	return 0;
}
