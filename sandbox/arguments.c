#include "sandbox/arguments.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/netlink.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "sandbox/dispatch.h"

/* Offsets of the halves: the structure is in the machine's byte order. */
#define BIG (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)
#define HALF(n, offset)                                                                            \
	(uint32_t)(offsetof(struct seccomp_data, args) + (n) * sizeof(uint64_t) + (offset))
#define LOW(n)	       HALF(n, BIG ? 4 : 0)
#define HIGH(n)	       HALF(n, BIG ? 0 : 4)
#define LOAD(offset)   BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offset))
#define MASK(bits)     BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (uint32_t)(bits))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, (action))
#define FAIL(code)     RETURN(SECCOMP_RET_ERRNO | (code))
#define PASS	       RETURN(SECCOMP_RET_ALLOW)
/* The supervisor is told; the answer is this errno, or 0: go on. See arguments_quiet(). */
#define TELL(code) RETURN(SECCOMP_RET_USER_NOTIF | (code))
/* Skip as many instructions as said. */
#define IF_EQUAL(value, skip)	  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), (skip), 0)
#define UNLESS_EQUAL(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, (skip))
#define UNLESS_ANY(bits, skip)	  BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (uint32_t)(bits), 0, (skip))
/* One of a list: passes. */
#define PASS_IF(value) UNLESS_EQUAL(value, 1), PASS

/*
 * Types and protocols of internet sockets: the others load modules (DCCP, SCTP), go past the rules
 * for TCP (MPTCP) or build packets by hand. libzmq aborts on any other answer for AF_NETLINK.
 */
static const struct sock_filter socket_check[] = {
	LOAD(LOW(0)),
	PASS_IF(AF_UNIX),
	UNLESS_EQUAL(AF_NETLINK, 4),
	LOAD(LOW(2)),
	UNLESS_EQUAL(NETLINK_ROUTE, 1), /* the C library asks for addresses there all the time */
	FAIL(EOPNOTSUPP),
	TELL(EOPNOTSUPP),
	IF_EQUAL(AF_INET, 2),
	IF_EQUAL(AF_INET6, 1),
	TELL(EAFNOSUPPORT),
	LOAD(LOW(1)),
	MASK(0xf), /* SOCK_TYPE_MASK of the kernel; the rest is SOCK_CLOEXEC and SOCK_NONBLOCK */
	IF_EQUAL(SOCK_STREAM, 2),
	IF_EQUAL(SOCK_DGRAM, 1),
	TELL(ESOCKTNOSUPPORT),
	LOAD(LOW(2)),
	PASS_IF(0),
	PASS_IF(IPPROTO_TCP),
	PASS_IF(IPPROTO_UDP),
	TELL(EPROTONOSUPPORT),
};

static const struct sock_filter socketpair_check[] = {
	LOAD(LOW(0)),
	PASS_IF(AF_UNIX),
	FAIL(EAFNOSUPPORT),
};

/* The ordinary one, and the question which it is: others switch off address randomisation or run
 * old binaries. */
static const struct sock_filter personality_check[] = {
	LOAD(LOW(0)),
	PASS_IF(PER_LINUX),
	PASS_IF(0xffffffffu),
	FAIL(EPERM),
};

/* Each namespace gives capabilities over parts of the system that root alone used to reach. 0x80 is
 * CLONE_NEWTIME; for clone(2) it belongs to the exit signal, where it is no valid one. */
#define NEW_NAMESPACES                                                                             \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |             \
	 CLONE_NEWPID | CLONE_NEWNET | 0x80)

/* A thread with descriptors of its own: whoever adds up what a process holds (usage.h) looks at
 * those of one thread. */
static const struct sock_filter clone_check[] = {
	LOAD(LOW(0)),
	UNLESS_ANY(NEW_NAMESPACES, 1),
	TELL(EPERM),
	MASK(CLONE_THREAD | CLONE_FILES),
	UNLESS_EQUAL(CLONE_THREAD, 1),
	FAIL(EPERM),
	PASS,
};

static const struct sock_filter unshare_check[] = {
	LOAD(LOW(0)), UNLESS_ANY(NEW_NAMESPACES, 1),
	TELL(EPERM),  UNLESS_ANY(CLONE_FILES, 1),
	FAIL(EPERM),  PASS,
};

static const struct sock_filter close_range_check[] = {
	LOAD(LOW(2)),
	UNLESS_ANY(CLOSE_RANGE_UNSHARE, 1),
	FAIL(EINVAL),
	PASS,
};

