#include "proxy/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/supervisor.h"

/* A copy above the numbers that the child's three get, so that none of them is taken before its
 * turn. */
static int above(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, SUPERVISOR_LIFELINE + 1);
}

/* What the child has: three descriptors, an empty environment, every signal as it is by default,
 * but for libc's own two, which the child sets (process_reset_signals()). */
static int prepare(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes,
		   const int given[3])
{
	sigset_t all, none;
	int r = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDWR, 0);

	(void)sigfillset(&all);
	(void)sigemptyset(&none);
	if (r == 0)
		r = posix_spawn_file_actions_adddup2(actions, STDERR_FILENO, STDOUT_FILENO);
	for (int i = 0; r == 0 && i < 3; i++)
		r = posix_spawn_file_actions_adddup2(actions, given[i], SUPERVISOR_STATUS + i);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(actions, SUPERVISOR_LIFELINE + 1);
	if (r == 0)
		r = posix_spawnattr_setsigdefault(attributes, &all);
	if (r == 0)
		r = posix_spawnattr_setsigmask(attributes, &none);
	if (r == 0)
		r = posix_spawnattr_setflags(attributes,
					     POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	return r;
}

/* posix_spawn(3) copies no memory of ours, which fork(2) does and execve(2) throws away. */
static int spawn(const char *program, const int given[3], pid_t *ret_pid)
{
	cleanup(close_fd) int status = above(given[0]), spec = above(given[1]),
			      lifeline = above(given[2]);
	char *argv[] = {(char[]){"cellwall-sandbox"}, NULL};
	char *envp[] = {NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int r;

	if (status < 0 || spec < 0 || lifeline < 0)
		return -errno;
	r = posix_spawn_file_actions_init(&actions);
	if (r != 0)
		return -r;
	r = posix_spawnattr_init(&attributes);
	if (r == 0) {
		r = prepare(&actions, &attributes, (const int[]){status, spec, lifeline});
		if (r == 0)
			r = posix_spawn(ret_pid, program, &actions, &attributes, argv, envp);
		(void)posix_spawnattr_destroy(&attributes);
	}
	(void)posix_spawn_file_actions_destroy(&actions);
	return -r;
}

int launch_start(const char *program, const struct spec *spec, struct launch *ret_launch,
		 struct err *err)
{
	cleanup(close_fd) int spec_fd = -1, ours = -1, theirs = -1, lifeline = -1, held = -1,
			      pidfd = -1;
	int pair[2], r;
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

	r = spawn(program, (const int[]){theirs, spec_fd, held}, &pid);
	if (r < 0)
		return err_set(err, r, "cannot start %s: %s", program, strerrordesc_np(-r));

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
