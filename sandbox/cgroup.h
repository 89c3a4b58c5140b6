/*
 * cgroup: a control group of the sandbox's own, where the host lets us have one (cgroups(7),
 * Documentation/admin-guide/cgroup-v2.rst).
 *
 * Version 2 alone, with the controllers memory and pids. A group with processes in it can have no
 * children with controllers, and the notebook server's group is not ours to empty: the new group is
 * made below the nearest group above our own that we may write to and in which that rule is kept.
 * Nothing is moved but our own child. Directories "cellwall-XXXXXXXX" are locked by their maker
 * (flock(2)); what nobody locks was left by a killed one and is removed by the next. Never logs.
 */
#ifndef SANDBOX_CGROUP_H
#define SANDBOX_CGROUP_H

#include "sandbox/base.h"

#define CGROUP_NONE UINT64_MAX /* "max" in these files: no limit */

struct cgroup_limits {
	uint64_t memory; /* bytes; 0: none */
	uint64_t pids;
	uint64_t cpus; /* thousandths of a processor; 0: none */
};

struct cgroup {
	int parent, directory; /* -1: none */
	bool cpus;	       /* cpu.max was wanted and set */
	char name[32];
};

/* Host directory of a group that ours can be made in (caller frees). Changes nothing. Returns 0, or
 * a negative errno and why there is none. */
int cgroup_find(char **ret_parent, struct err *err);
/* The same for the group in which this process is said to be ("/user.slice/…"), below `top`. */
int cgroup_find_below(const char *top, const char *own, char **ret_parent, struct err *err);

/* Makes a group with these limits below `parent`, after it has removed what killed ones left there.
 * Returns 0 or a negative errno. */
int cgroup_make(const char *parent, const struct cgroup_limits *limits, struct cgroup *ret_cgroup,
		struct err *err);
/* Kills what is in it and removes it: waits at most a second for the dying. */
void cgroup_remove(struct cgroup *cgroup);
/* Removes abandoned groups of ours below `parent`. */
void cgroup_sweep(int parent);

/*
 * A number in a file of a group: of the line that begins with `key`, or of the whole file (`key`
 * NULL). "max" is CGROUP_NONE. Returns 0 or a negative errno.
 */
int cgroup_number(int directory, const char *file, const char *key, uint64_t *ret_value);
int cgroup_parse(const char *text, const char *key, uint64_t *ret_value);

/* Bytes of memory that this process could use at the most: the machine's, or what its own groups
 * leave it. */
uint64_t cgroup_machine_memory(void);

#endif
