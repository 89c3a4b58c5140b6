#include <stdio.h>
#include <string.h>

#include "proxy/content.h"

void blocked_add(struct blocked *blocked, const char *what, size_t bytes, const char *why)
{
	const size_t used = strlen(blocked->text), room = sizeof(blocked->text) - used;
	const char *between = used ? "; " : "";
	char shown[64], figure[40] = "";
	int size;

	blocked->count++;
	escape_string(shown, sizeof(shown), what);
	for (char *c = shown; *c; c++)
		if ((unsigned char)*c >= 0x7f)
			*c = '?';
	if (bytes)
		(void)snprintf(figure, sizeof(figure), ", %zu bytes", bytes);
	size = snprintf(blocked->text + used, room, "%s%s%s: %s", between, shown, figure, why);
	if (size < 0 || (size_t)size >= room)
		blocked->text[used] = '\0';
}
