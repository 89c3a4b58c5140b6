/* A child under the kernel's filter, and this process as the one that listens. */
#include "sandbox/refusals.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sandbox/arguments.h"
#include "sandbox/build.h"
#include "sandbox/dispatch.h"
#include "sandbox/status.h"
#include "sandbox/supervisor.h"

#define FLOOD 20000

/* What the supervisor would have sent: the fields of "attempt" behind the pid, one line each. */
static char said[64 * 1024];
static unsigned attempts;
static uint64_t untold;

void supervisor_say(struct supervisor *supervisor, bool droppable, const char *word,
		    const char *const *fields, size_t count)
{
	const size_t used = strlen(said);
	uint64_t more = 0;

	(void)supervisor;
	assert_true(droppable);
	if (strcmp(word, "untold") == 0) {
		assert_int_equal(parse_u64(fields[0], UINT64_MAX, &more), 0);
		untold += more;
		return;
	}
	assert_string_equal(word, "attempt");
	assert_int_equal(count, 6);
	attempts++;
	if (used + 1024 < sizeof(said))
		(void)snprintf(said + used, 1024, "%s|%s|%s|%s\n", fields[2], fields[3], fields[4],
			       fields[5]);
}

void supervisor_fail(struct supervisor *supervisor, const char *stage, const struct err *err)
{
	(void)supervisor;
	fail_msg("%s: %s", stage, err->text);
}

typedef int body_fn(void);

/* Runs `body` in a child under the filter; with `listen` false the listener is dropped at once.
 * Returns what it returned. */
static int under_filter(body_fn *body, bool listen)
{
	struct supervisor supervisor = {0};
	static const struct spec spec;
	struct build build = {.spec = &spec};
	struct status status;
	struct err err = {0};
	int sync[2], code = -1;
	pid_t child;

	said[0] = '\0';
	attempts = 0;
	untold = 0;
	assert_int_equal(seccomp_compile(&build, &err), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sync), 0);
	child = fork();
	if (child == 0) {
		build.sync = sync[1];
		close(sync[0]);
		_exit(seccomp_load_kernel(&build, &err) < 0 ? 255 : body());
	}
	close(sync[1]);
	seccomp_filter_done(&build.kernel_filter);
	seccomp_filter_done(&build.init_filter);
	assert_int_equal(status_receive(sync[0], &status, &err), 1);
	assert_string_equal(status.word, "listener");
	refusals_begin(&supervisor, status.fds[0]);
	if (!listen)
		close_fd(&supervisor.fd[FD_LISTENER]);
	while (waitpid(child, &code, WNOHANG) == 0) {
		struct pollfd watch = {.fd = supervisor.fd[FD_LISTENER], .events = POLLIN};

		if (refusals_wait(&supervisor))
			watch.fd = -1;
		(void)poll(&watch, 1, 5);
		if (watch.revents)
			refusals_take(&supervisor);
	}
	untold += supervisor.refusals.untold;
	free(supervisor.refusals.program.filter);
	close_fd(&supervisor.fd[FD_LISTENER]);
	close(sync[0]);
	return WIFEXITED(code) ? WEXITSTATUS(code) : 1000 + WTERMSIG(code);
}

/* Returns its line from the one that does not answer as it should. */
#define ANSWERS(call, code)                                                                        \
	do {                                                                                       \
		errno = 0;                                                                         \
		if ((call) >= 0 || errno != (code))                                                \
			return __LINE__ & 0xff;                                                    \
	} while (0)

static struct sockaddr_in address_of(const char *text)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(443)};

	(void)inet_pton(AF_INET, text, &address.sin_addr);
	return address;
}

