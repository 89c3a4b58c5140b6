/*
 * make_lists: a program of the build: the lists of system calls that seccomp.c and airlock.c load,
 * compiled by libseccomp from the names in syscalls.def and below into programs, written as C to
 * stdout, one header for each of the two. A launch then
 * spends no time on it (1.3 ms), and libseccomp is not among what a sandbox runs.
 *
 * A program holds the numbers of one architecture, asks for it first, and ends a process that calls
 * by another one (int 0x80, x32).
 */
#include <errno.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sandbox/base.h"

enum answer { ANSWER_ALLOW, ANSWER_CHECK, ANSWER_ERRNO, ANSWER_REFUSE };

/* A line of syscalls.def. */
struct listed {
	const char *name;
	int number; /* where libseccomp 2.5.4 does not know the name; -1: it does */
	enum answer answer;
	int code; /* of ANSWER_ERRNO and ANSWER_REFUSE */
};

#define GROUP(why)
#define ALLOW(name)		       {#name, -1, ANSWER_ALLOW, 0},
#define ALLOW_NEW(name, number)	       {#name, number, ANSWER_ALLOW, 0},
#define CHECK(name)		       {#name, -1, ANSWER_CHECK, 0},
#define CHECK_NEW(name, number)	       {#name, number, ANSWER_CHECK, 0},
#define ANSWER(name, code)	       {#name, -1, ANSWER_ERRNO, code},
#define ANSWER_NEW(name, number, code) {#name, number, ANSWER_ERRNO, code},
#define REFUSE(name, code)	       {#name, -1, ANSWER_REFUSE, code},
#define REFUSE_NEW(name, number, code) {#name, number, ANSWER_REFUSE, code},

static const struct listed listed[] = {
#include "sandbox/syscalls.def"
};

/* pid 1 after its last fork: it waits, reads /proc, signals, and answers. Everything else ends it.
 */
static const char *const init_allowed[] = {
	"poll",	      "ppoll",	       "read",	       "recvfrom",
	"sendto",     "wait4",	       "kill",	       "openat",
	"getdents64", "lseek",	       "close",	       "clock_nanosleep",
	"nanosleep",  "clock_gettime", "rt_sigreturn", "restart_syscall",
	"exit",	      "exit_group",
};

/*
 * The relay: its sockets, its memory, the time. One thread, and no file: what asks for more is not
 * the relay any more. Of ppoll and gettimeofday one is what poll or clock_gettime is elsewhere.
 */
static const char *const relay_allowed[] = {
	"recvfrom",  "sendto",	      "sendmsg",      "connect",	 "poll",   "ppoll",
	"write",     "close",	      "brk",	      "munmap",		 "mremap", "madvise",
	"getrandom", "clock_gettime", "gettimeofday", "restart_syscall", "exit",   "exit_group",
};

static const struct {
	const char *name;
	struct scmp_arg_cmp arg;
} relay_conditional[] = {
	{"socket", {0, SCMP_CMP_EQ, AF_UNIX, 0}},
	{"mmap", {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}},
	{"mprotect", {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}},
};

#ifdef CELLWALL_SANITIZE
/*
 * Builds with a sanitizer only: its runtime reads /proc, maps memory with fixed addresses, and
 * reports by calls of its own, so that an allow list cannot be written for it. The filter is turned
 * round: everything but the following is allowed. Such a build is for tests, and no wall.
 */
static const char *const relay_refused[] = {"execve",	     "execveat", "kill",
					    "tkill",	     "tgkill",	 "pidfd_open",
					    "pidfd_getfd",   "ptrace",	 "pidfd_send_signal",
					    "io_uring_setup"};
#endif

static int resolve(const char *name, int number)
{
	int known = seccomp_syscall_resolve_name(name);

	/* Negative: libseccomp knows no such name, or no such call on this architecture. */
	return known >= 0 ? known : known == __NR_SCMP_ERROR ? number : -1;
}

static int rule(scmp_filter_ctx filter, uint32_t action, const char *name, int number,
		struct err *err)
{
	int call = resolve(name, number), r;

	if (call < 0)
		return 0;
	r = seccomp_rule_add(filter, action, call, 0);
	if (r < 0)
		return err_set(err, r, "cannot filter %s: %s", name, strerrordesc_np(-r));
	return 0;
}

static int add_listed(scmp_filter_ctx filter, struct err *err)
{
	for (size_t i = 0; i < sizeof(listed) / sizeof(listed[0]); i++) {
		const struct listed *call = &listed[i];
		uint32_t action = call->answer == ANSWER_ERRNO
					  ? SCMP_ACT_ERRNO((uint32_t)call->code)
					  : SCMP_ACT_ALLOW;

		if (rule(filter, action, call->name, call->number, err) < 0)
			return err->code;
	}
	return 0;
}

static int allow_init(scmp_filter_ctx filter, struct err *err)
{
	for (size_t i = 0; i < sizeof(init_allowed) / sizeof(init_allowed[0]); i++) {
		if (rule(filter, SCMP_ACT_ALLOW, init_allowed[i], -1, err) < 0)
			return err->code;
	}
	return 0;
}

