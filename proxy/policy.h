/*
 * policy: the policy file, what a kernel may see, use and let out.
 *
 * Strict JSON (jansson, JSON_REJECT_DUPLICATES): an unknown key, a wrong type or a value out of
 * range is one line "FILE:LINE:COLUMN: what, and what to do". An empty object is the default
 * policy. A list in the file replaces the default list (env.keep). A size is a number of bytes or
 * digits with K, M, G or T. The table of keys, with their bounds, is in policy.c; the user's page
 * is kernelspec/share/doc/policy.md. Never logs.
 *
 *   { "stage":     { "in": ["data", "big=/abs/path", { "path": "keys.csv", "required": true }],
 *                    "may_add": ["."], "out_limit": "2G", "out_files": 10000,
 *                    "out_names": ["conftest.py"], "caches": ["huggingface"],
 *                    "history": "folder", "startup": ["startup.py"] },
 *     "python":    "/opt/venvs/course",
 *     "install":   "deny",
 *     "env":       { "keep": ["LANG", "TZ"], "set": { "OMP_NUM_THREADS": "2" } },
 *     "resources": { "memory": "4G", "cpus": 2, "pids": 1024, "open_files": 1024, "tmp": "1G",
 *                    "disk": "20G", "idle_timeout": "2h", "enforce": "best" },
 *     "audit":     { "content": false, "messages": false, "required": false, "keep": "256M" },
 *     "outputs":   { "mode": "static", "autolink": "defang", "mime": [], "extra_types": [],
 *                    "comm_targets": ["jupyter.widget"] },
 *     "build":     { "allow": true, "hosts": ["pypi.org"], "size": "64G", "time": "3h" } }
 */
#ifndef PROXY_POLICY_H
#define PROXY_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/audit.h"
#include "proxy/content.h"
#include "proxy/install.h"
#include "sandbox/base.h"

#define POLICY_FILE_MAX (256 * 1024)

struct policy_input {
	char *path; /* absolute, or relative to the notebook's folder */
	char *name; /* below /work */
	bool required;
};

struct policy {
	/* Ended by one without a path. Both texts are without "..", empty and "." steps are
	 * removed, and no two have the same name. */
	struct policy_input *stage_in;
	/* NULL-terminated: what `cellwall stage add` may add, "." (the notebook's folder) or
	 * absolute trees. */
	char **may_add;
	uint64_t out_limit;
	uint64_t out_files;
	char **out_names; /* NULL-terminated names that are brought out although tools run them */
	char **caches;	  /* NULL-terminated, of policy_caches */
	bool history;	  /* kept by folder */
	/* NULL-terminated files that IPython runs at its start, absolute or relative to the folder,
	 * ending with .py or .ipy */
	char **startup;
	/* An interpreter's prefix to show read-only besides the kernel's own, or NULL. */
	char *python;
	char **env_keep;       /* NULL-terminated names taken from the server's environment */
	char **env_set;	       /* NULL-terminated "NAME=VALUE" */
	uint64_t memory;       /* bytes, or 1 to 100 for a share of the machine's; 0: no limit */
	uint64_t cpus;	       /* thousandths of a processor; 0: all */
	uint64_t disk;	       /* bytes in /work at a time; 0: no limit */
	uint64_t idle_timeout; /* seconds; 0: never */
	bool landlock;	       /* the wall without namespaces */
	bool cgroup_only;      /* nothing but a cgroup may hold the limits */
	uint64_t pids;
	uint64_t open_files;
	uint64_t tmp;		      /* bytes of each of /tmp, /dev/shm and the home */
	struct install_rules install; /* which packages a cell may ask for */
	struct audit_rules audit;
	struct outputs_rules outputs;
	bool build; /* environments may be built */
	/* NULL-terminated: of the hosts of pip's configuration these alone, NAME or NAME:PORT;
	 * NULL: all of them. */
	char **build_hosts;
	uint64_t build_size; /* bytes that a build fetches, and that it makes */
	uint64_t build_time; /* seconds; 0: no limit */
};

/* The words of stage.caches, NULL-terminated. */
extern const char *const policy_caches[];

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
