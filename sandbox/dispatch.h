/*
 * dispatch: a program of classic BPF (seccomp(2)) that finds the rules of a system call by its
 * number, and the machine that runs one outside the system. Never logs.
 */
#ifndef SANDBOX_DISPATCH_H
#define SANDBOX_DISPATCH_H

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "sandbox/base.h"

struct dispatch_call {
	uint32_t number;
	const struct sock_filter *body; /* begins with the number loaded, ends in a return */
	size_t size;			/* steps */
};

/*
 * The program (caller frees ->filter): `prefix`, steps that may return, then the rules; calls that
 * are not listed return `otherwise`. Of two with one number the first counts. Sorts `calls`, whose
 * bodies are copied. Returns 0 or -ENOMEM.
 */
struct dispatch {
	const struct sock_filter *prefix;
	size_t prefix_size; /* steps */
	struct dispatch_call *calls;
	size_t count;
	uint32_t otherwise; /* SECCOMP_RET_… */
};
int dispatch_compile(const struct dispatch *dispatch, struct sock_fprog *ret_program);
/* What the program returns for `data`; SECCOMP_RET_KILL_PROCESS when it is not one of ours. */
uint32_t dispatch_run(const struct sock_fprog *program, const struct seccomp_data *data);

#endif
