/*
 * Theory of operation
 *
 * A path that was checked and is then used again is a race that the owner of the tree wins
 * (renameat2(2) RENAME_EXCHANGE of a directory and a symbolic link in a loop). So nothing here uses
 * a path: the walk holds one descriptor per level, and names are single components below one of
 * them.
 */
#include "sandbox/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A kernel that makes names of 255 bytes gets 29 of them into one read; ordinary ones are 200. */
#define ENTRIES_SIZE 8192

bool tree_without_openat2;

/* Docker's older seccomp profiles answer EPERM for system calls they do not know. */
static bool openat2_missing(int error)
{
	return error == ENOSYS || error == EPERM;
}

/* One component with O_NOFOLLOW leaves a mount point as the only way out of the tree. */
static int step_plain(int directory, const char *name, int flags)
{
	cleanup(close_fd) int fd = openat(directory, name, flags | O_NOFOLLOW | O_CLOEXEC);
	struct stat above, here;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &here) < 0 || fstat(directory, &above) < 0)
		return -errno;
	if (S_ISLNK(here.st_mode))
		return -ELOOP; /* O_PATH|O_NOFOLLOW opens the link itself */
	/* overlayfs gives files another st_dev than directories */
	if (S_ISDIR(here.st_mode) && here.st_dev != above.st_dev)
		return -EXDEV;
	return steal_fd(&fd);
}

int tree_step(int directory, const char *name, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned int)(flags | O_NOFOLLOW | O_CLOEXEC),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
			   RESOLVE_NO_XDEV,
	};
	long fd;

	if (*name == '\0' || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EINVAL;
	if (tree_without_openat2)
		return step_plain(directory, name, flags);
	fd = syscall(SYS_openat2, directory, name, &how, sizeof(how));
	if (fd >= 0)
		return (int)fd;
	if (openat2_missing(errno))
		return step_plain(directory, name, flags);
	return -errno;
}

void walk_init(struct walk *walk)
{
	memset(walk, 0, sizeof(*walk));
	for (size_t i = 0; i <= STAGING_DEPTH_MAX; i++) {
		walk->frame[i].fd = -1;
		walk->frame[i].mate = -1;
	}
}

void walk_leave(struct walk *walk)
{
	struct walk_frame *frame = &walk->frame[--walk->depth];

	close_fd(&frame->fd);
	close_fd(&frame->mate);
}

void walk_done(struct walk *walk)
{
	while (walk->depth > 0)
		walk_leave(walk);
	for (size_t i = 0; i <= STAGING_DEPTH_MAX; i++) {
		free(walk->frame[i].entries);
		walk->frame[i].entries = NULL;
	}
}

/* Takes `fd`. */
static int enter(struct walk *walk, int fd, size_t length)
{
	struct walk_frame *frame = &walk->frame[walk->depth];

	if (!frame->entries)
		frame->entries = malloc(ENTRIES_SIZE);
	if (!frame->entries) {
		close(fd);
		return -ENOMEM;
	}
	frame->fd = fd;
	frame->mate = -1;
	frame->length = length;
	frame->at = frame->end = 0;
	walk->depth++;
	return 0;
}

int walk_start(struct walk *walk, int directory)
{
	int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	while (walk->depth > 0)
		walk_leave(walk);
	return enter(walk, fd, 0);
}

struct walk_frame *walk_here(struct walk *walk)
{
	return &walk->frame[walk->depth - 1];
}

/* The next raw entry of the innermost directory; NULL at its end (ret 0) or when it cannot be read
 * (ret -errno). */
static const struct dirent64 *next_entry(struct walk_frame *frame, int *ret)
{
	const struct dirent64 *entry;
	const void *at;

	*ret = 0;
	if (frame->at >= frame->end) {
		ssize_t got = getdents64(frame->fd, frame->entries, ENTRIES_SIZE);

		if (got <= 0) {
			*ret = got < 0 ? -errno : 0;
			return NULL;
		}
		frame->at = 0;
		frame->end = (size_t)got;
	}
	at = frame->entries + frame->at;
	entry = at;
	frame->at += entry->d_reclen;
	return entry;
}

