/* Any bytes as the content of an error: no place that is named is hidden, outside the folder or no
 * word of the shell. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/hint.h"

static void check_place(const struct hint_place *place)
{
	const char *path = place->path;
	char *line = hint_line(path, BESIDE_FILE);

	if (!line || strlen(path) >= HINT_PATH_MAX || place->named == 0 ||
	    place->named > strlen(path) || strpbrk(path, "\n'`\\=\x1b\x7f") || *path == '/' ||
	    *path == '-' || *path == '.' || strstr(path, "/.") || strstr(path, "//") ||
	    path[strlen(path) - 1] == '/' || !strstr(line, "cellwall stage add "))
		__builtin_trap();
	free(line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hint hint;

	if (hint_read((struct iovec){(void *)(uintptr_t)data, size}, "/home/ada/project", &hint) !=
	    (hint.count > 0))
		__builtin_trap();
	if (hint.count > HINT_PLACES)
		__builtin_trap();
	for (size_t i = 0; i < hint.count; i++)
		check_place(&hint.place[i]);
	return 0;
}
