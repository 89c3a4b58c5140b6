#include "sandbox/refusals.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h> /* seccomp has no wrapper */
#include <sys/uio.h>
#include <unistd.h>

#include "sandbox/arguments.h"
#include "sandbox/dispatch.h"
#include "sandbox/log.h"
#include "sandbox/seccomp.h"
#include "sandbox/supervisor.h"

/* Room for structures of a later system, which are longer (seccomp_unotify(2)). */
#define NOTIFICATION_ROOM 512

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS	   SECCOMP_IOW(4, __u64)
#endif

union question {
	struct seccomp_notif notification;
	char room[NOTIFICATION_ROOM];
};

union answer {
	struct seccomp_notif_resp response;
	char room[NOTIFICATION_ROOM];
};

/* What is to be told of a call. */
struct telling {
	const char *what; /* a word of status.h; NULL: nothing */
	char target[ATTEMPT_TARGET_MAX];
	char who[ATTEMPT_WHO_MAX], where[ATTEMPT_WHERE_MAX];
};

void refusals_begin(struct supervisor *supervisor, int listener)
{
	struct seccomp_notif_sizes sizes;
	struct err err;
	int r = 0;

	if (supervisor->refusals.begun || listener < 0) {
		close_fd(&listener);
		return;
	}
	if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) < 0)
		r = err_errno(&err, "cannot ask for the size of notifications");
	else if (sizes.seccomp_notif > NOTIFICATION_ROOM ||
		 sizes.seccomp_notif_resp > NOTIFICATION_ROOM)
		r = err_set(&err, -E2BIG, "this system's notifications are too long");
	if (r == 0)
		r = seccomp_arguments(supervisor->spec.landlock, &supervisor->refusals.program,
				      &err);
	/* Since Linux 6.6: the caller's processor goes on here at once. No other answer is needed.
	 */
	(void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	supervisor->refusals.begun = true;
	supervisor->refusals.first.left = supervisor->refusals.repeated.left = REFUSALS_BURST;
	supervisor->fd[FD_LISTENER] = listener;
	if (r < 0)
		supervisor_fail(supervisor, "seccomp", &err);
}

/* Not for what one caller does: the host refuses it, and says so each time. */
static void say_blind(struct refusals *refusals, int code)
{
	if (refusals->blind || (code != EPERM && code != EACCES && code != ENOSYS))
		return;
	refusals->blind = true;
	log_warning("where the kernel tries to connect is not reported: its memory cannot be read "
		    "(%s)",
		    strerrorname_np(code));
}

/* Returns how many of `size` bytes could be read. */
static size_t read_memory(struct refusals *refusals, pid_t pid, uint64_t address, void *out,
			  size_t size)
{
	const size_t page = 4096;
	const size_t first = page - (size_t)(address % page);
	const struct iovec local = {.iov_base = out, .iov_len = size};
	struct iovec remote[2];
	ssize_t got;

	/* A string may end before a page that is not there; parts are read whole. */
	for (size_t i = 0; i < 2; i++) {
		const uintptr_t at = (uintptr_t)(i == 0 ? address : address + first);

		remote[i].iov_base = (void *)at;
		remote[i].iov_len = i > 0 ? size - remote[0].iov_len : first < size ? first : size;
	}
	got = process_vm_readv(pid, &local, 1, remote, 2, 0);
	if (got < 0)
		say_blind(refusals, errno);
	return got < 0 ? 0 : (size_t)got;
}

static void read_string(struct refusals *refusals, pid_t pid, uint64_t address, char *out,
			size_t size)
{
	out[read_memory(refusals, pid, address, out, size - 1)] = '\0';
}

static void tell_address(struct refusals *refusals, struct telling *telling,
			 const struct seccomp_notif *call, const char *what, unsigned argument)
{
	unsigned char address[sizeof(struct sockaddr_storage)];
	const uint64_t size = call->data.args[argument + 1] & UINT32_MAX;
	const size_t got =
		read_memory(refusals, (pid_t)call->pid, call->data.args[argument], address,
			    size < sizeof(address) ? (size_t)size : sizeof(address));

	if (attempt_address(address, got, telling->target))
		telling->what = what;
}

static void tell_exec(struct refusals *refusals, struct telling *telling,
		      const struct seccomp_notif *call, unsigned argument)
{
	read_string(refusals, (pid_t)call->pid, call->data.args[argument], telling->target,
		    sizeof(telling->target));
	if (attempt_setuid(telling->target))
		telling->what = "exec";
}

static void copy(char *out, size_t size, const char *text)
{
	(void)snprintf(out, size, "%s", text);
}

