/*
 * Theory of operation
 *
 * One thread, one poll set: the five client-side sockets, the wall, the status socket, the kernel's
 * stderr, signals and the supervisor's pidfd. libzmq's I/O thread moves bytes to and from clients;
 * the relay does so on the other side.
 *
 *   STARTING  the supervisor builds; clients' messages wait in libzmq; heartbeats are answered here
 *   RUNNING   the wall is there; every message goes through relay_one
 *   DRAINING  the kernel has ended: what is still on its way comes out, for DRAIN_MS
 *   LEAVING   our sockets are closed, the last files are collected
 *   FAILED    the launch failed: clients are told for a moment
 */
#include "proxy/session.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proxy/answer.h"
#include "proxy/channel.h"
#include "proxy/enclose.h"
#include "proxy/events.h"
#include "proxy/limits.h"
#include "proxy/stderr.h"
#include "proxy/traffic.h"
#include "sandbox/log.h"
#include "sandbox/process.h"
#include "sandbox/staging.h"
#include "sandbox/status.h"

void session_tell(struct session *session, const char *word)
{
	struct err err;

	if (session->launch.status >= 0 &&
	    status_send(session->launch.status, &err, word, NULL) < 0)
		log_debug("%s: %s", word, err.text);
}

void session_fail(struct session *session, const char *text)
{
	char escaped[1024];

	if (session->phase >= DRAINING)
		return;
	session->failure = format_string("the kernel could not be started: %s",
					 escape_line(escaped, sizeof(escaped), text));
	log_error("%s", session->failure ? session->failure : escaped);
	audit_note(session->plan->audit, "failed", NULL, NULL, 0, NULL, text);
	notice_say(&session->notice, session->cell, session->failure ? session->failure : escaped);
	session->phase = FAILED;
	session->exit_code = EXIT_LAUNCH;
	session->deadline = now_ms() + FAILED_MS;
}

/* A kernel may end cells as fast as it likes: what queues up here is one number. */
void session_collect(struct session *session)
{
	char number[24];
	struct err err;

	if (session->asked > session->collected || session->asked == session->holding.sequence)
		return;
	session->asked = session->holding.sequence;
	session->refused_names = 0;
	(void)snprintf(number, sizeof(number), "%llu", (unsigned long long)session->asked);
	if (status_send(session->launch.status, &err, "collect", number, NULL) < 0)
		session->asked = session->collected; /* full: with the next cell */
}

void session_resume(struct session *session)
{
	if (pressure_exempt(&session->pressure, now_ms()) == PRESSURE_RESUME)
		session_tell(session, "resume");
}

/* ---- signals, time ---- */

/* Somebody wants the end: first in peace, the second time at once. */
static void stop(struct session *session)
{
	session->leaving = true;
	if (session->phase == FAILED)
		session->phase = OVER;
	session_resume(session);
	session_tell(session, session->terms++ == 0 ? "terminate" : "kill");
}

/* When nobody has asked anything for so long, now_ms; 0: not to be waited for. */
static int64_t idle_end(const struct session *session)
{
	if (session->plan->idle_timeout == 0 || session->phase != RUNNING || session->busy > 0 ||
	    session->leaving)
		return 0;
	return session->heard + (int64_t)session->plan->idle_timeout * 1000;
}

static void end_idle(struct session *session)
{
	cleanup(free_ptr) char *text =
		format_string("the kernel was ended: nobody has used it for %llu s "
			      "(resources.idle_timeout)",
			      (unsigned long long)session->plan->idle_timeout);

	if (text) {
		log_warning("%s", text);
		notice_say(&session->notice, session->cell, text);
	}
	stop(session);
}

