#include "sandbox/usage.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (UINT64_C(1) << 20)

static void reads_texts(void **state)
{
	static const char status[] = "Name:\tVmSwap: 9 kB\nRssAnon:\t     160 kB\nRssShmem:\t0 kB\n"
				     "VmSwap:\t  2 kB";

	(void)state;
	assert_int_equal(usage_kilobytes(status, "RssAnon"), 160 * 1024);
	assert_int_equal(usage_kilobytes(status, "RssShmem"), 0);
	assert_int_equal(usage_kilobytes(status, "VmSwap"), 2048);
	assert_int_equal(usage_kilobytes(status, "Rss"), 0);
	assert_int_equal(usage_kilobytes("", "Rss"), 0);
	/* minflt, utime and stime; the name is the process' own choice. */
	assert_int_equal(usage_ticks("7 (a) 1 2 (b) S 1 7 7 0 -1 64 100 0 0 0 20 3 0 0 20"), 124);
	assert_int_equal(usage_ticks("7 (a) S 1 7"), 0);
	assert_int_equal(usage_ticks(""), 0);
	assert_int_equal(usage_sockets("sockets: used 1024\nTCP: inuse 9000"), 0);
	assert_int_equal(usage_sockets("sockets: used 1026\n"), 2 * USAGE_SOCKET_BYTES);
	assert_int_equal(usage_sockets("sockets: used 99999999999999999999\n"), 0);
	assert_int_equal(usage_sockets("TCP: inuse 9000"), 0);
	assert_int_equal(usage_sockets(""), 0);
}

/* A small machine: a directory like /proc with links to the processes that a test is about. */
struct world {
	char path[40];
	struct inside inside;
};

static void add(struct world *world, const char *name, pid_t pid)
{
	char to[32], from[64];

	(void)snprintf(to, sizeof(to), "/proc/%d", (int)pid);
	(void)snprintf(from, sizeof(from), "%s/%s", world->path, name);
	assert_int_equal(symlink(to, from), 0);
}

