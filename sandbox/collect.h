/*
 * collect: the parts of staging_collect and what they share. collect.c walks work/, result.c brings
 * one file out, target.c knows the directories and names of the host. For these and recover.c
 * alone; never logs.
 */
#ifndef SANDBOX_COLLECT_H
#define SANDBOX_COLLECT_H

#include "sandbox/staging_parts.h"

#define COLLECT_INNER "staging/out" /* below work/: the same place as OUT */

struct collector {
	struct staging *staging;
	int64_t deadline;
	staging_refused_fn *refused;
	void *arg;
	struct staging_report report;
	struct err *err;
	int failure; /* the first one */
	unsigned int failures;
	int out;   /* OUT, opened when the first result is there; -1 before */
	bool give; /* we are root: results get the owner of OUT */
	uid_t uid;
	gid_t gid;
	bool stop;  /* out of time, or OUT is of no use */
	bool large; /* in: take large files too; out: there are some */
	bool large_seen;
	bool waited; /* for the tick */
	bool survey;
	bool unseen; /* a file is there that may change without an event */
	uint64_t looked, look_max;
	uint64_t others; /* refused names, said or not */
};

/* One file on its way. */
struct result {
	int in;
	int directory; /* borrowed: where it goes */
	struct stat status;
	struct seen_source source;
	struct seen_file *file; /* NULL: never seen */
	bool unsettled;
	char target[NAME_MAX + 1];
	uint32_t beside;
	bool replace;
	bool again;		  /* this version was brought out, but unsettled */
	bool equal;		  /* the host has this very content already, as `found` */
	struct seen_target found; /* what is there: equal, or to be replaced */
	const char *why;	  /* target is not its own name, or NULL */
	const char *moved;	  /* as why, when that is new */
};

/* What the present entry of the walk is to the collector. */
enum collect_kind {
	COLLECT_FILE,
	COLLECT_DIRECTORY,
	COLLECT_REFUSED, /* for a reason */
	COLLECT_DELETED, /* a result of earlier that was deleted inside (overlayfs whiteout) */
	COLLECT_NOTHING, /* no result, and nothing to say */
};
/* collect.c. `ret_reason` is set for COLLECT_REFUSED. */
enum collect_kind collect_kind(struct staging *staging, const char **ret_reason);
/* Why walk_enter failed with this, or NULL: it went or became something else just now, or an error.
 */
const char *collect_enter_refusal(int error);
/* Is this path, relative to work/, below staging/out? */
bool collect_is_inner(const char *path);
/* collect.c: says that `path` stays inside, and why; once. */
void collect_refuse(struct collector *c, const char *path, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Says of the present file that it waits; once. */
void collect_announce(struct collector *c, const char *reason);
/* A result that could not be written stays in work/; the call goes on with the others, for a while.
 */
void collect_fail(struct collector *c, int error, const char *what);
/* Is there room for this version of the present file? Says it when there is not. `file` may be
 * NULL. */
bool collect_within_limits(struct collector *c, const struct seen_file *file, off_t size);
/*
 * Counts what staging_collect would bring out (files, bytes) and what it would refuse (ret_other),
 * without touching anything.
 */
int collect_survey(struct staging *staging, struct staging_report *ret_report, uint64_t *ret_other);

/* result.c: brings the present file of the walk out; `file` is what is known of it, or NULL.
 * Reports by itself. */
void result_bring(struct collector *c, struct seen_file *file);

/*
 * target.c: the directory of OUT for the present directory of the walk, borrowed; opened, and made,
 * level by level. Returns it or a negative errno (said already when c->out is still -1).
 */
int target_directory(struct collector *c);
/*
 * Decides target, beside and replace for an opened result, or finds that the content is there
 * (equal, found). Returns 0; 1 when it is refused (said); -ETIME or another negative errno.
 */
int target_choose(struct collector *c, struct result *result, const char *name);

#endif
