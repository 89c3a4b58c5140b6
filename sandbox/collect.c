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
	const bool known = file && file->brought;
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

static bool is_stub(const struct staging *staging, const struct stat *status)
{
	if (status->st_size != 0)
		return false;
	for (size_t i = 0; i < staging->stub_count; i++)
		if (staging->stubs[i] == status->st_ino)
			return true;
	return false;
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
	if (walk_stat(&staging->walk, &status) < 0 || is_stub(staging, &status))
		return;
	file = seen_find(&staging->seen, staging->walk.path);
	seen_source_of(&status, &source);
	if (file && file->brought && seen_same_source(&source, &file->source) && !file->unsettled)
		return;
	if (c->survey) {
		c->report.files++;
		c->report.bytes += source.size;
		return;
	}
	if (!collect_within_limits(c, file, status.st_size))
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

static void visit_directory(struct collector *c)
{
	struct walk *walk = &c->staging->walk;
	int r;

	/* made again by whoever imports from it */
	if (strcmp(walk->name, "__pycache__") == 0)
		return;
	r = walk_enter(walk);
	switch (r) {
	case 0:
		changes_watch(&c->staging->changes, walk_here(walk)->fd);
		return;
	case -ENOENT:
		return;
	case -EACCES:
		collect_refuse(c, walk->path, "it cannot be read");
		return;
	case -EXDEV:
		collect_refuse(c, walk->path, "another file system is mounted there");
		return;
	case -E2BIG:
		collect_refuse(c, walk->path, "it is more than %d directories deep",
			       STAGING_DEPTH_MAX);
		return;
	case -ENAMETOOLONG:
		collect_refuse(c, walk->path, "its path is longer than %d bytes", STAGING_PATH_MAX);
		return;
	case -ELOOP:
	case -ENOTDIR:
		c->report.left++; /* it became something else just now */
		return;
	default:
		collect_fail(c, r, walk->path);
	}
}

static void visit(struct collector *c)
{
	struct walk *walk = &c->staging->walk;
	const char *reason = name_refusal(walk->name);
	struct stat status;

	if (reason) {
		collect_refuse(c, walk->path, "%s", reason);
		return;
	}
	if (walk->type == DT_UNKNOWN) {
		if (walk_stat(walk, &status) < 0)
			return;
		walk->type = (unsigned char)IFTODT(status.st_mode);
	}
	switch (walk->type) {
	case DT_REG:
		visit_file(c);
		return;
	case DT_DIR:
		visit_directory(c);
		return;
	case DT_LNK:
		collect_refuse(c, walk->path, "it is a symbolic link");
		return;
	case DT_FIFO:
		collect_refuse(c, walk->path, "it is a fifo");
		return;
	case DT_SOCK:
		collect_refuse(c, walk->path, "it is a socket");
		return;
	default:
		collect_refuse(c, walk->path, "it is a device");
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
	c->look_max =
		staging->max_files < UINT64_MAX / 8 ? staging->max_files * 4 + 4096 : UINT64_MAX;
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
	ret_report->watched = !staging->changes.blind;
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
	r = walk_work(&c);
	*ret_report = c.report;
	*ret_other = c.others;
	return r;
}
