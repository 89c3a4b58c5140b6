#include "sandbox/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/build.h"
#include "sandbox/plain.h"
#include "sandbox/process.h"
#include "sandbox/status.h"

/* What new files of the kernel get; the builder's mask is 0. */
#define KERNEL_UMASK 022

int kernel_start(struct build *build, struct err *err)
{
	cleanup(close_fd) int ours = -1, theirs = -1;
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(err, "cannot make a pipe");
	theirs = ends[0];
	ours = ends[1];
	pid = fork();
	if (pid < 0)
		return err_errno(err, "cannot fork");
	build->gate = steal_fd(pid == 0 ? &theirs : &ours);
	if (pid == 0) {
		close_fd(&ours); /* or pid 1's end would not be seen */
		_exit(build_run(build, BUILD_KERNEL) < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
	}
	build->kernel = pid;
	return 0;
}

/* Own session: no terminal to type into (CVE-2017-5226), and a process group that an interrupt
 * reaches as one. */
int kernel_detach(struct build *build, struct err *err)
{
	cleanup(close_fd) int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	const int kept[] = {build->sync, build->lifeline, build->gate, build->maps};
	const size_t count = build->maps < 0 ? 3 : 4;

	if (null < 0)
		return err_errno(err, "cannot open /dev/null inside");
	if (setsid() < 0)
		return err_errno(err, "cannot make a session");
	if (dup2(null, STDIN_FILENO) < 0 || dup2(build->output, STDOUT_FILENO) < 0 ||
	    dup2(build->output, STDERR_FILENO) < 0)
		return err_errno(err, "cannot set up the standard descriptors");
	if (process_keep_fds(kept, count) < 0)
		return err_set(err, -EIO, "cannot close descriptors");
	null = -1;
	build->sync = 3;
	build->lifeline = 4;
	build->gate = 5;
	build->maps = build->maps < 0 ? -1 : 6;
	for (int fd = 3; fd < 3 + (int)count; fd++) {
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
			return err_errno(err, "cannot set up descriptors");
	}
	return process_protect(build->lifeline, SIGKILL, err);
}

int kernel_prepare(struct build *build, struct err *err)
{
	process_unblock_signals();
	(void)umask(KERNEL_UMASK);
	if (chdir(build->spec->landlock ? build->work : INSIDE_WORK) < 0)
		return err_errno(err, "cannot change to " INSIDE_WORK);
	return 0;
}

int kernel_wait(struct build *build, struct err *err)
{
	char byte;
	int r = build->gate < 0 ? 0 : read_full(build->gate, &byte, 1);

	(void)err;
	close_fd(&build->gate);
	/* End of file: pid 1 has said why, or its parent sees that it was killed. */
	if (r < 0)
		_exit(EXIT_ORPHAN);
	return 0;
}

int kernel_execute(struct build *build, struct err *err)
{
	const struct spec *spec = build->spec;
	char **argv = spec->landlock ? plain_argv(build) : spec->argv;
	char **env = spec->landlock ? plain_env(build) : spec->env;
	int r = argv && env ? status_send(build->sync, err, "exec", NULL)
			    : err_set(err, -ENOMEM, "out of memory");

	if (r < 0)
		return r;
	(void)execve(argv[0], argv, env);
	return err_errno(err, "cannot execute %s", spec->argv[0]);
}
