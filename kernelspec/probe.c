#include "kernelspec/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernelspec/files.h"
#include "kernelspec/probe_parts.h"
#include "sandbox/base.h"

#define SCRATCH "/tmp" /* covered by a tmpfs of the probe's own mount namespace */

void probe_say(struct probe_result *result, enum probe_state state, const char *help,
	       const char *format, ...)
{
	va_list args;

	result->state = state;
	snprintf(result->help, sizeof(result->help), "%s", help ? help : "");
	va_start(args, format);
	(void)vsnprintf(result->detail, sizeof(result->detail), format, args);
	va_end(args);
}

/* "missing: CALL: EPERM" */
void probe_failed(struct probe_result *result, const char *call, const char *help)
{
	const char *name = strerrorname_np(errno);

	probe_say(result, PROBE_MISSING, help, "%s: %s (%s)", call, name ? name : "?",
		  strerrordesc_np(errno));
}

/* The first line of a small file of the kernel's; "" when it is not there. */
const char *probe_line(const char *path, char *out, size_t size)
{
	cleanup(free_ptr) char *text = NULL;

	out[0] = '\0';
	if (read_file(AT_FDCWD, path, PROBE_FILE_MAX, &text, NULL, NULL) == 0) {
		text[strcspn(text, "\n")] = '\0';
		escape_string(out, size, text);
	}
	return out;
}

static bool is_line(const char *path, const char *value)
{
	char line[64];

	return strcmp(probe_line(path, line, sizeof(line)), value) == 0;
}

int probe_write(const char *path, const char *text)
{
	cleanup(close_fd) int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -errno : write_full(fd, text, strlen(text));
}

/* ---- user namespaces ---- */

#define APPARMOR "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"

/* The profile is installed with cellwall, for the place that it was installed to. */
static const char *apparmor_help(void)
{
	static char help[sizeof(((struct probe_result *)NULL)->help)];
	cleanup(free_ptr) char *profile = NULL;

	if (files_share("apparmor/cellwall", &profile, NULL) < 0)
		return "install cellwall completely: it comes with an AppArmor profile that allows "
		       "them";
	snprintf(help, sizeof(help),
		 "AppArmor gives user namespaces to programs with a profile: sudo cp %s "
		 "/etc/apparmor.d/cellwall && sudo apparmor_parser -r /etc/apparmor.d/cellwall",
		 profile);
	return help;
}

/* Under a seccomp filter already: a container (proc_pid_status(5)). */
static bool in_container_filter(void)
{
	cleanup(free_ptr) char *text = NULL;

	return read_file(AT_FDCWD, "/proc/self/status", PROBE_FILE_MAX, &text, NULL, NULL) == 0 &&
	       strstr(text, "\nSeccomp:\t2");
}

/* user_namespaces(7), ERRORS of unshare(2): what each number means for this call. */
static const char *userns_help(int error)
{
	if (error == ENOSPC)
		return "this is not about disk space: sudo sysctl -w "
		       "user.max_user_namespaces=15000";
	if (error == EUSERS)
		return "too many nested user namespaces: run cellwall less deep inside containers";
	if (error == ENOSYS || error == EINVAL)
		return "the running kernel has no user namespaces: boot one with CONFIG_USER_NS=y "
		       "(Debian's has it)";
	if (is_line("/proc/sys/kernel/unprivileged_userns_clone", "0"))
		return "sudo sysctl -w kernel.unprivileged_userns_clone=1";
	if (in_container_filter())
		return "a container's seccomp filter refuses it: docker run --security-opt "
		       "seccomp=unconfined "
		       "--security-opt systempaths=unconfined … (Kubernetes: hostUsers: false, "
		       "procMount: Unmasked)";
	return "refused by a security module, or the root directory is a chroot (unshare(2)): run "
	       "cellwall outside it";
}

/* Maps our own uid and gid to 0 in the user namespace that we have just entered. */
static int write_maps(uid_t uid, gid_t gid)
{
	cleanup(free_ptr) char *uids = format_string("0 %u 1\n", uid),
			       *gids = format_string("0 %u 1\n", gid);
	int code;

	if (!uids || !gids)
		return -ENOMEM;
	/* The order is user_namespaces(7)'s: an unprivileged gid_map needs setgroups denied
	 * (CVE-2014-8989). */
	code = probe_write("/proc/self/uid_map", uids);
	if (code == 0)
		code = probe_write("/proc/self/setgroups", "deny");
	return code == 0 ? probe_write("/proc/self/gid_map", gids) : code;
}

/* Enters a user namespace and then `flags`. Returns false with the result filled in. */
static bool enter(struct probe_result *result, int flags)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int code;

	if (unshare(CLONE_NEWUSER) < 0) {
		probe_failed(result, "unshare(CLONE_NEWUSER)", NULL);
		return false;
	}
	code = write_maps(uid, gid);
	if (code == 0 && flags && unshare(flags) < 0)
		code = -errno;
	if (code < 0) {
		errno = -code;
		probe_failed(result, flags ? "namespaces" : "uid map", NULL);
		return false;
	}
	return true;
}

