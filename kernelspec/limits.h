/*
 * limits: what a policy lets a sandbox use, as the supervisor is told. Never logs.
 */
#ifndef KERNELSPEC_LIMITS_H
#define KERNELSPEC_LIMITS_H

#include "proxy/policy.h"
#include "sandbox/spec.h"

/* Sets every limit of the spec, and which wall it is. */
void limits_fill(struct spec *spec, const struct policy *policy);

#endif
