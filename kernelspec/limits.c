#include "kernelspec/limits.h"

#include "proxy/resource_setting.h"
#include "sandbox/cgroup.h"

/* /tmp, /dev/shm and the home get so little of the memory limit that one part more remains. */
#define MEMORY_MOUNTS 4

void limits_fill(struct spec *spec, const struct policy *policy)
{
	spec->out_bytes = policy->out_limit;
	spec->out_files = policy->out_files;
	spec->tmp_bytes = policy->tmp;
	spec->cpus = policy->cpus;
	spec->disk = policy->disk;
	spec->cgroup_only = policy->cgroup_only;
	/* A share is there for the machine; a size is also what one process can ask for. */
	if (policy->memory <= RESOURCE_SHARE_MAX)
		spec->memory = cgroup_machine_memory() / 100 * policy->memory;
	else
		spec->memory = spec->data = policy->memory;
	/* What lives in memory is an error when it is full, before the kernel would have to end. */
	if (spec->memory > 0 && spec->tmp_bytes > spec->memory / MEMORY_MOUNTS)
		spec->tmp_bytes = spec->memory / MEMORY_MOUNTS;
	spec->pids = policy->pids;
	spec->open_files = policy->open_files;
	spec->landlock = policy->landlock;
}
