#include "sandbox/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h> /* seccomp has no wrapper */
#include <unistd.h>

#include "sandbox/build.h"

/*
 * Theory of operation
 *
 * The kernel's filter is a deny list: everything a data scientist's code asks for passes. It comes
 * in two programs. The first is made by libseccomp from the tables below, and ends the process on a
 * call of another architecture (int 0x80, x32). libseccomp compares an argument once per rule, so
 * it cannot say "a domain other than these three": the second program says that, by hand, for
 * socket, socketpair and personality. Arguments that the kernel takes as int are compared on their
 * low 32 bits, or a set high bit would slip by (CVE-2019-10063).
 *
 * The errno matters: clone3 answers ENOSYS so that glibc falls back to clone, whose flags a filter
 * can see; AF_NETLINK answers EOPNOTSUPP because libzmq aborts on any other.
 */

struct denied {
	const char *name;
	int number; /* where libseccomp 2.5.4 does not know the name yet; the same on all
		       architectures */
	int code;
};

static const struct denied denied[] = {
	/* Namespaces: each gives capabilities over parts of the system that root alone used to
	   reach. */
	{"clone3", 435, ENOSYS},
	{"setns", -1, EPERM},
	/* Mounts, old and new: no call needs a capability check to hold. */
	{"mount", -1, EPERM},
	{"umount", -1, EPERM},
	{"umount2", -1, EPERM},
	{"pivot_root", -1, EPERM},
	{"chroot", -1, EPERM},
	{"open_tree", 428, ENOSYS},
	{"move_mount", 429, ENOSYS},
	{"fsopen", 430, ENOSYS},
	{"fsconfig", 431, ENOSYS},
	{"fsmount", 432, ENOSYS},
	{"fspick", 433, ENOSYS},
	{"mount_setattr", 442, ENOSYS},
	{"statmount", 457, ENOSYS},
	{"listmount", 458, ENOSYS},
	{"open_tree_attr", 467, ENOSYS},
	/* openat2 would take its mode past the filter for setuid bits. */
	{"openat2", 437, ENOSYS},
	/* Other processes' memory and descriptors. */
	{"ptrace", -1, EPERM},
	{"process_vm_readv", -1, EPERM},
	{"process_vm_writev", -1, EPERM},
	{"kcmp", -1, EPERM},
	{"pidfd_getfd", 438, EPERM},
	{"process_madvise", 440, EPERM},
	{"process_mrelease", 448, EPERM},
	/* Large and young parts of the system, where most escapes of the last years began; io_uring
	 * also opens sockets without socket(2). */
	{"io_uring_setup", 425, ENOSYS},
	{"io_uring_enter", 426, ENOSYS},
	{"io_uring_register", 427, ENOSYS},
	{"userfaultfd", -1, ENOSYS},
	{"bpf", -1, EPERM},
	{"perf_event_open", -1, EPERM},
	{"memfd_secret", 447, ENOSYS},
	{"map_shadow_stack", 453, ENOSYS},
	/* Keyrings are per user, not per sandbox. */
	{"add_key", -1, EPERM},
	{"request_key", -1, EPERM},
	{"keyctl", -1, EPERM},
	/* Files by handle, past every directory's permission (the "shocker" escape). */
	{"open_by_handle_at", -1, EPERM},
	{"name_to_handle_at", -1, EOPNOTSUPP},
	/* Watching whole file systems. */
	{"fanotify_init", -1, EPERM},
	{"fanotify_mark", -1, EPERM},
	{"lookup_dcookie", -1, EPERM},
	/* The machine: its kernel, modules, clock, swap, quotas, log, accounting, ports. */
	{"kexec_load", -1, EPERM},
	{"kexec_file_load", -1, EPERM},
	{"init_module", -1, EPERM},
	{"finit_module", -1, EPERM},
	{"delete_module", -1, EPERM},
	{"create_module", -1, EPERM},
	{"get_kernel_syms", -1, EPERM},
	{"query_module", -1, EPERM},
	{"reboot", -1, EPERM},
	{"swapon", -1, EPERM},
	{"swapoff", -1, EPERM},
	{"quotactl", -1, EPERM},
	{"quotactl_fd", 443, EPERM},
	{"acct", -1, EPERM},
	{"syslog", -1, EPERM},
	{"settimeofday", -1, EPERM},
	{"stime", -1, EPERM},
	{"clock_settime", -1, EPERM},
	{"clock_settime64", -1, EPERM},
	{"clock_adjtime", -1, EPERM},
	{"clock_adjtime64", -1, EPERM},
	{"adjtimex", -1, EPERM},
	{"iopl", -1, EPERM},
	{"ioperm", -1, EPERM},
	{"vhangup", -1, EPERM},
	{"nfsservctl", -1, ENOSYS},
	{"uselib", -1, ENOSYS},
	{"ustat", -1, ENOSYS},
	{"sysfs", -1, ENOSYS},
	{"_sysctl", -1, ENOSYS},
	{"vm86", -1, EPERM},
	{"vm86old", -1, EPERM},
	/* 16-bit segments: no use, a history of holes (CVE-2014-9090, CVE-2015-5157). */
	{"modify_ldt", -1, EPERM},
	/* Moving pages of others between NUMA nodes. */
	{"move_pages", -1, EPERM},
	{"migrate_pages", -1, EPERM},
	/* Security modules and the scheduling core are set up by the sandbox, not in it. */
	{"lsm_set_self_attr", 460, EPERM},
};

