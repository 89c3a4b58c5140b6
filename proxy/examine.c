#include "proxy/examine.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proxy/limits.h"
#include "sandbox/confine.h"

#define NAME	  "cellwall-guard"
#define TRIM_PAST (1024u * 1024) /* what a larger message took is given back */
#define TEMPLATES 2u		 /* the second is for when the first is killed */

struct question {
	uint64_t metadata, content;
	uint32_t rule, buffer_count;
}; /* followed by the buffers' sizes, u64 each, and all bytes in that order */

struct answer {
	uint64_t metadata, content;
	uint32_t verdict;
	char blocked[BLOCKED_TEXT];
};

struct template
{
	int socket; /* our end; -1: it ended */
	pid_t pid;
};

struct examine {
	struct template templates[TEMPLATES];
	size_t asked; /* which of them; TEMPLATES: none is left */
	int examiner; /* our end of its socket; -1: one was asked for */
	pid_t pid;    /* the examiner's, for its clock */
	unsigned replaced;
};

/* ---- the examiner ---- */

/* One message from the socket and its answer. Returns 0, or a negative errno: nobody asks. */
static int serve_one(int fd, const struct outputs_rules *rules, struct known *known)
{
	cleanup(free_ptr) char *bytes = NULL, *metadata = NULL, *text = NULL;
	struct iovec buffers[EXAMINE_BUFFERS_MAX];
	uint64_t sizes[EXAMINE_BUFFERS_MAX];
	struct content content = {.buffers = buffers, .rules = rules, .known = known};
	struct question question;
	struct answer answer = {0};
	size_t size, at;
	int r;

	r = read_full(fd, &question, sizeof(question));
	if (r == 0)
		r = read_full(fd, sizes, question.buffer_count * sizeof(sizes[0]));
	if (r < 0)
		return r;
	at = question.metadata + question.content;
	size = at;
	for (size_t i = 0; i < question.buffer_count; i++)
		size += sizes[i];
	bytes = malloc(size + 1);
	if (!bytes)
		return -ENOMEM;
	r = read_full(fd, bytes, size);
	if (r < 0)
		return r;
	for (size_t i = 0; i < question.buffer_count; at += sizes[i++])
		buffers[i] = (struct iovec){bytes + at, sizes[i]};
	content.buffer_count = question.buffer_count;
	answer.verdict = content_examine(
		(enum content_rule)question.rule, (struct iovec){bytes, question.metadata},
		(struct iovec){bytes + question.metadata, question.content}, &content, &metadata,
		&text);
	answer.metadata = metadata ? strlen(metadata) : 0;
	answer.content = text ? strlen(text) : 0;
	memcpy(answer.blocked, content.blocked.text, sizeof(answer.blocked));
	r = write_full(fd, &answer, sizeof(answer));
	if (r == 0 && metadata)
		r = write_full(fd, metadata, answer.metadata);
	if (r == 0 && text)
		r = write_full(fd, text, answer.content);
	if (size > TRIM_PAST) {
		free_ptr(&bytes);
		free_ptr(&text);
		(void)malloc_trim(0);
	}
	return r;
}

void examine_serve(int fd, const struct outputs_rules *rules, struct known *known)
{
	while (serve_one(fd, rules, known) == 0)
		;
}

/* ---- the template ---- */

static void limit(int resource, rlim_t value)
{
	const struct rlimit limits = {value, value};

	if (setrlimit((__rlimit_resource_t)resource, &limits) < 0)
		_exit(1);
}

static _Noreturn void run_examiner(int fd, pid_t parent, examine_server *server,
				   const struct outputs_rules *rules, struct known *known)
{
	struct err err;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent)
		_exit(1);
#ifndef CELLWALL_SANITIZE
	limit(RLIMIT_AS, EXAMINE_MEMORY);
#endif
	if (confine_enter(CONFINE_EXAMINER, &err) < 0)
		_exit(1);
	server(fd, rules, known);
	_exit(0);
}

