/*
 * history: the input history of the kernels of one folder. A file of the host's that is copied into
 * work/ when a kernel begins and back when it has ended: the host never opens it as a data base,
 * and two kernels never write to one file.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "sandbox/staging_parts.h"

/* SQLite's rollback journal and write-ahead log: something was cut short
 * (sqlite.org/tempfiles.html).
 */
static const char *const unfinished[] = {HISTORY_NAME "-journal", HISTORY_NAME "-wal"};

#define LOCK_TRIES 20
#define LOCK_WAIT  ((struct timespec){.tv_nsec = 10 * 1000 * 1000})

/* Opens a regular file of bounded size. Returns the descriptor or a negative errno. */
static int open_bounded(int directory, const char *name, struct stat *ret_status)
{
	cleanup(close_fd) int fd =
		openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, ret_status) < 0)
		return -errno;
	if (!S_ISREG(ret_status->st_mode))
		return -EINVAL;
	if ((uint64_t)ret_status->st_size > HISTORY_MAX)
		return -EFBIG;
	return steal_fd(&fd);
}

/* The whole of `in` as `name` in `directory`, replacing what is there. */
static int copy_whole(int in, const struct stat *status, int directory, const char *name,
		      const struct copy_dress *dress, struct stat *ret_status)
{
	cleanup(copy_abort) struct copy copy;
	int r;

	copy_init(&copy);
	r = copy_begin(&copy, directory, status->st_size);
	if (r == 0)
		r = copy_run(&copy, in, 0);
	if (r == 0)
		r = copy_dress_up(&copy, dress, ret_status);
	if (r == 0)
		r = copy_commit(&copy, directory, name, true);
	return r;
}

/* Into work/. 0: done, or there is none yet. */
static int copy_in(struct staging *staging, const char *host_file)
{
	struct stat status, copied, work;
	cleanup(close_fd) int in = open_bounded(AT_FDCWD, host_file, &status);
	struct copy_dress dress = {.give = staging->owner != geteuid(), .uid = staging->owner};
	int r;

	if (in == -ENOENT)
		return 0;
	if (in < 0)
		return in;
	if (fstat(staging->work_fd, &work) < 0)
		return -errno;
	dress.gid = work.st_gid;
	dress.mode = 0600;
	dress.mtime = status.st_mtim;
	r = copy_whole(in, &status, staging->work_fd, HISTORY_NAME, &dress, &copied);
	if (r < 0)
		return r;
	seen_target_of(&status, &staging->history_mark.host);
	seen_target_of(&copied, &staging->history_mark.copy);
	return 0;
}

int staging_history(struct staging *staging, const char *host_file, struct err *err)
{
	cleanup(free_ptr) char *path = strdup(host_file);
	cleanup(close_fd) int fd = -1;
	char escaped[256];
	int r = path ? copy_in(staging, host_file) : -ENOMEM;

	escape_string(escaped, sizeof(escaped), host_file);
	if (r == 0) {
		fd = openat(staging->fd, "history",
			    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		r = fd < 0 ? -errno : 0;
	}
	if (r == 0)
		r = write_full(fd, &staging->history_mark, sizeof(staging->history_mark));
	if (r == 0)
		r = write_full(fd, host_file, strlen(host_file));
	if (r < 0) {
		(void)unlinkat(staging->work_fd, HISTORY_NAME, 0);
		(void)unlinkat(staging->fd, "history", 0);
		return err_set(err, r, "history %s: %s", escaped,
			       r == -EINVAL  ? "not a regular file"
			       : r == -EFBIG ? "too large"
					     : strerrordesc_np(-r));
	}
	staging->history = steal_ptr(&path);
	return 0;
}

int history_read(struct staging *staging, struct err *err)
{
	cleanup(free_ptr) char *text = NULL;
	const size_t head = sizeof(staging->history_mark);
	size_t size = 0;
	int r;

	if (faccessat(staging->fd, "history", F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return 0;
	r = read_file(staging->fd, "history", head + PATH_MAX, &text, &size, err);
	if (r < 0)
		return r;
	if (size <= head || text[head] != '/')
		return 0; /* killed while it was written: there is nothing to bring back yet */
	memcpy(&staging->history_mark, text, head);
	staging->history = strdup(text + head);
	return staging->history ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* Another kernel's way back is short; one that never ends holds up nobody. */
static int lock_directory(int fd)
{
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		const struct timespec wait = LOCK_WAIT;

		if (errno != EWOULDBLOCK || i == LOCK_TRIES)
			return -errno;
		nanosleep(&wait, NULL);
	}
	return 0;
}

static bool is_cut_short(const struct staging *staging)
{
	struct stat status;

	for (size_t i = 0; i < sizeof(unfinished) / sizeof(unfinished[0]); i++)
		if (fstatat(staging->work_fd, unfinished[i], &status, AT_SYMLINK_NOFOLLOW) == 0 &&
		    status.st_size > 0)
			return true;
	return false;
}

/* Is the host's file still the one that was copied in? Another kernel's is not overwritten. */
static bool is_as_taken(const struct staging *staging, int directory, const char *name)
{
	struct seen_target there = {0};
	struct stat status;

	if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0)
		seen_target_of(&status, &there);
	else if (errno != ENOENT)
		return false;
	return seen_same_target(&there, &staging->history_mark.host);
}

/* Returns 0 or a negative errno; -EBUSY: another kernel kept its own. */
static int copy_back(struct staging *staging, int in, const struct stat *status)
{
	cleanup(free_ptr) char *parent = strdup(staging->history);
	cleanup(close_fd) int directory = -1;
	const struct copy_dress dress = {.mode = 0600, .mtime = status->st_mtim};
	struct stat copied;
	char *slash = parent ? strrchr(parent, '/') : NULL;
	int r;

	if (!slash || slash == parent)
		return -EINVAL;
	*slash = '\0';
	r = make_directories(parent, 0700, NULL);
	if (r < 0)
		return r;
	directory = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return -errno;
	r = lock_directory(directory);
	if (r < 0)
		return r;
	if (!is_as_taken(staging, directory, slash + 1))
		return -EBUSY;
	r = copy_whole(in, status, directory, slash + 1, &dress, &copied);
	if (r < 0)
		return r;
	seen_target_of(&copied, &staging->history_mark.host);
	seen_target_of(status, &staging->history_mark.copy);
	return 0;
}

static const char *words_of(int error)
{
	switch (error) {
	case -EBUSY:
		return "another kernel of this folder has kept its own meanwhile";
	case -EFBIG:
		return "it is too large";
	case -ELOOP:
	case -EINVAL:
	case -ENXIO:
		return "it is not a regular file any more";
	case -EINPROGRESS:
		return "the kernel was ended in the middle of writing it";
	default:
		return strerrordesc_np(-error);
	}
}

int staging_history_back(struct staging *staging, struct err *err)
{
	cleanup(close_fd) int in = -1;
	struct seen_target now;
	struct stat status;
	int r = 0;

	if (!staging->history)
		return 0;
	in = open_bounded(staging->work_fd, HISTORY_NAME, &status);
	if (in == -ENOENT)
		return 0;
	if (in < 0)
		r = in;
	else if (status.st_uid != staging->owner)
		r = -EINVAL;
	if (r == 0) {
		seen_target_of(&status, &now);
		if (seen_same_target(&now, &staging->history_mark.copy))
			return 0;
		r = is_cut_short(staging) ? -EINPROGRESS : copy_back(staging, in, &status);
	}
	return r < 0 ? err_set(err, r, "the input history of this kernel is not kept: %s",
			       words_of(r))
		     : 0;
}
