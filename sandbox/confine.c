#include "sandbox/confine.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/dispatch.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* Linux 6.6 */
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

#define P   CONFINE_PROXY
#define S   CONFINE_SUPERVISOR
#define C   CONFINE_COLLECTOR
#define E   CONFINE_EXAMINER
#define T   CONFINE_TEMPLATE
#define G   CONFINE_EGRESS
#define N   CONFINE_NEAR
#define ALL (P | S | C)

/* Who may call what. All three can bring results in, should one of the others be killed. */
static const struct {
	int number;
	unsigned who;
} allowed[] = {
	/* memory and threads */
	{SYS_brk, ALL | N | E | T | G},
	{SYS_munmap, ALL | N | E | T | G},
	{SYS_mremap, ALL | N | E | T | G},
	{SYS_madvise, ALL | N | E | T | G},
	{SYS_futex, ALL | N | E | T | G},
	{SYS_membarrier, ALL | N},
	{SYS_sched_yield, ALL | N},
	{SYS_sched_getaffinity, ALL | N},
	{SYS_sched_getparam, P | N},
	{SYS_sched_getscheduler, P | N},
	{SYS_sched_setscheduler, P | N},
	{SYS_set_robust_list, ALL | N | T},
	{SYS_rseq, ALL | N | T},
	{SYS_gettid, ALL | N | T},
	{SYS_getpid, ALL | N | T},
	{SYS_getppid, ALL | N | T},
	{SYS_exit, ALL | N | E | T | G},
	{SYS_exit_group, ALL | N | E | T | G},
	/* signals and time */
	{SYS_rt_sigaction, ALL | N | T},
	{SYS_rt_sigprocmask, ALL | N | T},
	{SYS_rt_sigreturn, ALL | N | E | T | G},
	{SYS_sigaltstack, ALL | N},
	{SYS_restart_syscall, ALL | N | E | T | G},
	{SYS_tgkill, ALL | N},
	{SYS_clock_gettime, ALL | N | E | G},
	{SYS_clock_getres, ALL | N},
	{SYS_clock_nanosleep, ALL | N},
	{SYS_nanosleep, ALL | N},
	{SYS_gettimeofday, ALL | N | E},
	{SYS_getrandom, ALL | N | E},
	/* descriptors */
	{SYS_read, ALL | N | E | T | G},
	{SYS_readv, ALL | N},
	{SYS_write, ALL | N | E | T | G},
	{SYS_writev, ALL | N},
	{SYS_close, ALL | N | T | G},
	{SYS_fcntl, ALL | N},
	{SYS_ppoll, ALL | N | G},
	{SYS_recvfrom, ALL | N | G},
	{SYS_recvmsg, ALL | N},
	{SYS_sendto, G},
	{SYS_sendmsg, T},
	{SYS_connect, S | N},
	{SYS_socketpair, T},
	{SYS_epoll_create1, N},
	{SYS_epoll_ctl, P | N},
	{SYS_epoll_pwait, P | N},
	{SYS_eventfd2, P | N},
	{SYS_accept, P | N},
	{SYS_accept4, P | N},
	{SYS_getsockopt, P | N},
	{SYS_setsockopt, P | N},
	{SYS_getsockname, P | N},
	{SYS_getpeername, P | N},
	{SYS_shutdown, P | N | G},
	/* children */
	{SYS_clone, T},
	{SYS_prctl, T}, /* what the examiner does before its own filter */
	{SYS_seccomp, T},
	{SYS_prlimit64, T},
	{SYS_wait4, P | S | T},
	{SYS_waitid, P | S},
	{SYS_kill, P | S | T},
	{SYS_pidfd_send_signal, P | S},
	{SYS_process_vm_readv, S}, /* addresses in calls that are told, refusals.h */
	/* files: looking */
	{SYS_openat, ALL | N},
	{437 /* openat2 */, ALL},
	{SYS_fstat, ALL | N},
	{SYS_newfstatat, ALL | N},
	{SYS_statx, ALL},
	{SYS_statfs, ALL},
	{SYS_fstatfs, ALL},
	{SYS_lseek, ALL},
	{SYS_pread64, ALL},
	{SYS_getdents64, ALL},
	{SYS_readlinkat, ALL},
	{SYS_faccessat, ALL},
	{439 /* faccessat2 */, ALL},
	{SYS_getcwd, ALL},
	{SYS_geteuid, ALL},
	{SYS_getuid, ALL},
	{SYS_getegid, ALL},
	{SYS_getgid, ALL},
	{SYS_inotify_add_watch, C},
	{SYS_inotify_rm_watch, C},
	/* files: bringing results out, removing private directories and sockets */
	{SYS_pwrite64, ALL},
	{SYS_ftruncate, ALL},
	{SYS_fallocate, ALL},
	{SYS_fsync, ALL},
	{SYS_fdatasync, ALL},
	{SYS_fadvise64, ALL},
	{SYS_copy_file_range, ALL},
	{SYS_sendfile, ALL},
	{SYS_flock, ALL},
	{SYS_umask, ALL},
	{SYS_mkdirat, ALL},
	{SYS_linkat, ALL},
	{SYS_renameat, ALL},
	{SYS_renameat2, ALL},
	{SYS_unlinkat, ALL | N},
	{SYS_fchmod, ALL},
	{SYS_fchmodat, ALL},
	{SYS_fchown, ALL},
	{SYS_fchownat, ALL},
	{SYS_utimensat, ALL},
/* The older names of some of these, which not every architecture has. */
#ifdef SYS_open
	{SYS_open, ALL | N},
	{SYS_stat, ALL | N},
	{SYS_lstat, ALL},
	{SYS_access, ALL},
	{SYS_readlink, ALL},
	{SYS_mkdir, ALL},
	{SYS_rename, ALL},
	{SYS_link, ALL},
	{SYS_unlink, ALL | N},
	{SYS_rmdir, ALL | N},
	{SYS_chmod, ALL},
	{SYS_poll, ALL | N | G},
	{SYS_epoll_wait, P | N},
#endif
};

