/* What a near end that was taken over could do, with and without what it gives up; and where its
 * host is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/ruleset.h"
#include "web/near_enclose.h"
#include "web/near_name.h"

static char place[] = "/var/tmp/cellwall-near-XXXXXX";
static char secret[64];
static struct sockaddr_un agent = {.sun_family = AF_UNIX};
static int agent_fd, host_fd, other_fd;
static struct sockaddr_in host, other;

static int listen_tcp(struct sockaddr_in *ret_address)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(*ret_address);

	*ret_address =
		(struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	assert_int_equal(bind(fd, (struct sockaddr *)ret_address, sizeof(*ret_address)), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)ret_address, &size), 0);
	return fd;
}

static int setup(void **unused)
{
	(void)unused;
	assert_non_null(mkdtemp(place));
	(void)snprintf(secret, sizeof(secret), "%s/secret", place);
	close(open(secret, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	(void)snprintf(agent.sun_path, sizeof(agent.sun_path), "%s/agent", place);
	agent_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(agent_fd, (struct sockaddr *)&agent, sizeof(agent)), 0);
	host_fd = listen_tcp(&host);
	other_fd = listen_tcp(&other);
	return listen(agent_fd, 8);
}

static int teardown(void **unused)
{
	(void)unused;
	close(agent_fd);
	close(host_fd);
	close(other_fd);
	(void)unlink(agent.sun_path);
	(void)unlink(secret);
	return rmdir(place);
}

struct attack {
	int host, other, multipath, fast, agent, datagram, listed, read, written, executed, forked;
	int mapped;
};

static int reached(int family, int protocol, const void *address, socklen_t size)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, protocol);
	int code = fd < 0 || connect(fd, address, size) < 0 ? errno : 0;

	close(fd);
	return code;
}

/* By a first send that connects (TCP Fast Open). */
static int reached_fast(const struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int code = fd < 0 || sendto(fd, "x", 1, MSG_FASTOPEN, (const struct sockaddr *)address,
				    sizeof(*address)) < 0
			   ? errno
			   : 0;

	close(fd);
	return code;
}

static int opened(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static void try_all(struct attack *tried)
{
	char *none[] = {NULL};
	pid_t child;
	void *code;

	tried->host = reached(AF_INET, 0, &host, sizeof(host));
	tried->other = reached(AF_INET, 0, &other, sizeof(other));
	tried->multipath = reached(AF_INET, IPPROTO_MPTCP, &other, sizeof(other));
	tried->fast = reached_fast(&other);
	tried->agent = reached(AF_UNIX, 0, &agent, sizeof(agent));
	tried->datagram = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0) < 0 ? errno : 0;
	tried->listed = opened(place, O_RDONLY | O_DIRECTORY);
	tried->read = opened(secret, O_RDONLY);
	tried->written = opened(secret, O_WRONLY);
	child = fork();
	if (child == 0)
		_exit(0);
	tried->forked = child < 0 ? errno : 0;
	if (child > 0)
		(void)waitpid(child, NULL, 0);
	code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	tried->mapped = code == MAP_FAILED ? errno : 0;
	tried->executed = execve("/nonexistent", none, none) < 0 ? errno : 0;
}

