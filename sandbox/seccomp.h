/*
 * seccomp: the system call filters of the kernel and of pid 1 (seccomp(2)).
 *
 * A filter is put together while there is time and memory for it, and loaded with one system call
 * at the last moment. The kernel's first program tells a listener of what is worth it
 * (seccomp_unotify(2), refusals.h); where the host gives none, the same rules are loaded without.
 * Never logs.
 */
#ifndef SANDBOX_SECCOMP_H
#define SANDBOX_SECCOMP_H

#include <linux/filter.h>

#include "sandbox/base.h"

#define FILTER_PROGRAMS 2

struct build;

struct filter {
	struct sock_fprog program[FILTER_PROGRAMS]; /* all of them are loaded; .filter NULL: none */
};

/* The kernel's first program, see arguments.h; the caller frees ->filter. */
int seccomp_arguments(bool plain, struct sock_fprog *ret_program, struct err *err);
/* The name of a call that syscalls.def refuses and tells; NULL: not there. */
const char *seccomp_name(int number);

/* Stages: the builder compiles, pid 1 and the kernel load. The kernel's listener goes to
 * build->sync (build.h), -1: it is not asked for. */
int seccomp_compile(struct build *build, struct err *err);
int seccomp_load_init(struct build *build, struct err *err);
int seccomp_load_kernel(struct build *build, struct err *err);
void seccomp_filter_done(struct filter *filter);

#endif
