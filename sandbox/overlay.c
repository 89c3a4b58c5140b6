/*
 * Theory of operation
 *
 * Whoever mounts an overlayfs lends it their rights: with them it reads the lower layer and copies
 * up. So it is mounted by uid 0 of the sandbox' user namespace, which as root is nobody on the host
 * and as an ordinary user is that user, and keeps its own records in user.* attributes
 * ("userxattr"). Those are what attacks on overlayfs plant: a redirect or a metacopy that leads out
 * of the layers, an opaque mark, an origin. None is followed (redirect_dir=nofollow, metacopy=off,
 * index=off), the mount hides their names from who is inside, and the upper layer begins empty in a
 * directory that is covered by the overlay itself: there is no second way to it. A directory above
 * the mount point can be renamed by the kernel, the mount goes with it.
 *
 * Files are copied up as the kernel's uid or not at all (EOVERFLOW where their owner or group has
 * no counterpart, the end of CVE-2023-0386), so that no setuid file of anybody else appears on the
 * host, and file capabilities count in the user namespace only (CVE-2021-3847); the mount is nosuid
 * in any case. What has no counterpart is copied beforehand (REPLICA_FOREIGN), so that a group's
 * folder can be worked in.
 *
 * The layers are mounts in the new root for a moment, then they are taken out again: overlayfs has
 * its own private clones. They are named by /proc/self/fd, because uid 0 of the namespace may not
 * walk to the private directory, and because no path has to be quoted then.
 *
 * The process that copies where there is no overlayfs is forked while its rights still are those of
 * the host: as root, the builder cannot read a 0600 file any more when it knows that it must.
 */
#include "sandbox/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h> /* ST_RDONLY */
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "sandbox/build.h"
#include "sandbox/mounts.h"
#include "sandbox/process.h"
#include "sandbox/replica.h"
#include "sandbox/sources.h"
#include "sandbox/staging_parts.h"

#define LAYERS	    "/.layers" /* in the new root, while the mounts are made */
#define LOWER_PLACE LAYERS "/lower"
#define UPPER_PLACE LAYERS "/upper"
/* In the private directory, beside work/: overlayfs makes its own "work" in it. */
#define SCRATCH "overlay"
/* In a tmpfs an inode takes about 1 KB that its size does not count. */
#define BYTES_PER_INODE 16384
#define TMP_LEAST	(UINT64_C(1) << 20)

static bool is_out(const struct source *source)
{
	return source->kind == SOURCE_LOWER && strcmp(source->target, INSIDE_OUT) == 0;
}

static struct source *find(struct build *build, enum source_kind kind, bool out)
{
	for (size_t i = 0; i < build->source_count; i++) {
		struct source *source = &build->sources[i];

		if (source->kind == kind && source->fd >= 0 && (!out || is_out(source)))
			return source;
	}
	return NULL;
}

/* ---- in the host's namespaces ---- */

static int check_targets(const struct build *build, struct err *err)
{
	bool seen = false;

	for (size_t i = 0; i < build->source_count; i++) {
		const struct source *source = &build->sources[i];

		if (source->kind != SOURCE_LOWER)
			continue;
		if (is_out(source)
			    ? seen
			    : strncmp(source->target, INSIDE_HOME "/", sizeof(INSIDE_HOME)) != 0)
			return err_set(err, -EINVAL, "cannot overlay %s at %s: that place is taken",
				       source->path, source->target);
		seen = seen || is_out(source);
	}
	return 0;
}

/* Makes the directory that overlayfs works in. Returns 0, or a negative errno when there can be no
 * overlay. */
