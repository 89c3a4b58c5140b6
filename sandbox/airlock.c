#include "sandbox/airlock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h> /* pivot_root has no wrapper */
#include <unistd.h>

#include "sandbox/caps.h"
#include "sandbox/process.h"
#include "sandbox/relay_list.h"
#include "sandbox/ruleset.h"
#include "sandbox/spec.h"

/*
 * Theory of operation
 *
 * The relay is where a parser faces the kernel first, so it is built to be worthless to whoever
 * takes it over: its root is a read-only tmpfs with one directory in it, the socket tmpfs, where
 * nothing can be executed, no device can be opened and no symbolic link is followed. It cannot
 * start a program, map code, or open a socket of another family, and it sees no process but itself.
 */

/* Two directories; the rest is slack of the file system. */
#define ROOT_SIZE   "16k"
#define ROOT_INODES "4"

/* Three standard streams, what it was started with, five sockets. */
#define OPEN_FILES 16

#define QUIET_MOUNT (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

static int step_dumpable(struct airlock *airlock, struct err *err)
{
	(void)airlock;
	/* No ptrace(2), no /proc/PID/mem for anybody of the same uid; also no core file. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_errno(err, "cannot become undumpable");
	return 0;
}

static int step_signals(struct airlock *airlock, struct err *err)
{
	(void)airlock;
	(void)err;
	process_reset_signals();
	return 0;
}

static int step_lifeline(struct airlock *airlock, struct err *err)
{
	return process_protect(airlock->lifeline, SIGKILL, err);
}

static int step_private(struct airlock *airlock, struct err *err)
{
	struct mount_attr attr = {.propagation = MS_PRIVATE};

	(void)airlock;
	/* Nothing mounted here shows elsewhere, and nothing mounted elsewhere shows here. */
	if (mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return err_errno(err, "cannot make the mounts private");
	return 0;
}

/* A new tmpfs that is not attached anywhere yet (fsopen(2), fsmount(2)). */
static int new_root(struct err *err)
{
	cleanup(close_fd) int context = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int root;

	if (context < 0)
		return err_errno(err, "cannot open a tmpfs");
	if (fsconfig(context, FSCONFIG_SET_STRING, "size", ROOT_SIZE, 0) < 0 ||
	    fsconfig(context, FSCONFIG_SET_STRING, "nr_inodes", ROOT_INODES, 0) < 0 ||
	    fsconfig(context, FSCONFIG_SET_STRING, "mode", "0555", 0) < 0 ||
	    fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return err_errno(err, "cannot configure a tmpfs");
	root = fsmount(context, FSMOUNT_CLOEXEC, QUIET_MOUNT);
	if (root < 0)
		return err_errno(err, "cannot make a tmpfs");
	return root;
}

/*
 * Attaches the tmpfs on top of "/", which needs no directory of the host's, and works in it as the
 * current directory; "/" itself stays the host's root until step_pivot.
 */
static int step_root(struct airlock *airlock, struct err *err)
{
	cleanup(close_fd) int root = new_root(err);

	(void)airlock;
	if (root < 0)
		return root;
	if (move_mount(root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_errno(err, "cannot attach the root");
	if (fchdir(root) < 0)
		return err_errno(err, "cannot change to the root");
	if (mkdir(&RELAY_SOCKETS[1], 0555) < 0)
		return err_errno(err, "cannot make %s", RELAY_SOCKETS);
	return 0;
}

/* No symbolic link is followed below this mount where the system knows how to (Linux 5.14). */
static int quiet_mount(int mount, struct err *err)
{
	struct mount_attr attr = {.attr_set = QUIET_MOUNT | MOUNT_ATTR_NOSYMFOLLOW};

	if (mount_setattr(mount, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0)
		return 0;
	attr.attr_set = QUIET_MOUNT;
	if (mount_setattr(mount, "", AT_EMPTY_PATH, &attr, sizeof(attr)) == 0)
		return 0;
	return err_errno(err, "cannot restrict the socket directory");
}

static int step_sockets(struct airlock *airlock, struct err *err)
{
	cleanup(close_fd) int given = steal_fd(&airlock->sockets);
	cleanup(close_fd) int copy = -1;
	int mount = given;
	int r;

	/* A directory of a mount that is attached in this namespace can be copied; a detached mount
	 * needs no copy, and most kernels refuse to make one. */
	copy = open_tree(given, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (copy >= 0)
		mount = copy;
	r = quiet_mount(mount, err);
	if (r < 0)
		return r;
	if (move_mount(mount, "", AT_FDCWD, &RELAY_SOCKETS[1], MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_errno(err, "cannot attach the socket directory");
	return 0;
}

static int step_pivot(struct airlock *airlock, struct err *err)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};

	(void)airlock;
	if (mount_setattr(AT_FDCWD, ".", 0, &attr, sizeof(attr)) < 0)
		return err_errno(err, "cannot make the root read-only");
	/* pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one. */
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return err_errno(err, "cannot change the root");
	if (umount2(".", MNT_DETACH) < 0)
		return err_errno(err, "cannot detach the old root");
	if (chdir(RELAY_SOCKETS) < 0)
		return err_errno(err, "cannot change to the sockets");
	return 0;
}

/*
 * The kernel's sockets are writable for their owner alone, and as root its uid is not ours: for
 * files, and for nothing else, this process takes that uid. It would be the capability to override
 * permissions otherwise. The change clears the death signal, prctl(2).
 */
static int step_owner(struct airlock *airlock, struct err *err)
{
	struct stat status;

	if (stat(RELAY_SOCKETS, &status) < 0)
		return err_errno(err, "cannot look at %s", RELAY_SOCKETS);
	(void)setfsgid(status.st_gid);
	(void)setfsuid(status.st_uid);
	/* Neither reports a failure: ask what they are now, setfsuid(2). */
	if ((gid_t)setfsgid((gid_t)-1) != status.st_gid ||
	    (uid_t)setfsuid((uid_t)-1) != status.st_uid)
		return err_set(err, -EPERM, "cannot take the uid of the kernel for files");
	return process_protect(airlock->lifeline, SIGKILL, err);
}

static int step_capabilities(struct airlock *airlock, struct err *err)
{
	(void)airlock;
	return caps_drop_all(err);
}

/*
 * RLIMIT_DATA stays as it was inherited (rlimit_relay). It is the bound of last resort; what does
 * not fit into it is dropped with a count.
 */
static int step_limits(struct airlock *airlock, struct err *err)
{
	const struct rlimit core = {0, 0};
	const struct rlimit files = {OPEN_FILES, OPEN_FILES};

	(void)airlock;
	if (setrlimit(RLIMIT_CORE, &core) < 0 || setrlimit(RLIMIT_NOFILE, &files) < 0)
		return err_errno(err, "cannot set limits");
	return 0;
}

/* Where there is no root of its own: no file opens but below the directory of sockets. */
static int step_files(struct airlock *airlock, struct err *err)
{
	cleanup(close_fd) int given = steal_fd(&airlock->sockets);
	cleanup(close_fd) int ruleset = -1;

	if (fchdir(given) < 0)
		return err_errno(err, "cannot change to the directory of sockets");
	ruleset = ruleset_new(true, RULESET_ABSTRACT | RULESET_SIGNALS, err);
	if (ruleset < 0)
		return ruleset;
	if (ruleset_allow(ruleset, ".", RULESET_CONNECT, err) < 0)
		return err->code;
	return ruleset_enter(ruleset, err);
}

static int step_filter(struct airlock *airlock, struct err *err)
{
	(void)airlock;
	return airlock_filter(err);
}

enum { NAMESPACES = 1, LANDLOCK = 2, BOTH = NAMESPACES | LANDLOCK };

static const struct {
	const char *name;
	unsigned walls;
	int (*run)(struct airlock *airlock, struct err *err);
} steps[] = {
	{"dumpable", BOTH, step_dumpable}, {"signals", BOTH, step_signals},
	{"lifeline", BOTH, step_lifeline}, {"private mounts", NAMESPACES, step_private},
	{"root", NAMESPACES, step_root},   {"sockets", NAMESPACES, step_sockets},
	{"pivot", NAMESPACES, step_pivot}, {"owner", NAMESPACES, step_owner},
	{"files", LANDLOCK, step_files},   {"capabilities", BOTH, step_capabilities},
	{"limits", BOTH, step_limits},	   {"filter", BOTH, step_filter},
};

int airlock_enter(struct airlock *airlock, struct err *err)
{
	const unsigned wall = airlock->plain ? LANDLOCK : NAMESPACES;

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		if (steps[i].walls & wall && steps[i].run(airlock, err) < 0)
			return err_wrap(err, "%s", steps[i].name);
	}
	return 0;
}

int airlock_filter(struct err *err)
{
	/* seccomp(2) only reads it. */
	union {
		const struct sock_filter *constant;
		struct sock_filter *plain;
	} view = {.constant = relay_list};
	const struct sock_fprog program = {sizeof(relay_list) / sizeof(relay_list[0]), view.plain};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(err, "cannot set no_new_privs");
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
		return err_errno(err, "cannot load the filter");
	return 0;
}
