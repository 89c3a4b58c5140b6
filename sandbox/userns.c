#include "sandbox/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h> /* capget and clone have no wrapper that fits */
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/build.h"
#include "sandbox/kernel.h"
#include "sandbox/process.h"
#include "sandbox/ruleset.h"
#include "sandbox/status.h"
#include "sandbox/without.h"

/* Ids that no distribution, container tool or directory service hands out: above systemd's
 * container range (0x6FFFFFFF), below what the kernel treats as negative. A random slot of two
 * each. */
#define PAIR_FIRST 0x70000000u
#define PAIR_SLOTS 0x08000000u
/* Where the current user namespace does not reach so far, the top of what it has, without nobody's
 * 65534. */
#define PAIR_SPAN  4096u
#define PAIR_SPARE 16u

#define EXTENTS_MAX 340 /* user_namespaces(7) */

struct extent {
	uint64_t first, count;
};

static uint64_t capability(unsigned number)
{
	return UINT64_C(1) << number;
}

static uint64_t effective_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {0};

	if (syscall(SYS_capget, &header, sets) < 0)
		return 0;
	return sets[0].effective | (uint64_t)sets[1].effective << 32;
}

/* The ids that exist in this user namespace. Returns how many extents, or a negative errno. */
static int read_map(const char *path, struct extent extents[EXTENTS_MAX], struct err *err)
{
	FILE *file = fopen(path, "re");
	int count = 0;
	uint64_t outside;

	if (!file)
		return err_errno(err, "cannot open %s", path);
	while (count < EXTENTS_MAX &&
	       fscanf(file, "%" SCNu64 " %" SCNu64 " %" SCNu64, &extents[count].first, &outside,
		      &extents[count].count) == 3)
		count++;
	(void)fclose(file);
	return count;
}

static bool covered(const struct extent *extents, int count, uint64_t first, uint64_t size)
{
	for (int i = 0; i < count; i++) {
		if (first >= extents[i].first &&
		    first + size <= extents[i].first + extents[i].count)
			return true;
	}
	return false;
}

/* H for which H and H+1 exist both as uid and as gid. Returns 0, or -ERANGE when there is no such
 * pair. */
static int choose_pair(const struct extent *uids, int uid_count, const struct extent *gids,
		       int gid_count, uid_t *ret_first, struct err *err)
{
	uint32_t number;
	uint64_t first, span;
	int r = random_bytes(&number, sizeof(number));

	if (r < 0)
		return err_set(err, r, "cannot get random bytes");
	first = PAIR_FIRST + 2 * (uint64_t)(number % PAIR_SLOTS);
	if (covered(uids, uid_count, first, 2) && covered(gids, gid_count, first, 2)) {
		*ret_first = (uid_t)first;
		return 0;
	}
	for (int i = uid_count - 1; i >= 0; i--) {
		span = uids[i].count / 2 < PAIR_SPAN ? uids[i].count / 2 : PAIR_SPAN;
		if (span < 2 * PAIR_SPARE)
			continue;
		first = uids[i].first + uids[i].count - span +
			2 * (number % ((span - PAIR_SPARE) / 2));
		if (first + 2 < UINT32_MAX && covered(gids, gid_count, first, 2)) {
			*ret_first = (uid_t)first;
			return 0;
		}
	}
	return -ERANGE;
}

int userns_choose(struct identity *ret_identity, struct err *err)
{
	const uint64_t needed =
		capability(CAP_SETUID) | capability(CAP_SETGID) | capability(CAP_CHOWN);
	struct extent uids[EXTENTS_MAX], gids[EXTENTS_MAX];
	uint64_t held = effective_capabilities();
	struct identity identity = {.host_uid = geteuid(), .host_gid = getegid()};
	int uid_count = read_map("/proc/self/uid_map", uids, err);
	int gid_count = uid_count < 0 ? -1 : read_map("/proc/self/gid_map", gids, err);
	uid_t first = 0;

	if (uid_count < 0 || gid_count < 0)
		return err->code;
	if (geteuid() == 0 && (held & needed) == needed &&
	    choose_pair(uids, uid_count, gids, gid_count, &first, err) == 0) {
		identity.pair = true;
		identity.host_uid = first;
		identity.host_gid = first;
		identity.inside = 1;
		identity.detached = held & capability(CAP_SYS_ADMIN);
	} else if (geteuid() == 0 && covered(uids, uid_count, 0, UINT32_MAX)) {
		/* Root of the whole machine, but unable to become somebody else. */
		return err_set(err, -EPERM,
			       "running as root without CAP_SETUID, CAP_SETGID and CAP_CHOWN: the "
			       "kernel would own "
			       "what root owns; start it as an ordinary user");
	}
	*ret_identity = identity;
	return 0;
}