/* A file that would run as another user. */
#define NO_SETUID(n) LOAD(LOW(n)), UNLESS_ANY(S_ISUID | S_ISGID, 1), FAIL(EPERM), PASS

static const struct sock_filter mode_second[] = {NO_SETUID(1)};
static const struct sock_filter mode_third[] = {NO_SETUID(2)};

/* The mode counts only when a file may be made; O_TMPFILE is two bits, one of them O_DIRECTORY. */
#define NO_SETUID_IF_MADE(flags, mode)                                                             \
	LOAD(LOW(flags)), MASK(O_CREAT | (O_TMPFILE & ~O_DIRECTORY)), PASS_IF(0), NO_SETUID(mode)

static const struct sock_filter open_check[] = {NO_SETUID_IF_MADE(1, 2)};
static const struct sock_filter openat_check[] = {NO_SETUID_IF_MADE(2, 3)};

/* No devices, nor the one that everybody may make: overlayfs takes it for a deletion. */
#define NO_DEVICE(n)                                                                               \
	LOAD(LOW(n)), UNLESS_ANY(S_ISUID | S_ISGID, 1), FAIL(EPERM), MASK(S_IFMT), PASS_IF(0),     \
		PASS_IF(S_IFREG), PASS_IF(S_IFIFO), PASS_IF(S_IFSOCK), FAIL(EPERM)

static const struct sock_filter mknod_check[] = {NO_DEVICE(1)};
static const struct sock_filter mknodat_check[] = {NO_DEVICE(2)};

/*
 * Terminals, the number of waiting bytes, lo's addresses, clones and flags of files. Not among
 * them: TIOCSTI types into the terminal it is asked on (CVE-2017-5226), TIOCLINUX pastes into it
 * (CVE-2023-28100), TIOCSETD loads modules, NS_GET_* opens namespaces, FS_IOC_SETFLAGS makes files
 * that nobody can remove.
 */
static const struct sock_filter ioctl_check[] = {
	LOAD(LOW(1)),
	PASS_IF(TCGETS),
	PASS_IF(TCSETS),
	PASS_IF(TCSETSW),
	PASS_IF(TCSETSF),
	PASS_IF(TCGETS2),
	PASS_IF(TCSETS2),
	PASS_IF(TCSETSW2),
	PASS_IF(TCSETSF2),
	PASS_IF(TCGETA),
	PASS_IF(TCSETA),
	PASS_IF(TCSETAW),
	PASS_IF(TCSETAF),
	PASS_IF(TCSBRK),
	PASS_IF(TCSBRKP),
	PASS_IF(TCXONC),
	PASS_IF(TCFLSH),
	PASS_IF(TIOCGWINSZ),
	PASS_IF(TIOCSWINSZ),
	PASS_IF(TIOCGPGRP),
	PASS_IF(TIOCSPGRP),
	PASS_IF(TIOCGSID),
	PASS_IF(TIOCSCTTY),
	PASS_IF(TIOCNOTTY),
	PASS_IF(TIOCEXCL),
	PASS_IF(TIOCNXCL),
	PASS_IF(TIOCOUTQ),
	PASS_IF(TIOCPKT),
	PASS_IF(TIOCGPTN),
	PASS_IF(TIOCSPTLCK),
	PASS_IF(TIOCGPTPEER),
	PASS_IF(FIONREAD),
	PASS_IF(FIONBIO),
	PASS_IF(FIOASYNC),
	PASS_IF(FIOCLEX),
	PASS_IF(FIONCLEX),
	PASS_IF(FIOQSIZE),
	PASS_IF(SIOCGIFCONF),
	PASS_IF(SIOCGIFNAME),
	PASS_IF(SIOCGIFINDEX),
	PASS_IF(SIOCGIFFLAGS),
	PASS_IF(SIOCGIFADDR),
	PASS_IF(SIOCGIFNETMASK),
	PASS_IF(SIOCGIFBRDADDR),
	PASS_IF(SIOCGIFDSTADDR),
	PASS_IF(SIOCGIFHWADDR),
	PASS_IF(SIOCGIFMTU),
	PASS_IF(SIOCATMARK),
	PASS_IF(FIGETBSZ),
	PASS_IF(FICLONE),
	PASS_IF(FICLONERANGE),
	PASS_IF(FS_IOC_GETFLAGS),
	PASS_IF(FS_IOC_FIEMAP),
	UNLESS_EQUAL(SIOCETHTOOL, 1),
	FAIL(EOPNOTSUPP), /* what lo answers; psutil takes no other */
	IF_EQUAL(TIOCSTI, 2),
	IF_EQUAL(TIOCLINUX, 1),
	FAIL(ENOTTY),
	TELL(ENOTTY),
};

