/*
 * Theory of operation
 *
 * One call walks work/ once, or twice when there are large files: small ones go first, so that a
 * deadline that cuts a large copy short costs only that. A file is looked at with fstatat(2); if
 * inode, size, mtime and ctime are those of the version that was brought out, that is all.
 * Otherwise it is opened one name below the directory that the walk holds, checked again through
 * the descriptor, copied into an unnamed file, compared with fstat(2) once more and only then given
 * its name, in the directory of OUT that belongs to the frame of the walk.
 *
 * Three writers escape those four numbers. One that writes in the tick of the clock in which the
 * file was looked at: a call waits one tick for such files, once. One that keeps the file open or
 * mapped (a mapped page changes no time stamp while it is dirty): found by a lease, and the file
 * waits until it is closed. And the host itself: a target that is not the file we left there is
 * never replaced.
 */
#include "sandbox/collect.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "sandbox/names.h"

#define SMALL	      ((off_t)16 * 1024 * 1024)
#define FAILURES_MAX  8	  /* files that could not be written before a call gives up */
#define LOOK_INTERVAL 256 /* entries between two looks at the clock */

/* The path that is named for `path`, or NULL when nothing is to be said (again). */
static const char *to_name(struct collector *c, const char *path)
{
	struct seen *seen = &c->staging->seen;
	struct seen_file *file = seen_find(seen, path);

	if (!file && seen->refused >= SEEN_REFUSED_MAX) {
		bool said = c->staging->said_many;

		c->staging->said_many = true;
		return said ? NULL : ".";
	}
	file = seen_add(seen, path);
	if (file && file->reported)
		return NULL;
	if (file)
		file->reported = true;
	return path;
}

void collect_refuse(struct collector *c, const char *path, const char *format, ...)
{
	const char *named;
	char reason[200];
	va_list args;

	c->others++;
	if (c->survey || !c->refused)
		return;
	named = to_name(c, path);
	if (!named)
		return;
	va_start(args, format);
	if (vsnprintf(reason, sizeof(reason), format, args) < 0)
		reason[0] = '\0';
	va_end(args);
	c->refused(c->arg, named,
		   named == path ? reason : "too many names were refused: the others are not said");
}

void collect_announce(struct collector *c, const char *reason)
{
	struct seen *seen = &c->staging->seen;
	const char *path = c->staging->walk.path;
	struct seen_file *file = seen_find(seen, path);

	/* past the names that are remembered nothing is said of what comes out later anyway */
	if (!file && seen->refused < SEEN_REFUSED_MAX)
		file = seen_add(seen, path);
	if (!file || file->announced)
		return;
	file->announced = true;
	if (c->refused)
		c->refused(c->arg, path, reason);
}

void collect_fail(struct collector *c, int error, const char *what)
{
	char escaped[200];

	if (what[0] == '\0')
		what = c->staging->work;
	c->report.left++;
	if (c->failure == 0) {
		c->failure = err_set(c->err, error, "%s: %s",
				     escape_string(escaped, sizeof(escaped), what),
				     strerrordesc_np(-error));
	}
	if (++c->failures >= FAILURES_MAX || error == -EMFILE || error == -ENFILE ||
	    error == -ENOMEM)
		c->stop = true;
}

static bool out_of_time(const struct collector *c)
{
	return c->deadline && now_ms() >= c->deadline;
}

bool collect_within_limits(struct collector *c, const struct seen_file *file, off_t size)
{
	const struct staging *staging = c->staging;
	const bool known = file && file->brought && !file->earlier;
	const char *path = staging->walk.path;
	uint64_t others = staging->seen.bytes - (known ? file->target.size : 0);

	if (size < 0 || (uint64_t)size > staging->max_bytes) {
		collect_refuse(c, path, "it is larger than %" PRIu64 " bytes", staging->max_bytes);
		return false;
	}
	if (others > staging->max_bytes || (uint64_t)size > staging->max_bytes - others) {
		collect_refuse(c, path,
			       "all results together would be larger than %" PRIu64 " bytes",
			       staging->max_bytes);
		return false;
	}
	if (!known && staging->seen.files >= staging->max_files) {
		collect_refuse(c, path, "there are %" PRIu64 " results already",
			       staging->max_files);
		return false;
	}
	return true;
}

