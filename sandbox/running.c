#include "sandbox/running.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/collect.h"

/* Between two reports of how far a copy has come. */
#define PROGRESS_MS 100

DEFINE_CLEANUP(struct staging *, staging_free)

static int open_kernel(const char *state, const char *id, struct staging **ret_staging,
		       struct err *err)
{
	cleanup(free_ptr) char *path = NULL;

	if (!recover_is_id(id))
		return err_set(err, -EINVAL, "not the name of a kernel");
	path = path_join(state, id);
	if (!path)
		return err_set(err, -ENOMEM, "out of memory");
	return staging_peek(path, ret_staging, err);
}

static bool is_same_place(const char *a, const char *b)
{
	struct stat one, other;

	if (strcmp(a, b) == 0)
		return true;
	return stat(a, &one) == 0 && stat(b, &other) == 0 && one.st_dev == other.st_dev &&
	       one.st_ino == other.st_ino;
}

int running_list(const char *state, const char *out, running_kernel_fn *found, void *arg,
		 struct err *err)
{
	DIR *entries = opendir(state);
	const struct dirent *entry;
	int first = 0;

	if (!entries)
		return errno == ENOENT ? 0 : err_errno(err, "%s", state);
	while ((entry = readdir(entries))) {
		cleanup(staging_free_p) struct staging *staging = NULL;
		struct running_kernel kernel = {.id = entry->d_name};
		int r;

		if (!recover_is_id(entry->d_name) ||
		    !recover_is_held(dirfd(entries), entry->d_name))
			continue;
		r = open_kernel(state, entry->d_name, &staging, first ? NULL : err);
		if (r < 0) {
			if (r != -ENOENT && first == 0)
				first = r; /* without it: it ended just now */
			continue;
		}
		if (out && !is_same_place(out, staging_out(staging)))
			continue;
		kernel.out = staging_out(staging);
		kernel.started = staging->since.tv_sec;
		found(arg, &kernel);
	}
	closedir(entries);
	return first;
}

/* ---- what is in it ---- */

struct listing {
	struct staging *staging;
	char *origins; /* "relative NUL source NUL ..." */
	size_t origins_size;
	uint64_t count, limit;
	running_file_fn *found;
	void *arg;
};

/* The source of what is staged at `path`, or NULL. */
static const char *origin_of(const struct listing *listing, const char *path)
{
	const char *end = listing->origins + listing->origins_size;

	for (const char *at = listing->origins; at && at < end;) {
		const char *source = at + strlen(at) + 1;

		if (source >= end)
			return NULL; /* killed while it was written */
		if (strcmp(at, path) == 0)
			return source;
		at = source + strlen(source) + 1;
	}
	return NULL;
}

static int list(struct listing *listing, const struct running_file *file)
{
	if (listing->count >= listing->limit)
		return -E2BIG;
	listing->count++;
	listing->found(listing->arg, file);
	return 0;
}

static int list_staged(struct listing *listing)
{
	const char *end = listing->origins + listing->origins_size;
	int r = 0;

	for (const char *at = listing->origins; r == 0 && at && at < end;) {
		struct running_file file = {.path = at, .kind = RUNNING_STAGED};
		struct stat status;

		file.origin = at + strlen(at) + 1;
		if (file.origin >= end)
			break;
		if (stat(file.origin, &status) == 0 && S_ISREG(status.st_mode))
			file.size = (uint64_t)status.st_size;
		r = list(listing, &file);
		at = file.origin + strlen(file.origin) + 1;
	}
	return r;
}

/* The present entry, a regular file. */
static int list_file(struct listing *listing)
{
	struct staging *staging = listing->staging;
	struct running_file file = {.path = staging->walk.path, .kind = RUNNING_NEW};
	const struct seen_file *seen = seen_find(&staging->seen, staging->walk.path);
	struct seen_source source;
	struct stat status;

	if (walk_stat(&staging->walk, &status) < 0 || places_has(staging, &status))
		return 0;
	seen_source_of(&status, &source);
	file.size = source.size;
	if (seen && seen->brought)
		file.kind = seen_same_source(&source, &seen->source) ? RUNNING_COLLECTED
								     : RUNNING_CHANGED;
	else if (marks_is_given(staging, &status))
		file.kind = RUNNING_COLLECTED;
	return list(listing, &file);
}

