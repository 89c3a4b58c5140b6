/*
 * Theory of operation
 *
 * A kernel has ended when its process has (pidfd). What happens then was said before: `terminating`
 * (it goes), `restarting` (another one starts in its place), `given_up` (it is dead); otherwise it
 * ended by itself and is started again, later each time it does so soon after its start. A kernel
 * that has never answered is not tried again: what it wrote last is the reason that the user gets.
 *
 * The bridge stays through all of this, and so do those who listen.
 */
#include "web/life.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "web/eventlog.h"
#include "web/loop.h"
#include "web/metrics.h"

#define STABLE_MS                                                                                  \
	10000 /* who lived so long did not fail at its start (jupyter_client's number)             \
	       */
#define RETURNS_MAX	5
#define RETURN_FIRST_MS 100
#define ASKED_MS	2500 /* for each step of ending */
#define OUTPUT_ROUND	65536

static int launch(struct kernel *kernel, struct err *err);

static void set_state(struct kernel *kernel, const char *state)
{
	kernel->state = state;
}

static void set_reason(struct kernel *kernel, const char *reason)
{
	(void)escape_line(kernel->reason, sizeof(kernel->reason), reason);
}

static void send_signal(struct kernel *kernel, int number)
{
	if (kernel->process.pid <= 0)
		return;
	/* The whole session, as jupyter_client does; the process itself is not reaped yet. */
	if (number == SIGINT || kill(-kernel->process.pid, number) < 0)
		(void)syscall(SYS_pidfd_send_signal, kernel->process.pidfd, number, NULL, 0);
}

void life_remove_files(int parent, const char *directory)
{
	int place = openat(parent, directory, O_DIRECTORY | O_NOFOLLOW | O_RDONLY | O_CLOEXEC);
	DIR *entries = place < 0 ? NULL : fdopendir(place);
	const struct dirent *entry;

	while (entries && (entry = readdir(entries)))
		(void)unlinkat(place, entry->d_name, 0); /* "." and "..": EISDIR */
	if (entries)
		(void)closedir(entries);
	else
		close_fd(&place);
	(void)unlinkat(parent, directory, AT_REMOVEDIR);
}

/* ---- what it writes ---- */

/* Keeps the end of it, and hands it on to our own stderr, where cellwall's lines belong. */
static void output_ready(void *arg, unsigned events)
{
	struct kernel *kernel = arg;
	char text[4096];
	ssize_t size = 0;

	(void)events;
	for (size_t all = 0; all < OUTPUT_ROUND; all += (size_t)size) {
		size_t keep, old;

		size = read(kernel->process.output, text, sizeof(text));
		if (size <= 0)
			break;
		eventlog_output(kernel->id, text, (size_t)size);
		keep = (size_t)size < LIFE_TAIL - 1 ? (size_t)size : LIFE_TAIL - 1;
		old = kernel->tail_size;
		if (old + keep > LIFE_TAIL - 1) {
			size_t drop = old + keep - (LIFE_TAIL - 1);

			memmove(kernel->tail, kernel->tail + drop, old - drop);
			old -= drop;
		}
		memcpy(kernel->tail + old, text + size - keep, keep);
		kernel->tail_size = old + keep;
		kernel->tail[kernel->tail_size] = '\0';
	}
	if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR))
		kernel->output = loop_unwatch(kernel->output);
}

/* The last line it wrote, without "cellwall[PID]: ". */
static const char *last_line(struct kernel *kernel)
{
	char *text = kernel->tail, *line;

	while (kernel->tail_size > 0 && strchr("\r\n ", text[kernel->tail_size - 1]))
		text[--kernel->tail_size] = '\0';
	line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	if (strncmp(line, "cellwall", 8) == 0 && strstr(line, "]: "))
		line = strstr(line, "]: ") + 3;
	return line;
}

/* ---- its process ---- */

