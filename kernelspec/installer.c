#include "kernelspec/installer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernelspec/paths.h"
#include "proxy/install.h"
#include "proxy/pip.h"
#include "proxy/requirement.h"
#include "sandbox/process.h"
#include "sandbox/tree.h"

/*
 * Theory of operation
 *
 * A loop over the proxy's socket and what the present build prints, which goes to the file that the
 * kernel reads. Requests wait in a short queue; an interrupt empties it and ends the build.
 */

#define QUEUE_MAX    16
#define SAID_MAX     (4u << 20) /* of one build: more of what it prints is not shown */
#define FILE_BYTES   (64u * 1024)
#define END_MS	     8000 /* a build that is ended takes a sandbox down with it */
#define LINE_BYTES   1024
#define WORDS_BEFORE 4 /* in a request, of what is asked for */

struct request {
	char *bytes;
	size_t size;
};

struct work {
	const struct installer *installer;
	int socket, live;
	struct request queue[QUEUE_MAX];
	size_t waiting;
	/* the present build */
	pid_t pid; /* 0: there is none */
	struct request request;
	int output, said;
	size_t printed;
	bool cancelled;
	char last[LINE_BYTES]; /* line that it printed */
	size_t last_size;
};

/* ---- one build, in its own process ---- */

/* The next text of a request; NULL: there is none. */
static const char *next_text(const struct request *request, size_t *at)
{
	const char *text = request->bytes + *at;

	if (*at >= request->size)
		return NULL;
	*at += strlen(text) + 1; /* the last byte is a NUL */
	return text;
}

