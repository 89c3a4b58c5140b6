/*
 * What a hostile kernel does to the collector, and what a plain copy would have made of it: each
 * attack is shown to work against naive_copy first, so that a test that has lost its teeth is seen.
 */
#include "staging_world.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/sysmacros.h>

#define SECRET	   "the host's secret"
#define NAIVE_MS   30000 /* a plain copy loses the races below in a few milliseconds */
#define LONG_MS	   30000 /* on a machine that is busy with something else */
#define KILL_FILES 40

/* For a second build of the same code: the same attacks, for less long. */
#define BRIEF (getenv("CELLWALL_BRIEF") != NULL)
#define KILLS (BRIEF ? 20u : 100u)
/* How long races are run: in full once, shortly with the fallbacks and as another user. */
#define RACE_MS (BRIEF ? 300 : geteuid() == 0 && !tree_without_openat2 ? 3000 : 1000)

static struct world world;

/* A race goes on for its time, and on a busy machine until something came of it. */
static bool goes_on(int64_t begin, bool enough)
{
	return now_ms() - begin < (enough ? RACE_MS : LONG_MS);
}

static int setup(void **state)
{
	(void)state;
	world_new(&world, BYTES, FILES);
	put(&world, "secret/key", SECRET);
	put(&world, "secret/id_rsa", SECRET);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	world_end(&world);
	return 0;
}

/* ---- the plain copy ---- */

static void naive_file(const char *from, const char *to, mode_t mode)
{
	static char buffer[65536];
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	ssize_t got;

	while (in >= 0 && out >= 0 && (got = read(in, buffer, sizeof(buffer))) > 0)
		if (write(out, buffer, (size_t)got) != got)
			break;
	if (out >= 0)
		(void)!fchmod(out, mode & 07777);
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
}

static void naive_copy(const char *from, const char *to, int depth)
{
	DIR *entries = opendir(from);
	const struct dirent *entry;

	(void)!mkdir(to, 0755);
	while (entries && (entry = readdir(entries))) {
		char source[PATH_MAX], target[PATH_MAX];
		struct stat status;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (snprintf(source, sizeof(source), "%s/%s", from, entry->d_name) >= PATH_MAX ||
		    snprintf(target, sizeof(target), "%s/%s", to, entry->d_name) >= PATH_MAX)
			continue;
		/* as careful as most: looks whether it is a link, and goes on by path */
		if (lstat(source, &status) < 0 || S_ISLNK(status.st_mode))
			continue;
		if (S_ISDIR(status.st_mode) && depth < 80)
			naive_copy(source, target, depth + 1);
		else if (!S_ISDIR(status.st_mode))
			naive_file(source, target, status.st_mode);
	}
	if (entries)
		closedir(entries);
}

static bool naive_ends(int limit_ms)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		naive_copy(staging_work(world.staging), at(&world, "naive"), 0);
		_exit(0);
	}
	for (int64_t end = now_ms() + limit_ms; now_ms() < end; usleep(1000))
		if (waitpid(child, &status, WNOHANG) == child)
			return true;
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	return false;
}

/* Is `text` in any file below `top`? */
static bool contains(const char *top, const char *text)
{
	struct walk walk;
	bool found = false;
	int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	if (fd < 0)
		return false;
	walk_init(&walk);
	r = walk_start(&walk, fd);
	while (!found && r >= 0 && (r = walk_next(&walk)) > 0) {
		struct stat status;
		char *data = NULL;
		size_t size;

		if (walk_stat(&walk, &status) < 0)
			continue;
		if (S_ISDIR(status.st_mode))
			(void)walk_enter(&walk);
		else if (S_ISREG(status.st_mode) && read_file(walk_here(&walk)->fd, walk.name,
							      1 << 20, &data, &size, NULL) == 0)
			found = strstr(data, text) != NULL;
		free(data);
	}
	walk_done(&walk);
	close(fd);
	return found;
}

/* ---- links ---- */