#define NAMESPACE_BITS                                                                             \
	{                                                                                          \
		CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER,           \
			CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWTIME_BIT                              \
	}
/* CLONE_NEWTIME; for clone(2) the same bit belongs to the exit signal, where it is no valid one. */
#define CLONE_NEWTIME_BIT 0x80u

/* A file that would run as another user: its mode argument, and the flags argument that makes it
 * count. */
static const struct {
	const char *name;
	int number;
	unsigned mode; /* index of the argument */
	int flags;     /* index of the flags argument, -1: the mode always counts */
} modes[] = {
	{"chmod", -1, 1, -1},	   {"fchmod", -1, 1, -1},  {"fchmodat", -1, 2, -1},
	{"fchmodat2", 452, 2, -1}, {"mknod", -1, 1, -1},   {"mknodat", -1, 2, -1},
	{"mkdir", -1, 1, -1},	   {"mkdirat", -1, 2, -1}, {"creat", -1, 1, -1},
	{"open", -1, 2, 1},	   {"openat", -1, 3, 2},
};

/* TIOCSTI types into the terminal it is asked on (CVE-2017-5226), TIOCLINUX pastes into it
 * (CVE-2023-28100). */
static const unsigned long denied_ioctls[] = {TIOCSTI, TIOCLINUX, TIOCSETD, TIOCCONS};

/* pid 1 after its last fork: it waits, reads /proc, signals, and answers. Everything else ends it.
 */
static const char *const init_allowed[] = {
	"poll",	      "ppoll",	       "read",	       "recvfrom",
	"sendto",     "wait4",	       "kill",	       "openat",
	"getdents64", "lseek",	       "close",	       "clock_nanosleep",
	"nanosleep",  "clock_gettime", "rt_sigreturn", "restart_syscall",
	"exit",	      "exit_group",
};

static int resolve(const char *name, int number)
{
	int known = seccomp_syscall_resolve_name(name);

	/* Negative: libseccomp knows no such name, or no such call on this architecture. */
	return known >= 0 ? known : known == __NR_SCMP_ERROR ? number : -1;
}

static int rule(scmp_filter_ctx filter, uint32_t action, const char *name, int number,
		unsigned count, const struct scmp_arg_cmp *args, struct err *err)
{
	int call = resolve(name, number), r;

	if (call < 0)
		return 0;
	r = seccomp_rule_add_array(filter, action, call, count, args);
	if (r < 0)
		return err_set(err, r, "cannot filter %s: %s", name, strerrordesc_np(-r));
	return 0;
}

