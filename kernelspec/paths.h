/*
 * paths: questions about path names and where things lie, for the rooms that look at other people's
 * installations. Pure text unless it says that it looks at the disk; nothing is executed. Never
 * logs.
 */
#ifndef KERNELSPEC_PATHS_H
#define KERNELSPEC_PATHS_H

#include <stdbool.h>

#include "sandbox/base.h"

/* A name for what belongs to `path`: the hex digits of its SHA-256. Returns 0 or -ENOMEM. */
#define PATHS_ID 64
int paths_id(const char *path, char out[PATHS_ID + 1]);
/* Everything up to the last "/" ("/" for "/x"; "." without any). Caller frees; NULL: no memory. */
char *paths_parent(const char *path);
/* What follows the last "/": points into `path`. */
const char *paths_name(const char *path);
/* Is `path` the directory itself or below it? Text only; both absolute and without a trailing "/".
 */
bool paths_within(const char *path, const char *directory);
/*
 * Absolute (against the working directory), without "//", "/./" or a trailing "/". A ".." is taken
 * out by resolving the directory before it on disk, as open(2) would. The last component is never
 * resolved. Caller frees; NULL with errno set.
 */
char *paths_absolute(const char *path);
/* realpath(3), or a copy of `path` when that fails. Caller frees; NULL: no memory. */
char *paths_real(const char *path);
/* Is DIRECTORY/NAME there (stat, links followed)? */
bool paths_exists(const char *directory, const char *name);
bool paths_is_directory(const char *path);
/* $HOME when absolute, else the passwd entry; "/" when there is none. Caller frees; NULL: no
 * memory. */
char *paths_home(void);

/*
 * Looks for an executable regular file `name` in the directories of `search` (the text of a PATH).
 * Every hit is offered to `accept` (NULL: the first is taken) until it returns true. Caller frees;
 * NULL: none.
 */
char *paths_search(const char *search, const char *name, bool (*accept)(const char *path));
/* The same in one directory, whose name may have a ":". */
char *paths_program(const char *directory, const char *name, bool (*accept)(const char *path));

/*
 * The interpreter in the "#!" line of a script: a path, or the bare name that env(1) is asked for.
 * Knows the two-line form that installers write when the line would be too long for execve(2).
 * Returns 1 with a fresh string; 0 when the file is no script; a negative errno when it cannot be
 * read.
 */
int paths_shebang(const char *script, char **ret_interpreter);

/* A growing NULL-terminated list of strings. */
struct paths_list {
	char **items;
	size_t count;
};
#define PATHS_LIST_MAX 256
/* Appends a copy. Returns 0, -ENOMEM, or -E2BIG past PATHS_LIST_MAX. */
int paths_list_add(struct paths_list *list, const char *text);
void paths_list_done(struct paths_list *list);

#endif
