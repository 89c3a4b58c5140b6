#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/collect.h"
#include "sandbox/names.h"

#define TICKS_MAX 50 /* 200 ms at 250 Hz: the file is taken at the next collection then */

void partial_drop(struct partial *partial)
{
	copy_abort(&partial->copy);
	free(partial->path);
	partial->path = NULL;
}

enum stamp {
	STAMP_SURE,   /* a change to come gets another one */
	STAMP_MOVING, /* changed in this very tick of the clock */
	STAMP_UNSURE, /* whole seconds only, or another machine's clock */
};

/* The file system takes stamps from the coarse clock or, since 6.13, from a finer one. */
static enum stamp stamp_of(const struct stat *status)
{
	const struct timespec *last = &status->st_ctim;
	struct timespec now;

	if (clock_gettime(CLOCK_REALTIME_COARSE, &now) < 0 || last->tv_sec > now.tv_sec + 1)
		return STAMP_UNSURE;
	if (last->tv_nsec == 0 && last->tv_sec >= now.tv_sec)
		return STAMP_UNSURE;
	if (last->tv_sec != now.tv_sec)
		return last->tv_sec > now.tv_sec ? STAMP_MOVING : STAMP_SURE;
	return last->tv_nsec >= now.tv_nsec ? STAMP_MOVING : STAMP_SURE;
}

/*
 * Until the clock that stamps are judged by has passed this moment: what was changed before it is
 * then sure, whichever file it was. A tick can be late by several on a loaded or virtual machine.
 */
static void wait_a_tick(void)
{
	struct timespec begun, now, tick;

	if (clock_gettime(CLOCK_REALTIME, &begun) < 0 ||
	    clock_getres(CLOCK_REALTIME_COARSE, &tick) < 0)
		return;
	for (int i = 0; i < TICKS_MAX; i++) {
		nanosleep(&tick, NULL);
		if (clock_gettime(CLOCK_REALTIME_COARSE, &now) < 0 || now.tv_sec > begun.tv_sec ||
		    (now.tv_sec == begun.tv_sec && now.tv_nsec > begun.tv_nsec))
			return;
	}
}

/*
 * Is somebody writing it? Then it waits: what has come so far may be half of it, and a page that is
 * mapped and dirty changes no time stamp any more.
 */
static bool is_being_written(struct collector *c, struct result *result)
{
	enum stamp stamp = stamp_of(&result->status);

	result->unsettled = stamp == STAMP_UNSURE;
	if (c->staging->leases && copy_has_writer(result->in)) {
		c->report.left++;
		collect_announce(c, "it is still open for writing: it is taken when it is closed");
		return true;
	}
	if (stamp == STAMP_MOVING)
		c->report.left++;
	return stamp == STAMP_MOVING;
}