static void follows_no_link(void **state)
{
	(void)state;
	assert_int_equal(symlink("/etc/passwd", at(&world, "w:passwd")), 0);
	assert_int_equal(symlink(at(&world, "secret"), at(&world, "w:dir")), 0);
	assert_int_equal(symlink("../../../secret/key", at(&world, "w:relative")), 0);
	assert_int_equal(symlink("..", at(&world, "w:up")), 0);
	assert_int_equal(symlink("nowhere", at(&world, "w:dangling")), 0);
	assert_int_equal(symlink("loop", at(&world, "w:loop")), 0);
	assert_int_equal(symlink("/proc/self/root/etc/passwd", at(&world, "w:magic")), 0);
	put(&world, "w:good", "good");
	assert_collects(&world, 1);
	assert_int_equal(world.report.left, 0);
	assert_int_equal(world.refused, 7);
	assert_refused(&world, "passwd", "symbolic link");
	assert_refused(&world, "dir", "symbolic link");
	assert_refused(&world, "up", "symbolic link");
	assert_refused(&world, "dangling", "symbolic link");
	assert_int_equal(count_names(world.out, NULL), 1);
	assert_collects(&world, 0);
	assert_int_equal(world.refused, 7);
}

struct flip {
	int directory;
	const char *one, *other;
	atomic_bool stop;
	atomic_ulong count;
};

static void *flip_names(void *arg)
{
	struct flip *flip = arg;

	while (!flip->stop) {
		(void)renameat2(flip->directory, flip->one, flip->directory, flip->other,
				RENAME_EXCHANGE);
		flip->count++;
	}
	return NULL;
}

static void begin_flip(struct flip *flip, pthread_t *thread, const char *top, const char *one,
		       const char *other)
{
	memset(flip, 0, sizeof(*flip));
	flip->directory = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	flip->one = one;
	flip->other = other;
	assert_int_equal(pthread_create(thread, NULL, flip_names, flip), 0);
}

static void end_flip(struct flip *flip, pthread_t thread)
{
	for (int64_t end = now_ms() + LONG_MS; flip->count <= 1000 && now_ms() < end;)
		usleep(1000);
	flip->stop = true;
	pthread_join(thread, NULL);
	close(flip->directory);
	assert_true(flip->count > 1000);
}

/* A directory, and a file, exchanged for links to the host's while they are read. */
static void loses_no_race_inside(void **state)
{
	struct flip flip, second;
	pthread_t thread, other;
	uint64_t files = 0;
	bool caught = false;

	(void)state;
	put(&world, "w:d/key", "harmless");
	put(&world, "w:d/id_rsa", "harmless");
	put(&world, "w:f", "harmless");
	assert_int_equal(symlink(at(&world, "secret"), at(&world, "w:l")), 0);
	assert_int_equal(symlink(at(&world, "secret/key"), at(&world, "w:m")), 0);
	begin_flip(&flip, &thread, staging_work(world.staging), "d", "l");
	begin_flip(&second, &other, staging_work(world.staging), "f", "m");
	for (int64_t end = now_ms() + NAIVE_MS; !caught && now_ms() < end;) {
		naive_copy(staging_work(world.staging), at(&world, "naive"), 0);
		caught = contains(at(&world, "naive"), SECRET);
	}
	assert_true(caught);
	for (int64_t begin = now_ms(); goes_on(begin, files > 0);) {
		assert_int_equal(world_collect(&world), 0);
		files += world.report.files;
		assert_false(contains(world.out, SECRET));
	}
	end_flip(&flip, thread);
	end_flip(&second, other);
	assert_true(files > 0);
	assert_int_equal(world_collect(&world), 0);
	assert_false(contains(world.out, SECRET));
	assert_true(contains(world.out, "harmless"));
}