static bool is_dot(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

int walk_next(struct walk *walk)
{
	while (walk->depth > 0) {
		struct walk_frame *frame = walk_here(walk);
		int r;
		const struct dirent64 *entry = next_entry(frame, &r);
		size_t at = frame->length, size;

		if (!entry) {
			walk->path[at] = '\0';
			walk_leave(walk);
			if (r < 0)
				return r;
			continue;
		}
		if (is_dot(entry->d_name))
			continue;
		size = strnlen(entry->d_name, NAME_MAX);
		if (at > 0)
			walk->path[at++] = '/';
		memcpy(walk->path + at, entry->d_name, size);
		walk->path[at + size] = '\0';
		walk->name = walk->path + at;
		walk->type = entry->d_type;
		return 1;
	}
	return 0;
}

int walk_stat(struct walk *walk, struct stat *ret_status)
{
	if (fstatat(walk_here(walk)->fd, walk->name, ret_status, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return 0;
}

int walk_enter(struct walk *walk)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_NOCTTY;
	size_t length = strlen(walk->path);
	int fd;

	if (walk->depth > STAGING_DEPTH_MAX)
		return -E2BIG;
	if (length > STAGING_PATH_MAX)
		return -ENAMETOOLONG;
	if (walk->across)
		fd = openat(walk_here(walk)->fd, walk->name, flags | O_NOFOLLOW | O_CLOEXEC);
	else
		fd = tree_step(walk_here(walk)->fd, walk->name, flags);
	if (fd < 0)
		return walk->across ? -errno : fd;
	return enter(walk, fd, length);
}

/* Directories of a hostile kernel may have mode 000; ours is the same uid, or root. */
static int open_for_removal(int directory, const char *name)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(directory, name, flags);

	if (fd < 0 && errno == EACCES && fchmodat(directory, name, 0700, AT_SYMLINK_NOFOLLOW) == 0)
		fd = openat(directory, name, flags);
	return fd < 0 ? -errno : fd;
}

/* What removing one directory's entries needs to know. */
struct removal {
	int top;
	uint64_t moved; /* counter for fresh names at the top */
	char prefix[17];
};

/* Moves a directory that is not empty to the top under a fresh name. */
static int move_up(struct removal *removal, int directory, const char *name)
{
	for (unsigned int attempts = 0; attempts < 1000; attempts++) {
		char fresh[64];

		snprintf(fresh, sizeof(fresh), "%s-%llu", removal->prefix,
			 (unsigned long long)removal->moved++);
		if (renameat(directory, name, removal->top, fresh) == 0)
			return 0;
		/* moving a directory changes its "..", which needs write permission on itself */
		if (errno == EACCES) {
			if (fchmodat(directory, name, 0700, AT_SYMLINK_NOFOLLOW) < 0)
				return -errno;
		} else if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR) {
			return -errno;
		}
	}
	return -EEXIST;
}

static int remove_entry(struct removal *removal, int directory, const char *name,
			unsigned char type)
{
	if (type != DT_DIR) {
		if (unlinkat(directory, name, 0) == 0 || errno == ENOENT)
			return 0;
		if (errno != EISDIR && errno != EPERM)
			return -errno;
	}
	if (unlinkat(directory, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return -errno;
	if (directory == removal->top)
		return 1; /* to be emptied */
	return move_up(removal, directory, name);
}

static int empty_one(struct removal *removal, int directory, char *buffer);

/* Empties and removes a directory at the top. */
static int remove_top(struct removal *removal, const char *name, char *buffer)
{
	cleanup(close_fd) int fd = open_for_removal(removal->top, name);
	int r;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	/* without w and x for the owner nothing in it can be removed */
	if (fchmod(fd, 0700) < 0)
		return -errno;
	r = empty_one(removal, fd, buffer);
	if (r < 0)
		return r;
	return unlinkat(removal->top, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

/*
 * Removes every entry of one directory. Goes one level down from the top and not further: below
 * that, directories are moved up. Reads again until a pass finds nothing, since removing while
 * reading may skip entries.
 */
static int empty_one(struct removal *removal, int directory, char *buffer)
{
	char *below = directory == removal->top ? buffer + ENTRIES_SIZE : NULL;
	bool found = true;

	while (found) {
		ssize_t got;

		found = false;
		if (lseek(directory, 0, SEEK_SET) < 0)
			return -errno;
		while ((got = getdents64(directory, buffer, ENTRIES_SIZE)) > 0) {
			for (size_t at = 0; at < (size_t)got;) {
				const void *raw = buffer + at;
				const struct dirent64 *entry = raw;
				int r;

				at += entry->d_reclen;
				if (is_dot(entry->d_name))
					continue;
				found = true;
				r = remove_entry(removal, directory, entry->d_name, entry->d_type);
				if (r > 0)
					r = remove_top(removal, entry->d_name, below);
				if (r < 0)
					return r;
			}
		}
		if (got < 0)
			return -errno;
	}
	return 0;
}

int tree_empty(int directory)
{
	cleanup(free_ptr) char *buffer = malloc(2 * (size_t)ENTRIES_SIZE);
	cleanup(close_fd) int top = -1;
	struct removal removal = {.top = -1};
	int r;

	if (!buffer)
		return -ENOMEM;
	r = random_hex(removal.prefix, 8);
	if (r < 0)
		return r;
	top = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top < 0 && errno == EACCES && fchmod(directory, 0700) == 0)
		top = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top < 0)
		return -errno;
	if (fchmod(top, 0700) < 0)
		return -errno;
	removal.top = top;
	return empty_one(&removal, top, buffer);
}

int tree_remove(int parent, const char *name, int directory)
{
	const int64_t until = now_ms() + TREE_REMOVE_MS;
	int r;

	do {
		r = tree_empty(directory);
		if (r == 0 && unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
			r = -errno;
	} while ((r == -EBUSY || r == -ENOTEMPTY) && now_ms() < until && poll(NULL, 0, 10) == 0);
	return r;
}
