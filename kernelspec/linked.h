/*
 * linked: a kernelspec whose kernel runs on another host, over the link (share/doc/link.md).
 *
 * In: what `cellwall install --host` was told. Out: the plan (plan.h), whose command is `cellwall
 * kernel --host`. The files of both keys are read, so that a wrong one is said now; nothing is
 * connected to. Never logs.
 */
#ifndef KERNELSPEC_LINKED_H
#define KERNELSPEC_LINKED_H

#include "kernelspec/plan.h"

#define LINKED_SCHEME "curve://"

struct linked {
	const char *host;     /* "curve://HOST:PORT" */
	const char *host_key; /* the host's public key: a file */
	const char *key;      /* this client's own: a file, or NULL: the user's */
	const char *kernel;   /* the kernelspec there, or NULL: its first */
	const char *area;     /* the staging area there, or NULL */
	const char *language; /* or NULL: python */
};

/* Returns 0 or a negative errno. */
int linked_plan(const struct linked *linked, struct plan *plan, struct err *err);

#endif
