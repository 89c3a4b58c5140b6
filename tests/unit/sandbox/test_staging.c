#include "staging_world.h"

#include <sched.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "sandbox/names.h"
#include "sandbox/seen.h"

static struct world world;

static int setup(void **state)
{
	(void)state;
	world_new(&world, BYTES, FILES);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	world_end(&world);
	return 0;
}

/* ---- the private directory ---- */

static void makes_a_private_directory(void **state)
{
	struct staging *second = NULL;
	struct stat status;
	char *line;

	(void)state;
	assert_int_equal(stat(staging_directory(world.staging), &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	assert_int_equal(stat(staging_work(world.staging), &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	assert_int_equal(status.st_uid, geteuid() == 0 ? FOREIGN : geteuid());
	assert_int_equal(stat(world.state, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	assert_true(exists(&world, "w:staging/out"));
	assert_string_equal(staging_out(world.staging), world.out);
	line = get(&world, "w:../out");
	assert_memory_equal(line, world.out, strlen(world.out));
	assert_string_equal(line + strlen(world.out), "\n");
	free(line);
	assert_int_equal(staging_open(staging_directory(world.staging), 1, 1, &second, NULL),
			 -EBUSY);
	assert_null(second);
	assert_null(staging_free(NULL));
}

static void refuses_bad_arguments(void **state)
{
	struct staging *staging = NULL;

	(void)state;
	assert_int_equal(staging_create(world.state, "relative", (uid_t)-1, 1, 1, &staging, NULL),
			 -EINVAL);
	assert_int_equal(chmod(world.state, 0777), 0);
	assert_int_equal(staging_create(world.state, world.out, (uid_t)-1, 1, 1, &staging, NULL),
			 -EPERM);
	assert_int_equal(chmod(world.state, 0700), 0);
	assert_int_equal(staging_open(at(&world, "nowhere"), 1, 1, &staging, NULL), -ENOENT);
	if (geteuid() == 0) {
		/* root follows nobody else's word on where results go */
		assert_int_equal(chown(staging_directory(world.staging), FOREIGN, FOREIGN), 0);
		assert_int_equal(
			staging_open(staging_directory(world.staging), 1, 1, &staging, NULL),
			-EPERM);
		assert_int_equal(chown(staging_directory(world.staging), 0, 0), 0);
	}
	assert_null(staging);
}

static void finds_the_state_directory(void **state)
{
	char *path = NULL;

	(void)state;
	setenv("XDG_STATE_HOME", "/x/state", 1);
	setenv("HOME", "/x/home", 1);
	assert_int_equal(staging_state_directory(&path, NULL), 0);
	assert_string_equal(path, "/x/state/cellwall/kernels");
	free(path);
	setenv("XDG_STATE_HOME", "not/absolute", 1);
	assert_int_equal(staging_state_directory(&path, NULL), 0);
	assert_string_equal(path, "/x/home/.local/state/cellwall/kernels");
	free(path);
	unsetenv("XDG_STATE_HOME");
	unsetenv("HOME");
	assert_int_equal(staging_state_directory(&path, NULL), 0);
	assert_non_null(strstr(path, "/.local/state/cellwall/kernels"));
	free(path);
}

/* ---- what is collected ---- */

static void leaves_no_litter(void **state)
{
	(void)state;
	assert_collects(&world, 0);
	assert_false(exists(&world, "project/staging"));
	assert_int_equal(mkdir(at(&world, "w:empty"), 0755), 0);
	put(&world, "w:__pycache__/x.pyc", "bytecode");
	put(&world, "w:pkg/__pycache__/y.pyc", "bytecode");
	put(&world, "w:.cache/z", "hidden");
	assert_collects(&world, 0);
	assert_false(exists(&world, "project/staging"));
	assert_int_equal(world.refused, 1);
	assert_refused(&world, ".cache", "hidden");
	assert_collects(&world, 0);
	assert_int_equal(world.refused, 1);
}

static void brings_files_out(void **state)
{
	struct timespec times[2] = {{.tv_sec = 1000000, .tv_nsec = 5},
				    {.tv_sec = 1000000000, .tv_nsec = 7}};
	struct stat status;

	(void)state;
	put(&world, "w:a.txt", "alpha");
	put(&world, "w:deep/er/b.txt", "beta");
	put(&world, "w:empty.txt", "");
	put(&world, "w:run.sh", "#!/bin/sh\n");
	assert_int_equal(chmod(at(&world, "w:run.sh"), 0755), 0);
	assert_int_equal(utimensat(AT_FDCWD, at(&world, "w:a.txt"), times, 0), 0);
	assert_collects(&world, 4);
	assert_int_equal(world.report.bytes, 5 + 4 + 10);
	assert_int_equal(world.report.left, 0);
	assert_content(&world, "o:a.txt", "alpha");
	assert_content(&world, "o:deep/er/b.txt", "beta");
	assert_content(&world, "o:empty.txt", "");
	assert_int_equal(stat(at(&world, "o:a.txt"), &status), 0);
	assert_int_equal(status.st_mtim.tv_sec, 1000000000);
	assert_int_equal(status.st_mtim.tv_nsec, 7);
	assert_int_equal(status.st_mode & 07777, 0644);
	assert_int_equal(stat(at(&world, "o:run.sh"), &status), 0);
	assert_int_equal(status.st_mode & 07777, 0755);
	assert_int_equal(world.refused, 0);
	assert_collects(&world, 0);
	assert_int_equal(count_names(world.out, COPY_PREFIX), 0);
}

static void brings_changes_out(void **state)
{
	(void)state;
	put(&world, "w:a", "one");
	put(&world, "w:b", "kept");
	assert_collects(&world, 2);
	put(&world, "w:a", "two");
	assert_collects(&world, 1);
	assert_content(&world, "o:a", "two");
	/* the same size in the same instant, over and over */
	for (int i = 0; i < 20; i++) {
		char text[8];

		snprintf(text, sizeof(text), "v%02d", i);
		put(&world, "w:a", text);
		assert_collects(&world, 1);
		assert_content(&world, "o:a", text);
	}
	assert_int_equal(unlink(at(&world, "o:b")), 0);
	assert_collects(&world, 0);
	assert_false(exists(&world, "o:b"));
	put(&world, "w:b", "again");
	assert_collects(&world, 1);
	assert_content(&world, "o:b", "again");
	assert_int_equal(world.refused, 0);
}

static void survives_removal_of_out(void **state)
{
	(void)state;
	put(&world, "w:d/a", "one");
	assert_collects(&world, 1);
	assert_int_equal(unlink(at(&world, "o:d/a")), 0);
	assert_int_equal(rmdir(at(&world, "o:d")), 0);
	assert_int_equal(rmdir(world.out), 0);
	assert_int_equal(rmdir(at(&world, "project/staging")), 0);
	put(&world, "w:d/a", "two");
	assert_collects(&world, 1);
	assert_content(&world, "o:d/a", "two");
}

static void maps_inner_staging_out(void **state)
{
	(void)state;
	put(&world, "w:staging/out/x", "inner");
	put(&world, "w:staging/out/d/y", "inner too");
	assert_collects(&world, 2);
	assert_content(&world, "o:x", "inner");
	assert_content(&world, "o:d/y", "inner too");
	assert_false(exists(&world, "o:staging"));
	put(&world, "w:staging/z", "beside out");
	put(&world, "w:staging/out/staging/out/x", "one level only");
	assert_collects(&world, 2);
	assert_content(&world, "o:staging/z", "beside out");
	assert_content(&world, "o:staging/out/x", "one level only");
}

static void keeps_twins_apart(void **state)
{
	char *first, *second;

	(void)state;
	put(&world, "w:x.csv", "outer");
	put(&world, "w:staging/out/x.csv", "inner");
	assert_collects(&world, 2);
	assert_int_equal(world.refused, 1);
	first = get(&world, "o:x.csv");
	second = get(&world, "o:x (cellwall 1).csv");
	assert_non_null(first);
	assert_non_null(second);
	assert_true((strcmp(first, "outer") == 0 && strcmp(second, "inner") == 0) ||
		    (strcmp(first, "inner") == 0 && strcmp(second, "outer") == 0));
	free(first);
	free(second);
	assert_collects(&world, 0);
	put(&world, "w:x.csv", "outer2");
	put(&world, "w:staging/out/x.csv", "inner2");
	assert_collects(&world, 2);
	assert_int_equal(count_names(world.out, "x"), 2);
	assert_int_equal(world.refused, 1);
	/* moved from one to the other: the same place, no twin any more */
	put(&world, "w:m", "moving");
	assert_collects(&world, 1);
	assert_int_equal(rename(at(&world, "w:m"), at(&world, "w:staging/out/m")), 0);
	assert_collects(&world, 1);
	assert_content(&world, "o:m", "moving");
	assert_int_equal(count_names(world.out, "m"), 1);
}

/* A file of that very name and content gets a place of its own: the twin's is written again. */
static void keeps_names_beside_apart(void **state)
{
	char *second;

	(void)state;
	put(&world, "w:x.csv", "outer");
	put(&world, "w:staging/out/x.csv", "inner");
	assert_collects(&world, 2);
	second = get(&world, "o:x (cellwall 1).csv");
	assert_non_null(second);
	put(&world, "w:x (cellwall 1).csv", second);
	assert_collects(&world, 1);
	put(&world, "w:x.csv", "outer2");
	put(&world, "w:staging/out/x.csv", "inner2");
	assert_collects(&world, 2);
	assert_content(&world, "o:x (cellwall 1) (cellwall 1).csv", second);
	free(second);
	assert_collects(&world, 0);
}

/* ---- the host's own changes ---- */

static void never_overwrites_the_host(void **state)
{
	(void)state;
	put(&world, "w:r.tar.csv", "ours 1");
	assert_collects(&world, 1);
	settle();
	put(&world, "o:r.tar.csv", "edited by hand");
	put(&world, "w:r.tar.csv", "ours 2");
	assert_collects(&world, 1);
	assert_content(&world, "o:r.tar.csv", "edited by hand");
	assert_content(&world, "o:r.tar (cellwall 1).csv", "ours 2");
	assert_refused(&world, "r.tar.csv", "r.tar (cellwall 1).csv");
	put(&world, "w:r.tar.csv", "ours 3");
	assert_collects(&world, 1);
	assert_content(&world, "o:r.tar (cellwall 1).csv", "ours 3");
	assert_int_equal(world.refused, 1);
	settle();
	put(&world, "o:r.tar (cellwall 1).csv", "edited as well");
	put(&world, "w:r.tar.csv", "ours 4");
	assert_collects(&world, 1);
	assert_content(&world, "o:r.tar (cellwall 1).csv", "edited as well");
	assert_content(&world, "o:r.tar (cellwall 2).csv", "ours 4");
	assert_int_equal(world.refused, 2);
}

static void knows_earlier_results(void **state)
{
	(void)state;
	/* from before this run: replaced; made during this run: not; with the same content: nothing
	 * to do */
	world.staging = staging_free(world.staging);
	put(&world, "project/staging/out/old", "yesterday's");
	settle();
	assert_int_equal(staging_create(world.state, world.out, world_owner(), BYTES, FILES,
					&world.staging, &world.err),
			 0);
	settle();
	put(&world, "o:new", "the host's");
	put(&world, "o:same", "equal");
	put(&world, "w:old", "today's");
	put(&world, "w:new", "the kernel's");
	put(&world, "w:same", "equal");
	assert_collects(&world, 2);
	assert_content(&world, "o:old", "today's");
	assert_content(&world, "o:new", "the host's");
	assert_content(&world, "o:new (cellwall 1)", "the kernel's");
	assert_int_equal(count_names(world.out, "same"), 1);
	assert_int_equal(world.refused, 1);
}

static void leaves_what_is_in_the_way(void **state)
{
	(void)state;
	put(&world, "o:dir/x", "1");
	put(&world, "o:file", "2");
	put(&world, "secret", "host");
	assert_int_equal(symlink(at(&world, "secret"), at(&world, "o:link")), 0);
	assert_int_equal(symlink(at(&world, "project"), at(&world, "o:linkdir")), 0);
	put(&world, "w:dir", "a file here");
	put(&world, "w:file/y", "a directory here");
	put(&world, "w:link", "overwritten?");
	put(&world, "w:linkdir/z", "outside?");
	put(&world, "w:good", "good");
	assert_collects(&world, 1);
	assert_refused(&world, "dir", "directory");
	assert_refused(&world, "file/y", "in its way");
	assert_refused(&world, "link", "link");
	assert_refused(&world, "linkdir/z", "link");
	assert_content(&world, "secret", "host");
	assert_content(&world, "o:good", "good");
	assert_false(exists(&world, "project/z"));
	assert_int_equal(world.refused, 4);
	assert_collects(&world, 0);
	assert_int_equal(world.refused, 4);
}

static void follows_links_to_out(void **state)
{
	(void)state;
	/* staging/out itself may be a link that the user made; a dangling one is an error, and
	 * nothing is lost */
	assert_int_equal(mkdir(at(&world, "project/staging"), 0755), 0);
	assert_int_equal(symlink(at(&world, "elsewhere"), world.out), 0);
	put(&world, "w:a", "alpha");
	assert_int_equal(world_collect(&world), -ENOTDIR);
	assert_non_null(strstr(world.err.text, world.out));
	assert_int_equal(world.report.left, 1);
	assert_false(exists(&world, "elsewhere"));
	assert_int_equal(mkdir(at(&world, "elsewhere"), 0755), 0);
	assert_collects(&world, 1);
	assert_content(&world, "elsewhere/a", "alpha");
}

static void needs_the_folder(void **state)
{
	(void)state;
	put(&world, "w:a", "alpha");
	assert_int_equal(rename(world.project, at(&world, "moved")), 0);
	assert_int_equal(world_collect(&world), -ENOENT);
	assert_non_null(strstr(world.err.text, "not there any more"));
	assert_false(exists(&world, "project"));
	put(&world, "project", "a file");
	assert_int_equal(world_collect(&world), -ENOTDIR);
	assert_int_equal(unlink(world.project), 0);
	assert_int_equal(rename(at(&world, "moved"), world.project), 0);
	assert_collects(&world, 1);
}

static void reports_what_cannot_be_written(void **state)
{
	(void)state;
	if (geteuid() == 0)
		skip();
	put(&world, "w:a", "alpha");
	put(&world, "w:sub/b", "beta");
	assert_int_equal(chmod(world.project, 0555), 0);
	assert_int_equal(world_collect(&world), -EACCES);
	assert_true(world.report.left > 0);
	assert_int_equal(chmod(world.project, 0755), 0);
	put(&world, "o:sub/there", "");
	assert_int_equal(chmod(at(&world, "o:sub"), 0555), 0);
	/* the others still come out */
	assert_int_equal(world_collect(&world), -EACCES);
	assert_int_equal(world.report.files, 1);
	assert_int_equal(world.report.left, 1);
	assert_content(&world, "o:a", "alpha");
	assert_int_equal(chmod(at(&world, "o:sub"), 0755), 0);
	assert_collects(&world, 1);
	assert_content(&world, "o:sub/b", "beta");
}

static void names_what_cannot_be_read(void **state)
{
	(void)state;
	put(&world, "w:locked", "x");
	put(&world, "w:closed/x", "x");
	put(&world, "w:good", "x");
	assert_int_equal(chmod(at(&world, "w:locked"), 0), 0);
	assert_int_equal(chmod(at(&world, "w:closed"), 0), 0);
	assert_collects(&world, geteuid() == 0 ? 3 : 1);
	if (geteuid() != 0) {
		assert_refused(&world, "locked", "cannot be read");
		assert_refused(&world, "closed", "cannot be read");
	}
	/* and a work/ that the kernel closed is opened again */
	put(&world, "w:more", "x");
	assert_int_equal(chmod(staging_work(world.staging), 0), 0);
	assert_collects(&world, 1);
}

/* A full disk, and file systems mounted where nobody expects them (root only: it takes mount(2)).
 */
static void copes_with_full_disks_and_mounts(void **state)
{
	char *big = calloc(1, 300001), *directory;

	(void)state;
	if (geteuid() != 0 || !big || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("full", world.project, "tmpfs", 0, "size=256k,mode=0755") < 0) {
		free(big);
		skip();
	}
	/* its descriptors would stay in the namespace where they were opened */
	directory = strdup(staging_directory(world.staging));
	world.staging = staging_free(world.staging);
	assert_int_equal(staging_open(directory, 0, 0, &world.staging, &world.err), 0);
	free(directory);
	memset(big, 'b', 300000);
	put(&world, "w:big", big);
	put(&world, "w:small", "small");
	assert_int_equal(world_collect(&world), -ENOSPC);
	assert_non_null(strstr(world.err.text, "big: No space left"));
	assert_int_equal(world.report.left, 1);
	(void)world_collect(&world);
	assert_content(&world, "o:small", "small");
	assert_false(exists(&world, "o:big"));
	assert_int_equal(count_names(world.out, NULL), 1);
	assert_int_equal(mount("full", world.project, "tmpfs", MS_REMOUNT, "size=4m"), 0);
	assert_collects(&world, 1);
	assert_content(&world, "o:big", big);
	free(big);
	/* read-only */
	assert_int_equal(mount("full", world.project, "tmpfs", MS_REMOUNT | MS_RDONLY, NULL), 0);
	put(&world, "w:late", "late");
	assert_int_equal(world_collect(&world), -EROFS);
	assert_int_equal(mount("full", world.project, "tmpfs", MS_REMOUNT, NULL), 0);
	/* something mounted on the way, on either side */
	assert_int_equal(mkdir(at(&world, "o:there"), 0755), 0);
	assert_int_equal(mkdir(at(&world, "w:here"), 0755), 0);
	assert_int_equal(mount("other", at(&world, "o:there"), "tmpfs", 0, NULL), 0);
	assert_int_equal(mount("other", at(&world, "w:here"), "tmpfs", 0, NULL), 0);
	put(&world, "w:there/x", "x");
	put(&world, "w:here/x", "x");
	assert_collects(&world, 1);
	assert_content(&world, "o:late", "late");
	assert_refused(&world, "there/x", "another file system");
	assert_refused(&world, "here", "another file system");
	assert_false(exists(&world, "o:there/x"));
	assert_int_equal(umount(at(&world, "o:there")), 0);
	assert_int_equal(umount(at(&world, "w:here")), 0);
	assert_int_equal(umount(world.project), 0);
}

/* ---- limits ---- */

static void keeps_the_limits(void **state)
{
	(void)state;
	world_end(&world);
	world_new(&world, 100, 3);
	put(&world, "w:a",
	    "0123456789012345678901234567890123456789"
	    "01234567890123456789012345678901234567890123456789012345678901234567890");
	assert_collects(&world, 0);
	assert_refused(&world, "a", "larger than 100 bytes");
	put(&world, "w:a",
	    "0123456789012345678901234567890123456789012345678901234567890123456789");
	assert_collects(&world, 1);
	put(&world, "w:b", "0123456789012345678901234567890123456789");
	assert_collects(&world, 0);
	assert_refused(&world, "b", "all results together");
	/* what is replaced makes room */
	put(&world, "w:a", "small");
	(void)world_collect(&world); /* a, and b when it came after a */
	(void)world_collect(&world);
	assert_content(&world, "o:b", "0123456789012345678901234567890123456789");
	put(&world, "w:c", "c");
	assert_collects(&world, 1);
	put(&world, "w:d", "d");
	assert_collects(&world, 0);
	assert_refused(&world, "d", "3 results");
	put(&world, "w:c", "cc");
	assert_collects(&world, 1);
}

static void stops_at_the_deadline(void **state)
{
	const size_t size = 48 * 1024 * 1024;
	char *data = malloc(size + 1), *out;
	uint64_t calls = 0;

	(void)state;
	assert_non_null(data);
	for (size_t i = 0; i < size; i++)
		data[i] = (char)('a' + (i * 2654435761u >> 16) % 26);
	data[size] = '\0';
	put_bytes(at(&world, "w:big"), data, size);
	give(at(&world, "w:big"));
	put(&world, "w:small", "small");
	assert_int_equal(staging_collect(world.staging, now_ms() - 1, world_log, &world,
					 &world.report, &world.err),
			 0);
	assert_int_equal(world.report.files, 0);
	assert_true(world.report.left > 0);
	assert_int_equal(count_names(world.project, NULL), 0);
	settle();
	/* goes on where it stopped: a big file comes out however short the turns are */
	do {
		assert_int_equal(staging_collect(world.staging, now_ms() + 2, world_log, &world,
						 &world.report, &world.err),
				 0);
		calls++;
		if (world.report.left > 0) {
			assert_false(exists(&world, "o:big"));
			if (calls > 5)
				assert_true(exists(&world, "o:small"));
		}
	} while (world.report.left > 0 && calls < 1000);
	assert_true(calls < 1000);
	out = get(&world, "o:big");
	assert_non_null(out);
	assert_memory_equal(out, data, size);
	free(out);
	free(data);
	assert_int_equal(count_names(world.out, COPY_PREFIX), 0);
}

static void keeps_holes(void **state)
{
	int fd = open(at(&world, "w:sparse"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	struct stat status;
	char *out;

	(void)state;
	assert_int_equal(ftruncate(fd, 60 * 1024 * 1024), 0);
	assert_int_equal(pwrite(fd, "middle", 6, 30 * 1024 * 1024), 6);
	close(fd);
	give(at(&world, "w:sparse"));
	assert_collects(&world, 1);
	assert_int_equal(stat(at(&world, "o:sparse"), &status), 0);
	assert_int_equal(status.st_size, 60 * 1024 * 1024);
	assert_true(status.st_blocks < 1000);
	out = get(&world, "o:sparse");
	assert_memory_equal(out + 30 * 1024 * 1024, "middle", 6);
	assert_memory_equal(out, "", 1);
	free(out);
}

/* The state directory on another file system than the project: neither clones nor, on most,
 * copy_file_range(2). */
static void crosses_file_systems(void **state)
{
	char other[] = "/dev/shm/cellwall-staging-XXXXXX", name[128];
	struct staging *staging = NULL;
	const size_t size = 3 * 1024 * 1024 + 5;
	char *data = malloc(size), *out;
	int fd;

	(void)state;
	if (!data || !mkdtemp(other))
		skip();
	for (size_t i = 0; i < size; i++)
		data[i] = (char)(i * 2654435761u >> 13);
	snprintf(name, sizeof(name), "%s/state", other);
	assert_int_equal(
		staging_create(name, world.out, world_owner(), BYTES, FILES, &staging, NULL), 0);
	assert_int_equal(staging_free(world.staging) == NULL, 1);
	world.staging = staging;
	put_bytes(at(&world, "w:x"), data, size);
	give(at(&world, "w:x"));
	assert_collects(&world, 1);
	out = get(&world, "o:x");
	assert_non_null(out);
	assert_memory_equal(out, data, size);
	free(out);
	free(data);
	fd = open(other, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(tree_empty(fd), 0);
	close(fd);
	assert_int_equal(rmdir(other), 0);
}

/* ---- writers that the time stamps do not show ---- */

static void waits_for_open_files(void **state)
{
	int fd = open(at(&world, "w:map"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	char *map;

	(void)state;
	give(at(&world, "w:map"));
	assert_int_equal(ftruncate(fd, 4096), 0);
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	close(fd);
	memcpy(map, "first", 5);
	settle();
	assert_collects(&world, 0);
	assert_int_equal(world.report.left, 1);
	assert_refused(&world, "map", "still open");
	assert_false(exists(&world, "project/staging"));
	memcpy(map, "later", 5); /* the page is dirty already: no time stamp changes */
	assert_collects(&world, 0);
	assert_int_equal(world.refused, 1);
	munmap(map, 4096);
	assert_collects(&world, 1);
	assert_content(&world, "o:map", "later");
	/* opened again: only what is written counts */
	fd = open(at(&world, "w:map"), O_WRONLY | O_CLOEXEC);
	assert_collects(&world, 0);
	assert_int_equal(world.report.left, 0);
	assert_int_equal(pwrite(fd, "third", 5, 0), 5);
	settle();
	assert_collects(&world, 0);
	assert_int_equal(world.report.left, 1);
	assert_content(&world, "o:map", "later");
	close(fd);
	assert_collects(&world, 1);
	assert_content(&world, "o:map", "third");
	assert_int_equal(world.refused, 1);
}

/* ---- places of staged things ---- */

static void places_are_no_results(void **state)
{
	static const char *const bad[] = {"", "/x", "x/", "a//b", "../x", "a/../../x", ".", "a/."};
	char long_path[1200];
	char *directory;

	(void)state;
	assert_int_equal(staging_place(world.staging, "data", true, NULL), 0);
	assert_int_equal(staging_place(world.staging, "conf/app/settings.ini", false, NULL), 0);
	assert_int_equal(staging_place(world.staging, "conf/app/settings.ini", false, NULL), 0);
	assert_int_equal(staging_place(world.staging, "data", true, NULL), 0);
	assert_int_equal(staging_place(world.staging, "data", false, NULL), -EEXIST);
	assert_int_equal(staging_place(world.staging, "conf/app/settings.ini/x", false, NULL),
			 -ENOTDIR);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(staging_place(world.staging, bad[i], true, NULL), -EINVAL);
	memset(long_path, 'a', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = '\0';
	assert_int_equal(staging_place(world.staging, long_path, true, NULL), -ENAMETOOLONG);
	assert_collects(&world, 0);
	assert_int_equal(count_names(world.project, NULL), 0);
	/* a parent that the kernel renamed takes the place along; what it makes in its stead is a
	 * result */
	assert_int_equal(rename(at(&world, "w:conf"), at(&world, "w:was")), 0);
	put(&world, "w:conf/app/settings.ini", "");
	assert_collects(&world, 1);
	assert_true(exists(&world, "o:conf/app/settings.ini"));
	assert_false(exists(&world, "o:was"));
	/* a recovery knows it too */
	directory = strdup(staging_directory(world.staging));
	world.staging = staging_free(world.staging);
	assert_int_equal(staging_open(directory, 0, 0, &world.staging, &world.err), 0);
	free(directory);
	assert_collects(&world, 0);
	assert_false(exists(&world, "o:was"));
}

static void places_follow_no_link(void **state)
{
	(void)state;
	assert_int_equal(symlink(world.project, at(&world, "w:link")), 0);
	assert_true(staging_place(world.staging, "link/x", true, NULL) < 0);
	assert_true(staging_place(world.staging, "link/x", false, NULL) < 0);
	assert_int_equal(count_names(world.project, NULL), 0);
}

/* ---- recovery ---- */

struct found {
	int count;
	uint64_t files;
	char out[PATH_MAX];
};

static struct found found;

static void on_found(void *arg, const char *directory, const char *out,
		     const struct staging_report *report)
{
	(void)arg;
	assert_non_null(directory);
	found.count++;
	found.files += report->files;
	snprintf(found.out, sizeof(found.out), "%s", out);
}

static int recover(const char *out)
{
	memset(&found, 0, sizeof(found));
	return staging_recover(world.state, out, 0, 0, world_log, NULL, on_found, &world,
			       &world.err);
}

static void recovers(void **state)
{
	char other[PATH_MAX];

	(void)state;
	snprintf(other, sizeof(other), "%s", at(&world, "other/staging/out"));
	put(&world, "w:a", "one");
	put(&world, "w:b", "two");
	assert_collects(&world, 2);
	put(&world, "w:a", "more");
	put(&world, "w:c", "three");
	put(&world, "w:.hidden", "");
	/* in use */
	assert_int_equal(recover(NULL), 0);
	assert_int_equal(found.count, 0);
	world_forget(&world);
	world.staging = staging_free(world.staging);
	/* another folder's */
	assert_int_equal(recover(other), 0);
	assert_int_equal(found.count, 0);
	assert_int_equal(world.refused, 0);
	assert_int_equal(recover(world.out), 0);
	assert_int_equal(found.count, 1);
	assert_int_equal(found.files, 2);
	assert_string_equal(found.out, world.out);
	assert_content(&world, "o:a", "more");
	assert_content(&world, "o:b", "two");
	assert_content(&world, "o:c", "three");
	assert_refused(&world, ".hidden", "hidden");
	assert_int_equal(world.refused, 1);
	assert_int_equal(count_names(world.out, NULL), 3);
	assert_int_equal(count_names(world.state, NULL), 0);
}

static void recovery_keeps_what_it_cannot_write(void **state)
{
	(void)state;
	put(&world, "w:a", "one");
	world.staging = staging_free(world.staging);
	assert_int_equal(rename(world.project, at(&world, "away")), 0);
	assert_int_equal(recover(NULL), -ENOENT);
	assert_int_equal(found.count, 0);
	assert_int_equal(rename(at(&world, "away"), world.project), 0);
	/* refusals that nobody hears are kept too */
	assert_int_equal(
		staging_recover(world.state, NULL, 0, 1, NULL, NULL, NULL, NULL, &world.err), 0);
	assert_content(&world, "o:a", "one");
	assert_int_equal(count_names(world.state, NULL), 0);
}

static void recovery_without_an_ear_keeps_refusals(void **state)
{
	(void)state;
	put(&world, "w:.x", "hidden");
	world.staging = staging_free(world.staging);
	assert_int_equal(
		staging_recover(world.state, NULL, 0, 0, NULL, NULL, NULL, NULL, &world.err), 0);
	assert_true(count_names(world.state, NULL) > 0);
	assert_int_equal(recover(NULL), 0);
	assert_int_equal(world.refused, 1);
	assert_int_equal(count_names(world.state, NULL), 0);
}

static void recovery_removes_empty_ones(void **state)
{
	(void)state;
	assert_int_equal(staging_place(world.staging, "data/x.csv", false, NULL), 0);
	world.staging = staging_free(world.staging);
	/* never finished: one old, one of this moment */
	put(&world, "state/.new-00000000000000000000000000000000/work/x", "");
	put(&world, "state/.new-00000000000000000000000000000001/work/x", "");
	assert_int_equal(utimensat(AT_FDCWD,
				   at(&world, "state/.new-00000000000000000000000000000000"),
				   (const struct timespec[2]){{.tv_sec = 1}, {.tv_sec = 1}}, 0),
			 0);
	put(&world, "state/stranger", "not ours");
	assert_int_equal(recover("/some/other/out"), 0);
	assert_int_equal(count_names(world.state, NULL), 4);
	assert_true(exists(&world, "state/stranger"));
	assert_true(exists(&world, "state/.new-00000000000000000000000000000001/work/x"));
	assert_int_equal(
		staging_recover(at(&world, "no such"), NULL, 0, 0, NULL, NULL, NULL, NULL, NULL),
		0);
}

static void recovery_ends_a_removal(void **state)
{
	(void)state;
	put(&world, "w:a", "was collected long ago");
	assert_int_equal(unlink(at(&world, "w:../out")), 0);
	world.staging = staging_free(world.staging);
	assert_int_equal(recover(NULL), 0);
	assert_int_equal(found.count, 0);
	assert_int_equal(count_names(world.state, NULL), 0);
	assert_false(exists(&world, "project/staging"));
}

static struct staging_info info;
static int infos;

static void on_info(void *arg, const struct staging_info *one)
{
	(void)arg;
	infos++;
	info = *one;
	info.out = NULL;
	info.directory = NULL;
}

static void tells_what_waits(void **state)
{
	(void)state;
	put(&world, "w:a", "one");
	assert_collects(&world, 1);
	put(&world, "w:b", "three");
	put(&world, "w:.h", "");
	infos = 0;
	assert_int_equal(staging_survey(world.state, on_info, NULL, NULL), 0);
	assert_int_equal(infos, 1);
	assert_true(info.held);
	assert_int_equal(info.files, 1);
	assert_int_equal(info.bytes, 5);
	assert_int_equal(info.others, 1);
	world.staging = staging_free(world.staging);
	assert_int_equal(staging_survey(world.state, on_info, NULL, NULL), 0);
	assert_false(info.held);
	assert_false(exists(&world, "o:b"));
}

static void sweeps_leftovers(void **state)
{
	static const char *const leftover = ".cellwall-0123456789abcdef0123456789abcdef";
	int held;

	(void)state;
	put(&world, "o:d/x", "old");
	put(&world, "o:.cellwall-0123456789abcdef0123456789abcdef", "half");
	put(&world, "o:d/.cellwall-0123456789abcdef0123456789abcdef", "half");
	put(&world, "o:.cellwall-notes", "the user's");
	put(&world, "o:d/.cellwall-00000000000000000000000000000000", "somebody is writing it");
	held = open(at(&world, "o:d/.cellwall-00000000000000000000000000000000"),
		    O_RDONLY | O_CLOEXEC);
	assert_int_equal(flock(held, LOCK_EX), 0);
	settle();
	world.staging = staging_free(world.staging);
	assert_int_equal(staging_create(world.state, world.out, world_owner(), BYTES, FILES,
					&world.staging, &world.err),
			 0);
	put(&world, "w:d/y", "new");
	assert_collects(&world, 1);
	assert_int_equal(count_names(world.out, leftover), 0);
	assert_true(exists(&world, "o:.cellwall-notes"));
	assert_true(exists(&world, "o:d/.cellwall-00000000000000000000000000000000"));
	assert_content(&world, "o:d/x", "old");
	close(held);
}

static void gives_results_to_the_owner(void **state)
{
	struct stat status;

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(chown(world.project, 4242, 4243), 0);
	put(&world, "w:d/a", "one");
	put(&world, "w:b", "two");
	assert_collects(&world, 2);
	assert_int_equal(stat(at(&world, "o:d/a"), &status), 0);
	assert_int_equal(status.st_uid, 4242);
	assert_int_equal(status.st_gid, 4243);
	assert_int_equal(stat(at(&world, "o:d"), &status), 0);
	assert_int_equal(status.st_uid, 4242);
	assert_int_equal(stat(at(&world, "project/staging"), &status), 0);
	assert_int_equal(status.st_uid, 4242);
	assert_int_equal(status.st_mode & 07777, 0755);
	assert_int_equal(stat(world.out, &status), 0);
	assert_int_equal(status.st_uid, 4242);
	put(&world, "w:b", "changed");
	assert_collects(&world, 1);
	assert_int_equal(stat(at(&world, "o:b"), &status), 0);
	assert_int_equal(status.st_uid, 4242);
}

static void a_child_shares_the_lock(void **state)
{
	struct staging *second = NULL;
	char directory[PATH_MAX];
	int ready[2], go[2], status;
	char byte = 0;
	pid_t child;

	(void)state;
	snprintf(directory, sizeof(directory), "%s", staging_directory(world.staging));
	assert_int_equal(pipe2(ready, O_CLOEXEC) | pipe2(go, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		struct staging_report report;

		close(go[1]);
		(void)!write(ready[1], "", 1);
		(void)!read(go[0], &byte, 1);
		_exit(staging_collect(world.staging, 0, NULL, NULL, &report, NULL) == 0 ? 0 : 1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	world.staging = staging_free(world.staging);
	assert_int_equal(staging_open(directory, 1, 1, &second, NULL), -EBUSY);
	close(go[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(staging_open(directory, BYTES, FILES, &world.staging, NULL), 0);
	close(go[0]);
	close(ready[0]);
	close(ready[1]);
}

static void removes(void **state)
{
	(void)state;
	put(&world, "w:a/b/c", "x");
	assert_int_equal(staging_remove(world.staging, &world.err), 0);
	assert_int_equal(count_names(world.state, NULL), 0);
}

/* ---- inputs ---- */

static void checks_inputs(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct err err;
	int fd;

	(void)state;
	put(&world, "in/a/b", "fine");
	assert_int_equal(staging_check_input(at(&world, "in"), 1000, &err), 0);
	assert_int_equal(staging_check_input(at(&world, "in/a/b"), 1000, &err), 0);
	assert_int_equal(staging_check_input(at(&world, "nothing"), 1000, &err), -ENOENT);
	/* links are not followed, but for the first */
	assert_int_equal(symlink("/dev", at(&world, "in/devices")), 0);
	assert_int_equal(symlink("a", at(&world, "in/link")), 0);
	assert_int_equal(staging_check_input(at(&world, "in"), 1000, &err), 0);
	assert_int_equal(staging_check_input(at(&world, "in/devices"), 1000, &err), -EINVAL);
	assert_int_equal(staging_check_input("/dev/null", 1000, &err), -EINVAL);
	assert_int_equal(mkfifo(at(&world, "in/a/pipe\n"), 0644), 0);
	assert_int_equal(staging_check_input(at(&world, "in"), 1000, &err), -EINVAL);
	assert_non_null(strstr(err.text, "in/a/pipe\\n is a fifo"));
	assert_int_equal(staging_check_input(at(&world, "in"), 1, &err), 0);
	assert_int_equal(staging_check_input(at(&world, "in/a/pipe\n"), 9, &err), -EINVAL);
	assert_int_equal(unlink(at(&world, "in/a/pipe\n")), 0);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", at(&world, "in/a/sock"));
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	assert_int_equal(staging_check_input(at(&world, "in/link"), 1000, &err), -EINVAL);
	assert_non_null(strstr(err.text, "sock is a socket"));
	/* what cannot be read is skipped */
	assert_int_equal(chmod(at(&world, "in/a"), 0), 0);
	assert_int_equal(staging_check_input(at(&world, "in"), 1000, &err),
			 geteuid() == 0 ? -EINVAL : 0);
	assert_int_equal(chmod(at(&world, "in/a"), 0755), 0);
}

/* ---- names and memory ---- */

static void knows_names(void **state)
{
	char out[NAME_MAX + 1], name[NAME_MAX + 1];

	(void)state;
	assert_null(name_refusal("plain", NULL));
	assert_null(name_refusal("-rf", NULL));
	assert_null(name_refusal("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80", NULL));
	assert_non_null(name_refusal(".hidden", NULL));
	assert_non_null(name_refusal("a\nb", NULL));
	assert_non_null(name_refusal("a\x1b[31m", NULL));
	assert_non_null(name_refusal("a\x7f", NULL));
	assert_non_null(name_refusal("a\xc2\x9b", NULL)); /* CSI */
	assert_non_null(name_refusal("exe.\xe2\x80\xae"
				     "fdp",
				     NULL)); /* right-to-left override */
	assert_non_null(name_refusal("\xff", NULL));
	assert_non_null(name_refusal("\xc0\xaf", NULL));	 /* overlong slash */
	assert_non_null(name_refusal("\xed\xa0\x80", NULL));	 /* surrogate */
	assert_non_null(name_refusal("\xf4\x90\x80\x80", NULL)); /* beyond U+10FFFF */
	assert_non_null(name_refusal("\xe2\x82", NULL));	 /* cut */
	name_beside("a.csv", 0, out);
	assert_string_equal(out, "a.csv");
	name_beside("a.csv", 12, out);
	assert_string_equal(out, "a (cellwall 12).csv");
	name_beside("Makefile", 1, out);
	assert_string_equal(out, "Makefile (cellwall 1)");
	memset(name, 'n', NAME_MAX);
	name[NAME_MAX] = '\0';
	memcpy(name + NAME_MAX - 4, ".csv", 4);
	name_beside(name, 7, out);
	assert_int_equal(strlen(out), NAME_MAX);
	assert_string_equal(out + NAME_MAX - 16, "(cellwall 7).csv");
	for (size_t i = 0; i + 1 < NAME_MAX; i += 2)
		memcpy(name + i, "\xc3\xa4", 2);
	name_beside(name, 7, out);
	assert_null(name_refusal(out, NULL));
	assert_true(strlen(out) <= NAME_MAX);
}

static void remembers(void **state)
{
	struct seen_source source = {1, 2, 3, 4};
	struct seen_target target = {5, 6, 7}, earlier;
	struct seen seen;
	struct seen_file *file;
	char name[32];
	int fd;

	(void)state;
	assert_int_equal(seen_init(&seen), 0);
	fd = open(at(&world, "journal"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(seen_journal(&seen, fd, 5000), 0);
	for (unsigned int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "file-%u", i);
		file = seen_add(&seen, name);
		assert_non_null(file);
		assert_ptr_equal(seen_find(&seen, name), file);
		source.inode = i;
		assert_int_equal(seen_store(&seen, file, &source, &target, i % 3, i % 2), 0);
	}
	assert_int_equal(seen.files, 3000);
	assert_int_equal(seen.bytes, 3000 * 6);
	assert_int_equal(seen.refused, 0);
	/* taking another's place: until it is done both are ours */
	file = seen_find(&seen, "file-7");
	earlier = target;
	target.size = 10;
	assert_int_equal(seen_intend(&seen, file, &target, 1, &earlier), 0);
	assert_int_equal(seen.bytes, 3000 * 6 + 4);
	assert_true(seen_is_ours(file, &earlier) && seen_is_ours(file, &target));
	assert_false(seen_same_source(&file->source, &source));
	assert_int_equal(seen_intend(&seen, seen_find(&seen, "file-9"), &target, 0, &earlier), 0);
	assert_int_equal(seen_store(&seen, file, &source, &target, 1, true), 0);
	assert_int_equal(seen.bytes, 3000 * 6 + 8);
	assert_false(seen_is_ours(file, &earlier));
	assert_true(seen_is_ours(file, &target));
	assert_null(seen_find(&seen, "file-3000"));
	seen_done(&seen);

	/* a record torn by a kill is left out */
	fd = open(at(&world, "journal"), O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "torn", 4, 32 + 20), 4);
	assert_int_equal(seen_init(&seen), 0);
	assert_int_equal(seen_journal(&seen, fd, 5000), 0);
	assert_int_equal(seen.files, 2999);
	assert_null(seen_find(&seen, "file-0"));
	file = seen_find(&seen, "file-8");
	assert_non_null(file);
	assert_int_equal(file->source.inode, 8);
	assert_int_equal(file->beside, 2);
	assert_false(file->unsettled);
	assert_int_equal(seen_find(&seen, "file-7")->target.size, 10);
	assert_true(seen_is_ours(seen_find(&seen, "file-9"), &earlier));
	assert_int_equal(seen_find(&seen, "file-9")->source.inode, 0);
	assert_ptr_equal(seen_add(&seen, "file-8"), file);
	assert_int_equal(seen_store(&seen, seen_add(&seen, "later"), &source, &target, 0, false),
			 0);
	seen_done(&seen);

	/* what is no journal is begun anew */
	fd = open(at(&world, "journal"), O_RDWR | O_TRUNC | O_CLOEXEC);
	assert_int_equal(write(fd, "nonsense", 8), 8);
	assert_int_equal(seen_init(&seen), 0);
	assert_int_equal(seen_journal(&seen, fd, 5000), 0);
	assert_int_equal(seen.files, 0);
	seen_done(&seen);
}

#define fresh(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

static int group(const char *name)
{
	const struct CMUnitTest tests[] = {
		fresh(makes_a_private_directory),
		fresh(refuses_bad_arguments),
		fresh(finds_the_state_directory),
		fresh(leaves_no_litter),
		fresh(brings_files_out),
		fresh(brings_changes_out),
		fresh(survives_removal_of_out),
		fresh(maps_inner_staging_out),
		fresh(keeps_twins_apart),
		fresh(keeps_names_beside_apart),
		fresh(never_overwrites_the_host),
		fresh(knows_earlier_results),
		fresh(leaves_what_is_in_the_way),
		fresh(follows_links_to_out),
		fresh(needs_the_folder),
		fresh(reports_what_cannot_be_written),
		fresh(names_what_cannot_be_read),
		fresh(copes_with_full_disks_and_mounts),
		fresh(keeps_the_limits),
		fresh(stops_at_the_deadline),
		fresh(keeps_holes),
		fresh(crosses_file_systems),
		fresh(waits_for_open_files),
		fresh(places_are_no_results),
		fresh(places_follow_no_link),
		fresh(recovers),
		fresh(recovery_keeps_what_it_cannot_write),
		fresh(recovery_without_an_ear_keeps_refusals),
		fresh(recovery_removes_empty_ones),
		fresh(recovery_ends_a_removal),
		fresh(tells_what_waits),
		fresh(sweeps_leftovers),
		fresh(gives_results_to_the_owner),
		fresh(a_child_shares_the_lock),
		fresh(removes),
		fresh(checks_inputs),
		fresh(knows_names),
		fresh(remembers),
	};

	return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
	umask(022);
	return world_run(group) == 0 ? 0 : 1;
}