static int deny_calls(scmp_filter_ctx filter, struct err *err)
{
	for (size_t i = 0; i < sizeof(denied) / sizeof(denied[0]); i++) {
		if (rule(filter, SCMP_ACT_ERRNO((uint32_t)denied[i].code), denied[i].name,
			 denied[i].number, 0, NULL, err) < 0)
			return err->code;
	}
	return 0;
}

static int deny_namespaces(scmp_filter_ctx filter, struct err *err)
{
	static const uint32_t bits[] = NAMESPACE_BITS;

	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
		const struct scmp_arg_cmp arg = {0, SCMP_CMP_MASKED_EQ, bits[i], bits[i]};

		if (rule(filter, SCMP_ACT_ERRNO(EPERM), "unshare", -1, 1, &arg, err) < 0 ||
		    rule(filter, SCMP_ACT_ERRNO(EPERM), "clone", -1, 1, &arg, err) < 0)
			return err->code;
	}
	return 0;
}

static int deny_modes(scmp_filter_ctx filter, struct err *err)
{
	static const mode_t bits[] = {S_ISUID, S_ISGID};
	/* The bits that make open(2) look at its mode; O_TMPFILE is two, one of them O_DIRECTORY.
	 */
	static const int creating[] = {O_CREAT, O_TMPFILE & ~O_DIRECTORY};

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		for (size_t bit = 0; bit < 2; bit++) {
			struct scmp_arg_cmp args[2] = {
				{modes[i].mode, SCMP_CMP_MASKED_EQ, bits[bit], bits[bit]}};
			unsigned count = modes[i].flags < 0 ? 1 : 2;

			for (size_t way = 0; way < (count == 1 ? 1 : 2); way++) {
				args[1] = (struct scmp_arg_cmp){
					(unsigned)modes[i].flags, SCMP_CMP_MASKED_EQ,
					(unsigned)creating[way], (unsigned)creating[way]};
				if (rule(filter, SCMP_ACT_ERRNO(EPERM), modes[i].name,
					 modes[i].number, count, args, err) < 0)
					return err->code;
			}
		}
	}
	return 0;
}

static int deny_ioctls(scmp_filter_ctx filter, struct err *err)
{
	for (size_t i = 0; i < sizeof(denied_ioctls) / sizeof(denied_ioctls[0]); i++) {
		const struct scmp_arg_cmp arg = {1, SCMP_CMP_MASKED_EQ, UINT32_MAX,
						 denied_ioctls[i]};

		if (rule(filter, SCMP_ACT_ERRNO(EPERM), "ioctl", -1, 1, &arg, err) < 0)
			return err->code;
	}
	return 0;
}

/*
 * A lease holds the host's writers up for a minute, a notification is a signal about what they do;
 * neither asks for more than a descriptor that reads. The command is an unsigned int.
 */
static int deny_fcntls(scmp_filter_ctx filter, struct err *err)
{
	static const unsigned commands[] = {F_SETLEASE, F_NOTIFY};
	static const char *const calls[] = {"fcntl", "fcntl64"};

	for (size_t i = 0; i < 4; i++) {
		const struct scmp_arg_cmp arg = {1, SCMP_CMP_MASKED_EQ, UINT32_MAX,
						 commands[i / 2]};

		if (rule(filter, SCMP_ACT_ERRNO(EINVAL), calls[i % 2], -1, 1, &arg, err) < 0)
			return err->code;
	}
	return 0;
}

#define LOW(index, value)                                                                          \
	{                                                                                          \
		(index), SCMP_CMP_MASKED_EQ, UINT32_MAX, (value)                                   \
	}

/*
 * pid 1 has the kernel's uid, which is all that these ask for. What only asks passes: Python reads
 * limits by prlimit64 too. PRIO_USER would reach pid 1 along with all others.
 */
static const struct {
	const char *name;
	unsigned count;
	struct scmp_arg_cmp args[2];
} of_init[] = {
	{"sched_setaffinity", 1, {LOW(0, 1)}},
	{"sched_setscheduler", 1, {LOW(0, 1)}},
	{"sched_setparam", 1, {LOW(0, 1)}},
	{"sched_setattr", 1, {LOW(0, 1)}},
	{"setpriority", 2, {LOW(0, PRIO_PROCESS), LOW(1, 1)}},
	{"setpriority", 1, {LOW(0, PRIO_USER)}},
	{"prlimit64", 2, {LOW(0, 1), {2, SCMP_CMP_NE, 0, 0}}},
};

