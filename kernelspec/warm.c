#include "kernelspec/warm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h> /* pidfd_open has no wrapper */
#include <sys/wait.h>
#include <unistd.h>

#include "kernelspec/files.h"
#include "kernelspec/paths.h"
#include "sandbox/staging.h"
#include "sandbox/tree.h"

#define FONTS_MAX (8u * 1024 * 1024)

/* It leaves the list where results are collected. */
static char script[] = "import matplotlib.font_manager";
static char setting[] = "MPLCONFIGDIR=" INSIDE_WORK "/warm";
static const char connection[] =
	"{\"transport\":\"ipc\",\"ip\":\"k\",\"shell_port\":1,\"iopub_port\":2,\"stdin_port\":3,"
	"\"control_port\":4,\"hb_port\":5,\"key\":\"\",\"signature_scheme\":\"hmac-sha256\"}\n";

/* STATE/warm/<id>, beside the private directories. Caller frees; NULL: there can be none. */
static char *place_of(const char *interpreter)
{
	cleanup(free_ptr) char *kernels = NULL, *state = NULL;
	char id[PATHS_ID + 1];

	if (staging_state_directory(&kernels, NULL) < 0 || paths_id(interpreter, id) < 0)
		return NULL;
	state = paths_parent(kernels);
	return state ? format_string("%s/warm/%s", state, id) : NULL;
}

int warm_use(struct spec *spec, const char *interpreter)
{
	cleanup(free_ptr) char *place = place_of(interpreter);
	struct stat status;

	/* Ours alone: it is read by every kernel of this interpreter. */
	if (!place || lstat(place, &status) < 0 || !S_ISDIR(status.st_mode) ||
	    status.st_uid != geteuid() || (status.st_mode & (S_IWGRP | S_IWOTH)))
		return 0;
	return spec_add_overlay(spec, place, INSIDE_FONTS, false);
}

/* The child's side: the kernel that is no kernel, in its own folder, silent. */
static _Noreturn void run_it(const char *cellwall, const char *interpreter, const char *folder)
{
	char *argv[] = {(char *)(uintptr_t)cellwall,
			(char[]){"kernel"},
			(char[]){"-f"},
			(char[]){"connection.json"},
			(char[]){"--setenv"},
			setting,
			(char[]){"--shared-environment"},
			(char[]){"--"},
			(char *)(uintptr_t)interpreter,
			(char[]){"-c"},
			script,
			(char[]){"{inner_connection_file}"},
			NULL};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (chdir(folder) == 0 && null >= 0 && dup2(null, 0) == 0 && dup2(null, 1) == 1 &&
	    dup2(null, 2) == 2)
		(void)execv(cellwall, argv);
	_exit(127);
}

int warm_wait(pid_t pid, int limit_ms, struct err *err)
{
	struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
	int r = end.fd < 0 ? 0 : poll(&end, 1, limit_ms);

	if (r <= 0)
		(void)kill(pid, SIGKILL); /* a sandbox goes with it */
	(void)waitpid(pid, NULL, 0);
	close_fd(&end.fd);
	return r > 0 ? 0 : err_set(err, -ETIMEDOUT, "it took more than %d s", limit_ms / 1000);
}

static int run(const char *cellwall, const char *interpreter, const char *folder, struct err *err)
{
	pid_t pid = fork();

	if (pid < 0)
		return err_errno(err, "cannot fork");
	if (pid == 0)
		run_it(cellwall, interpreter, folder);
	return warm_wait(pid, WARM_MAKE_MS, err);
}

/* One file of matplotlib's, as a whole. Returns 1, or a negative errno. */
static int keep(int from, const char *name, const char *place, struct err *err)
{
	cleanup(free_ptr) char *data = NULL;
	cleanup(close_fd) int to = -1;
	size_t size = 0;
	int r = make_directories(place, 0700, err);

	if (r < 0)
		return r;
	to = open(place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (to < 0)
		return err_errno(err, "%s", place);
	r = read_file(from, name, FONTS_MAX, &data, &size, err);
	if (r == 0)
		r = tree_empty(to);
	if (r == 0)
		r = write_new_file(to, name, 0644, data, size, err);
	return r < 0 ? r : 1;
}

static int take(const char *folder, const char *place, struct err *err)
{
	cleanup(free_ptr) char *path = path_join(folder, "staging/out/warm");
	DIR *directory = path ? opendir(path) : NULL;
	const struct dirent *entry;
	int r = 0;

	if (!directory)
		return 0; /* no matplotlib */
	while (r == 0 && (entry = readdir(directory))) {
		size_t length = strlen(entry->d_name);

		if (strncmp(entry->d_name, "fontlist-v", 10) == 0 && length > 15 &&
		    strcmp(entry->d_name + length - 5, ".json") == 0)
			r = keep(dirfd(directory), entry->d_name, place, err);
	}
	closedir(directory);
	return r;
}

int warm_make(const char *interpreter, struct err *err)
{
	char folder[] = "/tmp/cellwall-warm-XXXXXX";
	cleanup(free_ptr) char *place = place_of(interpreter), *cellwall = NULL;
	cleanup(close_fd) int fd = -1;
	int r;

	if (!place)
		return err_set(err, -ENOENT, "no state directory");
	if (files_part("cellwall", &cellwall, NULL) < 0)
		return 0;
	if (!mkdtemp(folder))
		return err_errno(err, "%s", folder);
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = fd < 0 ? err_errno(err, "%s", folder)
		   : write_new_file(fd, "connection.json", 0600, connection, sizeof(connection) - 1,
				    err);
	if (r == 0)
		r = run(cellwall, interpreter, folder, err);
	if (r == 0)
		r = take(folder, place, err);
	if (fd >= 0)
		(void)tree_empty(fd);
	(void)rmdir(folder);
	return r;
}
