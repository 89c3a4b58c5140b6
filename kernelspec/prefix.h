/*
 * prefix: which directories an interpreter needs, and whether a notebook server uses them too.
 *
 * Found by reading files only, never by running the interpreter: a .pth file of an untrusted
 * package would run on the host at its start (docs.python.org/3/library/site.html). A virtual
 * environment is known by its pyvenv.cfg, whose `home` leads to the base interpreter; every
 * symbolic link on the way counts.
 */
#ifndef KERNELSPEC_PREFIX_H
#define KERNELSPEC_PREFIX_H

#include <stdbool.h>

#include "sandbox/base.h"

struct prefix {
	char *executable; /* absolute, as given (links not resolved): what is executed inside */
	char **paths; /* NULL-terminated directories that must be visible inside, links on the way
		       * not resolved; nothing below /usr, /bin, /lib*, which are always there */
	bool python;  /* it is a Python (a virtual environment, or its name begins with python) */
};

/*
 * `program` is a path, or a name looked up in PATH (a Python's there may not be a script: pyenv's
 * and asdf's shims are passed over). Errors say what to do: not found; a script in place of an
 * interpreter; a prefix that would be "/", the home or something above it. Returns 0 or a negative
 * errno.
 */
int prefix_find(const char *program, struct prefix *ret_prefix, struct err *err);
void prefix_done(struct prefix *prefix);

/*
 * May `directory` (absolute) be shown inside a kernel at its own place? No: "/", the home, the
 * state directory or anything above them, the user site (~/.local), the host's own places (/etc,
 * /proc, …), and what is below the places the sandbox makes for itself. Returns 0 or -EACCES with
 * words.
 */
int prefix_may_show(const char *directory, struct err *err);
/* May `real` (absolute, links resolved) be staged? No: "/", the home, the state directory and what
 * holds them. Returns 0 or -EACCES with words. */
int prefix_may_stage(const char *real, struct err *err);
/* The program `name` in PATH or else in the directory `beside` (NULL: none), links resolved; no
 * script, whose interpreter would be another program, and no link to a program of another name,
 * which would not know what it is called as. Caller frees; NULL: there is none. */
char *prefix_program(const char *name, const char *beside);
/* Is it below /usr, /bin, /sbin or /lib*, which are visible in every kernel? Text only. */
bool prefix_always_there(const char *path);

/*
 * Does a notebook server share code with this interpreter? Compares the prefixes with those of
 * every directory the server loads code from: the interpreters and mapped libraries of the Jupyter
 * processes this one descends from, JUPYTER_PATH and its like, the prefix of `jupyter` and
 * `jupyter-lab` in PATH. Returns 0 when apart (or only /usr is shared by a Debian package); -EEXIST
 * with one line that names both and the command that makes a separate environment.
 */
int prefix_shared_with_server(const struct prefix *prefix, struct err *err);

#endif
