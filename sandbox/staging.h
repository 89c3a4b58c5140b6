/*
 * staging: the private directory behind /work, and the collector that brings its results to
 * staging/out.
 *
 * A private directory is STATE/<id>/ with
 *   lock    an empty file, flock(2)ed for as long as somebody works with the directory
 *   out     one line: the absolute path of the staging/out directory its results belong to
 *   work/   what the kernel sees as /work (owned by the kernel's uid), with staging/out in it
 * and limits, places, written and others, for a later recovery (see staging.c).
 *
 * The collector runs on the trusted side, outside the sandbox, over a tree that a hostile kernel
 * changes while it is read. It opens every step with openat2(2)
 * RESOLVE_BENEATH|NO_SYMLINKS|NO_MAGICLINKS|NO_XDEV, takes regular files and directories only,
 * copies into an unnamed file (O_TMPFILE) and links and renames it into place, and is bounded in
 * depth, count and bytes. It never deletes on the host. Used by the supervisor's collector process
 * and by `cellwall stage recover`. Never logs; reports through a callback.
 */
#ifndef SANDBOX_STAGING_H
#define SANDBOX_STAGING_H

#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "sandbox/base.h"

#define STAGING_DEPTH_MAX 64   /* directories below /work */
#define STAGING_PATH_MAX  1024 /* bytes of a path relative to /work */
#define HISTORY_MAX	  ((uint64_t)64 * 1024 * 1024)

struct staging;

struct staging_report {
	uint64_t files; /* brought out by this call */
	uint64_t bytes;
	uint64_t left;	  /* seen but not brought out: out of time, or still changing */
	uint64_t flagged; /* of the files, those that may run code when they are opened */
	bool watched;	  /* all that was seen is: see staging_changes */
};

/* Called once per refused path (raw bytes, relative to /work, NUL-terminated) with a reason in
 * words. */
typedef void staging_refused_fn(void *arg, const char *path, const char *reason);

/*
 * Makes STATE/<new id>/ for results that belong to `out`; `owner` is the uid and gid of work/ (-1:
 * leave). Takes its lock. Files of OUT from before this moment are results of earlier runs and may
 * be replaced, so bring in what is left over (staging_recover) first. Returns 0 or a negative
 * errno.
 */
int staging_create(const char *state, const char *out, uid_t owner, uint64_t max_bytes,
		   uint64_t max_files, struct staging **ret_staging, struct err *err);
/*
 * Opens an existing private directory by its path; limits of 0 are those of the run that made it.
 * Returns 0; -EBUSY when somebody holds its lock.
 */
int staging_open(const char *directory, uint64_t max_bytes, uint64_t max_files,
		 struct staging **ret_staging, struct err *err);
/* Closes; removes nothing. Accepts NULL; returns NULL. */
struct staging *staging_free(struct staging *staging);

const char *staging_directory(const struct staging *staging); /* STATE/<id> */
const char *staging_work(const struct staging *staging);      /* STATE/<id>/work */
const char *staging_out(const struct staging *staging);

/*
 * Makes the place for a staged thing in work/ before the kernel runs: an empty directory or file at
 * the path `relative` with its parents. The collector never takes that place itself for a result.
 */
int staging_place(struct staging *staging, const char *relative, bool directory, struct err *err);
/* The same where nothing can be mounted: a symbolic link to the thing itself. */
int staging_link(struct staging *staging, const char *relative, const char *to, struct err *err);

/*
 * Remembers which thing of the host is staged at `relative`, for who looks into the private
 * directory (running.h). Returns 0 or a negative errno.
 */
int staging_note(struct staging *staging, const char *relative, const char *source);
/*
 * Names that the collector would keep inside (names.h) and now lets out; ends with NULL, may be
 * NULL. Remembered for a recovery. Returns 0 or a negative errno.
 */
int staging_let_out(struct staging *staging, char *const *names);
/*
 * Says of a file below work/, by its fstat(2), that it is a copy of one of the host's: it is no
 * result until its size or mtime changes. Returns 0 or a negative errno.
 */