/* A mount namespace of our own, with an empty tmpfs on SCRATCH. */
static bool enter_mounts(struct probe_result *result, int flags)
{
	if (!enter(result, CLONE_NEWNS | flags))
		return false;
	if (mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0) {
		probe_failed(result, "private mounts", NULL);
		return false;
	}
	if (mount("probe", SCRATCH, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k") < 0) {
		probe_failed(result, "tmpfs", NULL);
		return false;
	}
	return true;
}

static void probe_userns(struct probe_result *result)
{
	if (unshare(CLONE_NEWUSER) < 0)
		probe_failed(result, "unshare(CLONE_NEWUSER)", userns_help(errno));
	else
		probe_say(result, PROBE_OK, NULL, "can be made");
}

static void probe_maps(struct probe_result *result)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int code;

	if (unshare(CLONE_NEWUSER) < 0) {
		probe_failed(result, "unshare(CLONE_NEWUSER)", NULL);
		return;
	}
	code = write_maps(uid, gid);
	if (code == 0) {
		probe_say(result, PROBE_OK, NULL, "uid %u is uid 0 inside", uid);
		return;
	}
	errno = -code;
	probe_failed(result, "write uid_map",
		     is_line(APPARMOR, "1") ? apparmor_help() : "a security module refuses it");
}

static void probe_apparmor(struct probe_result *result)
{
	char line[64], clone[64], most[64];

	probe_line(APPARMOR, line, sizeof(line));
	probe_line("/proc/sys/kernel/unprivileged_userns_clone", clone, sizeof(clone));
	probe_line("/proc/sys/user/max_user_namespaces", most, sizeof(most));
	if (strcmp(line, "1") == 0 && geteuid() != 0)
		probe_say(result, PROBE_LIMITED, apparmor_help(),
			  "kernel.apparmor_restrict_unprivileged_userns=1: without a profile the "
			  "next lines fail");
	else
		probe_say(result, PROBE_OK, NULL,
			  "apparmor_restrict_unprivileged_userns=%s unprivileged_userns_clone=%s "
			  "max_user_namespaces=%s",
			  *line ? line : "-", *clone ? clone : "-", *most ? most : "-");
}

static void probe_namespaces(struct probe_result *result)
{
	static const struct {
		int flag;
		const char *name;
	} kinds[] = {{CLONE_NEWNS, "mount"}, {CLONE_NEWPID, "pid"}, {CLONE_NEWNET, "net"},
		     {CLONE_NEWIPC, "ipc"},  {CLONE_NEWUTS, "uts"}, {CLONE_NEWCGROUP, "cgroup"}};

	if (!enter(result, 0))
		return;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (unshare(kinds[i].flag) == 0)
			continue;
		probe_failed(
			result, kinds[i].name,
			errno == ENOSPC
				? "sudo sysctl -a | grep user.max_ and raise the one that is 0"
				: "use a kernel with all namespaces, as Debian's; in a container "
				  "see user "
				  "namespaces above");
		return;
	}
	probe_say(result, PROBE_OK, NULL, "mount pid net ipc uts cgroup");
}

static void probe_nested(struct probe_result *result)
{
	if (!enter(result, 0))
		return;
	if (unshare(CLONE_NEWUSER) < 0)
		probe_failed(result, "a user namespace inside", userns_help(errno));
	else
		probe_say(result, PROBE_OK, NULL, "the kernel's own, apart from the relay's");
}

/* ---- mounts ---- */

static void probe_private(struct probe_result *result)
{
	if (!enter(result, CLONE_NEWNS))
		return;
	if (mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0)
		probe_failed(result, "mount --make-rprivate /",
			     errno == EACCES ? "AppArmor of a container refuses mount: docker run "
					       "--security-opt "
					       "apparmor=unconfined …"
					     : "see user namespaces above");
	else
		probe_say(result, PROBE_OK, NULL, "kept apart from the host's");
}

static void probe_tmpfs(struct probe_result *result)
{
	if (enter_mounts(result, 0))
		probe_say(result, PROBE_OK, NULL, "with a size limit");
}

/* What covers parts of /proc, as container runtimes do: the kernel then refuses a fresh one. */
static size_t proc_masks(char *out, size_t size)
{
	cleanup(free_ptr) char *text = NULL;
	size_t count = 0, used = 0;
	char *rest, *line;

	out[0] = '\0';
	if (read_file(AT_FDCWD, "/proc/self/mountinfo", PROBE_FILE_MAX * 4, &text, NULL, NULL) < 0)
		return 0;
	rest = text;
	while ((line = strsep(&rest, "\n"))) {
		char *at = strstr(line, " /proc/"); /* the fifth field, proc_pid_mountinfo(5) */
		char *end = at ? strchr(at + 1, ' ') : NULL;

		if (!end)
			continue;
		*end = '\0';
		if (strcmp(at + 1, "/proc/sys/fs/binfmt_misc") == 0 ||
		    strcmp(at + 1, "/proc/fs/nfsd") == 0)
			continue; /* systemd and the NFS server: on empty directories, which is
				     allowed */
		count++;
		if (used + strlen(at) + 1 < size)
			used += (size_t)snprintf(out + used, size - used, "%s", at);
	}
	return count;
}

