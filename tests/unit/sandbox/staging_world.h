/*
 * staging_world: what the two staging tests share. A project folder and a state directory below a
 * fresh temporary directory, a collector at work on them, and the list of what it refused.
 */
#ifndef TESTS_STAGING_WORLD_H
#define TESTS_STAGING_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/copy.h"
#include "sandbox/staging.h"
#include "sandbox/tree.h"

#define LOG_MAX 2048
#define BYTES	((uint64_t)1 << 30)
#define FILES	10000

struct world {
	char base[64];
	char project[128], state[128], out[160];
	struct staging *staging;
	struct staging_report report;
	struct err err;
	size_t refused;
	char *path[LOG_MAX], *reason[LOG_MAX];
};

/* The uid that work/ is given to when root runs the tests. */
#define FOREIGN 54321

/* The fallbacks are tried on a tmpfs, the rest on whatever /tmp is. */
static inline bool world_on_tmpfs(void)
{
	return tree_without_openat2 && access("/dev/shm", W_OK | X_OK) == 0;
}

static inline uid_t world_owner(void)
{
	return geteuid() == 0 ? FOREIGN : (uid_t)-1;
}

static inline void world_log(void *arg, const char *path, const char *reason)
{
	struct world *world = arg;

	if (world->refused < LOG_MAX) {
		world->path[world->refused] = strdup(path);
		world->reason[world->refused] = strdup(reason);
	}
	world->refused++;
}

/* The reason why `path` was refused, or NULL. */
static inline const char *world_reason(const struct world *world, const char *path)
{
	for (size_t i = 0; i < world->refused && i < LOG_MAX; i++)
		if (strcmp(world->path[i], path) == 0)
			return world->reason[i];
	return NULL;
}

static inline void world_forget(struct world *world)
{
	for (size_t i = 0; i < world->refused && i < LOG_MAX; i++) {
		free(world->path[i]);
		free(world->reason[i]);
	}
	world->refused = 0;
}

static inline void world_new(struct world *world, uint64_t bytes, uint64_t files)
{
	memset(world, 0, sizeof(*world));
	snprintf(world->base, sizeof(world->base), "%s/cellwall-staging-XXXXXX",
		 world_on_tmpfs() ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(world->base));
	assert_int_equal(chmod(world->base, 0755), 0);
	snprintf(world->project, sizeof(world->project), "%s/project", world->base);
	snprintf(world->state, sizeof(world->state), "%s/state", world->base);
	snprintf(world->out, sizeof(world->out), "%s/staging/out", world->project);
	assert_int_equal(mkdir(world->project, 0755), 0);
	if (staging_create(world->state, world->out, world_owner(), bytes, files, &world->staging,
			   &world->err) < 0)
		fail_msg("%s", world->err.text);
}

static inline void world_end(struct world *world)
{
	int fd = open(world->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	world->staging = staging_free(world->staging);
	world_forget(world);
	assert_int_equal(tree_empty(fd), 0);
	close(fd);
	assert_int_equal(rmdir(world->base), 0);
}

static inline int world_collect(struct world *world)
{
	memset(&world->report, 0, sizeof(world->report));
	return staging_collect(world->staging, 0, world_log, world, &world->report, &world->err);
}

/* A path below the temporary directory, or below work/ ("w:…") or OUT ("o:…"). Four at a time. */
static inline const char *at(const struct world *world, const char *name)
{
	static char path[4][2 * PATH_MAX];
	static unsigned int next;
	char *out = path[next++ % 4];
	const char *top = world->base;

	if (strncmp(name, "w:", 2) == 0)
		top = staging_work(world->staging);
	else if (strncmp(name, "o:", 2) == 0)
		top = world->out;
	if (top != world->base)
		name += 2;
	if (snprintf(out, sizeof(path[0]), "%s/%s", top, name) >= (int)sizeof(path[0]))
		fail_msg("%s is too long", name);
	return out;
}

/* Gives what a test made in work/ to the kernel's uid. */
static inline void give(const char *path)
{
	if (geteuid() == 0)
		assert_int_equal(lchown(path, FOREIGN, FOREIGN), 0);
}

static inline void put_bytes(const char *path, const void *data, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		fail_msg("%s: %s", path, strerror(errno));
	assert_int_equal(write_full(fd, data, size), 0);
	close(fd);
}

/* As the kernel would: makes parents, and all of it belongs to its uid. */
static inline void put(const struct world *world, const char *name, const char *text)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s", at(world, name));
	for (char *slash = path + strlen(world->base) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		if (mkdir(path, 0755) == 0 && name[0] == 'w')
			give(path);
		*slash = '/';
	}
	put_bytes(path, text, strlen(text));
	if (name[0] == 'w')
		give(path);
}

