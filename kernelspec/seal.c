/*
 * seal: from a bundle to a tree of the store and a generation of a name.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernelspec/bundle.h"
#include "kernelspec/paths.h"
#include "kernelspec/pool.h"
#include "kernelspec/sealed.h"
#include "kernelspec/sealed_parts.h"
#include "sandbox/tree.h"

#define MANIFEST_BYTES ((size_t)512 << 20)
#define PART_DEPTH     4 /* lib/python3.N/site-packages/PACKAGE */

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

/* ---- builds ---- */

static int open_directory(const char *path, struct err *err)
{
	int fd;

	if (make_directories(path, 0755, err) < 0)
		return err->code;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? err_errno(err, "%s", path) : fd;
}

/* How long nobody needs to make and lock a directory. */
#define UNLOCKED_S 60

void sealed_remove_dead(int builds)
{
	int again = openat(builds, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *scan = again < 0 ? NULL : fdopendir(again);
	struct dirent *entry;

	if (!scan && again >= 0)
		close(again);
	while (scan && (entry = readdir(scan))) {
		cleanup(close_fd) int fd = -1;
		struct stat status;
		time_t young = 0;

		if (strncmp(entry->d_name, ".new-", 5) == 0)
			young = time(NULL) - UNLOCKED_S;
		else if (strlen(entry->d_name) != 32)
			continue;
		fd = tree_step(builds, entry->d_name, O_RDONLY | O_DIRECTORY);
		if (fd < 0 || (young > 0 && (fstat(fd, &status) < 0 || status.st_mtime > young)))
			continue;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			(void)tree_remove(builds, entry->d_name, fd);
	}
	if (scan)
		closedir(scan);
}

static int take_name(struct sealed_build *build, struct err *err)
{
	SEALED_UMASK(build->store);
	cleanup(free_ptr) char *names = path_join(build->store, "names");
	cleanup(free_ptr) char *path = NULL;
	cleanup(close_fd) int directory = names ? open_directory(names, err) : no_memory(err);

	if (directory < 0)
		return directory;
	path = format_string(".lock-%s", build->name);
	if (!path)
		return no_memory(err);
	build->lock = openat(directory, path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (build->lock < 0)
		return err_errno(err, "%s/%s", names, path);
	if (flock(build->lock, LOCK_EX | LOCK_NB) < 0)
		return err_set(
			err, -EBUSY,
			"\"%s\" is being built or changed by another cellwall: try again when "
			"it is done",
			build->name);
	return 0;
}

int sealed_hold(const char *store, const char *where, char **ret_directory, int *ret_held,
		struct err *err)
{
	SEALED_UMASK(store);
	cleanup(free_ptr) char *parent = path_join(store, where), *path = NULL;
	cleanup(close_fd) int directory = parent ? open_directory(parent, err) : no_memory(err);
	cleanup(close_fd) int held = -1;
	char fresh[5 + 33] = ".new-";
	const char *id = fresh + 5;
	int r;

	if (directory < 0)
		return directory;
	sealed_remove_dead(directory);
	r = random_hex(fresh + 5, 16);
	if (r < 0)
		return err_set(err, r, "no random numbers");
	path = path_join(parent, id);
	if (!path)
		return no_memory(err);
	/* Under its name only when it is locked, or another would remove it. */
	if (mkdirat(directory, fresh, 0700) < 0)
		return err_errno(err, "%s", path);
	held = openat(directory, fresh, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (held < 0 || flock(held, LOCK_EX | LOCK_NB) < 0 ||
	    renameat(directory, fresh, directory, id) < 0)
		return err_errno(err, "%s", path);
	*ret_directory = steal_ptr(&path);
	*ret_held = steal_fd(&held);
	return 0;
}

static int make_directory(struct sealed_build *build, struct err *err)
{
	SEALED_UMASK(build->store);
	cleanup(free_ptr) char *wheels = path_join(build->store, "wheels");

	build->wheels = wheels ? open_directory(wheels, err) : no_memory(err);
	if (build->wheels < 0)
		return build->wheels;
	return sealed_hold(build->store, "builds", &build->directory, &build->held, err);
}

int sealed_begin(const char *name, struct sealed_build *ret_build, struct err *err)
{
	struct sealed_build *build = ret_build;
	int r;

	*build = (struct sealed_build)SEALED_NO_BUILD;
	r = sealed_check_name(name, err);
	if (r == 0)
		r = sealed_store(&build->store, err);
	if (r < 0)
		return r;
	build->name = strdup(name);
	build->share = build->name ? sealed_lock(build->store, LOCK_SH, err) : no_memory(err);
	r = build->share < 0 ? build->share : take_name(build, err);
	if (r == 0)
		r = make_directory(build, err);
	if (r < 0)
		sealed_abandon(build);
	return r;
}

/* ---- what a build was made from ---- */

static void remove_below(int directory, const char *name)
{
	cleanup(close_fd) int fd = tree_step(directory, name, O_RDONLY | O_DIRECTORY);

	if (fd >= 0)
		(void)tree_remove(directory, name, fd);
}

/* Beside the sealing, which takes as long: nothing of it is needed any more. */
static void start_sweeper(struct sealed_build *build)
{
	const pid_t parent = getpid();

	if (faccessat(build->held, "private", F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	build->sweeper = fork();
	if (build->sweeper != 0)
		return;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 && getppid() == parent) {
		remove_below(build->held, "private");
		remove_below(build->held, "out");
	}
	_exit(0);
}

static void end_sweeper(struct sealed_build *build)
{
	while (build->sweeper > 0 && waitpid(build->sweeper, NULL, 0) < 0 && errno == EINTR)
		;
	build->sweeper = 0;
}

static void drop_part(struct sealed_build *build)
{
	if (build->part)
		(void)fclose(build->part);
	build->part = NULL;
	free_ptr(&build->part_text);
}

void sealed_abandon(struct sealed_build *build)
{
	cleanup(free_ptr) char *parent = build->directory ? paths_parent(build->directory) : NULL;
	cleanup(close_fd) int builds =
		parent ? open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	end_sweeper(build);
	drop_part(build);
	if (build->manifest)
		(void)fclose(build->manifest);
	close_fd(&build->parts);
	close_fd(&build->pool);
	close_fd(&build->tree);
	if (builds >= 0 && build->held >= 0)
		(void)tree_remove(builds, paths_name(build->directory), build->held);
	close_fd(&build->held);
	close_fd(&build->wheels);
	close_fd(&build->lock);
	close_fd(&build->share);
	free(build->store);
	free(build->name);
	free(build->directory);
	free(build->lock_text);
	free(build->record_text);
	free(build->record_sum);
	*build = (struct sealed_build)SEALED_NO_BUILD;
}

/* ---- what was built ---- */

/* What was noted of one package becomes a file, which those of other trees that say the same share.
 */
static int end_part(struct sealed_build *build)
{
	char name[24], hex[SEALED_HASH + 1];
	int r;

	if (!build->part)
		return 0;
	if (fclose(steal_ptr(&build->part)) != 0)
		return -ENOMEM;
	(void)snprintf(name, sizeof(name), "%" PRIu64, ++build->part_count);
	r = sealed_digest(build->part_text, build->part_size, hex);
	if (r == 0 && !pool_find(build->pool, build->parts, name, hex, false, build->part_text,
				 build->part_size)) {
		r = write_new_file(build->parts, name, 0444, build->part_text, build->part_size,
				   NULL);
		if (r == 0 && fchmodat(build->parts, name, 0444, 0) < 0)
			r = -errno;
		if (r == 0)
			pool_share(build->pool, build->parts, name, hex, false);
	}
	if (r == 0 &&
	    fprintf(build->manifest, "p %s %zu parts/%s\n", hex, build->part_size, name) < 0)
		r = -EIO;
	drop_part(build);
	return r;
}

static bool begins_part(const char *path)
{
	unsigned depth = 1;

	for (; *path; path++)
		depth += *path == '/';
	return depth <= PART_DEPTH;
}

static int write_entry(void *arg, char kind, const char *path, const char *digest, const char *to,
		       uint64_t size)
{
	struct sealed_build *build = arg;
	int r = kind == 'd' && begins_part(path) ? end_part(build) : 0;

	if (r == 0 && !build->part)
		build->part = open_memstream(&build->part_text, &build->part_size);
	if (r < 0 || !build->part)
		return r < 0 ? r : -ENOMEM;
	if (kind == 'd')
		r = fprintf(build->part, "d %s\n", path);
	else if (kind == 'l')
		r = fprintf(build->part, "l %s\t%s\n", path, to);
	else
		r = fprintf(build->part, "%c %s %" PRIu64 " %s\n", kind, digest, size, path);
	build->files += kind != 'd';
	build->bytes += kind == 'l' ? 0 : size;
	return r < 0 ? -EIO : 0;
}

static int take_note(void *arg, const char *name, const char *text, size_t size)
{
	struct sealed_build *build = arg;
	char **kept = strcmp(name, "lock") == 0		   ? &build->lock_text
		      : strcmp(name, "record") == 0	   ? &build->record_text
		      : strcmp(name, "record.sha256") == 0 ? &build->record_sum
							   : NULL;

	(void)size;
	if (!kept || *kept)
		return 0;
	*kept = strdup(text);
	return *kept ? 0 : -ENOMEM;
}

#define WORD "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._"

/* Lines "NAME==VERSION --hash=sha256:HEX" alone: it is shown, and given to pip. */
static bool good_lock(const char *text)
{
	while (*text) {
		size_t size = strspn(text, WORD "-");

		if (size == 0 || *text == '-' || strncmp(text + size, "==", 2) != 0)
			return false;
		text += size + 2;
		size = strspn(text, WORD "-+!");
		if (size == 0 || strncmp(text + size, " --hash=sha256:", 15) != 0)
			return false;
		text += size + 15;
		if (strspn(text, "0123456789abcdef") != SEALED_HASH || text[SEALED_HASH] != '\n')
			return false;
		text += SEALED_HASH + 1;
	}
	return true;
}

/* The last line of the manifest: what the tree was made of cannot be changed any more either. */
static int take_lock(struct sealed_build *build, struct err *err)
{
	char hex[SEALED_HASH + 1];
	size_t size;
	int r;

	if (!build->lock_text || !good_lock(build->lock_text))
		return err_set(err, -EPROTO, "what was built has a lock that is not taken");
	size = strlen(build->lock_text);
	r = sealed_digest(build->lock_text, size, hex) < 0 ? no_memory(err) : 0;
	if (r == 0 && fprintf(build->manifest, "m %s %zu lock\n", hex, size) < 0)
		r = err_set(err, -EIO, "%s/new/manifest cannot be written", build->directory);
	return r < 0 ? r
		     : write_new_file(build->held, "new/lock", 0644, build->lock_text, size, err);
}

static int open_new(struct sealed_build *build, struct err *err)
{
	cleanup(free_ptr) char *files = path_join(build->store, "files");
	int fd;

	build->pool = files ? open_directory(files, err) : no_memory(err);
	if (build->pool < 0)
		return build->pool;
	if (mkdirat(build->held, "new", 0755) < 0 || mkdirat(build->held, "new/tree", 0755) < 0 ||
	    mkdirat(build->held, "new/parts", 0755) < 0)
		return err_errno(err, "%s/new", build->directory);
	build->tree = openat(build->held, "new/tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	build->parts = openat(build->held, "new/parts", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = openat(build->held, "new/manifest", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	build->manifest = fd < 0 ? NULL : fdopen(fd, "w");
	return build->tree < 0 || build->parts < 0 || !build->manifest
		       ? err_errno(err, "%s/new", build->directory)
		       : 0;
}

int sealed_take(struct sealed_build *build, int in, struct err *err)
{
	SEALED_UMASK(build->store);
	const struct bundle_sink sink = {write_entry, take_note, build};
	int r = open_new(build, err);

	if (r < 0)
		return r;
	start_sweeper(build);
	r = bundle_read(in, build->tree, build->wheels, build->pool, &sink, err);
	if (r == 0 && (r = end_part(build)) < 0)
		r = err_set(err, r, "%s/new/parts: %s", build->directory, strerrordesc_np(-r));
	if (r == 0)
		r = take_lock(build, err);
	if (fclose(steal_ptr(&build->manifest)) != 0 && r == 0)
		r = err_errno(err, "%s/new/manifest", build->directory);
	if (r == 0 && fchmod(build->tree, 0555) < 0)
		r = err_errno(err, "%s/new/tree", build->directory);
	return r;
}

static int hash_of(int directory, const char *name, char hex[SEALED_HASH + 1], struct err *err)
{
	cleanup(free_ptr) char *text = NULL;
	size_t size = 0;
	int r = read_file(directory, name, MANIFEST_BYTES, &text, &size, err);

	return r < 0 ? r : sealed_digest(text, size, hex) < 0 ? no_memory(err) : 0;
}

/* Another build may have made the same: then ours is not needed. */
static int place_tree(struct sealed_build *build, const char *hash, struct err *err)
{
	cleanup(free_ptr) char *trees = path_join(build->store, "trees"), *there = NULL;
	cleanup(close_fd) int directory = trees ? open_directory(trees, err) : no_memory(err);

	if (directory < 0)
		return directory;
	/* What the name will lead to is on disk before the name is; what it was built from need
	 * not be written there. */
	end_sweeper(build);
	remove_below(build->held, "private");
	remove_below(build->held, "out");
	if (syncfs(build->held) < 0)
		return err_errno(err, "%s", build->directory);
	if (renameat(build->held, "new", directory, hash) == 0)
		return 0;
	there = path_join(trees, hash);
	if ((errno != EEXIST && errno != ENOTEMPTY) || !there)
		return err_errno(err, "%s/%s", trees, hash);
	/* One that was changed since it was sealed goes, with the build's directory. */
	if (sealed_verify(there, hash, NULL, NULL, err) != 0 &&
	    renameat2(build->held, "new", directory, hash, RENAME_EXCHANGE) < 0)
		return err_errno(err, "%s", there);
	return 0;
}

static int last_number(void *arg, const char *name, uint64_t number, bool current,
		       const json_t *record)
{
	uint64_t *last = arg;

	(void)name;
	(void)current;
	(void)record;
	*last = number > *last ? number : *last;
	return 0;
}

int64_t sealed_commit(struct sealed_build *build, json_t *record, struct err *err)
{
	SEALED_UMASK(build->store);
	cleanup(free_ptr) char *names = NULL, *path = NULL, *text = NULL;
	char hash[SEALED_HASH + 1];
	uint64_t number = 0;
	const char *named = json_string_value(json_object_get(record, "tree"));
	int r = hash_of(build->held, "new/manifest", hash, err);

	if (r == 0 && named && strcmp(named, hash) != 0)
		r = err_set(err, -EBADMSG, "its tree is not the one that was sealed");
	if (r < 0)
		return r;
	if (json_object_set_new(record, "tree", json_string(hash)) < 0 ||
	    json_object_set_new(record, "files", json_integer((json_int_t)build->files)) < 0 ||
	    json_object_set_new(record, "bytes", json_integer((json_int_t)build->bytes)) < 0)
		return no_memory(err);
	names = format_string("%s/names/%s", build->store, build->name);
	text = json_dumps(record, JSON_INDENT(2) | JSON_SORT_KEYS);
	if (!names || !text)
		return no_memory(err);
	if (strlen(text) > RECORD_BYTES)
		return err_set(err, -E2BIG, "its record is longer than %zu bytes", RECORD_BYTES);
	r = place_tree(build, hash, err);
	if (r == 0)
		r = make_directories(names, 0755, err);
	if (r < 0)
		return r;
	(void)sealed_each(build->store, build->name, last_number, &number);
	do { /* a number may be taken by what a killed build left */
		free_ptr(&path);
		path = format_string("%s/%" PRIu64 ".json", names, ++number);
		r = path ? write_new_file(AT_FDCWD, path, 0644, text, strlen(text), err)
			 : no_memory(err);
	} while (r == -EEXIST);
	if (r < 0)
		return r;
	r = sealed_choose(build->store, build->name, number, err);
	if (r < 0)
		(void)unlink(path);
	return r < 0 ? r : (int64_t)number;
}
