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

/* Bounds a table in the tree and a few hundred paths of a spec. */
#define SOURCES_MAX 4096
/* Owners for which an id-mapping user namespace was made. Prefixes and inputs have one or two of
 * them. */
#define OWNERS_MAX 8

struct owner {
	uid_t uid;
	int fd;
};

struct opening {
	struct build *build;
	struct err *err;
	struct owner owners[OWNERS_MAX];
	size_t owner_count;
};

/* "cannot bind PATH read-only [at TARGET]", with what is in errno or in err already. */
static int refuse(const struct source *source, int code, struct err *err)
{
	const char *how = source->kind == SOURCE_WORK ? "" : " read-only";

	if (strcmp(source->path, source->target) == 0)
		return err_set(err, code, "cannot bind %s%s: %s", source->path, how,
			       strerrordesc_np(-code));
	return err_set(err, code, "cannot bind %s%s at %s: %s", source->path, how, source->target,
		       strerrordesc_np(-code));
}

/*
 * Paths of a spec come with every link resolved: one that shows up now was put there since. The
 * distribution's own may be links, and so may what leads to the user's state directory.
 */
static int open_path(const struct source *source)
{
	return mounts_openat2(AT_FDCWD, source->path, O_PATH,
			      source->kind == SOURCE_GIVEN ? RESOLVE_NO_SYMLINKS : 0);
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
	source->directory = S_ISDIR(status.st_mode);
	source->device = status.st_dev;
	source->inode = status.st_ino;
	return 0;
}

/* The id mapping for trees of this owner; made once. Returns a borrowed descriptor or a negative
 * errno. */
static int owner_fd(struct opening *opening, uid_t uid)
{
	struct owner *owner;

	for (size_t i = 0; i < opening->owner_count; i++) {
		owner = &opening->owners[i];
		if (owner->uid == uid)
			return owner->fd;
	}
	if (opening->owner_count == OWNERS_MAX)
		return -ENOSPC;
	owner = &opening->owners[opening->owner_count];
	owner->fd = userns_idmap(&opening->build->identity, uid, opening->err);
	if (owner->fd < 0)
		return owner->fd;
	owner->uid = uid;
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
	if (source->kind != SOURCE_WORK)
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
 * the user is readable inside. Not every file system can; then the tree must be readable by
 * everybody.
 */
static int map_owner(struct opening *opening, const struct source *source, int fd, int mount)
{
	struct stat status;
	mode_t readable = source->directory ? S_IROTH | S_IXOTH : S_IROTH;
	int idmap;

	if (fstat(fd, &status) < 0)
		return -errno;
	idmap = owner_fd(opening, status.st_uid);
	if (idmap >= 0 && restrict_mount(source, mount, idmap) == 0)
		return 0;
	if ((status.st_mode & readable) != readable)
		return -EACCES;
	return restrict_mount(source, mount, -1);
}

/* In the host's mount namespace, as root: `fd` becomes a detached mount. */
static int detach(struct opening *opening, struct source *source, int fd)
{
	int mount = clone_mount(fd), r;

	if (mount < 0)
		return refuse(source, mount, opening->err);
	if (source->kind == SOURCE_GIVEN)
		r = map_owner(opening, source, fd, mount);
	else
		r = restrict_mount(source, mount, -1);
	if (r < 0) {
		close_fd(&mount);
		return refuse(source, r, opening->err);
	}
	source->fd = mount;
	return 0;
}

static int open_source(struct opening *opening, struct source *source)
{
	cleanup(close_fd) int fd = open_path(source);

	if (fd == -ENOENT && !source->required) {
		if (source->kind == SOURCE_GIVEN)
			build_notice(opening->build, "%s is not there and was left out",
				     source->path);
		return 0;
	}
	if (fd < 0)
		return refuse(source, fd, opening->err);
	if (look(source, fd, opening->err) < 0)
		return opening->err->code;
	if (opening->build->identity.detached)
		return detach(opening, source, fd);
	source->fd = steal_fd(&fd);
	return 0;
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

static int add_binds(struct opening *opening, const struct spec_bind *binds, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int r = add(opening, SOURCE_GIVEN, binds[i].source, binds[i].target,
			    binds[i].required);

		if (r < 0)
			return r;
	}
	return 0;
}

/* In the order in which they are mounted: what comes later may lie inside what came before. */
static int add_all(struct opening *opening)
{
	const struct spec *spec = opening->build->spec;
	int r = mounts_each_host_path(add_host_path, opening);

	if (r >= 0)
		r = add_binds(opening, spec->binds, spec->bind_count);
	if (r >= 0)
		r = add(opening, SOURCE_WORK, opening->build->work, INSIDE_WORK, true);
	if (r >= 0)
		r = add_binds(opening, spec->stages, spec->stage_count);
	return r;
}

int sources_open(struct build *build, struct err *err)
{
	struct opening opening = {.build = build, .err = err};
	int r;

	build->relay_program = open(build->spec->relay, O_PATH | O_CLOEXEC);
	if (build->relay_program < 0)
		return err_errno(err, "cannot open %s", build->spec->relay);
	build->sources = calloc(SOURCES_MAX, sizeof(*build->sources));
	if (!build->sources)
		return err_set(err, -ENOMEM, "out of memory");
	r = add_all(&opening);
	for (size_t i = 0; i < opening.owner_count; i++)
		close_fd(&opening.owners[i].fd);
	return r;
}

/* The O_PATH descriptor belongs to the old namespace, whose mounts cannot be cloned here: open(2)
 * once more. */
static int reopen(struct source *source, struct err *err)
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
		if (build->sources[i].fd >= 0 && reopen(&build->sources[i], err) < 0)
			return err->code;
	}
	return 0;
}
