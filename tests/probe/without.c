#include "sandbox/without.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/base.h"
#include "sandbox/log.h"

#define WORDS_MAX 256

static char words[WORDS_MAX + 2] = " ";

void without_read(void)
{
	char program[PATH_MAX];
	cleanup(free_ptr) char *path = NULL, *text = NULL;
	ssize_t size = readlink("/proc/self/exe", program, sizeof(program) - 1);

	if (size <= 0)
		return;
	program[size] = '\0';
	path = format_string("%s.without", program);
	if (!path || read_file(AT_FDCWD, path, WORDS_MAX - 1, &text, NULL, NULL) < 0)
		return;
	text[strcspn(text, "\n")] = '\0';
	(void)snprintf(words, sizeof(words), " %s ", text);
	log_warning("for tests only, and no wall: without%s", words);
}

bool without(const char *layer)
{
	cleanup(free_ptr) char *word = format_string(" %s ", layer);

	return word && strstr(words, word);
}
