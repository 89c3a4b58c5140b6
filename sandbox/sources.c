#include "sandbox/sources.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/build.h"
#include "sandbox/mounts.h"
#include "sandbox/replica.h"
#include "sandbox/tree.h"

/* Bounds a table in the tree and a few hundred paths of a spec. */
#define SOURCES_MAX 4096
/* Owners for which an id-mapping user namespace was made. Prefixes and inputs have one or two of
 * them. */
#define OWNERS_MAX 8
/* Names of a tree that are looked at for one that only its owner can read. */
#define PRIVATE_LOOKS_MAX 10000

struct owner {
	uid_t uid;
	gid_t gid; /* -1: no group */
	int fd;
};

struct opening {
	struct build *build;
	struct err *err;
	struct owner owners[OWNERS_MAX];
	size_t owner_count;
};

static bool is_writable(const struct source *source)
{
	return source->kind == SOURCE_WORK || source->kind == SOURCE_PRIVATE;
}

/* Paths of a spec come with every link resolved: one that shows up now was put there since. */
static bool is_given(const struct source *source)
{
	return source->kind == SOURCE_GIVEN || source->kind == SOURCE_LOWER;
}

/* "cannot bind PATH read-only [at TARGET]", with what is in errno or in err already. */
static int refuse(const struct source *source, int code, struct err *err)
{
	const char *how = is_writable(source) ? "" : " read-only";

	if (strcmp(source->path, source->target) == 0)
		return err_set(err, code, "cannot bind %s%s: %s", source->path, how,
			       strerrordesc_np(-code));
	return err_set(err, code, "cannot bind %s%s at %s: %s", source->path, how, source->target,
		       strerrordesc_np(-code));
}

/* The distribution's own may be links, and so may what leads to the user's state directory. */
static int open_path(const struct source *source)
{
	return mounts_openat2(AT_FDCWD, source->path, O_PATH,
			      is_given(source) ? RESOLVE_NO_SYMLINKS : 0);
}

static int look(struct source *source, int fd, struct err *err)
{
	struct stat status;

	if (fstat(fd, &status) < 0)
		return refuse(source, -errno, err);
	if (source->kind == SOURCE_DEVICE && !S_ISCHR(status.st_mode))
		return refuse(source, -ENODEV, err);
	if (source->kind != SOURCE_DEVICE && !S_ISDIR(status.st_mode) && !S_ISREG(status.st_mode))
		return err_set(err, -EINVAL,
			       "cannot bind %s: neither a directory nor a regular file",
			       source->path);
	if (source->kind == SOURCE_LOWER && !S_ISDIR(status.st_mode))
		return err_set(err, -ENOTDIR, "cannot overlay %s: no directory", source->path);
	source->directory = S_ISDIR(status.st_mode);
	source->public = replica_is_public(&status);
	source->owner = status.st_uid;
	source->group = status.st_gid;
	source->device = status.st_dev;
	source->inode = status.st_ino;
	return 0;
}

/* The id mapping for trees of this owner; made once. Returns a borrowed descriptor or a negative
 * errno. */
static int owner_fd(struct opening *opening, const struct source *source)
{
	const uid_t uid = source->owner;
	const gid_t gid = source->kind == SOURCE_LOWER ? source->group : (gid_t)-1;
	struct owner *owner;

	for (size_t i = 0; i < opening->owner_count; i++) {
		owner = &opening->owners[i];
		if (owner->uid == uid && owner->gid == gid)
			return owner->fd;
	}
	if (opening->owner_count == OWNERS_MAX)
		return -ENOSPC;
	owner = &opening->owners[opening->owner_count];
	owner->fd = userns_idmap(&opening->build->identity, uid, gid, opening->err);
	if (owner->fd < 0)
		return owner->fd;
	owner->uid = uid;
	owner->gid = gid;
	opening->owner_count++;
	return owner->fd;
}

