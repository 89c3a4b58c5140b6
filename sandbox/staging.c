/*
 * Theory of operation
 *
 * A private directory appears complete and locked under its name (it is made under ".new-<id>" and
 * renamed), and it goes in an order that leaves no doubt either: its file "out" first, so that one
 * without it holds nothing that anybody waits for. Besides lock, out and work/ it holds "limits"
 * (what the run allowed, for a recovery that is told no other), "places" (the inodes of empty files
 * that mounts cover), "origins" (what is staged where), "let_out" and "given" (see marks.c),
 * "history" (see history.c) and "written" (see seen.h).
 */
#include "sandbox/staging.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/staging_parts.h"

#define ID_SIZE 16 /* bytes; twice as many hex digits */

struct staging *staging_free(struct staging *staging)
{
	if (!staging)
		return NULL;
	partial_drop(&staging->partial);
	comparison_drop(&staging->comparison);
	marks_done(staging);
	free(staging->history);
	walk_done(&staging->walk);
	seen_done(&staging->seen);
	free(staging->stubs);
	free(staging->directory);
	free(staging->work);
	free(staging->out);
	close_fd(&staging->changes.fd);
	close_fd(&staging->work_fd);
	close_fd(&staging->lock);
	close_fd(&staging->fd);
	free(staging);
	return NULL;
}
DEFINE_CLEANUP(struct staging *, staging_free)

const char *staging_directory(const struct staging *staging)
{
	return staging->directory;
}

const char *staging_work(const struct staging *staging)
{
	return staging->work;
}

const char *staging_out(const struct staging *staging)
{
	return staging->out;
}

void staging_on_flagged(struct staging *staging, staging_refused_fn *flagged, void *arg)
{
	staging->flagged = flagged;
	staging->flagged_arg = arg;
}

int staging_changes(const struct staging *staging)
{
	return staging->changes.fd;
}

/* Files made now get these bits taken away; others on the host never write to results. */
static mode_t result_mask(void)
{
	mode_t mask = umask(077);

	umask(mask);
	return mask | S_IWOTH;
}

static struct staging *staging_new(const char *directory, const char *out)
{
	struct staging *staging = calloc(1, sizeof(*staging));

	if (!staging)
		return NULL;
	staging->fd = staging->lock = staging->work_fd = -1;
	staging->changes = (struct changes){.fd = -1, .blind = true};
	staging->seen.journal = -1;
	copy_init(&staging->partial.copy);
	walk_init(&staging->walk);
	staging->mask = result_mask();
	clock_gettime(CLOCK_REALTIME_COARSE, &staging->opened);
	staging->directory = strdup(directory);
	staging->work = path_join(directory, "work");
	staging->out = out ? strdup(out) : NULL;
	if (!staging->directory || !staging->work || (out && !staging->out) ||
	    seen_init(&staging->seen) < 0)
		return staging_free(staging);
	return staging;
}

/* The state directory is ours alone: somebody else's could be given a private directory of their
 * making. */
static int open_state(const char *state, int *ret_fd, struct err *err)
{
	cleanup(close_fd) int fd = -1;
	struct stat status;
	int r = make_directories(state, 0700, err);

	if (r < 0)
		return r;
	fd = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &status) < 0)
		return err_errno(err, "%s", state);
	if (status.st_uid != geteuid() || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return err_set(err, -EPERM, "%s: must be owned by you and writable by nobody else",
			       state);
	*ret_fd = steal_fd(&fd);
	return 0;
}

/* ---- creating ---- */

