#include "sandbox/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KEEP_MAX 16

void process_reset_signals(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL};
	static const uint64_t none[4]; /* the system's own structure of it: SIG_DFL is 0 */

	/* Dispositions first: a handler of the parent must not run here when the mask opens. */
	for (int number = 1; number < NSIG; number++)
		(void)sigaction(number, &action, NULL); /* SIGKILL and SIGSTOP refuse */
	/* Two are libc's own: sigaction(3) refuses them, and posix_spawn(3) leaves them ignored. */
	for (int number = 32; number < SIGRTMIN; number++)
		(void)syscall(SYS_rt_sigaction, number, none, NULL, sizeof(uint64_t));
	process_unblock_signals();
}

void process_unblock_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

int process_protect(int lifeline, int signal, struct err *err)
{
	if (prctl(PR_SET_PDEATHSIG, (unsigned long)signal, 0, 0, 0) < 0)
		return err_errno(err, "cannot set the parent death signal");
	if (process_orphaned(lifeline))
		_exit(EXIT_ORPHAN);
	return 0;
}

static const int watched[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

int process_signals(struct err *err)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(watched) / sizeof(watched[0]); i++)
		sigaddset(&set, watched[i]);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return err_errno(err, "cannot block signals");
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN); /* a file past its limit is an error like any other */
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? err_errno(err, "cannot watch signals") : fd;
}

bool process_interrupted(void)
{
	sigset_t set;
	bool found = false;

	if (sigpending(&set) < 0)
		return false;
	for (size_t i = 0; i < sizeof(watched) / sizeof(watched[0]); i++)
		found = found || sigismember(&set, watched[i]) > 0;
	return found;
}

bool process_orphaned(int lifeline)
{
	struct pollfd watch = {.fd = lifeline,
			       .events = 0}; /* a hang-up is reported without asking */
	int r;

	do
		r = poll(&watch, 1, 0);
	while (r < 0 && errno == EINTR);
	return r > 0; /* POLLHUP; POLLNVAL and POLLERR also mean that nobody can be waited for */
}

int process_keep_fds(const int *fds, size_t count)
{
	int aside[KEEP_MAX];

	if (count > KEEP_MAX)
		return -EINVAL;
	/* First out of the way: descriptor 4 may have to become 3 while 3 becomes 4. */
	for (size_t i = 0; i < count; i++) {
		aside[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3 + (int)count);
		if (aside[i] < 0)
			return -errno;
	}
	for (size_t i = 0; i < count; i++) {
		int r;

		do
			r = dup2(aside[i], 3 + (int)i);
		while (r < 0 && (errno == EINTR || errno == EBUSY));
		if (r < 0)
			return -errno;
	}
	if (close_range(3 + (unsigned)count, ~0u, 0) < 0)
		return -errno;
	return 0;
}