/* A lease holds the host's writers up for a minute, a notification is a signal about what they do;
 * neither asks for more than a descriptor that reads. The command is an unsigned int. */
static const struct sock_filter fcntl_check[] = {
	LOAD(LOW(1)), IF_EQUAL(F_SETLEASE, 2), IF_EQUAL(F_NOTIFY, 1), PASS, FAIL(EINVAL),
};

/* Memory in sockets is counted by what one can be sent as it is made (usage.h): more is not given,
 * and nobody who asks needs it. */
static const struct sock_filter setsockopt_check[] = {
	LOAD(LOW(1)), UNLESS_EQUAL(SOL_SOCKET, 3),
	LOAD(LOW(2)), UNLESS_EQUAL(SO_SNDBUF, 1),
	FAIL(0),      PASS,
};

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif
#ifndef PR_GET_AUXV
#define PR_GET_AUXV 0x41555856
#endif

/* Names of threads, what a process asks about itself, and giving things up. */
static const struct sock_filter prctl_check[] = {
	LOAD(LOW(0)),
	PASS_IF(PR_SET_NAME),
	PASS_IF(PR_GET_NAME),
	PASS_IF(PR_SET_PDEATHSIG),
	PASS_IF(PR_GET_PDEATHSIG),
	PASS_IF(PR_SET_DUMPABLE),
	PASS_IF(PR_GET_DUMPABLE),
	PASS_IF(PR_SET_CHILD_SUBREAPER),
	PASS_IF(PR_GET_CHILD_SUBREAPER),
	PASS_IF(PR_SET_NO_NEW_PRIVS),
	PASS_IF(PR_GET_NO_NEW_PRIVS),
	PASS_IF(PR_GET_SECCOMP),
	PASS_IF(PR_CAPBSET_READ),
	PASS_IF(PR_CAPBSET_DROP),
	PASS_IF(PR_CAP_AMBIENT),
	PASS_IF(PR_GET_KEEPCAPS),
	PASS_IF(PR_SET_KEEPCAPS),
	PASS_IF(PR_GET_SECUREBITS),
	PASS_IF(PR_SET_TIMERSLACK),
	PASS_IF(PR_GET_TIMERSLACK),
	PASS_IF(PR_SET_THP_DISABLE),
	PASS_IF(PR_GET_THP_DISABLE),
	PASS_IF(PR_GET_TIMING),
	PASS_IF(PR_GET_SPECULATION_CTRL),
	PASS_IF(PR_SET_VMA),
	PASS_IF(PR_GET_AUXV),
	FAIL(EINVAL),
};

/*
 * pid 1 has the kernel's uid, which is all that these ask for. What only asks passes: Python reads
 * limits by prlimit64 too. PRIO_USER would reach pid 1 along with all others.
 */
static const struct sock_filter not_init_check[] = {
	LOAD(LOW(0)),
	UNLESS_EQUAL(1, 1),
	FAIL(EPERM),
	PASS,
};

static const struct sock_filter setpriority_check[] = {
	LOAD(LOW(0)),
	UNLESS_EQUAL(PRIO_USER, 1),
	FAIL(EPERM),
	IF_EQUAL(PRIO_PROCESS, 1),
	PASS,
	LOAD(LOW(1)),
	UNLESS_EQUAL(1, 1),
	FAIL(EPERM),
	PASS,
};

static const struct sock_filter prlimit_check[] = {
	LOAD(LOW(0)),	    IF_EQUAL(1, 1), PASS,	LOAD(LOW(2)), /* the new limit, or NULL */
	UNLESS_EQUAL(0, 3), LOAD(HIGH(2)),  PASS_IF(0), FAIL(EPERM),
};

/* Allowed, whatever memory says: files have no setuid bit here. Told, for what was attempted. */
static const struct sock_filter told_check[] = {
	TELL(0),
};

/*
 * Allowed too: the network namespace has nothing but lo. A call that waits for the listener can be
 * interrupted by a signal, which connect(2) on a local socket never is, and costs more: what has
 * the size of no internet address goes on untold.
 */
#define IF_ABOVE(value, skip) BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (uint32_t)(value), (skip), 0)
#define TELL_ADDRESS(size)                                                                         \
	LOAD(LOW(size)), IF_EQUAL(sizeof(struct sockaddr_in), 3),                                  \
		IF_EQUAL(sizeof(struct sockaddr_in6), 2), IF_ABOVE(sizeof(struct sockaddr_un), 1), \
		PASS, TELL(0)