/* In a child that has given up files, calls, or neither. */
static struct attack attack(bool files, bool calls)
{
	struct connection connection = {0};
	struct attack tried = {0};
	int ends[2], status;
	pid_t child;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		if ((files && near_enclose_files(&connection, ntohs(host.sin_port), NULL) < 0) ||
		    (calls && near_enclose_calls(NULL) < 0))
			_exit(1);
		try_all(&tried);
		_exit(write(ends[1], &tried, sizeof(tried)) == sizeof(tried) ? 0 : 2);
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], &tried, sizeof(tried)), sizeof(tried));
	close(ends[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	return tried;
}

static void without_either_it_can(void **unused)
{
	struct attack tried = attack(false, false);

	(void)unused;
	assert_int_equal(tried.host, 0);
	assert_int_equal(tried.other, 0);
	if (tried.multipath != EPROTONOSUPPORT && tried.multipath != ENOPROTOOPT)
		assert_int_equal(tried.multipath, 0);
	if (tried.fast != EOPNOTSUPP)
		assert_int_equal(tried.fast, 0);
	assert_int_equal(tried.agent, 0);
	assert_int_equal(tried.datagram, 0);
	assert_int_equal(tried.listed, 0);
	assert_int_equal(tried.read, 0);
	assert_int_equal(tried.written, 0);
	assert_int_equal(tried.forked, 0);
	assert_int_equal(tried.mapped, 0);
	assert_int_equal(tried.executed, ENOENT);
}

static void no_files_and_its_host_s_port_alone(void **unused)
{
	struct attack tried;

	(void)unused;
	if (!ruleset_abi())
		skip();
	tried = attack(true, false);
	assert_int_equal(tried.host, 0);
	assert_int_equal(tried.other, ruleset_abi() < 4 ? 0 : EACCES);
	assert_int_equal(tried.listed, EACCES);
	assert_int_equal(tried.read, EACCES);
	assert_int_equal(tried.written, EACCES);
}

static void no_programs_processes_and_other_sockets(void **unused)
{
	struct attack tried;

	(void)unused;
#ifdef CELLWALL_SANITIZE
	skip();
#endif
	tried = attack(false, true);
	assert_int_equal(tried.host, 0);
	assert_int_equal(tried.multipath, EPERM);
	assert_int_equal(tried.fast, EPERM);
	assert_int_equal(tried.agent, EPERM);
	assert_int_equal(tried.datagram, EPERM);
	assert_int_equal(tried.forked, EPERM);
	assert_int_equal(tried.mapped, EPERM);
	assert_int_equal(tried.executed, EPERM);
}

/* ---- where the host is ---- */

static int take(struct near_name *name, char endpoint[NEAR_ENDPOINT_MAX], struct err *err)
{
	struct pollfd one = {.fd = near_name_fd(name), .events = POLLIN};
	int code;

	near_name_ask(name);
	while ((code = near_name_take(name, endpoint, err)) == 0)
		assert_int_equal(poll(&one, 1, 60000), 1);
	return code;
}

static void an_address_is_taken_as_it_is(void **unused)
{
	static const char *const texts[] = {"127.0.0.1:8890", "[::1]:1"};
	static const char *const endpoints[] = {"tcp://127.0.0.1:8890", "tcp://[::1]:1"};
	char endpoint[NEAR_ENDPOINT_MAX];
	struct near_name *name;
	struct err err;

	(void)unused;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(near_name_new(texts[i], &name, &err), 0);
		assert_int_equal(near_name_fd(name), -1);
		assert_int_equal(take(name, endpoint, &err), 1);
		assert_string_equal(endpoint, endpoints[i]);
		near_name_free(name);
	}
}

static void a_name_is_looked_up_each_time(void **unused)
{
	char endpoint[NEAR_ENDPOINT_MAX];
	struct near_name *name;
	struct err err;

	(void)unused;
	assert_int_equal(near_name_new("localhost:80", &name, &err), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(take(name, endpoint, &err), 1);
		assert_true(strcmp(endpoint, "tcp://127.0.0.1:80") == 0 ||
			    strcmp(endpoint, "tcp://[::1]:80") == 0);
	}
	near_name_free(name);
	assert_int_equal(near_name_new("no..name:80", &name, &err), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(take(name, endpoint, &err), -ENOENT);
	assert_non_null(strstr(err.text, "no address is known for no..name"));
	near_name_free(name);
}

static void what_is_no_host_and_port_is_refused(void **unused)
{
	static const char *const bad[] = {"",		"host",	 ":1",	 "host:",     "host:0",
					  "host:65536", "::1:1", "[]:1", "host:http", "host:1x"};
	uint16_t port = 0;

	(void)unused;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(near_name_port(bad[i], &port), -EINVAL);
	assert_int_equal(near_name_port("[::1]:65535", &port), 0);
	assert_int_equal(port, 65535);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_either_it_can),
		cmocka_unit_test(no_files_and_its_host_s_port_alone),
		cmocka_unit_test(no_programs_processes_and_other_sockets),
		cmocka_unit_test(an_address_is_taken_as_it_is),
		cmocka_unit_test(a_name_is_looked_up_each_time),
		cmocka_unit_test(what_is_no_host_and_port_is_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
