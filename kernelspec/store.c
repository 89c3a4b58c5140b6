/*
 * store: where the records of inputs.h are, and who may change them when.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kernelspec/inputs.h"
#include "kernelspec/paths.h"
#include "kernelspec/record.h"
#include "sandbox/staging.h"

#define LOCK_WAIT_MS 5000
#define LOCK_STEP_MS 20
#define LOCK_TURNS   16 /* times that the directory is removed under us */
#define RECORD	     "inputs.json"
#define FRESH	     "inputs.new" /* under the lock there is one writer */

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

/* STATE/folders, beside the private directories. */
static char *folders_path(struct err *err)
{
	cleanup(free_ptr) char *kernels = NULL, *state = NULL;
	char *path;

	if (staging_state_directory(&kernels, err) < 0)
		return NULL;
	state = paths_parent(kernels);
	path = state ? path_join(state, "folders") : NULL;
	if (!path)
		no_memory(err);
	return path;
}

/* Ours alone? What others can write would let them choose what our kernels see. */
static int check_owner(int fd, const char *what, struct err *err)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return err_errno(err, "%s", what);
	if (status.st_uid != geteuid())
		return err_set(err, -EPERM, "%s belongs to uid %u, not to you (%u): it is not used",
			       what, status.st_uid, geteuid());
	if (status.st_mode & (S_IWGRP | S_IWOTH))
		return err_set(err, -EPERM, "%s can be written by others: it is not used", what);
	return 0;
}

int inputs_directory(const char *folder, bool make, char **ret_path, struct err *err)
{
	cleanup(free_ptr) char *folders = folders_path(err), *path = NULL;
	char id[PATHS_ID + 1];
	int r = 0;

	if (!folders)
		return -ENOENT;
	if (paths_id(folder, id) < 0)
		return no_memory(err);
	path = path_join(folders, id);
	if (!path)
		return no_memory(err);
	if (make)
		r = make_directories(path, 0700, err);
	if (r == 0)
		*ret_path = steal_ptr(&path);
	return r;
}

/* -ENOENT without words' worth: nothing is there. */
static int open_directory(const char *folder, bool make, char **ret_path, struct err *err)
{
	cleanup(free_ptr) char *path = NULL;
	cleanup(close_fd) int fd = -1;
	int r = inputs_directory(folder, make, &path, err);

	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, "%s", path);
	r = check_owner(fd, path, err);
	if (r < 0)
		return r;
	*ret_path = steal_ptr(&path);
	return steal_fd(&fd);
}

/* ---- reading ---- */

/* Empty without a record. `ret_folder` (caller frees) is NULL then. */
static int read_record(int directory, const char *path, char **ret_folder,
		       struct inputs *ret_inputs, struct err *err)
{
	cleanup(close_fd) int fd =
		openat(directory, RECORD, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	cleanup(free_ptr) char *text = NULL, *name = path_join(path, RECORD);
	struct stat status;
	int r;

	if (!name)
		return no_memory(err);
	if (fd < 0 && errno == ENOENT) {
		*ret_inputs = (struct inputs){0};
		return 0;
	}
	if (fd < 0 || fstat(fd, &status) < 0)
		return err_errno(err, "%s", name);
	r = check_owner(fd, name, err);
	if (r < 0)
		return r;
	if (!S_ISREG(status.st_mode) || status.st_size > RECORD_MAX)
		return err_set(err, -EINVAL, "%s is not a regular file of at most %d bytes", name,
			       RECORD_MAX);
	text = malloc((size_t)status.st_size + 1);
	if (!text)
		return no_memory(err);
	r = read_full(fd, text, (size_t)status.st_size);
	if (r < 0)
		return err_set(err, r, "%s: %s", name, strerrordesc_np(-r));
	r = record_parse(text, (size_t)status.st_size, ret_folder, ret_inputs, err);
	return r < 0 ? err_wrap(err, "%s is damaged (remove it)", name) : 0;
}

/* The record of this folder alone: two paths of one SHA-256 are not to be had, a copied file is. */
static int read_own(int directory, const char *path, const char *folder, struct inputs *ret_inputs,
		    struct err *err)
{
	cleanup(free_ptr) char *whose = NULL;
	struct inputs inputs = {0};
	int r = read_record(directory, path, &whose, &inputs, err);