static int call_all(void)
{
	struct sockaddr_in out = address_of("203.0.113.5"), lo = address_of("127.0.0.1");
	char *none[] = {NULL};
	char su[] = "/nonexistent/su", ls[] = "/nonexistent/ls";

	ANSWERS(socket(AF_VSOCK, SOCK_STREAM, 0), EAFNOSUPPORT);
	ANSWERS(socket(AF_INET, SOCK_RAW, 1), ESOCKTNOSUPPORT);
	ANSWERS(socket(AF_NETLINK, SOCK_RAW, 0), EOPNOTSUPP); /* silent */
	ANSWERS(socket(AF_NETLINK, SOCK_RAW, 9), EOPNOTSUPP);
	ANSWERS(syscall(SYS_unshare, CLONE_NEWUSER), EPERM);
	ANSWERS(syscall(SYS_mount, 0, 0, 0, 0, 0), EPERM);
	ANSWERS(syscall(SYS_ptrace, 0, 0, 0, 0), EPERM);
	ANSWERS(syscall(425 /* io_uring_setup */, 1, 0), ENOSYS);
	ANSWERS(ioctl(0, TIOCSTI, "x"), ENOTTY);
	/* These go on, and the system answers. */
	ANSWERS(connect(-1, (void *)&out, sizeof(out)), EBADF);
	ANSWERS(connect(-1, (void *)&lo, sizeof(lo)), EBADF); /* silent */
	ANSWERS(connect(-1, (void *)8, 16), EBADF);	      /* silent */
	ANSWERS(connect(-1, (void *)&out, 12), EBADF);	      /* not asked about at all */
	ANSWERS(sendto(-1, "", 1, 0, (void *)&out, 20), EBADF);
	ANSWERS(bind(-1, (void *)&out, sizeof(out)), EBADF);
	ANSWERS(sendto(-1, "", 1, 0, (void *)&out, sizeof(out)), EBADF);
	ANSWERS(sendto(-1, "", 1, 0, NULL, 0), EBADF); /* not asked about at all */
	ANSWERS(execve(su, none, none), ENOENT);
	ANSWERS(execve(ls, none, none), ENOENT); /* silent */
	return 0;
}

static void test_told_and_answered(void **state)
{
	(void)state;
	assert_int_equal(under_filter(call_all, true), 0);
	assert_string_equal(said, "socket|AF_VSOCK||\n"
				  "socket|AF_INET type 3 protocol 1||\n"
				  "socket|AF_NETLINK type 3 protocol 9||\n"
				  "call|unshare||\n"
				  "call|mount||\n"
				  "call|ptrace||\n"
				  "call|io_uring_setup||\n"
				  "call|ioctl TIOCSTI||\n"
				  "connect|203.0.113.5:443||\n"
				  "bind|203.0.113.5:443||\n"
				  "send|203.0.113.5:443||\n"
				  "exec|/nonexistent/su||\n");
	assert_int_equal(untold, 0);
}

static int call_refused(void)
{
	ANSWERS(socket(AF_VSOCK, SOCK_STREAM, 0), ENOSYS);
	ANSWERS(syscall(SYS_mount, 0, 0, 0, 0, 0), ENOSYS);
	ANSWERS(connect(-1, NULL, sizeof(struct sockaddr_in)), ENOSYS);
	return 0;
}

/* Nothing is allowed for want of an answer. */
static void test_nobody_listens_any_more(void **state)
{
	(void)state;
	assert_int_equal(under_filter(call_refused, false), 0);
}

static int say_where(void)
{
	struct sockaddr_in out = address_of("203.0.113.5");
	char edge[2 * ATTEMPT_HOOK_MAX];

	ANSWERS(chroot("cellwall\twhere\t\tsomepkg\t/work/x.py:7"), EPERM);
	ANSWERS(connect(-1, (void *)&out, sizeof(out)), EBADF);
	ANSWERS(connect(-1, (void *)&out, sizeof(out)), EBADF); /* said for one call */
	ANSWERS(chroot("cellwall\tlookup\texample.com\tsomepkg\t/work/x.py:9"), EPERM);
	ANSWERS(chroot("cellwall\twhat\t\t\t"), EPERM);
	ANSWERS(chroot("cellwall\tlookup"), EPERM);
	ANSWERS(chroot(""), EPERM);
	ANSWERS(chroot((const char *)8), EPERM);
	memset(edge, 'x', sizeof(edge));
	edge[sizeof(edge) - 1] = '\0';
	ANSWERS(chroot(edge), EPERM);
	return 0;
}

static void test_hook(void **state)
{
	(void)state;
	assert_int_equal(under_filter(say_where, true), 0);
	assert_string_equal(said, "connect|203.0.113.5:443|somepkg|/work/x.py:7\n"
				  "connect|203.0.113.5:443||\n"
				  "lookup|example.com|somepkg|/work/x.py:9\n"
				  "call|chroot||\n"
				  "call|chroot||\n"
				  "call|chroot||\n"
				  "call|chroot||\n");
}

static int flood(void)
{
	struct sockaddr_in out = address_of("203.0.113.6");

	for (unsigned i = 0; i < FLOOD; i++)
		ANSWERS(syscall(SYS_unshare, CLONE_NEWUSER), EPERM);
	ANSWERS(connect(-1, (void *)&out, sizeof(out)), EBADF);
	return 0;
}

static void test_flood(void **state)
{
	(void)state;
	assert_int_equal(under_filter(flood, true), 0);
	assert_int_equal(attempts + untold, FLOOD + 1);
	assert_true(attempts < 2 * REFUSALS_BURST);
	/* It hides nothing new. */
	assert_non_null(strstr(said, "connect|203.0.113.6:443"));
}