static const struct sock_filter address_check[] = {TELL_ADDRESS(2)};

/* send(2) is the same call without an address. */
static const struct sock_filter sendto_check[] = {
	LOAD(LOW(4)), UNLESS_EQUAL(0, 3), LOAD(HIGH(4)), PASS_IF(0), TELL_ADDRESS(5),
};

#define BODY(body) (body), sizeof(body) / sizeof((body)[0])

/* Some architectures have the newer ones alone. */
static const struct dispatch_call checks[] = {
	{SYS_sendto, BODY(sendto_check)},
#ifdef SYS_open
	{SYS_open, BODY(open_check)},
	{SYS_creat, BODY(mode_second)},
	{SYS_mkdir, BODY(mode_second)},
	{SYS_mknod, BODY(mknod_check)},
	{SYS_chmod, BODY(mode_second)},
#endif
	{SYS_openat, BODY(openat_check)},
	{SYS_mkdirat, BODY(mode_third)},
	{SYS_mknodat, BODY(mknodat_check)},
	{SYS_fchmod, BODY(mode_second)},
	{SYS_fchmodat, BODY(mode_third)},
	{452 /* fchmodat2 */, BODY(mode_third)},
	{SYS_ioctl, BODY(ioctl_check)},
	{SYS_fcntl, BODY(fcntl_check)},
	{SYS_clone, BODY(clone_check)},
	{SYS_unshare, BODY(unshare_check)},
	{SYS_close_range, BODY(close_range_check)},
	{SYS_socket, BODY(socket_check)},
	{SYS_socketpair, BODY(socketpair_check)},
	{SYS_setsockopt, BODY(setsockopt_check)},
	{SYS_prctl, BODY(prctl_check)},
	{SYS_personality, BODY(personality_check)},
	{SYS_prlimit64, BODY(prlimit_check)},
	{SYS_setpriority, BODY(setpriority_check)},
	{SYS_sched_setaffinity, BODY(not_init_check)},
	{SYS_sched_setscheduler, BODY(not_init_check)},
	{SYS_sched_setparam, BODY(not_init_check)},
	{SYS_sched_setattr, BODY(not_init_check)},
	{SYS_connect, BODY(address_check)},
	{SYS_bind, BODY(address_check)},
	{SYS_execve, BODY(told_check)},
	{SYS_execveat, BODY(told_check)},
};

#define CHECKS (sizeof(checks) / sizeof(checks[0]))

/*
 * For the wall without namespaces, before the others: what Landlock knows nothing of, where the
 * uid is the host's. Modes, owners and times stay as they are and the calls say that they did it:
 * too many programs end otherwise, the first of them IPython.
 */
static const struct sock_filter pretend[] = {FAIL(0)};
static const struct sock_filter refuse[] = {FAIL(EPERM)};
static const struct sock_filter unsupported[] = {FAIL(EOPNOTSUPP)};
static const struct sock_filter missing[] = {FAIL(ENOSYS)};
/* A socket with a path belongs to a service of the user's: its bus, its agents, its containers. */
static const struct sock_filter unreachable[] = {FAIL(EACCES)}, told[] = {TELL(EACCES)};

/* A datagram can be sent to any path, also on one of a pair. */
#define STREAMS_ONLY                                                                               \
	LOAD(LOW(1)), MASK(0xf), PASS_IF(SOCK_STREAM), PASS_IF(SOCK_SEQPACKET),                    \
		FAIL(ESOCKTNOSUPPORT)

static const struct sock_filter plain_socket[] = {
	LOAD(LOW(0)),	      UNLESS_EQUAL(AF_NETLINK, 1), FAIL(EOPNOTSUPP),
	IF_EQUAL(AF_UNIX, 1), FAIL(EAFNOSUPPORT),	   STREAMS_ONLY,
};
static const struct sock_filter plain_socketpair[] = {
	LOAD(LOW(0)),
	IF_EQUAL(AF_UNIX, 1),
	FAIL(EAFNOSUPPORT),
	STREAMS_ONLY,
};

/* Of itself alone: others of this uid are the user's. */
#define ITSELF_ONLY(n) LOAD(LOW(n)), PASS_IF(0), FAIL(EPERM)
static const struct sock_filter itself_first[] = {ITSELF_ONLY(0)};
static const struct sock_filter itself_process[] = {
	LOAD(LOW(0)),
	IF_EQUAL(PRIO_PROCESS, 1),
	FAIL(EPERM),
	ITSELF_ONLY(1),
};
/* libzmq names its own thread; the ordinary policy is no harm to others. */
static const struct sock_filter plain_scheduler[] = {LOAD(LOW(1)), PASS_IF(0), FAIL(EPERM)};