/* The same on the host's side: a directory of OUT exchanged for a link that leads out of it. */
static void loses_no_race_outside(void **state)
{
	struct flip flip;
	pthread_t thread;
	unsigned int round = 0;
	bool caught = false;

	(void)state;
	assert_int_equal(mkdir(at(&world, "outside"), 0777), 0);
	put(&world, "w:d/x", "first");
	put(&world, "o:d/keep", "");
	assert_int_equal(symlink(at(&world, "outside"), at(&world, "o:l")), 0);
	begin_flip(&flip, &thread, world.out, "d", "l");
	for (int64_t end = now_ms() + NAIVE_MS; !caught && now_ms() < end;) {
		naive_copy(staging_work(world.staging), world.out, 0);
		caught = exists(&world, "outside/x");
	}
	assert_true(caught);
	assert_int_equal(unlink(at(&world, "outside/x")), 0);
	for (int64_t end = now_ms() + RACE_MS; now_ms() < end;) {
		char text[32];

		snprintf(text, sizeof(text), "round %u", round++);
		put(&world, "w:d/x", text);
		(void)world_collect(&world);
		assert_int_equal(count_names(at(&world, "outside"), NULL), 0);
	}
	end_flip(&flip, thread);
	assert_int_equal(count_names(at(&world, "outside"), NULL), 0);
}

static void overwrites_nothing_behind_links(void **state)
{
	(void)state;
	put(&world, "o:x", "");
	assert_int_equal(unlink(at(&world, "o:x")), 0);
	assert_int_equal(symlink(at(&world, "secret/key"), at(&world, "o:x")), 0);
	assert_int_equal(symlink(at(&world, "secret"), at(&world, "o:sub")), 0);
	put(&world, "w:x", "overwritten");
	put(&world, "w:sub/key", "overwritten");
	assert_collects(&world, 0);
	assert_content(&world, "secret/key", SECRET);
	assert_refused(&world, "x", "link");
	assert_refused(&world, "sub/key", "link");
	naive_copy(staging_work(world.staging), world.out, 0);
	assert_content(&world, "secret/key", "overwritten");
}

static void copies_hard_links(void **state)
{
	struct stat one, other;

	(void)state;
	put(&world, "w:one", "content");
	assert_int_equal(link(at(&world, "w:one"), at(&world, "w:other")), 0);
	assert_collects(&world, 2);
	assert_int_equal(stat(at(&world, "o:one"), &one), 0);
	assert_int_equal(stat(at(&world, "o:other"), &other), 0);
	assert_int_not_equal(one.st_ino, other.st_ino);
	assert_int_equal(one.st_nlink, 1);
	if (geteuid() != 0)
		return;
	/* a hard link to what is not the kernel's, wherever it got it from */
	assert_int_equal(link(at(&world, "secret/key"), at(&world, "w:stolen")), 0);
	assert_collects(&world, 0);
	assert_refused(&world, "stolen", "somebody else");
	naive_copy(staging_work(world.staging), at(&world, "naive"), 0);
	assert_true(contains(at(&world, "naive"), SECRET));
}

/* ---- what is no file ---- */

static void does_not_hang(void **state)
{
	(void)state;
	assert_int_equal(mkfifo(at(&world, "w:fifo"), 0666), 0);
	give(at(&world, "w:fifo"));
	assert_false(naive_ends(500));
	assert_collects(&world, 0);
	assert_refused(&world, "fifo", "fifo");
	if (geteuid() != 0 || mknod(at(&world, "w:zero"), S_IFCHR | 0666, makedev(1, 5)) < 0)
		return;
	assert_collects(&world, 0);
	assert_refused(&world, "zero", "device");
}

/* A file that becomes a fifo between the look and the open. */
static void does_not_hang_in_a_race(void **state)
{
	struct flip flip;
	pthread_t thread;

	(void)state;
	put(&world, "w:a", "file");
	assert_int_equal(mkfifo(at(&world, "w:b"), 0666), 0);
	give(at(&world, "w:b"));
	begin_flip(&flip, &thread, staging_work(world.staging), "a", "b");
	for (int64_t end = now_ms() + RACE_MS / 3; now_ms() < end;)
		assert_int_equal(world_collect(&world), 0);
	end_flip(&flip, thread);
}

