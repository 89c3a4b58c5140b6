#include "sandbox/copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Between two looks at the clock; a slow disk takes some 40 ms for it. */
#define CHUNK	    ((size_t)4 * 1024 * 1024)
#define BUFFER_SIZE ((size_t)256 * 1024)

bool copy_without_unnamed;
bool copy_without_offload;

void copy_init(struct copy *copy)
{
	memset(copy, 0, sizeof(*copy));
	copy->out = -1;
	copy->directory = -1;
}

void copy_abort(struct copy *copy)
{
	if (copy->name[0])
		unlinkat(copy->directory, copy->name, 0);
	copy->name[0] = '\0';
	close_fd(&copy->out);
	close_fd(&copy->directory);
}

static int temporary_name(char name[COPY_NAME_SIZE])
{
	char hex[33];
	int r = random_hex(hex, 16);

	if (r < 0)
		return r;
	snprintf(name, COPY_NAME_SIZE, "%s%s", COPY_PREFIX, hex);
	return 0;
}

static bool is_temporary(const char *name)
{
	const size_t prefix = strlen(COPY_PREFIX);

	return strncmp(name, COPY_PREFIX, prefix) == 0 && strlen(name) == prefix + 32 &&
	       strspn(name + prefix, "0123456789abcdef") == 32;
}

/* O_TMPFILE: EOPNOTSUPP from the file system; EISDIR or ENOENT from a kernel that does not know it
 * (open(2)). */
static bool unnamed_missing(int error)
{
	return error == EOPNOTSUPP || error == EISDIR || error == ENOENT || error == EINVAL;
}

int copy_begin(struct copy *copy, int directory, off_t size)
{
	int r;

	copy->at = 0;
	copy->size = size;
	copy->directory = openat(directory, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (copy->directory < 0)
		return -errno;
	if (!copy_without_unnamed) {
		copy->out = openat(directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (copy->out >= 0)
			return 0;
	}
	if (!copy_without_unnamed && !unnamed_missing(errno)) {
		r = -errno;
		copy_abort(copy);
		return r;
	}
	r = temporary_name(copy->name);
	if (r == 0) {
		copy->out = openat(directory, copy->name,
				   O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0600);
		r = copy->out < 0 ? -errno : 0;
	}
	if (r < 0) {
		copy->name[0] = '\0';
		copy_abort(copy);
		return r;
	}
	/* tells another run's sweep that this one is alive; no locks there, no protection needed */
	(void)flock(copy->out, LOCK_EX | LOCK_NB);
	return 0;
}

/* copy_file_range(2) between these two files will never work; read and write will. */
static bool offload_missing(int error)
{
	return error == EXDEV || error == ENOSYS || error == EOPNOTSUPP || error == EINVAL ||
	       error == EPERM || error == EBADF;
}

/* Copies at most `size` bytes at `at` by hand; returns how many, 0 at the end of the source, or a
 * negative errno. */
static ssize_t copy_by_hand(int in, int out, off_t at, size_t size, char *buffer)
{
	ssize_t got = pread(in, buffer, size < BUFFER_SIZE ? size : BUFFER_SIZE, at);

	if (got < 0)
		return -errno;
	for (ssize_t done = 0; done < got;) {
		ssize_t wrote = pwrite(out, buffer + done, (size_t)(got - done), at + done);

		if (wrote < 0 && errno != EINTR)
			return -errno;
		if (wrote > 0)
			done += wrote;
	}
	return got;
}

/* Copies data up to `end`. */
static int copy_data(struct copy *copy, int in, off_t end, int64_t deadline, char **buffer)
{
	bool by_hand = copy_without_offload || *buffer;

	while (copy->at < end) {
		size_t size = (size_t)(end - copy->at) < CHUNK ? (size_t)(end - copy->at) : CHUNK;
		off_t from = copy->at, to = copy->at;
		ssize_t got;

		if (deadline && now_ms() >= deadline)
			return -ETIME;
		if (by_hand) {
			if (!*buffer)
				*buffer = malloc(BUFFER_SIZE);
			if (!*buffer)
				return -ENOMEM;
			got = copy_by_hand(in, copy->out, copy->at, size, *buffer);
		} else {
			got = copy_file_range(in, &from, copy->out, &to, size, 0);
			if (got < 0 && offload_missing(errno)) {
				by_hand = true;
				continue;
			}
			if (got < 0)
				got = -errno;
		}
		if (got == -EINTR)
			continue;
		if (got < 0)
			return (int)got;
		if (got == 0)
			return -ESTALE; /* it shrank */
		copy->at += got;
	}
	return 0;
}

/* The next stretch of data at or after `at`: false when only a hole is left. */
static bool next_data(int in, off_t at, off_t size, off_t *ret_begin, off_t *ret_end)
{
	off_t begin = lseek(in, at, SEEK_DATA), end;

	if (begin < 0 && errno == ENXIO)
		return false;
	if (begin < 0)
		begin = at; /* not known there: all is data */
	if (begin >= size)
		return false;
	end = lseek(in, begin, SEEK_HOLE);
	if (end <= begin || end > size)
		end = size;
	*ret_begin = begin;
	*ret_end = end;
	return true;
}

int copy_run(struct copy *copy, int in, int64_t deadline)
{
	cleanup(free_ptr) char *buffer = NULL;
	off_t begin, end;
	int r;

	if (!copy_without_offload && copy->at == 0 && copy->size > 0 &&
	    ioctl(copy->out, FICLONE, in) == 0)
		copy->at = copy->size;
	while (copy->at < copy->size && next_data(in, copy->at, copy->size, &begin, &end)) {
		copy->at = begin;
		r = copy_data(copy, in, end, deadline, &buffer);
		if (r == -ESTALE)
			break;
		if (r < 0)
			return r;
	}
	/* the hole at the end; a clone may have caught a longer file */
	return ftruncate(copy->out, copy->size) < 0 ? -errno : 0;
}

int copy_dress_up(struct copy *copy, const struct copy_dress *dress, struct stat *ret_status)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, dress->mtime};

	/* the owner first: chown(2) clears mode bits, and afterwards it is not ours unless we are
	 * root */
	if (dress->give && fchown(copy->out, dress->uid, dress->gid) < 0)
		return -errno;
	if (fchmod(copy->out, dress->mode & 0777) < 0)
		return -errno;
	/* a time the file system cannot hold is no reason to lose the content */
	(void)futimens(copy->out, times);
	return fstat(copy->out, ret_status) < 0 ? -errno : 0;
}