static void begin(struct world *world)
{
	cleanup(close_fd) int file = memfd_create("x", MFD_CLOEXEC);
	struct stat status;

	*world = (struct world){.path = "/tmp/cellwall-usage-XXXXXX"};
	assert_non_null(mkdtemp(world->path));
	assert_int_equal(fstat(file, &status), 0);
	world->inside = (struct inside){.kernel = 2, .memory = status.st_dev};
	world->inside.proc = open(world->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(world->inside.proc >= 0);
}

static void end(struct world *world)
{
	static const char *const names[] = {"1", "2", "3", "4"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		(void)unlinkat(world->inside.proc, names[i], 0);
	close_fd(&world->inside.proc);
	assert_int_equal(rmdir(world->path), 0);
}

/* A process that holds so much, told apart from its parent's memory; waits to be killed. */
static pid_t hold(size_t bytes, bool in_a_file)
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int fd = in_a_file ? memfd_create("held", 0) : -1;
		void *memory = in_a_file ? NULL
					 : mmap(NULL, bytes, PROT_READ | PROT_WRITE,
						MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (in_a_file ? posix_fallocate(fd, 0, (off_t)bytes) != 0 : memory == MAP_FAILED)
			_exit(1);
		if (memory)
			memset(memory, 1, bytes);
		(void)write_full(ready[1], "r", 1);
		for (;;)
			(void)pause();
	}
	close(ready[1]);
	assert_int_equal(read_full(ready[0], &byte, 1), 0);
	close(ready[0]);
	return pid;
}

static void finish(pid_t pid)
{
	int status;

	(void)kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static void sums_up_and_ranks(void **state)
{
	const pid_t kernel = hold(8 * MIB, false), small = hold(4 * MIB, false),
		    large = hold(16 * MIB, false);
	struct world world;
	struct usage usage;

	(void)state;
	begin(&world);
	add(&world, "2", kernel);
	add(&world, "3", small);
	add(&world, "4", large);
	for (int exact = 0; exact < 2; exact++) {
		assert_int_equal(usage_measure(&world.inside, exact, &usage), 0);
		assert_in_range(usage.total, 28 * MIB, 40 * MIB);
		assert_in_range(usage.kernel, 8 * MIB, 12 * MIB);
		assert_in_range(usage.others, 20 * MIB, 28 * MIB);
		assert_int_equal(usage.processes, 2);
		assert_int_equal(usage.count, 2);
		assert_int_equal(usage.largest[0].pid, 4);
		assert_int_equal(usage.largest[1].pid, 3);
	}
	assert_int_equal(usage_kill(&world.inside, 77), -ENOENT);
	end(&world);
	finish(kernel);
	finish(small);
	finish(large);
}

/* What several share counts once when it is looked at closely. */
static void shared_pages_count_once(void **state)
{
	const size_t bytes = 32 * MIB;
	char *memory =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct usage usage;
	struct world world;
	pid_t one, two;

	(void)state;
	assert_true(memory != MAP_FAILED);
	memset(memory, 1, bytes);
	one = hold(4096, false);
	two = hold(4096, false);
	begin(&world);
	add(&world, "2", getpid());
	add(&world, "3", one);
	add(&world, "4", two);
	assert_int_equal(usage_measure(&world.inside, false, &usage), 0);
	assert_true(usage.total >= 96 * MIB);
	assert_int_equal(usage_measure(&world.inside, true, &usage), 0);
	assert_in_range(usage.total, 32 * MIB, 64 * MIB);
	end(&world);
	finish(one);
	finish(two);
	assert_int_equal(munmap(memory, bytes), 0);
}

static void files_in_memory_count(void **state)
{
	const pid_t kernel = hold(24 * MIB, true);
	struct world world;
	struct usage usage;

	(void)state;
	begin(&world);
	add(&world, "2", kernel);
	add(&world, "3", kernel); /* the same file again */
	for (int exact = 0; exact < 2; exact++) {
		assert_int_equal(usage_measure(&world.inside, exact, &usage), 0);
		assert_in_range(usage.total, 24 * MIB, 40 * MIB);
	}
	end(&world);
	finish(kernel);
}

static void *fill(void *ready)
{
	const size_t bytes = 16 * MIB;
	void *memory =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		_exit(1);
	memset(memory, 1, bytes);
	(void)write_full(*(int *)ready, "r", 1);
	for (;;)
		(void)pause();
}

static bool first_thread_has_ended(pid_t pid)
{
	char path[64], text[512] = "";
	cleanup(close_fd) int fd = -1;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && strstr(text, ") Z ") != NULL;
}

/* Of such a process /proc/PID/status and /proc/PID/fd have nothing to tell. */
static void a_first_thread_that_has_ended_hides_nothing(void **state)
{
	struct world world;
	struct usage usage;
	int ready[2];
	char byte;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, fill, &ready[1]) != 0)
			_exit(1);
		pthread_exit(NULL);
	}
	close(ready[1]);
	assert_int_equal(read_full(ready[0], &byte, 1), 0);
	close(ready[0]);
	while (!first_thread_has_ended(pid))
		assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	begin(&world);
	add(&world, "2", getpid());
	add(&world, "3", pid);
	for (int exact = 0; exact < 2; exact++) {
		assert_int_equal(usage_measure(&world.inside, exact, &usage), 0);
		assert_in_range(usage.others, 16 * MIB, 24 * MIB);
		assert_int_equal(usage.largest[0].pid, 3);
	}
	assert_int_equal(usage_kill(&world.inside, 3), 0);
	finish(pid);
	/* Its number is nobody's now. */
	assert_int_equal(usage_measure(&world.inside, false, &usage), 0);
	assert_int_equal(usage.others, 0);
	end(&world);
}

static void sees_activity(void **state)
{
	const pid_t kernel = hold(MIB, false);
	struct world world;
	uint64_t before;

	(void)state;
	begin(&world);
	add(&world, "2", kernel);
	before = usage_activity(&world.inside);
	assert_true(before > 0);
	assert_true(usage_activity(&world.inside) == before);
	add(&world, "3", getpid());
	assert_true(usage_activity(&world.inside) != before);
	end(&world);
	finish(kernel);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_texts),
		cmocka_unit_test(sums_up_and_ranks),
		cmocka_unit_test(shared_pages_count_once),
		cmocka_unit_test(files_in_memory_count),
		cmocka_unit_test(a_first_thread_that_has_ended_hides_nothing),
		cmocka_unit_test(sees_activity),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
