#include "sandbox/builder.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h> /* clone, execveat and keyctl have no wrapper that fits */
#include <unistd.h>

#include "sandbox/build.h"
#include "sandbox/network.h"
#include "sandbox/process.h"
#include "sandbox/relay.h"
#include "sandbox/rlimit.h"
#include "sandbox/status.h"
#include "sandbox/without.h"

pid_t builder_clone(int flags)
{
	/* No stack of its own: as in fork(2), parent and child go on from here. */
	return (pid_t)syscall(SYS_clone, flags | CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, 0);
}

int builder_report_child(const struct build *build, const char *name, pid_t pid, struct err *err)
{
	char number[16];

	(void)snprintf(number, sizeof(number), "%d", (int)pid);
	return status_send(build->sync, err, "child", name, number, NULL);
}

void build_notice(const struct build *build, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	(void)status_send(build->sync, NULL, "notice", text, NULL);
}

/* The host user's session keyring is inherited otherwise, with what is in it (keyrings(7)). */
int builder_keyring(struct build *build, struct err *err)
{
	(void)build;
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) >= 0)
		return 0;
	/* Not built in, or refused by a filter that refuses it to the kernel as well. */
	if (errno == ENOSYS || errno == EPERM)
		return 0;
	return err_errno(err, "cannot make a new session keyring");
}

int builder_work(struct build *build, struct err *err)
{
	struct status said;
	int r = status_receive(build->sync, &said, err);

	if (r < 0)
		return r;
	/* End of file: the supervisor could not make it and has said why. */
	if (r == 0 || strcmp(said.word, "work") != 0 || said.fields != 1 || said.field[0][0] != '/')
		return err_set(err, -ECANCELED, "the private directory was not made");
	/* Both live as long as this short-lived process. */
	build->work = strdup(said.field[0]);
	build->directory = build->work ? strdup(build->work) : NULL;
	if (!build->directory)
		return err_set(err, -ENOMEM, "out of memory");
	*strrchr(build->directory, '/') = '\0';
	return 0;
}

/* One line for whoever reads the error pipe, descriptor 6. */
static void complain(const char *what)
{
	char line[256];
	int size = snprintf(line, sizeof(line), "cannot %s: %s\n", what, strerrordesc_np(errno));

	if (size > 0)
		(void)write_full(6, line, strlen(line));
}

/* Not this process' end, which would be told first: the builder says why there is no network. */
_Noreturn static void wait_for_end(const struct build *build)
{
	struct pollfd watch = {.fd = build->relay_lifeline};

	while (poll(&watch, 1, -1) <= 0)
		;
	_exit(EXIT_ORPHAN);
}

_Noreturn static void relay_main(struct build *build, int network)
{
	static char name[] = "cellwall-relay";
	static char plain[] = RELAY_PLAIN;
	char *const argv[] = {name, build->spec->landlock ? plain : NULL, NULL};
	char *const envp[] = {NULL};
	const int kept[] = {build->wall, build->relay_lifeline, build->sockets, build->relay_error,
			    build->relay_program};
	struct err err;

	if (network >= 0 && !without("network") && network_make(network) < 0)
		wait_for_end(build);
#ifndef CELLWALL_SANITIZE
	/* The server's terminal is nothing for a process that faces hostile bytes. */
	for (int fd = 1; fd <= 2; fd++)
		(void)dup2(STDIN_FILENO, fd);
#endif
	if (process_keep_fds(kept, sizeof(kept) / sizeof(kept[0])) < 0)
		_exit(EXIT_FAILURE);
	(void)fcntl(7, F_SETFD, FD_CLOEXEC);
	process_unblock_signals();
	(void)process_protect(4, SIGKILL, NULL);
	if (rlimit_relay(&err) < 0)
		complain("limit its memory");
	(void)syscall(SYS_execveat, 7, "", argv, envp, AT_EMPTY_PATH);
	complain("execute cellwall-relay");
	_exit(EXIT_FAILURE);
}

int builder_relay(struct build *build, struct err *err)
{
	const bool plain = build->spec->landlock;
	cleanup(close_fd) int network = -1;
	int ends[2];
	pid_t pid;

	if (!plain) {
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
			return err_errno(err, "cannot make a pair of sockets");
		build->network = ends[0];
		network = ends[1];
	}
	pid = builder_clone(plain ? 0 : CLONE_NEWPID | CLONE_NEWNS);
	if (pid < 0)
		return err_errno(err, "cannot make namespaces for it");
	if (pid == 0) {
		close_fd(&build->network); /* or its end would not be seen */
		relay_main(build, network);
	}
	close_fd(&build->wall);
	close_fd(&build->sockets);
	close_fd(&build->relay_error);
	close_fd(&build->relay_program);
	return builder_report_child(build, "relay", pid, err);
}

_Noreturn void build_main(struct build *build)
{
	process_unblock_signals();
	if (process_protect(build->lifeline, SIGKILL, NULL) < 0)
		_exit(EXIT_FAILURE);
	_exit(build_run(build, BUILD_BUILDER) < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}