static const struct dispatch_call plain_checks[] = {
#ifdef SYS_open
	{SYS_chmod, BODY(pretend)},
	{SYS_chown, BODY(pretend)},
	{SYS_lchown, BODY(pretend)},
	{SYS_utime, BODY(pretend)},
	{SYS_utimes, BODY(pretend)},
	{SYS_futimesat, BODY(pretend)},
#endif
	{SYS_fchmod, BODY(pretend)},
	{SYS_fchmodat, BODY(pretend)},
	{452 /* fchmodat2 */, BODY(pretend)},
	{SYS_fchown, BODY(pretend)},
	{SYS_fchownat, BODY(pretend)},
	{SYS_utimensat, BODY(pretend)},
	{SYS_setxattr, BODY(unsupported)},
	{SYS_lsetxattr, BODY(unsupported)},
	{SYS_fsetxattr, BODY(unsupported)},
	{SYS_removexattr, BODY(unsupported)},
	{SYS_lremovexattr, BODY(unsupported)},
	{SYS_fremovexattr, BODY(unsupported)},
	{463 /* setxattrat */, BODY(missing)},
	{466 /* removexattrat */, BODY(missing)},
	{469 /* file_setattr */, BODY(missing)},
	{SYS_connect, BODY(told)},
	{SYS_socket, BODY(plain_socket)},
	{SYS_socketpair, BODY(plain_socketpair)},
	{SYS_shmget, BODY(missing)},
	{SYS_shmat, BODY(missing)},
	{SYS_shmctl, BODY(missing)},
	{SYS_semget, BODY(missing)},
	{SYS_semop, BODY(missing)},
	{SYS_semtimedop, BODY(missing)},
	{SYS_semctl, BODY(missing)},
	{SYS_msgget, BODY(missing)},
	{SYS_msgsnd, BODY(missing)},
	{SYS_msgrcv, BODY(missing)},
	{SYS_msgctl, BODY(missing)},
	{SYS_mq_open, BODY(missing)},
	{SYS_mq_unlink, BODY(missing)},
	{SYS_inotify_add_watch, BODY(unreachable)},
	{SYS_prlimit64, BODY(itself_first)},
	{SYS_setpriority, BODY(itself_process)},
	{SYS_ioprio_set, BODY(refuse)},
	{SYS_sched_setaffinity, BODY(itself_first)},
	{SYS_sched_setattr, BODY(itself_first)},
	{SYS_sched_setparam, BODY(itself_first)},
	{SYS_sched_setscheduler, BODY(plain_scheduler)},
	{SYS_pidfd_open, BODY(refuse)},
};

#define PLAIN_CHECKS (sizeof(plain_checks) / sizeof(plain_checks[0]))

bool arguments_checks(int number)
{
	for (size_t i = 0; i < CHECKS; i++) {
		if ((uint32_t)number == checks[i].number)
			return true;
	}
	return false;
}

int arguments_compile(bool plain, const struct arguments_answer *answers, size_t count,
		      struct sock_fprog *ret_program, struct err *err)
{
	const size_t first = plain ? PLAIN_CHECKS : 0, all = first + CHECKS + count;
	cleanup(free_ptr) struct dispatch_call *calls = calloc(all, sizeof(*calls));
	cleanup(free_ptr) struct sock_filter *telling = calloc(count + 1, sizeof(*telling));
	const struct dispatch dispatch = {
		.calls = calls, .count = all, .otherwise = SECCOMP_RET_ALLOW};

	if (!calls || !telling)
		return err_set(err, -ENOMEM, "out of memory");
	memcpy(calls, plain_checks, first * sizeof(*calls));
	memcpy(calls + first, checks, sizeof(checks));
	for (size_t i = 0; i < count; i++) {
		telling[i] = (struct sock_filter)TELL(answers[i].code);
		calls[first + CHECKS + i] =
			(struct dispatch_call){answers[i].number, &telling[i], 1};
	}
	if (dispatch_compile(&dispatch, ret_program) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

void arguments_quiet(struct sock_fprog *program)
{
	for (size_t i = 0; i < program->len; i++) {
		struct sock_filter *step = &program->filter[i];

		if (step->code != (BPF_RET | BPF_K) ||
		    (step->k & SECCOMP_RET_ACTION_FULL) != SECCOMP_RET_USER_NOTIF)
			continue;
		step->k &= SECCOMP_RET_DATA;
		step->k |= step->k ? SECCOMP_RET_ERRNO : SECCOMP_RET_ALLOW;
	}
}
