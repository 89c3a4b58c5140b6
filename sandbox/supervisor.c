#include "sandbox/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h> /* pidfd_open has no wrapper */
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/collector.h"
#include "sandbox/confine.h"
#include "sandbox/hear.h"
#include "sandbox/log.h"
#include "sandbox/plain.h"
#include "sandbox/process.h"
#include "sandbox/rlimit.h"
#include "sandbox/sockets.h"
#include "sandbox/spawn.h"
#include "sandbox/staging.h"
#include "sandbox/status.h"

/*
 * Theory of operation
 *
 * One loop over a few descriptors, and a phase. Whatever goes wrong ends in the same way: pid 1 and
 * the relay are killed, or die of their closed lifelines when their pid was never told; the
 * collector has the last turn; then every child is waited for. While the builder's socket is open
 * the launch is not over; its end of file after "exec" means that execve(2) has closed the last
 * copy, so the kernel runs.
 */

/* From a dying proxy's main thread to its last one, and from the first descriptor that it closes to
 * the last, on a machine that does much else. */
#define PROXY_END_MS 5000
/* What the relay still has to hand over when the kernel is gone. */
#define RELAY_DRAIN_MS 300
/* A collector that does not answer its last word by then hangs in the file system; its directory
 * stays. */
#define COLLECTOR_PATIENCE_MS (COLLECT_MS + 3000)
/* How long a start waits for the results of an earlier kernel. */
#define RECOVER_FIRST_MS 1500
/* The last children are dead or orphaned by then; init(1) gets those that are stuck in the system.
 */
#define LAST_WAIT_MS 5000
/* For a proxy that is slow to read "gone" and "done"; it goes by the end of the socket otherwise.
 */
#define LAST_WORD_MS 2000

void supervisor_say(struct supervisor *supervisor, bool droppable, const char *word,
		    const char *const *fields, size_t count)
{
	/* The proxy's end is also seen by poll, which decides what follows. */
	if (!supervisor->proxy_gone)
		outbox_put(&supervisor->outbox, supervisor->fd[FD_STATUS], droppable, word, fields,
			   count);
}

void supervisor_tell(struct supervisor *supervisor, const char *word, const char *first,
		     const char *second)
{
	const char *const fields[] = {first, second};

	supervisor_say(supervisor, false, word, fields, first ? second ? 2 : 1 : 0);
}

static void kill_child(struct supervisor *supervisor, enum supervisor_child which)
{
	/* Not waited for yet, so the pid is still its own. */
	if (supervisor->child[which] > 0)
		(void)kill(supervisor->child[which], SIGKILL);
}

/* pid 1 takes everything in its pid namespace with it. */
static void end_sandbox(struct supervisor *supervisor)
{
	kill_child(supervisor, CHILD_BUILDER);
	/* Without a pid namespace it has others to kill first, see init.c. */
	if (!supervisor->spec.landlock)
		kill_child(supervisor, CHILD_INIT);
	close_fd(&supervisor->fd[FD_INIT_LIFE]);
}

void supervisor_end_relay(struct supervisor *supervisor)
{
	kill_child(supervisor, CHILD_RELAY);
	close_fd(&supervisor->fd[FD_RELAY_LIFE]);
}

void supervisor_fail_text(struct supervisor *supervisor, const char *stage, const char *name,
			  const char *text)
{
	const char *const fields[] = {stage, name, text};

	if (!supervisor->failed)
		supervisor_say(supervisor, false, "error", fields, 3);
	supervisor->failed = true;
	end_sandbox(supervisor);
	supervisor_end_relay(supervisor);
}

void supervisor_fail(struct supervisor *supervisor, const char *stage, const struct err *err)
{
	const char *name = strerrorname_np(err->code < 0 ? -err->code : err->code);

	supervisor_fail_text(supervisor, stage, name ? name : "EIO", err->text);
}

/* While its socket has no room the order waits, until the collector's time is over. */
static void order_collector(struct supervisor *supervisor)
{
	const char *word = supervisor->last_order;
	int fd = supervisor->fd[FD_COLLECTOR];
	int r = fd < 0 ? -EPIPE : status_post(fd, word, strlen(word));

	if (r == -EAGAIN)
		return;
	supervisor->last_order = NULL;
	if (r < 0)
		supervisor->phase = PHASE_FINISHED;
}