	if (r == 0 && whose && strcmp(whose, folder) != 0)
		r = err_set(err, -EINVAL, "%s/" RECORD " is that of another folder: remove it",
			    path);
	if (r < 0) {
		inputs_done(&inputs);
		return r;
	}
	*ret_inputs = inputs;
	return 0;
}

int inputs_read(const char *folder, struct inputs *ret_inputs, struct err *err)
{
	cleanup(free_ptr) char *path = NULL;
	cleanup(close_fd) int fd = -1;
	struct inputs inputs = {0};
	int r = open_directory(folder, false, &path, err);

	if (r >= 0) {
		fd = r;
		r = read_own(fd, path, folder, &inputs, err);
	} else if (r == -ENOENT) {
		r = 0;
	}
	if (r == 0)
		*ret_inputs = inputs;
	return r;
}

int inputs_folders(inputs_folder_fn *found, void *arg, struct err *err)
{
	cleanup(free_ptr) char *folders = folders_path(err);
	const struct dirent *entry;
	int first = 0;
	DIR *list;

	if (!folders)
		return -ENOENT;
	list = opendir(folders);
	if (!list)
		return errno == ENOENT ? 0 : err_errno(err, "%s", folders);
	while ((entry = readdir(list))) {
		cleanup(free_ptr) char *path = NULL, *folder = NULL;
		cleanup(close_fd) int fd = -1;
		struct inputs inputs = {0};
		struct err wrong = {0};
		int r;

		if (strlen(entry->d_name) != PATHS_ID ||
		    strspn(entry->d_name, "0123456789abcdef") != PATHS_ID)
			continue;
		path = path_join(folders, entry->d_name);
		fd = openat(dirfd(list), entry->d_name,
			    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		r = !path ? no_memory(&wrong) : fd < 0 ? err_errno(&wrong, "%s", path) : 0;
		if (r == 0)
			r = check_owner(fd, path, &wrong);
		if (r == 0)
			r = read_record(fd, path, &folder, &inputs, &wrong);
		if (r == 0 && folder)
			found(arg, folder, &inputs);
		inputs_done(&inputs);
		if (r < 0 && first == 0) {
			first = r;
			if (err)
				*err = wrong;
		}
	}
	closedir(list);
	return first;
}

/* ---- changing ---- */

static int wait_for_lock(int fd, const char *path, struct err *err)
{
	const struct timespec step = {.tv_nsec = LOCK_STEP_MS * 1000000L};
	const int64_t end = now_ms() + LOCK_WAIT_MS;

	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EINTR)
			continue;
		/* NFS without a lock daemon, some FUSE file systems: without a lock one of two
		 * changes at a time would be lost. */
		if (errno != EWOULDBLOCK)
			return err_errno(
				err,
				"%s cannot be locked (set XDG_STATE_HOME to a directory on "
				"a local disk)",
				path);
		if (now_ms() > end)
			return err_set(err, -EBUSY,
				       "%s: somebody else has been changing it for %d s", path,
				       LOCK_WAIT_MS / 1000);
		nanosleep(&step, NULL);
	}
	return 0;
}

/*
 * Whoever removes the last input removes the directory with the lock: a lock that was got on a
 * removed file is none. Returns the directory, with the lock in ret_lock, or a negative errno.
 */
static int open_locked(const char *folder, int *ret_lock, char **ret_path, struct err *err)
{
	for (int turn = 0; turn < LOCK_TURNS; turn++) {
		cleanup(free_ptr) char *path = NULL;
		cleanup(close_fd) int directory = open_directory(folder, true, &path, err);
		cleanup(close_fd) int lock = -1;
		struct stat status;
		int r;

		if (directory == -ENOENT && path == NULL && turn + 1 < LOCK_TURNS)
			continue; /* removed since it was made */
		if (directory < 0)
			return directory;
		lock = openat(directory, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (lock < 0 && errno == ENOENT)
			continue;
		if (lock < 0)
			return err_errno(err, "%s/lock", path);
		r = wait_for_lock(lock, path, err);
		if (r < 0)
			return r;
		if (fstat(lock, &status) == 0 && status.st_nlink == 0)
			continue;
		*ret_path = steal_ptr(&path);
		*ret_lock = steal_fd(&lock);
		return steal_fd(&directory);
	}
	return err_set(err, -EBUSY, "the folder's record is being removed again and again");
}

static int write_record(int directory, const char *path, const char *folder,
			const struct inputs *inputs, struct err *err)
{
	cleanup(free_ptr) char *text = record_format(folder, inputs);
	cleanup(close_fd) int fd = -1;
	int r;

	if (!text)
		return no_memory(err);
	if (strlen(text) > RECORD_MAX)
		return err_set(err, -E2BIG, "the record would be longer than %d bytes", RECORD_MAX);
	(void)unlinkat(directory, FRESH, 0); /* of a writer that was killed */
	fd = openat(directory, FRESH, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, "%s/" FRESH, path);
	r = write_full(fd, text, strlen(text));
	if (r == 0 && (fsync(fd) < 0 || renameat(directory, FRESH, directory, RECORD) < 0))
		r = -errno;
	if (r < 0) {
		(void)unlinkat(directory, FRESH, 0);
		return err_set(err, r, "%s/" RECORD ": %s", path, strerrordesc_np(-r));
	}
	return 0;
}

/* With the lock held. A history that is kept there keeps the directory. */
static int remove_record(int directory, const char *path, struct err *err)
{
	if (unlinkat(directory, RECORD, 0) < 0 && errno != ENOENT)
		return err_errno(err, "%s/" RECORD, path);
	(void)unlinkat(directory, "lock", 0);
	(void)rmdir(path);
	return 0;
}

int inputs_change(const char *folder, inputs_change_fn *change, void *arg, struct err *err)
{
	cleanup(free_ptr) char *path = NULL;
	cleanup(close_fd) int lock = -1;
	cleanup(close_fd) int directory = open_locked(folder, &lock, &path, err);
	struct inputs inputs = {0};
	int r, written = 0;
	bool was_empty;

	if (directory < 0)
		return directory;
	r = read_own(directory, path, folder, &inputs, err);
	if (r < 0)
		return r;
	was_empty = inputs.count == 0;
	r = change(arg, &inputs, err);
	if (r > 0 && inputs.count > 0)
		written = write_record(directory, path, folder, &inputs, err);
	else if (r > 0 || was_empty)
		written = remove_record(directory, path, r < 0 ? NULL : err);
	inputs_done(&inputs);
	return r >= 0 && written < 0 ? written : r;
}