static void take_signal(struct session *session)
{
	struct signalfd_siginfo info;

	if (read(session->signals, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGINT) {
		if (!session->ready)
			return; /* a booting interpreter would die of it; there is no cell to
				   interrupt yet */
		session_resume(session);
		corridor_interrupted(&session->corridor);
		install_cancel(session->plan->install);
		session_tell(session, "interrupt");
		return;
	}
	stop(session);
}

/* What this turn of the loop recorded goes to the log. Without one the kernel goes on, unless the
 * policy says otherwise. */
static void keep_log(struct session *session)
{
	struct audit *audit = session->plan->audit;
	cleanup(free_ptr) char *text = NULL;
	struct err err;

	if (audit_flush(audit, &err) == 0 || session->told_log)
		return;
	session->told_log = true;
	text = format_string("%s; %s", err.text,
			     audit_required(audit)
				     ? "the policy requires it: the kernel is stopped"
				     : "the kernel goes on, what is not recorded is counted");
	if (text) {
		log_error("%s", text);
		events_say(session, text);
	}
	if (audit_required(audit))
		stop(session);
}

static void cut_stalled(struct session *session)
{
	unsigned long lost = 0;
	unsigned cut = channels_cut_stalled(session->channels, &lost);

	if (cut)
		log_warning(
			"disconnected %u client(s) that read nothing for %d s; %lu messages for "
			"them were lost",
			cut, STALL_MS / 1000, lost);
}

static void relieve_pressure(struct session *session)
{
	const int64_t now = now_ms();

	switch (pressure_step(&session->pressure, channels_outstanding(session->channels),
			      channels_progress(session->channels), now)) {
	case PRESSURE_NONE:
		break;
	case PRESSURE_PAUSE:
		session_tell(session, "pause");
		log_info("paused: %ld bytes wait for clients",
			 channels_outstanding(session->channels));
		if (!session->told_pause)
			notice_say(&session->notice, session->cell,
				   "output came faster than it could be shown: the kernel was "
				   "paused until "
				   "it was, nothing is lost");
		session->told_pause = true;
		break;
	case PRESSURE_RESUME:
		session_tell(session, "resume");
		log_info("resumed");
		break;
	case PRESSURE_CUT:
		cut_stalled(session);
		break;
	}
}

static void release_results(struct session *session)
{
	struct hold *hold;

	while ((hold = holding_due(&session->holding, session->collected, now_ms()))) {
		if (hold->sequence > session->collected && session->phase == RUNNING)
			notice_say(&session->notice, hold->parent,
				   "this cell's files are still being copied to staging/out");
		holding_release(hold, session->channels);
	}
	holding_flush(&session->holding, session->channels, session->collected, now_ms());
}

static void retry_replies(struct session *session)
{
	const int64_t now = now_ms();
	unsigned lost;

	if (!channels_waiting(session->channels) || now < session->retried + REPLY_RETRY_EVERY)
		return;
	session->retried = now;
	lost = channels_retry(session->channels);

	if (lost)
		log_warning("%u replies were lost: their client did not come back within %d s",
			    lost, REPLY_RETRY_MS / 1000);
}

/* The kernel is gone and drained: listeners close first, so that a successor can bind, then the
 * files. */
static void leave(struct session *session)
{
	struct hold *hold;

	traffic_send_joined(session);
	while ((hold = holding_due(&session->holding, UINT64_MAX, now_ms())))
		holding_release(hold, session->channels);
	holding_flush(&session->holding, session->channels, UINT64_MAX, now_ms());
	channels_retry(session->channels);
	session->channels = channels_free(session->channels, DRAIN_MS);
	session->notice.channels = NULL;
	traffic_close_wall(session);
	session->phase = LEAVING;
	session->deadline = now_ms() + COLLECT_MS + 500;
}

/* ---- the loop ---- */

enum {
	ITEM_STATUS = 2 * WALL_CHANNELS,
	ITEM_SIGNALS,
	ITEM_STDERR,
	ITEM_WALL,
	ITEM_SERVER,
	ITEM_INSTALL,
	ITEMS
};

static size_t poll_items(struct session *session, zmq_pollitem_t items[ITEMS])
{
	const bool reads_clients = session->phase == FAILED ||
				   (session->phase == RUNNING &&
				    wall_writer_pending(session->writer) < INPUT_QUEUE_BYTES);
	const bool reads_wall =
		session->wall >= 0 &&
		(!session->channels || channels_outstanding(session->channels) < OUTPUT_HARD);
	const bool writes_wall = session->wall >= 0 && wall_writer_pending(session->writer) > 0;

	memset(items, 0, ITEMS * sizeof(items[0]));
	for (int i = 0; i < WALL_CHANNELS && session->channels; i++) {
		const bool always = i == WALL_IOPUB || i == WALL_HB;

		items[i].socket = channels_socket(session->channels, (enum wall_channel)i);
		items[i].events = always || reads_clients ? ZMQ_POLLIN : 0;
		items[WALL_CHANNELS + i].socket =
			channels_monitor(session->channels, (enum wall_channel)i);
		items[WALL_CHANNELS + i].events = ZMQ_POLLIN;
	}
	/* A descriptor of -1 stands for one that is not there: the signal descriptor, asked for
	 * nothing. */
	for (int i = 0; i < ITEMS; i++)
		if (!items[i].socket)
			items[i].fd = session->signals;
	items[ITEM_SIGNALS].events = ZMQ_POLLIN;
	if (session->launch.status >= 0) {
		items[ITEM_STATUS].fd = session->launch.status;
		items[ITEM_STATUS].events = ZMQ_POLLIN;
	}
	if (session->server >= 0) {
		items[ITEM_SERVER].fd = session->server;
		items[ITEM_SERVER].events = ZMQ_POLLIN;
	}
	if (install_fd(session->plan->install) >= 0) {
		items[ITEM_INSTALL].fd = install_fd(session->plan->install);
		items[ITEM_INSTALL].events = ZMQ_POLLIN;
	}
	if (session->stderr_log && stderr_log_fd(session->stderr_log) >= 0) {
		items[ITEM_STDERR].fd = stderr_log_fd(session->stderr_log);
		items[ITEM_STDERR].events = ZMQ_POLLIN;
	}
	if (reads_wall || writes_wall) { /* else its hang-up would wake us again and again */
		items[ITEM_WALL].fd = session->wall;
		items[ITEM_WALL].events =
			(short)((reads_wall ? ZMQ_POLLIN : 0) | (writes_wall ? ZMQ_POLLOUT : 0));
	}
	return ITEMS;
}

static long poll_timeout(const struct session *session)
{
	const int64_t now = now_ms(), times[] = {session->deadline, idle_end(session),
						 session->joining.until, session->spare_until};
	long timeout = -1;

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		const long left = times[i] > now ? (long)(times[i] - now) : 0;

		if (times[i] > 0 && (timeout < 0 || left < timeout))
			timeout = left;
	}
	if (session->channels) {
		const int hold = holding_timeout(&session->holding, now);

		if (hold >= 0 && (timeout < 0 || hold < timeout))
			timeout = hold;
		if ((session->pressure.paused ||
		     channels_outstanding(session->channels) > OUTPUT_HIGH) &&
		    (timeout < 0 || timeout > 10))
			timeout = 10;
		if (channels_waiting(session->channels) &&
		    (timeout < 0 || timeout > REPLY_RETRY_EVERY))
			timeout = REPLY_RETRY_EVERY;
		if (session->dropped_messages && (timeout < 0 || timeout > DROPPED_EVERY_MS))
			timeout = DROPPED_EVERY_MS;
	}
	return timeout;
}