static void collector_word(struct supervisor *supervisor, const char *word)
{
	supervisor->last_order = word;
	supervisor->collect_until = now_ms() + COLLECTOR_PATIENCE_MS;
	order_collector(supervisor);
}

/* Nothing runs inside any more. */
static void begin_ending(struct supervisor *supervisor)
{
	char code[16], signal[16];
	bool ran = supervisor->phase == PHASE_RUNNING;

	bounds_ended(supervisor);
	supervisor->phase = PHASE_ENDING;
	supervisor->kill_at = 0;
	if (ran) {
		(void)snprintf(code, sizeof(code), "%d", supervisor->code);
		(void)snprintf(signal, sizeof(signal), "%d", supervisor->signal);
		supervisor_tell(supervisor, "gone", code, signal);
		supervisor->relay_until = now_ms() + RELAY_DRAIN_MS;
	} else {
		supervisor_end_relay(supervisor);
	}
	/* Now that it is said, and before what they held is moved or removed. */
	close_fd(&supervisor->fd[FD_MOUNTS]);
	/* A launch that failed leaves nothing behind; but once it was executed the kernel may have
	 * written. */
	collector_word(supervisor, supervisor->executing ? "final" : "discard");
}

void supervisor_confine(struct supervisor *supervisor)
{
	struct err err;

	if (!supervisor->confined && confine_enter(CONFINE_SUPERVISOR, &err) < 0)
		supervisor_fail(supervisor, "seccomp", &err);
	else
		supervisor->confined = true;
}

static void say_layers(struct supervisor *supervisor)
{
	const char *fields[SUPERVISOR_LAYERS];

	for (size_t i = 0; i < SUPERVISOR_LAYERS; i++)
		fields[i] = supervisor->layers[i];
	if (fields[0])
		supervisor_say(supervisor, false, "layers", fields, SUPERVISOR_LAYERS);
}

static void kernel_runs(struct supervisor *supervisor)
{
	/* Where there were no maps to write. */
	supervisor_confine(supervisor);
	if (supervisor->failed)
		return;
	supervisor->phase = PHASE_RUNNING;
	say_layers(supervisor);
	supervisor_tell(supervisor, "started", NULL, NULL);
	bounds_run(supervisor);
}

void supervisor_end(struct supervisor *supervisor)
{
	if (supervisor->phase == PHASE_BUILDING)
		supervisor_fail_text(supervisor, "launch", "EINTR",
				     "stopped before the kernel ran");
	else
		end_sandbox(supervisor);
}

