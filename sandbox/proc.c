#include "sandbox/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "sandbox/build.h"
#include "sandbox/mounts.h"

/*
 * Container engines mask most of these; each tells of the host or acts on it. A name that does not
 * exist on this system is skipped. Files become an empty /dev/null, directories an empty read-only
 * one. All the rest is read-only: sysctls, interrupt routing, triggers of pressure, a process' own
 * place in the queue of those that go when memory runs out.
 */
static const char *const masks[] = {
	/* memory and symbols of the running system */
	"kcore",
	"kallsyms",
	"kpagecount",
	"kpageflags",
	"kpagecgroup",
	"iomem",
	"ioports",
	"modules",
	"slabinfo",
	"vmallocinfo",
	"pagetypeinfo",
	/* keys of other users, and how many there are */
	"keys",
	"key-users",
	/* what the host is doing, fine enough to watch its users type */
	"interrupts",
	"softirqs",
	"timer_list",
	"timer_stats",
	"sched_debug",
	"schedstat",
	"latency_stats",
	"lock_stat",
	"locks",
	/* how it is built and booted; the command line may carry secrets */
	"cmdline",
	"config.gz",
	"bootconfig",
	"diskstats",
	"partitions",
	"mdstat",
	"swaps",
	"devices",
	"misc",
	"dma",
	"fb",
	"mtrr",
	"acpi",
	"asound",
	"driver",
	"scsi",
	"tty",
	"dynamic_debug",
	/* reboots the host; its log */
	"sysrq-trigger",
	"kmsg",
};

int proc_mount(struct build *build, struct err *err)
{
	cleanup(close_fd) int mount = mounts_new(
		"proc", NULL, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, err);
	cleanup(close_fd) int place = -1;

	if (mount == -EPERM)
		/* mount_too_revealing() of the kernel: a fresh /proc would show what was covered
		 * here. */
		return err_set(err, -EPERM,
			       "cannot mount /proc: this system covers parts of its own /proc, as "
			       "container engines "
			       "do; the container needs an unmasked /proc (Docker and Podman: "
			       "--security-opt "
			       "systempaths=unconfined or unmask=/proc/*; Kubernetes: procMount: "
			       "Unmasked)");
	if (mount < 0)
		return mount;
	place = mounts_open(build->root, "/proc", O_PATH | O_DIRECTORY);
	if (place < 0)
		return err_set(err, place, "cannot open the place of /proc");
	if (mounts_attach(mount, place, err) < 0)
		return err_wrap(err, "/proc");
	build->proc = steal_fd(&mount);
	return 0;
}

static int copy_mount(int fd, unsigned recursive, struct err *err)
{
	int copy =
		open_tree(fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | recursive);

	return copy < 0 ? err_errno(err, "cannot copy a mount") : copy;
}

/* Each directory gets an empty one of its own: a mount that is not attached cannot be copied on
 * older systems. */
static int cover(int entry, bool directory, int null, struct err *err)
{
	static const char *const options[] = {"size=4k", "nr_inodes=2", "mode=0555", NULL};
	const unsigned attributes =
		MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
	cleanup(close_fd) int mount = directory ? mounts_new("tmpfs", options, attributes, err)
						: copy_mount(null, 0, err);

	return mount < 0 ? mount : mounts_attach(mount, entry, err);
}

/* What a file is covered with: checked, because a look-alike would be bound over /proc in its place
 * (CVE-2025-31133).
 */
static int open_null(int root, struct err *err)
{
	int fd = mounts_open(root, "/dev/null", O_PATH);
	struct stat status;

	if (fd < 0)
		return err_set(err, fd, "cannot open /dev/null inside");
	if (fstat(fd, &status) < 0 || !S_ISCHR(status.st_mode) || status.st_rdev != makedev(1, 3)) {
		close_fd(&fd);
		return err_set(err, -ENODEV, "/dev/null inside is something else");
	}
	return fd;
}

static int apply(int proc, const char *name, int null, struct err *err)
{
	cleanup(close_fd) int entry =
		mounts_openat2(proc, name, O_PATH, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	struct stat status;

	if (entry == -ENOENT)
		return 0;
	if (entry < 0)
		return err_set(err, entry, "cannot open it: %s", strerrordesc_np(-entry));
	if (fstat(entry, &status) < 0)
		return err_errno(err, "cannot look at it");
	return cover(entry, S_ISDIR(status.st_mode), null, err);
}

int proc_mask(struct build *build, struct err *err)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
	cleanup(close_fd) int null = open_null(build->root, err);

	if (null < 0)
		return null;
	build->maps = copy_mount(build->proc, 0, err);
	if (build->maps < 0)
		return build->maps;
	if (mount_setattr(build->proc, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return err_errno(err, "cannot make /proc read-only");
	for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		if (apply(build->proc, masks[i], null, err) < 0)
			return err_wrap(err, "/proc/%s", masks[i]);
	}
	return 0;
}
