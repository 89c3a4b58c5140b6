#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/paths.h"
#include "kernelspec/remote.h"

#define ID_HEX 32

/* The name of this upload: another file, or the same one changed, has another. */
static bool make_id(const struct stat *status, char out[ID_HEX + 1])
{
	const uint64_t what[] = {status->st_dev, status->st_ino, (uint64_t)status->st_size,
				 (uint64_t)status->st_mtim.tv_sec,
				 (uint64_t)status->st_mtim.tv_nsec};
	unsigned char digest[EVP_MAX_MD_SIZE];

	if (EVP_Digest(what, sizeof(what), digest, NULL, EVP_sha256(), NULL) != 1)
		return false;
	for (unsigned i = 0; i < ID_HEX / 2; i++)
		(void)snprintf(out + 2 * i, 3, "%02x", digest[i]);
	return true;
}

/* How much of it is there. Returns 0 or a negative errno with words. */
static int ask_offset(struct remote *remote, const char *path, uint64_t size, uint64_t *ret_done,
		      struct err *err)
{
	json_t *answer = NULL;
	json_int_t offset = -1;
	int code = remote_json(remote, path, &answer, err);

	if (code < 0)
		return code;
	if (json_unpack(answer, "{s:I}", "offset", &offset) < 0 || offset < 0)
		code = err_set(err, -EPROTO, "the server does not say how much of it is there");
	json_decref(answer);
	if (code < 0)
		return code;
	*ret_done = (uint64_t)offset > size ? 0 : (uint64_t)offset;
	if (*ret_done == size && size > 0) /* a part has one byte at least */
		*ret_done = size - 1;
	return 0;
}

static int upload(struct remote *remote, const char *path, const char *asked,
		  struct remote_copy *copy, struct err *err)
{
	struct remote_tries tries = {0};
	int code = ask_offset(remote, asked, copy->size, &copy->done, err);

	tries.copied = copy->done;
	if (code < 0)
		return code;
	for (;;) {
		struct err again;

		code = remote_upload(remote, path, copy, err);
		if (code != -EAGAIN && code != -ERANGE)
			return code;
		do {
			if (!remote_again(&tries, copy->done))
				return code;
			code = ask_offset(remote, asked, copy->size, &copy->done, &again);
		} while (code == -EAGAIN);
		if (code < 0) {
			*err = again;
			return code;
		}
	}
}

/* Below in: as named, or the file's own name in what ends with "/". Caller frees. */
static char *place_of(const struct remote *remote)
{
	const char *name = paths_name(remote->words[0]);
	const char *path = remote->count > 1 ? remote->words[1] : "";
	size_t size;

	if (strncmp(path, "in/", 3) == 0)
		path += 3;
	size = strlen(path);
	return size > 0 && path[size - 1] != '/' ? format_string("in/%s", path)
						 : format_string("in/%s%s", path, name);
}

static int open_source(const char *path, struct stat *status, struct err *err)
{
	/* Opening a fifo would wait for ever. */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	char shown[STAGE_SHOWN];

	escape_string(shown, sizeof(shown), path);
	if (fd < 0 || fstat(fd, status) < 0) {
		err_errno(err, "%s", shown);
	} else if (!S_ISREG(status->st_mode)) {
		err_set(err, -EINVAL, "%s is not a regular file", shown);
	} else {
		return fd;
	}
	close_fd(&fd);
	return -1;
}

static bool is_same(int fd, const struct stat *then)
{
	struct stat now;

	return fstat(fd, &now) == 0 && now.st_size == then->st_size &&
	       now.st_mtim.tv_sec == then->st_mtim.tv_sec &&
	       now.st_mtim.tv_nsec == then->st_mtim.tv_nsec;
}

int remote_put(struct remote *remote)
{
	cleanup(free_ptr) char *place = place_of(remote), *path = NULL, *asked = NULL, *to = NULL;
	char id[ID_HEX + 1], from[STAGE_SHOWN], shown[STAGE_SHOWN];
	struct stage_progress progress;
	cleanup(close_fd) int fd = -1;
	struct remote_copy copy;
	struct stat status;
	struct err err;
	int code;

	if (!place || !remote_path_good(place))
		return stage_fail("that is no path in an area");
	fd = open_source(remote->words[0], &status, &err);
	if (fd < 0 || remote_find_area(remote, &err) < 0)
		return stage_fail("%s", err.text);
	path = remote_path(remote, "areas", remote->area, place);
	asked = remote_path(remote, "uploads", remote->area, place);
	if (!path || !asked || !make_id(&status, id))
		return stage_fail("out of memory");
	to = format_string("%s?upload=%s", path, id);
	free(path);
	path = steal_ptr(&to);
	to = format_string("%s?upload=%s", asked, id);
	copy = (struct remote_copy){
		.fd = fd, .size = (uint64_t)status.st_size, .progress = &progress};
	stage_progress_begin(&progress, place);
	code = upload(remote, path, to, &copy, &err);
	stage_progress_end(&progress);
	if (code < 0)
		return stage_fail("%s%s", err.text,
				  code == -EAGAIN ? "; the same command goes on where it ended"
						  : "");
	if (!is_same(fd, &status))
		return stage_fail("%s changed while it was copied",
				  escape_string(from, sizeof(from), remote->words[0]));
	printf("put %s to %s/%s\n", escape_string(from, sizeof(from), remote->words[0]),
	       remote->area, escape_string(shown, sizeof(shown), place));
	return 0;
}
