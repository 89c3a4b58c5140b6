#include "sandbox/init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h> /* pivot_root has no wrapper; getdents64 without malloc */
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sandbox/build.h"
#include "sandbox/builder.h"
#include "sandbox/caps.h"
#include "sandbox/process.h"

/* A stop takes effect when each thread next returns to user mode: soon, but for one in a long disk
 * wait. The waits double from the first to the longest, a tenth of a second in all. */
#define PAUSE_TRIES	 32
#define PAUSE_FIRST_NS	 50000
#define PAUSE_LONGEST_NS 4000000

/* What was killed is gone when its last thread is: ten seconds at the most. */
#define END_TRIES   5000
#define END_WAIT_NS 2000000

struct init {
	int lifeline;
	int control;
	int signals;
	int proc;
	pid_t self, kernel;
	bool plain; /* no pid namespace: what is inside is what can be signalled, see plain.h */
};

int init_enter(struct build *build, struct err *err)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};

	/* Last, because places for mounts had to be made in it. */
	if (mount_setattr(build->root, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return err_errno(err, "cannot make the root read-only");
	/* pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one, where
	 * "." and "/.." lead; until it is gone nothing but this program runs. */
	if (fchdir(build->root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return err_errno(err, "cannot change the root");
	close_fd(&build->root);
	return 0;
}

/* The system waits there for all of its processors: the kernel's process is made ready meanwhile,
 * and goes on when it is told. */
int init_leave(struct build *build, struct err *err)
{
	(void)build;
	if (umount2(".", MNT_DETACH) < 0)
		return err_errno(err, "cannot detach the old root");
	return chdir("/") < 0 ? err_errno(err, "cannot change to the root") : 0;
}

int init_release(struct build *build, struct err *err)
{
	const char byte = 0;
	int r = write_full(build->gate, &byte, 1);

	close_fd(&build->gate);
	/* -EPIPE: it is dead, as will be seen. */
	return r == 0 || r == -EPIPE ? 0 : err_set(err, r, "cannot tell the kernel's process");
}

/*
 * The second lock on nested user namespaces, behind the filter: this one namespace, U2, and no
 * more; and on fanotify(7) groups (Linux 5.13). The limits hold for all that is created below, so
 * the kernel's own full capabilities in U2 do not lift them.
 */
int init_lock(struct build *build, struct err *err)
{
	static const struct {
		const char *file, *number, *what;
	} limits[] = {
		{"sys/user/max_user_namespaces", "1", "user namespaces"},
		{"sys/user/max_fanotify_groups", "0", "fanotify groups"},
	};

	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		cleanup(close_fd) int fd =
			openat(build->proc, limits[i].file, O_WRONLY | O_CLOEXEC);

		if (i > 0 && fd < 0 && errno == ENOENT)
			continue;
		if (fd < 0 || write(fd, limits[i].number, 1) != 1)
			return err_errno(err, "cannot limit the number of %s", limits[i].what);
	}
	return 0;
}

static void report(const struct init *init, enum init_word word, int value, int signal)
{
	const struct init_report packet = {.word = word, .value = value, .signal = signal};

	/* Ended while the supervisor is gone: the lifeline says so next. */
	(void)send(init->control, &packet, sizeof(packet), MSG_NOSIGNAL);
}

/* This exit kills what is left in the pid namespace; where there is none, everything that can be
 * signalled is killed first, and waited for. */
_Noreturn static void end(const struct init *init, int code)
{
	const struct timespec wait = {.tv_nsec = END_WAIT_NS};

	for (int i = 0; init->plain && i < END_TRIES; i++) {
		pid_t pid;

		(void)kill(-1, SIGKILL);
		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (pid < 0 && errno == ECHILD)
			break;
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, NULL);
	}
	_exit(code);
}

static void reap(const struct init *init)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != init->kernel)
			continue;
		if (WIFSIGNALED(status))
			report(init, INIT_ENDED, 0, WTERMSIG(status));
		else
			report(init, INIT_ENDED, WEXITSTATUS(status), 0);
		end(init, 0);
	}
}

/* Reads the next entries of a directory into `buffer`; opendir(3) would allocate. Returns bytes, 0
 * at the end. */
static long next_entries(int directory, void *buffer, size_t size)
{
	return syscall(SYS_getdents64, directory, buffer, size);
}

/* True when the thread is stopped, dead, or no longer there. */
static bool thread_stopped(int tasks, const char *tid)
{
	char path[64], text[512];
	cleanup(close_fd) int fd = -1;
	const char *end;
	ssize_t got;

	(void)snprintf(path, sizeof(path), "%.20s/stat", tid);
	fd = openat(tasks, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT || errno == ESRCH;
	got = read(fd, text, sizeof(text) - 1);
	if (got <= 0)
		return got < 0 && errno == ESRCH;
	text[got] = '\0';
	/* proc(5): "PID (COMM) STATE"; COMM is the process' choice and may hold parentheses. */
	end = strrchr(text, ')');
	return end && end[1] == ' ' && end[2] && strchr("TtZXx", end[2]);
}

typedef bool entry_fn(int directory, const char *name);

/* True when `check` holds for every numeric entry of `directory` but `skipped`. */
static bool all_entries(int directory, pid_t skipped, entry_fn *check)
{
	union {
		struct dirent64 align;
		char bytes[4096];
	} buffer;
	long got;

	if (lseek(directory, 0, SEEK_SET) < 0)
		return false;
	while ((got = next_entries(directory, buffer.bytes, sizeof(buffer.bytes))) > 0) {
		for (long at = 0; at < got;) {
			const struct dirent64 *entry = (const void *)(buffer.bytes + at);

			at += entry->d_reclen;
			if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
				continue;
			if (strtol(entry->d_name, NULL, 10) == skipped)
				continue;
			if (!check(directory, entry->d_name))
				return false;
		}
	}
	return got == 0;
}

/* Every thread, not the leader alone: a leader that has exited shows "Z" while its threads run on.
 */
static bool process_stopped(int proc, const char *pid)
{
	char path[64];
	cleanup(close_fd) int tasks = -1;

	/* Not inside, where a system shows more than that. */
	if (kill((pid_t)strtol(pid, NULL, 10), 0) < 0)
		return true;
	(void)snprintf(path, sizeof(path), "%.20s/task", pid);
	tasks = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tasks < 0)
		return errno == ENOENT || errno == ESRCH;
	return all_entries(tasks, 0, thread_stopped);
}