static void serve(struct session *session, const zmq_pollitem_t items[ITEMS])
{
	static const enum wall_channel order[] = {WALL_CONTROL, WALL_STDIN, WALL_SHELL, WALL_HB};

	if (items[ITEM_SIGNALS].revents)
		take_signal(session);
	if (items[ITEM_SERVER].events && items[ITEM_SERVER].revents) {
		close_fd(&session->server);
		stop(session);
	}
	if (items[ITEM_STATUS].events && items[ITEM_STATUS].revents)
		events_take(session);
	if (items[ITEM_INSTALL].events && items[ITEM_INSTALL].revents)
		events_installed(session);
	if (items[ITEM_STDERR].events && items[ITEM_STDERR].revents)
		stderr_log_read(session->stderr_log, now_ms());
	if (!session->channels)
		return;
	for (int i = 0; i < WALL_CHANNELS; i++)
		if (items[WALL_CHANNELS + i].revents)
			channels_watch(session->channels, (enum wall_channel)i);
	if (items[WALL_IOPUB].revents)
		notice_subscriptions(&session->notice);
	if (session->phase == FAILED)
		answer_requests(session->channels, &session->corridor, &session->notice,
				session->failure);
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]) && session->phase != FAILED; i++)
		if (items[order[i]].revents)
			traffic_from_clients(session, order[i]);
	if (items[ITEM_WALL].events && (items[ITEM_WALL].revents & (ZMQ_POLLIN | ZMQ_POLLERR)))
		traffic_from_wall(session);
	traffic_to_wall(session);
}

