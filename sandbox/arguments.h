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

#include "sandbox/base.h"

/* The program (caller frees ->filter). It trusts that the architecture was checked before. Returns
 * 0 or -ENOMEM. */
int arguments_compile(struct sock_fprog *ret_program, struct err *err);

/* For tests: whether a call has a check here. */
bool arguments_checks(int number);

#endif
