#include "sandbox/replica.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/copy.h"
#include "sandbox/names.h"
#include "sandbox/tree.h"

#define ENTRIES_PER_FILE                                                                           \
	4 /* directories and what is left out, for each file that may be copied                    \
	   */

void replica_init(struct replica *replica, enum replica_what what)
{
	*replica = (struct replica){
		.what = what,
		.uid = (uid_t)-1,
		.gid = (gid_t)-1,
		.owner = (uid_t)-1,
		.to_uid = (uid_t)-1,
		.to_gid = (gid_t)-1,
		.max_bytes = REPLICA_BYTES_MAX,
		.max_files = REPLICA_FILES_MAX,
		.deadline = now_ms() + REPLICA_MS_MAX,
	};
}

bool replica_is_public(const struct stat *status)
{
	mode_t needed = S_ISDIR(status->st_mode) ? S_IROTH | S_IXOTH : S_IROTH;

	return (status->st_mode & needed) == needed;
}

static bool allowed(const struct replica *replica, const struct stat *status)
{
	return replica->owner == (uid_t)-1 || status->st_uid == replica->owner ||
	       replica_is_public(status);
}

static bool foreign(const struct replica *replica, const struct stat *status)
{
	return status->st_uid != replica->uid || status->st_gid != replica->gid;
}

static void leave(struct replica *replica, const char *path, const char *because)
{
	if (replica->left++ > 0)
		return;
	(void)snprintf(replica->first, sizeof(replica->first), "%s", path);
	replica->because = because;
}

/* Returns NULL or why a file of this size does not fit any more. */
static const char *full(const struct replica *replica, off_t size)
{
	if (replica->files >= replica->max_files)
		return "there are too many files";
	if (size < 0 || (uint64_t)size > replica->max_bytes - replica->bytes)
		return "it is too large";
	if (now_ms() >= replica->deadline)
		return "it takes too long";
	return NULL;
}

/* 1: not copied, the reason was noted. */
static int copy_in(struct replica *replica, int from, int to, const char *name, const char *path)
{
	struct copy_dress dress = {.give = replica->to_uid != (uid_t)-1,
				   .uid = replica->to_uid,
				   .gid = replica->to_gid};
	cleanup(copy_abort) struct copy copy;
	const char *because;
	struct stat status;
	int r;

	copy_init(&copy);
	if (fstat(from, &status) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode) || !allowed(replica, &status))
		because = "it cannot be read";
	else
		because = full(replica, status.st_size);
	if (because) {
		leave(replica, path, because);
		return 1;
	}
	dress.mode = (status.st_mode & 0777) | S_IRUSR;
	if (replica->what != REPLICA_ALL)
		dress.mode |= S_IWUSR;
	dress.mtime = status.st_mtim;
	r = copy_begin(&copy, to, status.st_size);
	if (r == 0)
		r = copy_run(&copy, from, replica->deadline);
	if (r == 0)
		r = copy_dress_up(&copy, &dress, &status);
	if (r == 0)
		r = copy_commit(&copy, to, name, false);
	if (r == -ETIME || r == -EIO || r == -ESTALE) {
		leave(replica, path, r == -ETIME ? "it takes too long" : "it cannot be read");
		return 1;
	}
	if (r < 0)
		return r;
	replica->files++;
	replica->bytes += (uint64_t)status.st_size;
	if (replica->copied)
		replica->copied(replica->arg, &status);
	return 0;
}

int replica_file(struct replica *replica, int from, int to, const char *name)
{
	int r = copy_in(replica, from, to, name, name);

	return r < 0 ? r : 0;
}