static int list_refused(struct listing *listing, const char *reason)
{
	struct walk *walk = &listing->staging->walk;
	struct running_file file = {.path = walk->path, .kind = RUNNING_REFUSED, .origin = reason};
	struct stat status;

	if (walk_stat(walk, &status) == 0 && S_ISREG(status.st_mode))
		file.size = (uint64_t)status.st_size;
	return list(listing, &file);
}

static int list_entry(struct listing *listing)
{
	struct walk *walk = &listing->staging->walk;
	const char *reason = NULL;
	int r;

	if (origin_of(listing, walk->path))
		return 0; /* its place; said already */
	switch (collect_kind(listing->staging, &reason)) {
	case COLLECT_FILE:
		return list_file(listing);
	case COLLECT_REFUSED:
		return list_refused(listing, reason);
	case COLLECT_DIRECTORY:
		r = walk_enter(walk);
		reason = r < 0 ? collect_enter_refusal(r) : NULL;
		return reason ? list_refused(listing, reason) : 0;
	case COLLECT_DELETED:
	case COLLECT_NOTHING:
	default:
		return 0;
	}
}

int running_files(const char *state, const char *id, uint64_t limit, running_file_fn *found,
		  void *arg, struct err *err)
{
	cleanup(staging_free_p) struct staging *staging = NULL;
	cleanup(free_ptr) char *origins = NULL;
	struct listing listing = {.limit = limit, .found = found, .arg = arg};
	int r = open_kernel(state, id, &staging, err);

	if (r < 0)
		return r;
	marks_read_given(staging);
	listing.staging = staging;
	r = places_origins(staging, &origins, &listing.origins_size);
	listing.origins = origins;
	if (r == 0)
		r = list_staged(&listing);
	if (r == 0)
		r = walk_start(&staging->walk, staging->work_fd);
	while (r >= 0 && (r = walk_next(&staging->walk)) > 0)
		r = list_entry(&listing);
	if (r < 0)
		return err_set(err, r, "kernel %s: %s", id,
			       r == -E2BIG ? "more files than are listed" : strerrordesc_np(-r));
	return 0;
}

/* ---- one file out, or in ---- */

/* One component of a path, which must be plain. Returns what follows it, "" after the last, or
 * NULL. */
static const char *component(const char *at, char name[NAME_MAX + 1])
{
	const size_t size = strcspn(at, "/");

	if (size == 0 || size > NAME_MAX)
		return NULL;
	memcpy(name, at, size);
	name[size] = '\0';
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return NULL;
	if (at[size] == '\0')
		return at + size;
	return at[size + 1] == '\0' ? NULL : at + size + 1;
}

/*
 * Opens the directory that holds `path` in work/, with `make` what is missing of it, and sets the
 * last component. Returns the descriptor or a negative errno.
 */
static int open_parent(const struct staging *staging, const char *path, bool make,
		       char name[NAME_MAX + 1])
{
	cleanup(close_fd) int fd = fcntl(staging->work_fd, F_DUPFD_CLOEXEC, 3);
	const char *at = path;
	struct stat work;

	if (fd < 0 || fstat(fd, &work) < 0)
		return -errno;
	if (strlen(path) > STAGING_PATH_MAX)
		return -ENAMETOOLONG;
	for (int depth = 0; depth <= STAGING_DEPTH_MAX; depth++) {
		int next;

		at = component(at, name);
		if (!at)
			return -EINVAL;
		if (*at == '\0')
			return steal_fd(&fd);
		next = make ? places_directory(staging, fd, name, work.st_gid)
			    : tree_step(fd, name, O_RDONLY | O_DIRECTORY);
		if (next < 0)
			return next;
		close_fd(&fd);
		fd = next;
	}
	return -ENAMETOOLONG;
}

static int run_copy(struct copy *copy, int in, running_progress_fn *progress, void *arg)
{
	for (;;) {
		int r = copy_run(copy, in, now_ms() + PROGRESS_MS);

		if (r < 0 && r != -ETIME)
			return r;
		if (progress &&
		    !progress(arg, (uint64_t)(r < 0 ? copy->at : copy->size), (uint64_t)copy->size))
			return -ECANCELED;
		if (r == 0)
			return 0;
	}
}

/* Is the source still what it was when the copy began? */
static int check_source(int in, const struct stat *before)
{
	struct seen_source one, other;
	struct stat status;

	if (fstat(in, &status) < 0)
		return -errno;
	seen_source_of(before, &one);
	seen_source_of(&status, &other);
	return seen_same_source(&one, &other) ? 0 : -EAGAIN;
}

