/*
 * tree: walking a directory tree that somebody hostile made, and may be changing meanwhile.
 *
 * In: a descriptor of the top. Every step goes one name down from a descriptor that is held, with
 * openat2(2) RESOLVE_BENEATH|NO_SYMLINKS|NO_MAGICLINKS|NO_XDEV; ".." is never opened, so that a
 * directory moved away under the walk leads nowhere else. No recursion: a stack of descriptors,
 * bounded in depth, path and memory. Never logs.
 */
#ifndef SANDBOX_TREE_H
#define SANDBOX_TREE_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "sandbox/base.h"
#include "sandbox/staging.h"

/* For tests: open every step as on a kernel without openat2 (before 5.6, or hidden by a container's
 * filter). */
extern bool tree_without_openat2;

/*
 * Opens `name`, one component, below `directory`; `flags` as open(2), without O_CREAT; always
 * close-on-exec, never through a symbolic link (-ELOOP or -ENOTDIR), never to another file system
 * (-EXDEV; the fallback sees that for directories only). Returns the descriptor or a negative
 * errno.
 */
int tree_step(int directory, const char *name, int flags);

struct walk_frame {
	int fd;
	int mate; /* a descriptor the user of the walk keeps for this directory, or -1; closed with
		     the frame */
	size_t length; /* of this directory's path in walk.path */
	char *entries; /* what getdents64(2) gave; kept for the next directory at this depth */
	size_t at, end;
};

struct walk {
	struct walk_frame frame[STAGING_DEPTH_MAX + 1];
	size_t depth; /* frames in use */
	bool across; /* set by the user: enters other file systems too (a tree of the host's own) */
	char path[STAGING_PATH_MAX + NAME_MAX + 2];
	const char *name;   /* of the present entry; points into path */
	unsigned char type; /* its DT_ constant, DT_UNKNOWN on some file systems */
};

void walk_init(struct walk *walk);
void walk_done(struct walk *walk); /* closes and frees everything */
/* Begins at a directory; opens its own descriptor of it. Returns 0 or a negative errno. */
int walk_start(struct walk *walk, int directory);
/*
 * Steps to the next entry: sets walk->path, name and type. A directory is left by itself after its
 * last entry. Returns 1; 0 at the end of the tree; or a negative errno when the present directory
 * cannot be read (it is left; go on with the next call).
 */
int walk_next(struct walk *walk);
/* The directory that holds the present entry. Until the next walk_next. */
struct walk_frame *walk_here(struct walk *walk);
/* lstat(2) of the present entry. */
int walk_stat(struct walk *walk, struct stat *ret_status);
/*
 * Goes into the present entry. Returns 0 or a negative errno; -E2BIG: deeper than
 * STAGING_DEPTH_MAX, -ENAMETOOLONG: its path has no room for names below it.
 */
int walk_enter(struct walk *walk);
/* Leaves the present directory for the one above. */
void walk_leave(struct walk *walk);

/*
 * Removes everything below `directory`, whatever its depth or modes, in bounded memory: directories
 * inside directories are moved up to the top first, so that it never holds more than two open.
 * Nobody may be writing there. Returns 0 or a negative errno.
 */
int tree_empty(int directory);

#define TREE_REMOVE_MS 1000
/*
 * Removes the directory `name` in `parent`, open as `directory`, with all that is in it. NFS keeps
 * a file that is open under another name (".nfs..."), and the server hears a little later that it
 * has been closed: waits for that, TREE_REMOVE_MS at the most. Returns 0 or a negative errno;
 * -EBUSY or -ENOTEMPTY: somebody still has a file in it open.
 */
int tree_remove(int parent, const char *name, int directory);

#endif
