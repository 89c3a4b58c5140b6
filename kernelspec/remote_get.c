#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernelspec/paths.h"
#include "kernelspec/remote.h"

#define MARK_HEX  16
#define PART_NAME (sizeof(".cellwall--.part") + 2 * MARK_HEX)

static bool mark(const char *text, char out[MARK_HEX + 1])
{
	unsigned char digest[EVP_MAX_MD_SIZE];

	if (EVP_Digest(text, strlen(text), digest, NULL, EVP_sha256(), NULL) != 1)
		return false;
	for (unsigned i = 0; i < MARK_HEX / 2; i++)
		(void)snprintf(out + 2 * i, 3, "%02x", digest[i]);
	return true;
}

/* What is left of earlier downloads of this URL when it was another file. */
static void remove_older(int directory, const char *name)
{
	size_t same = strlen(".cellwall-") + MARK_HEX + 1;
	int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;

	while (list && (entry = readdir(list)))
		if (strlen(entry->d_name) == strlen(name) &&
		    strncmp(entry->d_name, name, same) == 0 && strcmp(entry->d_name, name) != 0)
			(void)unlinkat(directory, entry->d_name, 0);
	if (list)
		(void)closedir(list);
	else
		close_fd(&copy);
}

/*
 * The file that grows: it has a name by which the same command finds it again, made of the URL and
 * of what the server says the file is. Returns it, locked, or a negative errno with words.
 */
