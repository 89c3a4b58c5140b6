#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/collect.h"
#include "sandbox/names.h"

#define BESIDE_MAX 999 /* names beside a taken one */

/* Opens, as O_PATH, or makes a directory, 0755 and owned by its parent's owner when we are root.
 * Never through a link. */
static int make_level(int parent, const char *name)
{
	cleanup(close_fd) int fd = tree_step(parent, name, O_PATH | O_DIRECTORY);
	cleanup(close_fd) int fresh = -1;
	struct stat above, here;

	if (fd >= 0 || fd != -ENOENT)
		return steal_fd(&fd);
	if (mkdirat(parent, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	fd = tree_step(parent, name, O_PATH | O_DIRECTORY);
	if (fd < 0 || geteuid() != 0)
		return steal_fd(&fd);
	if (fstat(parent, &above) < 0)
		return -errno;
	fresh = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fresh < 0 || fstat(fresh, &here) < 0)
		return -errno;
	/* somebody else's directory that came first stays theirs */
	if (here.st_uid == 0 && fchown(fresh, above.st_uid, above.st_gid) < 0)
		return -errno;
	return steal_fd(&fd);
}

/* Splits an absolute path at its last component; `parent` gets what is before it. */
static const char *split(char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash || slash == path || slash[1] == '\0')
		return NULL;
	*slash = '\0';
	return slash + 1;
}

/* staging/out, and staging if need be, in a folder that exists. */
static int make_out(const char *out)
{
	cleanup(free_ptr) char *path = strdup(out);
	const char *last, *middle;
	cleanup(close_fd) int parent = -1;
	cleanup(close_fd) int folder = -1;

	if (!path)
		return -ENOMEM;
	last = split(path);
	if (!last)
		return -ENOENT;
	parent = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (parent >= 0)
		return make_level(parent, last);
	if (errno != ENOENT)
		return -errno;
	middle = split(path);
	if (!middle)
		return -ENOENT;
	folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return -errno;
	parent = make_level(folder, middle);
	return parent < 0 ? parent : make_level(parent, last);
}

/* Opens OUT by its path: links on the way to it and itself were made by the host's user. */
static int open_out(struct collector *c)
{
	cleanup(close_fd) int fd = open(c->staging->out, O_PATH | O_DIRECTORY | O_CLOEXEC);
	char escaped[256];
	struct stat status;

	if (fd < 0 && errno == ENOENT)
		fd = make_out(c->staging->out);
	else if (fd < 0)
		fd = -errno;
	if (fd < 0 || fstat(fd, &status) < 0) {
		int r = fd < 0 ? fd : -errno;

		c->report.left++;
		c->stop = true;
		escape_string(escaped, sizeof(escaped), c->staging->out);
		if (r == -ENOENT || r == -ELOOP || r == -ENOTDIR)
			c->failure = err_set(
				c->err, r == -ENOENT ? r : -ENOTDIR, "%s: %s", escaped,
				r == -ENOENT
					? "its folder is not there any more"
					: "a link that leads nowhere, or a file, is in the way");
		else
			c->failure = err_set(c->err, r, "%s: %s", escaped, strerrordesc_np(-r));
		return c->failure;
	}
	c->give = geteuid() == 0;
	c->uid = status.st_uid;
	c->gid = status.st_gid;
	c->out = steal_fd(&fd);
	return 0;
}

/* The name of the directory in a frame of the walk. */
static void frame_name(const struct walk *walk, size_t i, char name[NAME_MAX + 1])
{
	size_t begin = walk->frame[i - 1].length, size;

	if (begin > 0)
		begin++;
	size = walk->frame[i].length - begin;
	if (size > NAME_MAX)
		size = NAME_MAX; /* getdents64(2) gives none longer */
	memcpy(name, walk->path + begin, size);
	name[size] = '\0';
}

int target_directory(struct collector *c)
{
	struct walk *walk = &c->staging->walk;
	const size_t inner = strlen(COLLECT_INNER);
	size_t base = 0;

	if (c->out < 0) {
		int r = open_out(c);

		if (r < 0)
			return r;
	}
	if (walk->depth > 2 && walk->frame[2].length == inner &&
	    memcmp(walk->path, COLLECT_INNER, inner) == 0)
		base = 2;
	for (size_t i = base; i < walk->depth; i++) {
		struct walk_frame *frame = &walk->frame[i];
		char name[NAME_MAX + 1];

		if (frame->mate >= 0)
			continue;
		if (i == base) {
			frame->mate = fcntl(c->out, F_DUPFD_CLOEXEC, 3);
			if (frame->mate < 0)
				return -errno;
		} else {
			frame_name(walk, i, name);
			frame->mate = make_level(walk->frame[i - 1].mate, name);
			if (frame->mate < 0)
				return frame->mate;
		}
		if (!c->staging->swept)
			copy_sweep(frame->mate, &c->staging->opened);
	}
	return walk_here(walk)->mate;
}

/* ---- the name a result gets ---- */

/* x and staging/out/x have the same place on the host: the other one, if it was brought out. */
static const struct seen_file *twin_of(struct staging *staging, const char *path,
				       struct stat *ret_status)
{
	const size_t inner = strlen(COLLECT_INNER "/");
	char other[sizeof(staging->walk.path) + sizeof(COLLECT_INNER "/")];
	const struct seen_file *twin;