/*
 * kill(-1) goes to all processes at one moment, with no fork in between (kill(2), tasklist_lock);
 * the check is for threads that are slow to stop and for a hostile process that continues others.
 */
static bool pause_everything(const struct init *init)
{
	struct timespec wait = {.tv_nsec = PAUSE_FIRST_NS};

	for (int i = 0; i < PAUSE_TRIES; i++) {
		(void)kill(-1, SIGSTOP);
		if (all_entries(init->proc, init->self, process_stopped))
			return true;
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, NULL);
		if (wait.tv_nsec < PAUSE_LONGEST_NS)
			wait.tv_nsec *= 2;
	}
	return false;
}

static void obey(const struct init *init)
{
	unsigned char command;
	ssize_t got = recv(init->control, &command, 1, MSG_DONTWAIT);

	if (got == 0)
		end(init, EXIT_ORPHAN);
	if (got < 0)
		return;
	switch (command) {
	case INIT_INTERRUPT:
		(void)kill(-init->kernel, SIGINT);
		break;
	case INIT_TERMINATE:
		(void)kill(-init->kernel, SIGTERM);
		break;
	case INIT_PAUSE:
		report(init, INIT_PAUSED, pause_everything(init), 0);
		break;
	case INIT_RESUME:
		(void)kill(-1, SIGCONT);
		report(init, INIT_RESUMED, 0, 0);
		break;
	default:
		break;
	}
}

_Noreturn static void serve(const struct init *init)
{
	for (;;) {
		struct pollfd watch[] = {
			{.fd = init->lifeline},
			{.fd = init->control, .events = POLLIN},
			{.fd = init->signals, .events = POLLIN},
		};
		struct signalfd_siginfo info;

		if (poll(watch, sizeof(watch) / sizeof(watch[0]), -1) < 0 && errno != EINTR)
			end(init, EXIT_FAILURE);
		if (watch[0].revents)
			end(init, EXIT_ORPHAN);
		if (watch[2].revents && read(init->signals, &info, sizeof(info)) > 0)
			reap(init);
		if (watch[1].revents)
			obey(init);
	}
}

static int watch_children(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -1;
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* What is left open while hostile code runs beside: lifeline, control socket, a signalfd, /proc. */
_Noreturn static void init_main(struct build *build)
{
	const int kept[] = {build->sync, build->init_lifeline, build->control, build->output,
			    build->root};
	struct init init;

	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (process_keep_fds(kept, sizeof(kept) / sizeof(kept[0])) < 0)
		_exit(EXIT_FAILURE);
	build->sync = 3;
	build->lifeline = 4;
	build->control = 5;
	build->output = 6;
	build->root = 7;
	for (int fd = 3; fd <= 7; fd++)
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	process_unblock_signals();
	init.plain = build->spec->landlock;
	init.self = getpid();
	/* SIGCHLD wakes it without harm: it has others to kill before it ends. */
	if (process_protect(build->lifeline, init.plain ? SIGCHLD : SIGKILL, NULL) < 0)
		_exit(EXIT_FAILURE);
	init.signals = watch_children();
	if (init.signals < 0 || build_run(build, BUILD_INIT) < 0)
		end(&init, EXIT_FAILURE);
	init.lifeline = build->lifeline;
	init.control = build->control;
	init.proc = build->proc;
	init.kernel = build->kernel;
	serve(&init);
}

int init_start(struct build *build, struct err *err)
{
	pid_t pid = builder_clone(build->spec->landlock ? 0 : CLONE_NEWPID);

	if (pid < 0) {
		int code = err_errno(err, "cannot make a pid namespace");

		userns_hint(err, code);
		return code;
	}
	if (pid == 0)
		init_main(build);
	return builder_report_child(build, "init", pid, err);
}

int init_quiet(struct build *build, struct err *err)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return err_errno(err, "cannot open /dev/null inside");
#ifndef CELLWALL_SANITIZE
	/* The server's terminal is nothing for a process that hostile code lives beside. */
	for (int fd = 0; fd <= 2; fd++)
		(void)dup2(null, fd);
#endif
	close_fd(&null);
	close_fd(&build->output);
	close_fd(&build->sync);
	close_fd(&build->maps);
	close_fd(&build->gate);
	/* A descriptor of fsmount(2) names the directory but cannot list it. */
	close_fd(&build->proc);
	build->proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (build->proc < 0)
		return err_errno(err, "cannot open /proc inside");
	return 0;
}
