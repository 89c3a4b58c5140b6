#include "web/areas.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/base.h"
#include "web/areas_parts.h"
#include "web/http.h"
#include "web/kernel_model.h"
#include "web/parse.h"
#include "web/server.h"
#include "web/users.h"

#define SEEN_MAX (4 * AREAS_FILES_MAX) /* entries of any kind of one walk */

/* ---- places ---- */

bool areas_name_good(const char *name)
{
	return users_name_good(name) && !strchr(name, '@');
}

int areas_open_below(int directory, const char *path, int flags)
{
	struct open_how how = {.flags = (unsigned)flags | (unsigned)O_CLOEXEC,
			       .mode = flags & O_CREAT ? 0600u : 0u,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
					  RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
	long fd = syscall(SYS_openat2, directory, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

int areas_open_user(const struct request *request)
{
	cleanup(free_ptr) char *path =
		format_string("%s/users/%s", request->server->data, request->user->name);
	int fd;

	if (!path)
		return -ENOMEM;
	if (make_directories(path, 0700, NULL) < 0)
		return -EIO;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

char *areas_path(const struct request *request, size_t first, bool writing)
{
	char *path;

	if (request->parts < first + 3 || !areas_name_good(request->part[first]) ||
	    (strcmp(request->part[first + 1], "in") != 0 &&
	     (writing || strcmp(request->part[first + 1], "out") != 0)))
		return NULL;
	path = format_string("%s/staging", request->part[first]);
	for (size_t i = first + 1; path && i < request->parts; i++) {
		char *longer = format_string("%s/%s", path, request->part[i]);

		free(path);
		path = longer;
	}
	if (path && strlen(path) > 2000) {
		free(path);
		path = NULL;
	}
	return path;
}

void areas_refuse(struct request *request, int code)
{
	if (code == -ENOENT || code == -ENOTDIR || code == -ELOOP || code == -EXDEV)
		http_error(request, 404, NULL, "there is no such file");
	else if (code == -ENOSPC || code == -EDQUOT || code == -EFBIG)
		http_error(request, 507, NULL, "the area or its disk is full");
	else if (code == -ECANCELED)
		http_error(request, 409, NULL, "another upload of this file has begun since");
	else if (code == -EISDIR || code == -EEXIST || code == -ENOTEMPTY)
		http_error(request, 409, NULL, "a directory is there");
	else
		http_error(request, code == -ENAMETOOLONG ? 400 : 500, NULL, "%s",
			   strerrordesc_np(-code));
}

/* ---- what is there ---- */

static void add_file(struct areas_walk *walk, const char *path, const struct stat *status)
{
	walk->count++;
	walk->bytes += (uint64_t)status->st_size;
	if (walk->files)
		(void)json_array_append_new(
			walk->files, json_pack("{s:s%, s:I, s:o}", "path", path, strlen(path),
					       "size", (json_int_t)status->st_size, "modified",
					       kernel_time(status->st_mtim)));
}

bool areas_is_cut(const struct areas_walk *walk)
{
	return walk->count >= AREAS_FILES_MAX || walk->seen >= SEEN_MAX;
}

void areas_walk_into(struct areas_walk *walk, int fd, const char *path, unsigned depth)
{
	DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;

	if (!directory) {
		close_fd(&fd);
		return;
	}
	while (!areas_is_cut(walk) && (entry = readdir(directory))) {
		cleanup(free_ptr) char *below = NULL;
		struct stat status;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		walk->seen++;
		if (!parse_utf8(entry->d_name, strlen(entry->d_name)) ||
		    fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		below = *path ? path_join(path, entry->d_name) : strdup(entry->d_name);
		if (below && S_ISREG(status.st_mode))
			add_file(walk, below, &status);
		else if (below && S_ISDIR(status.st_mode) && depth < HTTP_PARTS_MAX)
			areas_walk_into(walk,
					areas_open_below(fd, entry->d_name, O_RDONLY | O_DIRECTORY),
					below, depth + 1);
	}
	(void)closedir(directory);
}

void areas_list(struct request *request)
{
	cleanup(close_fd) int user = areas_open_user(request);
	json_t *areas = json_array();
	int copy = user < 0 ? -1 : openat(user, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;

	while (directory && (entry = readdir(directory))) {
		struct areas_walk walk = {0};

		if (!areas_name_good(entry->d_name))
			continue;
		areas_walk_into(&walk,
				areas_open_below(user, entry->d_name, O_RDONLY | O_DIRECTORY), "",
				0);
		(void)json_array_append_new(
			areas, json_pack("{s:s, s:i, s:I}", "name", entry->d_name, "files",
					 (int)walk.count, "bytes", (json_int_t)walk.bytes));
	}
	if (directory)
		(void)closedir(directory);
	http_json(request, 200, json_pack("{s:o}", "areas", areas));
}

void areas_files(struct request *request)
{
	cleanup(close_fd) int user = areas_open_user(request), staging = -1;
	struct areas_walk walk = {.files = json_array()};
	char path[USER_NAME_MAX + 16];

	if (!areas_name_good(request->part[2]) || user < 0) {
		json_decref(walk.files);
		http_error(request, 400, NULL, "this is no area's name");
		return;
	}
	(void)snprintf(path, sizeof(path), "%s/staging", request->part[2]);
	staging = areas_open_below(user, path, O_RDONLY | O_DIRECTORY);
	if (staging >= 0) {
		areas_walk_into(&walk, areas_open_below(staging, "in", O_RDONLY | O_DIRECTORY),
				"in", 0);
		areas_walk_into(&walk, areas_open_below(staging, "out", O_RDONLY | O_DIRECTORY),
				"out", 0);
	}
	http_json(request, 200,
		  json_pack("{s:o, s:b}", "files", walk.files, "all", !areas_is_cut(&walk)));
}

/* ---- out ---- */

void areas_get(struct request *request)
{
	cleanup(free_ptr) char *path = areas_path(request, 2, false);
	cleanup(close_fd) int user = areas_open_user(request), fd = -1;
	struct stat status;
	char etag[80];

	if (!path) {
		http_error(request, 404, NULL, "there is no such file");
		return;
	}
	fd = user < 0 ? user : areas_open_below(user, path, O_RDONLY | O_NONBLOCK);
	if (fd < 0) {
		areas_refuse(request, fd);
		return;
	}
	if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
		http_error(request, 404, NULL, "there is no such file");
		return;
	}
	(void)snprintf(etag, sizeof(etag), "\"%" PRIx64 "-%" PRIx64 "-%" PRIx64 "\"",
		       (uint64_t)status.st_ino, (uint64_t)status.st_size,
		       (uint64_t)status.st_mtim.tv_sec * 1000000000u +
			       (uint64_t)status.st_mtim.tv_nsec);
	http_file(request, steal_fd(&fd), (uint64_t)status.st_size, "application/octet-stream",
		  request->part[request->parts - 1], etag);
}

void areas_remove(struct request *request)
{
	cleanup(free_ptr) char *path = areas_path(request, 2, false);
	cleanup(close_fd) int user = areas_open_user(request), parent = -1;
	char *slash = path ? strrchr(path, '/') : NULL;

	if (!slash) {
		http_error(request, 404, NULL, "there is no such file");
		return;
	}
	*slash = '\0';
	parent = user < 0 ? user : areas_open_below(user, path, O_RDONLY | O_DIRECTORY);
	if (parent < 0)
		areas_refuse(request, parent);
	else if (unlinkat(parent, slash + 1, 0) < 0)
		areas_refuse(request, -errno);
	else
		http_empty(request, 204);
}
