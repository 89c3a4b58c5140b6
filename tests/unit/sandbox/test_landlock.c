/* The second lock alone, without a mount namespace: what it closes stays open when it is not
 * entered. */
#include "sandbox/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sandbox/build.h"
#include "sandbox/ruleset.h"

/* Not below /tmp, which the ruleset opens. */
static char outside[] = "/var/tmp/cellwall-landlock-XXXXXX", shown[64];
static int held; /* a directory of the host, as a descriptor that was left open */

static int setup(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(outside));
	snprintf(shown, sizeof(shown), "%s/shown", outside);
	assert_int_equal(mkdir(shown, 0755), 0);
	held = open(outside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(held >= 0);
	close(openat(held, "secret", O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	close(openat(held, "shown/file", O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlinkat(held, "made", 0);
	unlinkat(held, "secret", 0);
	unlinkat(held, "shown/file", 0);
	unlinkat(held, "shown", AT_REMOVEDIR);
	close(held);
	return rmdir(outside);
}

static int opened(int directory, const char *name, int flags)
{
	int fd = openat(directory, name, flags | O_CLOEXEC, 0600);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

/* A host's abstract socket, listening in the parent. */
static int abstract_socket(struct sockaddr_un *address, socklen_t *size)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	*size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			    (size_t)snprintf(address->sun_path + 1, 60, "cellwall-test-%d",
					     (int)getpid()));
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* Made in a shown directory by the host: a fifo, and a socket that listens. */
static int later_socket(struct sockaddr_un *address)
{
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	(void)snprintf(address->sun_path, sizeof(address->sun_path), "%s/socket", shown);
	assert_int_equal(mkfifoat(held, "shown/fifo", 0666), 0);
	assert_int_equal(bind(listener, (struct sockaddr *)address, sizeof(*address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	return listener;
}

struct attempt {
	int secret, by_descriptor, made, file, own, usr, connected, signalled;
	int root, fifo, by_path;
};

/* Tries everything in a child, under the ruleset or not. */
static struct attempt attempt(bool locked)
{
	struct attempt *result, copy;
	struct sockaddr_un address, path;
	socklen_t size;
	int listener = abstract_socket(&address, &size), later = later_socket(&path);
	int fifo = openat(held, "shown/fifo", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	int ends[2], status;
	pid_t child;

	assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		struct spec spec = {0};
		struct build build = {.spec = &spec};
		struct err err = {0};
		struct attempt tried = {0};
		int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		int second = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (spec_add_bind(&spec, shown, shown, true) < 0 ||
		    (locked && landlock_kernel(&build, &err) < 0))
			_exit(1);
		tried.secret = opened(AT_FDCWD, outside, O_RDONLY | O_PATH)
				       ? errno
				       : opened(held, "secret", O_RDONLY);
		tried.by_descriptor = opened(held, "secret", O_RDWR);
		tried.made = opened(held, "made", O_WRONLY | O_CREAT);
		tried.file = opened(held, "shown/file", O_RDONLY);
		tried.own = opened(AT_FDCWD, "/tmp", O_RDWR | O_TMPFILE);
		tried.usr = opened(AT_FDCWD, "/usr", O_RDWR | O_TMPFILE);
		tried.connected =
			connect(client, (struct sockaddr *)&address, size) < 0 ? errno : 0;
		tried.by_path =
			connect(second, (struct sockaddr *)&path, sizeof(path)) < 0 ? errno : 0;
		tried.fifo = opened(held, "shown/fifo", O_WRONLY | O_NONBLOCK);
		tried.root = opened(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY);
		tried.signalled = kill(getppid(), 0) < 0 ? errno : 0;
		_exit(write(ends[1], &tried, sizeof(tried)) == sizeof(tried) ? 0 : 2);
	}
	close(ends[1]);
	result = &copy;
	assert_int_equal(read(ends[0], result, sizeof(*result)), sizeof(*result));
	close(ends[0]);
	close(listener);
	close(later);
	close(fifo);
	unlinkat(held, "shown/socket", 0);
	unlinkat(held, "shown/fifo", 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	return copy;
}

static void test_without_it_all_of_it_is_open(void **state)
{
	struct attempt tried = attempt(false);

	(void)state;
	assert_int_equal(tried.secret, 0);
	assert_int_equal(tried.by_descriptor, 0);
	assert_int_equal(tried.made, 0);
	assert_int_equal(tried.file, 0);
	assert_int_equal(tried.own, 0);
	assert_int_equal(tried.connected, 0);
	assert_int_equal(tried.signalled, 0);
	assert_int_equal(tried.root, 0);
	assert_int_equal(tried.fifo, 0);
	assert_int_equal(tried.by_path, 0);
}

static void test_with_it_only_what_is_named(void **state)
{
	struct attempt tried;

	(void)state;
	if (!ruleset_abi())
		skip();
	tried = attempt(true);
	assert_int_equal(tried.secret, EACCES);
	assert_int_equal(tried.by_descriptor, EACCES);
	assert_int_equal(tried.made, EACCES);
	assert_int_equal(tried.file, 0);
	assert_int_equal(tried.own, 0);
	assert_int_equal(tried.usr, EACCES);
	assert_int_equal(tried.root, EACCES);
	assert_int_equal(tried.fifo, EACCES);
	assert_int_equal(tried.by_path, ruleset_abi() < 9 ? 0 : EACCES);
	if (ruleset_abi() < 6)
		return;
	assert_int_equal(tried.connected, EPERM);
	assert_int_equal(tried.signalled, EPERM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_it_all_of_it_is_open),
		cmocka_unit_test(test_with_it_only_what_is_named),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