	if (strncmp(path, COLLECT_INNER "/", inner) == 0)
		snprintf(other, sizeof(other), "%s", path + inner);
	else
		snprintf(other, sizeof(other), COLLECT_INNER "/%s", path);
	twin = seen_find(&staging->seen, other);
	if (!twin || !twin->brought || twin->beside != 0)
		return NULL;
	/* only to know whether it is still there: an answer that a race makes wrong costs a name,
	 * nothing else */
	if (fstatat(staging->work_fd, other, ret_status, AT_SYMLINK_NOFOLLOW) < 0)
		ret_status->st_mode = 0;
	return twin;
}

static bool older(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec <= b->tv_nsec);
}

/* A name beside a taken one is the other file's, also while both have the same content: it is
 * going to be replaced with that one. */
static bool is_anothers(const struct collector *c, const struct result *result,
			const struct seen_target *there)
{
	return strstr(result->target, " (cellwall ") &&
	       seen_is_anothers(&c->staging->seen, result->file, there);
}

enum claim { CLAIM_OURS, CLAIM_EARLIER, CLAIM_FOREIGN, CLAIM_TWIN };

/* Whose is the host's file `there`? Sets result->why when it is not ours to replace. */
static enum claim claim(struct collector *c, struct result *result, const struct stat *there)
{
	struct staging *staging = c->staging;
	const bool known = result->file && result->file->brought;
	struct seen_target target;

	seen_target_of(there, &target);
	if (known && result->beside == result->file->beside && seen_is_ours(result->file, &target))
		return CLAIM_OURS;
	if (result->beside == 0) {
		struct stat source;
		const struct seen_file *twin = twin_of(staging, staging->walk.path, &source);

		if (twin && seen_is_ours(twin, &target)) {
			if (!S_ISREG(source.st_mode))
				return CLAIM_OURS; /* it was moved here */
			result->why = "the same name is there inside and outside of staging/out";
			return CLAIM_TWIN;
		}
		/* a result of an earlier run; the clock may have been put back since */
		if (!known && older(&there->st_ctim, &staging->since) &&
		    !is_anothers(c, result, &target))
			return CLAIM_EARLIER;
	}
	if (!result->why)
		result->why = "that file was changed on the host";
	return CLAIM_FOREIGN;
}

void comparison_drop(struct comparison *comparison)
{
	free(comparison->path);
	*comparison = (struct comparison){0};
}

/* Where a comparison of these very versions was interrupted by a deadline, or 0. */
static off_t continue_comparison(struct comparison *begun, const char *path,
				 const struct result *result)
{
	off_t at = 0;

	if (begun->path && strcmp(begun->path, path) == 0 &&
	    seen_same_source(&begun->source, &result->source) &&
	    seen_same_target(&begun->target, &result->found))
		at = begun->at;
	comparison_drop(begun);
	return at;
}

/* 1: what the host has under the name has this very content, so nothing is to do, whoever wrote it;
 * 0: it has not. */
static int same_content(struct collector *c, struct result *result, const struct stat *there)
{
	struct comparison *comparison = &c->staging->comparison;
	const char *path = c->staging->walk.path;
	cleanup(close_fd) int fd = -1;
	off_t at;
	int r;

	if (there->st_size != result->status.st_size)
		return 0;
	fd = tree_step(result->directory, result->target, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return 0;
	at = continue_comparison(comparison, path, result);
	r = copy_compare(result->in, fd, there->st_size, &at, c->deadline);
	if (r == -ETIME && !result->unsettled)
		*comparison = (struct comparison){.path = strdup(path),
						  .source = result->source,
						  .target = result->found,
						  .at = at};
	return r;
}

static void refuse_obstacle(struct collector *c, const struct stat *there)
{
	collect_refuse(c, c->staging->walk.path, "a %s of that name is in the way on the host",
		       S_ISDIR(there->st_mode) ? "directory" : "link or other thing");
}

/*
 * What another one wrote, and what earlier runs left, may be this very file: a copy that overlayfs
 * or we made of it. One that we brought out in this run differs, or its stamp cannot tell.
 */
static bool is_to_compare(const struct result *result, enum claim whose)
{
	if (whose == CLAIM_OURS)
		return result->again || (result->file && result->file->earlier);
	return whose == CLAIM_EARLIER || (whose == CLAIM_FOREIGN && !result->again);
}

int target_choose(struct collector *c, struct result *result, const char *name)
{
	const uint32_t first = result->file && result->file->brought ? result->file->beside : 0;

	result->why = NULL;
	for (uint32_t n = first; n <= BESIDE_MAX; n++) {
		struct stat there;
		enum claim whose;
		int same = 0;

		result->beside = n;
		result->replace = false;
		name_beside(name, n, result->target);
		if (fstatat(result->directory, result->target, &there, AT_SYMLINK_NOFOLLOW) < 0)
			return errno == ENOENT ? 0 : -errno;
		if (!S_ISREG(there.st_mode) && n > 0)
			continue;
		if (!S_ISREG(there.st_mode)) {
			refuse_obstacle(c, &there);
			return 1;
		}
		whose = claim(c, result, &there);
		seen_target_of(&there, &result->found);
		if (n == first && is_to_compare(result, whose))
			same = same_content(c, result, &there);
		if (same > 0 && whose == CLAIM_FOREIGN && is_anothers(c, result, &result->found))
			same = 0;
		result->equal = same > 0;
		result->replace = whose == CLAIM_OURS || whose == CLAIM_EARLIER;
		if (same != 0 || result->replace)
			return same < 0 ? same : 0;
	}
	collect_refuse(c, c->staging->walk.path, "too many files of that name are on the host");
	return 1;
}
