/*
 * places: where staged things are mounted in work/. To the collector a directory that is covered by
 * a mount is an empty one, which is no result; a covered file is an empty file, known by its inode:
 * the kernel can rename a directory above a mount point, never the mount point itself (EBUSY,
 * rename(2)).
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/staging_parts.h"

#define ORIGINS_MAX ((size_t)8 * 1024 * 1024) /* more than a spec has */
/* More than a mount namespace takes mounts (fs.mount-max is 100,000). */
#define STUBS_MAX 131072

int places_directory(const struct staging *staging, int parent, const char *name, gid_t group)
{
	cleanup(close_fd) int fd = -1;
	bool fresh = mkdirat(parent, name, 0755) == 0;

	if (!fresh && errno != EEXIST)
		return -errno;
	fd = tree_step(parent, name, O_RDONLY | O_DIRECTORY);
	if (fd >= 0 && fresh && (fchmod(fd, 0755) < 0 || fchown(fd, staging->owner, group) < 0))
		return -errno;
	return steal_fd(&fd);
}

static int add_stub(struct staging *staging, uint64_t inode)
{
	uint64_t *stubs;

	if (staging->stub_count >= STUBS_MAX)
		return -E2BIG;
	stubs = realloc(staging->stubs, (staging->stub_count + 1) * sizeof(*stubs));
	if (!stubs)
		return -ENOMEM;
	stubs[staging->stub_count++] = inode;
	staging->stubs = stubs;
	return 0;
}

/* On disk too: a recovery must know that it is no result. */
static int remember_stub(struct staging *staging, uint64_t inode)
{
	cleanup(close_fd) int places =
		openat(staging->fd, "places",
		       O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = places < 0 ? -errno : write_full(places, &inode, sizeof(inode));

	return r < 0 ? r : add_stub(staging, inode);
}

/* Where nothing can be mounted the staged thing is a link to the host's. */
static int place_link(struct staging *staging, int parent, const char *name, const char *to)
{
	struct stat status;

	if (symlinkat(to, parent, name) < 0 ||
	    fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return remember_stub(staging, status.st_ino);
}

/* An empty file. */
static int place_file(struct staging *staging, int parent, const char *name, gid_t group)
{
	const int flags = O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	cleanup(close_fd) int fd = openat(parent, name, flags | O_CREAT | O_EXCL, 0644);
	struct stat status;

	if (fd < 0 && errno == EEXIST) {
		if (fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
		return S_ISREG(status.st_mode) && status.st_size == 0 ? 0 : -EEXIST;
	}
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0644) < 0 || fchown(fd, staging->owner, group) < 0 || fstat(fd, &status) < 0)
		return -errno;
	return remember_stub(staging, status.st_ino);
}

/* `link` NULL: an empty directory or file. */
static int place(struct staging *staging, const char *relative, bool directory, const char *link,
		 struct err *err)
{
	cleanup(close_fd) int parent = fcntl(staging->work_fd, F_DUPFD_CLOEXEC, 3);
	const char *at = relative;
	char name[NAME_MAX + 1];
	char escaped[256];
	struct stat status;
	int r = 0, depth = 0;

	escape_string(escaped, sizeof(escaped), relative);
	if (parent < 0 || fstat(parent, &status) < 0)
		return err_errno(err, "%s", staging->work);
	if (strlen(relative) > STAGING_PATH_MAX)
		return err_set(err, -ENAMETOOLONG, "staging place %s: longer than %d bytes",
			       escaped, STAGING_PATH_MAX);
	for (bool last = false; !last; depth++) {
		size_t size = strcspn(at, "/");
		int next;

		last = at[size] == '\0';
		if (size > NAME_MAX || depth > STAGING_DEPTH_MAX)
			return err_set(err, -ENAMETOOLONG, "staging place %s: too long or deep",
				       escaped);
		snprintf(name, sizeof(name), "%.*s", (int)size, at);
		/* checked before it is made: tree_step refuses them only afterwards */
		if (size == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
			return err_set(err, -EINVAL, "staging place %s: not a plain relative path",
				       escaped);
		if (last && link) {
			r = place_link(staging, parent, name, link);
			break;
		}
		if (last && !directory) {
			r = place_file(staging, parent, name, status.st_gid);
			break;
		}
		next = places_directory(staging, parent, name, status.st_gid);
		if (next < 0) {
			r = next;
			break;
		}
		close_fd(&parent);
		parent = next;
		at += size + 1;
	}
	if (r < 0)
		return err_set(err, r, "staging place %s: %s", escaped, strerrordesc_np(-r));
	return 0;
}

int staging_place(struct staging *staging, const char *relative, bool directory, struct err *err)
{
	return place(staging, relative, directory, NULL, err);
}

int staging_link(struct staging *staging, const char *relative, const char *to, struct err *err)
{
	return place(staging, relative, false, to, err);
}

int places_read(struct staging *staging, struct err *err)
{
	cleanup(close_fd) int fd = openat(staging->fd, "places", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	uint64_t inode;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(err, "places");
	while (read(fd, &inode, sizeof(inode)) == (ssize_t)sizeof(inode))
		if (add_stub(staging, inode) < 0)
			return err_set(err, -ENOMEM, "places: too many");
	return 0;
}

bool places_has(const struct staging *staging, const struct stat *status)
{
	if (status->st_size != 0 && !S_ISLNK(status->st_mode))
		return false;
	for (size_t i = 0; i < staging->stub_count; i++)
		if (staging->stubs[i] == status->st_ino)
			return true;
	return false;
}

int staging_note(struct staging *staging, const char *relative, const char *source)
{
	cleanup(close_fd) int fd =
		openat(staging->fd, "origins",
		       O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return -errno;
	r = write_full(fd, relative, strlen(relative) + 1);
	return r < 0 ? r : write_full(fd, source, strlen(source) + 1);
}

int places_origins(const struct staging *staging, char **ret_text, size_t *ret_size)
{
	*ret_text = NULL;
	*ret_size = 0;
	if (faccessat(staging->fd, "origins", F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return 0;
	return read_file(staging->fd, "origins", ORIGINS_MAX, ret_text, ret_size, NULL);
}