static void process_done(struct kernel *kernel)
{
	if (kernel->process.pid > 0)
		output_ready(kernel, LOOP_READ);
	kernel->end = loop_unwatch(kernel->end);
	kernel->output = loop_unwatch(kernel->output);
	kernel->starting = loop_cancel(kernel->starting);
	kernel->ending = loop_cancel(kernel->ending);
	close_fd(&kernel->process.pidfd);
	close_fd(&kernel->process.output);
	kernel->process.pid = 0;
	life_remove_files(AT_FDCWD, kernel->directory);
}

static void die(struct kernel *kernel, const char *reason)
{
	set_reason(kernel, reason);
	event_warning("kernel", "kernel=%s user=%s state=dead reason=%s", kernel->id, kernel->owner,
		      kernel->reason);
	bridge_tell_notice(kernel->bridge, kernel->reason);
	bridge_disconnect(kernel->bridge);
	set_state(kernel, "dead");
	bridge_tell_state(kernel->bridge, "dead");
}

static void launch_or_die(struct kernel *kernel)
{
	struct err err = {0};

	if (launch(kernel, &err) < 0)
		die(kernel, err.text);
}

static void return_now(void *arg)
{
	struct kernel *kernel = arg;

	kernel->returning = NULL;
	kernel->restarts++;
	launch_or_die(kernel);
}

/* It ended and nobody had asked for that. */
static void ended_by_itself(struct kernel *kernel)
{
	const bool stable = now_ms() - kernel->launched >= STABLE_MS;
	const char *line = last_line(kernel);

	if (!kernel->answered && kernel->start_ms == 0) {
		die(kernel, line[0] ? line : "the kernel ended before it answered");
		return;
	}
	kernel->ends = stable ? 1 : kernel->ends + 1;
	if (kernel->ends > RETURNS_MAX) {
		die(kernel, "the kernel ended again and again soon after its start");
		return;
	}
	event_warning("kernel", "kernel=%s user=%s state=restarting reason=%s", kernel->id,
		      kernel->owner, "it ended by itself");
	set_state(kernel, "restarting");
	bridge_disconnect(kernel->bridge);
	bridge_hold(kernel->bridge);
	bridge_tell_state(kernel->bridge, "restarting");
	if (loop_after(kernel->loop, (int64_t)RETURN_FIRST_MS << (2 * (kernel->ends - 1)),
		       return_now, kernel, &kernel->returning, NULL) < 0)
		die(kernel, "out of memory");
}

static void process_ended(void *arg, unsigned events)
{
	struct kernel *kernel = arg;
	siginfo_t info = {0};

	(void)events;
	if (waitid(P_PIDFD, (id_t)kernel->process.pidfd, &info, WEXITED | WNOHANG) < 0 ||
	    info.si_pid == 0)
		return;
	bridge_drain(kernel->bridge); /* its last words: this end may be seen before them */
	process_done(kernel);
	if (kernel->terminating) {
		kernel->gone(kernel);
	} else if (kernel->restarting) {
		kernel->restarting = false;
		launch_or_die(kernel);
	} else if (kernel->given_up) {
		kernel->given_up = false;
		die(kernel, "the kernel did not answer in time");
	} else {
		ended_by_itself(kernel);
	}
}

static void start_timed_out(void *arg)
{
	struct kernel *kernel = arg;

	kernel->starting = NULL;
	kernel->given_up = true;
	send_signal(kernel, SIGKILL);
}

static int watch_process(struct kernel *kernel, struct err *err)
{
	int r = loop_watch(kernel->loop, kernel->process.pidfd, LOOP_READ, process_ended, kernel,
			   &kernel->end, err);

	if (r == 0)
		r = loop_watch(kernel->loop, kernel->process.output, LOOP_READ, output_ready,
			       kernel, &kernel->output, err);
	if (r == 0 && kernel->start_timeout_ms > 0)
		r = loop_after(kernel->loop, kernel->start_timeout_ms, start_timed_out, kernel,
			       &kernel->starting, err);
	return r;
}

