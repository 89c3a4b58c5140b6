#include "sandbox/sockets.h"

#include <errno.h>
#include <fcntl.h>
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

/*
 * A restarted kernel binds the same paths at once, and a file
 * system gives a freed inode number to the next file: only connect(2) tells a dead socket. It is
 * moved aside first, so that what is looked at is what is removed; one that lives is put back.
 */
bool sockets_remove_dead(const char *path)
{
	static const char aside[] = ".cellwall-dead";
	const char *slash = strrchr(path, '/');
	cleanup(free_ptr) char *directory =
		slash ? strndup(path, (size_t)(slash - path) + 1) : NULL;
	cleanup(close_fd) int at =
		directory ? open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	struct stat status;

	if (at < 0 || fstatat(at, slash + 1, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISSOCK(status.st_mode) || renameat(at, slash + 1, at, aside) < 0)
		return true;
	if (!socket_is_dead(at, aside) &&
	    renameat2(at, aside, at, slash + 1, RENAME_NOREPLACE) == 0)
		return false;
	(void)unlinkat(at, aside, 0);
	return true;
}
