#include "sandbox/airlock.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SIGNALLED 1000

/* Runs `attempt` in a child behind the filter; returns its exit status, or SIGNALLED + the signal
 * that ended it. */
static int behind_filter(int (*attempt)(void))
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		struct err err = {0};

		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || airlock_filter(&err) < 0)
			_exit(99);
		_exit(attempt());
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : SIGNALLED + WTERMSIG(status);
}

static int try_execve(void)
{
	char name[] = "true";
	char *const argv[] = {name, NULL};

	return execve("/bin/true", argv, argv + 1);
}

static int try_execveat(void)
{
	char name[] = "true";
	char *const argv[] = {name, NULL};

	return execveat(AT_FDCWD, "/bin/true", argv, argv + 1, 0);
}

static int try_inet(void)
{
	return socket(AF_INET, SOCK_STREAM, 0) < 0;
}

static int try_inet6(void)
{
	return socket(AF_INET6, SOCK_DGRAM, 0) < 0;
}

static int try_netlink(void)
{
	return socket(AF_NETLINK, SOCK_RAW, 0) < 0;
}

static int try_vsock(void)
{
	return socket(AF_VSOCK, SOCK_STREAM, 0) < 0;
}

/* The argument of socket(2) is an int: what is above must not make it another number. */
static int try_disguised_inet(void)
{
	return syscall(SYS_socket, 0x100000000UL | AF_INET, SOCK_STREAM, 0) < 0;
}

static int try_kill(void)
{
	return kill(getppid(), 0);
}

static int try_tgkill(void)
{
	return (int)syscall(SYS_tgkill, getpid(), getpid(), SIGTERM);
}

static int try_abort(void)
{
	abort();
}

static int try_pidfd(void)
{
	return (int)syscall(SYS_pidfd_open, getpid(), 0) < 0;
}

static int try_ptrace(void)
{
	return (int)syscall(SYS_ptrace, 16, getpid(), 0, 0) < 0;
}

static int try_io_uring(void)
{
	return (int)syscall(SYS_io_uring_setup, 1, NULL) < 0;
}

static int try_exec_map(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	       MAP_FAILED;
}

static int try_exec_protect(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return mprotect(page, 4096, PROT_READ | PROT_EXEC);
}

static void test_ends_the_process(void **state)
{
	static int (*const attempts[])(void) = {
		try_execve, try_execveat, try_inet,	try_inet6,	  try_netlink,
		try_vsock,  try_kill,	  try_tgkill,	try_abort,	  try_pidfd,
		try_ptrace, try_io_uring, try_exec_map, try_exec_protect, try_disguised_inet};

	(void)state;
	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		int status = behind_filter(attempts[i]);

		if (status != SIGNALLED + SIGSYS)
			fail_msg("attempt %zu ended with %d", i, status);
	}
}

#ifndef CELLWALL_SANITIZE /* these the filter of such a build lets pass, see airlock.c */
static int try_unshare(void)
{
	return unshare(CLONE_NEWUSER);
}

static int try_fork(void)
{
	return (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) < 0;
}

static int try_mount(void)
{
	return (int)syscall(SYS_mount, "none", "/", "tmpfs", 0, NULL) < 0;
}

static int try_chroot(void)
{
	return chroot("/");
}

static int try_recvmsg(void)
{
	struct msghdr message = {0};

	return (int)recvmsg(0, &message, 0) < 0;
}

static int try_socketpair(void)
{
	int fds[2];

	return socketpair(AF_UNIX, SOCK_STREAM, 0, fds);
}

static int try_bind(void)
{
	return (int)syscall(SYS_bind, 0, NULL, 0) < 0;
}

static int try_dumpable(void)
{
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static int try_attach_filter(void)
{
	/* A packet filter on a socket is a program for the kernel's interpreter. */
	return setsockopt(0, SOL_SOCKET, SO_ATTACH_FILTER, NULL, 0) < 0;
}

static int try_open(void)
{
	return open("/etc/passwd", O_RDONLY) < 0;
}

static int try_thread(void)
{
	return (int)syscall(SYS_clone, CLONE_VM | CLONE_SIGHAND | CLONE_THREAD, 0, 0, 0, 0) < 0;
}

static int try_clone3(void)
{
	return (int)syscall(SYS_clone3, NULL, 0) < 0;
}

static int try_memfd(void)
{
	return memfd_create("x", 0) < 0;
}

#ifdef __x86_64__
/* socket(2) of i386 by its gate: another architecture, other numbers. */
static int try_int80(void)
{
	long result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(359L), "b"(2L), "c"(1L), "d"(0L));
	return result < 0;
}

static int try_x32(void)
{
	return syscall(0x40000000L | SYS_socket, AF_INET, SOCK_STREAM, 0) < 0;
}
#else
#define try_int80 try_fork
#define try_x32	  try_fork
#endif

static void test_ends_the_process_too(void **state)
{
	static int (*const attempts[])(void) = {
		try_unshare,	try_fork, try_mount,	try_chroot,	   try_recvmsg,
		try_socketpair, try_bind, try_dumpable, try_attach_filter, try_memfd,
		try_int80,	try_x32,  try_open,	try_thread,	   try_clone3};

	(void)state;
	for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
		int status = behind_filter(attempts[i]);

		if (status != SIGNALLED + SIGSYS)
			fail_msg("attempt %zu ended with %d", i, status);
	}
}

#endif

/* Memory, and a socket of the one family it may have. */
static int do_work(void)
{
	int fd;
	char *memory = malloc(64 * 1024 * 1024);

	if (!memory)
		return 1;
	memory[0] = 1;
	free(memory);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return fd < 0 || close(fd) < 0 ? 2 : 0;
}

static void test_lets_work_through(void **state)
{
	(void)state;
	assert_int_equal(behind_filter(do_work), 0);
}

/* An error names its step. */
static void test_names_the_step(void **state)
{
	int status;
	pid_t child = fork();

	(void)state;
	if (child == 0) {
		int pipe_fds[2];
		struct err err = {0};
		struct airlock airlock = {.sockets = -1, .plain = true};

		if (pipe(pipe_fds) < 0)
			_exit(1);
		airlock.lifeline = pipe_fds[0];
		if (airlock_enter(&airlock, &err) != -EBADF)
			_exit(2);
		_exit(strncmp(err.text, "files: cannot change to", 23) == 0 ? 0 : 3);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends_the_process),
#ifndef CELLWALL_SANITIZE
		cmocka_unit_test(test_ends_the_process_too),
#endif
		cmocka_unit_test(test_lets_work_through),
		cmocka_unit_test(test_names_the_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
