#include "proxy/events.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "proxy/channel.h"
#include "proxy/enclose.h"
#include "proxy/imported.h"
#include "proxy/limits.h"
#include "proxy/stderr.h"
#include "sandbox/log.h"
#include "sandbox/status.h"

static void say_death(struct session *session, unsigned signal_number)
{
	cleanup(free_ptr) char *text = NULL;

	if (session->leaving || session->exceeded || signal_number == 0)
		return;
	text = format_string("the kernel was ended by signal %u (%s)%s", signal_number,
			     sigdescr_np((int)signal_number) ? sigdescr_np((int)signal_number)
							     : "unknown",
			     signal_number == SIGKILL ? ": often out of memory" : "");
	if (!text)
		return;
	log_warning("%s", text);
	notice_say(&session->notice, session->cell, text);
}

static void kernel_gone(struct session *session, const struct status *status)
{
	uint64_t code = 0, signal_number = 0;

	if (session->phase >= DRAINING)
		return;
	parse_u64(status->fields > 0 ? status->field[0] : "1", 255, &code);
	parse_u64(status->fields > 1 ? status->field[1] : "0", 64, &signal_number);
	session->exit_code = (int)(signal_number ? 128 + signal_number : code);
	audit_gone(session->plan->audit, (int)code, (int)signal_number);
	say_death(session, (unsigned)signal_number);
	session->phase = DRAINING;
	session->deadline = now_ms() + DRAIN_MS;
	if (session->wall >= 0)
		shutdown(session->wall, SHUT_WR); /* the relay sends what it has and ends */
}

static void take_wall(struct session *session, struct status *status)
{
	if (status->fds[0] < 0 || status->fds[1] < 0 || session->wall >= 0)
		return;
	session->wall = status->fds[0];
	fcntl(session->wall, F_SETFL, O_NONBLOCK);
	session->stderr_log = stderr_log_new(status->fds[1]);
	session->changes = status->fds[2];
	status->fds[0] = status->fds[1] = status->fds[2] = -1;
	if (session->phase == STARTING)
		session->phase = RUNNING;
}

static const char *parent_of_notice(const struct session *session)
{
	for (size_t i = 0; i < HOLD_MAX; i++) {
		const struct hold *hold = &session->holding.hold[i];

		if (hold->used && !hold->released && hold->parent)
			return hold->parent;
	}
	return session->cell;
}

void events_say(struct session *session, const char *text)
{
	const char *parent = parent_of_notice(session);

	if (parent)
		notice_say(&session->notice, parent, text);
	else if (session->early_count < EARLY_NOTICES_MAX &&
		 (session->early[session->early_count] = strdup(text)))
		session->early_count++;
}

void events_say_early(struct session *session)
{
	for (size_t i = 0; i < session->early_count; i++) {
		notice_say(&session->notice, session->cell, session->early[i]);
		free(session->early[i]);
	}
	session->early_count = 0;
}

static void say_refused(struct session *session, const struct status *status)
{
	char name[512];
	cleanup(free_ptr) char *text = NULL;

	if (status->fields < 2)
		return;
	text = format_string("not brought to staging/out: %s: %s",
			     escape_string(name, sizeof(name), status->field[0]), status->field[1]);
	if (!text)
		return;
	log_warning("%s", text);
	audit_note(session->plan->audit, "result", NULL, NULL, 0, "kept inside", text);
	tally_blocked(session->plan->tally, TALLY_RESULT, 1);
	session->refused_names++;
	if (session->refused_names <= NOTICE_NAMES_MAX)
		events_say(session, text);
	else if (session->refused_names == NOTICE_NAMES_MAX + 1)
		events_say(session,
			   "more files were not brought to staging/out; the log names them");
}

/* Results that act when they are opened: remembered here, said in one line with their collection.
 */
static void remember_flagged(struct session *session, const struct status *status)
{
	char name[512];
	char *names;

	if (status->fields < 1 || ++session->flagged_names > NOTICE_NAMES_MAX)
		return;
	escape_string(name, sizeof(name), status->field[0]);
	names = session->flagged ? format_string("%s, %s", session->flagged, name)
				 : format_string("%s", name);
	if (!names)
		return;
	free(session->flagged);
	session->flagged = names;
}