static char path[64] = "cellwall\twhere\t\ta\tb";

static void *rewrite(void *arg)
{
	for (;;)
		*(volatile char *)path ^= 1;
	return arg;
}

/* What memory says, or says later, changes no answer. */
static int race(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, rewrite, NULL) != 0)
		return 254;
	for (unsigned i = 0; i < 2000; i++)
		ANSWERS(chroot(path), EPERM);
	return 0;
}

static void test_race(void **state)
{
	(void)state;
	assert_int_equal(under_filter(race, true), 0);
}

static void on_signal(int number)
{
	(void)number;
}

/* A call that waits for its answer is stopped, continued and interrupted like any other. */
static int signals(void)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	const pid_t parent = getpid();
	pid_t other;

	(void)sigaction(SIGUSR1, &action, NULL);
	other = fork();
	if (other == 0) {
		for (unsigned i = 0; i < 300; i++) {
			(void)kill(parent, SIGUSR1);
			(void)kill(parent, i % 2 ? SIGCONT : SIGSTOP);
		}
		(void)kill(parent, SIGCONT);
		_exit(0);
	}
	while (waitpid(other, NULL, WNOHANG) == 0)
		ANSWERS(syscall(SYS_mount, 0, 0, 0, 0, 0), EPERM);
	return 0;
}

static void test_signals(void **state)
{
	(void)state;
	assert_int_equal(under_filter(signals, true), 0);
}

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

/* A call that is allowed, with a handler after which nothing is restarted. */
static int connect_once(void)
{
	const struct sockaddr_in to = {.sin_family = AF_INET,
				       .sin_port = htons(9),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sigaction action = {.sa_handler = on_signal};
	int client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (client < 0 || sigaction(SIGUSR1, &action, NULL) < 0)
		return 200;
	return connect(client, (const struct sockaddr *)&to, sizeof(to)) < 0 ? errno : 0;
}

/* What that call answers in a process that gets a signal after the call was taken up, and before it
 * is answered; by the kernel's filter as it is loaded, or by one that waits as others do. */
static int interrupted(bool ours)
{
	static const struct spec spec;
	struct build build = {.spec = &spec};
	struct seccomp_notif question = {0};
	struct seccomp_notif_resp answer = {.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
	struct status status;
	int sync[2], code, listener;
	pid_t child;

	assert_int_equal(seccomp_compile(&build, NULL), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sync), 0);
	child = fork();
	if (child == 0) {
		build.sync = sync[1];
		if (ours)
			_exit(seccomp_load_kernel(&build, NULL) < 0 ? 255 : connect_once());
		listener = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0
				   ? -1
				   : (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
						  SECCOMP_FILTER_FLAG_NEW_LISTENER,
						  &build.kernel_filter.program[0]);
		_exit(status_send_fds(sync[1], &listener, 1, NULL, "listener", NULL) < 0
			      ? 255
			      : connect_once());
	}
	close(sync[1]);
	seccomp_filter_done(&build.kernel_filter);
	seccomp_filter_done(&build.init_filter);
	assert_int_equal(status_receive(sync[0], &status, NULL), 1);
	listener = status.fds[0];
	assert_int_equal(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &question), 0);
	assert_int_equal(question.data.nr, SYS_connect);
	answer.id = question.id;
	assert_int_equal(kill(child, SIGUSR1), 0);
	/* The one that is not to wait ends by itself. */
	while (!ours && ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &question.id) == 0)
		(void)sched_yield();
	assert_int_equal(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer) == 0, ours);
	assert_int_equal(waitpid(child, &code, 0), child);
	close(listener);
	close(sync[0]);
	return WIFEXITED(code) ? WEXITSTATUS(code) : 1000;
}

static void test_signal_in_the_middle(void **state)
{
	(void)state;
	assert_int_equal(interrupted(false), EINTR);
	/* Linux 5.19: a flag that the system does not know is refused before the program is read.
	 */
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
		    SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
		    NULL) < 0 &&
	    errno == EINVAL)
		skip();
	assert_int_equal(interrupted(true), 0);
}

/* In a process that has a listener above it there can be no other: the rules hold without. */
static int one_above(void)
{
	const struct sock_filter pass = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_filter code[] = {pass};
	const struct sock_fprog program = {.len = 1, .filter = code};
	static const struct spec spec;
	struct build build = {.spec = &spec};
	struct status status;
	int sync[2];

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
		    &program) < 0 ||
	    seccomp_compile(&build, NULL) < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sync) < 0)
		return 254;
	build.sync = sync[1];
	if (seccomp_load_kernel(&build, NULL) < 0 || status_receive(sync[0], &status, NULL) != 1 ||
	    strcmp(status.word, "unheard") != 0 || strcmp(status.field[0], "EBUSY") != 0)
		return 253;
	return call_all();
}