/* Sets what a mount may not; private, or a mount on top of it would show on the host. */
static int restrict_mount(const struct source *source, int mount, int idmap)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID, .propagation = MS_PRIVATE};

	if (source->kind == SOURCE_DEVICE)
		attr.attr_set |= MOUNT_ATTR_NOEXEC;
	else
		attr.attr_set |= MOUNT_ATTR_NODEV;
	/* Of a device node this leaves reading and writing, but not its times and mode. */
	if (!is_writable(source))
		attr.attr_set |= MOUNT_ATTR_RDONLY;
	if (idmap >= 0) {
		attr.attr_set |= MOUNT_ATTR_IDMAP;
		attr.userns_fd = (unsigned)idmap;
	}
	if (mount_setattr(mount, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return -errno;
	return 0;
}

static int clone_mount(int fd)
{
	int mount = open_tree(fd, "",
			      OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE);

	return mount < 0 ? -errno : mount;
}

/*
 * As root: the owner of the tree's root appears as the kernel's uid, so that a 0700 directory of
 * the user is readable inside. Not every file system can (overlayfs, NFS), and none twice.
 */
static int map_owner(struct opening *opening, struct source *source, int mount)
{
	int idmap = owner_fd(opening, source);

	source->idmapped = idmap >= 0 && restrict_mount(source, mount, idmap) == 0;
	return source->idmapped ? 0 : restrict_mount(source, mount, -1);
}

/* In the host's mount namespace, as root: `fd` becomes a detached mount. */
static int detach(struct opening *opening, struct source *source, int fd)
{
	cleanup(close_fd) int mount = clone_mount(fd);
	int r;

	if (mount < 0)
		return refuse(source, mount, opening->err);
	if (is_given(source))
		r = map_owner(opening, source, mount);
	else
		r = restrict_mount(source, mount, -1);
	if (r < 0)
		return refuse(source, r, opening->err);
	source->fd = steal_fd(&mount);
	return 0;
}

/* Opens the source's path. Returns the descriptor, -ENOENT when it may be left out, or another
 * negative errno with the reason in err. */
static int open_once(struct opening *opening, struct source *source)
{
	cleanup(close_fd) int fd = open_path(source);
	int r;

	if (fd == -ENOENT && !source->required)
		return fd;
	if (fd < 0)
		return refuse(source, fd, opening->err);
	r = look(source, fd, opening->err);
	if (r == 0 && opening->build->identity.detached)
		r = detach(opening, source, fd);
	else if (r == 0)
		source->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return r < 0 ? r : steal_fd(&fd);
}

int sources_read(const struct source *source)
{
	cleanup(close_fd) int fd = mounts_openat2(
		AT_FDCWD, source->path, O_RDONLY | O_NONBLOCK | O_NOCTTY, RESOLVE_NO_SYMLINKS);
	struct stat status;

	if (fd < 0)
		return fd;
	if (fstat(fd, &status) < 0)
		return -errno;
	if (status.st_dev != source->device || status.st_ino != source->inode)
		return -ESTALE;
	return steal_fd(&fd);
}

/* The directory of stand-ins in the private directory. */
static int open_copies(const struct build *build)
{
	cleanup(close_fd) int directory = open(build->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (directory < 0 || (mkdirat(directory, "inputs", 0700) < 0 && errno != EEXIST))
		return -errno;
	return tree_step(directory, "inputs", O_RDONLY | O_DIRECTORY);
}

/* Copies the source to inputs/`name`. Returns 0 when it is whole, 1 with what is missing in
 * `replica` when it is not and was thrown away, or a negative errno. */
static int copy_source(const struct build *build, const struct source *source, const char *name,
		       struct replica *replica)
{
	const uid_t uid = userns_kernel_uid(&build->identity);
	cleanup(close_fd) int from = sources_read(source);
	cleanup(close_fd) int copies = open_copies(build), to = -1;
	int r;

	if (from < 0 || copies < 0)
		return from < 0 ? from : copies;
	replica_init(replica, REPLICA_ALL);
	replica->owner = source->owner;
	replica->to_uid = uid;
	replica->to_gid = userns_kernel_gid(&build->identity);
	if (!source->directory) {
		r = replica_file(replica, from, copies, name);
	} else {
		if (mkdirat(copies, name, 0700) < 0)
			return -errno;
		to = tree_step(copies, name, O_RDONLY | O_DIRECTORY);
		r = to < 0 ? to : replica_tree(replica, from, to);
		if (r == 0 && fchown(to, uid, replica->to_gid) < 0)
			r = -errno;
	}
	if (r == 0 && replica->left == 0)
		return 0;
	if (to >= 0)
		(void)tree_empty(to);
	return r < 0 ? r : 1;
}

static int without_stand_in(struct opening *opening, struct source *source, const char *path,
			    int error, const struct replica *replica)
{
	const struct build *build = opening->build;
	const char *why = error < 0 ? strerrordesc_np(-error) : replica->because;
	const char *below = error < 0 ? "" : replica->first;

	/* Everything else in it can be read. */
	if (source->public) {
		build_notice(build,
			     "%s%s%.200s cannot be read inside: it is not readable by everybody, "
			     "its file system cannot be idmapped, and %s is not copied (%s)",
			     source->path, path[0] ? "/" : "", path, source->path, why);
		return 0;
	}
	if (source->required)
		return err_set(opening->err, error < 0 ? error : -EFBIG,
			       "cannot show %s: it is not readable by everybody, its file system "
			       "cannot be idmapped, and it is not copied: %.200s%s%s",
			       source->path, below, below[0] ? ": " : "", why);
	close_fd(&source->fd);
	build_notice(build,
		     "%s was left out: it is not readable by everybody, its file system cannot be "
		     "idmapped, and it is not copied: %.200s%s%s",
		     source->path, below, below[0] ? ": " : "", why);
	return 0;
}

/* A copy of the source takes its place. `path` is what in it cannot be read by everybody. */
static int stand_in(struct opening *opening, struct source *source, const char *path)
{
	struct build *build = opening->build;
	cleanup(close_fd) int fd = -1;
	struct replica replica;
	char number[24];
	int r;

	(void)snprintf(number, sizeof(number), "%zu", build->source_count);
	r = copy_source(build, source, number, &replica);
	if (r != 0)
		return without_stand_in(opening, source, path, r, &replica);
	build_notice(build,
		     "%s is not readable by everybody and its file system cannot be idmapped: the "
		     "kernel sees a copy of now",
		     source->path);
	close_fd(&source->fd);
	source->kind = SOURCE_COPY;
	/* Lives as long as this short-lived process. */
	source->path = format_string("%s/inputs/%s", build->directory, number);
	if (!source->path)
		return err_set(opening->err, -ENOMEM, "out of memory");
	fd = open_once(opening, source);
	return fd < 0 ? fd : 0;
}

static int open_source(struct opening *opening, struct source *source)
{
	const struct build *build = opening->build;
	cleanup(close_fd) int fd = open_once(opening, source);
	char path[256] = "";

	if (fd == -ENOENT && !source->required) {
		if (is_given(source))
			build_notice(build, "%s is not there and was left out", source->path);
		return 0;
	}
	if (fd < 0)
		return fd;
	if (!build->identity.pair || source->kind != SOURCE_GIVEN || source->idmapped)
		return 0;
	if (source->public &&
	    !(source->directory &&
	      replica_find_private(fd, source->owner, PRIVATE_LOOKS_MAX, path, sizeof(path)) > 0))
		return 0;
	return stand_in(opening, source, path);
}

static int add(struct opening *opening, enum source_kind kind, const char *path, const char *target,
	       bool required)
{
	struct build *build = opening->build;
	struct source *source;

	if (build->source_count == SOURCES_MAX)
		return err_set(opening->err, -E2BIG, "more than %d paths to bind", SOURCES_MAX);
	source = &build->sources[build->source_count];
	*source = (struct source){
		.kind = kind, .path = path, .target = target, .required = required, .fd = -1};
	build->source_count++;
	return open_source(opening, source);
}

static int add_host_path(void *arg, bool device, const char *path)
{
	return add(arg, device ? SOURCE_DEVICE : SOURCE_SYSTEM, path, path, device);
}

static int add_binds(struct opening *opening, enum source_kind kind, const struct spec_bind *binds,
		     size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int r = add(opening, kind, binds[i].source, binds[i].target, binds[i].required);

		if (r < 0)
			return r;
	}
	return 0;
}

static int add_given(struct opening *opening)
{
	const struct spec *spec = opening->build->spec;
	int r = add_binds(opening, SOURCE_GIVEN, spec->binds, spec->bind_count);

	if (r >= 0)
		r = add(opening, SOURCE_WORK, opening->build->work, INSIDE_WORK, true);
	if (r >= 0)
		r = add_binds(opening, SOURCE_GIVEN, spec->stages, spec->stage_count);
	if (r >= 0)
		r = add_binds(opening, SOURCE_LOWER, spec->overlays, spec->overlay_count);
	if (r >= 0 && spec->overlay_count > 0)
		r = add(opening, SOURCE_PRIVATE, opening->build->directory, "", true);
	return r;
}

/* In the order in which they are mounted: what comes later may lie inside what came before. */
int sources_open(struct build *build, struct err *err)
{
	struct opening opening = {.build = build, .err = err};

	build->relay_program = open(build->spec->relay, O_PATH | O_CLOEXEC);
	if (build->relay_program < 0)
		return err_errno(err, "cannot open %s", build->spec->relay);
	build->sources = calloc(SOURCES_MAX, sizeof(*build->sources));
	if (!build->sources)
		return err_set(err, -ENOMEM, "out of memory");
	return mounts_each_host_path(add_host_path, &opening);
}

int sources_given(struct build *build, struct err *err)
{
	struct opening opening = {.build = build, .err = err};
	int r = add_given(&opening);

	for (size_t i = 0; i < opening.owner_count; i++)
		close_fd(&opening.owners[i].fd);
	return r;
}

/* The O_PATH descriptor belongs to the old namespace, whose mounts cannot be cloned here: open(2)
 * once more. */
int sources_reopen(struct source *source, struct err *err)
{
	cleanup(close_fd) int fd = open_path(source);
	cleanup(close_fd) int mount = -1;
	struct stat status;
	int r;

	if (fd < 0)
		return refuse(source, fd, err);
	if (fstat(fd, &status) < 0)
		return refuse(source, -errno, err);
	if (status.st_dev != source->device || status.st_ino != source->inode)
		return err_set(err, -ESTALE, "%s was replaced while it was being bound",
			       source->path);
	mount = clone_mount(fd);
	if (mount < 0)
		return refuse(source, mount, err);
	r = restrict_mount(source, mount, -1);
	if (r < 0)
		return refuse(source, r, err);
	close_fd(&source->fd);
	source->fd = steal_fd(&mount);
	return 0;
}

int sources_enter(struct build *build, struct err *err)
{
	if (build->identity.detached)
		return 0;
	for (size_t i = 0; i < build->source_count; i++) {
		if (build->sources[i].fd >= 0 && sources_reopen(&build->sources[i], err) < 0)
			return err->code;
	}
	return 0;
}
