/*
 * sealed_collect: what nothing in the store needs any more, and who waits for whom meanwhile.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/bundle.h"
#include "kernelspec/paths.h"
#include "kernelspec/pool.h"
#include "kernelspec/sealed.h"
#include "kernelspec/sealed_parts.h"
#include "sandbox/process.h"
#include "sandbox/tree.h"

#define REMOVAL_MS     100
#define REMOVAL_ROUNDS 3000 /* five minutes, for one who removes */

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

/* ---- who may do what meanwhile ---- */

mode_t sealed_umask(const char *store)
{
	const mode_t before = umask(022);

	if (strcmp(store, SEALED_SHARED) != 0)
		(void)umask(before);
	return before;
}

void sealed_umask_back(const mode_t *before)
{
	(void)umask(*before);
}

static int wait_lock(int fd, int how)
{
	for (unsigned i = 0; flock(fd, how | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
		if (how == LOCK_EX || i == REMOVAL_ROUNDS)
			return how == LOCK_EX ? -EBUSY : -ETIMEDOUT;
		if (process_interrupted())
			return -EINTR;
		(void)poll(NULL, 0, REMOVAL_MS);
	}
	return 0;
}

int sealed_lock(const char *store, int how, struct err *err)
{
	cleanup(free_ptr) char *path = path_join(store, "lock");
	SEALED_UMASK(store);
	cleanup(close_fd) int fd = -1;
	int r;

	if (!path || make_directories(store, 0755, err) < 0)
		return path ? err->code : no_memory(err);
	fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, "%s", path);
	r = wait_lock(fd, how);
	if (r == -EINTR)
		return err_set(err, r, "interrupted: nothing was changed");
	if (r < 0)
		return err_set(err, r,
			       "an environment is being built, or old ones are removed: try again "
			       "when that is done");
	return steal_fd(&fd);
}

/* ---- what goes ---- */

struct keeper {
	const char *store;
	json_t *trees;	  /* hash -> true */
	json_t *wheels;	  /* hash -> true */
	uint64_t current; /* of the present name */
	const char *name;
	uint64_t freed;
};

static int find_current(void *arg, const char *name, uint64_t number, bool current,
			const json_t *record)
{
	struct keeper *keeper = arg;

	(void)name;
	(void)record;
	if (current)
		keeper->current = number;
	return 0;
}

/* The wheels that a lock names: "--hash=sha256:HEX" (json keys are the hashes). */
static void keep_wheels(struct keeper *keeper, const char *hash)
{
	cleanup(free_ptr) char *path = format_string("%s/trees/%s/lock", keeper->store, hash);
	cleanup(free_ptr) char *text = NULL;

	if (!path || read_file(AT_FDCWD, path, BUNDLE_TEXT, &text, NULL, NULL) < 0)
		return;
	for (const char *at = text; (at = strstr(at, "sha256:"));) {
		char hex[SEALED_HASH + 1];

		at += 7;
		(void)snprintf(hex, sizeof(hex), "%.64s", at);
		(void)json_object_set_new(keeper->wheels, hex, json_true());
	}
}

static int sort_generation(void *arg, const char *name, uint64_t number, bool current,
			   const json_t *record)
{
	struct keeper *keeper = arg;
	const char *hash = json_string_value(json_object_get(record, "tree"));

	if (!keeper->name || strcmp(keeper->name, name) != 0) {
		keeper->name = name;
		keeper->current = 0;
		(void)sealed_each(keeper->store, name, find_current, keeper);
	}
	if (!current && number + SEALED_KEPT < keeper->current) {
		cleanup(free_ptr) char *path =
			format_string("%s/names/%s/%" PRIu64 ".json", keeper->store, name, number);

		if (path)
			(void)unlink(path);
		return 0;
	}
	keep_wheels(keeper, hash);
	return json_object_set_new(keeper->trees, hash, json_true());
}

