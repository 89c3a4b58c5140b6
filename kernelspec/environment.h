/*
 * environment: what the path of a Python interpreter says about its environment.
 *
 * Follows CPython's own search (Modules/getpath.py): a pyvenv.cfg beside the executable or one
 * directory up, the links of that path not resolved, makes a virtual environment; without one,
 * links are resolved and the prefix is what holds bin/. Files are read, bounded; nothing is
 * executed. Never logs.
 */
#ifndef KERNELSPEC_ENVIRONMENT_H
#define KERNELSPEC_ENVIRONMENT_H

#include <stdbool.h>

#include "sandbox/base.h"

#define ENVIRONMENT_CFG_MAX (64 * 1024) /* a pyvenv.cfg has five lines */

struct environment {
	char *root; /* the virtual environment as named, or the interpreter's own prefix, resolved
		     */
	char *home; /* `home` of pyvenv.cfg, absolute; NULL: no virtual environment */
	char *base; /* prefix of the base interpreter, resolved; equal to root without a virtual
		       environment */
	bool system_site; /* the base's packages are visible too */
};

/* `executable` is absolute. Returns 0; -ENOENT with words when a virtual environment's home is
 * gone; -errno. */
int environment_read(const char *executable, struct environment *ret_environment, struct err *err);
void environment_done(struct environment *environment);

/* The directory with a pyvenv.cfg that makes `executable` a virtual environment's. Caller frees;
 * NULL: none. */
char *environment_venv(const char *executable);
/* The executable in `home` that stands for `name`: itself, else python3, python. Caller frees;
 * NULL: none. */
char *environment_base_executable(const char *home, const char *name);

/* Is there a lib/python3* or lib/pypy3* in `prefix`? */
bool environment_has_library(const char *prefix);

/* Can the interpreter import `module` (a directory or MODULE.py in its site directories)? Reads
 * directories. */
bool environment_has(const struct environment *environment, const char *module);
/* The same for the packages in one prefix alone. */
bool environment_prefix_has(const char *prefix, const char *module);
/* Did an installer other than dpkg put packages into `prefix` (a *.dist-info, *.egg-info,
 * *.egg-link or *.pth)? */
bool environment_prefix_filled(const char *prefix);

#endif