#define ALLOWED (sizeof(allowed) / sizeof(allowed[0]))

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "seccomp: this architecture has no number here yet"
#endif

#define LOW(n)	       (uint32_t)(offsetof(struct seccomp_data, args) + (n) * sizeof(uint64_t))
#define LOAD(offset)   BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offset))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, (action))
#define REFUSE	       RETURN(SECCOMP_RET_ERRNO | EPERM)
#define PASS	       RETURN(SECCOMP_RET_ALLOW)
/* Skip as many instructions as said. */
#define UNLESS_EQUAL(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, (skip))
#define UNLESS_ANY(bits, skip)	  BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (uint32_t)(bits), 0, (skip))
#define PASS_IF(value)		  UNLESS_EQUAL(value, 1), PASS

static const struct sock_filter architecture[] = {
	LOAD(offsetof(struct seccomp_data, arch)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
	RETURN(SECCOMP_RET_KILL_PROCESS),
};

static const struct sock_filter pass[] = {PASS};
/* No code that was written after the start. */
static const struct sock_filter no_code[] = {
	LOAD(LOW(2)),
	UNLESS_ANY(PROT_EXEC, 1),
	REFUSE,
	PASS,
};
/* glibc falls back to clone, whose flags can be seen. */
static const struct sock_filter missing[] = {RETURN(SECCOMP_RET_ERRNO | ENOSYS)};
static const struct sock_filter threads[] = {
	LOAD(LOW(0)),
	UNLESS_ANY(CLONE_THREAD, 1),
	PASS,
	REFUSE,
};
static const struct sock_filter controls[] = {
	LOAD(LOW(1)),
	PASS_IF(SECCOMP_IOCTL_NOTIF_RECV), /* of the supervisor's listener; nobody else has one */
	PASS_IF(SECCOMP_IOCTL_NOTIF_SEND),
	PASS_IF(SECCOMP_IOCTL_NOTIF_ID_VALID),
	PASS_IF(SECCOMP_IOCTL_NOTIF_SET_FLAGS),
	PASS_IF(FIONREAD),
	PASS_IF(FIONBIO),
	PASS_IF(SIOCOUTQ),
	PASS_IF(FICLONE),
	PASS_IF(TCGETS), /* isatty(3) */
	REFUSE,
};
/* To see whether anybody listens on a client's socket. */
static const struct sock_filter local[] = {LOAD(LOW(0)), PASS_IF(AF_UNIX), REFUSE};
/* To the host of a link, whose port is Landlock's to say; no service of the user's. */
static const struct sock_filter streams[] = {
	LOAD(LOW(1)),
	BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (uint32_t) ~(SOCK_CLOEXEC | SOCK_NONBLOCK)),
	UNLESS_EQUAL(SOCK_STREAM, 8),
	LOAD(LOW(2)),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
	UNLESS_EQUAL(IPPROTO_TCP, 5), /* Landlock's ports do not hold MPTCP */
	LOAD(LOW(0)),
	PASS_IF(AF_INET),
	PASS_IF(AF_INET6),
	REFUSE,
};
/* A first send that connects (TCP Fast Open) goes past Landlock's ports, from a listener of ours
 * that was shut down too. */