static int launch(struct kernel *kernel, struct err *err)
{
	struct connection connection = {0};
	const struct start_plan plan = {.spec = kernel->spec,
					.resources = kernel->resources,
					.connection_file = kernel->connection_file,
					.folder = kernel->folder,
					.variables = kernel->variables,
					.walled = kernel->walled,
					.tally = kernel->tally_fd};
	int r;

	kernel->tail_size = 0;
	kernel->tail[0] = '\0';
	kernel->answered = false;
	kernel->launched = now_ms();
	if (mkdir(kernel->directory, 0700) < 0 && errno != EEXIST)
		return err_errno(err, "cannot make %s", kernel->directory);
	r = start_connection(kernel->directory, kernel->connection_file, kernel->spec_name,
			     &connection, err);
	if (r < 0)
		return r;
	r = start_run(&plan, &kernel->process, err);
	if (r == 0)
		r = watch_process(kernel, err);
	if (r == 0)
		r = bridge_connect(kernel->bridge, &connection, err);
	connection_done(&connection);
	if (r < 0 && kernel->process.pid > 0) {
		send_signal(kernel, SIGKILL);
		(void)waitpid(kernel->process.pid, NULL, 0);
	}
	if (r < 0)
		process_done(kernel);
	return r;
}

/* ---- what the bridge says ---- */

static void note_activity(void *arg)
{
	struct kernel *kernel = arg;

	(void)clock_gettime(CLOCK_REALTIME_COARSE, &kernel->last_activity);
}

static void note_state(void *arg, const char *state)
{
	struct kernel *kernel = arg;

	if (kernel->terminating || kernel->restarting)
		return;
	if (!kernel->answered) {
		kernel->answered = true;
		kernel->starting = loop_cancel(kernel->starting);
		metrics_started((unsigned)(now_ms() - kernel->launched));
		if (kernel->start_ms == 0)
			kernel->start_ms = (unsigned)(now_ms() - kernel->launched) + 1;
		/* It has read it; the key is in this process and in its own alone now. */
		(void)unlink(kernel->connection_file);
		note_activity(kernel);
	}
	set_state(kernel, state);
}

/* ---- beginning and end ---- */

int life_begin(struct kernel *kernel, struct err *err)
{
	const struct bridge_owner owner = {
		.state = note_state, .activity = note_activity, .arg = kernel};
	int r = bridge_new(kernel->loop, &owner, &kernel->bridge, err);

	kernel->state = "starting";
	(void)clock_gettime(CLOCK_REALTIME, &kernel->started);
	kernel->last_activity = kernel->started;
	if (r == 0 && kernel->walled)
		r = tally_make(&kernel->tally, &kernel->tally_fd, err);
	if (r == 0)
		r = launch(kernel, err);
	if (r == 0)
		event_info("kernel", "kernel=%s user=%s state=starting spec=%s pid=%d", kernel->id,
			   kernel->owner, kernel->spec_name, (int)kernel->process.pid);
	return r;
}

/* Each step is harsher than the one before; the process's end stops it. */
static void end_harder(void *arg)
{
	struct kernel *kernel = arg;

	kernel->ending = NULL;
	if (kernel->step++ == 0)
		send_signal(kernel, SIGTERM);
	else
		send_signal(kernel, SIGKILL);
	(void)loop_after(kernel->loop, ASKED_MS, end_harder, kernel, &kernel->ending, NULL);
}

static void ask_to_end(struct kernel *kernel, bool restart)
{
	const bool busy = strcmp(kernel->state, "busy") == 0;
	int64_t patience = ASKED_MS;

	if (busy)
		send_signal(kernel, SIGINT);
	if (!kernel->answered ||
	    bridge_ask(kernel->bridge, WALL_CONTROL, "shutdown_request",
		       restart ? "{\"restart\":true}" : "{\"restart\":false}") < 0)
		patience = 0;
	kernel->step = 0;
	kernel->starting = loop_cancel(kernel->starting);
	kernel->ending = loop_cancel(kernel->ending);
	if (loop_after(kernel->loop, patience, end_harder, kernel, &kernel->ending, NULL) < 0)
		send_signal(kernel, SIGKILL);
	bridge_hold(kernel->bridge);
}

