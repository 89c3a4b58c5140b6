/*
 * etc: what /etc has inside. One list in etc.c, a reason each.
 */
#ifndef SANDBOX_ETC_H
#define SANDBOX_ETC_H

#include <stdbool.h>

#include "sandbox/base.h"

struct etc_entry {
	const char *path; /* absolute */
	const char *text; /* content of a file that is built; NULL: the host's own, when present */
};

/* The list; ends with a NULL path. */
const struct etc_entry *etc_list(void);
/* Writes the built files below `root` (a directory descriptor with an etc in it). Returns 0 or a
 * negative errno. */
int etc_build(int root, struct err *err);

#endif