static int open_part(const struct remote *remote, int directory, const char *path,
		     const struct remote_head *head, char name[PART_NAME], struct err *err)
{
	cleanup(free_ptr) char *url = format_string("%s%s", remote->server, path);
	cleanup(free_ptr) char *what = format_string("%s %" PRIu64, head->etag, head->length);
	cleanup(close_fd) int fd = -1;
	char where[MARK_HEX + 1], which[MARK_HEX + 1];
	struct stat status;

	if (!url || !what || !mark(url, where) || !mark(what, which))
		return err_set(err, -ENOMEM, "out of memory");
	(void)snprintf(name, PART_NAME, ".cellwall-%s-%s.part", where, which);
	remove_older(directory, name);
	fd = openat(directory, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (fd < 0 || fstat(fd, &status) < 0)
		return err_errno(err, "%s", name);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(err, -EBUSY, "the same file is being copied to there already");
	if (!S_ISREG(status.st_mode) || status.st_uid != geteuid() || status.st_nlink != 1 ||
	    (status.st_mode & 077))
		return err_set(err, -EPERM, "%s is in the way: it is not ours", name);
	if (!head->etag[0] || (uint64_t)status.st_size > head->length)
		if (ftruncate(fd, 0) < 0)
			return err_errno(err, "%s", name);
	return steal_fd(&fd);
}

static int check_space(int fd, uint64_t wanted, struct err *err)
{
	struct statvfs space;

	if (fstatvfs(fd, &space) == 0 && wanted / space.f_frsize >= space.f_bavail)
		return err_set(err, -ENOSPC, "not enough space is left for it");
	return 0;
}

/* The whole of it is there: now it gets its name, never another's. */
static int settle(int directory, int fd, const char *part, const char *name, struct err *err)
{
	char shown[512];
	mode_t mask = umask(0);
	int code = 0;

	(void)umask(mask);
	if (fchmod(fd, 0666 & ~mask) < 0 || fsync(fd) < 0)
		return err_errno(err, "%s", part);
	if (renameat2(directory, part, directory, name, RENAME_NOREPLACE) < 0)
		code = -errno;
	if (code == -EINVAL) { /* this file system cannot do it in one step */
		code = linkat(directory, part, directory, name, 0) < 0 ? -errno : 0;
		if (code == 0)
			(void)unlinkat(directory, part, 0);
	}
	if (code == 0)
		return 0;
	(void)fchmod(fd, 0600);
	return err_set(err, code, "%s: %s", escape_string(shown, sizeof(shown), name),
		       code == -EEXIST ? "is there already: --output DIR for another place"
				       : strerrordesc_np(-code));
}

/* One look and all the tries that it takes. -ESTALE: another file is there since. */
static int download(struct remote *remote, const char *path, int directory, const char *name,
		    struct stage_progress *progress, struct err *err)
{
	struct remote_tries tries = {0};
	char part[PART_NAME];
	struct remote_head head;
	struct remote_copy copy = {.progress = progress};
	cleanup(close_fd) int fd = -1;
	struct stat status;
	int code = remote_look(remote, path, &head, err);

	if (code < 0)
		return code;
	fd = open_part(remote, directory, path, &head, part, err);
	if (fd < 0 || fstat(fd, &status) < 0)
		return fd < 0 ? fd : err_errno(err, "%s", part);
	copy.fd = fd;
	copy.size = head.length;
	copy.etag = head.etag;
	copy.done = (uint64_t)status.st_size;
	tries.copied = copy.done;
	code = check_space(fd, copy.size - copy.done, err);
	while (code == 0 && copy.done < copy.size) {
		code = remote_download(remote, path, &copy, err);
		if (code == -EAGAIN && (copy.done == 0 || head.etag[0]) &&
		    remote_again(&tries, copy.done))
			code = 0;
	}
	if (code == 0)
		code = settle(directory, fd, part, name, err);
	if (code < 0 && (copy.done == 0 || !head.etag[0] || code == -EPROTO))
		(void)unlinkat(directory, part, 0);
	return code;
}

static int get_file(struct remote *remote, const char *file, int directory, const char *name,
		    struct err *err)
{
	cleanup(free_ptr) char *path = remote_path(remote, "areas", remote->area, file);
	struct stage_progress progress;
	int code = -ESTALE;

	if (!path)
		return err_set(err, -ENOMEM, "out of memory");
	if (faccessat(directory, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		char shown[512];

		return err_set(err, -EEXIST, "%s is there already: --output DIR for another place",
			       escape_string(shown, sizeof(shown), name));
	}
	stage_progress_begin(&progress, file);
	for (int i = 0; i < 3 && code == -ESTALE; i++)
		code = download(remote, path, directory, name, &progress, err);
	stage_progress_end(&progress);
	return code;
}

/* ---- folders ---- */

/* The folder of `path` below `directory`, made where it is not there, through no link. */
static int make_folders(int directory, const char *path, const char **ret_name, struct err *err)
{
	struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
	int at = dup(directory);
	const char *slash;

	while (at >= 0 && (slash = strchr(path, '/'))) {
		cleanup(free_ptr) char *name = strndup(path, (size_t)(slash - path));
		char shown[256];
		long next = -1;

		if (!name)
			err_set(err, -ENOMEM, "out of memory");
		else if (mkdirat(at, name, 0777) == 0 || errno == EEXIST)
			next = syscall(SYS_openat2, at, name, &how, sizeof(how));
		if (next < 0 && name)
			err_errno(err, "%s", escape_string(shown, sizeof(shown), name));
		close_fd(&at);
		at = (int)next;
		path = slash + 1;
	}
	*ret_name = path;
	return at;
}

static void say_got(const struct remote *remote, const char *file)
{
	char from[STAGE_SHOWN], to[STAGE_SHOWN];

	printf("got %s/%s to %s\n", remote->area, escape_string(from, sizeof(from), file),
	       escape_string(to, sizeof(to), remote->output ? remote->output : "."));
}

/* Files of the area that are below `word`. Returns how many failed; `ret_found` how many there
 * were. */
static int get_below(struct remote *remote, const char *word, int directory, json_t *files,
		     size_t *ret_found)
{
	size_t own = (size_t)(paths_name(word) - word), size = strlen(word);
	json_t *file;
	size_t index;
	int failed = 0;

	*ret_found = 0;
	json_array_foreach(files, index, file)
	{
		const char *path = json_string_value(json_object_get(file, "path")), *name;
		cleanup(close_fd) int folder = -1;
		char shown[STAGE_SHOWN];
		struct err err;

		if (!path || strncmp(path, word, size) != 0 || path[size] != '/')
			continue;
		++*ret_found;
		if (!remote_path_good(path)) {
			failed += stage_fail("%s: no name for a file here",
					     escape_string(shown, sizeof(shown), path));
			continue;
		}
		folder = make_folders(directory, path + own, &name, &err);
		if (folder < 0 || get_file(remote, path, folder, name, &err) < 0)
			failed += stage_fail("%s", err.text);
		else
			say_got(remote, path);
	}
	return failed;
}

static int get_folder(struct remote *remote, const char *word, int directory)
{
	json_t *files = NULL;
	char shown[STAGE_SHOWN];
	struct err err;
	size_t found;
	bool all;
	int failed;

	if (remote_files(remote, remote->area, &files, &all, &err) < 0)
		return stage_fail("%s", err.text);
	failed = get_below(remote, word, directory, files, &found);
	json_decref(files);
	if (found == 0)
		return stage_fail("%s/%s: there is no such file", remote->area,
				  escape_string(shown, sizeof(shown), word));
	if (!all)
		return stage_fail("the server lists no more than these: name what is missing");
	return failed ? 1 : 0;
}

int remote_get(struct remote *remote)
{
	const char *to = remote->output ? remote->output : ".";
	cleanup(close_fd) int directory = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char shown[STAGE_SHOWN];
	struct err err;

	if (directory < 0)
		return stage_fail("%s: %s", escape_string(shown, sizeof(shown), to),
				  strerrordesc_np(errno));
	if (remote_find_area(remote, &err) < 0)
		return stage_fail("%s", err.text);
	for (size_t i = 0; i < remote->count; i++) {
		char *word = remote->words[i];
		size_t size = strlen(word);
		int code;

		while (size > 1 && word[size - 1] == '/')
			word[--size] = '\0';
		if (!remote_path_good(word))
			return stage_fail("%s is no path in an area: in/PATH or out/PATH",
					  escape_string(shown, sizeof(shown), word));
		code = strchr(word, '/') ? get_file(remote, word, directory, paths_name(word), &err)
					 : -ENOENT;
		if (code == 0)
			say_got(remote, word);
		else if (code == -ENOENT)
			code = get_folder(remote, word, directory);
		else
			code = stage_fail(
				"%s%s", err.text,
				code == -EAGAIN ? "; the same command goes on where it ended" : "");
		if (code)
			return code;
	}
	return 0;
}