/* Writes the files of a new private directory, "out" last. */
static int fill(struct staging *staging, uid_t owner, struct err *err)
{
	cleanup(free_ptr) char *line = format_string("%s\n", staging->out);
	char limits[64];
	struct stat status;
	int r;

	if (!line)
		return err_set(err, -ENOMEM, "out of memory");
	/* It gets its name when it is held: a free one says that whoever made it is gone. */
	staging->lock =
		openat(staging->fd, "lock.new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (staging->lock < 0 || flock(staging->lock, LOCK_EX | LOCK_NB) < 0 ||
	    renameat(staging->fd, "lock.new", staging->fd, "lock") < 0)
		return err_errno(err, "lock");
	snprintf(limits, sizeof(limits), "%" PRIu64 " %" PRIu64 "\n", staging->max_bytes,
		 staging->max_files);
	r = write_new_file(staging->fd, "limits", 0600, limits, strlen(limits), err);
	if (r < 0)
		return r;
	if (mkdirat(staging->fd, "work", 0700) < 0)
		return err_errno(err, "work");
	staging->work_fd = tree_step(staging->fd, "work", O_RDONLY | O_DIRECTORY);
	if (staging->work_fd < 0)
		return err_set(err, staging->work_fd, "work: %s",
			       strerrordesc_np(-staging->work_fd));
	if (owner != (uid_t)-1 && fchown(staging->work_fd, owner, owner) < 0)
		return err_errno(err, "work: cannot be given to uid %u", owner);
	staging->owner = owner != (uid_t)-1 ? owner : geteuid();
	r = staging_place(staging, "staging/out", true, err);
	if (r < 0)
		return r;
	r = write_new_file(staging->fd, "out", 0600, line, strlen(line), err);
	if (r < 0)
		return r;
	if (fstatat(staging->fd, "out", &status, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, "out");
	staging->since = status.st_mtim;
	return 0;
}

/*
 * Some network file systems refuse every lease as if there were a writer; then there is only the
 * time stamp. "limits" has no writer.
 */
static bool has_leases(const struct staging *staging)
{
	cleanup(close_fd) int fd = openat(staging->fd, "limits", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	return fd >= 0 && !copy_has_writer(fd);
}

/* Opens or makes the collector's record. */
static int open_journal(struct staging *staging, struct err *err)
{
	int fd = openat(staging->fd, "written", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return err_errno(err, "written");
	staging->leases = has_leases(staging);
	r = seen_journal(&staging->seen, fd, staging_names_max(staging));
	return r < 0 ? err_set(err, r, "written: %s", strerrordesc_np(-r)) : 0;
}

static void discard(int state, int directory, const char *name)
{
	if (tree_empty(directory) == 0)
		unlinkat(state, name, AT_REMOVEDIR);
}

int staging_create(const char *state, const char *out, uid_t owner, uint64_t max_bytes,
		   uint64_t max_files, struct staging **ret_staging, struct err *err)
{
	cleanup(staging_free_p) struct staging *staging = NULL;
	cleanup(free_ptr) char *path = NULL;
	cleanup(close_fd) int parent = -1;
	char fresh[sizeof(STAGING_NEW) + 2 * ID_SIZE] = STAGING_NEW,
					     *id = fresh + strlen(STAGING_NEW);
	int r;

	if (out[0] != '/' || strlen(out) >= PATH_MAX)
		return err_set(err, -EINVAL, "the staging directory's path must be absolute");
	r = open_state(state, &parent, err);
	if (r < 0)
		return r;
	if (random_hex(id, ID_SIZE) < 0 || mkdirat(parent, fresh, 0700) < 0)
		return err_errno(err, "%s", state);
	path = path_join(state, id);
	staging = path ? staging_new(path, out) : NULL;
	if (!staging) {
		unlinkat(parent, fresh, AT_REMOVEDIR);
		return err_set(err, -ENOMEM, "out of memory");
	}
	for (size_t last = strlen(staging->out); last > 1 && staging->out[last - 1] == '/'; last--)
		staging->out[last - 1] = '\0';
	staging->max_bytes = max_bytes;
	staging->max_files = max_files;
	staging->fd = tree_step(parent, fresh, O_RDONLY | O_DIRECTORY);
	if (staging->fd < 0) {
		unlinkat(parent, fresh, AT_REMOVEDIR);
		return err_set(err, staging->fd, "%s: %s", state, strerrordesc_np(-staging->fd));
	}
	r = fill(staging, owner, err);
	if (r == 0)
		r = open_journal(staging, err);
	if (r == 0 && renameat(parent, fresh, parent, id) < 0)
		r = err_errno(err, "%s", id);
	if (r < 0) {
		discard(parent, staging->fd, fresh);
		(void)err_wrap(err, "%s", state);
		return r;
	}
	changes_open(&staging->changes);
	*ret_staging = steal_ptr(&staging);
	return 0;
}

/* ---- opening what is there ---- */

static int read_out(struct staging *staging, struct err *err)
{
	cleanup(free_ptr) char *text = NULL;
	struct stat status;
	size_t size = 0;
	int r = read_file(staging->fd, "out", PATH_MAX + 1, &text, &size, err);

	if (r < 0)
		return r;
	if (size > 0 && text[size - 1] == '\n')
		text[--size] = '\0';
	if (size == 0 || text[0] != '/' || strlen(text) != size)
		return err_set(err, -EBADMSG, "out: not an absolute path");
	if (fstatat(staging->fd, "out", &status, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, "out");
	staging->since = status.st_mtim;
	staging->out = steal_ptr(&text);
	return 0;
}

/* What the run allowed; a caller's 0 is replaced. */
static int read_limits(struct staging *staging, struct err *err)
{
	cleanup(free_ptr) char *text = NULL;
	uint64_t bytes = 0, files = 0;
	size_t size = 0;
	char *files_text;
	int r;

	if (staging->max_bytes > 0 && staging->max_files > 0)
		return 0;
	r = read_file(staging->fd, "limits", 64, &text, &size, err);
	if (r < 0)
		return r;
	text[strcspn(text, "\n")] = '\0';
	files_text = strchr(text, ' ');
	if (files_text)
		*files_text++ = '\0';
	if (!files_text || parse_u64(text, UINT64_MAX, &bytes) < 0 ||
	    parse_u64(files_text, UINT64_MAX, &files) < 0)
		return err_set(err, -EBADMSG, "limits: not two numbers");
	if (staging->max_bytes == 0)
		staging->max_bytes = bytes;
	if (staging->max_files == 0)
		staging->max_files = files;
	return 0;
}

/* Takes the lock, or finds that it is somebody else's (-EBUSY) or going (-ENOENT). */
static int take_lock(struct staging *staging, struct err *err)
{
	struct stat status;

	staging->lock = openat(staging->fd, "lock", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (staging->lock < 0)
		return err_errno(err, "lock");
	if (flock(staging->lock, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? err_set(err, -EBUSY, "in use")
					    : err_errno(err, "lock");
	/* whoever had it may have removed everything since */
	if (fstat(staging->lock, &status) < 0 || status.st_nlink == 0)
		return err_set(err, -ENOENT, "lock: removed");
	return 0;
}

static int open_work(struct staging *staging, struct err *err)
{
	struct stat status;

	staging->work_fd = tree_step(staging->fd, "work", O_RDONLY | O_DIRECTORY);
	/* the kernel owns it, and may have taken every permission away */
	if (staging->work_fd == -EACCES &&
	    fchmodat(staging->fd, "work", 0700, AT_SYMLINK_NOFOLLOW) == 0)
		staging->work_fd = tree_step(staging->fd, "work", O_RDONLY | O_DIRECTORY);
	if (staging->work_fd < 0)
		return err_set(err, staging->work_fd, "work: %s",
			       strerrordesc_np(-staging->work_fd));
	if (fstat(staging->work_fd, &status) < 0)
		return err_errno(err, "work");
	staging->owner = status.st_uid;
	return 0;
}

/* Everything of a private directory, with `locked` its lock and for writing too. */
static int load(struct staging *staging, bool locked, struct err *err)
{
	struct stat status;
	int r, fd;

	staging->fd = open(staging->directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (staging->fd < 0)
		return err_errno(err, "private directory");
	/* it says where results go and with whose rights: root follows nobody else's */
	if (fstat(staging->fd, &status) < 0 || status.st_uid != geteuid())
		return err_set(err, -EPERM, "belongs to somebody else");
	r = locked ? take_lock(staging, err) : 0;
	if (r == 0)
		r = read_out(staging, err);
	if (r == 0)
		r = read_limits(staging, err);
	if (r == 0)
		r = places_read(staging, err);
	if (r == 0)
		r = marks_read_let_out(staging, err);
	if (r == 0)
		r = history_read(staging, err);
	if (r == 0)
		r = open_work(staging, err);
	if (r < 0)
		return r;
	if (locked)
		return open_journal(staging, err);
	fd = openat(staging->fd, "written", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? 0 : seen_peek(&staging->seen, fd, staging_names_max(staging));
}

static int open_any(const char *directory, bool locked, uint64_t max_bytes, uint64_t max_files,
		    struct staging **ret_staging, struct err *err)
{
	cleanup(staging_free_p) struct staging *staging = staging_new(directory, NULL);
	int r;

	if (!staging)
		return err_set(err, -ENOMEM, "out of memory");
	staging->max_bytes = max_bytes;
	staging->max_files = max_files;
	r = load(staging, locked, err);
	if (r < 0) {
		(void)err_wrap(err, "%s",
			       directory); /* its value is no error number when err is NULL */
		return r;
	}
	*ret_staging = steal_ptr(&staging);
	return 0;
}

int staging_peek(const char *directory, struct staging **ret_staging, struct err *err)
{
	return open_any(directory, false, 0, 0, ret_staging, err);
}

int staging_open(const char *directory, uint64_t max_bytes, uint64_t max_files,
		 struct staging **ret_staging, struct err *err)
{
	return open_any(directory, true, max_bytes, max_files, ret_staging, err);
}

int staging_remove(struct staging *staging, struct err *err)
{
	int r;

	if (unlinkat(staging->fd, "out", 0) < 0 && errno != ENOENT)
		return err_errno(err, "%s: out", staging->directory);
	/* the lock last: until then everybody sees that somebody is at it */
	r = tree_empty(staging->work_fd);
	if (r == 0)
		r = tree_empty(staging->fd);
	if (r == 0 && rmdir(staging->directory) < 0 && errno != ENOENT)
		r = -errno;
	/* NFS keeps what is open; without "out" and its lock the directory is nobody's any more. */
	if (r == -EBUSY || r == -ENOTEMPTY) {
		partial_drop(&staging->partial);
		comparison_drop(&staging->comparison);
		close_fd(&staging->seen.journal);
		close_fd(&staging->lock);
		r = tree_remove(AT_FDCWD, staging->directory, staging->fd);
	}
	if (r == -EBUSY || r == -ENOTEMPTY)
		return err_set(err, r,
			       "%s: is removed by the next start: a file in it is still open",
			       staging->directory);
	if (r < 0)
		return err_set(err, r, "%s: cannot be removed: %s", staging->directory,
			       strerrordesc_np(-r));
	return 0;
}