static void test_listener_above(void **state)
{
	const pid_t child = fork();
	int code;

	(void)state;
	if (child == 0)
		_exit(one_above());
	assert_int_equal(waitpid(child, &code, 0), child);
	assert_int_equal(code, 0);
}

/* The listener's own reading of the program is the system's. */
static void test_program(void **state)
{
	struct sock_fprog program;
	struct seccomp_data data = {.nr = SYS_mount};
	static const uint64_t told[] = {16, 28, 111, 128, UINT32_MAX, 16 | 1ull << 32},
			      untold_sizes[] = {0, 2, 15, 17, 27, 29, 110, 110 | 1ull << 32};
	const struct sock_filter bad[] = {BPF_STMT(BPF_ST, 0)};
	struct sock_filter strange[] = {bad[0]};
	const struct sock_fprog unknown = {.len = 1, .filter = strange};

	(void)state;
	assert_int_equal(seccomp_arguments(false, &program, NULL), 0);
	assert_int_equal(dispatch_run(&program, &data), SECCOMP_RET_USER_NOTIF | EPERM);
	data.nr = SYS_connect;
	for (unsigned i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
		data.args[2] = told[i];
		assert_int_equal(dispatch_run(&program, &data), SECCOMP_RET_USER_NOTIF);
	}
	for (unsigned i = 0; i < sizeof(untold_sizes) / sizeof(untold_sizes[0]); i++) {
		data.args[2] = untold_sizes[i];
		assert_int_equal(dispatch_run(&program, &data), SECCOMP_RET_ALLOW);
	}
	data.args[2] = 16;
	data.nr = SYS_read;
	assert_int_equal(dispatch_run(&program, &data), SECCOMP_RET_ALLOW);
	arguments_quiet(&program);
	data.nr = SYS_mount;
	assert_int_equal(dispatch_run(&program, &data), SECCOMP_RET_ERRNO | EPERM);
	data.nr = SYS_connect;
	assert_int_equal(dispatch_run(&program, &data), SECCOMP_RET_ALLOW);
	assert_int_equal(dispatch_run(&unknown, &data), SECCOMP_RET_KILL_PROCESS);
	free(program.filter);
}

static void test_addresses(void **state)
{
	static const struct {
		const char *text, *expected;
	} cases[] = {
		{"2001:db8::1", "[2001:db8::1]:443"},
		{"::1", NULL},
		{"::", NULL},
		{"::ffff:127.0.0.1", NULL},
		{"::ffff:8.8.8.8", "[::ffff:8.8.8.8]:443"},
	};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(443)};
	struct sockaddr_in v4 = address_of("255.255.255.255");
	char out[ATTEMPT_TARGET_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(inet_pton(AF_INET6, cases[i].text, &v6.sin6_addr), 1);
		assert_int_equal(attempt_address(&v6, sizeof(v6), out), cases[i].expected != NULL);
		if (cases[i].expected)
			assert_string_equal(out, cases[i].expected);
	}
	assert_true(attempt_address(&v4, sizeof(v4), out));
	assert_string_equal(out, "255.255.255.255:443");
	assert_false(attempt_address(&v4, 8, out));
	assert_false(attempt_address(&v4, 1, out));
	v4.sin_addr.s_addr = 0;
	assert_false(attempt_address(&v4, sizeof(v4), out));
	v4.sin_family = AF_UNIX;
	assert_false(attempt_address(&v4, sizeof(v4), out));
}

static void test_process(void **state)
{
	char inside[16];

	(void)state;
	assert_int_equal(
		attempt_process("Name:\tx\nTgid:\t412\nPid:\t9\nNStgid:\t412\t7\t2\n", inside),
		412);
	assert_string_equal(inside, "2");
	assert_int_equal(attempt_process("Name:\tx\nTgid:\t412\n", inside), 0);
	assert_int_equal(attempt_process("\nTgid:\t\nNStgid:\t\n", inside), 0);
	assert_int_equal(attempt_process("\nTgid:\t99999999999999999999\nNStgid:\t1\n", inside), 0);
	assert_int_equal(attempt_process("", inside), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_told_and_answered),
		cmocka_unit_test(test_nobody_listens_any_more),
		cmocka_unit_test(test_hook),
		cmocka_unit_test(test_flood),
		cmocka_unit_test(test_race),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_signal_in_the_middle),
		cmocka_unit_test(test_listener_above),
		cmocka_unit_test(test_program),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_process),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
