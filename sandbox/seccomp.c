#include "sandbox/seccomp.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h> /* seccomp has no wrapper */
#include <unistd.h>

#include "sandbox/arguments.h"
#include "sandbox/build.h"
#include "sandbox/status.h"
#include "sandbox/syscall_lists.h" /* of the build: kernel_list, init_list, refused_list */

/*
 * Theory of operation
 *
 * The kernel's filter is an allow list, in two programs. One is made from the names in syscalls.def
 * when cellwall is built (make_lists.c): what is not there answers ENOSYS, and a call of another
 * architecture (int 0x80, x32) ends the process. The other looks at arguments, see arguments.h; of
 * two programs the stricter answer counts (seccomp(2)), and an errno is stricter than a
 * notification: what is refused and told passes the first and is the other's alone. Calls that pass
 * whatever their arguments cost nothing: the system remembers them in a bitmap.
 */

#define REFUSED (sizeof(refused_list) / sizeof(refused_list[0]))

/* Of its own, as the program beside it is. */
static int take(const struct sock_filter *list, size_t count, struct sock_fprog *ret_program,
		struct err *err)
{
	ret_program->filter = malloc(count * sizeof(*list));
	if (!ret_program->filter)
		return err_set(err, -ENOMEM, "out of memory");
	memcpy(ret_program->filter, list, count * sizeof(*list));
	ret_program->len = (unsigned short)count;
	return 0;
}

int seccomp_arguments(bool plain, struct sock_fprog *ret_program, struct err *err)
{
	return arguments_compile(plain, refused_list, REFUSED, ret_program, err);
}

const char *seccomp_name(int number)
{
	for (size_t i = 0; i < REFUSED; i++) {
		if (refused_list[i].number == (uint32_t)number)
			return refused_list[i].name;
	}
	return NULL;
}

int seccomp_compile(struct build *build, struct err *err)
{
	/* In the order in which they are loaded: the list refuses seccomp(2) itself. */
	if (seccomp_arguments(build->spec->landlock, &build->kernel_filter.program[0], err) < 0 ||
	    take(kernel_list, sizeof(kernel_list) / sizeof(kernel_list[0]),
		 &build->kernel_filter.program[1], err) < 0)
		return err->code;
#ifndef CELLWALL_SANITIZE
	/* The sanitizers' runtime maps and reads what no list can foresee. */
	if (take(init_list, sizeof(init_list) / sizeof(init_list[0]),
		 &build->init_filter.program[0], err) < 0)
		return err->code;
#else
	(void)init_list;
#endif
	return 0;
}

static int load(const struct filter *filter, size_t first, struct err *err)
{
	/* What root set on purpose is kept; without it CAP_SYS_ADMIN would be asked for,
	 * seccomp(2). */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(err, "cannot set no_new_privs");
	for (size_t i = first; i < FILTER_PROGRAMS && filter->program[i].filter; i++) {
		if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter->program[i]) < 0)
			return err_errno(err, "cannot load the system call filter");
	}
	return 0;
}

int seccomp_load_init(struct build *build, struct err *err)
{
	return load(&build->init_filter, 0, err);
}

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

/* Returns the listener, or a negative errno: -EBUSY where a container's manager listens already. */
static int load_told(const struct sock_fprog *program)
{
	/* From Linux 5.19 on only a deadly signal interrupts a call that is being looked at: the
	 * others would show as EINTR in calls that never return it. */
	long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			  SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
			  program);

	if (fd < 0 && errno == EINVAL)
		fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			     program);
	return fd < 0 ? -errno : (int)fd;
}

/* What is told from here on waits for the supervisor: the first is the kernel's execve(2). */
int seccomp_load_kernel(struct build *build, struct err *err)
{
	cleanup(close_fd) int listener = -1;

	if (build->sync < 0) {
		arguments_quiet(&build->kernel_filter.program[0]);
		return load(&build->kernel_filter, 0, err);
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(err, "cannot set no_new_privs");
	listener = load_told(&build->kernel_filter.program[0]);
	if (listener < 0) {
		const char *reason = strerrorname_np(-listener);

		arguments_quiet(&build->kernel_filter.program[0]);
		if (status_send(build->sync, err, "unheard", reason ? reason : "EIO", NULL) < 0)
			return err->code;
		return load(&build->kernel_filter, 0, err);
	}
	if (status_send_fds(build->sync, &listener, 1, err, "listener", NULL) < 0)
		return err->code;
	return load(&build->kernel_filter, 1, err);
}

void seccomp_filter_done(struct filter *filter)
{
	for (size_t i = 0; i < FILTER_PROGRAMS; i++) {
		free(filter->program[i].filter);
		filter->program[i].filter = NULL;
	}
}