void life_end(struct kernel *kernel, const char *reason)
{
	if (kernel->terminating)
		return;
	event_info("kernel", "kernel=%s user=%s state=terminating reason=%s", kernel->id,
		   kernel->owner, reason);
	set_reason(kernel, reason);
	kernel->returning = loop_cancel(kernel->returning);
	if (kernel->process.pid > 0 && !kernel->restarting)
		ask_to_end(kernel, false);
	kernel->restarting = false;
	kernel->terminating = true;
	set_state(kernel, "dead");
	bridge_tell_state(kernel->bridge, "dead");
	if (kernel->process.pid == 0)
		kernel->gone(kernel);
}

int kernel_interrupt(struct kernel *kernel, struct err *err)
{
	int r = 0;

	if (kernel->process.pid == 0)
		return err_set(err, -ENOTCONN, "the kernel is not running");
	if (kernel->interrupt_by_message)
		r = bridge_ask(kernel->bridge, WALL_CONTROL, "interrupt_request", "{}");
	else
		send_signal(kernel, SIGINT);
	return r < 0 ? err_set(err, r, "the kernel cannot be interrupted: %s", strerrordesc_np(-r))
		     : 0;
}

int kernel_restart(struct kernel *kernel, struct err *err)
{
	int r = 0;

	kernel->ends = 0;
	kernel->reason[0] = '\0';
	kernel->returning = loop_cancel(kernel->returning);
	if (kernel->process.pid > 0) {
		if (!kernel->restarting)
			ask_to_end(kernel, true);
		kernel->restarting = true;
	} else {
		r = launch(kernel, err);
	}
	kernel->given_up = false;
	kernel->restarts++;
	set_state(kernel, "restarting");
	event_info("kernel", "kernel=%s user=%s state=restarting", kernel->id, kernel->owner);
	if (r < 0)
		die(kernel, err->text);
	return r;
}

struct bridge *kernel_bridge(struct kernel *kernel)
{
	return kernel->bridge;
}

void kernel_look(const struct kernel *kernel, struct kernel_view *ret_view)
{
	*ret_view = (struct kernel_view){
		.id = kernel->id,
		.spec = kernel->spec_name,
		.owner = kernel->owner,
		.area = kernel->area,
		.folder = kernel->folder,
		.state = kernel->terminating ? "terminating" : kernel->state,
		.reason = kernel->reason,
		.connections = bridge_listeners(kernel->bridge),
		.pid = kernel->process.pid,
		.restarts = kernel->restarts,
		.last_activity = kernel->last_activity,
		.started = kernel->started,
		.start_ms = kernel->start_ms,
	};
}

struct kernel *life_free(struct kernel *kernel)
{
	if (!kernel)
		return NULL;
	kernel->returning = loop_cancel(kernel->returning);
	if (kernel->process.pid > 0) {
		send_signal(kernel, SIGKILL);
		(void)waitpid(kernel->process.pid, NULL, 0);
		process_done(kernel);
	}
	kernel->bridge = bridge_free(kernel->bridge, kernel->reason);
	if (kernel->directory)
		life_remove_files(AT_FDCWD, kernel->directory);
	kernel->tally = tally_done(kernel->tally);
	close_fd(&kernel->tally_fd);
	json_decref(kernel->spec);
	json_decref(kernel->variables);
	free(kernel->resources);
	free(kernel->spec_name);
	free(kernel->owner);
	free(kernel->area);
	free(kernel->folder);
	free(kernel->directory);
	free(kernel->connection_file);
	free(kernel);
	return NULL;
}
