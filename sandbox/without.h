/*
 * without: leaving one layer out, to show which of the others still stop a probe. Only the program
 * that -DWITHOUT=ON builds for the tests can; it is never installed. In every other build this is a
 * constant.
 */
#ifndef SANDBOX_WITHOUT_H
#define SANDBOX_WITHOUT_H

#include <stdbool.h>

#ifdef CELLWALL_WITHOUT
/* Reads the words in the file beside the program, and says on stderr what is left out. */
void without_read(void);
bool without(const char *layer);
#else
static inline void without_read(void)
{
}

static inline bool without(const char *layer)
{
	(void)layer;
	return false;
}
#endif

#endif
