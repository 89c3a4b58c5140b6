#include "sandbox/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define TOP	   "/sys/fs/cgroup"
#define PREFIX	   "cellwall-"
#define FILE_LIMIT 65536
#define PERIOD_US  100000 /* of cpu.max, the kernel's own default */
/* pid 1, the relay and the builder are in the group too. */
#define OUR_TASKS  16
#define GONE_MS	   1000
#define MAKE_TRIES 8

static int read_at(int directory, const char *file, char **ret_text)
{
	return read_file(directory, file, FILE_LIMIT, ret_text, NULL, NULL);
}

static int write_at(int directory, const char *file, const char *text)
{
	cleanup(close_fd) int fd = openat(directory, file, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

int cgroup_parse(const char *text, const char *key, uint64_t *ret_value)
{
	const size_t length = key ? strlen(key) : 0;
	char number[24];
	size_t digits;

	while (key && !(strncmp(text, key, length) == 0 && text[length] == ' ')) {
		text = strchr(text, '\n');
		if (!text)
			return -ENOENT;
		text++;
	}
	if (key)
		text += length + 1;
	digits = strcspn(text, " \n");
	if (digits >= sizeof(number))
		return -EINVAL;
	memcpy(number, text, digits);
	number[digits] = '\0';
	if (strcmp(number, "max") == 0) {
		*ret_value = CGROUP_NONE;
		return 0;
	}
	return parse_u64(number, UINT64_MAX, ret_value);
}

int cgroup_number(int directory, const char *file, const char *key, uint64_t *ret_value)
{
	cleanup(free_ptr) char *text = NULL;
	int r = read_at(directory, file, &text);

	return r < 0 ? r : cgroup_parse(text, key, ret_value);
}

/* ---- finding a place ---- */

static bool has_word(const char *text, const char *word)
{
	const size_t length = strlen(word);

	while (*text) {
		const size_t step = strcspn(text, " \n");

		if (step == length && memcmp(text, word, length) == 0)
			return true;
		text += step + (text[step] != '\0');
	}
	return false;
}

static bool lists(int directory, const char *file)
{
	cleanup(free_ptr) char *text = NULL;

	return read_at(directory, file, &text) == 0 && has_word(text, "memory") &&
	       has_word(text, "pids");
}

/* Can a child of this group be limited, and may we make it and go there? */
static int look(const char *path, struct err *err)
{
	cleanup(close_fd) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup(free_ptr) char *processes = NULL;

	if (fd < 0)
		return err_errno(err, "cannot open %s", path);
	if (faccessat(fd, ".", W_OK, AT_EACCESS) < 0 ||
	    faccessat(fd, "cgroup.procs", W_OK, AT_EACCESS) < 0)
		return err_set(err, -errno, "%s is not delegated to us: %s", path,
			       strerrordesc_np(errno));
	if (!lists(fd, "cgroup.controllers"))
		return err_set(err, -ENOTSUP, "%s does not have the controllers memory and pids",
			       path);
	if (lists(fd, "cgroup.subtree_control"))
		return 0;
	/* Controllers can be given to children of a group without processes, and of the root, which
	 * has no type. */
	if (faccessat(fd, "cgroup.type", F_OK, 0) < 0)
		return 0;
	if (faccessat(fd, "cgroup.subtree_control", W_OK, AT_EACCESS) < 0)
		return err_set(err, -errno, "%s is not delegated to us: %s", path,
			       strerrordesc_np(errno));
	if (read_at(fd, "cgroup.procs", &processes) < 0 || *processes)
		return err_set(err, -EBUSY,
			       "%s has processes in it, so its children have no limits", path);
	return 0;
}

int cgroup_find_below(const char *top, const char *own, char **ret_parent, struct err *err)
{
	cleanup(free_ptr) char *path = format_string("%s%s", top, strcmp(own, "/") == 0 ? "" : own);
	struct err above;
	int r;

	if (!path)
		return err_set(err, -ENOMEM, "out of memory");
	r = look(path, err); /* what is said of our own group explains most */
	while (r < 0 && strlen(path) > strlen(top)) {
		*strrchr(path, '/') = '\0';
		if (look(path, &above) == 0)
			r = 0;
	}
	if (r == 0)
		*ret_parent = steal_ptr(&path);
	return r;
}

/* The path in the line "0::PATH" of /proc/self/cgroup, cgroups(7). */
static int own_group(char **ret_own, struct err *err)
{
	cleanup(free_ptr) char *text = NULL;
	char *line;
	int r = read_at(AT_FDCWD, "/proc/self/cgroup", &text);

	if (r < 0)
		return err_set(err, r, "cannot read /proc/self/cgroup: %s", strerrordesc_np(-r));
	line = strncmp(text, "0::/", 4) == 0 ? text : strstr(text, "\n0::/");
	if (!line)
		return err_set(err, -ENOTSUP, "this process is in no cgroup of version 2");
	line += line == text ? 3 : 4;
	line[strcspn(line, "\n")] = '\0';
	if (strstr(line, "/.."))
		return err_set(err, -ENOTSUP, "our own cgroup is not below " TOP);
	*ret_own = strdup(line);
	return *ret_own ? 0 : err_set(err, -ENOMEM, "out of memory");
}

int cgroup_find(char **ret_parent, struct err *err)
{
	cleanup(free_ptr) char *own = NULL;
	struct statfs status;
	int r;

	if (statfs(TOP, &status) < 0 || status.f_type != CGROUP2_SUPER_MAGIC)
		return err_set(err, -ENOTSUP, "no cgroup v2 at " TOP);
	r = own_group(&own, err);
	return r < 0 ? r : cgroup_find_below(TOP, own, ret_parent, err);
}

/* ---- making and removing ---- */

/* Locks it, unless somebody else has, or it is gone. */
static int lock_group(int parent, const char *name, int *ret_directory)
{
	cleanup(close_fd) int fd =
		openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat held, named;

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	if (fstat(fd, &held) < 0 || fstatat(parent, name, &named, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (held.st_ino != named.st_ino)
		return -ENOENT;
	*ret_directory = steal_fd(&fd);
	return 0;
}

void cgroup_sweep(int parent)
{
	int fd = openat(parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!directory) {
		close_fd(&fd);
		return;
	}
	while ((entry = readdir(directory))) {
		cleanup(close_fd) int group = -1;

		if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) == 0 &&
		    lock_group(parent, entry->d_name, &group) == 0)
			(void)unlinkat(parent, entry->d_name, AT_REMOVEDIR);
	}
	(void)closedir(directory);
}

/* A directory of our own, locked. A sweeper may have come between the two: then another one. */
static int make_locked(struct cgroup *cgroup)
{
	char number[9];
	int r = -EAGAIN;

	for (int i = 0; i < MAKE_TRIES && r < 0; i++) {
		r = random_hex(number, 4);
		if (r < 0)
			return r;
		(void)snprintf(cgroup->name, sizeof(cgroup->name), PREFIX "%s", number);
		if (mkdirat(cgroup->parent, cgroup->name, 0755) < 0) {
			if (errno != EEXIST)
				return -errno;
			r = -EEXIST;
			continue;
		}
		r = lock_group(cgroup->parent, cgroup->name, &cgroup->directory);
	}
	return r;
}

static int set_number(const struct cgroup *cgroup, const char *file, uint64_t value,
		      struct err *err)
{
	char text[24];
	int r;

	(void)snprintf(text, sizeof(text), "%" PRIu64, value);
	r = write_at(cgroup->directory, file, text);
	return r < 0 ? err_set(err, r, "cannot set %s of a new cgroup: %s", file,
			       strerrordesc_np(-r))
		     : 0;
}

static int set_limits(struct cgroup *cgroup, const struct cgroup_limits *limits, struct err *err)
{
	char quota[64];
	int r = set_number(cgroup, "pids.max", limits->pids + OUR_TASKS, err);

	if (r == 0 && limits->memory > 0)
		r = set_number(cgroup, "memory.max", limits->memory, err);
	/*
	 * Swap would only make the same end slow; without the swap controller there is none to
	 * limit. memory.oom.group stays 0: where a worker process is what grew, it alone ends, and
	 * the notebook's variables live on.
	 */
	if (r == 0 && limits->memory > 0)
		(void)write_at(cgroup->directory, "memory.swap.max", "0");
	if (r < 0 || limits->cpus == 0)
		return r;
	(void)snprintf(quota, sizeof(quota), "%" PRIu64 " %d", limits->cpus * (PERIOD_US / 1000),
		       PERIOD_US);
	cgroup->cpus = write_at(cgroup->directory, "cpu.max", quota) == 0;
	return 0;
}

int cgroup_make(const char *parent, const struct cgroup_limits *limits, struct cgroup *ret_cgroup,
		struct err *err)
{
	struct cgroup cgroup = {.directory = -1};
	int r;

	cgroup.parent = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cgroup.parent < 0)
		return err_errno(err, "cannot open %s", parent);
	if (!lists(cgroup.parent, "cgroup.subtree_control"))
		(void)write_at(cgroup.parent, "cgroup.subtree_control", "+memory +pids");
	if (limits->cpus > 0)
		(void)write_at(cgroup.parent, "cgroup.subtree_control", "+cpu");
	cgroup_sweep(cgroup.parent);
	r = make_locked(&cgroup);
	if (r < 0)
		err_set(err, r, "cannot make a cgroup in %s: %s", parent, strerrordesc_np(-r));
	else
		r = set_limits(&cgroup, limits, err);
	if (r < 0) {
		cgroup_remove(&cgroup);
		return r;
	}
	*ret_cgroup = cgroup;
	return 0;
}

void cgroup_remove(struct cgroup *cgroup)
{
	const int64_t until = now_ms() + GONE_MS;

	if (cgroup->directory >= 0) {
		/* Since Linux 5.14; the sandbox has ended by other means before. */
		(void)write_at(cgroup->directory, "cgroup.kill", "1");
		while (unlinkat(cgroup->parent, cgroup->name, AT_REMOVEDIR) < 0 && errno == EBUSY &&
		       now_ms() < until)
			(void)poll(NULL, 0, 2);
	}
	close_fd(&cgroup->directory);
	close_fd(&cgroup->parent);
}

/* ---- the machine ---- */

/* The least "max" of our own groups; in a container the top is its own. */
static uint64_t least_above(void)
{
	cleanup(free_ptr) char *own = NULL, *path = NULL;
	uint64_t least = CGROUP_NONE, value;

	if (own_group(&own, NULL) < 0)
		return least;
	path = format_string(TOP "%s", strcmp(own, "/") == 0 ? "" : own);
	while (path && strlen(path) >= strlen(TOP)) {
		cleanup(free_ptr) char *file = path_join(path, "memory.max");

		if (file && cgroup_number(AT_FDCWD, file, NULL, &value) == 0 && value < least)
			least = value;
		*strrchr(path, '/') = '\0';
	}
	return least;
}

uint64_t cgroup_machine_memory(void)
{
	const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	uint64_t least = least_above(), value;

	/* A container with version 1 has its own limit at the top of what it sees. */
	if (cgroup_number(AT_FDCWD, TOP "/memory/memory.limit_in_bytes", NULL, &value) == 0 &&
	    value < least)
		least = value;
	if (pages > 0 && size > 0 && (uint64_t)pages * (uint64_t)size < least)
		least = (uint64_t)pages * (uint64_t)size;
	return least;
}
