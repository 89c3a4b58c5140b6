/*
 * The collector, over trees that a hostile kernel builds. The input is a list of steps: what the
 * kernel does to work/, what the host does to OUT, and collections between them, with limits that
 * are soon reached. After each one OUT is looked through.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "sandbox/copy.h"
#include "sandbox/names.h"
#include "sandbox/staging.h"
#include "sandbox/tree.h"

#define BYTES	  100000
#define FILES	  24
#define FOREIGN	  54321 /* the kernel's uid when root runs this */
#define STEPS_MAX 200
#define LOG_MAX	  512
#define HOSTS_MAX 32
#define SECRET	  "the host's secret"

/* One of the host's own files in OUT. */
struct host_file {
	char path[NAME_MAX + 8], text[16];
};

struct world {
	const uint8_t *data;
	size_t left;
	char base[32], state[64], out[64], directory[PATH_MAX];
	struct staging *staging;
	struct staging_report report;
	int here, held; /* where the kernel is; a file that it keeps open */
	uint32_t counter;
	bool foreign, earlier, host;
	uint64_t refused, secret; /* its inode */
	char *path[LOG_MAX];
	struct host_file hosts[HOSTS_MAX];
	size_t host_count;
};

static void require(bool condition)
{
	if (!condition)
		__builtin_trap();
}

/*
 * The collector waits a tick of the clock for files that were written in this one. Here each
 * version of a file has an mtime of its own, so the clock may be ahead.
 */
int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	const int r = __real_clock_gettime(clock, now);

	if (clock == CLOCK_REALTIME_COARSE)
		now->tv_sec++;
	return r;
}

/* ---- the input ---- */

static unsigned int next(struct world *world)
{
	if (world->left == 0)
		return 0;
	world->left--;
	return *world->data++;
}

static const char *next_name(struct world *world)
{
	static const char *const names[] = {"a",
					    "b",
					    "c",
					    "d.csv",
					    "staging",
					    "out",
					    "__pycache__",
					    ".hidden",
					    "conftest.py",
					    "page.html",
					    "two words",
					    "new\nline",
					    "bidi\xe2\x80\xae",
					    "a (cellwall 1)",
					    "Case",
					    "case",
					    ".cellwall-0123456789abcdef0123456789abcdef",
					    ".cellwall-history.sqlite"};
	static char name[NAME_MAX + 1];
	const unsigned int which = next(world);
	size_t size;

	if (which < 200)
		return names[which % (sizeof(names) / sizeof(names[0]))];
	memset(name, 'l', sizeof(name) - 1);
	if (which < 210)
		return name; /* the longest */
	size = 1 + which % 16;
	for (size_t i = 0; i < size; i++)
		name[i] = (char)next(world);
	name[size] = '\0';
	if (strchr(name, '/') || name[0] == '\0' || strcmp(name, ".") == 0 ||
	    strcmp(name, "..") == 0)
		return "a";
	return name;
}

/* ---- what the kernel does ---- */

/* What it could do nothing to: it is not its own. */
static bool is_secret(const struct world *world, const char *name)
{
	struct stat status;

	return fstatat(world->here, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
	       status.st_ino == world->secret;
}

/* A descriptor of one of its own files or directories, or -1. */
static int kernel_open(struct world *world, const char *name, int flags)
{
	if (is_secret(world, name))
		return -1;
	return openat(world->here, name, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
}

/* As the kernel's: its owner, and an mtime that no other version has. */
static void own(struct world *world, const char *name)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
					  {.tv_sec = 1000000000, .tv_nsec = ++world->counter}};

	if (is_secret(world, name))
		return;
	if (world->foreign)
		(void)!fchownat(world->here, name, FOREIGN, FOREIGN, AT_SYMLINK_NOFOLLOW);
	(void)utimensat(world->here, name, times, AT_SYMLINK_NOFOLLOW);
}

static void kernel_write(struct world *world, const char *name, size_t size)
{
	int fd = kernel_open(world, name, O_WRONLY | O_CREAT | O_TRUNC);
	char data[2048];
	struct stat status;

	/* a fifo opens too while the kernel holds it open */
	if (fd >= 0 && (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)))
		close_fd(&fd);
	if (fd < 0)
		return;
	memset(data, 'a' + (int)(world->counter % 26), sizeof(data));
	require(write_full(fd, data, size % sizeof(data)) == 0);
	if (size >= sizeof(data))
		require(ftruncate(fd, (off_t)size * 64) == 0); /* the rest is a hole */
	close(fd);
	own(world, name);
}