uid_t userns_kernel_uid(const struct identity *identity)
{
	return identity->host_uid + identity->inside;
}

gid_t userns_kernel_gid(const struct identity *identity)
{
	return identity->host_gid + identity->inside;
}

/* One write(2): the files of user_namespaces(7) take their content in one piece, once. */
static int write_once(int proc, pid_t pid, const char *name, const char *text, struct err *err)
{
	char path[64];
	cleanup(close_fd) int fd = -1;

	(void)snprintf(path, sizeof(path), "%s%d/%s", proc == AT_FDCWD ? "/proc/" : "", (int)pid,
		       name);
	fd = openat(proc, path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return err_errno(err, "cannot write \"%s\" to %s", text, path);
	return 0;
}

/* `proc`: a descriptor of /proc, or AT_FDCWD for the one that is mounted there. */
static int write_map(int proc, pid_t pid, const char *name, uint64_t inside, uint64_t outside,
		     uint64_t count, struct err *err)
{
	char text[64];

	(void)snprintf(text, sizeof(text), "%" PRIu64 " %" PRIu64 " %" PRIu64, inside, outside,
		       count);
	return write_once(proc, pid, name, text, err);
}

/* Without CAP_SETGID gid_map is refused until setgroups is: a group can also forbid
 * (CVE-2014-8989). */
static int deny_setgroups(int proc, pid_t pid, struct err *err)
{
	return write_once(proc, pid, "setgroups", "deny", err);
}

int userns_write_maps(const struct identity *identity, pid_t pid, struct err *err)
{
	uint64_t count = identity->pair ? 2 : 1;

	if (deny_setgroups(AT_FDCWD, pid, err) < 0 ||
	    write_map(AT_FDCWD, pid, "uid_map", 0, identity->host_uid, count, err) < 0 ||
	    write_map(AT_FDCWD, pid, "gid_map", 0, identity->host_gid, count, err) < 0) {
		int code = err->code;

		userns_hint(err, code);
		return code;
	}
	return 0;
}

/* The supervisor answers "map" when the maps are written: until then this process is nobody. */
static int wait_for_maps(struct build *build, struct err *err)
{
	struct status answer;
	int r = status_receive(build->sync, &answer, err);

	if (r < 0)
		return r;
	/* End of file: the supervisor could not write them and has said why. */
	if (r == 0 || strcmp(answer.word, "mapped") != 0)
		return err_set(err, -ECANCELED, "the id maps were not written");
	return 0;
}

static int become(uid_t id, struct err *err)
{
	if (setresgid(id, id, id) < 0 || setresuid(id, id, id) < 0)
		return err_errno(err, "cannot become uid %u of the namespace", (unsigned)id);
	return 0;
}

/* But the network, see network.h. */
static int unshare_rest(struct err *err)
{
	static const struct {
		int flag;
		const char *name;
	} kinds[] = {
		{CLONE_NEWNS, "mount"},
		{CLONE_NEWIPC, "ipc"},
		{CLONE_NEWUTS, "uts"},
		{CLONE_NEWCGROUP, "cgroup"},
	};
	int flags = 0;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		flags |= without(kinds[i].name) ? 0 : kinds[i].flag;
	if (unshare(flags) == 0)
		return 0;
	/* Once more, one by one, so that the message names the one that is refused. */
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (unshare(kinds[i].flag) < 0) {
			int code = err_errno(err, "cannot make a %s namespace", kinds[i].name);

			userns_hint(err, code);
			return code;
		}
	}
	return 0;
}

