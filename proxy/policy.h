/*
 * policy: the policy file, what a kernel may see, use and let out.
 *
 * Strict JSON (jansson, JSON_REJECT_DUPLICATES): an unknown key, a wrong type or a value out of
 * range is one line "FILE:LINE:COLUMN: what, and what to do". An empty object is the default
 * policy. A list in the file replaces the default list (env.keep). A size is a number of bytes or
 * digits with K, M, G or T. The table of keys, with their bounds, is in policy.c; the user's page
 * is kernelspec/share/doc/policy.md. Never logs.
 *
 *   { "stage":     { "in": ["data", "/abs/path"], "out_limit": "2G", "out_files": 10000 },
 *     "python":    "/opt/venvs/course",
 *     "env":       { "keep": ["LANG", "TZ"], "set": { "OMP_NUM_THREADS": "2" } },
 *     "resources": { "memory": "4G", "pids": 1024, "open_files": 1024, "tmp": "1G" } }
 */
#ifndef PROXY_POLICY_H
#define PROXY_POLICY_H

#include <stdint.h>

#include "sandbox/base.h"

#define POLICY_FILE_MAX (256 * 1024)

struct policy {
	/* NULL-terminated; each absolute, or relative to the notebook's folder and without "..".
	 * Empty and "." steps are removed, and no two have the same place in /work. */
	char **stage_in;
	uint64_t out_limit;
	uint64_t out_files;
	/* An interpreter's prefix to show read-only besides the kernel's own, or NULL. */
	char *python;
	char **env_keep; /* NULL-terminated names taken from the server's environment */
	char **env_set;	 /* NULL-terminated "NAME=VALUE" */
	uint64_t memory; /* bytes; 0: no limit */
	uint64_t pids;
	uint64_t open_files;
	uint64_t tmp; /* bytes of each of /tmp, /dev/shm and the home */
};

/* The defaults. Returns 0 or -ENOMEM. */
int policy_default(struct policy *ret_policy);
/* Defaults overlaid with the file. Returns 0 or a negative errno. */
int policy_read(const char *path, struct policy *ret_policy, struct err *err);
int policy_parse(const char *name, const char *text, size_t size, struct policy *ret_policy,
		 struct err *err);
void policy_done(struct policy *policy);
/* The effective policy as indented JSON that policy_parse takes again (caller frees). NULL: no
 * memory. */
char *policy_show(const struct policy *policy);

#endif