static void probe_masks(struct probe_result *result)
{
	char list[160];
	size_t count = proc_masks(list, sizeof(list));

	if (count == 0)
		probe_say(result, PROBE_OK, NULL, "/proc is whole");
	else
		probe_say(result, PROBE_LIMITED,
			  "docker run --security-opt systempaths=unconfined … (podman: "
			  "--security-opt unmask=ALL; "
			  "Kubernetes: procMount: Unmasked)",
			  "%zu mounts cover parts of /proc, as in Docker:%s", count, list);
}

static void probe_proc(struct probe_result *result)
{
	int status = 0;
	char list[8];
	pid_t pid;

	if (!enter_mounts(result, CLONE_NEWPID))
		return;
	pid = fork(); /* the first child is in the new pid namespace */
	if (pid == 0) {
		int r = mount("proc", SCRATCH, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);

		_exit(r < 0 ? errno : 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status)) {
		probe_failed(result, "a first process in a pid namespace", NULL);
		return;
	}
	errno = WEXITSTATUS(status);
	if (errno == 0)
		probe_say(result, PROBE_OK, NULL, "with the kernel's own processes only");
	else
		probe_failed(result, "mount proc",
			     proc_masks(list, sizeof(list))
				     ? "this /proc is masked (see the line below for the option)"
				     : "something covers a part of the host's /proc (lxcfs does): "
				       "start cellwall where nothing does");
}

static void probe_devpts(struct probe_result *result)
{
	if (!enter_mounts(result, 0))
		return;
	if (mount("devpts", SCRATCH, "devpts", MS_NOSUID | MS_NOEXEC,
		  "newinstance,ptmxmode=0666,mode=620") < 0)
		probe_failed(result, "mount devpts",
			     "use a kernel with CONFIG_UNIX98_PTYS, as Debian's");
	else
		probe_say(result, PROBE_OK, NULL, "private, for !commands in a cell");
}

static void probe_pivot(struct probe_result *result)
{
	if (!enter_mounts(result, 0))
		return;
	if (chdir(SCRATCH) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		probe_failed(
			result, "pivot_root",
			errno == EINVAL
				? "the root is an initramfs (pivot_root(2)): start from a real root"
				: NULL);
	else if (umount2(".", MNT_DETACH) < 0)
		probe_failed(result, "umount2 of the old root", NULL);
	else
		probe_say(result, PROBE_OK, NULL, "the host's files go out of sight");
}

static void probe_lo(struct probe_result *result)
{
	struct ifreq request = {.ifr_name = "lo"};
	int fd;

	if (!enter(result, CLONE_NEWNET))
		return;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		probe_failed(result, "lo up",
			     is_line(APPARMOR, "1") ? apparmor_help()
						    : "see user namespaces above");
	else
		probe_say(result, PROBE_OK, NULL, "lo and nothing else");
}

static void probe_release(struct probe_result *result)
{
	struct utsname name;

	if (uname(&name) < 0)
		probe_failed(result, "uname", NULL);
	else
		probe_say(result, PROBE_OK, NULL, "Linux %s, %s, uid %u", name.release,
			  name.machine, geteuid());
}

const struct probe probe_host[] = {
	{"system", false, probe_release},
	{"user namespaces", true, probe_userns},
	{"their settings", false, probe_apparmor},
	{"uid and gid maps", true, probe_maps},
	{"other namespaces", true, probe_namespaces},
	{"nested user ns", true, probe_nested},
	{"private mounts", true, probe_private},
	{"tmpfs", true, probe_tmpfs},
	{"fresh /proc", true, probe_proc},
	{"masks on /proc", false, probe_masks},
	{"devpts", true, probe_devpts},
	{"lo", true, probe_lo},
	{"pivot_root", true, probe_pivot},
	{"seccomp", true, probe_seccomp},
	{"Landlock", false, probe_landlock},
	{"second wall", false, probe_second_wall},
	{"cgroup", false, probe_cgroup},
	{"rlimits", false, probe_rlimits},
	{"system calls", true, probe_calls},
	{"idmapped mounts", false, probe_idmap},
};
const size_t probe_host_count = sizeof(probe_host) / sizeof(probe_host[0]);

void probe_run(const struct probe *probe, struct probe_result *ret_result)
{
	struct probe_result result = {.state = PROBE_MISSING};
	int channel[2], status;
	pid_t pid;

	snprintf(ret_result->detail, sizeof(ret_result->detail), "the probe did not answer");
	ret_result->state = PROBE_MISSING;
	ret_result->help[0] = '\0';
	if (pipe2(channel, O_CLOEXEC) < 0)
		return;
	(void)fflush(NULL);
	pid = fork();
	if (pid == 0) {
		alarm(PROBE_SECONDS);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		probe->run(&result);
		_exit(write_full(channel[1], &result, sizeof(result)) < 0 ? 1 : 0);
	}
	close(channel[1]);
	if (pid > 0 && read_full(channel[0], &result, sizeof(result)) == 0)
		*ret_result = result;
	close(channel[0]);
	if (pid > 0)
		waitpid(pid, &status, 0);
}