/* Opens the present file. Returns 0; 1 when it cannot be (said or counted); or a negative errno. */
static int open_source(struct collector *c, struct result *result)
{
	struct walk *walk = &c->staging->walk;

	result->in = tree_step(walk_here(walk)->fd, walk->name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	switch (result->in) {
	case -ENOENT:
		return 1;
	case -EACCES:
	case -EPERM:
		collect_refuse(c, walk->path, "it cannot be read");
		return 1;
	case -ELOOP:
	case -ENXIO:
	case -EXDEV:
		c->report.left++; /* it became something else just now */
		return 1;
	default:
		return result->in < 0 ? result->in : 0;
	}
}

/* Opens the present file and looks at it. Returns 0; 1 when there is nothing to do (said or
 * counted); or a negative errno. */
static int open_result(struct collector *c, struct result *result)
{
	const char *path = c->staging->walk.path;
	int r;

	if (walk_stat(&c->staging->walk, &result->status) < 0)
		return 1;
	if (!c->waited && stamp_of(&result->status) == STAMP_MOVING) {
		wait_a_tick();
		c->waited = true;
	}
	r = open_source(c, result);
	if (r != 0)
		return r;
	if (fstat(result->in, &result->status) < 0)
		return -errno;
	if (!S_ISREG(result->status.st_mode)) {
		c->report.left++;
		return 1;
	}
	if (result->status.st_uid != c->staging->owner) {
		collect_refuse(c, path, "it belongs to somebody else");
		return 1;
	}
	if (!collect_is_inner(path) &&
	    !collect_within_limits(c, result->file, result->status.st_size))
		return 1;
	seen_source_of(&result->status, &result->source);
	result->again = result->file && result->file->brought &&
			seen_same_source(&result->source, &result->file->source);
	return is_being_written(c, result) ? 1 : 0;
}

/* A copy of this very version that a deadline interrupted, or a new one. */
static int begin_copy(struct collector *c, struct result *result, struct copy *copy)
{
	struct partial *partial = &c->staging->partial;

	if (partial->path && strcmp(partial->path, c->staging->walk.path) == 0) {
		if (!result->unsettled && seen_same_source(&partial->source, &result->source)) {
			*copy = partial->copy;
			copy_init(&partial->copy);
			partial_drop(partial);
			return 0;
		}
		partial_drop(partial);
	}
	return copy_begin(copy, result->directory, result->status.st_size);
}

static void keep_partial(struct collector *c, struct result *result, struct copy *copy)
{
	struct partial *partial = &c->staging->partial;

	partial_drop(partial);
	partial->path = strdup(c->staging->walk.path);
	if (!partial->path)
		return;
	partial->copy = *copy;
	partial->source = result->source;
	copy_init(copy);
}

static int remember(struct collector *c, struct result *result, const struct seen_target *target)
{
	struct seen_file *file = seen_add(&c->staging->seen, c->staging->walk.path);
	char reason[NAME_MAX * 4 + 200], name[NAME_MAX * 4 + 1];

	if (!file)
		return -ENOMEM;
	/* a record that could not be written costs a comparison after a crash */
	if (result->equal)
		(void)seen_store_earlier(&c->staging->seen, file, &result->source, target,
					 result->beside, result->unsettled);
	else
		(void)seen_store(&c->staging->seen, file, &result->source, target, result->beside,
				 result->unsettled);
	if (result->moved && !result->equal && c->refused) {
		snprintf(reason, sizeof(reason), "%s, so it is there as \"%s\"", result->moved,
			 escape_string(name, sizeof(name), result->target));
		c->refused(c->arg, c->staging->walk.path, reason);
	}
	return 0;
}

/* Once per path; result->file is known by now. */
static void flag(struct collector *c, struct result *result)
{
	const char *reason = name_flag(result->target, result->status.st_mode);

	if (!reason)
		return;
	c->report.flagged++;
	if (result->file->flagged)
		return;
	result->file->flagged = true;
	if (c->staging->flagged)
		c->staging->flagged(c->staging->flagged_arg, c->staging->walk.path, reason);
}

/*
 * One try to give a finished copy its name, known as ours before it appears. Returns 0, -EEXIST or
 * another negative errno.
 */
static int appear(struct collector *c, struct result *result, struct copy *copy,
		  const struct seen_target *target)
{
	struct seen_file *file = seen_add(&c->staging->seen, c->staging->walk.path);

	if (!file)
		return -ENOMEM;
	(void)seen_intend(&c->staging->seen, file, target, result->beside,
			  result->replace ? &result->found : NULL);
	result->file = file;
	return copy_commit(copy, result->directory, result->target, result->replace);
}

/* Gives a finished copy its looks and name. Returns 0, 1 when it is refused (said), or a negative
 * errno. */
static int commit(struct collector *c, struct result *result, struct copy *copy)
{
	struct copy_dress dress = {
		.give = c->give,
		.uid = c->uid,
		.gid = c->gid,
		/* never set-id bits; always readable for its owner */
		.mode = (result->status.st_mode & 0777 & ~c->staging->mask) | S_IRUSR,
		.mtime = result->status.st_mtim,
	};
	struct seen_target target;
	struct stat status;
	int r = copy_dress_up(copy, &dress, &status);

	if (r < 0)
		return r;
	seen_target_of(&status, &target);
	result->moved =
		result->file && result->file->brought && result->file->beside == result->beside
			? NULL
			: result->why;
	r = appear(c, result, copy, &target);
	for (int attempts = 0; r == -EEXIST && attempts < 3; attempts++) {
		/* somebody made a file of that name meanwhile */
		r = target_choose(c, result, c->staging->walk.name);
		if (r == 0 && result->equal)
			return remember(c, result, &result->found);
		if (r != 0)
			return r;
		result->moved = result->why;
		r = appear(c, result, copy, &target);
	}
	if (r < 0)
		return r;
	c->report.files++;
	c->report.bytes += (uint64_t)status.st_size;
	r = remember(c, result, &target);
	flag(c, result);
	return r;
}

/* Copies an opened result. Returns 0, 1 when it waits for a later turn or was refused, or a
 * negative errno. */
static int copy_result(struct collector *c, struct result *result)
{
	cleanup(copy_abort) struct copy copy;
	struct seen_source after;
	struct stat status;
	int r;

	copy_init(&copy);
	r = begin_copy(c, result, &copy);
	if (r < 0)
		return r;
	r = copy_run(&copy, result->in, c->deadline);
	if (r == -ETIME && !result->unsettled)
		keep_partial(c, result, &copy);
	if (r < 0)
		return r;
	if (fstat(result->in, &status) < 0)
		return -errno;
	seen_source_of(&status, &after);
	if (!seen_same_source(&after, &result->source)) {
		c->report.left++; /* changed while it was copied: half old and half new */
		return 1;
	}
	return commit(c, result, &copy);
}

/* Errors that belong to this one file. */
static const char *refusal_of(int error)
{
	switch (error) {
	case -ENAMETOOLONG:
	case -EILSEQ:
	case -EINVAL:
		return "the host's file system does not take its name";
	case -EFBIG:
		return "it is too large for the host's file system";
	case -EISDIR:
	case -ENOTDIR:
	case -ELOOP:
		return "a link, file or directory is in its way on the host";
	case -EXDEV:
		return "another file system is mounted on its way on the host";
	default:
		return NULL;
	}
}

void result_bring(struct collector *c, struct seen_file *file)
{
	const char *path = c->staging->walk.path, *reason;
	struct result result = {.in = -1, .file = file};
	int r = open_result(c, &result);

	if (r == 0) {
		result.directory = target_directory(c);
		r = result.directory < 0 ? result.directory : 0;
		if (r < 0 && c->out < 0) {
			close_fd(&result.in);
			return; /* open_out said it */
		}
	}
	if (r == 0)
		r = target_choose(c, &result, c->staging->walk.name);
	if (r == 0 && result.equal)
		r = remember(c, &result, &result.found);
	else if (r == 0 && collect_within_limits(c, file, result.status.st_size))
		r = copy_result(c, &result);
	close_fd(&result.in);
	reason = r < 0 ? refusal_of(r) : NULL;
	if (r == -ETIME) {
		c->report.left++;
		c->stop = true;
	} else if (r == -ENOENT || r == -EEXIST) {
		c->report.left++; /* the host removed the directory, or makes files of that name,
				     just now */
	} else if (reason) {
		collect_refuse(c, path, "%s", reason);
	} else if (r < 0) {
		collect_fail(c, r, path);
	}
}