/* A descriptor with the pid of who has its other end, one message (unix(7)). */
static int send_fd(int socket, int fd, pid_t pid)
{
	struct iovec part = {&pid, sizeof(pid)};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(int));
	return sendmsg(socket, &message, MSG_NOSIGNAL) == sizeof(pid) ? 0 : -errno;
}

static int receive_fd(int socket, pid_t *ret_pid)
{
	struct iovec part = {ret_pid, sizeof(*ret_pid)};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr message = {.msg_iov = &part,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *header;
	int fd;

	if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) != sizeof(*ret_pid))
		return -EPIPE;
	header = CMSG_FIRSTHDR(&message);
	if (!header || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int)))
		return -EPROTO;
	memcpy(&fd, CMSG_DATA(header), sizeof(int));
	return fd;
}

/* For each byte that comes a fresh examiner in place of the one before. */
static _Noreturn void run_template(int socket, examine_server *server,
				   const struct outputs_rules *rules, struct known *known)
{
	const pid_t self = getpid();
	pid_t pid = -1;
	char byte;

	while (read_full(socket, &byte, 1) == 0) {
		int pair[2];

		if (pid > 0) {
			(void)kill(pid, SIGKILL);
			(void)waitpid(pid, NULL, 0);
		}
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			_exit(1);
		pid = fork();
		if (pid == 0) {
			close(socket);
			close(pair[0]);
			run_examiner(pair[1], self, server, rules, known);
		}
		if (pid < 0 || send_fd(socket, pair[0], pid) < 0)
			_exit(1);
		close(pair[0]);
		close(pair[1]);
	}
	if (pid > 0)
		(void)kill(pid, SIGKILL);
	_exit(0);
}

/* Nothing of the proxy's but the socket; 0, 1 and 2 lead nowhere. */
static void settle(int socket, pid_t parent)
{
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t all;

	sigfillset(&all); /* an interrupt of the terminal is none of its business */
	if (null < 0 || sigprocmask(SIG_SETMASK, &all, NULL) < 0 || dup2(null, 0) < 0 ||
	    dup2(null, 1) < 0 || dup2(null, 2) < 0 || dup2(socket, 3) < 0 ||
	    fcntl(3, F_SETFD, FD_CLOEXEC) < 0 || close_range(4, ~0u, 0) < 0)
		_exit(1);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 || getppid() != parent ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NAME, NAME, 0, 0, 0) < 0)
		_exit(1);
	limit(RLIMIT_CORE, 0);
}

