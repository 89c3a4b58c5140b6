#include "proxy/beside.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/tree.h"

static enum beside kind_of(int fd)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return BESIDE_NOTHING;
	if (S_ISLNK(status.st_mode))
		return BESIDE_LINK;
	if (S_ISDIR(status.st_mode))
		return BESIDE_DIRECTORY;
	return S_ISREG(status.st_mode) ? BESIDE_FILE : BESIDE_NOTHING;
}

/* One component further: `*fd` becomes its descriptor. */
static enum beside step(int *fd, const char *name)
{
	int below = tree_step(*fd, name, O_PATH);

	if (below == -ELOOP)
		return BESIDE_LINK;
	if (below == -EXDEV)
		return BESIDE_MOUNT;
	if (below < 0)
		return BESIDE_NOTHING;
	close_fd(fd);
	*fd = below;
	return kind_of(below);
}

enum beside beside_look(const char *folder, const char *path, size_t *ret_length)
{
	cleanup(close_fd) int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	enum beside kind = BESIDE_DIRECTORY;
	size_t at = 0;

	for (int depth = 0; fd >= 0 && depth < BESIDE_DEPTH_MAX; depth++) {
		size_t length = strcspn(path + at, "/");
		char name[NAME_MAX + 1];

		if (length == 0 || length > NAME_MAX || kind != BESIDE_DIRECTORY)
			return BESIDE_NOTHING;
		memcpy(name, path + at, length);
		name[length] = '\0';
		kind = step(&fd, name);
		at += length;
		if (kind == BESIDE_NOTHING)
			return kind;
		if (path[at] == '\0' || kind == BESIDE_LINK || kind == BESIDE_MOUNT) {
			*ret_length = at;
			return kind;
		}
		at++;
	}
	return BESIDE_NOTHING;
}
