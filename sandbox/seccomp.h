/*
 * seccomp: the system call filters of the kernel and of pid 1 (seccomp(2)).
 *
 * A filter is put together while there is time and memory for it, and loaded with one system call
 * at the last moment. Never logs.
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

/* Stages: the builder compiles, pid 1 and the kernel load. */
int seccomp_compile(struct build *build, struct err *err);
int seccomp_load_init(struct build *build, struct err *err);
int seccomp_load_kernel(struct build *build, struct err *err);
void seccomp_filter_done(struct filter *filter);

#endif