/* Down from what is staged, never through a link. Returns a descriptor or a negative errno. */
static int open_below(const char *source, const char *relative)
{
	cleanup(close_fd) int fd = -1;
	char name[NAME_MAX + 1];

	if (*relative == '\0')
		return open(source, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	fd = open(source, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	while (fd >= 0 && *relative) {
		const size_t size = strcspn(relative += strspn(relative, "/"), "/");
		int next;

		if (size == 0 || size > NAME_MAX)
			return -ENOENT;
		memcpy(name, relative, size);
		name[size] = '\0';
		if (strcmp(name, "..") == 0)
			return -EACCES;
		next = tree_step(fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY);
		close_fd(&fd);
		fd = next;
		relative += size;
	}
	return fd < 0 ? fd : steal_fd(&fd);
}

static int read_regular(int fd, char **ret_text, size_t *ret_size, struct err *err)
{
	cleanup(free_ptr) char *name = format_string("/proc/self/fd/%d", fd);
	struct stat status;

	if (!name || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
		return err_set(err, -EINVAL, "it is no file");
	return read_file(AT_FDCWD, name, FILE_BYTES, ret_text, ret_size, err);
}

/* The host's file for `path` as a cell names it, below /work, when it is staged and so read-only:
 * its text (caller frees). Returns 0 or a negative errno with words. */
static int installer_read_staged(const struct spec *spec, const char *path, char **ret_text,
				 size_t *ret_size, struct err *err)
{
	static const char work[] = INSIDE_WORK "/";
	cleanup(free_ptr) char *inside = NULL;
	char shown[200];

	(void)escape_string(shown, sizeof(shown), path);
	if (strncmp(path, work, strlen(work)) == 0)
		path += strlen(work);
	while (strncmp(path, "./", 2) == 0)
		path += 2;
	inside = format_string("%s%s", work, path);
	if (!inside)
		return err_set(err, -ENOMEM, "out of memory");
	/* The last one is on top. */
	for (size_t i = spec->stage_count; i-- > 0;) {
		const struct spec_bind *stage = &spec->stages[i];
		cleanup(close_fd) int fd = -1;

		if (!paths_within(inside, stage->target))
			continue;
		fd = open_below(stage->source, inside + strlen(stage->target));
		if (fd < 0)
			break;
		return read_regular(fd, ret_text, ret_size, err) < 0
			       ? err_wrap(err, "\"%s\"", shown)
			       : 0;
	}
	return err_set(err, -ENOENT,
		       "\"%s\" is not staged: -r takes a file that the kernel cannot change "
		       "(cellwall stage add)",
		       shown);
}

/* The lines of a file that is asked for, each judged like one of a cell. Caller frees. */
static int read_lines(const struct installer *installer, const char *path, char **ret_lines,
		      struct err *err)
{
	cleanup(free_ptr) char *text = NULL, *lines = NULL;
	size_t size = 0;
	int r = installer_read_staged(installer->spec, path, &text, &size, err);

	if (r == 0 && requirement_lines(text, size, PIP_WORDS_MAX, &lines, err) < 0)
		r = err_wrap(err, "%s", path);
	for (const char *at = lines; r == 0 && at && *at; at += strcspn(at, "\n") + 1)
		r = install_judge(&installer->policy->install, at, err);
	if (r == 0)
		*ret_lines = steal_ptr(&lines);
	return r;
}

/* All requirements of a request, a line each. Caller frees. */
static int lines_of(const struct installer *installer, const struct request *request, size_t at,
		    char **ret_lines, struct err *err)
{
	char *lines = strdup("");
	const char *text;
	int r = 0;

	while (lines && r == 0 && (text = next_text(request, &at))) {
		cleanup(free_ptr) char *more = NULL;
		char *all;

		if (text[0] == 'f')
			r = read_lines(installer, text + 1, &more, err);
		else if ((r = requirement_check(text + 1, strlen(text + 1), err)) == 0 &&
			 (r = install_judge(&installer->policy->install, text + 1, err)) == 0)
			more = format_string("%s\n", text + 1);
		all = more ? format_string("%s%s", lines, more) : NULL;
		free(lines);
		lines = all;
	}
	if (r == 0 && !lines)
		r = err_set(err, -ENOMEM, "out of memory");
	if (r < 0)
		free(lines);
	else
		*ret_lines = lines;
	return r;
}

static _Noreturn void run_build(const struct work *work, const struct request *request, int output,
				pid_t parent)
{
	const struct installer *installer = work->installer;
	struct addition addition = {
		.added = installer->added, .policy = installer->policy, .base = installer->base};
	cleanup(free_ptr) char *lines = NULL;
	struct err err = {0};
	size_t at = 0;
	int code;

	if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) < 0 || getppid() != parent ||
	    dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0)
		_exit(1);
	close(output);
	close(work->socket);
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	(void)next_text(request, &at); /* "install" */
	addition.number = next_text(request, &at);
	addition.base.upgrade = strcmp(next_text(request, &at), "upgrade") == 0;
	addition.uv = strcmp(next_text(request, &at), "uv") == 0;
	if (lines_of(installer, request, at, &lines, &err) < 0) {
		printf("nothing is installed: %s\n", err.text);
		code = 1;
	} else {
		addition.lines = lines;
		code = added_build(&addition);
	}
	(void)fflush(stdout);
	_exit(code);
}

/* ---- what the kernel and the log are told ---- */

static const char *number_of(const struct request *request)
{
	size_t at = 0;

	(void)next_text(request, &at);
	return next_text(request, &at);
}

/* A new file of the live directory, which the kernel can read. Returns a descriptor or -1. */
static int open_shown(const struct work *work, const char *what, const char *number)
{
	char name[64];
	int fd;

	(void)snprintf(name, sizeof(name), "%s-%s", what, number);
	fd = openat(work->live, name, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd >= 0)
		(void)fchmod(fd, 0644);
	return fd;
}

/* Appears whole: its reader takes it when it is there. */
static void write_done(const struct work *work, const char *number, int code)
{
	char text[16], name[64];
	cleanup(close_fd) int fd = open_shown(work, ".done", number);
	char fresh[64];

	(void)snprintf(text, sizeof(text), "%d\n", code);
	(void)snprintf(fresh, sizeof(fresh), ".done-%s", number);
	(void)snprintf(name, sizeof(name), "done-%s", number);
	if (fd >= 0 && write_full(fd, text, strlen(text)) == 0)
		(void)renameat(work->live, fresh, work->live, name);
}

/* What was asked for, and the last line that the build said. */
static void report(const struct work *work, const char *verdict)
{
	char packet[INSTALL_REPORT_MAX];
	size_t at = 0, used;
	const char *text;

	for (size_t i = 0; i < WORDS_BEFORE; i++)
		(void)next_text(&work->request, &at);
	used = (size_t)snprintf(packet, sizeof(packet), "%s", verdict) + 1;
	while ((text = next_text(&work->request, &at)) && used + strlen(text) + 2 < 1024) {
		used += (size_t)snprintf(packet + used, sizeof(packet) - used, "%s%s ",
					 text[0] == 'f' ? "-r " : "", text + 1);
	}
	used += (size_t)snprintf(packet + used, sizeof(packet) - used, "(%.*s)",
				 (int)work->last_size, work->last);
	used = used < sizeof(packet) ? used : sizeof(packet) - 1;
	(void)send(work->socket, packet, used + 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* ---- the loop ---- */

static void start_next(struct work *work)
{
	const pid_t parent = getpid();
	int fds[2];

	if (work->pid > 0 || work->waiting == 0)
		return;
	work->request = work->queue[0];
	work->waiting--;
	memmove(work->queue, work->queue + 1, work->waiting * sizeof(work->queue[0]));
	work->said = open_shown(work, "said", number_of(&work->request));
	work->printed = work->last_size = 0;
	work->cancelled = false;
	if (pipe2(fds, O_CLOEXEC) == 0) {
		work->pid = fork();
		if (work->pid == 0)
			run_build(work, &work->request, fds[1], parent);
		close(fds[1]);
		work->output = fds[0];
	}
	if (work->pid <= 0) {
		close_fd(&work->output);
		write_done(work, number_of(&work->request), 1);
		report(work, "failed");
		free_ptr(&work->request.bytes);
		close_fd(&work->said);
		work->pid = 0;
	}
}

static void end_build(struct work *work)
{
	int status = 0;
	const char *verdict;

	close_fd(&work->output);
	close_fd(&work->said);
	while (waitpid(work->pid, &status, 0) < 0 && errno == EINTR)
		;
	work->pid = 0;
	verdict = work->cancelled				  ? "interrupted"
		  : WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "installed"
								  : "failed";
	write_done(work, number_of(&work->request),
		   WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	report(work, verdict);
	free_ptr(&work->request.bytes);
}

/* Keeps the last line that has a letter. */
static void keep_last(struct work *work, const char *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		const bool over = work->last_size > 0 && work->last[work->last_size - 1] == '\n';

		if (over || bytes[i] == '\r') /* how far something is */
			work->last_size = 0;
		if (bytes[i] == '\r')
			continue;
		if (bytes[i] == '\n' && work->last_size == 0)
			continue;
		if (work->last_size < sizeof(work->last) - 1)
			work->last[work->last_size++] = bytes[i];
	}
	if (size > 0 && bytes[size - 1] == '\n' && work->last_size > 0 &&
	    work->last[work->last_size - 1] != '\n')
		work->last[work->last_size++] = '\n';
}

static void take_output(struct work *work)
{
	char buffer[4096];
	ssize_t got = read(work->output, buffer, sizeof(buffer));

	if (got < 0 && errno == EINTR)
		return;
	if (got <= 0) {
		end_build(work);
		return;
	}
	keep_last(work, buffer, (size_t)got);
	work->printed += (size_t)got;
	if (work->said >= 0 && work->printed <= SAID_MAX)
		(void)write_full(work->said, buffer, (size_t)got);
}

static void cancel(struct work *work)
{
	while (work->waiting > 0) {
		struct request *request = &work->queue[--work->waiting];

		write_done(work, number_of(request), 130);
		free_ptr(&request->bytes);
	}
	if (work->pid > 0) {
		work->cancelled = true;
		(void)kill(work->pid, SIGTERM);
	}
}

static void enqueue(struct work *work, const char *bytes, size_t size)
{
	struct request request = {.bytes = malloc(size), .size = size};
	cleanup(close_fd) int said = -1;

	if (!request.bytes)
		return;
	memcpy(request.bytes, bytes, size);
	if (work->waiting < QUEUE_MAX) {
		work->queue[work->waiting++] = request;
		return;
	}
	said = open_shown(work, "said", number_of(&request));
	if (said >= 0)
		(void)write_full(said, "too many builds wait\n", 21);
	write_done(work, number_of(&request), 1);
	free(request.bytes);
}

/* Returns false when the proxy is gone. */
static bool take_word(struct work *work)
{
	static char packet[INSTALL_PACKET];
	size_t at = sizeof("install");
	uint64_t number;
	ssize_t got = recv(work->socket, packet, sizeof(packet), MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (got <= 0)
		return false;
	packet[got - 1] = '\0';
	if (strcmp(packet, "cancel") == 0)
		cancel(work);
	if (strcmp(packet, "install") == 0) {
		const struct request heard = {packet, (size_t)got};
		const char *text = next_text(&heard, &at);

		/* N becomes part of names; who sends another is no proxy of ours any more. */
		if (!text || parse_u64(text, INSTALL_ASKED_MAX, &number) < 0 ||
		    !next_text(&heard, &at) || !next_text(&heard, &at))
			return false;
		enqueue(work, packet, (size_t)got);
	}
	return true;
}

static void remove_live(const struct installer *installer)
{
	const char *directory = installer->added->directory;
	cleanup(free_ptr) char *parent = paths_parent(directory);
	cleanup(close_fd) int fd = parent ? open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd >= 0)
		(void)tree_remove(fd, paths_name(directory), installer->added->held);
}

static void end_all(struct work *work)
{
	const int64_t until = now_ms() + END_MS;

	cancel(work);
	while (work->pid > 0 && now_ms() < until) {
		struct pollfd watch = {.fd = work->output, .events = POLLIN};

		if (poll(&watch, 1, 100) > 0)
			take_output(work);
	}
	if (work->pid > 0) {
		(void)kill(work->pid, SIGKILL);
		(void)waitpid(work->pid, NULL, 0);
	}
	remove_live(work->installer);
}

static _Noreturn void serve(const struct installer *installer, int socket)
{
	struct work work = {.installer = installer, .socket = socket, .output = -1, .said = -1};
	bool there = true;

	work.live = installer->added->held;
	while (there) {
		struct pollfd watch[] = {
			{.fd = work.socket, .events = POLLIN},
			{.fd = work.output, .events = POLLIN},
		};

		start_next(&work);
		watch[1].fd = work.output;
		if (poll(watch, 2, -1) < 0)
			continue;
		if (watch[1].revents)
			take_output(&work);
		if (watch[0].revents)
			there = take_word(&work);
	}
	end_all(&work);
	_exit(0);
}

/* ---- the proxy's side ---- */

pid_t installer_start(const struct installer *installer, int *ret_socket, struct err *err)
{
	cleanup(close_fd) int ours = -1, theirs = -1;
	struct added added = *installer->added;
	struct installer mine = *installer;
	int pair[2], keep[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(err, "cannot make a socket");
	ours = pair[0];
	theirs = pair[1];
	pid = fork();
	if (pid < 0)
		return err_errno(err, "cannot start the process that installs packages");
	if (pid == 0) {
		keep[0] = theirs;
		keep[1] = added.held;
		if (process_keep_fds(keep, 2) < 0 || process_signals(err) < 0)
			_exit(1);
		(void)fcntl(3, F_SETFD, FD_CLOEXEC);
		(void)fcntl(4, F_SETFD, FD_CLOEXEC);
		(void)prctl(PR_SET_DUMPABLE, 0);
		if (mine.forget)
			mine.forget(mine.arg);
		added.held = 4;
		mine.added = &added;
		serve(&mine, 3);
	}
	*ret_socket = steal_fd(&ours);
	return pid;
}

void installer_end(pid_t pid)
{
	const int64_t until = now_ms() + END_MS + 1000;

	while (pid > 0 && waitpid(pid, NULL, WNOHANG) == 0) {
		if (now_ms() > until) {
			(void)kill(pid, SIGKILL);
			(void)waitpid(pid, NULL, 0);
			return;
		}
		(void)poll(NULL, 0, 5);
	}
}
