#include "proxy/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/process.h"

/* The child's side: only async-signal-safe calls between fork and exec (signal-safety(7)). */
static void run_sandbox(const char *program, int status, int spec, int lifeline)
{
	char *argv[] = {(char[]){"cellwall-sandbox"}, NULL};
	char *envp[] = {NULL};
	const int keep[] = {status, spec, lifeline};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		_exit(127);
	process_reset_signals();
	if (process_keep_fds(keep, sizeof(keep) / sizeof(keep[0])) < 0)
		_exit(127);
	execve(program, argv, envp);
	_exit(127);
}

int launch_start(const char *program, const struct spec *spec, struct launch *ret_launch,
		 struct err *err)
{
	cleanup(close_fd) int spec_fd = -1, ours = -1, theirs = -1, lifeline = -1, held = -1,
			      pidfd = -1;
	int pair[2];
	pid_t pid;

	if (access(program, X_OK) < 0)
		return err_errno(err, "cannot run %s (is cellwall installed completely?)", program);
	spec_fd = spec_write(spec, err);
	if (spec_fd < 0)
		return spec_fd;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(err, "cannot make the status socket");
	ours = pair[0];
	theirs = pair[1];
	if (pipe2(pair, O_CLOEXEC) < 0)
		return err_errno(err, "cannot make the lifeline pipe");
	held = pair[0];
	lifeline = pair[1];

	pid = fork();
	if (pid < 0)
		return err_errno(err, "cannot start %s", program);
	if (pid == 0)
		run_sandbox(program, theirs, spec_fd, held);

	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0 || fcntl(ours, F_SETFL, O_NONBLOCK) < 0) {
		int code = err_errno(err, "cannot watch %s", program);

		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return code;
	}
	(void)fcntl(pidfd, F_SETFD, FD_CLOEXEC);
	*ret_launch = (struct launch){.pid = pid,
				      .pidfd = steal_fd(&pidfd),
				      .status = steal_fd(&ours),
				      .lifeline = steal_fd(&lifeline)};
	return 0;
}

void launch_done(struct launch *launch, int wait_ms)
{
	struct pollfd ended = {.fd = launch->pidfd, .events = POLLIN};

	close_fd(&launch->status);
	close_fd(&launch->lifeline);
	if (launch->pid > 0 && launch->pidfd >= 0 && poll(&ended, 1, wait_ms) == 1)
		waitpid(launch->pid, NULL, 0);
	close_fd(&launch->pidfd);
	launch->pid = -1;
}
