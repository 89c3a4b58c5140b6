#include "sandbox/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/fs.h>
#include <linux/nsfs.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <seccomp.h>

#include "sandbox/arguments.h"
#include "sandbox/build.h"

#define HIGH_BIT (1L << 32)

struct call {
	long number, arguments[5];
	int expected; /* errno, or 0 */
};

static int made(const struct call *call)
{
	const long *a = call->arguments;
	long r;

	errno = 0;
	r = syscall(call->number, a[0], a[1], a[2], a[3], a[4]);
	return r < 0 ? errno : 0;
}

/* In a child under the filter: 0 when all calls answered as expected, else the index of the first
 * that did not, plus 1. */
static int under_filter(bool plain, const struct call *calls, size_t count,
			int (*load)(struct build *, struct err *))
{
	const struct spec spec = {.landlock = plain};
	struct build build = {.spec = &spec, .sync = -1};
	struct err err = {0};
	int status;
	pid_t child;

	assert_int_equal(seccomp_compile(&build, &err), 0);
	child = fork();
	if (child == 0) {
		if (load(&build, &err) < 0)
			_exit(255);
		for (size_t i = 0; i < count; i++) {
			if (made(&calls[i]) != calls[i].expected)
				_exit((int)i + 1);
		}
		_exit(0);
	}
	seccomp_filter_done(&build.kernel_filter);
	seccomp_filter_done(&build.init_filter);
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

#define UNDER(calls)                                                                               \
	assert_int_equal(under_filter(false, calls, sizeof(calls) / sizeof((calls)[0]),            \
				      seccomp_load_kernel),                                        \
			 0)

static void test_sockets(void **state)
{
	static const struct call calls[] = {
		{SYS_socket, {AF_UNIX, SOCK_STREAM, 0}, 0},
		{SYS_socket, {AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0}, 0},
		{SYS_socket, {AF_INET, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP}, 0},
		{SYS_socket, {AF_INET, SOCK_DGRAM, IPPROTO_UDP}, 0},
		{SYS_socket, {AF_NETLINK, SOCK_RAW, 0}, EOPNOTSUPP},
		{SYS_socket, {AF_NETLINK | HIGH_BIT, SOCK_RAW, 0}, EOPNOTSUPP},
		{SYS_socket, {AF_VSOCK, SOCK_STREAM, 0}, EAFNOSUPPORT},
		{SYS_socket, {AF_VSOCK | HIGH_BIT, SOCK_STREAM, 0}, EAFNOSUPPORT},
		{SYS_socket, {AF_PACKET, SOCK_RAW, 0}, EAFNOSUPPORT},
		{SYS_socket, {AF_UNSPEC, SOCK_STREAM, 0}, EAFNOSUPPORT},
		{SYS_socket, {AF_INET, SOCK_RAW, IPPROTO_TCP}, ESOCKTNOSUPPORT},
		{SYS_socket, {AF_INET, SOCK_RAW | HIGH_BIT, IPPROTO_TCP}, ESOCKTNOSUPPORT},
		{SYS_socket, {AF_INET, SOCK_DCCP, 0}, ESOCKTNOSUPPORT},
		{SYS_socket, {AF_INET, SOCK_STREAM, IPPROTO_MPTCP}, EPROTONOSUPPORT},
		{SYS_socket, {AF_INET6, SOCK_STREAM, IPPROTO_MPTCP | HIGH_BIT}, EPROTONOSUPPORT},
		{SYS_socket, {AF_INET, SOCK_STREAM, IPPROTO_SCTP}, EPROTONOSUPPORT},
		{SYS_socket, {AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6}, EPROTONOSUPPORT},
		{SYS_socketpair, {AF_INET, SOCK_STREAM, 0, 0}, EAFNOSUPPORT},
		{SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, 0}, EFAULT},
	};

	(void)state;
	UNDER(calls);
}

