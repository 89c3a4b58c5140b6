#include "kernelspec/script.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernelspec/files.h"

#define OUTPUT_MAX ((size_t)64 << 20)
#define PYTHON	   "/usr/bin/python3"
#define WORDS_MAX  8

/* A file with that text, read from its beginning. */
static int open_input(const char *input, struct err *err)
{
	cleanup(close_fd) int fd = memfd_create("input", MFD_CLOEXEC);

	if (fd < 0)
		return err_errno(err, "cannot make a file in memory");
	if (input && (write_full(fd, input, strlen(input)) < 0 || lseek(fd, 0, SEEK_SET) < 0))
		return err_errno(err, "cannot write a file in memory");
	return steal_fd(&fd);
}

static int spawn(char *const argv[], int in, int out, pid_t *ret_pid, struct err *err)
{
	posix_spawn_file_actions_t actions;
	int r = posix_spawn_file_actions_init(&actions);

	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	if (r == 0)
		r = posix_spawn(ret_pid, PYTHON, &actions, NULL, argv, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	return r == 0 ? 0
		      : err_set(err, -r, "cannot run " PYTHON ", which cellwall env needs: %s",
				strerrordesc_np(r));
}

static int read_output(int fd, pid_t pid, json_t **ret_out, struct err *err)
{
	cleanup(free_ptr) char *text = NULL;
	const char *wrong;
	char path[32], shown[200];
	json_t *out;
	int status = 0;
	int r;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = read_file(AT_FDCWD, path, OUTPUT_MAX, &text, NULL, err);
	if (r < 0)
		(void)kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r < 0)
		return r;
	out = json_loads(text, 0, NULL);
	wrong = json_string_value(json_object_get(out, "error"));
	if (wrong)
		r = err_set(err, -EINVAL, "%s", escape_string(shown, sizeof(shown), wrong));
	else if (!json_is_object(out) || status != 0)
		r = err_set(err, -EINVAL, "cellwall's own Python program ended with status %d",
			    status);
	if (r < 0)
		json_decref(out);
	else
		*ret_out = out;
	return r;
}

int script_run(const char *script, const char *const words[], const char *input, json_t **ret_out,
	       struct err *err)
{
	cleanup(free_ptr) char *path = NULL;
	char name[] = PYTHON, isolated[] = "-I", bare[] = "-S";
	char *argv[4 + WORDS_MAX + 1] = {name, isolated, bare};
	cleanup(close_fd) int in = -1, from = -1, to = -1;
	size_t count = 0;
	int fds[2], r = files_share(script, &path, err);
	pid_t pid = -1;

	if (r < 0)
		return r;
	argv[3] = path;
	for (; words && words[count] && count < WORDS_MAX && r == 0; count++) {
		argv[4 + count] = strdup(words[count]);
		r = argv[4 + count] ? 0 : err_set(err, -ENOMEM, "out of memory");
	}
	in = r < 0 ? r : open_input(input, err);
	r = in < 0 ? in : pipe2(fds, O_CLOEXEC) < 0 ? err_errno(err, "cannot make a pipe") : 0;
	if (r == 0) {
		from = fds[0];
		to = fds[1];
		r = spawn(argv, in, to, &pid, err);
		close_fd(&to);
	}
	if (r == 0)
		r = read_output(from, pid, ret_out, err);
	for (size_t i = 0; i < count; i++)
		free(argv[4 + i]);
	return r;
}
