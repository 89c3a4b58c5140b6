#include "sandbox/process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/securebits.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sandbox/caps.h"

/* Runs `function` in a child; returns its exit status, or 1000 + the signal that ended it. */
static int in_child(int (*function)(void))
{
	int status;
	pid_t child = fork();

	if (child == 0)
		_exit(function());
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void ignore(int number)
{
	(void)number;
}

static int reset_child(void)
{
	struct sigaction action;
	sigset_t mask;

	sigfillset(&mask);
	(void)sigprocmask(SIG_SETMASK, &mask, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGINT, ignore);
	(void)signal(SIGRTMAX, SIG_IGN);
	process_reset_signals();
	(void)sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int number = 1; number <= SIGRTMAX; number++) {
		if (sigismember(&mask, number) == 1)
			return 1;
		if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
			return 2;
	}
	return 0;
}

/* A handler of the parent must not swallow what was pending. */
static int pending_child(void)
{
	sigset_t mask;

	(void)signal(SIGTERM, ignore);
	sigfillset(&mask);
	(void)sigprocmask(SIG_SETMASK, &mask, NULL);
	(void)raise(SIGTERM);
	process_reset_signals();
	return 0;
}

static void test_reset_signals(void **state)
{
	(void)state;
	assert_int_equal(in_child(reset_child), 0);
	assert_int_equal(in_child(pending_child), 1000 + SIGTERM);
}

static int lifeline[2];

static int protect_child(void)
{
	int signal_set = 0;

	close_fd(&lifeline[1]);
	if (process_protect(lifeline[0], SIGKILL, NULL) < 0)
		return 1;
	(void)prctl(PR_GET_PDEATHSIG, &signal_set);
	return signal_set == SIGKILL ? 0 : 2;
}

static void test_protect(void **state)
{
	(void)state;
	assert_int_equal(pipe2(lifeline, O_CLOEXEC), 0);
	assert_false(process_orphaned(lifeline[0]));
	assert_int_equal(in_child(protect_child), 0);
	assert_false(process_orphaned(-1));
	close_fd(&lifeline[1]);
	assert_true(process_orphaned(lifeline[0]));
	assert_int_equal(in_child(protect_child), EXIT_ORPHAN);
	close_fd(&lifeline[0]);
	assert_true(process_orphaned(200)); /* a lifeline that is not open proves nothing good */
	assert_int_equal(process_protect(-1, 1000, NULL), -EINVAL);
}

static ino_t inode(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

/* 3, 4 and 5 to 5, 3, 4 with others around, the worst that can overlap. */
static int keep_child(void)
{
	int pipes[8], fds[5];
	ino_t expected[5];

	(void)close_range(3, ~0u, 0);
	for (size_t i = 0; i < 8; i += 2) {
		if (pipe2(pipes + i, O_CLOEXEC) < 0)
			return 1;
	}
	if (pipes[0] != 3 || pipes[7] != 10)
		return 2;
	fds[0] = 5;
	fds[1] = 3;
	fds[2] = 4;
	fds[3] = 9;
	fds[4] = 3; /* twice */
	for (size_t i = 0; i < 5; i++)
		expected[i] = inode(fds[i]);
	if (process_keep_fds(fds, 5) != 0)
		return 3;
	for (size_t i = 0; i < 5; i++) {
		if (inode(3 + (int)i) != expected[i] || fcntl(3 + (int)i, F_GETFD) != 0)
			return 4;
	}
	for (int fd = 8; fd < 300; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			return 5;
	}
	return fcntl(0, F_GETFD) < 0 || fcntl(2, F_GETFD) < 0 ? 6 : 0;
}

static int keep_limits_child(void)
{
	int fds[17], bad[] = {2, 250};

	for (size_t i = 0; i < 17; i++)
		fds[i] = 2;
	if (process_keep_fds(bad, 2) != -EBADF)
		return 1;
	if (process_keep_fds(fds, 17) != -EINVAL)
		return 2;
	if (process_keep_fds(fds, 16) != 0 || fcntl(18, F_GETFD) != 0 || fcntl(19, F_GETFD) >= 0)
		return 3;
	if (process_keep_fds(fds, 0) != 0 || fcntl(3, F_GETFD) >= 0 || fcntl(2, F_GETFD) < 0)
		return 4;
	return 0;
}

static void test_keep_fds(void **state)
{
	(void)state;
	assert_int_equal(in_child(keep_child), 0);
	assert_int_equal(in_child(keep_limits_child), 0);
}

/* The sets as the kernel shows them, proc_pid_status(5). */
static unsigned long long shown(const char *status, const char *name)
{
	const char *line = strstr(status, name);

	return line ? strtoull(line + strlen(name), NULL, 16) : ~0ull;
}

static int caps_child(void)
{
	int able = prctl(PR_CAPBSET_DROP, 0, 0, 0, 0) == 0; /* root, or whoever has CAP_SETPCAP */
	cleanup(free_ptr) char *status = NULL;
	struct err err;
	int bits;

	if (caps_drop_all(&err) != 0)
		return 1;
	if (read_file(AT_FDCWD, "/proc/self/status", 65536, &status, NULL, &err) < 0)
		return 2;
	if (shown(status, "CapInh:\t") || shown(status, "CapPrm:\t") ||
	    shown(status, "CapEff:\t") || shown(status, "CapAmb:\t"))
		return 3;
	if (able && shown(status, "CapBnd:\t"))
		return 4;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return 5;
	bits = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
	if (able && bits != (SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
			     SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
			     SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED))
		return 6;
	return caps_drop_all(&err) == 0 ? 0 : 7; /* again, with nothing left: fine */
}

/* As an ordinary user, who has no CAP_SETPCAP. */
static int caps_user_child(void)
{
	if (getuid() == 0 && setresuid(65534, 65534, 65534) < 0)
		return 100;
	return caps_child();
}

static void test_caps(void **state)
{
	(void)state;
	assert_int_equal(in_child(caps_child), 0);
	assert_int_equal(in_child(caps_user_child), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reset_signals),
		cmocka_unit_test(test_protect),
		cmocka_unit_test(test_keep_fds),
		cmocka_unit_test(test_caps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
