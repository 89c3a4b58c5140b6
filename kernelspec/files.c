#include "kernelspec/files.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/paths.h"

int files_self(char **ret_path, struct err *err)
{
	char path[PATH_MAX];
	ssize_t size = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (size < 0)
		return err_errno(err, "cannot find the running cellwall (is /proc mounted?)");
	path[size] = '\0';
	/* proc(5): the kernel appends " (deleted)" once the file is gone, as after an update. */
	if (access(path, X_OK) < 0)
		return err_errno(err, "%s was moved or replaced while it ran: start again", path);
	*ret_path = strdup(path);
	return *ret_path ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* A part that a stranger can write would run with our rights. */
static int check_part(const char *self, const char *path, struct err *err)
{
	struct stat ours, part;

	if (stat(self, &ours) < 0)
		return err_errno(err, "cannot look at %s", self);
	if (stat(path, &part) < 0)
		return err_errno(err, "cannot look at %s", path);
	if (!S_ISREG(part.st_mode))
		return err_set(err, -EACCES, "%s is not a regular file", path);
	if (part.st_uid != 0 && part.st_uid != ours.st_uid)
		return err_set(err, -EACCES,
			       "%s belongs to uid %u, cellwall to %u: install both as one user",
			       path, part.st_uid, ours.st_uid);
	if (part.st_mode & S_IWOTH)
		return err_set(err, -EACCES, "%s can be written by everybody: chmod o-w it", path);
	return 0;
}

/*
 * BIN/NAME (a build tree), else BIN/../INSTALLED/NAME. Beside the executable comes first: a build
 * in /tmp/build must not find what a stranger put into /tmp/libexec.
 */
static int find_beside(const char *beside, const char *installed, const char *name, char **ret_path,
		       struct err *err)
{
	cleanup(free_ptr) char *self = NULL, *bin = NULL, *top = NULL, *near = NULL, *far = NULL;
	int code = files_self(&self, err);
	bool in_prefix;

	if (code < 0)
		return code;
	bin = paths_parent(self);
	top = bin ? paths_parent(bin) : NULL;
	in_prefix = bin && strcmp(paths_name(bin), "bin") == 0;
	if (top && strcmp(paths_name(bin), "cellwall") == 0 &&
	    strcmp(paths_name(top), "libexec") == 0) { /* a part of ours looks for another */
		char *prefix = paths_parent(top);

		free(top);
		top = prefix;
		in_prefix = true;
	}
	near = bin ? format_string("%s%s/%s", bin, beside, name) : NULL;
	far = top ? format_string("%s/%s/%s", strcmp(top, "/") == 0 ? "" : top, installed, name)
		  : NULL;
	if (!bin || !near || !far)
		return err_set(err, -ENOMEM, "out of memory");
	if (access(near, F_OK) == 0) {
		*ret_path = steal_ptr(&near);
		return 0;
	}
	if (in_prefix && access(far, F_OK) == 0) {
		*ret_path = steal_ptr(&far);
		return 0;
	}
	return err_set(err, -ENOENT,
		       "%s is missing, neither %s nor %s is there: install cellwall again", name,
		       near, far);
}

int files_part(const char *name, char **ret_path, struct err *err)
{
	cleanup(free_ptr) char *self = NULL, *path = NULL;
	int code = files_self(&self, err);

	if (code == 0)
		code = find_beside("", "libexec/cellwall", name, &path, err);
	if (code == 0)
		code = check_part(self, path, err);
	if (code == 0)
		*ret_path = steal_ptr(&path);
	return code;
}

int files_share(const char *name, char **ret_path, struct err *err)
{
	return find_beside("/share", "share/cellwall", name, ret_path, err);
}