static int rule_if(scmp_filter_ctx filter, uint32_t action, const char *name,
		   struct scmp_arg_cmp arg, struct err *err)
{
	int call = resolve(name, -1);
	int r = call < 0 ? 0 : seccomp_rule_add_array(filter, action, call, 1, &arg);

	return r < 0 ? err_set(err, r, "cannot filter %s: %s", name, strerrordesc_np(-r)) : 0;
}

#ifndef CELLWALL_SANITIZE
#define RELAY_OTHERWISE SCMP_ACT_KILL_PROCESS

static int add_relay(scmp_filter_ctx filter, struct err *err)
{
	for (size_t i = 0; i < sizeof(relay_allowed) / sizeof(relay_allowed[0]); i++) {
		if (rule(filter, SCMP_ACT_ALLOW, relay_allowed[i], -1, err) < 0)
			return err->code;
	}
	for (size_t i = 0; i < sizeof(relay_conditional) / sizeof(relay_conditional[0]); i++) {
		if (rule_if(filter, SCMP_ACT_ALLOW, relay_conditional[i].name,
			    relay_conditional[i].arg, err) < 0)
			return err->code;
	}
	return 0;
}
#else
#define RELAY_OTHERWISE SCMP_ACT_ALLOW

static int add_relay(scmp_filter_ctx filter, struct err *err)
{
	const struct scmp_arg_cmp family = {0, SCMP_CMP_NE, AF_UNIX, 0};
	const struct scmp_arg_cmp exec = {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC};

	(void)relay_allowed;
	(void)relay_conditional;
	for (size_t i = 0; i < sizeof(relay_refused) / sizeof(relay_refused[0]); i++) {
		if (rule(filter, SCMP_ACT_KILL_PROCESS, relay_refused[i], -1, err) < 0)
			return err->code;
	}
	if (rule_if(filter, SCMP_ACT_KILL_PROCESS, "socket", family, err) < 0 ||
	    rule_if(filter, SCMP_ACT_KILL_PROCESS, "mmap", exec, err) < 0 ||
	    rule_if(filter, SCMP_ACT_KILL_PROCESS, "mprotect", exec, err) < 0)
		return err->code;
	return 0;
}
#endif

/* libseccomp gives its program to a descriptor only. */
static int print(scmp_filter_ctx filter, const char *name, struct err *err)
{
	cleanup(close_fd) int fd = memfd_create("filter", MFD_CLOEXEC);
	struct sock_filter line;
	ssize_t got;
	int r;

	if (fd < 0)
		return err_errno(err, "cannot make a memory file");
	r = seccomp_export_bpf(filter, fd);
	if (r < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return err_set(err, r < 0 ? r : -errno, "cannot compile a filter");
	(void)printf("static const struct sock_filter %s[] = {\n", name);
	while ((got = read(fd, &line, sizeof(line))) == sizeof(line))
		(void)printf("\t{0x%x, %u, %u, 0x%xu},\n", line.code, line.jt, line.jf, line.k);
	(void)printf("};\n");
	return got == 0 ? 0 : err_set(err, -EIO, "cannot read a filter back");
}

typedef int add_fn(scmp_filter_ctx filter, struct err *err);

static int compile(const char *name, uint32_t otherwise, add_fn *add, struct err *err)
{
	scmp_filter_ctx filter = seccomp_init(otherwise);
	int r = 0;

	if (!filter)
		return err_set(err, -ENOMEM, "out of memory");
	/* The whole process ends, not the thread alone; a tree keeps a long list cheap. */
	if (seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) < 0 ||
	    seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) < 0)
		r = err_set(err, -EINVAL, "cannot configure a filter");
	if (r == 0)
		r = add(filter, err);
	if (r == 0)
		r = print(filter, name, err);
	seccomp_release(filter);
	return r;
}

/* What passes the list because the program beside it answers. */
static void print_refused(void)
{
	(void)printf("static const struct arguments_answer refused_list[] = {\n");
	for (size_t i = 0; i < sizeof(listed) / sizeof(listed[0]); i++) {
		int number = resolve(listed[i].name, listed[i].number);

		if (listed[i].answer == ANSWER_REFUSE && number >= 0)
			(void)printf("\t{%d, %d, \"%s\"},\n", number, listed[i].code,
				     listed[i].name);
	}
	(void)printf("};\n");
}

int main(int argc, char **argv)
{
	const bool relay = argc == 2 && strcmp(argv[1], "relay") == 0;
	struct err err = {0};
	int r;

	(void)printf("/* Made by make_lists.c. */\n");
	if (relay)
		r = compile("relay_list", RELAY_OTHERWISE, add_relay, &err);
	else if ((r = compile("kernel_list", SCMP_ACT_ERRNO(ENOSYS), add_listed, &err)) == 0)
		r = compile("init_list", SCMP_ACT_KILL_PROCESS, allow_init, &err);
	if (r < 0) {
		(void)fprintf(stderr, "make_lists: %s\n", err.text);
		return EXIT_FAILURE;
	}
	if (!relay)
		print_refused();
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