static void on_builder_end(struct supervisor *supervisor, int status)
{
	/* Its last words may still wait; end of file comes when the others let go too. */
	while (hear_builder(supervisor))
		;
	if (supervisor->phase == PHASE_BUILDING && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
		supervisor_fail_text(supervisor, "launch", "ECHILD",
				     "the process that builds the sandbox was killed");
	close_fd(&supervisor->fd[FD_BUILDER_LIFE]);
}

static void on_init_end(struct supervisor *supervisor)
{
	while (hear_builder(supervisor))
		;
	if (supervisor->fd[FD_CONTROL] >= 0)
		hear_init(supervisor);
	if (!supervisor->ended)
		supervisor->signal = SIGKILL;
	supervisor->gone = true;
	if (supervisor->phase == PHASE_BUILDING && !supervisor->failed) {
		if (supervisor->executing)
			kernel_runs(supervisor); /* it ran and ended before the builder did */
		else
			supervisor_fail_text(supervisor, "init", "ECHILD",
					     "pid 1 of the sandbox was killed");
	}
}

static void on_relay_end(struct supervisor *supervisor, int status)
{
	char text[128];

	if (supervisor->fd[FD_RELAY_ERROR] >= 0)
		hear_relay(supervisor);
	if (supervisor->phase >= PHASE_ENDING || supervisor->gone || supervisor->failed ||
	    supervisor->proxy_gone)
		return;
	if (WIFSIGNALED(status))
		(void)snprintf(text, sizeof(text), "the relay was ended by signal %d",
			       WTERMSIG(status));
	else
		(void)snprintf(text, sizeof(text), "the relay ended with code %d",
			       WEXITSTATUS(status));
	if (supervisor->phase == PHASE_BUILDING)
		supervisor_fail_text(supervisor, "relay", "ECHILD", text);
	else
		supervisor_tell(supervisor, "notice", text, NULL);
	end_sandbox(supervisor);
}

static void on_child(struct supervisor *supervisor, pid_t pid, int status)
{
	int which = 0;

	while (which < CHILD_COUNT && supervisor->child[which] != pid)
		which++;
	if (which == CHILD_COUNT)
		return;
	supervisor->child[which] = 0;
	if (which == CHILD_BUILDER)
		on_builder_end(supervisor, status);
	else if (which == CHILD_INIT)
		on_init_end(supervisor);
	else if (which == CHILD_RELAY)
		on_relay_end(supervisor, status);
	else if (which == CHILD_RECOVERER)
		close_fd(&supervisor->fd[FD_RECOVERER_LIFE]);
}

/*
 * By pid, never any child: one that the builder has cloned but not told of yet must not be missed.
 * When the builder died in between, its children find their lifelines closed and are collected at
 * the very end.
 */
static void reap(struct supervisor *supervisor)
{
	for (size_t i = 0; i < CHILD_COUNT; i++) {
		pid_t pid = supervisor->child[i];
		int status;

		if (pid > 0 && waitpid(pid, &status, WNOHANG) == pid)
			on_child(supervisor, pid, status);
	}
}

static void on_signal(struct supervisor *supervisor)
{
	struct signalfd_siginfo info;

	while (read(supervisor->fd[FD_SIGNALS], &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		/* SIGCHLD is looked after in each turn; the others ask for an end. SIGTERM is also
		 * what the death of the proxy's thread sends, see prctl(2). */
		if (info.ssi_signo == SIGCHLD)
			continue;
		supervisor->signalled = true;
		supervisor_end(supervisor);
	}
}

static bool due(int64_t *when)
{
	if (*when == 0 || now_ms() < *when)
		return false;
	*when = 0;
	return true;
}

static void on_time(struct supervisor *supervisor)
{
	if (due(&supervisor->kill_at))
		supervisor_end(supervisor);
	if (due(&supervisor->relay_until))
		supervisor_end_relay(supervisor);
	bounds_look(supervisor);
	if (due(&supervisor->collect_until) && supervisor->phase == PHASE_ENDING) {
		supervisor_tell(supervisor, "notice",
				"results could not be copied in time and wait to be recovered",
				NULL);
		supervisor->results[2] = 1;
		supervisor->phase = PHASE_FINISHED;
	}
}

/* Milliseconds until the next of the times above; -1: none. */
static int next_time(const struct supervisor *supervisor)
{
	const int64_t times[] = {supervisor->kill_at,
				 supervisor->relay_until,
				 supervisor->collect_until,
				 supervisor->refusals.wait_until,
				 supervisor->refusals.untold_at,
				 supervisor->bounds.next,
				 supervisor->bounds.victim_at};
	int64_t now = now_ms(), least = -1;

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		int64_t left = times[i] > now ? times[i] - now : 0;

		if (times[i] > 0 && (least < 0 || left < least))
			least = left;
	}
	return (int)least;
}

static bool inside_is_empty(const struct supervisor *supervisor)
{
	return supervisor->child[CHILD_BUILDER] == 0 && supervisor->child[CHILD_RELAY] == 0 &&
	       supervisor->child[CHILD_INIT] == 0;
}

static void next_phase(struct supervisor *supervisor)
{
	const int *fd = supervisor->fd;

	/* The kernel runs and the relay is ready: nobody holds the far ends any more. */
	if (supervisor->phase == PHASE_BUILDING && !supervisor->failed && supervisor->executing &&
	    fd[FD_SYNC] < 0 && fd[FD_RELAY_ERROR] < 0)
		kernel_runs(supervisor);
	if (supervisor->phase == PHASE_BUILDING && supervisor->failed &&
	    inside_is_empty(supervisor))
		begin_ending(supervisor);
	else if (supervisor->phase == PHASE_RUNNING && supervisor->gone)
		begin_ending(supervisor);
}

static void dispatch(struct supervisor *supervisor, enum supervisor_fd which)
{
	switch (which) {
	case FD_STATUS:
		hear_proxy(supervisor);
		break;
	case FD_LIFELINE:
		hear_proxy_gone(supervisor);
		break;
	case FD_SIGNALS:
		on_signal(supervisor);
		break;
	case FD_SYNC:
		(void)hear_builder(supervisor);
		break;
	case FD_CONTROL:
		hear_init(supervisor);
		break;
	case FD_RELAY_ERROR:
		hear_relay(supervisor);
		break;
	case FD_EVENTS:
		bounds_event(supervisor);
		break;
	case FD_COLLECTOR:
	case FD_RECOVERER:
		hear_collector(supervisor, which);
		break;
	case FD_LISTENER:
		refusals_take(supervisor);
		break;
	default: /* write ends of lifelines: nobody reads them */
		break;
	}
}

/* Waits for one event and handles all that came. */
static void turn(struct supervisor *supervisor)
{
	struct pollfd watch[FD_COLLECTOR_LIFE];

	for (size_t i = 0; i < FD_COLLECTOR_LIFE; i++)
		watch[i] = (struct pollfd){.fd = supervisor->fd[i],
					   .events = i == FD_LIFELINE ? 0 : POLLIN};
	watch[FD_SPEC].fd = watch[FD_CHANGES].fd = watch[FD_GROUP].fd = watch[FD_PROXY].fd = -1;
	watch[FD_EVENTS].events = POLLPRI;
	if (refusals_wait(supervisor))
		watch[FD_LISTENER].fd = -1;
	if (outbox_waits(&supervisor->outbox))
		watch[FD_STATUS].events |= POLLOUT;
	if (supervisor->last_order)
		watch[FD_COLLECTOR].events |= POLLOUT;
	if (poll(watch, FD_COLLECTOR_LIFE, next_time(supervisor)) > 0) {
		for (size_t i = 0; i < FD_COLLECTOR_LIFE; i++) {
			/* Handling one may have closed another. */
			if (watch[i].revents & ~POLLOUT && supervisor->fd[i] >= 0)
				dispatch(supervisor, (enum supervisor_fd)i);
		}
	}
	if (supervisor->fd[FD_STATUS] >= 0 && outbox_waits(&supervisor->outbox))
		outbox_flush(&supervisor->outbox, supervisor->fd[FD_STATUS]);
	if (supervisor->last_order)
		order_collector(supervisor);
	reap(supervisor);
	on_time(supervisor);
	next_phase(supervisor);
}

/* A killed proxy closes its end of the lifeline, and its clients' sockets some moments later. */
static void unlink_sockets(const struct supervisor *supervisor)
{
	struct pollfd proxy = {.fd = supervisor->fd[FD_PROXY], .events = POLLIN};

	if (sockets_remove_dead(supervisor->sockets, supervisor->socket_count) || proxy.fd < 0)
		return;
	(void)poll(&proxy, 1, PROXY_END_MS);
	(void)sockets_remove_dead(supervisor->sockets, supervisor->socket_count);
}

static void say_refused(void *arg, const char *path, const char *reason)
{
	supervisor_tell(arg, "refused", path, reason);
}

/* What a killed collector did not bring out. */
static void recover_lost(struct supervisor *supervisor)
{
	const struct spec *spec = &supervisor->spec;
	struct err err;

	if (staging_recover(spec->state, spec->out, spec->out_bytes, spec->out_files, say_refused,
			    NULL, NULL, supervisor, &err) < 0) {
		supervisor_tell(supervisor, "notice", err.text, NULL);
		supervisor->results[2] = 1;
	}
}

/* Every child, also one that nobody told us of. They were killed or lost their lifelines: a matter
 * of moments. */
static void wait_for_all(struct supervisor *supervisor)
{
	int64_t until = now_ms() + LAST_WAIT_MS;
	struct pollfd watch = {.fd = supervisor->fd[FD_SIGNALS], .events = POLLIN};

	while (now_ms() < until) {
		struct signalfd_siginfo info;
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid < 0)
			return;
		if (supervisor->spec.landlock)
			plain_kill_orphans();
		if (pid == 0 && poll(&watch, 1, 50) > 0 && read(watch.fd, &info, sizeof(info)) < 0)
			continue; /* somebody's signal was read already */
	}
}

