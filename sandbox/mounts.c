#include "sandbox/mounts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h> /* ST_RDONLY */
#include <sys/syscall.h> /* openat2 has no wrapper */
#include <sys/vfs.h>
#include <unistd.h>

#include "sandbox/build.h"
#include "sandbox/etc.h"
#include "sandbox/sources.h"
#include "sandbox/without.h"

/*
 * Theory of operation
 *
 * The new root is a tmpfs, attached on top of "/" of the new mount namespace, which needs no
 * directory of the host's; this process' root directory stays below it until pid 1 changes it.
 * Every mount is first made detached (fsopen(2), open_tree(2)), then attached to a place that was
 * opened below the new root by openat2(2) with RESOLVE_IN_ROOT. Places are created in our own tmpfs
 * mounts only, never below a bind: what looks like a directory there may be a link that somebody
 * planted (CVE-2024-42472, CVE-2026-87766).
 */

enum place_kind {
	PLACE_DIRECTORY,
	PLACE_TMPFS,   /* of the spec's tmp_bytes */
	PLACE_SOCKETS, /* small, nothing in it can be executed; the relay gets a copy */
	PLACE_PTS,
	PLACE_LINK,   /* to `to` */
	PLACE_HOST,   /* like the host: the same link, or a read-only bind */
	PLACE_DEVICE, /* the host's device node */
};

static const struct place {
	const char *target;
	enum place_kind kind;
	unsigned mode;
	bool kernels; /* belongs to the kernel's uid */
	const char *to;
} places[] = {
	/* programs and libraries of the distribution; links on merged-/usr systems, directories
	   elsewhere */
	{"/usr", PLACE_HOST, 0, false, NULL},
	{"/bin", PLACE_HOST, 0, false, NULL},
	{"/sbin", PLACE_HOST, 0, false, NULL},
	{"/lib", PLACE_HOST, 0, false, NULL},
	{"/lib32", PLACE_HOST, 0, false, NULL},
	{"/lib64", PLACE_HOST, 0, false, NULL},
	{"/libx32", PLACE_HOST, 0, false, NULL},
	/* filled by etc.c */
	{"/etc", PLACE_DIRECTORY, 0755, false, NULL},
	/* mounted by pid 1, whose pid namespace it shows */
	{"/proc", PLACE_DIRECTORY, 0555, false, NULL},
	{"/tmp", PLACE_TMPFS, 01777, false, NULL},
	/* an empty home, so that ~/.cache and ~/.config of libraries have a place and end with the
	   kernel */
	{"/home", PLACE_DIRECTORY, 0755, false, NULL},
	{INSIDE_HOME, PLACE_TMPFS, 0700, true, NULL},
	{"/dev", PLACE_DIRECTORY, 0755, false, NULL},
	{"/dev/null", PLACE_DEVICE, 0, false, NULL},
	{"/dev/zero", PLACE_DEVICE, 0, false, NULL},
	{"/dev/full", PLACE_DEVICE, 0, false, NULL},
	{"/dev/random", PLACE_DEVICE, 0, false, NULL},
	{"/dev/urandom", PLACE_DEVICE, 0, false, NULL},
	/* the controlling terminal of whoever opens it: one of the private devpts, or none */
	{"/dev/tty", PLACE_DEVICE, 0, false, NULL},
	/* multiprocessing's semaphores and shared memory; without it they fail */
	{"/dev/shm", PLACE_TMPFS, 01777, false, NULL},
	/* "!ls" in a cell runs on a pseudo terminal */
	{"/dev/pts", PLACE_PTS, 0755, false, NULL},
	{"/dev/ptmx", PLACE_LINK, 0, false, "pts/ptmx"},
	{"/dev/fd", PLACE_LINK, 0, false, "/proc/self/fd"},
	{"/dev/stdin", PLACE_LINK, 0, false, "/proc/self/fd/0"},
	{"/dev/stdout", PLACE_LINK, 0, false, "/proc/self/fd/1"},
	{"/dev/stderr", PLACE_LINK, 0, false, "/proc/self/fd/2"},
	/* df, and libraries that look for mount points */
	{"/etc/mtab", PLACE_LINK, 0, false, "/proc/self/mounts"},
	/* the kernel's ZeroMQ sockets and its connection file, which it writes anew under the same
	   name */
	{INSIDE_SOCKETS, PLACE_SOCKETS, 0755, true, NULL},
	{INSIDE_WORK, PLACE_DIRECTORY, 0755, false, NULL},
};