static inline char *get(const struct world *world, const char *name)
{
	char *data = NULL;
	size_t size;

	if (read_file(AT_FDCWD, at(world, name), 64 * 1024 * 1024, &data, &size, NULL) < 0)
		return NULL;
	return data;
}

static inline bool exists(const struct world *world, const char *name)
{
	struct stat status;

	return lstat(at(world, name), &status) == 0;
}

#define assert_content(world, name, text)                                                          \
	do {                                                                                       \
		char *content_ = get(world, name);                                                 \
		if (!content_)                                                                     \
			fail_msg("%s is not there", name);                                         \
		assert_string_equal(content_, text);                                               \
		free(content_);                                                                    \
	} while (0)

#define assert_refused(world, name, text)                                                          \
	do {                                                                                       \
		const char *reason_ = world_reason(world, name);                                   \
		if (!reason_)                                                                      \
			fail_msg("%s was not refused", name);                                      \
		if (!strstr(reason_, text))                                                        \
			fail_msg("%s: %s", name, reason_);                                         \
	} while (0)

#define assert_collects(world, count)                                                              \
	do {                                                                                       \
		if (world_collect(world) < 0)                                                      \
			fail_msg("%s", (world)->err.text);                                         \
		assert_int_equal((world)->report.files, count);                                    \
	} while (0)

/* Number of names below `path` that begin with `prefix` (NULL: all). */
static inline int count_names(const char *path, const char *prefix)
{
	struct walk walk;
	int count = 0, r;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	walk_init(&walk);
	r = walk_start(&walk, fd);
	while (r >= 0 && (r = walk_next(&walk)) > 0) {
		struct stat status;

		if (!prefix || strncmp(walk.name, prefix, strlen(prefix)) == 0)
			count++;
		if (walk_stat(&walk, &status) == 0 && S_ISDIR(status.st_mode))
			(void)walk_enter(&walk);
	}
	walk_done(&walk);
	close(fd);
	return count;
}

/* Waits until a file written now has an old time stamp: keeps tests of "unchanged" apart from the
 * clock's tick. */
static inline void settle(void)
{
	usleep(25000);
}

/*
 * Runs `group` as it is, as on a host without openat2, O_TMPFILE and copy offload, and, when
 * started by root, both again as an ordinary user. Returns the number of failures.
 */
static inline int world_run(int (*group)(const char *name))
{
	int failed = group("as it is");
	int status = 0;
	pid_t child;

	tree_without_openat2 = copy_without_unnamed = copy_without_offload = true;
	failed += group("fallbacks");
	tree_without_openat2 = copy_without_unnamed = copy_without_offload = false;
	if (geteuid() != 0)
		return failed;
	fflush(NULL);
	child = fork();
	if (child == 0) {
		if (setgroups(0, NULL) < 0 || setresgid(65534, 65534, 65534) < 0 ||
		    setresuid(65534, 65534, 65534) < 0)
			_exit(99);
		failed = group("ordinary user");
		tree_without_openat2 = copy_without_unnamed = copy_without_offload = true;
		failed += group("ordinary user, fallbacks");
		fflush(NULL);
		_exit(failed > 98 ? 98 : failed);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return failed + 1;
	return failed + (WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

#endif