/* A socket that nobody reads is as good as one that is closed: find_examiner() sees it. */
static void ask_for_examiner(const struct examine *examine)
{
	char byte = 0;

	if (examine->asked < TEMPLATES)
		(void)send(examine->templates[examine->asked].socket, &byte, 1,
			   MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int start_template(struct template *template, examine_server *server,
			  const struct outputs_rules *rules, struct known *known, struct err *err)
{
	const pid_t self = getpid();
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(err, "cannot start the guard process");
	template->pid = fork();
	if (template->pid < 0) {
		close(pair[0]);
		close(pair[1]);
		return err_errno(err, "cannot start the guard process");
	}
	if (template->pid == 0) {
		settle(pair[1], self);
		if (confine_enter(CONFINE_TEMPLATE, err) < 0)
			_exit(1);
		run_template(3, server, rules, known);
	}
	close(pair[1]);
	template->socket = pair[0];
	return 0;
}

int examine_start(examine_server *server, const struct outputs_rules *rules, struct known *known,
		  struct examine **ret_examine, struct err *err)
{
	struct examine *examine = calloc(1, sizeof(*examine));
	int r = 0;

	if (!examine)
		return err_set(err, -ENOMEM, "out of memory");
	examine->examiner = -1;
	for (size_t i = 0; i < TEMPLATES; i++)
		examine->templates[i].socket = -1;
	json_object_seed(0); /* of the proxy's randomness, the examiner has no file to read it from
			      */
	for (size_t i = 0; r == 0 && i < TEMPLATES; i++)
		r = start_template(&examine->templates[i], server, rules, known, err);
	if (r < 0) {
		examine_stop(examine);
		return r;
	}
	ask_for_examiner(examine);
	*ret_examine = examine;
	return 0;
}

static void end_template(struct template *template)
{
	if (template->socket < 0)
		return;
	close_fd(&template->socket);
	(void)waitpid(template->pid, NULL, 0);
}

struct examine *examine_stop(struct examine *examine)
{
	if (!examine)
		return NULL;
	close_fd(&examine->examiner);
	for (size_t i = 0; i < TEMPLATES; i++)
		end_template(&examine->templates[i]);
	free(examine);
	return NULL;
}

unsigned examine_replaced(const struct examine *examine)
{
	return examine->replaced;
}

/* ---- asking ---- */

/* Until when something may take. */
struct deadline {
	int64_t at;	 /* now_ms */
	clockid_t clock; /* the examiner's own time; */
	int64_t own;	 /* what that may come to, 0: it does not count */
};

/* ms of that time so far; -1: it has ended, or the system does not say. */
static int64_t own_ms(clockid_t clock)
{
	struct timespec time;

	if (clock_gettime(clock, &time) < 0)
		return -1;
	return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* What passes at the least before it is over. */
static int64_t left_of(const struct deadline *deadline)
{
	const int64_t left = deadline->at - now_ms();
	int64_t used;

	if (left <= 0 || !deadline->own)
		return left;
	used = own_ms(deadline->clock);
	return used >= 0 && deadline->own - used < left ? deadline->own - used : left;
}

static int wait_for(int fd, short events, const struct deadline *deadline)
{
	struct pollfd item = {.fd = fd, .events = events};

	for (;;) {
		const int64_t left = left_of(deadline);
		const int r = left > 0 ? poll(&item, 1, (int)left) : 0;

		if (r > 0)
			return 0;
		if (r == 0 && left <= 0)
			return -ETIMEDOUT;
		if (r < 0 && errno != EINTR)
			return -errno;
	}
}

static int transfer(int fd, bool out, void *bytes, size_t size, const struct deadline *deadline)
{
	char *at = bytes;

	while (size > 0) {
		const ssize_t done = out ? send(fd, at, size, MSG_DONTWAIT | MSG_NOSIGNAL)
					 : recv(fd, at, size, MSG_DONTWAIT);

		if (done > 0) {
			at += done;
			size -= (size_t)done;
		} else if (done < 0 && (errno == EAGAIN || errno == EINTR)) {
			int r = wait_for(fd, out ? POLLOUT : POLLIN, deadline);

			if (r < 0)
				return r;
		} else {
			return -EPIPE;
		}
	}
	return 0;
}

/* The template has one ready, or makes one; one that was killed is followed by the next. */
static int find_examiner(struct examine *examine, const struct deadline *deadline)
{
	while (examine->examiner < 0 && examine->asked < TEMPLATES) {
		struct template *template = &examine->templates[examine->asked];
		int r = wait_for(template->socket, POLLIN, deadline);

		if (r < 0)
			return r;
		r = receive_fd(template->socket, &examine->pid);
		if (r >= 0) {
			examine->examiner = r;
		} else {
			end_template(template);
			examine->asked++;
			ask_for_examiner(examine);
		}
	}
	return examine->examiner < 0 ? -EPIPE : 0;
}

static int ask(struct examine *examine, const struct examination *examination,
	       const struct deadline *deadline)
{
	struct question question = {.metadata = examination->metadata.iov_len,
				    .content = examination->content.iov_len,
				    .rule = examination->rule,
				    .buffer_count = (uint32_t)examination->buffer_count};
	uint64_t sizes[EXAMINE_BUFFERS_MAX];
	const int fd = examine->examiner;
	int r;

	for (size_t i = 0; i < examination->buffer_count; i++)
		sizes[i] = examination->buffers[i].iov_len;
	r = transfer(fd, true, &question, sizeof(question), deadline);
	if (r == 0)
		r = transfer(fd, true, sizes, examination->buffer_count * sizeof(sizes[0]),
			     deadline);
	if (r == 0)
		r = transfer(fd, true, examination->metadata.iov_base,
			     examination->metadata.iov_len, deadline);
	if (r == 0)
		r = transfer(fd, true, examination->content.iov_base, examination->content.iov_len,
			     deadline);
	for (size_t i = 0; r == 0 && i < examination->buffer_count; i++)
		r = transfer(fd, true, examination->buffers[i].iov_base,
			     examination->buffers[i].iov_len, deadline);
	return r;
}

static bool plausible(const struct answer *answer)
{
	const bool changes =
		answer->verdict == CONTENT_CHANGED || answer->verdict == CONTENT_DROP_COMM;

	if (answer->verdict > CONTENT_DROP_COMM || !memchr(answer->blocked, '\0', BLOCKED_TEXT))
		return false;
	for (const char *c = answer->blocked; *c; c++)
		if (*c < ' ' || *c > '~')
			return false;
	if (!changes)
		return answer->metadata == 0 && answer->content == 0;
	return answer->metadata >= 2 && answer->metadata <= EXAMINE_CONTENT_MAX &&
	       answer->content >= 2 && answer->content <= EXAMINE_ANSWER_MAX;
}

static int take_text(int fd, size_t size, char **ret_text, const struct deadline *deadline)
{
	*ret_text = malloc(size + 1);
	if (!*ret_text)
		return -ENOMEM;
	(*ret_text)[size] = '\0';
	return transfer(fd, false, *ret_text, size, deadline);
}

static int listen_to(struct examine *examine, struct examination *examination,
		     const struct deadline *deadline)
{
	const int fd = examine->examiner;
	struct answer answer;
	int r;

	r = transfer(fd, false, &answer, sizeof(answer), deadline);
	if (r == 0 && !plausible(&answer))
		r = -EPROTO;
	if (r < 0)
		return r;
	examination->verdict = (enum content_verdict)answer.verdict;
	memcpy(examination->blocked, answer.blocked, sizeof(answer.blocked));
	examination->new_metadata_size = answer.metadata;
	examination->new_content_size = answer.content;
	if (answer.content == 0)
		return 0;
	r = take_text(fd, answer.metadata, &examination->new_metadata, deadline);
	if (r == 0)
		r = take_text(fd, answer.content, &examination->new_content, deadline);
	return r;
}

/* Whatever it is doing: it is killed by the template, which then forks another. */
static void replace(struct examine *examine)
{
	if (examine->examiner < 0)
		return;
	close_fd(&examine->examiner);
	examine->replaced++;
	ask_for_examiner(examine);
}

/* From now on its own time counts. */
static void start_clock(const struct examine *examine, int64_t limit_ms, struct deadline *deadline)
{
	int64_t used = -1;

	if (clock_getcpuclockid(examine->pid, &deadline->clock) == 0)
		used = own_ms(deadline->clock);
	deadline->own = used >= 0 ? used + limit_ms : 0;
}

int examine(struct examine *examine, struct examination *examination)
{
	size_t total = examination->metadata.iov_len + examination->content.iov_len, buffers = 0;
	struct deadline deadline = {0};
	int64_t limit_ms;
	int r;

	examination->verdict = CONTENT_DROP;
	examination->new_metadata = examination->new_content = NULL;
	examination->blocked[0] = '\0';
	for (size_t i = 0; i < examination->buffer_count; i++)
		buffers += examination->buffers[i].iov_len;
	if (total > EXAMINE_CONTENT_MAX || buffers > EXAMINE_CONTENT_MAX ||
	    examination->buffer_count > EXAMINE_BUFFERS_MAX)
		return -EMSGSIZE;
	limit_ms = EXAMINE_MS + (int64_t)((total + buffers) >> 20) * EXAMINE_MIB_MS;
	if (limit_ms > EXAMINE_MOST_MS)
		limit_ms = EXAMINE_MOST_MS;
	deadline.at = now_ms() + limit_ms + EXAMINE_WAIT_MS;
	r = find_examiner(examine, &deadline);
	if (r == 0)
		start_clock(examine, limit_ms, &deadline);
	if (r == 0)
		r = ask(examine, examination, &deadline);
	if (r == 0)
		r = listen_to(examine, examination, &deadline);
	if (r < 0)
		replace(examine);
	return r;
}