/* The copy of one directory of the walk, below `parent`. Returns its descriptor. */
static int make_mate(const struct replica *replica, int from, int parent, const char *name)
{
	cleanup(close_fd) int fd = -1;
	struct stat status;

	if (fstat(from, &status) < 0 || (mkdirat(parent, name, 0700) < 0 && errno != EEXIST))
		return -errno;
	fd = tree_step(parent, name, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	if (replica->to_uid != (uid_t)-1 && fchown(fd, replica->to_uid, replica->to_gid) < 0)
		return -errno;
	if (fchmod(fd, (status.st_mode & 0777) | S_IRWXU) < 0)
		return -errno;
	return steal_fd(&fd);
}

/* The copy of the directory that the walk is in, made with all above it when it is not there yet.
 * Returns a borrowed descriptor or a negative errno. */
static int mate_of(const struct replica *replica, struct walk *walk)
{
	for (size_t i = 1; i < walk->depth; i++) {
		const struct walk_frame *above = &walk->frame[i - 1];
		struct walk_frame *frame = &walk->frame[i];
		size_t start = above->length > 0 ? above->length + 1 : 0;
		char name[NAME_MAX + 1];

		if (frame->mate >= 0)
			continue;
		if (frame->length - start >= sizeof(name))
			return -ENAMETOOLONG;
		memcpy(name, walk->path + start, frame->length - start);
		name[frame->length - start] = '\0';
		frame->mate = make_mate(replica, frame->fd, above->mate, name);
		if (frame->mate < 0)
			return frame->mate;
	}
	return walk_here(walk)->mate;
}

static int visit_file(struct replica *replica, struct walk *walk)
{
	cleanup(close_fd) int from = -1;
	int to, r;

	from = tree_step(walk_here(walk)->fd, walk->name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (from == -EMFILE || from == -ENFILE || from == -ENOMEM)
		return from;
	if (from < 0) {
		leave(replica, walk->path, "it cannot be read");
		return 0;
	}
	to = mate_of(replica, walk);
	if (to < 0)
		return to;
	r = copy_in(replica, from, to, walk->name, walk->path);
	return r < 0 ? r : 0;
}

static int visit_link(struct replica *replica, struct walk *walk)
{
	char text[PATH_MAX];
	ssize_t length = readlinkat(walk_here(walk)->fd, walk->name, text, sizeof(text) - 1);
	int to;

	if (length < 0)
		return 0;
	text[length] = '\0';
	to = mate_of(replica, walk);
	if (to < 0)
		return to;
	replica->files++;
	if (symlinkat(text, to, walk->name) < 0)
		return -errno;
	if (replica->to_uid != (uid_t)-1 &&
	    fchownat(to, walk->name, replica->to_uid, replica->to_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return 0;
}

static int visit_directory(struct replica *replica, struct walk *walk, const struct stat *status)
{
	int r = allowed(replica, status) ? walk_enter(walk) : -EACCES;

	if (r < 0) {
		leave(replica, walk->path,
		      r == -E2BIG || r == -ENAMETOOLONG ? "it is too deep" : "it cannot be read");
		return 0;
	}
	if (replica->what == REPLICA_FOREIGN && !foreign(replica, status))
		return 0;
	r = mate_of(replica, walk);
	return r < 0 ? r : 0;
}

static int visit(struct replica *replica, struct walk *walk)
{
	struct stat status;

	if (replica->what != REPLICA_ALL && (name_refusal(walk->name, replica->let_out) ||
					     name_is_cache(walk->name, replica->let_out)))
		return 0;
	if (walk_stat(walk, &status) < 0)
		return 0;
	if (S_ISDIR(status.st_mode))
		return visit_directory(replica, walk, &status);
	if (S_ISLNK(status.st_mode) && replica->what == REPLICA_ALL && !full(replica, 0))
		return visit_link(replica, walk);
	if (!S_ISREG(status.st_mode)) {
		leave(replica, walk->path, "it is no file");
		return 0;
	}
	if (replica->what == REPLICA_FOREIGN && !foreign(replica, &status))
		return 0;
	return visit_file(replica, walk);
}

int replica_tree(struct replica *replica, int from, int to)
{
	uint64_t looked = 0, most = replica->max_files * ENTRIES_PER_FILE;
	cleanup(walk_done) struct walk walk;
	int r;

	walk_init(&walk);
	r = walk_start(&walk, from);
	if (r < 0)
		return r;
	walk_here(&walk)->mate = fcntl(to, F_DUPFD_CLOEXEC, 3);
	if (walk_here(&walk)->mate < 0)
		return -errno;
	while ((r = walk_next(&walk)) != 0) {
		if (r < 0) {
			leave(replica, walk.path, "it cannot be read");
			continue;
		}
		if (++looked > most || now_ms() >= replica->deadline) {
			leave(replica, walk.path,
			      looked > most ? "there are too many names" : "it takes too long");
			return 0;
		}
		r = visit(replica, &walk);
		if (r < 0)
			return r;
	}
	return 0;
}

int replica_find_private(int from, uid_t owner, uint64_t max_entries, char *ret, size_t size)
{
	cleanup(walk_done) struct walk walk;
	struct stat status;
	int r;

	walk_init(&walk);
	r = walk_start(&walk, from);
	if (r < 0)
		return r;
	for (uint64_t looked = 0; looked < max_entries && (r = walk_next(&walk)) != 0; looked++) {
		if (r < 0 || walk_stat(&walk, &status) < 0 ||
		    (!S_ISDIR(status.st_mode) && !S_ISREG(status.st_mode)))
			continue;
		if (status.st_uid == owner && (status.st_mode & S_IRUSR) != 0 &&
		    !replica_is_public(&status)) {
			(void)snprintf(ret, size, "%s", walk.path);
			return 1;
		}
		if (S_ISDIR(status.st_mode))
			(void)walk_enter(&walk);
	}
	return 0;
}