int staging_given(struct staging *staging, const struct stat *status);
/*
 * Copies the input history of earlier kernels into work/ (INSIDE_HISTORY), if there is one, and
 * remembers `host_file` for the way back (staging_history_back). Returns 0, or a negative errno
 * when that file cannot be used; the kernel then begins with an empty history that is not kept.
 */
int staging_history(struct staging *staging, const char *host_file, struct err *err);
/*
 * Brings the history back to the host, when nobody writes it any more: a regular file of at most
 * HISTORY_MAX bytes, whole or not at all, and only over the version that was copied in. Returns 0,
 * also when there is nothing to do, or a negative errno.
 */
int staging_history_back(struct staging *staging, struct err *err);

/* Called once per file brought out that may run code when it is opened, see name_flag. */
void staging_on_flagged(struct staging *staging, staging_refused_fn *flagged, void *arg);

/*
 * Brings out what is new or changed since the last call, until `deadline` (now_ms; 0: none).
 * WORK/staging/out/x and WORK/x both go to OUT/x; when both exist the second gets a name beside it
 * and is reported; so does a file whose place on the host holds what the host changed. Directories
 * come with their files: an empty one is no result. A file that is open for writing waits until it
 * is closed, is counted in `left` and reported once. __pycache__ stays inside in silence; names
 * that tools act on (names.h) and all but regular files are reported. What staging/out held at the
 * start is no result until it is changed, and what is deleted inside stays on the host.
 *
 * Returns 0, or a negative errno when OUT cannot be written (nothing is lost: the files stay in
 * work/). The report is filled in either case.
 */
int staging_collect(struct staging *staging, int64_t deadline, staging_refused_fn *refused,
		    void *arg, struct staging_report *ret_report, struct err *err);

/*
 * The descriptor that changes_none() is asked with (lent), or -1. It speaks from a staging_collect
 * on that left nothing and watched everything.
 */
int staging_changes(const struct staging *staging);

/* Removes the private directory: only after everything in it was collected or refused. */
int staging_remove(struct staging *staging, struct err *err);

/*
 * For every private directory below `state` that nobody holds and whose results belong to `out`
 * (NULL: any): collects and removes it. Empty abandoned ones are removed whatever they belong to.
 * `flagged` is as in staging_on_flagged, may be
 * NULL. `found` is called per directory of which a file was brought in; a limit of 0 is that of the
 * run. Without `refused`, a directory of which something was refused is kept for a call that can
 * say it. Returns 0 or the first negative errno (it goes on past a failure).
 */
typedef void staging_found_fn(void *arg, const char *directory, const char *out,
			      const struct staging_report *report);
int staging_recover(const char *state, const char *out, uint64_t max_bytes, uint64_t max_files,
		    staging_refused_fn *refused, staging_refused_fn *flagged,
		    staging_found_fn *found, void *arg, struct err *err);

/* Is there a private directory below `state`, of whatever kernel, that staging_recover would look
 * at? */
bool staging_waits(const char *state);

/*
 * Checks a tree that is to be staged: refuses sockets, fifos and devices with their path. Looks at
 * no more than `max_entries` entries (0 entries left: accepted, the mounts are nodev and the rest
 * is documented).
 */
int staging_check_input(const char *path, uint64_t max_entries, struct err *err);

/*
 * What is waiting below `state`; touches nothing. `info` is called per private directory, its
 * strings are lent. Returns 0, or the first negative errno (it goes on past a failure).
 */
struct staging_info {
	const char *directory, *out;
	bool held;	       /* somebody works with it: a kernel is running */
	uint64_t files, bytes; /* new or changed since the last collection */
	uint64_t others;       /* names that would be refused */
};
typedef void staging_info_fn(void *arg, const struct staging_info *info);
int staging_survey(const char *state, staging_info_fn *info, void *arg, struct err *err);

/*
 * Where private directories are: $XDG_STATE_HOME/cellwall/kernels, else
 * ~/.local/state/cellwall/kernels (caller frees; not made here). Returns 0 or a negative errno.
 */
int staging_state_directory(char **ret, struct err *err);

#endif
