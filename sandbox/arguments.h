/*
 * arguments: what the kernel's system call filter asks of the arguments of the calls that
 * syscalls.def marks with CHECK.
 *
 * A program of its own beside the list of names: libseccomp compares an argument once per rule, so
 * it cannot say "a domain other than these three". Arguments that the system takes as int are
 * compared on their low 32 bits, or a set high bit would slip by (CVE-2019-10063). Never logs.
 */
#ifndef SANDBOX_ARGUMENTS_H
#define SANDBOX_ARGUMENTS_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>

#include "sandbox/base.h"

/* A call that is refused whatever its arguments, and is worth telling of. */
struct arguments_answer {
	uint32_t number;
	uint16_t code; /* errno */
	const char *name;
};

/*
 * The program (dispatch.h; caller frees ->filter), `plain` for the wall without namespaces. It
 * trusts that the architecture was checked before. What is to be told returns
 * SECCOMP_RET_USER_NOTIF with the errno of its answer as data, 0 for a call that is allowed: the
 * listener (refusals.h) runs the same program to learn which. Returns 0 or -ENOMEM.
 */
int arguments_compile(bool plain, const struct arguments_answer *answers, size_t count,
		      struct sock_fprog *ret_program, struct err *err);
/* The same rules for when nobody listens: told nothing, the system answers by itself. */
void arguments_quiet(struct sock_fprog *program);

/* For tests: whether a call has a check here. */
bool arguments_checks(int number);

#endif