static void gives_no_setid_bits(void **state)
{
	struct stat status;

	(void)state;
	put(&world, "w:root-shell", "#!/bin/sh\n");
	assert_int_equal(chmod(at(&world, "w:root-shell"), 06777), 0);
	naive_copy(staging_work(world.staging), at(&world, "naive"), 0);
	assert_int_equal(stat(at(&world, "naive/root-shell"), &status), 0);
	assert_int_equal(status.st_mode & 04000, 04000);
	assert_collects(&world, 1);
	assert_int_equal(stat(at(&world, "o:root-shell"), &status), 0);
	assert_int_equal(status.st_mode & 07777, 0755);
	put(&world, "w:closed", "x");
	assert_int_equal(chmod(at(&world, "w:closed"), geteuid() == 0 ? 0 : 0400), 0);
	assert_collects(&world, 1);
	assert_int_equal(stat(at(&world, "o:closed"), &status), 0);
	assert_int_equal(status.st_mode & 07777, 0400);
}

/* ---- too much ---- */

static void refuses_sparse_giants(void **state)
{
	off_t size = (off_t)1 << 50;
	int fd = open(at(&world, "w:giant"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	int64_t begin;

	(void)state;
	/* a petabyte where the file system takes one; ext4 stops at 16 TB */
	while (ftruncate(fd, size) < 0 && size > ((off_t)1 << 32))
		size /= 2;
	close(fd);
	assert_true(size > (off_t)1 << 40);
	give(at(&world, "w:giant"));
	begin = now_ms();
	assert_collects(&world, 0);
	assert_true(now_ms() - begin < LONG_MS);
	assert_refused(&world, "giant", "larger than 1073741824 bytes");
	assert_int_equal(count_names(world.project, NULL), 0);
	assert_false(naive_ends(300));
}

static void counts_files(void **state)
{
	const int files = 1000;

	(void)state;
	world_end(&world);
	world_new(&world, BYTES, (uint64_t)files);
	for (int i = 0; i < files + 2000; i++) {
		char path[PATH_MAX];
		int fd;

		snprintf(path, sizeof(path), "%s/f%d", staging_work(world.staging), i);
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		assert_true(fd >= 0);
		close(fd);
		give(path);
	}
	assert_collects(&world, files);
	assert_int_equal(count_names(world.out, NULL), files);
	/* 1,024 by name, then one line for all others */
	assert_int_equal(world.refused, 1025);
	assert_refused(&world, ".", "too many names");
	assert_collects(&world, 0);
	assert_int_equal(world.refused, 1025);
}

static void looks_at_a_bounded_number(void **state)
{
	(void)state;
	world_end(&world);
	world_new(&world, BYTES, 10);
	for (int i = 0; i < 5000; i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s/d%d", staging_work(world.staging), i);
		assert_int_equal(mkdir(path, 0755), 0);
	}
	assert_collects(&world, 0);
	assert_refused(&world, ".", "more than 4136 names");
}

/* A chain of directories, each inside the other. */
static void make_chain(const char *name, int depth)
{
	int fd = open(staging_work(world.staging), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; i < depth; i++) {
		int next;

		assert_int_equal(mkdirat(fd, name, 0755), 0);
		next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(fd);
		fd = next;
	}
	close(fd);
}

static void bounds_the_depth(void **state)
{
	char deep[PATH_MAX] = "w:d", path[NAME_MAX * 6];

	(void)state;
	make_chain("d", 1000);
	for (int i = 1; i < STAGING_DEPTH_MAX; i++)
		strncat(deep, "/d", sizeof(deep) - strlen(deep) - 1);
	strncat(deep, "/x", sizeof(deep) - strlen(deep) - 1);
	put(&world, deep, "the deepest that comes out");
	assert_collects(&world, 1);
	assert_int_equal(world.refused, 1);
	assert_non_null(strstr(world.reason[0], "64 directories deep"));
	/* long before it is deep */
	memset(path, 'n', NAME_MAX);
	path[NAME_MAX] = '\0';
	make_chain(path, 6);
	assert_collects(&world, 0);
	assert_int_equal(world.refused, 2);
	assert_non_null(strstr(world.reason[1], "longer than 1024 bytes"));
}

static void bounds_the_path(void **state)
{
	char path[2 + 1200] = "w:";
	size_t at_end = 2;

	(void)state;
	/* a file whose directory just fits */
	for (int i = 0; i < 5; i++) {
		memset(path + at_end, 'a' + i, 200);
		path[at_end + 200] = '/';
		at_end += 201;
	}
	memset(path + at_end, 'f', 19);
	path[at_end + 19] = '\0';
	put(&world, path, "1024 bytes");
	path[at_end + 19] = 'f';
	path[at_end + 20] = '\0';
	put(&world, path, "1025 bytes");
	assert_collects(&world, 1);
	assert_int_equal(world.refused, 1);
	assert_non_null(strstr(world.reason[0], "longer than 1024 bytes"));
	assert_int_equal(strlen(world.path[0]), 1025);
}

/* What removal has to cope with: deeper than any path, closed directories, ten thousand names. */
static void removes_anything(void **state)
{
	/* ext4 takes 100 us for each */
	const int depth = world_on_tmpfs() && !BRIEF ? 100000 : 3000;
	int64_t begin;
	char name[32];
	int fd;

	(void)state;
	make_chain("d", depth);
	fd = open(staging_work(world.staging), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 2000; i++) {
		int file;

		snprintf(name, sizeof(name), "d/f\n%d", i);
		file = openat(fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0);
		assert_true(file >= 0);
		close(file);
		snprintf(name, sizeof(name), "d/c%d", i);
		assert_int_equal(mkdirat(fd, name, 0700), 0);
		snprintf(name, sizeof(name), "d/c%d/x", i);
		assert_int_equal(mkdirat(fd, name, 0000), 0);
		snprintf(name, sizeof(name), "d/c%d", i);
		assert_int_equal(fchmodat(fd, name, 0000, 0), 0);
	}
	assert_int_equal(symlinkat(world.project, fd, "out"), 0);
	assert_int_equal(symlinkat(at(&world, "secret"), fd, "d/out"), 0);
	assert_int_equal(fchmodat(fd, "d/d/d", 0000, 0), 0);
	assert_int_equal(fchmodat(fd, "d", 0000, 0), 0);
	assert_int_equal(fchmod(fd, 0000), 0);
	close(fd);
	begin = now_ms();
	if (staging_remove(world.staging, &world.err) < 0)
		fail_msg("%s", world.err.text);
	print_message("removed a chain of %d directories in %lld ms\n", depth,
		      (long long)(now_ms() - begin));
	assert_int_equal(count_names(world.state, NULL), 0);
	assert_content(&world, "secret/key", SECRET);
	assert_true(exists(&world, "project"));
}

/* ---- names ---- */

static void takes_names_as_they_are(void **state)
{
	static const char *const bad[] = {"w:new\nline",
					  "w:esc\x1b[2Jape",
					  "w:bell\a",
					  "w:latin\xe4",
					  "w:bidi\xe2\x80\xae-fdp.exe",
					  "w:sub/\r",
					  "w:.hidden",
					  "w:.cellwall-0123456789abcdef0123456789abcdef"};
	static const char *const good[] = {
		"w:two words", "w:-rf", "w:\xc3\xa9t\xc3\xa9",	   "w:a\\b",
		"w:$(id)",     "w:'\"", "w:name (cellwall 1).txt", "w:Case",
		"w:case",      "w:..."};
	char longest[2 + NAME_MAX + 1] = "w:", path[PATH_MAX];

	(void)state;
	memset(longest + 2, 'l', NAME_MAX);
	longest[2 + NAME_MAX] = '\0';
	put(&world, longest, "long");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		put(&world, bad[i], "bad");
	for (size_t i = 0; i + 1 < sizeof(good) / sizeof(good[0]); i++)
		put(&world, good[i], "good");
	assert_collects(&world, (int)(sizeof(good) / sizeof(good[0])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_non_null(world_reason(&world, bad[i] + 2));
		snprintf(path, sizeof(path), "o:%s", bad[i] + 2);
		assert_false(exists(&world, path));
	}
	for (size_t i = 0; i + 1 < sizeof(good) / sizeof(good[0]); i++) {
		snprintf(path, sizeof(path), "o:%s", good[i] + 2);
		assert_content(&world, path, "good");
	}
	longest[0] = 'o';
	assert_content(&world, longest, "long");
	/* beside the longest name is another of that length */
	settle();
	put(&world, longest, "edited");
	longest[0] = 'w';
	put(&world, longest, "longer");
	assert_collects(&world, 1);
	longest[0] = 'o';
	assert_content(&world, longest, "edited");
	memcpy(longest + 2 + NAME_MAX - 13, " (cellwall 1)", 13);
	assert_content(&world, longest, "longer");
}

/* ---- changing while it is copied ---- */

#define VERSION_SIZE (2 * 1024 * 1024)

struct writer {
	char path[PATH_MAX];
	int fd;
	atomic_bool stop;
	atomic_ulong count;
};

/*
 * Rewrites a file in place, all of it with one letter, over and over. It is closed between two
 * versions, for long enough now and then to be copied: what is caught then must be one version.
 */
static void *rewrite(void *arg)
{
	struct writer *writer = arg;
	char *data = malloc(VERSION_SIZE);

	while (data && !writer->stop) {
		int fd = open(writer->path, O_WRONLY | O_CLOEXEC);

		memset(data, 'a' + (int)(writer->count++ % 26), VERSION_SIZE);
		for (size_t done = 0; done < VERSION_SIZE; done += 65536)
			(void)!pwrite(fd, data + done, 65536, (off_t)done);
		close(fd);
		usleep((useconds_t)(writer->count * 7919 % 15000));
	}
	free(data);
	return NULL;
}

static bool is_uniform(const char *path)
{
	char *data = NULL;
	size_t size = 0;
	bool uniform = true;

	if (read_file(AT_FDCWD, path, 2 * VERSION_SIZE, &data, &size, NULL) < 0)
		return true;
	for (size_t i = 1; i < size; i++)
		uniform = uniform && data[i] == data[0];
	free(data);
	return uniform && size == VERSION_SIZE;
}

static void presents_nothing_half_written(void **state)
{
	static struct writer writer;
	pthread_t thread;
	bool caught = false;
	uint64_t left = 0, files = 0;
	char *data = calloc(1, VERSION_SIZE);

	(void)state;
	memset(&writer, 0, sizeof(writer));
	snprintf(writer.path, sizeof(writer.path), "%s", at(&world, "w:f"));
	assert_non_null(data);
	put_bytes(writer.path, data, VERSION_SIZE);
	free(data);
	give(writer.path);
	assert_int_equal(pthread_create(&thread, NULL, rewrite, &writer), 0);
	for (int64_t end = now_ms() + NAIVE_MS; !caught && now_ms() < end;) {
		naive_copy(staging_work(world.staging), at(&world, "naive"), 0);
		caught = !is_uniform(at(&world, "naive/f"));
	}
	assert_true(caught);
	for (int64_t begin = now_ms(); goes_on(begin, files > 0 && left > 0);) {
		assert_int_equal(world_collect(&world), 0);
		left += world.report.left;
		files += world.report.files;
		assert_true(is_uniform(at(&world, "o:f")));
	}
	writer.stop = true;
	pthread_join(thread, NULL);
	assert_true(left > 0);
	assert_true(files > 0);
	settle();
	assert_int_equal(world_collect(&world), 0);
	assert_int_equal(world.report.left, 0);
	assert_true(exists(&world, "o:f"));
	assert_true(is_uniform(at(&world, "o:f")));
	print_message("%llu copies, %llu put off, of %lu versions\n", (unsigned long long)files,
		      (unsigned long long)left, writer.count);
}

static void *grow_and_shrink(void *arg)
{
	struct writer *writer = arg;
	static char data[65536];

	for (off_t size = 0; !writer->stop; size = (size + 65536) % (64 << 20)) {
		if (size == 0)
			(void)!ftruncate(writer->fd, 0);
		(void)!pwrite(writer->fd, data, sizeof(data), size);
	}
	return NULL;
}

static void ends_for_files_that_never_end(void **state)
{
	struct writer writer = {
		.fd = open(at(&world, "w:log"), O_RDWR | O_CREAT | O_CLOEXEC, 0644)};
	pthread_t thread;
	struct stat status;
	off_t size;

	(void)state;
	give(at(&world, "w:log"));
	assert_int_equal(pthread_create(&thread, NULL, grow_and_shrink, &writer), 0);
	for (int64_t end = now_ms() + RACE_MS / 3; now_ms() < end;) {
		int64_t begin = now_ms();

		assert_int_equal(world_collect(&world), 0);
		assert_true(now_ms() - begin < LONG_MS);
	}
	writer.stop = true;
	pthread_join(thread, NULL);
	assert_int_equal(fstat(writer.fd, &status), 0);
	size = status.st_size;
	close(writer.fd);
	settle();
	assert_int_equal(world_collect(&world), 0);
	assert_int_equal(stat(at(&world, "o:log"), &status), 0);
	assert_int_equal(status.st_size, size);
}

/* Directories moved about while they are walked: nothing outside is entered, every call ends. */
static void survives_moving_directories(void **state)
{
	struct flip flip;
	pthread_t thread;

	(void)state;
	put(&world, "w:a/b/c/d/file", "x");
	put(&world, "w:e/file", "y");
	assert_int_equal(rename(at(&world, "w:e"), at(&world, "w:a/b/e")), 0);
	begin_flip(&flip, &thread, staging_work(world.staging), "a/b/c", "a/b/e");
	for (int64_t end = now_ms() + RACE_MS / 3; now_ms() < end;)
		assert_int_equal(world_collect(&world), 0);
	end_flip(&flip, thread);
	assert_true(count_names(world.out, NULL) < 20);
}

/* ---- SIGKILL ---- */

/* Every version of a file is its size in letters of one kind: what is half written is seen. */
static void write_version(int i, unsigned int version)
{
	char name[64], *data;
	size_t size = (size_t)(i % 4 == 0 ? 400000 : 3000) + version % 7;

	data = malloc(size + 1);
	assert_non_null(data);
	memset(data, 'a' + (int)(version % 26), size);
	data[size] = '\0';
	snprintf(name, sizeof(name), "w:d%d/f%d", i % 3, i);
	put(&world, name, data);
	free(data);
}

static bool is_whole(const char *path)
{
	char *data = NULL;
	size_t size = 0, base;
	bool whole = true;

	if (read_file(AT_FDCWD, path, 1 << 20, &data, &size, NULL) < 0)
		return true; /* not there yet */
	base = size >= 400000 ? 400000 : 3000;
	whole = size >= base && size < base + 7;
	for (size_t i = 1; whole && i < size; i++)
		whole = data[i] == data[0];
	free(data);
	return whole;
}

static bool all_whole(const char *top)
{
	for (int i = 0; i < KILL_FILES; i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s/d%d/f%d", top, i % 3, i);
		if (!is_whole(path))
			return false;
	}
	return true;
}

static pid_t start_collector(const char *directory)
{
	pid_t child = fork();

	if (child == 0) {
		struct staging *staging = NULL;
		struct staging_report report;

		if (staging_open(directory, BYTES, FILES, &staging, NULL) < 0)
			_exit(1);
		for (;;)
			(void)staging_collect(staging, 0, NULL, NULL, &report, NULL);
	}
	return child;
}

static pid_t start_naive(const char *work, const char *to)
{
	pid_t child = fork();

	if (child == 0) {
		for (;;)
			naive_copy(work, to, 0);
	}
	return child;
}

static void end_at_random(pid_t child, unsigned int round)
{
	int status;

	usleep(round * 7919 % 20000);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
}

static void survives_kills(void **state)
{
	char work[PATH_MAX], naive[PATH_MAX], directory[PATH_MAX];
	unsigned int version = 0;
	bool caught = false;

	(void)state;
	snprintf(directory, sizeof(directory), "%s", staging_directory(world.staging));
	snprintf(work, sizeof(work), "%s", staging_work(world.staging));
	snprintf(naive, sizeof(naive), "%s", at(&world, "naive"));
	for (unsigned int round = 0; round < KILLS; round++) {
		pid_t child;

		for (int i = 0; i < KILL_FILES; i++)
			write_version(i, ++version);
		if (!caught) {
			end_at_random(start_naive(work, naive), round);
			caught = !all_whole(naive);
		}
		world.staging = staging_free(world.staging);
		child = start_collector(directory);
		end_at_random(child, round);
		assert_true(all_whole(world.out));
		if (round + 1 < KILLS)
			assert_int_equal(
				staging_open(directory, BYTES, FILES, &world.staging, &world.err),
				0);
	}
	assert_true(caught);
	assert_int_equal(staging_recover(world.state, world.out, 0, 0, world_log, NULL, NULL,
					 &world, &world.err),
			 0);
	assert_int_equal(world.refused, 0);
	assert_true(all_whole(world.out));
	for (int i = 0; i < KILL_FILES; i++) {
		char path[64], *data, letter;

		snprintf(path, sizeof(path), "o:d%d/f%d", i % 3, i);
		data = get(&world, path);
		assert_non_null(data);
		letter = (char)('a' + (version - KILL_FILES + (unsigned int)i + 1) % 26);
		assert_memory_equal(data, &letter, 1);
		free(data);
	}
	assert_int_equal(count_names(world.out, COPY_PREFIX), 0);
	assert_int_equal(count_names(world.out, NULL), KILL_FILES + 3);
	assert_int_equal(count_names(world.state, NULL), 0);
}

/* A recovery that is killed is taken up by the next. */
static void survives_kills_of_recovery(void **state)
{
	(void)state;
	for (int i = 0; i < KILL_FILES; i++)
		write_version(i, (unsigned int)i);
	world.staging = staging_free(world.staging);
	for (unsigned int round = 0; round < 20; round++) {
		pid_t child = fork();
		int status;

		if (child == 0) {
			(void)staging_recover(world.state, NULL, 0, 0, world_log, NULL, NULL,
					      &world, NULL);
			_exit(0);
		}
		usleep(round * 100);
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
		assert_true(all_whole(world.out));
	}
	assert_int_equal(
		staging_recover(world.state, NULL, 0, 0, world_log, NULL, NULL, &world, &world.err),
		0);
	assert_int_equal(world.refused, 0);
	assert_int_equal(count_names(world.out, NULL), KILL_FILES + 3);
	assert_int_equal(count_names(world.state, NULL), 0);
}

#define fresh(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

static int group(const char *name)
{
	const struct CMUnitTest tests[] = {
		fresh(follows_no_link),
		fresh(loses_no_race_inside),
		fresh(loses_no_race_outside),
		fresh(overwrites_nothing_behind_links),
		fresh(copies_hard_links),
		fresh(does_not_hang),
		fresh(does_not_hang_in_a_race),
		fresh(gives_no_setid_bits),
		fresh(refuses_sparse_giants),
		fresh(counts_files),
		fresh(looks_at_a_bounded_number),
		fresh(bounds_the_depth),
		fresh(bounds_the_path),
		fresh(removes_anything),
		fresh(takes_names_as_they_are),
		fresh(presents_nothing_half_written),
		fresh(ends_for_files_that_never_end),
		fresh(survives_moving_directories),
		fresh(survives_kills),
		fresh(survives_kills_of_recovery),
	};

	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
	umask(022);
	return world_run(group) == 0 ? 0 : 1;
}
