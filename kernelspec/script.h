/*
 * script: cellwall's own Python programs that run on the host (share/env), by the system's
 * interpreter as `/usr/bin/python3 -I -S`: the standard library alone, no site-packages, no
 * variables, nothing that a package could have put in the way. Never logs.
 */
#ifndef KERNELSPEC_SCRIPT_H
#define KERNELSPEC_SCRIPT_H

#include <jansson.h>

#include "sandbox/base.h"

/*
 * Runs share/cellwall/SCRIPT with `words` (NULL-terminated, lent); its standard input is `input`
 * (NULL: empty). Returns 0 with the JSON object that it printed (caller decrefs), of at most
 * 64 MiB; -EINVAL with its own words when that is {"error": ...}; or a negative errno.
 */
int script_run(const char *script, const char *const words[], const char *input, json_t **ret_out,
	       struct err *err);

#endif