static void visit_file(struct collector *c)
{
	struct staging *staging = c->staging;
	struct seen_source source;
	struct seen_file *file;
	struct stat status;

	if (strlen(staging->walk.path) > STAGING_PATH_MAX) {
		collect_refuse(c, staging->walk.path, "its path is longer than %d bytes",
			       STAGING_PATH_MAX);
		return;
	}
	if (walk_stat(&staging->walk, &status) < 0 || places_has(staging, &status))
		return;
	file = seen_find(&staging->seen, staging->walk.path);
	seen_source_of(&status, &source);
	if (file && file->brought && seen_same_source(&source, &file->source) && !file->unsettled)
		return;
	if (c->survey && !marks_is_given(staging, &status)) {
		c->report.files++;
		c->report.bytes += source.size;
	}
	if (c->survey)
		return;
	if (!(file && file->brought) && marks_is_given(staging, &status))
		return;
	/* one that the host may have already is compared first: it counts only when it is new */
	if (!collect_is_inner(staging->walk.path) &&
	    !collect_within_limits(c, file, status.st_size))
		return;
	if (status.st_size > SMALL && !c->large) {
		c->large_seen = true;
		return;
	}
	if (out_of_time(c)) {
		c->report.left++;
		c->stop = true;
		return;
	}
	result_bring(c, file);
}

bool collect_is_inner(const char *path)
{
	return strncmp(path, COLLECT_INNER "/", strlen(COLLECT_INNER "/")) == 0;
}

#define IN_WORDS(number)    IN_WORDS_OF(number)
#define IN_WORDS_OF(number) #number

const char *collect_enter_refusal(int error)
{
	switch (error) {
	case -EACCES:
		return "it cannot be read";
	case -EXDEV:
		return "another file system is mounted there";
	case -E2BIG:
		return "it is more than " IN_WORDS(STAGING_DEPTH_MAX) " directories deep";
	case -ENAMETOOLONG:
		return "its path is longer than " IN_WORDS(STAGING_PATH_MAX) " bytes";
	default:
		return NULL;
	}
}

static void visit_directory(struct collector *c)
{
	struct walk *walk = &c->staging->walk;
	const int r = walk_enter(walk);
	const char *reason = r < 0 ? collect_enter_refusal(r) : NULL;

	if (r == 0)
		changes_watch(&c->staging->changes, walk_here(walk)->fd);
	else if (reason)
		collect_refuse(c, walk->path, "%s", reason);
	else if (r == -ELOOP || r == -ENOTDIR)
		c->report.left++; /* it became something else just now */
	else if (r != -ENOENT)
		collect_fail(c, r, walk->path);
}

/* overlayfs marks in its upper directory what was deleted of the lower one, see
 * Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories". */