#define NO_FAST_OPEN(n) LOAD(LOW(n)), UNLESS_ANY(MSG_FASTOPEN, 1), REFUSE, PASS
static const struct sock_filter sends[] = {NO_FAST_OPEN(3)};
static const struct sock_filter messages[] = {NO_FAST_OPEN(2)};
static const struct sock_filter names[] = {
	LOAD(LOW(0)),
	PASS_IF(PR_SET_NAME),
	PASS_IF(PR_SET_DUMPABLE),
	REFUSE,
};

/* What is asked when there is a listener. */
static const struct sock_filter sizes[] = {
	LOAD(LOW(0)),
	PASS_IF(SECCOMP_GET_NOTIF_SIZES),
	REFUSE,
};

#define BODY(body) (body), sizeof(body) / sizeof((body)[0])

/* The calls whose arguments matter. */
static const struct {
	unsigned who;
	struct dispatch_call call;
} checked[] = {
	{ALL | N | E | T, {SYS_mmap, BODY(no_code)}},
	{ALL | N | E | T, {SYS_mprotect, BODY(no_code)}},
	{ALL | N | E | T, {435 /* clone3 */, BODY(missing)}},
	{ALL | N, {SYS_clone, BODY(threads)}},
	{ALL | N, {SYS_ioctl, BODY(controls)}},
	{ALL, {SYS_socket, BODY(local)}},
	{N, {SYS_socket, BODY(streams)}},
	{ALL | N, {SYS_sendto, BODY(sends)}},
	{ALL | N, {SYS_sendmsg, BODY(messages)}},
	{ALL | N, {SYS_prctl, BODY(names)}},
	{S, {SYS_seccomp, BODY(sizes)}},
};

#define CHECKED (sizeof(checked) / sizeof(checked[0]))

static int load(const struct sock_fprog *program, struct err *err)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(err, "cannot set no_new_privs");
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, program) != 0)
		return err_errno(err, "cannot load the system call filter");
	return 0;
}

int confine_enter(enum confine_as as, struct err *err)
{
	struct dispatch_call calls[CHECKED + ALLOWED];
	struct dispatch dispatch = {.prefix = architecture,
				    .prefix_size = sizeof(architecture) / sizeof(architecture[0]),
				    .calls = calls,
				    .otherwise = SECCOMP_RET_ERRNO | EPERM};
	struct sock_fprog program = {0};
	int r;

#ifdef CELLWALL_SANITIZE
	return 0;
#endif
	for (size_t i = 0; i < CHECKED; i++) {
		if (checked[i].who & as)
			calls[dispatch.count++] = checked[i].call;
	}
	for (size_t i = 0; i < ALLOWED; i++) {
		if (allowed[i].who & as)
			calls[dispatch.count++] =
				(struct dispatch_call){(uint32_t)allowed[i].number, BODY(pass)};
	}
	if (dispatch_compile(&dispatch, &program) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	r = load(&program, err);
	free(program.filter);
	return r;
}