static void kernel_enter(struct world *world, const char *name)
{
	const int fd = kernel_open(world, name, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		return;
	close(world->here);
	world->here = fd;
}

static void kernel_home(struct world *world)
{
	close(world->here);
	world->here = open(staging_work(world->staging), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	require(world->here >= 0);
}

static void kernel_chain(struct world *world, const char *name, unsigned int depth)
{
	for (unsigned int i = 0; i < depth; i++) {
		(void)mkdirat(world->here, name, 0755);
		own(world, name);
		kernel_enter(world, name);
	}
}

static void kernel_link(struct world *world, const char *name, unsigned int which)
{
	static const char *const targets[] = {"../../../secret/key", "../../../secret", "..",
					      "nowhere", "a"};

	(void)!symlinkat(targets[which % 5], world->here, name);
	own(world, name);
}

static void kernel_mode(struct world *world, const char *name, unsigned int mode)
{
	struct stat status;

	if (fstatat(world->here, name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
	    !is_secret(world, name) && !S_ISLNK(status.st_mode))
		(void)fchmodat(world->here, name, mode << 4 & 07777, 0);
}

static void kernel_hold(struct world *world, const char *name)
{
	close_fd(&world->held);
	world->held = kernel_open(world, name, O_RDWR);
}

static void kernel_steal(struct world *world, const char *name)
{
	char secret[64];

	snprintf(secret, sizeof(secret), "%s/secret/key", world->base);
	if (world->foreign) /* an ordinary user's own files may be linked, and are not its secrets
			     */
		(void)linkat(AT_FDCWD, secret, world->here, name, 0);
}

/* ---- what the host does ---- */

static const char *host_path(struct world *world, char path[PATH_MAX])
{
	static const char *const names[] = {"a",   "b",	  "c",	 "d.csv",
					    "a/b", "a/a", "out", "two words"};
	const char *name = names[next(world) % 8];
	char staging[64];

	snprintf(staging, sizeof(staging), "%s/project/staging", world->base);
	(void)mkdir(staging, 0755);
	(void)mkdir(world->out, 0755);
	snprintf(path, PATH_MAX, "%s/%s", world->out, name);
	world->host = true;
	return name;
}

/* Is the way there free of links? */
static bool host_is_plain(struct world *world)
{
	char path[PATH_MAX];
	struct stat status;

	snprintf(path, sizeof(path), "%s/a", world->out);
	return lstat(path, &status) < 0 || !S_ISLNK(status.st_mode);
}

static struct host_file *host_file(struct world *world, const char *name)
{
	for (size_t i = 0; i < world->host_count; i++)
		if (strcmp(world->hosts[i].path, name) == 0)
			return &world->hosts[i];
	if (world->host_count == HOSTS_MAX)
		return NULL;
	snprintf(world->hosts[world->host_count].path, sizeof(world->hosts[0].path), "%s", name);
	return &world->hosts[world->host_count++];
}

static void host_write(struct world *world)
{
	char path[PATH_MAX];
	const char *name = host_path(world, path);
	struct host_file *file = host_file(world, name);
	int fd = file && host_is_plain(world)
			 ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644)
			 : -1;

	if (fd < 0)
		return;
	snprintf(file->text, sizeof(file->text), "host %u", ++world->counter);
	require(write_full(fd, file->text, strlen(file->text)) == 0);
	close(fd);
}

static void host_remove(struct world *world)
{
	char path[PATH_MAX];
	struct host_file *file = host_file(world, host_path(world, path));

	if (!host_is_plain(world) || (unlink(path) < 0 && rmdir(path) < 0))
		return;
	if (file)
		file->text[0] = '\0';
}

static void host_make(struct world *world, bool link)
{
	char path[PATH_MAX], to[64];

	(void)host_path(world, path);
	snprintf(to, sizeof(to), "%s/outside", world->base);
	if (!host_is_plain(world))
		return;
	if (link)
		(void)!symlink(to, path);
	else
		(void)mkdir(path, 0755);
}

/* ---- what must hold ---- */

static void on_refused(void *arg, const char *path, const char *reason)
{
	struct world *world = arg;

	require(path[0] != '\0' && reason[0] != '\0' && strlen(reason) < 2048);
	if (world->refused < LOG_MAX)
		world->path[world->refused++] = strdup(path);
}

/* Was `path`, or a directory on its way, refused? */
static bool is_refused(const struct world *world, const char *path)
{
	for (size_t i = 0; i < world->refused; i++) {
		const size_t size = world->path[i] ? strlen(world->path[i]) : 0;

		if (size > 0 && strncmp(path, world->path[i], size) == 0 &&
		    (path[size] == '\0' || path[size] == '/'))
			return true;
	}
	return false;
}

static bool is_host(const struct world *world, const char *path)
{
	for (size_t i = 0; i < world->host_count; i++)
		if (world->hosts[i].text[0] && strcmp(world->hosts[i].path, path) == 0)
			return true;
	return false;
}

/* Nothing of the host's is there, nothing that is no result, and no more than the limits allow. */
static void check_out(struct world *world)
{
	const int fd = open(world->out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint64_t files = 0, bytes = 0;
	struct walk walk;
	struct stat status;

	if (fd < 0)
		return;
	walk_init(&walk);
	require(walk_start(&walk, fd) == 0);
	while (walk_next(&walk) > 0) {
		char *data = NULL;
		size_t size;

		require(walk_stat(&walk, &status) == 0);
		require(S_ISREG(status.st_mode) || S_ISDIR(status.st_mode) ||
			(world->host && S_ISLNK(status.st_mode)));
		require(name_refusal(walk.name, NULL) == NULL);
		if (S_ISDIR(status.st_mode))
			require(!name_is_cache(walk.name, NULL) && walk_enter(&walk) == 0);
		if (!S_ISREG(status.st_mode) || is_host(world, walk.path))
			continue;
		require((status.st_mode & (S_ISUID | S_ISGID | S_ISVTX | S_IWOTH)) == 0);
		require(status.st_nlink == 1);
		files++;
		bytes += (uint64_t)status.st_size;
		if (read_file(walk_here(&walk)->fd, walk.name, BYTES, &data, &size, NULL) == 0)
			require(strstr(data, SECRET) == NULL);
		free(data);
	}
	require(files <= FILES && bytes <= BYTES);
	walk_done(&walk);
	close(fd);
}

/* What the host wrote is as it wrote it, and nothing came where its links lead. */
static void check_host(struct world *world)
{
	char path[PATH_MAX], *data;
	size_t size;

	snprintf(path, sizeof(path), "%s/secret/key", world->base);
	require(read_file(AT_FDCWD, path, 100, &data, &size, NULL) == 0);
	require(strcmp(data, SECRET) == 0);
	free(data);
	snprintf(path, sizeof(path), "%s/outside", world->base);
	require(rmdir(path) == 0 && mkdir(path, 0777) == 0);
	for (size_t i = 0; !world->earlier && i < world->host_count; i++) {
		if (world->hosts[i].text[0] == '\0')
			continue;
		snprintf(path, sizeof(path), "%s/%s", world->out, world->hosts[i].path);
		require(read_file(AT_FDCWD, path, 100, &data, &size, NULL) == 0);
		require(strcmp(data, world->hosts[i].text) == 0);
		free(data);
	}
}

/* Is this file of work/ in OUT, under its name or one beside it? */
static bool is_out(const struct world *world, const struct walk *walk, int in, off_t size)
{
	const char *path = walk->path;
	const size_t before = (size_t)(walk->name - path);
	char beside[NAME_MAX + 1], to[PATH_MAX];
	bool found = false;

	for (uint32_t n = 0; n < 10 && !found; n++) {
		const size_t inner = strncmp(path, "staging/out/", 12) == 0 ? 12 : 0;
		off_t at = 0;
		int fd;

		name_beside(walk->name, n, beside);
		snprintf(to, sizeof(to), "%s/%.*s%s", world->out, (int)(before - inner),
			 path + inner, beside);
		fd = open(to, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		found = lseek(fd, 0, SEEK_END) == size && copy_compare(in, fd, size, &at, 0) == 1;
		close(fd);
	}
	return found;
}

/* What was not refused is there. */
static void check_complete(struct world *world)
{
	const int fd = open(staging_work(world->staging), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct walk walk;
	struct stat status;

	if (fd < 0)
		return;
	walk_init(&walk);
	require(walk_start(&walk, fd) == 0);
	while (walk_next(&walk) > 0) {
		int in;

		if (walk_stat(&walk, &status) < 0 || name_refusal(walk.name, NULL) ||
		    is_refused(world, walk.path))
			continue;
		if (S_ISDIR(status.st_mode) && !name_is_cache(walk.name, NULL))
			(void)walk_enter(&walk);
		if (!S_ISREG(status.st_mode))
			continue;
		in = tree_step(walk_here(&walk)->fd, walk.name, O_RDONLY);
		require(in >= 0 && is_out(world, &walk, in, status.st_size));
		close(in);
	}
	walk_done(&walk);
	close(fd);
}

static void collect(struct world *world, bool hurry)
{
	struct err err;
	const int r = staging_collect(world->staging, hurry ? now_ms() : 0, on_refused, world,
				      &world->report, &err);

	require(r == 0 || err.text[0] != '\0');
	check_out(world);
	check_host(world);
	if (hurry || r < 0 || world->report.left > 0)
		return;
	if (!world->host && world->refused < LOG_MAX)
		check_complete(world);
	require(staging_collect(world->staging, 0, on_refused, world, &world->report, &err) == 0);
	require(world->report.files == 0 && world->report.left == 0);
}

/* ---- the steps ---- */

static void begin_again(struct world *world)
{
	struct err err;

	world->staging = staging_free(world->staging);
	require(staging_open(world->directory, 0, 0, &world->staging, &err) == 0);
}

static void step(struct world *world)
{
	const unsigned int what = next(world) % 20;
	const char *name = what < 12 ? next_name(world) : "";
	char other[NAME_MAX + 1];

	switch (what) {
	case 0:
	case 1:
		kernel_write(world, name, next(world) << (what * 5));
		return;
	case 2:
		(void)mkdirat(world->here, name, 0755);
		own(world, name);
		return;
	case 3:
		kernel_enter(world, name);
		return;
	case 4:
		kernel_chain(world, name, next(world) % 80);
		return;
	case 5:
		kernel_link(world, name, next(world));
		return;
	case 6:
		(void)mknodat(world->here, name, next(world) % 2 ? S_IFIFO : S_IFSOCK, 0);
		own(world, name);
		return;
	case 7:
		snprintf(other, sizeof(other), "%s", name);
		(void)linkat(world->here, other, world->here, next_name(world), 0);
		return;
	case 8:
		snprintf(other, sizeof(other), "%s", name);
		name = next_name(world);
		(void)renameat2(world->here, other, world->here, name,
				next(world) % 2 ? RENAME_EXCHANGE : 0);
		return;
	case 9:
		if (unlinkat(world->here, name, 0) < 0)
			(void)unlinkat(world->here, name, AT_REMOVEDIR);
		return;
	case 10:
		kernel_mode(world, name, next(world));
		return;
	case 11:
		if (next(world) % 4)
			kernel_hold(world, name);
		else
			kernel_steal(world, name);
		return;
	case 12:
		kernel_home(world);
		return;
	case 13:
		close_fd(&world->held);
		return;
	case 14:
		host_write(world);
		return;
	case 15:
		host_remove(world);
		return;
	case 16:
		host_make(world, next(world) % 2);
		return;
	case 17:
		begin_again(world);
		return;
	default:
		collect(world, what == 18);
	}
}

static void world_new(struct world *world)
{
	const unsigned int flags = next(world);
	struct timespec since[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
	char path[PATH_MAX + 8];
	struct stat status;
	struct err err;

	tree_without_openat2 = flags & 1;
	copy_without_unnamed = flags & 2;
	copy_without_offload = flags & 4;
	world->earlier = flags & 8;
	world->foreign = geteuid() == 0 && flags & 16;
	world->here = world->held = -1;
	snprintf(world->base, sizeof(world->base), "/dev/shm/fuzz-XXXXXX");
	require(mkdtemp(world->base) != NULL);
	snprintf(world->state, sizeof(world->state), "%s/state", world->base);
	snprintf(world->out, sizeof(world->out), "%s/project/staging/out", world->base);
	snprintf(path, sizeof(path), "%s/project", world->base);
	require(mkdir(path, 0755) == 0);
	snprintf(path, sizeof(path), "%s/outside", world->base);
	require(mkdir(path, 0755) == 0);
	snprintf(path, sizeof(path), "%s/secret", world->base);
	require(mkdir(path, 0755) == 0);
	snprintf(path, sizeof(path), "%s/secret/key", world->base);
	require(write_new_file(AT_FDCWD, path, 0600, SECRET, strlen(SECRET), &err) == 0);
	require(stat(path, &status) == 0);
	world->secret = status.st_ino;
	require(staging_create(world->state, world->out, world->foreign ? FOREIGN : (uid_t)-1,
			       BYTES, FILES, &world->staging, &err) == 0);
	snprintf(world->directory, sizeof(world->directory), "%s",
		 staging_directory(world->staging));
	/* what is of before the run: all of the host's files, or none */
	snprintf(path, sizeof(path), "%s/out", world->directory);
	if (world->earlier)
		since[1].tv_sec = 4000000000;
	require(utimensat(AT_FDCWD, path, since, 0) == 0);
	begin_again(world);
	kernel_home(world);
}

static void world_end(struct world *world)
{
	const int fd = open(world->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct err err;

	close_fd(&world->held);
	close_fd(&world->here);
	require(staging_remove(world->staging, &err) == 0);
	world->staging = staging_free(world->staging);
	require(rmdir(world->state) == 0);
	require(tree_empty(fd) == 0 && rmdir(world->base) == 0);
	close(fd);
	for (size_t i = 0; i < world->refused; i++)
		free(world->path[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world world;
	const int first = dup(STDIN_FILENO);
	int last;

	memset(&world, 0, sizeof(world));
	world.data = data;
	world.left = size;
	world_new(&world);
	for (int i = 0; i < STEPS_MAX && world.left > 0; i++)
		step(&world);
	collect(&world, false);
	world_end(&world);
	close(first);
	last = dup(STDIN_FILENO);
	require(last == first); /* no descriptor is left open */
	close(last);
	return 0;
}