static int make_scratch(const struct build *build, int directory)
{
	const struct identity *identity = &build->identity;
	cleanup(close_fd) int fd = -1;

	if (mkdirat(directory, SCRATCH, 0700) < 0)
		return -errno;
	fd = tree_step(directory, SCRATCH, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	/* Without them a directory that is removed and made again cannot be told from its former
	 * self. */
	if (fsetxattr(fd, "user.cellwall", "", 0, 0) < 0)
		return -errno;
	if (identity->pair && fchown(fd, identity->host_uid, identity->host_gid) < 0)
		return -errno;
	return 0;
}

static void copied(void *arg, const struct stat *status)
{
	(void)staging_given(arg, status);
}

/* What is in the host's staging/out goes into the private directory's. */
static int copy_results(const struct build *build, const struct source *source,
			enum replica_what what, struct replica *replica)
{
	const struct identity *identity = &build->identity;
	struct staging *staging = NULL;
	cleanup(close_fd) int from = sources_read(source), out = -1, to = -1;
	int r = from < 0 ? from : staging_peek(build->directory, &staging, NULL);

	if (r < 0)
		return r;
	replica_init(replica, what);
	replica->copied = copied;
	replica->arg = staging;
	replica->let_out = staging->let_out;
	if (replica->max_bytes > build->spec->out_bytes)
		replica->max_bytes = build->spec->out_bytes;
	replica->uid = identity->pair ? source->owner : identity->host_uid;
	replica->gid = identity->pair ? source->group : identity->host_gid;
	if (identity->pair) {
		replica->owner = source->owner;
		replica->to_uid = userns_kernel_uid(identity);
		replica->to_gid = userns_kernel_gid(identity);
	}
	out = tree_step(staging->work_fd, "staging", O_RDONLY | O_DIRECTORY);
	to = out < 0 ? out : tree_step(out, "out", O_RDONLY | O_DIRECTORY);
	r = to < 0 ? to : replica_tree(replica, from, to);
	(void)staging_free(staging);
	return r;
}

/* Everything, because there is no overlayfs. What is missing is said, the kernel runs without. */
static void copy_all(const struct build *build, const struct source *source)
{
	struct replica replica;
	int r = copy_results(build, source, REPLICA_RESULTS, &replica);

	if (r < 0)
		build_notice(build, "what is in %s cannot be seen inside: no overlayfs, and: %s",
			     source->path, strerrordesc_np(-r));
	else if (replica.left > 0)
		build_notice(build,
			     "%" PRIu64 " names of %s cannot be seen inside: there is no overlayfs "
			     "here, and a copy is bounded; the first: %.300s (%s)",
			     replica.left, source->path, replica.first, replica.because);
}

_Noreturn static void copier_main(const struct build *build, const struct source *source,
				  int socket)
{
	char byte;

	if (process_protect(build->lifeline, SIGKILL, NULL) < 0 || read_full(socket, &byte, 1) < 0)
		_exit(EXIT_SUCCESS);
	copy_all(build, source);
	_exit(write_full(socket, &byte, 1) < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

static int start_copier(struct build *build, const struct source *source, struct err *err)
{
	cleanup(close_fd) int theirs = -1;
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(err, "cannot make a pair of sockets");
	build->copier = fds[0];
	theirs = fds[1];
	build->copier_pid = fork();
	if (build->copier_pid < 0)
		return err_errno(err, "cannot fork");
	if (build->copier_pid == 0) {
		close_fd(&build->copier); /* or it would never see the end */
		copier_main(build, source, theirs);
	}
	return 0;
}

static int prepare_out(struct build *build, const struct source *source, struct err *err)
{
	cleanup(close_fd) int directory = open(build->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	const bool readable = !build->identity.pair || source->idmapped;
	struct replica replica;
	int r;

	if (directory < 0)
		return err_errno(err, "cannot open %s", build->directory);
	if (!readable || make_scratch(build, directory) < 0) {
		copy_all(build, source);
		return 0;
	}
	r = copy_results(build, source, REPLICA_FOREIGN, &replica);
	if (r == 0 && replica.left > 0)
		build_notice(build,
			     "%" PRIu64 " names of %s belong to somebody else and cannot be "
			     "changed inside; the first: %.300s (%s)",
			     replica.left, source->path, replica.first, replica.because);
	build->overlays_out = true;
	return start_copier(build, source, err);
}

int overlay_prepare(struct build *build, struct err *err)
{
	const struct source *out;

	if (check_targets(build, err) < 0)
		return err->code;
	out = find(build, SOURCE_LOWER, true);
	return out ? prepare_out(build, out, err) : 0;
}

/* ---- in the sandbox' namespaces ---- */

int overlay_open(struct build *build, struct err *err)
{
	static const uint64_t resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
	const struct source *private = find(build, SOURCE_PRIVATE, false);

	(void)err;
	if (!build->overlays_out || !private)
		return 0;
	/* What fails here makes a copy necessary, see build_out. */
	build->upper =
		mounts_openat2(private->fd, "work/staging/out", O_PATH | O_DIRECTORY, resolve);
	build->scratch = mounts_openat2(private->fd, SCRATCH, O_PATH | O_DIRECTORY, resolve);
	return 0;
}

static int layer_attach(const struct build *build, const char *place, int mount, struct err *err)
{
	cleanup(close_fd) int at = mounts_place(build->root, place, true);

	if (at < 0)
		return err_set(err, at, "cannot make %s: %s", place, strerrordesc_np(-at));
	return mounts_attach(mount, at, err);
}

/* Takes a layer out of the new root again. The kernel must never see it. */
static int layer_detach(const struct build *build, const char *place, int mount, struct err *err)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", mount);
	if (umount2(path, MNT_DETACH) < 0)
		return err_errno(err, "cannot take a layer of an overlay out again");
	if (unlinkat(build->root, place + 1, AT_REMOVEDIR) < 0)
		return err_errno(err, "cannot remove %s", place);
	return 0;
}

/* Returns a detached overlay mount or a negative errno. */
static int stack(int lower, int upper, int scratch, struct err *err)
{
	char layers[3][64];
	/* Nothing is read again after a crash of the machine, so nothing is synced for it: without
	   "volatile" the end of a kernel would wait for all that the host's file system has to
	   write. */
	const char *const options[] = {layers[0],
				       layers[1],
				       layers[2],
				       "userxattr",
				       "volatile",
				       "xino=off",
				       "redirect_dir=nofollow",
				       "metacopy=off",
				       "index=off",
				       NULL};
	cleanup(close_fd) int mount = -1;
	struct statfs status;

	if (lower < 0 || upper < 0 || scratch < 0)
		return err_set(err, -EBADF, "a layer is missing");
	(void)snprintf(layers[0], sizeof(layers[0]), "lowerdir=/proc/self/fd/%d", lower);
	(void)snprintf(layers[1], sizeof(layers[1]), "upperdir=/proc/self/fd/%d", upper);
	(void)snprintf(layers[2], sizeof(layers[2]), "workdir=/proc/self/fd/%d", scratch);
	mount = mounts_new("overlay", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
	if (mount < 0)
		return mount;
	/* What it does when it cannot use its work directory. */
	if (fstatfs(mount, &status) < 0 || (status.f_flags & ST_RDONLY))
		return err_set(err, -EROFS, "the overlay is read-only");
	return steal_fd(&mount);
}

/*
 * Attaches both layers' mounts, stacks them and detaches them again. Returns 0 with a mount or,
 * when there can be no overlay, -1 in *ret_mount; or a negative errno when a layer is still
 * attached.
 */
static int stack_attached(const struct build *build, int lower_mount, int upper_mount, int upper,
			  int scratch, int *ret_mount, struct err *err)
{
	cleanup(close_fd) int mount = -1;
	int r;

	*ret_mount = -1;
	if (layer_attach(build, LOWER_PLACE, lower_mount, err) < 0)
		return err->code;
	if (layer_attach(build, UPPER_PLACE, upper_mount, err) < 0)
		return err->code;
	mount = stack(lower_mount, upper, scratch, NULL);
	r = layer_detach(build, UPPER_PLACE, upper_mount, err);
	if (r == 0)
		r = layer_detach(build, LOWER_PLACE, lower_mount, err);
	if (r == 0 && unlinkat(build->root, &LAYERS[1], AT_REMOVEDIR) < 0)
		r = err_errno(err, "cannot remove " LAYERS);
	if (r == 0 && mount >= 0)
		*ret_mount = steal_fd(&mount);
	return r;
}

static int attach(const struct build *build, int mount, const char *target, struct err *err)
{
	cleanup(close_fd) int at = mounts_place(build->root, target, true);

	if (at < 0)
		return err_set(err, at, "cannot overlay %s: %s", target, strerrordesc_np(-at));
	if (mounts_attach(mount, at, err) < 0)
		return err_wrap(err, "cannot overlay %s", target);
	return 0;
}

static int build_out(struct build *build, struct source *source, struct err *err)
{
	const struct source *private = find(build, SOURCE_PRIVATE, false);
	cleanup(close_fd) int mount = -1;
	char byte = 0;
	int r;

	if (!build->overlays_out || !private)
		return 0;
	r = stack_attached(build, source->fd, private->fd, build->upper, build->scratch, &mount,
			   err);
	if (r < 0)
		return r;
	if (mount >= 0)
		return attach(build, mount, source->target, err);
	if (write_full(build->copier, &byte, 1) < 0 || read_full(build->copier, &byte, 1) < 0)
		return err_set(err, -ECANCELED, "cannot copy %s", source->path);
	return 0;
}

/* A tmpfs of the sandbox with both writable layers. */
static int new_upper(const struct build *build, int *ret_upper, int *ret_scratch, struct err *err)
{
	const uint64_t bytes =
		build->spec->tmp_bytes > TMP_LEAST ? build->spec->tmp_bytes : TMP_LEAST;
	const unsigned owner = (unsigned)build->identity.inside;
	char size[40], inodes[40];
	const char *const options[] = {size, inodes, "mode=0700", NULL};
	cleanup(close_fd) int mount = -1;

	(void)snprintf(size, sizeof(size), "size=%" PRIu64, bytes);
	(void)snprintf(inodes, sizeof(inodes), "nr_inodes=%" PRIu64, bytes / BYTES_PER_INODE);
	mount = mounts_new("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
	if (mount < 0)
		return mount;
	if (mkdirat(mount, "upper", 0755) < 0 || mkdirat(mount, SCRATCH, 0700) < 0 ||
	    fchownat(mount, "upper", owner, owner, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, "cannot make the layers of an overlay");
	*ret_upper = openat(mount, "upper", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	*ret_scratch = openat(mount, SCRATCH, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return steal_fd(&mount);
}

/*
 * The lower layer alone, read-only. As root its mount lets the owner's group write to a socket or a
 * fifo, which only an overlay in front of it takes away: then it stays out.
 */
static int attach_lower(struct build *build, struct source *source, struct err *err)
{
	/* What nobody asked for is not missed either. */
	const bool asked = strcmp(source->target, INSIDE_FONTS) != 0;

	if (build->identity.pair) {
		if (asked)
			build_notice(build, "%s was left out: there is no overlayfs for it here",
				     source->path);
		return 0;
	}
	if (asked)
		build_notice(build, "%s is read-only inside: there is no overlayfs for it here",
			     source->path);
	/* Its mount has left the namespace, and does not come back. */
	if (sources_reopen(source, err) < 0)
		return err->code;
	return attach(build, source->fd, source->target, err);
}

static int build_cache(struct build *build, struct source *source, struct err *err)
{
	cleanup(close_fd) int upper = -1, scratch = -1, mount = -1;
	cleanup(close_fd) int tmpfs = new_upper(build, &upper, &scratch, err);
	int r;

	if (tmpfs < 0)
		return tmpfs;
	r = stack_attached(build, source->fd, tmpfs, upper, scratch, &mount, err);
	if (r < 0)
		return r;
	if (mount >= 0)
		return attach(build, mount, source->target, err);
	return attach_lower(build, source, err);
}

int overlay_build(struct build *build, struct err *err)
{
	struct source *private = find(build, SOURCE_PRIVATE, false);
	int r = 0;

	for (size_t i = 0; i < build->source_count && r == 0; i++) {
		struct source *source = &build->sources[i];

		if (source->kind != SOURCE_LOWER || source->fd < 0)
			continue;
		r = is_out(source) ? build_out(build, source, err)
				   : build_cache(build, source, err);
		close_fd(&source->fd);
	}
	if (private)
		close_fd(&private->fd);
	close_fd(&build->upper);
	close_fd(&build->scratch);
	close_fd(&build->copier); /* the copier's end, unless it was asked */
	if (build->copier_pid > 0)
		(void)waitpid(build->copier_pid, NULL, 0);
	return r;
}