static bool is_whiteout(struct walk *walk)
{
	struct stat status;

	return walk->type == DT_CHR && collect_is_inner(walk->path) &&
	       walk_stat(walk, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == 0;
}

/* By its type; what cannot be looked at is gone. */
static enum collect_kind kind_of_type(struct walk *walk, const char **ret_reason)
{
	struct stat status;

	if (walk->type == DT_UNKNOWN) {
		if (walk_stat(walk, &status) < 0)
			return COLLECT_NOTHING;
		walk->type = (unsigned char)IFTODT(status.st_mode);
	}
	switch (walk->type) {
	case DT_REG:
		return COLLECT_FILE;
	case DT_DIR:
		return COLLECT_DIRECTORY;
	case DT_LNK:
		*ret_reason = "it is a symbolic link";
		return COLLECT_REFUSED;
	case DT_FIFO:
		*ret_reason = "it is a fifo";
		return COLLECT_REFUSED;
	case DT_SOCK:
		*ret_reason = "it is a socket";
		return COLLECT_REFUSED;
	default:
		*ret_reason = "it is a device";
		return is_whiteout(walk) ? COLLECT_DELETED : COLLECT_REFUSED;
	}
}

enum collect_kind collect_kind(struct staging *staging, const char **ret_reason)
{
	struct walk *walk = &staging->walk;
	enum collect_kind kind;
	const char *reason;

	if (walk->depth == 1 && strncmp(walk->name, HISTORY_NAME, strlen(HISTORY_NAME)) == 0)
		return COLLECT_NOTHING;
	kind = kind_of_type(walk, ret_reason);
	if (kind == COLLECT_DELETED || kind == COLLECT_NOTHING)
		return kind;
	if (name_is_cache(walk->name, staging->let_out) && kind == COLLECT_DIRECTORY)
		return COLLECT_NOTHING;
	reason = name_refusal(walk->name, staging->let_out);
	if (!reason)
		return kind;
	*ret_reason = reason;
	return COLLECT_REFUSED;
}

/* Once in a run: whoever deletes one result is told what that means for all. */
static void say_deleted(struct collector *c)
{
	if (c->survey || c->staging->said_deleted || !c->refused)
		return;
	c->staging->said_deleted = true;
	c->refused(c->arg, c->staging->walk.path,
		   "it was deleted inside: nothing is ever deleted on the host");
}

static void visit(struct collector *c)
{
	const char *reason = NULL;
	struct stat status;

	switch (collect_kind(c->staging, &reason)) {
	case COLLECT_FILE:
		/* overlayfs writes to the upper file without an event for who watches it */
		if (collect_is_inner(c->staging->walk.path))
			c->unseen = true;
		visit_file(c);
		return;
	case COLLECT_DIRECTORY:
		visit_directory(c);
		return;
	case COLLECT_REFUSED:
		if (walk_stat(&c->staging->walk, &status) == 0 && S_ISLNK(status.st_mode) &&
		    places_has(c->staging, &status))
			return;
		collect_refuse(c, c->staging->walk.path, "%s", reason);
		return;
	case COLLECT_DELETED:
		say_deleted(c);
		return;
	case COLLECT_NOTHING:
	default:
		return;
	}
}

static int walk_work(struct collector *c)
{
	struct walk *walk = &c->staging->walk;
	int r = walk_start(walk, c->staging->work_fd);

	/* the kernel owns it, and may have taken every permission away */
	if (r == -EACCES && !c->survey && fchmod(c->staging->work_fd, 0700) == 0)
		r = walk_start(walk, c->staging->work_fd);
	if (r >= 0)
		changes_watch(&c->staging->changes, c->staging->work_fd);
	c->looked = 0;
	while (r >= 0 && !c->stop && (r = walk_next(walk)) != 0) {
		if (r < 0) {
			collect_fail(c, r, walk->path);
			r = 0;
			continue;
		}
		if (++c->looked > c->look_max) {
			collect_refuse(c, ".",
				       "more than %" PRIu64
				       " names are there: not all are looked at",
				       c->look_max);
			break;
		}
		visit(c);
		if (c->looked % LOOK_INTERVAL == 0 && out_of_time(c)) {
			c->report.left++;
			c->stop = true;
		}
	}
	while (walk->depth > 0)
		walk_leave(walk);
	return r < 0 ? r : 0;
}

static void collector_init(struct collector *c, struct staging *staging)
{
	memset(c, 0, sizeof(*c));
	c->staging = staging;
	c->out = -1;
	c->look_max = staging_names_max(staging);
}

int staging_collect(struct staging *staging, int64_t deadline, staging_refused_fn *refused,
		    void *arg, struct staging_report *ret_report, struct err *err)
{
	struct collector c;
	int r;

	collector_init(&c, staging);
	c.deadline = deadline;
	c.refused = refused;
	c.arg = arg;
	c.err = err;
	marks_read_given(staging);
	changes_forget(&staging->changes);
	r = walk_work(&c);
	if (r == 0 && c.large_seen && !c.stop) {
		c.large = true;
		r = walk_work(&c);
	}
	if (c.out >= 0)
		staging->swept = true;
	close_fd(&c.out);
	*ret_report = c.report;
	ret_report->watched = !staging->changes.blind && !c.unseen;
	if (r < 0)
		return err_set(err, r, "%s: %s", staging->work, strerrordesc_np(-r));
	return c.failure;
}

int collect_survey(struct staging *staging, struct staging_report *ret_report, uint64_t *ret_other)
{
	struct collector c;
	int r;

	collector_init(&c, staging);
	c.survey = true;
	marks_read_given(staging);
	r = walk_work(&c);
	*ret_report = c.report;
	*ret_other = c.others;
	return r;
}
