#include "sandbox/seccomp.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h> /* seccomp has no wrapper */
#include <unistd.h>

#include "sandbox/arguments.h"
#include "sandbox/build.h"

/*
 * Theory of operation
 *
 * The kernel's filter is an allow list, in two programs. One is made by libseccomp from the names
 * in syscalls.def: what is not there answers ENOSYS, and a call of another architecture (int 0x80,
 * x32) ends the process. The other looks at arguments, see arguments.h; of two programs the
 * stricter answer counts (seccomp(2)). Calls that pass whatever their arguments cost nothing: the
 * system remembers them in a bitmap.
 */

enum answer { ANSWER_ALLOW, ANSWER_CHECK, ANSWER_ERRNO };

/* A line of syscalls.def. */
struct listed {
	const char *name;
	int number; /* where libseccomp 2.5.4 does not know the name; -1: it does */
	enum answer answer;
	int code; /* of ANSWER_ERRNO */
};

#define GROUP(why)
#define ALLOW(name)		       {#name, -1, ANSWER_ALLOW, 0},
#define ALLOW_NEW(name, number)	       {#name, number, ANSWER_ALLOW, 0},
#define CHECK(name)		       {#name, -1, ANSWER_CHECK, 0},
#define CHECK_NEW(name, number)	       {#name, number, ANSWER_CHECK, 0},
#define ANSWER(name, code)	       {#name, -1, ANSWER_ERRNO, code},
#define ANSWER_NEW(name, number, code) {#name, number, ANSWER_ERRNO, code},

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

static int compile(uint32_t otherwise, add_fn *add, struct sock_fprog *ret_program, struct err *err)
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
		r = export(filter, ret_program, err);
	seccomp_release(filter);
	return r;
}

int seccomp_compile(struct build *build, struct err *err)
{
	/* In the order in which they are loaded: the list refuses seccomp(2) itself. */
	if (arguments_compile(&build->kernel_filter.program[0], err) < 0 ||
	    compile(SCMP_ACT_ERRNO(ENOSYS), add_listed, &build->kernel_filter.program[1], err) < 0)
		return err->code;
#ifndef CELLWALL_SANITIZE
	/* The sanitizers' runtime maps and reads what no list can foresee. */
	if (compile(SCMP_ACT_KILL_PROCESS, allow_init, &build->init_filter.program[0], err) < 0)
		return err->code;
#else
	(void)allow_init;
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
