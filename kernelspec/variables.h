/*
 * variables: the kernel's environment. An allow list: nothing of the server's environment comes in
 * but what the policy names. Never logs.
 */
#ifndef KERNELSPEC_VARIABLES_H
#define KERNELSPEC_VARIABLES_H

#include "proxy/policy.h"
#include "sandbox/spec.h"

/* Fills spec->env for the interpreter `executable` (absolute); spec->history decides about the
 * history's variable. Returns 0 or -ENOMEM. */
int variables_fill(struct spec *spec, const struct policy *policy, const char *executable);
/* Adds "NAME=VALUE", in the place of an earlier setting of NAME. Returns 0 or -ENOMEM. */
int variables_set(struct spec *spec, const char *assignment);

#endif