/* Kept for the same thread's next call. */
static void keep_where(struct refusals *refusals, pid_t id, const struct attempt_hook *hook)
{
	struct refusals_thread *thread = NULL;

	for (size_t i = 0; i < REFUSALS_THREADS; i++) {
		if (refusals->threads[i].id == id)
			thread = &refusals->threads[i];
	}
	if (!thread) {
		thread = &refusals->threads[refusals->oldest];
		refusals->oldest = (refusals->oldest + 1) % REFUSALS_THREADS;
	}
	thread->id = id;
	thread->until = now_ms() + REFUSALS_WHERE_MS;
	copy(thread->who, sizeof(thread->who), hook->who);
	copy(thread->where, sizeof(thread->where), hook->where);
}

static void find_where(struct refusals *refusals, pid_t id, struct telling *telling)
{
	for (size_t i = 0; i < REFUSALS_THREADS; i++) {
		struct refusals_thread *thread = &refusals->threads[i];

		if (thread->id != id)
			continue;
		thread->id = 0;
		if (now_ms() > thread->until)
			continue;
		copy(telling->who, sizeof(telling->who), thread->who);
		copy(telling->where, sizeof(telling->where), thread->where);
	}
}

static void tell_chroot(struct refusals *refusals, struct telling *telling,
			const struct seccomp_notif *call)
{
	char text[ATTEMPT_HOOK_MAX];
	struct attempt_hook hook;

	read_string(refusals, (pid_t)call->pid, call->data.args[0], text, sizeof(text));
	if (!attempt_hook(text, &hook)) {
		telling->what = "call";
		copy(telling->target, sizeof(telling->target), "chroot");
	} else if (strcmp(hook.what, "where") == 0) {
		keep_where(refusals, (pid_t)call->pid, &hook);
	} else {
		telling->what = hook.what;
		copy(telling->target, sizeof(telling->target), hook.target);
		copy(telling->who, sizeof(telling->who), hook.who);
		copy(telling->where, sizeof(telling->where), hook.where);
	}
}

static void examine(struct refusals *refusals, const struct seccomp_notif *call,
		    struct telling *telling)
{
	const __u64 *args = call->data.args;
	const char *name;

	switch (call->data.nr) {
	case SYS_connect:
		tell_address(refusals, telling, call, "connect", 1);
		break;
	case SYS_bind:
		tell_address(refusals, telling, call, "bind", 1);
		break;
	case SYS_sendto:
		tell_address(refusals, telling, call, "send", 4);
		break;
	case SYS_execve:
		tell_exec(refusals, telling, call, 0);
		break;
	case SYS_execveat:
		tell_exec(refusals, telling, call, 1);
		break;
	case SYS_chroot:
		tell_chroot(refusals, telling, call);
		return;
	case SYS_socket:
		telling->what = "socket";
		attempt_socket(args[0], args[1], args[2], telling->target);
		break;
	case SYS_unshare:
	case SYS_clone:
		telling->what = "call";
		copy(telling->target, sizeof(telling->target),
		     call->data.nr == SYS_clone ? "clone" : "unshare");
		break;
	case SYS_ioctl:
		telling->what = "call";
		copy(telling->target, sizeof(telling->target),
		     (uint32_t)args[1] == TIOCSTI ? "ioctl TIOCSTI" : "ioctl TIOCLINUX");
		break;
	default:
		telling->what = "call";
		name = seccomp_name(call->data.nr);
		copy(telling->target, sizeof(telling->target), name ? name : "?");
	}
	if (telling->what)
		find_where(refusals, (pid_t)call->pid, telling);
}

static bool rate_allows(struct refusals_rate *rate, int64_t now)
{
	const int64_t more = (now - rate->refilled) / REFUSALS_EVERY_MS;

	if (more > 0) {
		rate->refilled = now;
		rate->left = more < REFUSALS_BURST - (int64_t)rate->left
				     ? rate->left + (unsigned)more
				     : REFUSALS_BURST;
	}
	if (rate->left == 0)
		return false;
	rate->left--;
	return true;
}

/* FNV-1a. */
static uint64_t hash(uint64_t value, const char *text)
{
	for (; *text; text++)
		value = (value ^ (unsigned char)*text) * 0x100000001b3u;
	return value;
}

/* The same was told before. */
static bool is_repeated(struct refusals *refusals, const struct telling *telling)
{
	const uint64_t value =
		hash(hash(hash(0xcbf29ce484222325u, telling->what), telling->target), telling->who);

	for (size_t i = 0; i < REFUSALS_KNOWN; i++) {
		if (refusals->known[i] == value)
			return true;
	}
	refusals->known[refusals->known_next] = value;
	refusals->known_next = (refusals->known_next + 1) % REFUSALS_KNOWN;
	return false;
}