/* What the wall without namespaces refuses besides, and what it pretends. */
static void test_plain(void **state)
{
	const long path = (long)(uintptr_t) "/nonexistent/x";
	const struct call calls[] = {
		{SYS_socket, {AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0}, 0},
		{SYS_socket, {AF_UNIX, SOCK_DGRAM, 0}, ESOCKTNOSUPPORT},
		{SYS_socket, {AF_UNIX, SOCK_DGRAM | HIGH_BIT, 0}, ESOCKTNOSUPPORT},
		{SYS_socket, {AF_INET, SOCK_STREAM, 0}, EAFNOSUPPORT},
		{SYS_socket, {AF_INET6, SOCK_DGRAM, 0}, EAFNOSUPPORT},
		{SYS_socket, {AF_NETLINK, SOCK_RAW, 0}, EOPNOTSUPP},
		{SYS_socketpair, {AF_UNIX, SOCK_DGRAM, 0, 0}, ESOCKTNOSUPPORT},
		{SYS_socketpair, {AF_UNIX, SOCK_STREAM, 0, 0}, EFAULT},
		{SYS_connect, {-1, 0, 0}, EACCES},
		{SYS_fchmodat, {AT_FDCWD, path, 0600}, 0},
		{SYS_fchownat, {AT_FDCWD, path, 0, 0, 0}, 0},
		{SYS_utimensat, {AT_FDCWD, path, 0, 0}, 0},
		{SYS_setxattr, {path, path, 0, 0, 0}, EOPNOTSUPP},
		{SYS_shmget, {0, 4096, 0600}, ENOSYS},
		{SYS_mq_open, {path, 0, 0, 0}, ENOSYS},
		{SYS_inotify_add_watch, {-1, path, 0}, EACCES},
		{SYS_prlimit64, {1, RLIMIT_CORE, 0, 0}, EPERM},
		{SYS_prlimit64, {0, RLIMIT_CORE, 0, 0}, 0},
		{SYS_setpriority, {PRIO_PROCESS, 1, 0}, EPERM},
		{SYS_sched_setaffinity, {1, 0, 0}, EPERM},
		{SYS_unshare, {CLONE_NEWUSER}, EPERM},
		{SYS_fcntl, {-1, F_SETLEASE, F_RDLCK}, EINVAL},
	};

	(void)state;
	assert_int_equal(
		under_filter(true, calls, sizeof(calls) / sizeof(calls[0]), seccomp_load_kernel),
		0);
}

static void test_namespaces(void **state)
{
	static const struct call calls[] = {
		{SYS_clone3, {0, 0}, ENOSYS},
		{SYS_setns, {-1, 0}, EPERM},
		{SYS_unshare, {0}, 0},
		{SYS_unshare, {CLONE_NEWUSER}, EPERM},
		{SYS_unshare, {CLONE_NEWUSER | HIGH_BIT}, EPERM},
		{SYS_unshare, {CLONE_NEWNS | CLONE_FS}, EPERM},
		{SYS_unshare, {0x80}, EPERM}, /* CLONE_NEWTIME */
		{SYS_clone, {CLONE_NEWUSER | SIGCHLD}, EPERM},
		{SYS_clone, {CLONE_NEWPID | HIGH_BIT}, EPERM},
		{SYS_clone, {CLONE_NEWNET}, EPERM},
		/* descriptors that no other thread of the process has */
		{SYS_unshare, {CLONE_FILES}, EPERM},
		{SYS_clone, {CLONE_VM | CLONE_SIGHAND | CLONE_THREAD}, EPERM},
		{SYS_close_range, {900, 901, CLOSE_RANGE_UNSHARE}, EINVAL},
		{SYS_close_range, {900, 901, CLOSE_RANGE_CLOEXEC}, 0},
		{SYS_mount, {0, 0, 0, 0, 0}, EPERM},
		{428 /* open_tree */, {-1, 0, 0}, ENOSYS},
		{442 /* mount_setattr */, {-1, 0, 0, 0, 0}, ENOSYS},
		{437 /* openat2 */, {AT_FDCWD, 0, 0, 0}, ENOSYS},
		{SYS_chroot, {0}, EPERM},
	};

	(void)state;
	UNDER(calls);
}

