/*
 * requirement: one package as a requirement names it (PEP 508): its name, extras, versions and
 * marker. Nothing that leads anywhere but to the index: no address, no path, no option. Pure; any
 * bytes are taken. Never logs.
 */
#ifndef PROXY_REQUIREMENT_H
#define PROXY_REQUIREMENT_H

#include <stddef.h>

#include "sandbox/base.h"

#define REQUIREMENT_MAX	 256 /* bytes of one */
#define REQUIREMENT_NAME 100

/* Returns 0 or -EINVAL, with words that name it. */
int requirement_check(const char *text, size_t size, struct err *err);
/* The name of a checked one as indexes compare it (PEP 503): lower case, "-" for runs of "-_.". */
void requirement_name(const char *text, char out[REQUIREMENT_NAME + 1]);
/*
 * A requirements file: its requirements, a line each, without comments and empty lines (caller
 * frees). At most `most` lines. -EINVAL: something else is in it, with words and the line's number.
 */
int requirement_lines(const char *text, size_t size, size_t most, char **ret_lines,
		      struct err *err);

#endif