/* Gives the unnamed file a name that must be free. */
static int link_unnamed(int fd, int directory, const char *name)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, path, directory, name, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	if (errno != ENOENT && errno != ENOTDIR)
		return -errno;
	/* no /proc here: needs CAP_DAC_READ_SEARCH */
	return linkat(fd, "", directory, name, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/* The temporary name becomes `name`, which must be free. */
static int rename_new(struct copy *copy, int directory, const char *name)
{
	struct stat there;

	if (renameat2(copy->directory, copy->name, directory, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (linkat(copy->directory, copy->name, directory, name, 0) == 0) {
		unlinkat(copy->directory, copy->name, 0);
		return 0;
	}
	if (errno == EEXIST)
		return -errno;
	if (fstatat(directory, name, &there, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	return renameat(copy->directory, copy->name, directory, name) < 0 ? -errno : 0;
}

static int take_name(struct copy *copy, int directory, const char *name, bool replace)
{
	int r;

	if (!copy->name[0] && !replace)
		return link_unnamed(copy->out, directory, name);
	if (!copy->name[0]) {
		char temporary[COPY_NAME_SIZE];

		r = temporary_name(temporary);
		if (r < 0)
			return r;
		(void)flock(copy->out, LOCK_EX | LOCK_NB);
		r = link_unnamed(copy->out, directory, temporary);
		if (r < 0)
			return r;
		if (renameat(directory, temporary, directory, name) == 0)
			return 0;
		r = -errno;
		unlinkat(directory, temporary, 0);
		return r;
	}
	if (!replace)
		return rename_new(copy, directory, name);
	return renameat(copy->directory, copy->name, directory, name) < 0 ? -errno : 0;
}

int copy_commit(struct copy *copy, int directory, const char *name, bool replace)
{
	int r = take_name(copy, directory, name, replace);

	if (r < 0)
		return r;
	copy->name[0] = '\0';
	copy_abort(copy);
	return 0;
}

static void sweep_one(int directory, const char *name, const struct timespec *before)
{
	cleanup(close_fd) int fd =
		openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat status;

	if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
		return;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return; /* another kernel's collector is writing it */
		if (status.st_ctim.tv_sec >= before->tv_sec)
			return;
	}
	unlinkat(directory, name, 0);
}

void copy_sweep(int directory, const struct timespec *before)
{
	int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *entries = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!entries) {
		if (fd >= 0)
			close(fd);
		return;
	}
	for (unsigned int looked = 0; looked < 1000000 && (entry = readdir(entries)); looked++)
		if (is_temporary(entry->d_name))
			sweep_one(directory, entry->d_name, before);
	closedir(entries);
}

int copy_compare(int a, int b, off_t size, off_t *at, int64_t deadline)
{
	cleanup(free_ptr) char *buffer = malloc(2 * BUFFER_SIZE);

	if (!buffer)
		return -ENOMEM;
	while (*at < size) {
		ssize_t got = pread(a, buffer, BUFFER_SIZE, *at);
		ssize_t other;

		if (got < 0)
			return -errno;
		if (got == 0)
			return 0;
		other = pread(b, buffer + BUFFER_SIZE, (size_t)got, *at);
		if (other < 0)
			return -errno;
		if (other != got || memcmp(buffer, buffer + BUFFER_SIZE, (size_t)got) != 0)
			return 0;
		*at += got;
		if (deadline && *at < size && now_ms() >= deadline)
			return -ETIME;
	}
	return 1;
}

/*
 * A read lease is refused while anybody has the file open for writing; a shared writable mapping
 * counts, its writes change no time stamp (fcntl(2), "Leases"). It is given back at once. A writer
 * who opens in between would send SIGIO, which kills; SIGURG does not.
 */
bool copy_has_writer(int fd)
{
	if (fcntl(fd, F_SETSIG, SIGURG) < 0)
		return false;
	if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
		(void)fcntl(fd, F_SETLEASE, F_UNLCK);
		return false;
	}
	return errno == EAGAIN;
}
