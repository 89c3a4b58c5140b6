#include "web/areas.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <linux/openat2.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/base.h"
#include "web/http.h"
#include "web/kernel_model.h"
#include "web/metrics.h"
#include "web/parse.h"
#include "web/server.h"
#include "web/users.h"

#define SEEN_MAX (4 * AREAS_FILES_MAX) /* entries of any kind of one walk */
#define PARTIAL	 ".uploads"	       /* no area can have this name */

/* ---- places ---- */

static bool area_good(const char *name)
{
	return users_name_good(name) && !strchr(name, '@');
}

static int open_below(int directory, const char *path, int flags)
{
	struct open_how how = {.flags = (unsigned)flags | (unsigned)O_CLOEXEC,
			       .mode = flags & O_CREAT ? 0600u : 0u,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
					  RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
	long fd = syscall(SYS_openat2, directory, path, &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

/* The user's directory below DATA/users, made when it is not there. Returns it or a negative errno.
 */
static int open_user(const struct request *request)
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

/*
 * AREA/staging/in/a/b of a path's parts, from `first` (the area) on; caller frees. NULL: a name
 * that is none, or a place that is neither in nor out (only in: `writing`).
 */
static char *path_of(const struct request *request, size_t first, bool writing)
{
	char *path;

	if (request->parts < first + 3 || !area_good(request->part[first]) ||
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

/* The directories of `path` but its last name, each opened or made. Returns the last one. */
static int make_parents(int user, const char *path, const char **ret_name)
{
	int directory = dup(user);
	const char *slash;

	while (directory >= 0 && (slash = strchr(path, '/'))) {
		char name[NAME_MAX + 1];
		int next;

		if (!parse_copy(name, sizeof(name), path, (size_t)(slash - path))) {
			next = -ENAMETOOLONG;
		} else {
			if (mkdirat(directory, name, 0700) < 0 && errno != EEXIST)
				next = -errno;
			else
				next = open_below(directory, name, O_RDONLY | O_DIRECTORY);
		}
		close_fd(&directory);
		if (next < 0)
			return next;
		directory = next;
		path = slash + 1;
	}
	*ret_name = path;
	return directory;
}

static void refuse(struct request *request, int code)
{
	if (code == -ENOENT || code == -ENOTDIR || code == -ELOOP || code == -EXDEV)
		http_error(request, 404, NULL, "there is no such file");
	else if (code == -ENOSPC || code == -EDQUOT || code == -EFBIG)
		http_error(request, 507, NULL, "the area or its disk is full");
	else if (code == -EISDIR || code == -EEXIST || code == -ENOTEMPTY)
		http_error(request, 409, NULL, "a directory is there");
	else
		http_error(request, code == -ENAMETOOLONG ? 400 : 500, NULL, "%s",
			   strerrordesc_np(-code));
}

/* ---- what is there ---- */

struct walk {
	json_t *files; /* NULL: only counted */
	unsigned count, seen;
	uint64_t bytes;
};

static void add_file(struct walk *walk, const char *path, const struct stat *status)
{
	walk->count++;
	walk->bytes += (uint64_t)status->st_size;
	if (walk->files)
		(void)json_array_append_new(
			walk->files, json_pack("{s:s%, s:I, s:o}", "path", path, strlen(path),
					       "size", (json_int_t)status->st_size, "modified",
					       kernel_time(status->st_mtim)));
}

/* True when there may be more than was looked at. */
static bool is_cut(const struct walk *walk)
{
	return walk->count >= AREAS_FILES_MAX || walk->seen >= SEEN_MAX;
}

/* Takes the descriptor. As deep as an upload can reach. */
static void walk_into(struct walk *walk, int fd, const char *path, unsigned depth)
{
	DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;

	if (!directory) {
		close_fd(&fd);
		return;
	}
	while (!is_cut(walk) && (entry = readdir(directory))) {
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
			walk_into(walk, open_below(fd, entry->d_name, O_RDONLY | O_DIRECTORY),
				  below, depth + 1);
	}
	(void)closedir(directory);
}

void areas_list(struct request *request)
{
	cleanup(close_fd) int user = open_user(request);
	json_t *areas = json_array();
	int copy = user < 0 ? -1 : openat(user, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;

	while (directory && (entry = readdir(directory))) {
		struct walk walk = {0};

		if (!area_good(entry->d_name))
			continue;
		walk_into(&walk, open_below(user, entry->d_name, O_RDONLY | O_DIRECTORY), "", 0);
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
	cleanup(close_fd) int user = open_user(request), staging = -1;
	struct walk walk = {.files = json_array()};
	char path[USER_NAME_MAX + 16];

	if (!area_good(request->part[2]) || user < 0) {
		json_decref(walk.files);
		http_error(request, 400, NULL, "this is no area's name");
		return;
	}
	(void)snprintf(path, sizeof(path), "%s/staging", request->part[2]);
	staging = open_below(user, path, O_RDONLY | O_DIRECTORY);
	if (staging >= 0) {
		walk_into(&walk, open_below(staging, "in", O_RDONLY | O_DIRECTORY), "in", 0);
		walk_into(&walk, open_below(staging, "out", O_RDONLY | O_DIRECTORY), "out", 0);
	}
	http_json(request, 200,
		  json_pack("{s:o, s:b}", "files", walk.files, "all", !is_cut(&walk)));
}

/* ---- out ---- */

void areas_get(struct request *request)
{
	cleanup(free_ptr) char *path = path_of(request, 2, false);
	cleanup(close_fd) int user = open_user(request), fd = -1;
	struct stat status;
	char etag[80];

	if (!path) {
		http_error(request, 404, NULL, "there is no such file");
		return;
	}
	fd = user < 0 ? user : open_below(user, path, O_RDONLY | O_NONBLOCK);
	if (fd < 0) {
		refuse(request, fd);
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
	cleanup(free_ptr) char *path = path_of(request, 2, false);
	cleanup(close_fd) int user = open_user(request), parent = -1;
	char *slash = path ? strrchr(path, '/') : NULL;

	if (!slash) {
		http_error(request, 404, NULL, "there is no such file");
		return;
	}
	*slash = '\0';
	parent = user < 0 ? user : open_below(user, path, O_RDONLY | O_DIRECTORY);
	if (parent < 0)
		refuse(request, parent);
	else if (unlinkat(parent, slash + 1, 0) < 0)
		refuse(request, -errno);
	else
		http_empty(request, 204);
}

/* ---- in ---- */

struct upload {
	LIST_ENTRY(upload) next;
	struct request *request;
	const struct user *owner;
	int user, partial;
	char *path;
	char name[72];	 /* of the file that grows, in PARTIAL */
	uint64_t offset; /* where the next byte goes */
	uint64_t total;	 /* UINT64_MAX: not known */
	uint64_t room;	 /* that the limit leaves, to all of this owner together */
	int fd;
};

static LIST_HEAD(, upload) uploads = LIST_HEAD_INITIALIZER(uploads); /* under way */

static void free_upload(struct upload *upload)
{
	LIST_REMOVE(upload, next);
	close_fd(&upload->user);
	close_fd(&upload->partial);
	close_fd(&upload->fd);
	free(upload->path);
	free(upload);
}

static bool name_partial(const char *path, char out[72])
{
	unsigned char digest[EVP_MAX_MD_SIZE];

	if (EVP_Digest(path, strlen(path), digest, NULL, EVP_sha256(), NULL) != 1)
		return false;
	for (unsigned i = 0; i < 32; i++)
		(void)snprintf(out + 2 * i, 3, "%02x", digest[i]);
	return true;
}

/* What one upload writes the others of its owner cannot. */
static void spend(const struct upload *upload, uint64_t size)
{
	struct upload *other;

	LIST_FOREACH(other, &uploads, next)
	{
		if (other->owner == upload->owner)
			other->room -= size < other->room ? size : other->room;
	}
}

static int put_data(void *arg, const void *data, size_t size)
{
	struct upload *upload = arg;
	struct request *request = upload->request;
	int code = 0;

	if (size > upload->room ||
	    (upload->total != UINT64_MAX && size > upload->total - upload->offset))
		code = -EDQUOT;
	for (size_t done = 0; code == 0 && done < size;) {
		ssize_t count = pwrite(upload->fd, (const char *)data + done, size - done,
				       (off_t)(upload->offset + done));

		if (count < 0 && errno != EINTR) {
			code = -errno;
		} else if (count > 0) {
			done += (size_t)count;
			spend(upload, (uint64_t)count);
		}
	}
	if (code < 0) {
		free_upload(upload);
		http_on_gone(request, NULL, NULL);
		refuse(request, code);
		return code;
	}
	upload->offset += size;
	metrics_add(METRIC_UPLOADED_BYTES, size);
	return 0;
}

static void put_end(void *arg)
{
	struct upload *upload = arg;
	struct request *request = upload->request;
	const char *name = NULL;
	int parent, code = 0;

	if (upload->total != UINT64_MAX && upload->offset < upload->total) {
		json_t *body = json_pack("{s:I}", "offset", (json_int_t)upload->offset);

		free_upload(upload);
		http_json(request, 202, body);
		return;
	}
	parent = make_parents(upload->user, upload->path, &name);
	if (parent < 0)
		code = parent;
	else if (renameat(upload->partial, upload->name, parent, name) < 0)
		code = -errno;
	close_fd(&parent);
	free_upload(upload);
	if (code < 0)
		refuse(request, code);
	else
		http_empty(request, 201);
}

/* The client is gone: what has come stays for when it goes on. */
static void put_gone(void *arg)
{
	struct upload *upload = arg;
	struct request *request = upload->request;

	free_upload(upload);
	http_empty(request, 503);
}

/* "bytes A-B/T". False: not so. */
static bool read_range(const char *text, uint64_t *from, uint64_t *total)
{
	char number[3][24];
	int end = 0;

	return sscanf(text, "bytes %20[0-9]-%20[0-9]/%20[0-9]%n", number[0], number[1], number[2],
		      &end) == 3 &&
	       end > 0 && text[end] == '\0' && parse_u64(number[0], INT64_MAX, from) == 0 &&
	       parse_u64(number[2], INT64_MAX, total) == 0 && *from <= *total;
}

static uint64_t room_of(const struct upload *upload)
{
	const struct user *owner = upload->owner;
	uint64_t most = owner->area_limit ? owner->area_limit
					  : upload->request->server->settings.area_limit;
	const struct upload *other;
	struct walk walk = {0};
	struct stat status;

	walk_into(&walk, openat(upload->user, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "", 0);
	LIST_FOREACH(other, &uploads, next)
	{
		if (other->owner == owner && other->fd >= 0 && fstat(other->fd, &status) == 0 &&
		    status.st_nlink == 0) /* it has no name and takes room */
			walk.bytes += (uint64_t)status.st_size;
	}
	return walk.bytes < most && !is_cut(&walk) ? most - walk.bytes : 0;
}

/* Opens the file that grows. Returns 0, -ERANGE: it does not go on there, -EDQUOT: the limit leaves
 * no room, or a negative errno. */
static int open_partial(struct upload *upload)
{
	int64_t length = http_body_length(upload->request);
	struct stat status;

	if (mkdirat(upload->user, PARTIAL, 0700) < 0 && errno != EEXIST)
		return -errno;
	upload->partial = open_below(upload->user, PARTIAL, O_RDONLY | O_DIRECTORY);
	if (upload->partial < 0)
		return upload->partial;
	if (!upload->offset) /* another that goes on keeps its own file, which has no name now */
		(void)unlinkat(upload->partial, upload->name, 0);
	upload->room = room_of(upload);
	if (!upload->room || (length > 0 && (uint64_t)length > upload->room))
		return -EDQUOT; /* an empty file takes room too: a name */
	upload->fd = open_below(upload->partial, upload->name,
				O_WRONLY | (upload->offset ? 0 : O_CREAT | O_EXCL));
	if (upload->fd < 0)
		return upload->offset ? -ERANGE : upload->fd;
	if (fstat(upload->fd, &status) < 0)
		return -errno;
	return upload->offset > (uint64_t)status.st_size ? -ERANGE : 0;
}

void areas_put(struct request *request)
{
	static const struct http_sink sink = {put_data, put_end};
	const char *range = http_header(request, "content-range");
	struct upload *upload = calloc(1, sizeof(*upload));
	int code;

	if (!upload) {
		http_error(request, 503, NULL, "no memory");
		return;
	}
	*upload = (struct upload){.request = request,
				  .owner = request->user,
				  .partial = -1,
				  .fd = -1,
				  .total = UINT64_MAX};
	LIST_INSERT_HEAD(&uploads, upload, next);
	upload->user = open_user(request);
	upload->path = path_of(request, 2, true);
	if (!upload->path || (range && !read_range(range, &upload->offset, &upload->total)) ||
	    !name_partial(upload->path, upload->name)) {
		free_upload(upload);
		http_error(request, 400, NULL,
			   "a file goes to /api/areas/AREA/in/PATH, a part of one with "
			   "Content-Range: bytes A-B/TOTAL");
		return;
	}
	code = upload->user < 0 ? upload->user : open_partial(upload);
	if (code < 0) {
		free_upload(upload);
		if (code == -ERANGE)
			http_error(request, 416, NULL,
				   "so much of it is not there: GET /api/uploads/AREA/in/PATH");
		else
			refuse(request, code);
		return;
	}
	http_on_gone(request, put_gone, upload);
	http_take_body(request, &sink, upload);
}

void areas_offset(struct request *request)
{
	cleanup(free_ptr) char *path = path_of(request, 2, true);
	cleanup(close_fd) int user = open_user(request), partial = -1;
	struct stat status = {0};
	char name[72];

	if (!path || user < 0 || !name_partial(path, name)) {
		http_error(request, 404, NULL, "there is no such file");
		return;
	}
	partial = open_below(user, PARTIAL, O_RDONLY | O_DIRECTORY);
	if (partial < 0 || fstatat(partial, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		status.st_size = 0;
	http_json(request, 200, json_pack("{s:I}", "offset", (json_int_t)status.st_size));
}