/* Memory that is still lent to libzmq comes back later. */
static void drop_spare(struct session *session, int64_t now)
{
	const bool lent =
		session->channels && channels_outstanding(session->channels) > JOIN_BEHIND;

	if (!session->spare_until || now < session->spare_until)
		return;
	wall_drop_spare();
	session->spare_until = lent ? now + SPARE_MS : 0;
}

static void advance(struct session *session)
{
	drop_spare(session, now_ms());
	if (session->channels) {
		if (session->joining.until && now_ms() >= session->joining.until)
			traffic_send_joined(session);
		release_results(session);
		retry_replies(session);
		traffic_say_dropped(session, now_ms());
		if (session->phase == RUNNING)
			relieve_pressure(session);
		if (idle_end(session) > 0 && now_ms() >= idle_end(session))
			end_idle(session);
	}
	if (session->phase == DRAINING && (session->wall < 0 || now_ms() >= session->deadline))
		leave(session);
	else if (session->phase == FAILED && now_ms() >= session->deadline)
		session->phase = OVER;
	else if (session->phase == LEAVING && now_ms() >= session->deadline)
		session->phase = OVER;
}

/*
 * A Jupyter server names itself in JPY_PARENT_PID; a kernel that outlives it is an orphan.
 * ipykernel would poll for that, but inside its pid namespace it cannot see the server, so the
 * proxy watches in its place.
 */
static int watch_server(void)
{
	const char *text = getenv("JPY_PARENT_PID");
	uint64_t pid = 0;
	int fd;

	if (!text || parse_u64(text, INT_MAX, &pid) < 0 || pid <= 1)
		return -1;
	fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (fd < 0 && errno == ESRCH)
		kill(getpid(), SIGTERM); /* gone already; taken up by the loop */
	return fd;
}

/* The supervisor removes our ipc sockets should we be killed: it is told before they are made. */
static void register_sockets(struct session *session)
{
	cleanup(free_ptr) char *folder = getcwd(NULL, 0);

	for (int i = 0; i < WALL_CHANNELS; i++) {
		const char *path = session->plan->connection->ipc_path[i];
		cleanup(free_ptr) char *absolute = NULL;

		if (!path || !folder)
			continue;
		absolute = path[0] == '/' ? strdup(path) : path_join(folder, path);
		if (absolute)
			status_send(session->launch.status, NULL, "socket", absolute, NULL);
	}
}

