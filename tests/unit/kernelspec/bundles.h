/*
 * bundles: writes records of a bundle (kernelspec/bundle.h), for the tests of this room.
 */
#ifndef TESTS_UNIT_KERNELSPEC_BUNDLES_H
#define TESTS_UNIT_KERNELSPEC_BUNDLES_H

#include <stdio.h>
#include <string.h>

/* A record without bytes behind its name. */
static inline void put(FILE *out, char kind, const char *name)
{
	size_t length = strlen(name);

	(void)fputc(kind, out);
	(void)fputc((int)(length & 0xff), out);
	(void)fputc((int)(length >> 8), out);
	(void)fputs(name, out);
}

static inline void put_text(FILE *out, char kind, const char *name, const char *text)
{
	size_t size = strlen(text);

	put(out, kind, name);
	for (int i = 0; i < 8; i++)
		(void)fputc((int)(size >> (8 * i) & 0xff), out);
	(void)fputs(text, out);
}

#endif
