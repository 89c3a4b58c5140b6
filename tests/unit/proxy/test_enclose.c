/* What a proxy that was taken over could do, with and without what it gives up: files, programs,
 * processes, the network, services of the user's. */
#include "proxy/enclose.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sandbox/ruleset.h"

/* Not below /tmp, where clients' sockets may be. */
static char place[] = "/var/tmp/cellwall-enclose-XXXXXX";
static char state[64], out[64], secret[64];
static int abstract; /* a service of the user's */
static struct sockaddr_un service;
static socklen_t service_size;

static int setup(void **unused)
{
	(void)unused;
	assert_non_null(mkdtemp(place));
	(void)snprintf(state, sizeof(state), "%s/state", place);
	(void)snprintf(out, sizeof(out), "%s/state/out", place);
	(void)snprintf(secret, sizeof(secret), "%s/secret", place);
	assert_int_equal(mkdir(state, 0700), 0);
	close(open(secret, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	service.sun_family = AF_UNIX;
	service_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
				   (size_t)snprintf(service.sun_path + 1, 60, "cellwall-enclose-%d",
						    (int)getpid()));
	abstract = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(abstract, (struct sockaddr *)&service, service_size), 0);
	return listen(abstract, 8);
}

static int teardown(void **unused)
{
	char made[80];

	(void)unused;
	close(abstract);
	(void)snprintf(made, sizeof(made), "%s/made", state);
	(void)unlink(made);
	(void)unlink(secret);
	(void)rmdir(state);
	return rmdir(place);
}

struct attack {
	int read, listed, written, executed, forked, tcp, port, abstract, mapped, traced, own;
	struct enclosed said;
};

static int error_of(long result)
{
	return result < 0 ? errno : 0;
}

static int opened(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static void try_all(struct attack *tried, int stream, int client)
{
	const struct sockaddr_in any = {.sin_family = AF_INET};
	char *none[] = {NULL}, made[80];
	pid_t child;

	(void)snprintf(made, sizeof(made), "%s/made", state);
	tried->own = opened(made, O_RDWR | O_CREAT);
	tried->read = opened(secret, O_RDONLY);
	tried->listed = opened(place, O_RDONLY | O_DIRECTORY);
	tried->written = opened(secret, O_WRONLY);
	/* Sockets that were there already. */
	tried->port = error_of(bind(stream, (const struct sockaddr *)&any, sizeof(any)));
	tried->abstract = error_of(connect(client, (struct sockaddr *)&service, service_size));
	tried->tcp = error_of(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	child = fork();
	if (child == 0)
		_exit(0);
	tried->forked = error_of(child);
	if (child > 0)
		(void)waitpid(child, NULL, 0);
	tried->traced = error_of(ptrace(PTRACE_PEEKDATA, getpid(), NULL, NULL));
	tried->mapped = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			     0) == MAP_FAILED
				? errno
				: 0;
	tried->executed = error_of(execve("/nonexistent", none, none));
	tried->said = enclose_measure();
}

/* In a child that has given up files, calls, or neither. */
static struct attack attack(bool files, bool calls)
{
	struct connection connection = {0};
	struct spec spec = {.state = state, .out = out};
	const struct session_plan plan = {.connection = &connection, .spec = &spec};
	struct attack tried = {0};
	int ends[2], status;
	pid_t child;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		int stream = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if ((files && enclose_files(&plan, NULL) < 0) || (calls && enclose_calls(NULL) < 0))
			_exit(1);
		try_all(&tried, stream, client);
		_exit(write(ends[1], &tried, sizeof(tried)) == sizeof(tried) ? 0 : 2);
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], &tried, sizeof(tried)), sizeof(tried));
	close(ends[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	return tried;
}

static void test_without_either_it_can(void **unused)
{
	struct attack tried = attack(false, false);

	(void)unused;
	assert_int_equal(tried.own, 0);
	assert_int_equal(tried.read, 0);
	assert_int_equal(tried.listed, 0);
	assert_int_equal(tried.written, 0);
	assert_int_equal(tried.port, 0);
	assert_int_equal(tried.abstract, 0);
	assert_int_equal(tried.tcp, 0);
	assert_int_equal(tried.forked, 0);
	assert_int_equal(tried.traced, ESRCH); /* nobody traces it */
	assert_int_equal(tried.mapped, 0);
	assert_int_equal(tried.executed, ENOENT);
	assert_false(tried.said.files || tried.said.calls);
}

static void test_files(void **unused)
{
	struct attack tried;

	(void)unused;
	if (!ruleset_abi())
		skip();
	tried = attack(true, false);
	assert_int_equal(tried.own, 0);
	assert_int_equal(tried.read, EACCES);
	assert_int_equal(tried.listed, EACCES);
	assert_int_equal(tried.written, EACCES);
	assert_int_equal(tried.port, ruleset_abi() < 4 ? 0 : EACCES);
	assert_int_equal(tried.abstract, ruleset_abi() < 6 ? 0 : EPERM);
	assert_int_equal(tried.tcp, 0);
	assert_true(tried.said.files);
	assert_false(tried.said.calls);
}

static void test_calls(void **unused)
{
	struct attack tried = attack(false, true);

	(void)unused;
#ifdef CELLWALL_SANITIZE
	skip();
#endif
	assert_int_equal(tried.own, 0);
	assert_int_equal(tried.read, 0);
	assert_int_equal(tried.tcp, EPERM);
	assert_int_equal(tried.forked, EPERM);
	assert_int_equal(tried.traced, EPERM);
	assert_int_equal(tried.mapped, EPERM);
	assert_int_equal(tried.executed, EPERM);
	assert_true(tried.said.calls);
	assert_false(tried.said.files);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_without_either_it_can),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_calls),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