static int deny_of_init(scmp_filter_ctx filter, struct err *err)
{
	for (size_t i = 0; i < sizeof(of_init) / sizeof(of_init[0]); i++) {
		if (rule(filter, SCMP_ACT_ERRNO(EPERM), of_init[i].name, -1, of_init[i].count,
			 of_init[i].args, err) < 0)
			return err->code;
	}
	return 0;
}

static int allow_init(scmp_filter_ctx filter, struct err *err)
{
	for (size_t i = 0; i < sizeof(init_allowed) / sizeof(init_allowed[0]); i++) {
		if (rule(filter, SCMP_ACT_ALLOW, init_allowed[i], -1, 0, NULL, err) < 0)
			return err->code;
	}
	return 0;
}

/* libseccomp gives its program to a descriptor only. */
static int export(scmp_filter_ctx filter, struct sock_fprog *ret_program, struct err *err)
{
	cleanup(close_fd) int fd = memfd_create("filter", MFD_CLOEXEC);
	struct stat status;
	void *code;
	int r;

	if (fd < 0)
		return err_errno(err, "cannot make a memory file");
	r = seccomp_export_bpf(filter, fd);
	if (r < 0 || fstat(fd, &status) < 0)
		return err_set(err, r < 0 ? r : -errno, "cannot compile a filter");
	code = malloc((size_t)status.st_size);
	if (!code)
		return err_set(err, -ENOMEM, "out of memory");
	if (pread(fd, code, (size_t)status.st_size, 0) != status.st_size) {
		free(code);
		return err_set(err, -EIO, "cannot read a filter back");
	}
	ret_program->filter = code;
	ret_program->len = (unsigned short)((size_t)status.st_size / sizeof(struct sock_filter));
	return 0;
}

typedef int add_fn(scmp_filter_ctx filter, struct err *err);

static int compile(uint32_t otherwise, add_fn *const *adders, struct sock_fprog *ret_program,
		   struct err *err)
{
	scmp_filter_ctx filter = seccomp_init(otherwise);
	int r = 0;

	if (!filter)
		return err_set(err, -ENOMEM, "out of memory");
	/* The whole process ends, not the thread alone; a tree keeps a long list cheap. */
	if (seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) < 0 ||
	    seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) < 0)
		r = err_set(err, -EINVAL, "cannot configure a filter");
	for (; *adders && r == 0; adders++)
		r = (*adders)(filter, err);
	if (r == 0)
		r = export(filter, ret_program, err);
	seccomp_release(filter);
	return r;
}

/* Offsets of the low halves: the structure is in the machine's byte order. */
#define ARGUMENT(n)                                                                                \
	(uint32_t)(offsetof(struct seccomp_data, args) + (n) * sizeof(uint64_t) +                  \
		   (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0))
#define LOAD(offset)   BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offset))
#define MASK(bits)     BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (uint32_t)(bits))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, (action))
#define ERRNO(code)    RETURN(SECCOMP_RET_ERRNO | (code))
#define ALLOW	       RETURN(SECCOMP_RET_ALLOW)
/* Skip as many instructions as said. */
#define IF_EQUAL(value, skip)	  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), (skip), 0)
#define UNLESS_EQUAL(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, (skip))

/*
 * Types and protocols of internet sockets: the others load modules (DCCP, SCTP), go past the rules
 * for TCP (MPTCP) or build packets by hand.
 */