static int open_session(struct session *session, struct err *err)
{
	const struct session_plan *plan = session->plan;
	int code;

	session->signals = process_signals(err);
	if (session->signals < 0)
		return session->signals;
	session->server = watch_server();
	code = sign_new(plan->connection->scheme, plan->connection->key, plan->connection->key_size,
			&session->corridor.outer, err);
	if (code < 0)
		return err_wrap(err, "the connection file");
	code = sign_new(NULL, plan->inner_key, strlen(plan->inner_key), &session->corridor.inner,
			err);
	session->reader = wall_reader_new();
	session->writer = wall_writer_new();
	if (session->reader)
		wall_reader_again(session->reader);
	if (code == 0 && (!session->reader || !session->writer))
		code = err_set(err, -ENOMEM, "out of memory");
	/* The sandbox builds while we bind. */
	if (code == 0 && !plan->failure)
		code = launch_start(plan->sandbox, plan->spec, &session->launch, err);
	if (code == 0 && !plan->failure)
		register_sockets(session);
	if (code == 0)
		code = enclose_files(plan, err);
	if (code == 0)
		code = channels_open(plan->connection, session->signals, &session->channels, err);
	if (code == 0)
		code = enclose_calls(err);
	if (code < 0)
		return code;
	session->notice.channels = session->channels;
	session->notice.sign = session->corridor.outer;
	session->corridor.session = session->notice.session;
	session->corridor.rules = plan->outputs;
	session->corridor.examine = plan->examine;
	session->corridor.known = plan->known;
	session->corridor.joining = &session->joining;
	session->corridor.requests = requests_new();
	if (!session->corridor.requests)
		return err_set(err, -ENOMEM, "out of memory");
	return random_hex(session->notice.session, 16);
}

static void log_refused(void *arg, const char *path, const char *reason)
{
	char name[512];

	(void)arg;
	log_warning("not brought to staging/out: %s: %s", escape_string(name, sizeof(name), path),
		    reason);
}

/* In place of a killed supervisor. Its children let go of the directory when they have died. */
static void recover_results(const struct session *session)
{
	const struct spec *spec = session->plan->spec;
	struct err err;

	poll(NULL, 0, LAST_BREATH_MS);
	if (staging_recover(spec->state, spec->out, spec->out_bytes, spec->out_files, log_refused,
			    NULL, NULL, NULL, &err) < 0)
		log_error("%s", err.text);
}

static void close_session(struct session *session)
{
	session->channels = channels_free(session->channels, DRAIN_MS);
	holding_done(&session->holding);
	joining_done(&session->joining);
	stderr_log_free(session->stderr_log);
	wall_reader_free(session->reader);
	wall_drop_spare();
	wall_writer_free(session->writer);
	close_fd(&session->wall);
	close_fd(&session->changes);
	if (session->launch.pid > 0)
		launch_done(&session->launch, COLLECT_MS + 1000);
	if (session->lost)
		recover_results(session);
	corridor_done(&session->corridor);
	free(session->failure);
	free(session->flagged);
	for (size_t i = 0; i < session->early_count; i++)
		free(session->early[i]);
	close_fd(&session->server);
	close_fd(&session->signals);
	free(session->cell);
}

int session_run(const struct session_plan *plan)
{
	struct session session = {.plan = plan,
				  .corridor.audit = plan->audit,
				  .corridor.tally = plan->tally,
				  .attempts.tally = plan->tally,
				  .wall = -1,
				  .changes = -1,
				  .signals = -1,
				  .server = -1,
				  .heard = now_ms(),
				  .exit_code = EXIT_LAUNCH};
	zmq_pollitem_t items[ITEMS];
	struct err err;

	session.launch = (struct launch){.pid = -1, .pidfd = -1, .status = -1, .lifeline = -1};
	prctl(PR_SET_DUMPABLE, 0);
	if (open_session(&session, &err) < 0) {
		log_error("%s", err.text);
		close_session(&session);
		return EXIT_LAUNCH;
	}
	if (plan->failure)
		session_fail(&session, plan->failure);
	for (char **notice = plan->notices; notice && *notice; notice++) {
		log_warning("%s", *notice);
		events_say(&session, *notice);
	}
	while (session.phase != OVER) {
		size_t count = poll_items(&session, items);
		int code = channels_poll(session.channels, items, count, poll_timeout(&session));

		if (code < 0 && code != -EINTR) {
			log_error("poll: %s", strerrordesc_np(-code));
			break;
		}
		serve(&session, items);
		if (session.phase != OVER)
			advance(&session);
		keep_log(&session);
	}
	close_session(&session);
	return session.exit_code;
}