#define PLACE_COUNT (sizeof(places) / sizeof(places[0]))

/* Directories, links and the files of /etc that are built. */
#define ROOT_SIZE "4m"
/* Five sockets, the connection file, what a kernel puts there besides. */
#define SOCKETS_SIZE   "1m"
#define SOCKETS_INODES "256"
/* An inode of a tmpfs takes about 1 KB of memory that its size does not count. */
#define BYTES_PER_INODE 16384
#define TMP_LEAST	(UINT64_C(1) << 20)
#define INODES_LEAST	1024

int mounts_private(struct build *build, struct err *err)
{
	(void)build;
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		int code = err_errno(err, "cannot make the mounts private");

		userns_hint(err, code);
		return code;
	}
	return 0;
}

int mounts_openat2(int directory, const char *path, int flags, uint64_t resolve)
{
	const struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.resolve = resolve | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	do
		fd = syscall(SYS_openat2, directory, path, &how, sizeof(how));
	while (fd < 0 && (errno == EAGAIN || errno == EINTR)); /* a rename raced with a ".." */
	return fd < 0 ? -errno : (int)fd;
}

int mounts_open(int root, const char *path, int flags)
{
	return mounts_openat2(root, path, flags, RESOLVE_IN_ROOT);
}

static int configure(int context, const char *type, const char *const *options)
{
	/* What df and /proc/mounts call it. */
	if (fsconfig(context, FSCONFIG_SET_STRING, "source", type, 0) < 0)
		return -errno;
	for (; options && *options; options++) {
		const char *value = strchr(*options, '=');
		cleanup(free_ptr) char *key = strndup(*options, strcspn(*options, "="));

		if (!key)
			return -ENOMEM;
		if (fsconfig(context, value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG, key,
			     value ? value + 1 : NULL, 0) < 0)
			return -errno;
	}
	return fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0 ? -errno : 0;
}

int mounts_new(const char *type, const char *const *options, unsigned attributes, struct err *err)
{
	cleanup(close_fd) int context = fsopen(type, FSOPEN_CLOEXEC);
	int mount, r;

	if (context < 0)
		return err_errno(err, "cannot open a file system of type %s", type);
	r = configure(context, type, options);
	if (r < 0)
		return err_set(err, r, "cannot make a file system of type %s: %s", type,
			       strerrordesc_np(-r));
	mount = fsmount(context, FSMOUNT_CLOEXEC, attributes);
	if (mount < 0)
		return err_errno(err, "cannot make a mount of type %s", type);
	return mount;
}

int mounts_attach(int mount, int place, struct err *err)
{
	if (move_mount(mount, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return err_errno(err, "cannot attach a mount");
	return 0;
}

/* The text of a link that can be made again inside because what it names is visible there. Returns
 * its length or 0. */
static size_t portable_link(const char *path, char *text, size_t size)
{
	static const char *const visible[] = {"/usr/", "usr/", "../usr/", "../../usr/",
					      "/etc/alternatives/"};
	ssize_t length = readlink(path, text, size - 1);

	if (length <= 0)
		return 0;
	text[length] = '\0';
	for (size_t i = 0; i < sizeof(visible) / sizeof(visible[0]); i++) {
		if (strncmp(text, visible[i], strlen(visible[i])) == 0)
			return (size_t)length;
	}
	return 0;
}

/* Reports the host path of one name; a link that is made again is none. */
static int one_path(const char *path, mounts_host_fn *found, void *arg)
{
	char text[256];

	errno = 0;
	if (portable_link(path, text, sizeof(text)) > 0 || errno == ENOENT)
		return 0;
	return found(arg, false, path);
}

static bool is_pattern(const struct etc_entry *entry)
{
	return !entry->text && strchr(entry->path, '*');
}

/* One name in /etc: reported when a pattern of the list means it. */
static int try_patterns(const char *name, mounts_host_fn *found, void *arg)
{
	for (const struct etc_entry *entry = etc_list(); entry->path; entry++) {
		char *path;

		if (!is_pattern(entry) ||
		    fnmatch(entry->path + strlen("/etc/"), name, FNM_PERIOD) != 0)
			continue;
		/* Lives as long as this short-lived process. */
		path = format_string("/etc/%s", name);
		return path ? found(arg, false, path) : -ENOMEM;
	}
	return 0;
}

/* The patterns of etc.c's list: what in /etc itself has such a name, read once for all of them. */
static int each_match(mounts_host_fn *found, void *arg)
{
	DIR *directory = opendir("/etc");
	const struct dirent *entry;
	int r = 0;

	while (directory && r >= 0 && (entry = readdir(directory)))
		r = try_patterns(entry->d_name, found, arg);
	if (directory)
		(void)closedir(directory);
	return r;
}

/* What a sandbox for tests that is to hide nothing shows besides. */
static int each_hidden(mounts_host_fn *found, void *arg)
{
	static const char *const hidden[] = {"/boot", "/media", "/mnt", "/root",
					     "/run",  "/srv",	"/sys", "/var"};
	int r = 0;

	for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]) && r >= 0; i++)
		r = found(arg, false, hidden[i]);
	return r;
}

