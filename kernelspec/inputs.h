/*
 * inputs: what `cellwall stage add` recorded for a notebook's folder.
 *
 * The record is STATE/folders/<sha256 of the folder's path>/inputs.json in the user's own state
 * directory, never in the folder: a project that was cloned cannot stage for itself. Directories
 * are 0700, the file 0600; what belongs to somebody else, or can be written by others, is not read.
 * It is written whole, by rename, under a flock(2) of the file `lock` beside it; reading needs no
 * lock. It belongs to the path: a folder that was moved has none at its new place.
 *
 * Names are raw bytes; in the file "%", control characters and bytes that are no UTF-8 are %XX.
 * Blocks on the lock for at most 5 s, and on file systems. Never logs.
 */
#ifndef KERNELSPEC_INPUTS_H
#define KERNELSPEC_INPUTS_H

#include <stdbool.h>
#include <stddef.h>

#include "sandbox/base.h"

#define INPUTS_MAX	   1000 /* of one folder; each is a mount */
#define INPUTS_ENTRIES_MAX 1000 /* that "." may stand for */
#define INPUTS_ALL	   "."	/* the name of everything beside the notebook */

struct input {
	char *name;   /* below /work, or INPUTS_ALL */
	char *source; /* the absolute path that was named; NULL: `name` in the folder */
	char *real;   /* where that led when it was added, links resolved */
};

struct inputs {
	struct input *items;
	size_t count;
};

void input_done(struct input *input);
void inputs_done(struct inputs *inputs);
/* Appends, or puts it in the place of the one with its name; takes what it holds. 0, -ENOMEM or
 * -E2BIG. */
int inputs_put(struct inputs *inputs, struct input *input);
/* Removes the one with this name. Returns whether there was one. */
bool inputs_remove(struct inputs *inputs, const char *name);

/*
 * What a person named in `folder` (absolute, links resolved: getcwd(3)): a path, "NAME=/abs/path",
 * or "." for the folder's entries. A path in the folder keeps its name, another one has its last
 * name. Checks it as inputs_check does. Returns 0, or a negative errno with words.
 */
int inputs_parse(const char *folder, const char *text, struct input *ret_input, struct err *err);
/*
 * The host path of an input now, links resolved once (caller frees). Returns 0, or a negative errno
 * with words: -ENOENT and the like when it is not there, -EACCES when it may not be staged, -ESTALE
 * when its link leads out of the folder to another place than when it was added.
 */
int inputs_resolve(const char *folder, const struct input *input, char **ret_real, struct err *err);
/*
 * May `real` (absolute, links resolved) be staged, that `shown` led to? No: "/", the home and what
 * holds it, cellwall's state, the folder itself and what holds it, /proc and its like; nor a hidden
 * place of the home that a link in the folder led to (`linked`). Returns 0 or -EACCES with words.
 */
int inputs_check(const char *folder, const char *real, const char *shown, bool linked,
		 struct err *err);
/* Is it a plain relative path, and no place that is taken? 0, or -EINVAL with words. */
int inputs_check_name(const char *name, struct err *err);

/*
 * Is it "staging", "staging/in" or "staging/out"? Recorded, these stage nothing: they say that a
 * link there may lead out of the folder, to `real`. A cloned project could have such a link too, to
 * have a kernel read or write beside it.
 */
bool inputs_is_staging(const char *name);

/* Called per entry that "." stands for, sorted: not hidden, not staging. A negative return ends it.
 */
typedef int inputs_entry_fn(void *arg, const char *name);
/* Returns 0, what the callback returned, -E2BIG past INPUTS_ENTRIES_MAX, or a negative errno. */
int inputs_entries(const char *folder, inputs_entry_fn *found, void *arg, struct err *err);

/* The record of `folder`; empty without one. Returns 0 or a negative errno with words. */
int inputs_read(const char *folder, struct inputs *ret_inputs, struct err *err);
/*
 * Changes the record under its lock: `change` gets it as it is and returns 1 to have it written
 * (removed, when nothing is left in it), 0 for nothing, or a negative errno. Returns what `change`
 * did, or a negative errno with words.
 */
typedef int inputs_change_fn(void *arg, struct inputs *inputs, struct err *err);
int inputs_change(const char *folder, inputs_change_fn *change, void *arg, struct err *err);
/* Every folder with a record; strings are lent. Returns 0 or the first negative errno (it goes on
 * past a failure). */
typedef void inputs_folder_fn(void *arg, const char *folder, const struct inputs *inputs);
int inputs_folders(inputs_folder_fn *found, void *arg, struct err *err);
/* The directory of `folder`'s record (caller frees); `make`: made when missing. 0 or -errno. */
int inputs_directory(const char *folder, bool make, char **ret_path, struct err *err);

/* `text` with "%", control characters and, unless all of it is UTF-8, its bytes from 0x80 on as
 * %XX. Caller frees; NULL: no memory. */
char *inputs_encode(const char *text);

#endif
