#include "sandbox/rlimit.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/build.h"

#define RELAY_DATA (UINT64_C(2) << 30)

/* Soft and hard; where the hard limit that was inherited is lower, that one stays. */
static int set(__rlimit_resource_t resource, const char *name, uint64_t value, struct err *err)
{
	struct rlimit limit;

	if (getrlimit(resource, &limit) < 0)
		return err_errno(err, "cannot read %s", name);
	if (limit.rlim_max > value)
		limit.rlim_max = value;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(resource, &limit) < 0)
		return err_errno(err, "cannot set %s to %" PRIu64, name, value);
	return 0;
}

/* Threads of this uid on the whole system, as far as /proc shows them. */
static uint64_t users_own_tasks(void)
{
	DIR *proc = opendir("/proc");
	uint64_t count = 0;
	struct dirent *entry;
	struct stat status;

	while (proc && (entry = readdir(proc))) {
		char path[300];

		(void)snprintf(path, sizeof(path), "/proc/%s/task", entry->d_name);
		/* A directory's links are what is in it and two more. */
		if (stat(path, &status) == 0 && status.st_uid == geteuid() && status.st_nlink > 2)
			count += status.st_nlink - 2;
	}
	if (proc)
		(void)closedir(proc);
	return count;
}

int rlimit_open_files(struct err *err)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return err_errno(err, "cannot read RLIMIT_NOFILE");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return err_errno(err, "cannot raise RLIMIT_NOFILE");
	return 0;
}

int rlimit_kernel(struct build *build, struct err *err)
{
	const struct spec *spec = build->spec;
	const struct {
		__rlimit_resource_t resource;
		const char *name;
		uint64_t value;
	} limits[] = {
		/* No core file: core_pattern may pipe it to a program on the host. */
		{RLIMIT_CORE, "RLIMIT_CORE", 0},
		/* Counted per user namespace and uid since Linux 5.14; bounds a fork bomb. Without
		   a user namespace everything of the user's counts. */
		{RLIMIT_NPROC, "RLIMIT_NPROC",
		 spec->pids + (spec->landlock ? users_own_tasks() : 0)},
		{RLIMIT_NOFILE, "RLIMIT_NOFILE", spec->open_files},
		/* The largest file that the collector would take; caps memfd_create(2) too. */
		{RLIMIT_FSIZE, "RLIMIT_FSIZE", spec->out_bytes},
		/* Real-time and nice are the host's affair. */
		{RLIMIT_RTPRIO, "RLIMIT_RTPRIO", 0},
		{RLIMIT_NICE, "RLIMIT_NICE", 0},
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		if (set(limits[i].resource, limits[i].name, limits[i].value, err) < 0)
			return err->code;
	}
	/* What one process can write to: more than all may use together is an error at once. */
	if (spec->data > 0)
		return set(RLIMIT_DATA, "RLIMIT_DATA", spec->data, err);
	return 0;
}

int rlimit_relay(struct err *err)
{
#ifdef CELLWALL_SANITIZE
	/* AddressSanitizer's shadow alone is terabytes of private writable mapping. */
	(void)err;
	return 0;
#else
	return set(RLIMIT_DATA, "RLIMIT_DATA", RELAY_DATA, err);
#endif
}