int mounts_each_host_path(mounts_host_fn *found, void *arg)
{
	int r = without("hidden-files") ? each_hidden(found, arg) : 0;

	for (size_t i = 0; i < PLACE_COUNT && r >= 0; i++) {
		if (places[i].kind == PLACE_HOST)
			r = one_path(places[i].target, found, arg);
		else if (places[i].kind == PLACE_DEVICE)
			r = found(arg, true, places[i].target);
	}
	for (const struct etc_entry *entry = etc_list(); entry->path && r >= 0; entry++) {
		if (!entry->text && !is_pattern(entry))
			r = one_path(entry->path, found, arg);
	}
	return r < 0 ? r : each_match(found, arg);
}

/* New files may be made in our own tmpfs mounts, which nobody but us has written to. */
static bool is_ours(int directory)
{
	struct statfs status;

	return fstatfs(directory, &status) == 0 && status.f_type == TMPFS_MAGIC &&
	       !(status.f_flags & ST_RDONLY);
}

/* The new one belongs to whom the directory belongs: what leads to a bind in the kernel's home is
 * the kernel's. */
static int make_place(int parent, const char *name, bool directory)
{
	struct stat status;
	int r;

	if (!is_ours(parent))
		return -EROFS;
	if (directory)
		r = mkdirat(parent, name, 0755);
	else
		r = mknodat(parent, name, S_IFREG | 0444, 0);
	if (r < 0 || fstat(parent, &status) < 0 ||
	    fchownat(parent, name, status.st_uid, status.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return 0;
}

/* `path` is that of `name` in `parent`. */
static int make_and_open(int root, int parent, const char *path, const char *name, bool directory)
{
	int r = make_place(parent, name, directory);

	return r < 0 ? r : mounts_open(root, path, O_PATH | (directory ? 0 : O_NOFOLLOW));
}

/* A directory of which some part is not there yet. Changes `path` and restores it. */
static int make_directories_in(int root, char *path)
{
	cleanup(close_fd) int parent = mounts_open(root, "/", O_PATH | O_DIRECTORY);

	for (char *name = path + 1, *end; parent >= 0 && *name; name = end) {
		char kept;
		int fd;

		end = name + strcspn(name, "/");
		kept = *end;
		*end = '\0';
		fd = mounts_open(root, path, O_PATH | O_DIRECTORY);
		if (fd == -ENOENT)
			fd = make_and_open(root, parent, path, name, true);
		*end = kept;
		end += strspn(end, "/");
		if (fd < 0)
			return fd;
		close_fd(&parent);
		parent = fd;
	}
	return steal_fd(&parent);
}

int mounts_place(int root, const char *target, bool directory)
{
	char path[PATH_MAX], *last;
	size_t length = strlen(target);
	cleanup(close_fd) int parent = -1;
	int fd;

	if (target[0] != '/' || length < 2 || length >= sizeof(path))
		return -EINVAL;
	fd = mounts_open(root, target, O_PATH | (directory ? O_DIRECTORY : 0));
	if (fd != -ENOENT)
		return fd;
	memcpy(path, target, length + 1);
	while (length > 1 && path[length - 1] == '/')
		path[--length] = '\0';
	/* Most have a directory already. */
	last = strrchr(path, '/');
	*last = '\0';
	parent = mounts_open(root, last == path ? "/" : path, O_PATH | O_DIRECTORY);
	if (parent == -ENOENT)
		parent = make_directories_in(root, path);
	*last = '/';
	return parent < 0 ? parent : make_and_open(root, parent, path, last + 1, directory);
}

static int new_tmpfs(const struct build *build, const struct place *place, struct err *err)
{
	/* 0 would be no limit, tmpfs(5). */
	uint64_t bytes = build->spec->tmp_bytes > TMP_LEAST ? build->spec->tmp_bytes : TMP_LEAST;
	bool sockets = place->kind == PLACE_SOCKETS;
	char size[40], inodes[40], mode[24], uid[24], gid[24];
	const char *const options[] = {size, inodes, mode, uid, gid, NULL};
	unsigned attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
	unsigned owner = place->kernels ? (unsigned)build->identity.inside : 0;

	if (sockets) {
		(void)snprintf(size, sizeof(size), "size=%s", SOCKETS_SIZE);
		(void)snprintf(inodes, sizeof(inodes), "nr_inodes=%s", SOCKETS_INODES);
		attributes |= MOUNT_ATTR_NOEXEC;
	} else {
		(void)snprintf(size, sizeof(size), "size=%" PRIu64, bytes);
		(void)snprintf(inodes, sizeof(inodes), "nr_inodes=%" PRIu64,
			       bytes / BYTES_PER_INODE + INODES_LEAST);
	}
	(void)snprintf(mode, sizeof(mode), "mode=%o", place->mode);
	(void)snprintf(uid, sizeof(uid), "uid=%u", owner);
	(void)snprintf(gid, sizeof(gid), "gid=%u", owner);
	return mounts_new("tmpfs", options, attributes, err);
}

static int new_pts(struct err *err)
{
	/* ptmx for everybody; a slave belongs to whoever opened its master. */
	static const char *const options[] = {"newinstance", "ptmxmode=0666", "mode=0620", NULL};

	return mounts_new("devpts", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, err);
}

static int attach_new(struct build *build, const struct place *place, struct err *err)
{
	cleanup(close_fd) int mount =
		place->kind == PLACE_PTS ? new_pts(err) : new_tmpfs(build, place, err);
	cleanup(close_fd) int at = -1;

	if (mount < 0)
		return mount;
	at = mounts_place(build->root, place->target, true);
	if (at < 0)
		return err_set(err, at, "cannot make it: %s", strerrordesc_np(-at));
	if (mounts_attach(mount, at, err) < 0)
		return err->code;
	if (place->kind != PLACE_SOCKETS)
		return 0;
	build->sockets = open_tree(mount, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
	if (build->sockets < 0)
		return err_errno(err, "cannot copy its mount for the relay");
	return 0;
}

static int make_link(int root, const char *to, const char *path)
{
	return symlinkat(to, root, path + 1) < 0 && errno != EEXIST ? -errno : 0;
}

static int make(struct build *build, const struct place *place, struct err *err)
{
	const char *name = place->target + 1;
	char text[256];
	int r = 0;

	switch (place->kind) {
	case PLACE_DIRECTORY:
		r = mkdirat(build->root, name, place->mode) < 0 ? -errno : 0;
		break;
	case PLACE_TMPFS:
	case PLACE_PTS:
		return attach_new(build, place, err);
	case PLACE_LINK:
		r = make_link(build->root, place->to, place->target);
		break;
	case PLACE_HOST:
		if (portable_link(place->target, text, sizeof(text)) > 0)
			r = make_link(build->root, text, place->target);
		break;
	case PLACE_DEVICE:  /* one of the sources */
	case PLACE_SOCKETS: /* there already */
		break;
	}
	return r < 0 ? err_set(err, r, "cannot make it: %s", strerrordesc_np(-r)) : 0;
}

static int make_places(struct build *build, struct err *err)
{
	for (size_t i = 0; i < PLACE_COUNT; i++) {
		if (make(build, &places[i], err) < 0)
			return err_wrap(err, "%s", places[i].target);
	}
	return 0;
}

/* Links of etc.c's list; its patterns name directories. */
static int make_etc_links(struct build *build, struct err *err)
{
	char text[256];

	for (const struct etc_entry *entry = etc_list(); entry->path; entry++) {
		cleanup(free_ptr) char *parent = NULL;
		cleanup(close_fd) int made = -1;
		int r;

		if (entry->text || portable_link(entry->path, text, sizeof(text)) == 0)
			continue;
		parent = strndup(entry->path, (size_t)(strrchr(entry->path, '/') - entry->path));
		if (!parent)
			return err_set(err, -ENOMEM, "out of memory");
		made = mounts_place(build->root, parent, true);
		r = made < 0 ? made : make_link(build->root, text, entry->path);
		if (r < 0)
			return err_set(err, r, "cannot make %s: %s", entry->path,
				       strerrordesc_np(-r));
	}
	return 0;
}

/* Places that hold the sandbox together; something else on top of them would break it in strange
 * ways. */
static bool reserved(const char *target)
{
	static const char *const kept[] = {"/",		"/proc", "/dev", INSIDE_SOCKETS,
					   INSIDE_WORK, "/sys",	 "/run"};

	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		if (strcmp(target, kept[i]) == 0)
			return true;
	}
	return strncmp(target, "/proc/", 6) == 0 || strncmp(target, "/dev/", 5) == 0 ||
	       strncmp(target, INSIDE_SOCKETS "/", sizeof(INSIDE_SOCKETS)) == 0;
}

/* A server of files asks who somebody is and knows no capabilities (nfs(5)); what is below /work is
 * the kernel's. */
static int place_as_kernel(const struct build *build, const struct source *source)
{
	int at;

	(void)setfsuid((uid_t)build->identity.inside);
	at = mounts_place(build->root, source->target, source->directory);
	(void)setfsuid(0);
	return at;
}

static int attach_source(struct build *build, struct source *source, struct err *err)
{
	cleanup(close_fd) int at = -1;

	if (source->kind == SOURCE_GIVEN && reserved(source->target))
		return err_set(err, -EINVAL, "cannot bind %s at %s: that place is taken",
			       source->path, source->target);
	at = mounts_place(build->root, source->target, source->directory);
	if (at == -EACCES && build->identity.pair)
		at = place_as_kernel(build, source);
	if (at == -EROFS)
		return err_set(err, at,
			       "cannot bind %s at %s: it does not exist in the read-only tree that "
			       "is mounted above it",
			       source->path, source->target);
	if (at < 0)
		return err_set(err, at, "cannot bind %s at %s: %s", source->path, source->target,
			       strerrordesc_np(-at));
	if (mounts_attach(source->fd, at, err) < 0)
		return err_wrap(err, "cannot bind %s at %s", source->path, source->target);
	close_fd(&source->fd);
	return 0;
}

/* The kernel's own from the start: ipykernel writes its connection file anew under the same name.
 */
static int write_connection(struct build *build, struct err *err)
{
	const char *text = build->spec->connection, *name = &INSIDE_CONNECTION[1];

	if (write_new_file(build->root, name, 0600, text, strlen(text), err) < 0)
		return err->code;
	if (fchownat(build->root, name, build->identity.inside, build->identity.inside,
		     AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, "cannot give %s to the kernel", INSIDE_CONNECTION);
	return 0;
}

static int new_root(struct build *build, struct err *err)
{
	static const char *const options[] = {"size=" ROOT_SIZE, "mode=0755", NULL};
	int mount = mounts_new("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);

	if (mount < 0)
		return mount;
	build->root = mount;
	if (move_mount(mount, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return err_errno(err, "cannot attach the new root");
	return 0;
}

/* The relay takes its copy from here, and starts while the rest is made. */
int mounts_root(struct build *build, struct err *err)
{
	(void)umask(0);
	if (new_root(build, err) < 0)
		return err->code;
	for (size_t i = 0; i < PLACE_COUNT; i++) {
		if (places[i].kind == PLACE_SOCKETS && attach_new(build, &places[i], err) < 0)
			return err_wrap(err, "%s", places[i].target);
	}
	return 0;
}

/* Of a build: what is added to a sealed environment finds that at its own place. */
static bool shows_environment(const struct spec *spec)
{
	for (size_t i = 0; i < spec->bind_count; i++)
		if (strcmp(spec->binds[i].target, INSIDE_ENVIRONMENT) == 0)
			return true;
	return false;
}

int mounts_build(struct build *build, struct err *err)
{
	if (make_places(build, err) < 0 || etc_build(build->root, err) < 0 ||
	    make_etc_links(build, err) < 0)
		return err->code;
	if (build->spec->egress > 0 && !shows_environment(build->spec) &&
	    make_link(build->root, INSIDE_BUILD "/env", INSIDE_ENVIRONMENT) < 0)
		return err_errno(err, "cannot make %s", INSIDE_ENVIRONMENT);
	for (size_t i = 0; i < build->source_count; i++) {
		struct source *source = &build->sources[i];

		if (source->fd >= 0 && source->kind < SOURCE_LOWER &&
		    attach_source(build, source, err) < 0)
			return err->code;
	}
	return write_connection(build, err);
}