static void test_modes(void **state)
{
	const long path = (long)(uintptr_t) "/nonexistent/x", empty = (long)(uintptr_t) "";
	const struct call calls[] = {
		{SYS_fchmod, {-1, 04755}, EPERM},
		{SYS_fchmod, {-1, 02755}, EPERM},
		{SYS_fchmod, {-1, 06000 | HIGH_BIT}, EPERM},
		{SYS_fchmod, {-1, 01777}, EBADF},
		{SYS_fchmodat, {-1, empty, 04000}, EPERM},
		{452 /* fchmodat2 */, {-1, empty, 04000, 0}, EPERM},
		{SYS_openat, {AT_FDCWD, path, O_CREAT | O_WRONLY, 04755}, EPERM},
		{SYS_openat, {AT_FDCWD, path, O_TMPFILE | O_WRONLY, 02755}, EPERM},
		/* Without O_CREAT the mode is whatever the register held. */
		{SYS_openat, {AT_FDCWD, path, O_DIRECTORY, 04755}, ENOENT},
		{SYS_openat, {AT_FDCWD, path, O_CREAT | O_WRONLY, 0755}, ENOENT},
		{SYS_mknodat, {AT_FDCWD, path, S_IFREG | 04755, 0}, EPERM},
		{SYS_mkdirat, {AT_FDCWD, path, 02755}, EPERM},
	};

	(void)state;
	UNDER(calls);
}

static void test_others(void **state)
{
	const struct call calls[] = {
		{SYS_ioctl, {-1, TIOCSTI, 0}, ENOTTY},
		{SYS_ioctl, {-1, TIOCSTI | HIGH_BIT, 0}, ENOTTY},
		{SYS_ioctl, {-1, TIOCLINUX, 0}, ENOTTY},
		{SYS_ioctl, {-1, NS_GET_USERNS, 0}, ENOTTY},
		{SYS_ioctl, {-1, FS_IOC_SETFLAGS, 0}, ENOTTY},
		{SYS_ioctl, {-1, TCGETS, 0}, EBADF},
		{SYS_ioctl, {-1, FIONREAD, 0}, EBADF},
		{SYS_prctl, {PR_SET_MM, 0, 0, 0, 0}, EINVAL},
		{SYS_prctl, {PR_SET_SECCOMP, 1, 0, 0, 0}, EINVAL},
		{SYS_prctl, {67 /* PR_SET_MEMORY_MERGE */, 1, 0, 0, 0}, EINVAL},
		{SYS_prctl, {PR_GET_DUMPABLE, 0, 0, 0, 0}, 0},
		{SYS_seccomp, {0, 0, 0}, EINVAL},
		{SYS_mknodat, {AT_FDCWD, (long)(uintptr_t) "x", S_IFCHR, 0}, EPERM},
		{SYS_personality, {PER_LINUX}, 0},
		{SYS_personality, {0xffffffff}, 0},
		{SYS_personality, {ADDR_NO_RANDOMIZE}, EPERM},
		{SYS_personality, {0x80000000 | ADDR_NO_RANDOMIZE}, EPERM},
		{SYS_ptrace, {99, 0, 0, 0}, EPERM},
		{SYS_bpf, {0, 0, 0}, EPERM},
		{425 /* io_uring_setup */, {0, 0}, ENOSYS},
		{SYS_userfaultfd, {0}, ENOSYS},
		{SYS_vmsplice, {-1, 0, 0, 0}, ENOSYS},
		{SYS_io_setup, {0, 0}, ENOSYS},
		{999 /* one to come */, {0}, ENOSYS},
		{SYS_keyctl, {0, -3, 0}, EPERM},
		{SYS_getpid, {0}, 0},
	};

	(void)state;
	UNDER(calls);
}

/* Leases and notifications on the host's files, larger sockets; what else they do stays. */
static void test_options(void **state)
{
	static const struct call calls[] = {
		{SYS_fcntl, {0, F_SETLEASE, F_RDLCK}, EINVAL},
		{SYS_fcntl, {-1, F_SETLEASE | HIGH_BIT, F_UNLCK}, EINVAL},
		{SYS_setsockopt, {-1, SOL_SOCKET, SO_SNDBUF, 0, 0}, 0},
		{SYS_setsockopt, {-1, SOL_SOCKET | HIGH_BIT, SO_SNDBUF | HIGH_BIT, 0, 0}, 0},
		{SYS_setsockopt, {-1, SOL_SOCKET, SO_RCVBUF, 0, 0}, EBADF},
		{SYS_setsockopt, {-1, IPPROTO_TCP, SO_SNDBUF, 0, 0}, EBADF},
		{SYS_fcntl, {-1, F_NOTIFY, 1}, EINVAL},
		{SYS_fcntl, {-1, F_NOTIFY | HIGH_BIT, 1}, EINVAL},
		{SYS_fcntl, {-1, F_GETLEASE}, EBADF},
		{SYS_fcntl, {-1, F_GETFL}, EBADF},
		{SYS_fcntl, {0, F_GETFD}, 0},
	};

	(void)state;
	UNDER(calls);
}