static const struct sock_filter socket_body[] = {
	LOAD(ARGUMENT(0)),
	UNLESS_EQUAL(AF_UNIX, 1),
	ALLOW,
	UNLESS_EQUAL(AF_NETLINK, 1),
	ERRNO(EOPNOTSUPP), /* libzmq aborts on any other */
	IF_EQUAL(AF_INET, 2),
	IF_EQUAL(AF_INET6, 1),
	ERRNO(EAFNOSUPPORT),
	LOAD(ARGUMENT(1)),
	MASK(0xf), /* SOCK_TYPE_MASK of the kernel; the rest is SOCK_CLOEXEC and SOCK_NONBLOCK */
	IF_EQUAL(SOCK_STREAM, 2),
	IF_EQUAL(SOCK_DGRAM, 1),
	ERRNO(ESOCKTNOSUPPORT),
	LOAD(ARGUMENT(2)),
	IF_EQUAL(0, 3),
	IF_EQUAL(IPPROTO_TCP, 2),
	IF_EQUAL(IPPROTO_UDP, 1),
	ERRNO(EPROTONOSUPPORT),
	ALLOW,
};

static const struct sock_filter socketpair_body[] = {
	LOAD(ARGUMENT(0)),
	IF_EQUAL(AF_UNIX, 1),
	ERRNO(EAFNOSUPPORT),
	ALLOW,
};

/* The ordinary one, and the question which it is: others switch off address randomisation or run
 * old binaries. */
static const struct sock_filter personality_body[] = {
	LOAD(ARGUMENT(0)), IF_EQUAL(PER_LINUX, 2), IF_EQUAL(0xffffffffu, 1), ERRNO(EPERM), ALLOW,
};

#define BODY(body) (body), sizeof(body) / sizeof((body)[0])

static const struct {
	uint32_t number;
	const struct sock_filter *body;
	size_t size;
} bodies[] = {
	{SYS_socket, BODY(socket_body)},
	{SYS_socketpair, BODY(socketpair_body)},
	{SYS_personality, BODY(personality_body)},
};

/* Each body behind "when it is this call"; the first program has seen to the architecture. */
static int join_bodies(struct sock_fprog *ret_program, struct err *err)
{
	const struct sock_filter load = LOAD(offsetof(struct seccomp_data, nr)), allow = ALLOW;
	size_t size = 1, at = 0;
	struct sock_filter *code;

	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
		size += 2 + bodies[i].size;
	code = calloc(size, sizeof(*code));
	if (!code)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		const struct sock_filter test =
			UNLESS_EQUAL(bodies[i].number, (unsigned char)bodies[i].size);

		code[at++] = load;
		code[at++] = test;
		memcpy(&code[at], bodies[i].body, bodies[i].size * sizeof(*code));
		at += bodies[i].size;
	}
	code[at] = allow;
	ret_program->filter = code;
	ret_program->len = (unsigned short)size;
	return 0;
}

int seccomp_compile(struct build *build, struct err *err)
{
	static add_fn *const kernel[] = {deny_calls,  deny_namespaces, deny_modes, deny_ioctls,
					 deny_fcntls, deny_of_init,    NULL};
	static add_fn *const init[] = {allow_init, NULL};

	if (compile(SCMP_ACT_ALLOW, kernel, &build->kernel_filter.program[0], err) < 0 ||
	    join_bodies(&build->kernel_filter.program[1], err) < 0)
		return err->code;
#ifndef CELLWALL_SANITIZE
	/* The sanitizers' runtime maps and reads what no list can foresee. */
	if (compile(SCMP_ACT_KILL_PROCESS, init, &build->init_filter.program[0], err) < 0)
		return err->code;
#else
	(void)init;
#endif
	return 0;
}

static int load(const struct filter *filter, struct err *err)
{
	/* What root set on purpose is kept; without it CAP_SYS_ADMIN would be asked for,
	 * seccomp(2). */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(err, "cannot set no_new_privs");
	for (size_t i = 0; i < FILTER_PROGRAMS && filter->program[i].filter; i++) {
		if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter->program[i]) < 0)
			return err_errno(err, "cannot load the system call filter");
	}
	return 0;
}

int seccomp_load_init(struct build *build, struct err *err)
{
	return load(&build->init_filter, err);
}

int seccomp_load_kernel(struct build *build, struct err *err)
{
	return load(&build->kernel_filter, err);
}

void seccomp_filter_done(struct filter *filter)
{
	for (size_t i = 0; i < FILTER_PROGRAMS; i++) {
		free(filter->program[i].filter);
		filter->program[i].filter = NULL;
	}
}
