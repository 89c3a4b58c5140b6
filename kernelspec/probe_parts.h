/*
 * probe_parts: what the two files with probes share. Namespaces and mounts are in probe.c, system
 * calls and limits in probe_calls.c.
 */
#ifndef KERNELSPEC_PROBE_PARTS_H
#define KERNELSPEC_PROBE_PARTS_H

#include <stddef.h>

#include "kernelspec/probe.h"

#define PROBE_SECONDS  5	    /* a probe that takes longer hangs */
#define PROBE_FILE_MAX (256 * 1024) /* of a file in /proc or /sys that is read */

/* "CALL: EPERM (…)" with the errno of the moment, PROBE_MISSING. */
void probe_failed(struct probe_result *result, const char *call, const char *help);
/* The first line of a small file, safe to print; "" when it is not there. Returns `out`. */
const char *probe_line(const char *path, char *out, size_t size);
/* Writes `text` into an existing file. Returns 0 or a negative errno. */
int probe_write(const char *path, const char *text);

void probe_seccomp(struct probe_result *result);
void probe_landlock(struct probe_result *result);
void probe_second_wall(struct probe_result *result);
void probe_calls(struct probe_result *result);
void probe_idmap(struct probe_result *result);
void probe_cgroup(struct probe_result *result);
void probe_rlimits(struct probe_result *result);

#endif
