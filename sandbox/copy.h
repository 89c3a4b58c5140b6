/*
 * copy: one file's way onto the host: into an unnamed file, then whole under its name, or not at
 * all.
 *
 * In: a descriptor of the source and one of the directory it goes to. Clones (ioctl_ficlone(2)),
 * else copy_file_range(2), else read and write; holes stay holes. Stops at a deadline and can be
 * continued. Never logs.
 */
#ifndef SANDBOX_COPY_H
#define SANDBOX_COPY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "sandbox/base.h"

/* Temporary names on the host: this and 32 hex digits. */
#define COPY_PREFIX    ".cellwall-"
#define COPY_NAME_SIZE 48

/* For tests: as on a file system without O_TMPFILE; without clones and copy_file_range. */
extern bool copy_without_unnamed;
extern bool copy_without_offload;

struct copy {
	int out;		   /* -1: none */
	int directory;		   /* of our own, where a temporary name is */
	char name[COPY_NAME_SIZE]; /* "" while the file has no name */
	off_t at;		   /* what is copied so far */
	off_t size;
};

void copy_init(struct copy *copy);
/* Throws away what is not committed. */
void copy_abort(struct copy *copy);

/* A new file that will live in `directory` (any open descriptor of it). Returns 0 or a negative
 * errno. */
int copy_begin(struct copy *copy, int directory, off_t size);
/*
 * Copies what is left of `in`, its first `size` bytes. Returns 0; -ETIME at `deadline` (now_ms; 0:
 * none), to be called again; or a negative errno. A source that shrank ends early: the caller
 * compares fstat(2) before and after.
 */
int copy_run(struct copy *copy, int in, int64_t deadline);
/* Who owns the file, and how it looks. */
struct copy_dress {
	bool give; /* to uid and gid */
	uid_t uid;
	gid_t gid;
	mode_t mode;
	struct timespec mtime;
};
/* Gives the file its owner, mode and times, and what fstat(2) then says of it. Returns 0 or a
 * negative errno. */
int copy_dress_up(struct copy *copy, const struct copy_dress *dress, struct stat *ret_status);
/*
 * Gives the file its name in `directory`. With `replace` it takes the place of what is there, else
 * -EEXIST. The copy is over when 0 is returned; else it may be tried again.
 */
int copy_commit(struct copy *copy, int directory, const char *name, bool replace);

/*
 * Removes temporary names that a killed collector left in `directory`: those nobody holds a lock
 * on, or, where there are no locks, those older than `before`. Bounded.
 */
void copy_sweep(int directory, const struct timespec *before);

/*
 * Are the bytes from `at` to `size` of both the same? 1, 0, or -ETIME with `at` set to go on from,
 * or another negative errno.
 */
int copy_compare(int a, int b, off_t size, off_t *at, int64_t deadline);

/* Has somebody got this file, opened by us read-only, open for writing or mapped shared and
 * writable? */
bool copy_has_writer(int fd);

#endif
