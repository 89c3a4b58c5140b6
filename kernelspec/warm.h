/*
 * warm: what a first start would make and throw away with its empty home: matplotlib's list of
 * fonts, which takes it a second, or several where there are many.
 *
 * Made once, at `cellwall install`, by the kernel's own environment behind the wall, with nothing
 * staged; kept in STATE/warm/<sha256 of the interpreter's path> in the user's own state directory,
 * and shown to kernels of that interpreter alone, on a copy. Never logs.
 */
#ifndef KERNELSPEC_WARM_H
#define KERNELSPEC_WARM_H

#include <sys/types.h>

#include "sandbox/spec.h"

/*
 * Runs `cellwall kernel` with the interpreter. Returns 1 when there is something now; 0 when the
 * environment has no matplotlib, or no program named cellwall is beside this one (who links this
 * room into another program shall not find itself executed); or a negative errno. Takes
 * WARM_MAKE_MS at the most.
 */
#define WARM_MAKE_MS 30000
int warm_make(const char *interpreter, struct err *err);
/* Adds it to the spec, when there is one. Returns 0 or -ENOMEM. */
int warm_use(struct spec *spec, const char *interpreter);

/* Waits until a child of ours ends, whatever its status; one that takes longer is killed and
 * -ETIMEDOUT. */
int warm_wait(pid_t pid, int limit_ms, struct err *err);

#endif