static int finish(struct supervisor *supervisor)
{
	char number[3][24];
	const char *const fields[] = {number[0], number[1], number[2]};

	/* A launch can fail because the proxy is gone, before the loop has seen that it is; and the
	 * signal comes with its main thread's death, its descriptors go with the last one's. */
	if (!supervisor->proxy_gone) {
		struct pollfd lifeline = {.fd = supervisor->fd[FD_LIFELINE]};

		(void)poll(&lifeline, 1, supervisor->signalled ? PROXY_END_MS : 0);
		if (process_orphaned(supervisor->fd[FD_LIFELINE]))
			hear_proxy_gone(supervisor);
	}
	/* It ends by itself when its socket is closed; when it hangs, by force. */
	close_fd(&supervisor->fd[FD_COLLECTOR]);
	if (supervisor->collect_until == 0)
		kill_child(supervisor, CHILD_COLLECTOR);
	kill_child(supervisor, CHILD_RECOVERER);
	for (enum supervisor_fd i = FD_BUILDER_LIFE; i < FD_COUNT; i++)
		close_fd(&supervisor->fd[i]);
	wait_for_all(supervisor);
	bounds_finish(supervisor);
	if (supervisor->collector_lost)
		recover_lost(supervisor);
	for (size_t i = 0; i < 3; i++)
		(void)snprintf(number[i], sizeof(number[i]), "%ju",
			       (uintmax_t)supervisor->results[i]);
	if (supervisor->proxy_gone)
		unlink_sockets(supervisor);
	else if (!supervisor->failed)
		supervisor_say(supervisor, false, "done", fields, 3);
	/* Nothing is left inside: now the proxy may be waited for. */
	if (!supervisor->proxy_gone)
		outbox_drain(&supervisor->outbox, supervisor->fd[FD_STATUS],
			     now_ms() + LAST_WORD_MS);
	for (size_t i = 0; i < supervisor->socket_count; i++)
		free(supervisor->sockets[i]);
	for (size_t i = 0; i < SUPERVISOR_LAYERS; i++)
		free(supervisor->layers[i]);
	free(supervisor->refusals.program.filter);
	free(supervisor->work);
	spec_done(&supervisor->spec);
	return supervisor->failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/*
 * What an earlier kernel left should be in staging/out before this one's directory is made: what
 * appears there later counts as the host's own, and results of the same name would go beside it.
 * There is nothing to bring in most of the time; a large rest goes on alongside.
 */
static int recover_first(struct supervisor *supervisor, struct err *err)
{
	struct pollfd watch = {.fd = supervisor->fd[FD_SIGNALS], .events = POLLIN};

	if (!staging_waits(supervisor->spec.state))
		return 0;
	if (spawn_recoverer(supervisor, err) < 0)
		return err->code;
	/* SIGCHLD, or one that ends us; the loop takes either. */
	(void)poll(&watch, 1, RECOVER_FIRST_MS);
	return 0;
}

static int start(struct supervisor *supervisor, const char **ret_stage, struct err *err)
{
	*ret_stage = "launch";
	if (spec_read(supervisor->fd[FD_SPEC], &supervisor->spec, err) < 0)
		return err_wrap(err, "the launch specification");
	close_fd(&supervisor->fd[FD_SPEC]);
	*ret_stage = "rlimits";
	if (rlimit_open_files(err) < 0)
		return err->code;
	*ret_stage = "namespaces";
	if (supervisor->spec.landlock ? plain_choose(&supervisor->identity, err) < 0
				      : userns_choose(&supervisor->identity, err) < 0)
		return err->code;
	/* What pid 1's stand-in leaves behind when it is killed. */
	if (supervisor->spec.landlock && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return err_errno(err, "cannot adopt orphans");
	*ret_stage = "limits";
	if (bounds_start(supervisor, err) < 0)
		return err->code;
	*ret_stage = "launch";
	if (spawn_builder(supervisor, err) < 0)
		return err->code;
	/* While the builder opens what is the distribution's. */
	*ret_stage = "staging";
	if (recover_first(supervisor, err) < 0)
		return err->code;
	if (spawn_collector(supervisor, err) < 0)
		return err->code;
	bounds_work(supervisor);
	*ret_stage = "launch";
	return spawn_wall(supervisor, err);
}

/* Own session, so that the server's killpg(SIGINT) reaches the proxy alone; signals as a
 * descriptor. */
static int settle(struct supervisor *supervisor, struct err *err)
{
	static const int watched[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT};
	const pid_t proxy = getppid();
	sigset_t set;

	(void)setsid(); /* fails when it leads a group already, which is as good */
	process_reset_signals();
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(watched) / sizeof(watched[0]); i++)
		sigaddset(&set, watched[i]);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return err_errno(err, "cannot block signals");
	supervisor->fd[FD_SIGNALS] = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (supervisor->fd[FD_SIGNALS] < 0)
		return err_errno(err, "cannot make a signal descriptor");
	/* SIGTERM, not SIGKILL, and the lifeline is left to the loop: when the proxy dies there is
	 * still something to collect, and its sockets to remove, however early it was. */
	if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) < 0)
		return err_errno(err, "cannot ask for the signal of the proxy's death");
	supervisor->fd[FD_PROXY] = (int)syscall(SYS_pidfd_open, proxy, 0);
	if (getppid() != proxy) /* it is dead, and the number may be somebody else's */
		close_fd(&supervisor->fd[FD_PROXY]);
	return 0;
}