static void say_flagged(struct session *session)
{
	cleanup(free_ptr) char *text = NULL;
	cleanup(free_ptr) char *more = NULL;
	const unsigned named = session->flagged_names;

	if (session->flagged && named > NOTICE_NAMES_MAX)
		more = format_string(" and %u more", named - NOTICE_NAMES_MAX);
	if (session->flagged)
		text = format_string("results that can run code when opened: %s%s",
				     session->flagged, more ? more : "");
	free_ptr(&session->flagged);
	session->flagged_names = 0;
	if (!text)
		return;
	log_info("%s", text);
	events_say(session, text);
}

static void say_notice(struct session *session, const char *text)
{
	char escaped[2048];

	log_warning("%s", escape_line(escaped, sizeof(escaped), text));
	audit_note(session->plan->audit, "notice", NULL, NULL, 0, NULL, text);
	events_say(session, escaped);
}

static void say_attempt(struct session *session, const struct status *status)
{
	cleanup(free_ptr) char *text = NULL;

	if (imported_note(session->plan->imported, status))
		return;
	text = attempts_note(&session->attempts, session->plan->audit, status);
	if (text)
		events_say(session, text);
}

static void collection_over(struct session *session, const struct status *status)
{
	uint64_t sequence = 0;

	if (status->fields > 0 && parse_u64(status->field[0], UINT64_MAX, &sequence) == 0 &&
	    sequence > session->collected)
		session->collected = sequence;
	say_flagged(session);
	session->up_to_date = status->fields > 4 && strcmp(status->field[3], "0") == 0 &&
			      strcmp(status->field[4], "1") == 0;
	if (session->phase == RUNNING)
		session_collect(session); /* for cells that ended meanwhile */
}

static void results_done(struct session *session, const struct status *status)
{
	if (status->fields > 2 && strcmp(status->field[2], "0") != 0)
		log_warning("%s files wait in the private directory; `cellwall stage recover` "
			    "brings them "
			    "to staging/out",
			    status->field[2]);
	say_flagged(session);
	session->phase = OVER;
}

/* Nothing is silently weaker: what this host cannot give has a line of its own. */
static void log_layers(struct session *session, const struct status *status)
{
	const struct enclosed enclosed = enclose_measure();
	const char *lacks = status->field[1];
	cleanup(free_ptr) char *has =
		format_string("%s%s%s", status->field[0], enclosed.calls ? " proxy-filter" : "",
			      enclosed.files ? " proxy-files" : "");
	cleanup(free_ptr) char *lacking = format_string("%s%s%s", lacks,
							enclosed.files ? ""
							: *lacks       ? " "
								       : "",
							enclosed.files ? "" : "proxy-files");
	char named[1024];

	if (!has || !lacking)
		return;
	audit_layers(session->plan->audit, has, lacking, status->field[2]);
	log_info("layers: %s", escape_string(named, sizeof(named), has));
	log_info("limits of each process: %s",
		 escape_string(named, sizeof(named), status->field[2]));
	if (*lacking)
		log_warning("the kernel has no %s", escape_string(named, sizeof(named), lacking));
}

/* "4 GB", "4.1 GB", "512 MB": units of 1024, as people say them. */
static void format_bytes(uint64_t bytes, char out[32])
{
	static const char *const units[] = {"KB", "MB", "GB", "TB"};
	uint64_t unit = 1024, tenths;
	size_t i = 0;

	for (; bytes / unit >= 1000 && i + 1 < sizeof(units) / sizeof(units[0]); i++)
		unit *= 1024;
	tenths = (bytes / (unit / 64) * 10 + 32) / 64;
	if (tenths % 10 == 0 || tenths >= 1000)
		(void)snprintf(out, 32, "%" PRIu64 " %s", tenths / 10, units[i]);
	else
		(void)snprintf(out, 32, "%" PRIu64 ".%" PRIu64 " %s", tenths / 10, tenths % 10,
			       units[i]);
}

static void say_exceeded(struct session *session, const struct status *status)
{
	const bool kernel = strcmp(status->field[1], "kernel") == 0;
	const bool memory = strcmp(status->field[0], "memory") == 0;
	cleanup(free_ptr) char *text = NULL;
	char used[32], limit[32];
	uint64_t bytes = 0;

	(void)parse_u64(status->field[2], UINT64_MAX, &bytes);
	format_bytes(bytes, used);
	(void)parse_u64(status->field[3], UINT64_MAX, &bytes);
	format_bytes(bytes, limit);
	session->exceeded = session->exceeded || kernel;
	text = format_string("%s: %s %s of %s, the limit is %s (resources.%s)",
			     kernel ? "the kernel was ended"
				    : "processes that the kernel had started were ended",
			     kernel ? "it used" : "together they used", used,
			     memory ? "memory" : "disk", limit, memory ? "memory" : "disk");
	if (!text)
		return;
	log_warning("%s", text);
	notice_say(&session->notice, session->cell, text);
}