int userns_enter(struct build *build, struct err *err)
{
	/* The server's groups could read what the kernel must not; as an ordinary user they cannot
	 * be given up. */
	if (build->identity.pair && setgroups(0, NULL) < 0)
		return err_errno(err, "cannot give up the supplementary groups");
	/* The files in /proc/PID that take the maps belong to root while a process is not dumpable.
	 */
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
		return err_errno(err, "cannot become dumpable");
	if (unshare(CLONE_NEWUSER) < 0) {
		int code = err_errno(err, "cannot make a user namespace");

		userns_hint(err, code);
		return code;
	}
	/* The others need the capabilities alone, which are there: while the maps are written. */
	if (status_send(build->sync, err, "map", NULL) < 0 || unshare_rest(err) < 0)
		return err->code;
	return wait_for_maps(build, err);
}

int userns_become(struct build *build, struct err *err)
{
	if (become(0, err) < 0)
		return err->code;
	/* From here on all of the sandbox' own processes: nobody may trace them (CVE-2016-8659). */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_errno(err, "cannot become undumpable");
	/* The change of uid has cleared the death signal, prctl(2). */
	return process_protect(build->lifeline, SIGKILL, err);
}

int userns_settle(struct build *build, struct err *err)
{
	if (become(build->identity.inside, err) < 0)
		return err->code;
	/* A change of uid resets both. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_errno(err, "cannot become undumpable");
	return process_protect(build->lifeline, SIGKILL, err);
}

int userns_nest(struct build *build, struct err *err)
{
	/* The tests leave the read-only /proc out. */
	const int proc = build->maps >= 0 ? build->maps : AT_FDCWD;
	int r;

	/* Its own /proc files must be its own while it writes its maps; execve would do the same
	 * soon after. */
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
		return err_errno(err, "cannot become dumpable");
	r = unshare(CLONE_NEWUSER) < 0 ? -errno : 0;
	/* While the host's root still lies on top of the new one this process is one in a chroot
	 * for the system, which then refuses (current_chrooted() of its source). */
	if (r == -EPERM) {
		if (kernel_wait(build, err) < 0)
			return err->code;
		r = unshare(CLONE_NEWUSER) < 0 ? -errno : 0;
	}
	if (r < 0)
		return err_set(err, r, "cannot make the inner user namespace: %s",
			       strerrordesc_np(-r));
	if (deny_setgroups(proc, getpid(), err) < 0 ||
	    write_map(proc, getpid(), "uid_map", INSIDE_UID, build->identity.inside, 1, err) < 0 ||
	    write_map(proc, getpid(), "gid_map", INSIDE_UID, build->identity.inside, 1, err) < 0)
		return err->code;
	close_fd(&build->maps);
	if (become(INSIDE_UID, err) < 0)
		return err->code;
	return process_protect(build->lifeline, SIGKILL, err);
}

/* The child that keeps the namespace alive until its descriptor is open: waits for the end of its
 * pipe. */
_Noreturn static void hold_namespace(int ready, int end)
{
	char byte = 0;

	if (unshare(CLONE_NEWUSER) < 0)
		_exit(errno & 0x7f);
	(void)write_full(ready, &byte, 1);
	(void)read_full(end, &byte, 1);
	_exit(0);
}

static int open_namespace(const struct identity *identity, pid_t pid, uid_t uid, gid_t gid,
			  struct err *err)
{
	/* An empty map is refused: a group that was made up for this kernel owns nothing. */
	gid_t kernels = userns_kernel_gid(identity), from = gid == (gid_t)-1 ? kernels : gid;
	char path[64];
	int fd;

	if (write_map(AT_FDCWD, pid, "uid_map", uid, userns_kernel_uid(identity), 1, err) < 0 ||
	    write_map(AT_FDCWD, pid, "gid_map", from, kernels, 1, err) < 0)
		return err->code;
	(void)snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, "cannot open %s", path);
	return fd;
}