/* Descriptors 3 to 5 are what they should be, and nothing else is open. */
static int adopt(struct supervisor *supervisor, struct err *err)
{
	static const int given[] = {SUPERVISOR_STATUS, SUPERVISOR_SPEC, SUPERVISOR_LIFELINE};
	int type = 0;
	socklen_t size = sizeof(type);

	for (size_t i = 0; i < FD_COUNT; i++)
		supervisor->fd[i] = -1;
	bounds_init(&supervisor->bounds);
	if (getsockopt(SUPERVISOR_STATUS, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
	    type != SOCK_SEQPACKET)
		return err_set(err, -EINVAL,
			       "this program is started by \"cellwall kernel\", not by hand");
	if (process_keep_fds(given, 3) < 0)
		return err_set(err, -EIO, "cannot close descriptors");
	for (int fd = SUPERVISOR_STATUS; fd <= SUPERVISOR_LIFELINE; fd++) {
		if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
			return err_errno(err, "descriptor %d", fd);
	}
	supervisor->fd[FD_STATUS] = SUPERVISOR_STATUS;
	supervisor->fd[FD_SPEC] = SUPERVISOR_SPEC;
	supervisor->fd[FD_LIFELINE] = SUPERVISOR_LIFELINE;
	if (fcntl(SUPERVISOR_STATUS, F_SETFL, O_NONBLOCK) < 0)
		return err_errno(err, "descriptor %d", SUPERVISOR_STATUS);
	return 0;
}

int supervisor_run(void)
{
	struct supervisor supervisor = {.phase = PHASE_BUILDING};
	struct err err = {0};
	const char *stage = "launch";

	if (adopt(&supervisor, &err) < 0 || settle(&supervisor, &err) < 0) {
		log_error("%s", err.text);
		return EXIT_FAILURE;
	}
	if (start(&supervisor, &stage, &err) < 0)
		supervisor_fail(&supervisor, stage, &err);
	next_phase(&supervisor);
	while (supervisor.phase != PHASE_FINISHED || !inside_is_empty(&supervisor))
		turn(&supervisor);
	return finish(&supervisor);
}