static const char *words_of(int error)
{
	switch (error) {
	case -EAGAIN:
		return "it changed while it was copied";
	case -EBUSY:
		return "it is still open for writing";
	case -ELOOP:
	case -ENOTDIR:
		return "a link or a file is in its way";
	case -EINVAL:
		return "not a path of a regular file below /work";
	case -EPERM:
		return "it belongs to somebody else";
	case -ECANCELED:
		return "stopped";
	default:
		return strerrordesc_np(-error);
	}
}

static int failed(struct err *err, int error, const char *path)
{
	char escaped[400];

	return err_set(err, error, "%s: %s", escape_string(escaped, sizeof(escaped), path),
		       words_of(error));
}

/* Opens what the kernel wrote under `path`. Returns the descriptor or a negative errno. */
static int open_written(const struct staging *staging, const char *path, struct stat *ret_status)
{
	char name[NAME_MAX + 1];
	cleanup(close_fd) int parent = open_parent(staging, path, false, name);
	cleanup(close_fd) int fd = -1;

	if (parent < 0)
		return parent;
	fd = tree_step(parent, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return fd;
	if (fstat(fd, ret_status) < 0)
		return -errno;
	if (!S_ISREG(ret_status->st_mode))
		return -EINVAL;
	if (places_has(staging, ret_status))
		return -ENOENT; /* what is staged there is on the host */
	if (ret_status->st_uid != staging->owner)
		return -EPERM;
	return steal_fd(&fd);
}

int running_get(const char *state, const char *id, const char *path, int target, const char *name,
		running_progress_fn *progress, void *arg, struct err *err)
{
	cleanup(staging_free_p) struct staging *staging = NULL;
	cleanup(copy_abort) struct copy copy;
	cleanup(close_fd) int in = -1;
	struct stat status, copied;
	int r = open_kernel(state, id, &staging, err);

	copy_init(&copy);
	if (r < 0)
		return r;
	in = open_written(staging, path, &status);
	if (in < 0)
		return failed(err, in, path);
	if (copy_has_writer(in))
		return failed(err, -EBUSY, path);
	r = copy_begin(&copy, target, status.st_size);
	if (r == 0)
		r = run_copy(&copy, in, progress, arg);
	if (r == 0)
		r = check_source(in, &status);
	if (r == 0) {
		const struct copy_dress dress = {
			.mode = (status.st_mode & 0777 & ~staging->mask) | S_IRUSR,
			.mtime = status.st_mtim,
		};

		r = copy_dress_up(&copy, &dress, &copied);
	}
	if (r == 0)
		r = copy_commit(&copy, target, name, false);
	return r < 0 ? failed(err, r, path) : 0;
}

/* Gives the copy to the kernel, known as no result before it appears. */
static int hand_over(struct staging *staging, struct copy *copy, int parent, const char *name,
		     const struct stat *source)
{
	struct copy_dress dress = {.mode = 0644, .mtime = source->st_mtim};
	struct stat work, copied;
	int r;

	if (fstat(staging->work_fd, &work) < 0)
		return -errno;
	dress.give = staging->owner != geteuid();
	dress.uid = staging->owner;
	dress.gid = work.st_gid;
	dress.mode |= source->st_mode & 0111;
	r = copy_dress_up(copy, &dress, &copied);
	if (r == 0)
		r = staging_given(staging, &copied);
	return r < 0 ? r : copy_commit(copy, parent, name, false);
}

int running_put(const char *state, const char *id, int source, const char *path,
		running_progress_fn *progress, void *arg, struct err *err)
{
	cleanup(staging_free_p) struct staging *staging = NULL;
	cleanup(copy_abort) struct copy copy;
	cleanup(close_fd) int parent = -1;
	char name[NAME_MAX + 1];
	struct stat status;
	int r = open_kernel(state, id, &staging, err);

	copy_init(&copy);
	if (r < 0)
		return r;
	if (fstat(source, &status) < 0 || !S_ISREG(status.st_mode))
		return failed(err, -EINVAL, path);
	parent = open_parent(staging, path, true, name);
	if (parent < 0)
		return failed(err, parent, path);
	r = copy_begin(&copy, parent, status.st_size);
	if (r == 0)
		r = run_copy(&copy, source, progress, arg);
	if (r == 0)
		r = check_source(source, &status);
	if (r == 0)
		r = hand_over(staging, &copy, parent, name, &status);
	return r < 0 ? failed(err, r, path) : 0;
}
