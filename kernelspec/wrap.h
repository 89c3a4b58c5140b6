/*
 * wrap: an installed kernelspec, put behind the wall: its kernel.json becomes a plan.
 *
 * Kept: the command, language, interrupt_mode, metadata.debugger, the logos, env without templates.
 * Left out, with a notice where it matters: provisioner and encryption metadata (nothing but
 * cellwall starts the kernel), interpreter metadata, env entries whose value is a template (${VAR}
 * would copy the server's environment inside). Never logs.
 */
#ifndef KERNELSPEC_WRAP_H
#define KERNELSPEC_WRAP_H

#include "kernelspec/plan.h"
#include "kernelspec/prefix.h"
#include "kernelspec/search.h"
#include "sandbox/base.h"

/*
 * Fills argv, language, interrupt_mode, debugger, wraps, shows, setenv and notices, and name and
 * display_name where they are NULL. `ret_prefix` is the kernel program's (prefix_done). On failure
 * both are to be freed all the same. Returns 0 or a negative errno.
 */
int wrap_plan(const struct search_spec *spec, struct plan *plan, struct prefix *ret_prefix,
	      struct err *err);

#endif
