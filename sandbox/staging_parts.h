/*
 * staging_parts: what staging.c (the private directory's life) and collect.c (the collector) share.
 * For them alone.
 */
#ifndef SANDBOX_STAGING_PARTS_H
#define SANDBOX_STAGING_PARTS_H

#include <time.h>

#include "sandbox/changes.h"
#include "sandbox/copy.h"
#include "sandbox/seen.h"
#include "sandbox/staging.h"
#include "sandbox/tree.h"

/* A copy that a deadline interrupted, to be continued by the next call. */
struct partial {
	struct copy copy;
	char *path; /* NULL: none */
	struct seen_source source;
};

/* A result of the host's that is compared with a file inside; a deadline may interrupt that. */
struct comparison {
	char *path; /* NULL: none */
	struct seen_source source;
	struct seen_target target;
	off_t at; /* the same up to here */
};

/* Files that were copied in; grows on disk too. */
struct given {
	struct seen_target *file;
	size_t count;
};

/* The input history: which version of the host's file was copied in, and as which file. */
struct history_mark {
	struct seen_target host, copy; /* inode 0: there was none */
};

struct staging {
	char *directory, *work, *out;
	int fd;	  /* of STATE/<id> */
	int lock; /* flock(2)ed; shared with forked children through the same open file description
		   */
	int work_fd;
	uid_t owner; /* of work/; whatever belongs to somebody else was not made by the kernel */
	mode_t mask; /* permission bits that results never get */
	uint64_t max_bytes, max_files;
	struct timespec since;	/* when the run began, by the clock of the private directory */
	struct timespec opened; /* when this process began with it */
	uint64_t *stubs;	/* inodes of the empty files that staging_place made */
	size_t stub_count;
	struct seen seen;
	struct walk walk;
	struct partial partial;
	struct comparison comparison;
	struct changes changes;
	struct given given;
	char **let_out; /* NULL-terminated, or NULL */
	char *history;	/* path on the host; NULL: none is kept */
	struct history_mark history_mark;
	staging_refused_fn *flagged;
	void *flagged_arg;
	bool leases;	/* tell whether a file is open for writing */
	bool swept;	/* of what a killed collector left in OUT */
	bool said_many; /* that more names are refused than are said */
	bool said_deleted;
};

/* Names that one collection looks at, and files that are remembered, at the most. */
static inline uint64_t staging_names_max(const struct staging *staging)
{
	return staging->max_files < UINT64_MAX / 8 ? staging->max_files * 4 + 4096 : UINT64_MAX;
}

/* result.c and target.c */
void partial_drop(struct partial *partial);
void comparison_drop(struct comparison *comparison);

/* places.c: reads the inodes of the places' files. */
int places_read(struct staging *staging, struct err *err);
/* Is this empty file the place of a mount? */
bool places_has(const struct staging *staging, const struct stat *status);
/*
 * Makes or opens, one level below `parent`, a directory that belongs to the kernel. Returns the
 * descriptor or a negative errno.
 */
int places_directory(const struct staging *staging, int parent, const char *name, gid_t group);
/* What staging_note wrote: "relative NUL source NUL ..." (caller frees). Returns 0 or a negative
 * errno. */
int places_origins(const struct staging *staging, char **ret_text, size_t *ret_size);

/* marks.c: reads, or reads on, what staging_let_out and staging_given wrote. */
int marks_read_let_out(struct staging *staging, struct err *err);
void marks_read_given(struct staging *staging);
bool marks_is_given(const struct staging *staging, const struct stat *status);
void marks_done(struct staging *staging);

/* history.c: the name in work/ begins with this: never a result, never refused. */
#define HISTORY_NAME ".cellwall-history.sqlite"
int history_read(struct staging *staging, struct err *err);

/* recover.c: does somebody hold the private directory `name` below `state`? */
bool recover_is_held(int state, const char *name);
/* Is this the name of a private directory? */
bool recover_is_id(const char *name);

/* A private directory in the making: this and its id. */
#define STAGING_NEW ".new-"
#define STAGING_ID  32 /* hex digits */

/* As staging_open without the lock, for looking only; the limits are those of the run. */
int staging_peek(const char *directory, struct staging **ret_staging, struct err *err);

#endif
