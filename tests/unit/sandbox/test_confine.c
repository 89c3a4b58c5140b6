/* What each of the trusted processes can still do, and what not. */
#include "sandbox/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct attempt {
	int executed, forked, tcp, connected, traced, code, thread, in_thread, file;
};

static void *thread(void *arg)
{
	*(int *)arg = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) < 0 ? errno : 0;
	return NULL;
}

static int error_of(long result)
{
	return result < 0 ? errno : 0;
}

/* In a child: as whom, or 0 for nobody. */
static struct attempt attempt(unsigned as)
{
	struct attempt tried = {0};
	int ends[2], status;
	pid_t child;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		char *none[] = {NULL};
		void *page;
		pthread_t other;
		pid_t grandchild;

		if (as && confine_enter((enum confine_as)as, NULL) < 0)
			_exit(1);
		tried.executed = error_of(execve("/nonexistent", none, none));
		grandchild = fork();
		if (grandchild == 0)
			_exit(0);
		tried.forked = error_of(grandchild);
		tried.tcp = error_of(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
		tried.connected = error_of(connect(-1, NULL, 0));
		tried.traced = error_of(ptrace(PTRACE_PEEKDATA, getpid(), NULL, NULL));
		page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		tried.code = page == MAP_FAILED ? errno : 0;
		tried.thread = pthread_create(&other, NULL, thread, &tried.in_thread);
		if (tried.thread == 0)
			(void)pthread_join(other, NULL);
		tried.file = error_of(open("/dev/null", O_RDWR | O_CLOEXEC));
		_exit(write(ends[1], &tried, sizeof(tried)) == sizeof(tried) ? 0 : 2);
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], &tried, sizeof(tried)), sizeof(tried));
	close(ends[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	return tried;
}

static void test_unconfined(void **state)
{
	struct attempt tried = attempt(0);

	(void)state;
	assert_int_equal(tried.executed, ENOENT);
	assert_int_equal(tried.forked, 0);
	assert_int_equal(tried.tcp, 0);
	assert_int_equal(tried.connected, EBADF);
	assert_int_equal(tried.code, 0);
	assert_int_equal(tried.in_thread, 0);
}

#ifndef CELLWALL_SANITIZE
static void check(const struct attempt *tried)
{
	assert_int_equal(tried->executed, EPERM);
	assert_int_equal(tried->forked, EPERM);
	assert_int_equal(tried->tcp, EPERM);
	assert_int_equal(tried->traced, EPERM);
	assert_int_equal(tried->code, EPERM);
	assert_int_equal(tried->file, 0);
}

static void test_proxy(void **state)
{
	struct attempt tried = attempt(CONFINE_PROXY);

	(void)state;
	check(&tried);
	assert_int_equal(tried.connected, EPERM);
	assert_int_equal(tried.thread, 0);
	assert_int_equal(tried.in_thread, EPERM); /* what the thread got for its socket */
}

static void test_supervisor(void **state)
{
	struct attempt tried = attempt(CONFINE_SUPERVISOR);

	(void)state;
	check(&tried);
	assert_int_equal(tried.connected, EBADF);
}

static void test_collector(void **state)
{
	struct attempt tried = attempt(CONFINE_COLLECTOR);

	(void)state;
	check(&tried);
	assert_int_equal(tried.connected, EPERM);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unconfined),
#ifndef CELLWALL_SANITIZE
		cmocka_unit_test(test_proxy),
		cmocka_unit_test(test_supervisor),
		cmocka_unit_test(test_collector),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
