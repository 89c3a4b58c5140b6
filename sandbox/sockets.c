#include "sandbox/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "sandbox/base.h"

/* Does nobody listen there any more? `name` is in the directory `at`, and may be longer from here.
 */
static bool socket_is_dead(int at, const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	cleanup(close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", at, name);
	return fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 &&
	       errno == ECONNREFUSED;
}

/* A socket file: where it is, and which it is. */
struct file {
	int at; /* its directory; -1: none */
	const char *name;
	ino_t inode;
	struct timespec changed;
};

/* Finds the socket file at `path`. Its directory is the caller's to close. */
static bool find(const char *path, struct file *ret_file)
{
	const char *slash = strrchr(path, '/');
	cleanup(free_ptr) char *directory =
		slash ? strndup(path, (size_t)(slash - path) + 1) : NULL;
	cleanup(close_fd) int at =
		directory ? open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	struct stat status;

	if (at < 0 || fstatat(at, slash + 1, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISSOCK(status.st_mode))
		return false;
	*ret_file = (struct file){.at = steal_fd(&at),
				  .name = slash + 1,
				  .inode = status.st_ino,
				  .changed = status.st_ctim};
	return true;
}

/* It is moved aside first, so that what is looked at is what is removed; one that lives is put
 * back. */
static void remove_file(const struct file *file)
{
	static const char aside[] = ".cellwall-dead";
	struct stat now;

	if (fstatat(file->at, file->name, &now, AT_SYMLINK_NOFOLLOW) < 0 ||
	    now.st_ino != file->inode || now.st_ctim.tv_sec != file->changed.tv_sec ||
	    now.st_ctim.tv_nsec != file->changed.tv_nsec ||
	    renameat(file->at, file->name, file->at, aside) < 0)
		return;
	if (socket_is_dead(file->at, aside) ||
	    renameat2(file->at, aside, file->at, file->name, RENAME_NOREPLACE) < 0)
		(void)unlinkat(file->at, aside, 0);
}

/*
 * A restarted kernel binds the same paths at once, and a file system gives a freed inode number to
 * the next file: only connect(2) tells a dead socket. Between bind(2) and listen(2) a living one is
 * refused too, so that it is asked twice.
 */
bool sockets_remove_dead(char *const *paths, size_t count)
{
	struct file dead[SOCKETS_MAX];
	size_t found = 0;
	bool all = true;

	for (size_t i = 0; i < count && found < SOCKETS_MAX; i++) {
		if (!find(paths[i], &dead[found]))
			continue;
		if (socket_is_dead(dead[found].at, dead[found].name)) {
			found++;
		} else {
			close_fd(&dead[found].at);
			all = false;
		}
	}
	if (found > 0)
		(void)poll(NULL, 0, SOCKETS_PAUSE_MS);
	for (size_t i = 0; i < found; i++) {
		remove_file(&dead[i]);
		close_fd(&dead[i].at);
	}
	return all;
}
