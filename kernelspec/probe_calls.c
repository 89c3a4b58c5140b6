#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernelspec/probe.h"
#include "kernelspec/probe_parts.h"
#include "sandbox/base.h"
#include "sandbox/cgroup.h"
#include "sandbox/ruleset.h"

/* ---- system calls ---- */

void probe_seccomp(struct probe_result *result)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {.len = 1, .filter = &allow};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
		probe_failed(result, "seccomp filter",
			     "use a kernel with CONFIG_SECCOMP_FILTER, as Debian's");
	else
		probe_say(result, PROBE_OK, NULL, "filters can be set");
}

void probe_landlock(struct probe_result *result)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (abi > 0)
		probe_say(result, PROBE_OK, NULL, "ABI %ld", abi);
	else
		probe_say(result, PROBE_LIMITED,
			  errno == EOPNOTSUPP
				  ? "boot with lsm=landlock,… on the kernel's command line"
				  : "Linux 5.13 or newer has it",
			  "a second layer, not there: %s", strerrordesc_np(errno));
}

void probe_second_wall(struct probe_result *result)
{
	if (ruleset_abi() >= RULESET_ABI_ALONE)
		probe_say(result, PROBE_OK, NULL,
			  "a policy can ask for it where there are no namespaces: \"wall\": "
			  "\"landlock\"");
	else
		probe_say(result, PROBE_LIMITED, "Linux 6.12 or newer has it",
			  "\"wall\": \"landlock\" needs Landlock ABI %d", RULESET_ABI_ALONE);
}

void probe_calls(struct probe_result *result)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_MAGICLINKS};
	static const char newer[] =
		"Linux 5.12 or newer is needed; a filter that answers ENOSYS (systemd's "
		"RestrictSUIDSGID=, a container's) must let it through";

	if (syscall(SYS_openat2, AT_FDCWD, "/", &how, sizeof(how)) < 0)
		probe_failed(result, "openat2", newer);
	else if (syscall(SYS_close_range, ~0u, ~0u, 0) < 0)
		probe_failed(result, "close_range", newer);
	else if (syscall(SYS_pidfd_open, getpid(), 0) < 0)
		probe_failed(result, "pidfd_open", newer);
	else if (syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLOEXEC) < 0)
		probe_failed(result, "open_tree", newer);
	else if (syscall(SYS_mount_setattr, -1, "", 0, NULL, 0) < 0 &&
		 (errno == ENOSYS || errno == EPERM))
		probe_failed(result, "mount_setattr", newer);
	else if (syscall(SYS_memfd_create, "probe", MFD_CLOEXEC) < 0)
		probe_failed(result, "memfd_create", newer);
	else
		probe_say(result, PROBE_OK, NULL,
			  "openat2 close_range pidfd_open open_tree mount_setattr memfd_create");
}

/* A user namespace that maps 0 to `uid`, held open by a child until its pipe closes. Returns its fd
 * or -errno. */
static int mapped_namespace(uid_t uid)
{
	cleanup(free_ptr) char *line = format_string("0 %u 1\n", uid), *uids = NULL, *gids = NULL,
			       *ns = NULL;
	cleanup(close_fd) int said = -1;
	int ready[2], fd = -EPERM;
	char byte = 'n';
	pid_t pid;

	if (!line || pipe2(ready, O_CLOEXEC) < 0)
		return -errno;
	said = ready[0];
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(PROBE_SECONDS);
		byte = unshare(CLONE_NEWUSER) < 0 ? 'n' : 'y';
		(void)write_full(ready[1], &byte, 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (pid < 0)
		return -errno;
	uids = format_string("/proc/%d/uid_map", pid);
	gids = format_string("/proc/%d/gid_map", pid);
	ns = format_string("/proc/%d/ns/user", pid);
	if (read_full(said, &byte, 1) == 0 && byte == 'y' && uids && gids && ns &&
	    probe_write(uids, line) == 0 && probe_write(gids, line) == 0)
		fd = open(ns, O_RDONLY | O_CLOEXEC);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return fd;
}

void probe_idmap(struct probe_result *result)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY};
	int ns, tree;

	if (geteuid() != 0) {
		probe_say(result, PROBE_OK, NULL, "not needed: this is an ordinary user");
		return;
	}
	ns = mapped_namespace(65533);
	tree = (int)syscall(SYS_open_tree, AT_FDCWD, "/usr", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (ns < 0 || tree < 0) {
		probe_say(result, PROBE_LIMITED, NULL, "cannot be tried here");
		return;
	}
	attr.userns_fd = (unsigned long long)ns;
	if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		probe_say(result, PROBE_LIMITED,
			  "staged files must be readable for others, or run cellwall as an "
			  "ordinary user",
			  "root's private files cannot be staged (%s)", strerrordesc_np(errno));
	else
		probe_say(result, PROBE_OK, NULL, "root's private files can be staged");
}

/* ---- limits ---- */

/* Why there is none is often the one thing to change. */
static const char *cgroup_help(int code)
{
	if (code == -EBUSY)
		return "start the notebook server in a group below: a service with Delegate=yes "
		       "and "
		       "DelegateSubgroup=main (systemd 254), or in a container: mkdir "
		       "/sys/fs/cgroup/main && echo $$ > /sys/fs/cgroup/main/cgroup.procs before "
		       "it";
	if (code == -ENOTSUP)
		return "memory is then held by looking at it: boot with "
		       "systemd.unified_cgroup_hierarchy=1; containers need a private cgroup "
		       "namespace (docker run --cgroupns=private)";
	return "memory is then held by looking at it; for a cgroup start the server with "
	       "systemd-run "
	       "--user --scope -p Delegate=yes jupyter lab, as a service with Delegate=yes, or in "
	       "a "
	       "container whose /sys/fs/cgroup can be written to";
}

void probe_cgroup(struct probe_result *result)
{
	cleanup(free_ptr) char *parent = NULL;
	struct err err = {0};
	const int code = cgroup_find(&parent, &err);

	if (code < 0)
		probe_say(result, PROBE_LIMITED, cgroup_help(code), "%s", err.text);
	else
		probe_say(result, PROBE_OK, NULL, "v2, for whole kernels: below %s", parent);
}

void probe_rlimits(struct probe_result *result)
{
	static const char help[] = "raise it in /etc/security/limits.d or with systemd's Limit*=";
	struct rlimit files, size, tasks;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0 || getrlimit(RLIMIT_FSIZE, &size) < 0 ||
	    getrlimit(RLIMIT_NPROC, &tasks) < 0)
		probe_failed(result, "getrlimit", NULL);
	else if (files.rlim_max < 1024)
		probe_say(result, PROBE_LIMITED, help, "only %llu open files",
			  (unsigned long long)files.rlim_max);
	else if (size.rlim_max != RLIM_INFINITY)
		probe_say(result, PROBE_LIMITED, help, "files end at %llu bytes",
			  (unsigned long long)size.rlim_max);
	else if (tasks.rlim_max < 256)
		probe_say(result, PROBE_LIMITED, help, "only %llu processes",
			  (unsigned long long)tasks.rlim_max);
	else
		probe_say(result, PROBE_OK, NULL, "open files, file size, processes");
}