static bool may_tell(struct refusals *refusals, const struct telling *telling)
{
	const int64_t now = now_ms();
	struct refusals_rate *rate =
		is_repeated(refusals, telling) ? &refusals->repeated : &refusals->first;

	if (rate_allows(rate, now))
		return true;
	refusals->untold++;
	if (refusals->untold_at == 0)
		refusals->untold_at = now + REFUSALS_EVERY_MS;
	return false;
}

/* Reads a short file of the host's /proc. */
static void read_proc(pid_t pid, const char *name, char *out, size_t size)
{
	char path[64];
	cleanup(free_ptr) char *text = NULL;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	out[0] = '\0';
	if (read_file(AT_FDCWD, path, size - 1, &text, NULL, NULL) == 0)
		copy(out, size, text);
}

static void tell(struct supervisor *supervisor, const struct telling *telling, const char *program,
		 const char *pid)
{
	const char *const fields[] = {program,	       pid,	     telling->what,
				      telling->target, telling->who, telling->where};

	supervisor_say(supervisor, true, "attempt", fields, 6);
}

static void tell_untold(struct supervisor *supervisor)
{
	char number[24];
	const char *const fields[] = {number};

	(void)snprintf(number, sizeof(number), "%" PRIu64, supervisor->refusals.untold);
	supervisor_say(supervisor, true, "untold", fields, 1);
	supervisor->refusals.untold = 0;
}

/* What the program says, and nothing that was read. */
static void answer(const struct supervisor *supervisor, const struct seccomp_notif *call)
{
	const uint32_t verdict = dispatch_run(&supervisor->refusals.program, &call->data);
	const bool told = (verdict & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_USER_NOTIF;
	const int code = told ? (int)(verdict & SECCOMP_RET_DATA) : EPERM;
	union answer answer = {0};

	answer.response.id = call->id;
	if (code == 0)
		answer.response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	else
		answer.response.error = -code;
	/* ENOENT: the caller was interrupted or killed. */
	(void)ioctl(supervisor->fd[FD_LISTENER], SECCOMP_IOCTL_NOTIF_SEND, &answer);
}

static void handle(struct supervisor *supervisor, const struct seccomp_notif *call)
{
	struct telling telling = {0};
	char status[4096], program[64] = "", pid[16] = "";
	bool told;

	examine(&supervisor->refusals, call, &telling);
	told = telling.what && may_tell(&supervisor->refusals, &telling);
	if (told) {
		uint64_t id = call->id;
		pid_t leader;

		read_proc((pid_t)call->pid, "status", status, sizeof(status));
		leader = attempt_process(status, pid);
		if (leader > 0)
			read_proc(leader, "comm", program, sizeof(program));
		program[strcspn(program, "\n")] = '\0';
		/* Dead: its number may have been somebody else's while it was looked at. */
		told = ioctl(supervisor->fd[FD_LISTENER], SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
	}
	/* First: what is said stands before what the kernel says next. */
	if (told)
		tell(supervisor, &telling, program, pid);
	answer(supervisor, call);
}

/* Whether there is one that can be received without waiting. */
static bool waiting(struct supervisor *supervisor)
{
	struct pollfd watch = {.fd = supervisor->fd[FD_LISTENER], .events = POLLIN};

	if (poll(&watch, 1, 0) <= 0)
		return false;
	if (watch.revents & POLLIN)
		return true;
	close_fd(&supervisor->fd[FD_LISTENER]); /* nobody is left under the filter */
	return false;
}

void refusals_take(struct supervisor *supervisor)
{
	struct refusals *refusals = &supervisor->refusals;

	for (unsigned i = 0; i < REFUSALS_TURN && waiting(supervisor); i++) {
		const int64_t now = now_ms();
		union question question = {0};

		if (now - refusals->window >= REFUSALS_WINDOW_MS) {
			refusals->window = now;
			refusals->calls = 0;
		}
		if (++refusals->calls > REFUSALS_WINDOW_CALLS) {
			refusals->wait_until = refusals->window + REFUSALS_WINDOW_MS;
			break;
		}
		if (ioctl(supervisor->fd[FD_LISTENER], SECCOMP_IOCTL_NOTIF_RECV, &question) == 0)
			handle(supervisor, &question.notification);
	}
}

bool refusals_wait(struct supervisor *supervisor)
{
	struct refusals *refusals = &supervisor->refusals;

	const int64_t now = now_ms();

	if (refusals->wait_until > 0 && now >= refusals->wait_until)
		refusals->wait_until = 0;
	if (refusals->untold_at > 0 && now >= refusals->untold_at) {
		refusals->untold_at = 0;
		tell_untold(supervisor);
	}
	return refusals->wait_until > 0;
}