static void log_limits(struct session *session, const struct status *status)
{
	char reason[512];

	audit_limits(session->plan->audit, status->field[0], status->field[2], status->field[1]);
	if (strcmp(status->field[0], "cgroup") == 0)
		log_info("limits: held by a cgroup: %s",
			 escape_string(reason, sizeof(reason), status->field[2]));
	else
		log_warning("limits are held by rlimits and by looking at what the kernel uses, "
			    "not by a cgroup: %s",
			    escape_string(reason, sizeof(reason), status->field[1]));
}

static void take_status_packet(struct session *session, struct status *status)
{
	const char *word = status->word;

	if (strcmp(word, "wall") == 0) {
		take_wall(session, status);
	} else if (strcmp(word, "error") == 0 && status->fields >= 3) {
		cleanup(free_ptr) char *text =
			format_string("%s: %s", status->field[0], status->field[2]);

		session_fail(session, text ? text : "out of memory");
	} else if (strcmp(word, "layers") == 0 && status->fields >= 3) {
		log_layers(session, status);
	} else if (strcmp(word, "collected") == 0) {
		collection_over(session, status);
	} else if (strcmp(word, "refused") == 0) {
		say_refused(session, status);
	} else if (strcmp(word, "flagged") == 0) {
		remember_flagged(session, status);
	} else if (strcmp(word, "attempt") == 0 || strcmp(word, "untold") == 0) {
		say_attempt(session, status);
	} else if (strcmp(word, "notice") == 0 && status->fields >= 1) {
		say_notice(session, status->field[0]);
	} else if (strcmp(word, "limits") == 0 && status->fields >= 3) {
		log_limits(session, status);
	} else if (strcmp(word, "exceeded") == 0 && status->fields >= 4) {
		say_exceeded(session, status);
	} else if (strcmp(word, "gone") == 0) {
		kernel_gone(session, status);
	} else if (strcmp(word, "done") == 0) {
		results_done(session, status);
	} else if (strcmp(word, "paused") == 0 && status->fields >= 1 &&
		   strcmp(status->field[0], "1") != 0) {
		log_warning("the kernel could not be paused; output past the limit will be dropped "
			    "with a count");
	}
}

void events_installed(struct session *session)
{
	struct install_report report;
	char shown[INSTALL_REPORT_MAX];
	int r;

	while ((r = install_hear(session->plan->install, &report)) > 0) {
		log_info("packages: %s: %s", report.verdict,
			 escape_string(shown, sizeof(shown), report.text));
		audit_note(session->plan->audit, "install", NULL, NULL, 0, report.verdict,
			   report.text);
	}
	if (r < 0 && session->phase < DRAINING) {
		log_warning("the process that installs packages has ended");
		events_say(session, "the process that installs packages has ended");
	}
}

/* The supervisor was killed: the kernel has died with it, its files have not. */
static void supervisor_lost(struct session *session)
{
	if (session->phase == FAILED || session->phase == OVER)
		return;
	session->lost = true; /* session.c recovers at the end */
	if (session->phase == STARTING) {
		session_fail(session, "the sandbox ended before it had begun");
		return;
	}
	log_error("the supervisor ended unexpectedly");
	session->exit_code = EXIT_LAUNCH;
	session->channels = channels_free(session->channels, DRAIN_MS);
	session->notice.channels = NULL;
	session->phase = OVER;
}

void events_take(struct session *session)
{
	for (;;) {
		struct status status;
		struct err err;
		int code = status_receive(session->launch.status, &status, &err);

		if (code == -EAGAIN)
			return;
		if (code <= 0) {
			close_fd(&session->launch.status);
			supervisor_lost(session);
			return;
		}
		take_status_packet(session, &status);
		for (int i = 0; i < STATUS_FDS; i++)
			close_fd(&status.fds[i]);
		if (session->phase == OVER)
			return;
	}
}