/* pid 1 of this machine stands for the sandbox': the filter knows the number alone. */
static void test_tuning(void **state)
{
	static const struct rlimit64 limit = {64, 64};
	static const unsigned long cpus[16] = {~0ul};
	static const int idle = 0;
	const long new_limit = (long)&limit, mask = (long)cpus, parameter = (long)&idle;
	const struct call calls[] = {
		{SYS_prlimit64, {1, RLIMIT_MEMLOCK, new_limit, 0}, EPERM},
		{SYS_prlimit64, {1 | HIGH_BIT, RLIMIT_MEMLOCK, new_limit, 0}, EPERM},
		{SYS_prlimit64, {0, RLIMIT_CORE, new_limit, 0}, 0},
		{SYS_prlimit64, {0, RLIMIT_CORE, 0, 0}, 0},
		{SYS_setpriority, {PRIO_PROCESS, 1, 0}, EPERM},
		{SYS_setpriority, {PRIO_PROCESS | HIGH_BIT, 1 | HIGH_BIT, 0}, EPERM},
		{SYS_setpriority, {PRIO_USER, 0, 0}, EPERM},
		{SYS_setpriority, {PRIO_PROCESS, 0, 19}, 0},
		{SYS_sched_setaffinity, {1, sizeof(cpus), mask}, EPERM},
		{SYS_sched_setaffinity, {0, sizeof(cpus), mask}, 0},
		{SYS_sched_setscheduler, {1, SCHED_OTHER, parameter}, EPERM},
		{SYS_sched_setscheduler, {0, SCHED_OTHER, parameter}, 0},
		{SYS_sched_setparam, {1, parameter}, EPERM},
		{SYS_sched_setattr, {1, 0, 0}, EPERM},
	};

	(void)state;
	UNDER(calls);
}

#if defined(__x86_64__)
static void test_x32(void **state)
{
	static const struct call call = {0x40000000L | SYS_getpid, {0}, 0};

	(void)state;
	assert_int_equal(under_filter(false, &call, 1, seccomp_load_kernel), 1000 + SIGSYS);
}
#endif

#ifndef CELLWALL_SANITIZE
/* pid 1 dies of anything it was not made for. */
static void test_init(void **state)
{
	static const struct call fine = {SYS_kill, {0, 0}, 0},
				 socket = {SYS_socket, {AF_UNIX, SOCK_STREAM, 0}, 0},
				 execve = {SYS_execve, {0, 0, 0}, EFAULT};

	(void)state;
	assert_int_equal(under_filter(false, &fine, 1, seccomp_load_init), 0);
	assert_int_equal(under_filter(false, &socket, 1, seccomp_load_init), 1000 + SIGSYS);
	assert_int_equal(under_filter(false, &execve, 1, seccomp_load_init), 1000 + SIGSYS);
}
#endif

/* The list says CHECK where there is a check, and nowhere else. */
static void test_list_and_checks_agree(void **state)
{
	(void)state;
#define GROUP(why)
#define AGREE(name, number, checked)                                                               \
	do {                                                                                       \
		int known_ = seccomp_syscall_resolve_name(#name);                                  \
		if (known_ < 0)                                                                    \
			known_ = number;                                                           \
		if (known_ >= 0 && arguments_checks(known_) != checked)                            \
			fail_msg("%s", #name);                                                     \
	} while (0);
#define ALLOW(name)		       AGREE(name, -1, false)
#define ALLOW_NEW(name, number)	       AGREE(name, number, false)
#define ANSWER(name, code)	       AGREE(name, -1, false)
#define ANSWER_NEW(name, number, code) AGREE(name, number, false)
#define REFUSE(name, code)	       AGREE(name, -1, false)
#define REFUSE_NEW(name, number, code) AGREE(name, number, false)
#define CHECK(name)		       AGREE(name, -1, true)
#define CHECK_NEW(name, number)	       AGREE(name, number, true)
#include "sandbox/syscalls.def"
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sockets),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_namespaces),
		cmocka_unit_test(test_modes),
		cmocka_unit_test(test_others),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_tuning),
		cmocka_unit_test(test_list_and_checks_agree),
#if defined(__x86_64__)
		cmocka_unit_test(test_x32),
#endif
#ifndef CELLWALL_SANITIZE
		cmocka_unit_test(test_init),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
