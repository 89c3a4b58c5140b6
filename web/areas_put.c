#include "web/areas.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/base.h"
#include "web/areas_parts.h"
#include "web/http.h"
#include "web/metrics.h"
#include "web/parse.h"
#include "web/server.h"
#include "web/users.h"

#define PARTIAL	     ".uploads" /* no area can have this name */
#define PATH_HEX     64		/* SHA-256 of a path: what its uploads' names begin with */
#define ID_MAX	     64		/* of an upload, as its client calls it */
#define PARTIAL_NAME (PATH_HEX + 1 + ID_MAX + 1)

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
				next = areas_open_below(directory, name, O_RDONLY | O_DIRECTORY);
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

struct upload {
	LIST_ENTRY(upload) next;
	struct request *request;
	const struct user *owner;
	int user, partial;
	char *path;
	char name[PARTIAL_NAME]; /* of the file that grows, in PARTIAL */
	bool displaced;		 /* another upload to this path has begun since */
	uint64_t offset;	 /* where the next byte goes */
	uint64_t total;		 /* UINT64_MAX: not known */
	uint64_t room;		 /* that the limit leaves, to all of this owner together */
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

static bool id_good(const char *id)
{
	size_t size = strlen(id);

	return size > 0 && size <= ID_MAX &&
	       strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == size;
}

/* The name in PARTIAL of what goes to `path`. False: the client's ID is none. */
static bool name_partial(const struct request *request, const char *path, char out[PARTIAL_NAME])
{
	const char *id = http_query(request, "upload");
	unsigned char digest[EVP_MAX_MD_SIZE];

	if ((id && !id_good(id)) ||
	    EVP_Digest(path, strlen(path), digest, NULL, EVP_sha256(), NULL) != 1)
		return false;
	for (unsigned i = 0; i < PATH_HEX / 2; i++)
		(void)snprintf(out + 2 * i, 3, "%02x", digest[i]);
	(void)snprintf(out + PATH_HEX, PARTIAL_NAME - PATH_HEX, "-%s", id ? id : "");
	return true;
}

/*
 * The newest upload to a path is the one that counts: those under way end, they could write into a
 * file that is whole by then. With `all` what is left of earlier ones goes too.
 */
static void displace(const struct upload *upload, bool all)
{
	int copy = openat(upload->partial, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = !all || copy < 0 ? NULL : fdopendir(copy);
	struct upload *other;
	struct dirent *entry;

	LIST_FOREACH(other, &uploads, next)
	{
		if (other != upload && other->owner == upload->owner &&
		    strncmp(other->name, upload->name, PATH_HEX) == 0)
			other->displaced = true;
	}
	while (directory && (entry = readdir(directory)))
		if (strncmp(entry->d_name, upload->name, PATH_HEX) == 0)
			(void)unlinkat(upload->partial, entry->d_name, 0);
	if (directory)
		(void)closedir(directory);
	else
		close_fd(&copy);
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

	if (upload->displaced)
		code = -ECANCELED;
	else if (size > upload->room ||
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
		areas_refuse(request, code);
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

	if (upload->displaced) {
		free_upload(upload);
		areas_refuse(request, -ECANCELED);
		return;
	}
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
		areas_refuse(request, code);
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
	struct areas_walk walk = {0};
	struct stat status;

	areas_walk_into(&walk, openat(upload->user, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "",
			0);
	LIST_FOREACH(other, &uploads, next)
	{
		if (other->owner == owner && other->fd >= 0 && fstat(other->fd, &status) == 0 &&
		    status.st_nlink == 0) /* it has no name and takes room */
			walk.bytes += (uint64_t)status.st_size;
	}
	return walk.bytes < most && !areas_is_cut(&walk) ? most - walk.bytes : 0;
}

/* Opens the file that grows. Returns 0, -ERANGE: it does not go on there, -EDQUOT: the limit leaves
 * no room, or a negative errno. */
static int open_partial(struct upload *upload)
{
	int64_t length = http_body_length(upload->request);
	struct stat status;

	if (mkdirat(upload->user, PARTIAL, 0700) < 0 && errno != EEXIST)
		return -errno;
	upload->partial = areas_open_below(upload->user, PARTIAL, O_RDONLY | O_DIRECTORY);
	if (upload->partial < 0)
		return upload->partial;
	if (!upload->offset)
		displace(upload, true);
	upload->room = room_of(upload);
	if (!upload->room || (length > 0 && (uint64_t)length > upload->room))
		return -EDQUOT; /* an empty file takes room too: a name */
	upload->fd = areas_open_below(upload->partial, upload->name,
				      O_WRONLY | (upload->offset ? 0 : O_CREAT | O_EXCL));
	if (upload->fd < 0)
		return upload->offset ? -ERANGE : upload->fd;
	if (fstat(upload->fd, &status) < 0)
		return -errno;
	if (upload->offset > (uint64_t)status.st_size)
		return -ERANGE;
	if (upload->offset)
		displace(upload, false);
	/* What came after this place is sent anew, or belongs to a longer file. */
	return ftruncate(upload->fd, (off_t)upload->offset) < 0 ? -errno : 0;
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
	upload->user = areas_open_user(request);
	upload->path = areas_path(request, 2, true);
	if (!upload->path || (range && !read_range(range, &upload->offset, &upload->total)) ||
	    !name_partial(request, upload->path, upload->name)) {
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
			areas_refuse(request, code);
		return;
	}
	http_on_gone(request, put_gone, upload);
	http_take_body(request, &sink, upload);
}

void areas_offset(struct request *request)
{
	cleanup(free_ptr) char *path = areas_path(request, 2, true);
	cleanup(close_fd) int user = areas_open_user(request), partial = -1;
	struct stat status = {0};
	char name[PARTIAL_NAME];

	if (!path || user < 0 || !name_partial(request, path, name)) {
		http_error(request, 404, NULL, "there is no such file");
		return;
	}
	partial = areas_open_below(user, PARTIAL, O_RDONLY | O_DIRECTORY);
	if (partial < 0 || fstatat(partial, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		status.st_size = 0;
	http_json(request, 200, json_pack("{s:I}", "offset", (json_int_t)status.st_size));
}