/* Removes every directory of STORE/WHERE that `kept` does not name and nobody holds. */
static void sweep(struct keeper *keeper, const char *where, const json_t *kept)
{
	cleanup(free_ptr) char *path = path_join(keeper->store, where);
	DIR *scan = path ? opendir(path) : NULL;
	struct dirent *entry;

	while (scan && (entry = readdir(scan))) {
		cleanup(close_fd) int fd = -1, guard = -1;

		/* a wheel that a killed build was writing */
		if (strncmp(entry->d_name, ".new-", 5) == 0)
			(void)unlinkat(dirfd(scan), entry->d_name, 0);
		if (strlen(entry->d_name) != SEALED_HASH || json_object_get(kept, entry->d_name))
			continue;
		fd = tree_step(dirfd(scan), entry->d_name, O_RDONLY | O_DIRECTORY);
		guard = fd < 0 ? -1 : openat(fd, "manifest", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
		if (guard >= 0 && fcntl(guard, F_OFD_SETLK, &(struct flock){.l_type = F_WRLCK}) < 0)
			continue;
		if (fd >= 0 && tree_remove(dirfd(scan), entry->d_name, fd) == 0)
			keeper->freed++;
	}
	if (scan)
		closedir(scan);
}

static void remove_unchosen(int names, const char *name)
{
	int fd = tree_step(names, name, O_RDONLY | O_DIRECTORY);
	DIR *scan = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!scan && fd >= 0)
		close(fd);
	while (scan && (entry = readdir(scan))) {
		if (strncmp(entry->d_name, ".current-", 9) == 0)
			(void)unlinkat(dirfd(scan), entry->d_name, 0);
	}
	if (scan)
		closedir(scan);
}

/* What a killed process left: a name without a current generation, which nobody finds, or a number
 * that was to be the current one. Nothing is built meanwhile. */
static void tidy_names(const char *store)
{
	cleanup(free_ptr) char *path = path_join(store, "names");
	DIR *scan = path ? opendir(path) : NULL;
	struct dirent *entry;

	while (scan && (entry = readdir(scan))) {
		cleanup(free_ptr) char *current = path_join(entry->d_name, "current");

		if (!current || sealed_check_name(entry->d_name, NULL) < 0)
			continue;
		if (faccessat(dirfd(scan), current, F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
		    errno == ENOENT)
			(void)sealed_forget(store, entry->d_name, NULL);
		else
			remove_unchosen(dirfd(scan), entry->d_name);
	}
	if (scan)
		closedir(scan);
}

int sealed_collect(const char *store, uint64_t *ret_removed, struct err *err)
{
	struct keeper keeper = {.store = store, .trees = json_object(), .wheels = json_object()};
	static const char *const held[] = {"builds", "live"};
	cleanup(close_fd) int alone = sealed_lock(store, LOCK_EX, err);
	int r = alone < 0 ? alone : keeper.trees && keeper.wheels ? 0 : no_memory(err);

	for (size_t i = 0; r == 0 && i < sizeof(held) / sizeof(held[0]); i++) {
		cleanup(free_ptr) char *path = path_join(store, held[i]);
		cleanup(close_fd) int directory =
			path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

		if (directory >= 0)
			sealed_remove_dead(directory);
	}
	if (r == 0)
		tidy_names(store);
	if (r == 0 && sealed_each(store, NULL, sort_generation, &keeper) < 0)
		r = no_memory(err);
	if (r == 0) {
		cleanup(free_ptr) char *files = path_join(store, "files");
		cleanup(close_fd) int pool =
			files ? open(files, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

		sweep(&keeper, "trees", keeper.trees);
		pool_sweep(pool);
		sweep(&keeper, "wheels", keeper.wheels);
	}
	json_decref(keeper.trees);
	json_decref(keeper.wheels);
	if (ret_removed)
		*ret_removed = keeper.freed;
	return r;
}