int userns_idmap(const struct identity *identity, uid_t uid, gid_t gid, struct err *err)
{
	cleanup(close_fd) int ready_read = -1, ready_write = -1, end_read = -1, end_write = -1;
	int ready[2], end[2], fd;
	char byte;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return err_errno(err, "cannot make a pipe");
	ready_read = ready[0];
	ready_write = ready[1];
	if (pipe2(end, O_CLOEXEC) < 0)
		return err_errno(err, "cannot make a pipe");
	end_read = end[0];
	end_write = end[1];
	pid = fork();
	if (pid < 0)
		return err_errno(err, "cannot fork");
	if (pid == 0) {
		close_fd(&end_write); /* or it would never see the end */
		close_fd(&ready_read);
		hold_namespace(ready_write, end_read);
	}
	close_fd(&ready_write);
	if (read_full(ready_read, &byte, 1) < 0)
		fd = err_set(err, -EPERM, "cannot make a user namespace for an idmapped mount");
	else
		fd = open_namespace(identity, pid, uid, gid, err);
	close_fd(&end_write);
	(void)waitpid(pid, NULL, 0);
	return fd;
}

/* The first number in a file of /proc/sys, or `otherwise`. */
static uint64_t setting(const char *path, uint64_t otherwise)
{
	cleanup(free_ptr) char *text = NULL;
	uint64_t value = otherwise;

	if (read_file(AT_FDCWD, path, 64, &text, NULL, NULL) < 0)
		return otherwise;
	text[strcspn(text, " \t\n")] = '\0';
	(void)parse_u64(text, UINT64_MAX, &value);
	return value;
}

/* True when a system call filter was put on us, as container engines do. */
static bool filtered(void)
{
	cleanup(free_ptr) char *text = NULL;
	const char *line;

	if (read_file(AT_FDCWD, "/proc/self/status", 65536, &text, NULL, NULL) < 0)
		return false;
	line = strstr(text, "\nSeccomp:");
	return line && line[strlen("\nSeccomp:\t")] == '2';
}

#define FILTER_HINT                                                                                \
	"a seccomp filter is in force (\"Seccomp: 2\" in /proc/self/status), as container "        \
	"engines "                                                                                 \
	"set it: the container needs a profile that allows unshare, clone and mount"

static const char *filter_hint(void)
{
	return ruleset_abi() < RULESET_ABI_ALONE ? FILTER_HINT
						 : FILTER_HINT
		       ", or the policy the other wall: \"wall\": \"landlock\"";
}

static void append_hint(struct err *err, int code, const char *hint)
{
	char said[sizeof(err->text)];

	memcpy(said, err->text, sizeof(said));
	(void)err_set(err, code, "%s (%s)", said, hint);
}

void userns_hint(struct err *err, int code)
{
	const char *hint = NULL;

	if (code == -ENOSPC)
		hint = "this is not about disk space: user.max_user_namespaces, or "
		       "user.max_net_namespaces and its like for the other kinds, is used up or 0 "
		       "(see sysctl), or namespaces are nested too deep";
	else if ((code == -EPERM || code == -EACCES) &&
		 setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", 0) == 1 &&
		 geteuid() != 0)
		hint = "AppArmor (kernel.apparmor_restrict_unprivileged_userns=1) takes the rights "
		       "in a user namespace away from programs without a profile: `cellwall "
		       "doctor` prints the command that installs ours";
	else if (code == -EPERM && setting("/proc/sys/kernel/unprivileged_userns_clone", 1) == 0)
		hint = "sysctl kernel.unprivileged_userns_clone is 0: set it to 1";
	else if (code == -EPERM && filtered())
		hint = filter_hint();
	else if (code == -EPERM)
		hint = "inside a chroot user namespaces are refused; so they are by some security "
		       "modules";
	else if (code == -EACCES)
		hint = "a security module (AppArmor, SELinux) refuses it: its log names the rule";
	else if (code == -EINVAL || code == -ENOSYS)
		hint = "this system was built without this kind of namespace";
	if (hint)
		append_hint(err, code, hint);
}

void userns_explain(struct err *err, int code)
{
	size_t length = strlen(err->text);

	if (length > 0 && err->text[length - 1] == ')')
		return; /* explained where it happened */
	if (code == -ENOSYS)
		append_hint(err, code,
			    "Linux 5.12 or newer is needed; or a filter, as container engines and "
			    "systemd set it, answers as an older one would");
	else if (code == -EPERM && filtered())
		append_hint(err, code, filter_hint());
}
