/*
 * imported: which packages of a sealed environment kernels import, kept in one file for
 * `cellwall env usage`.
 *
 * In: the kernel's own word when it ends (sandbox/hook.h): "imported" of sandbox/status.h, with
 * foreign text. Out: {"runs": N, "modules": {NAME: "2026-01-31"}}, the day of the last run; names
 * of letters, digits and "_" alone, IMPORTED_MAX at the most. A convenience: nothing is decided by
 * it. Logs when it cannot be kept.
 */
#ifndef PROXY_IMPORTED_H
#define PROXY_IMPORTED_H

#include <jansson.h>

#include "sandbox/status.h"

#define IMPORTED_MAX	  2000 /* modules in the file */
#define IMPORTED_FILE_MAX (256 * 1024)

struct imported {
	int file;	 /* -1: none is kept */
	json_t *modules; /* that this kernel told */
};
#define IMPORTED_NONE                                                                              \
	{                                                                                          \
		.file = -1                                                                         \
	}

/* Opens the file, or makes it with its directory. Failing that nothing is kept. */
void imported_open(struct imported *imported, const char *path);
/* Takes the names of one "attempt" whose third word is "imported". Returns whether it is one. */
bool imported_note(struct imported *imported, const struct status *status);
/* Adds what this kernel told to the file, and closes it. */
void imported_close(struct imported *imported);

/* What a file says, with `modules`; caller decrefs. Returns 0, -ENOENT, or -EINVAL. */
int imported_read(const char *path, json_t **ret_said);

#endif
