#include "kernelspec/env_build.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernelspec/egress.h"
#include "kernelspec/env_plan.h"
#include "kernelspec/sealed.h"
#include "proxy/launch.h"
#include "sandbox/process.h"
#include "sandbox/staging.h"
#include "sandbox/status.h"

/*
 * Theory of operation
 *
 * A loop over the supervisor's words, what the build prints, and what the egress process says of
 * each connection. It ends when the supervisor does. The collector then has brought one file out,
 * to the build's directory in the store, or it waits in the private directory, which is there too.
 */

#define LINE_MAX_BYTES 4096
#define KEPT_LINES     40 /* of a quiet build, shown when it fails */
#define REACHED_MAX    64
#define ATTEMPTS_MAX   32
#define WHEN_BYTES     32
#define PASSING_WIDTH  60 /* columns of a line that the next one replaces */

struct line {
	char text[LINE_MAX_BYTES];
	size_t size;
	bool returned; /* it ended with a carriage return so far */
};

struct run {
	struct env_plan plan;
	struct launch launch;
	int wall, output, log, egress_log, egress_life, signals;
	pid_t egress;
	struct line print, say;
	char *kept[KEPT_LINES];
	size_t kept_count;
	json_t *record, *reached, *attempts;
	uint64_t unlisted;     /* of both, that there was no room for */
	uint64_t left;	       /* files that the last collection did not bring */
	uint64_t code, signal; /* how the build ended */
	bool interrupted, failed;
	bool passing; /* the line that is shown last is to be replaced */
	struct err *err;
};

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

/* ---- what is shown ---- */

/* How far something is: for who looks at it as it comes, a terminal or a notebook's cell. */
static void show_passing(struct run *run, const char *text)
{
	size_t size = strnlen(text, PASSING_WIDTH);

	if (run->plan.wanted->quiet || !(run->plan.wanted->base || isatty(STDOUT_FILENO)))
		return;
	while (size > 0 && ((unsigned char)text[size] & 0xc0) == 0x80) /* whole characters */
		size--;
	printf("%-*.*s\r", PASSING_WIDTH, (int)size, text);
	(void)fflush(stdout);
	run->passing = true;
}

/* Nothing of it stays behind what is shown next. */
static void end_passing(struct run *run)
{
	if (run->passing)
		printf("%*s\r", PASSING_WIDTH, "");
	(void)fflush(stdout);
	run->passing = false;
}

static void show(struct run *run, const char *text, size_t size, bool passing)
{
	char safe[2 * LINE_MAX_BYTES];
	char **slot;

	(void)escape_text(safe, sizeof(safe), text, size);
	if (passing) {
		show_passing(run, safe);
		return;
	}
	if (!run->plan.wanted->quiet) {
		end_passing(run);
		printf("%s\n", safe);
		(void)fflush(stdout);
		return;
	}
	slot = &run->kept[run->kept_count++ % KEPT_LINES];
	free(*slot);
	*slot = strdup(safe);
}

static void show_kept(struct run *run)
{
	size_t first = run->kept_count > KEPT_LINES ? run->kept_count - KEPT_LINES : 0;

	for (size_t i = first; i < run->kept_count; i++) {
		const char *text = run->kept[i % KEPT_LINES];

		if (text)
			fprintf(stderr, "%s\n", text);
	}
}

typedef void take_line_fn(struct run *run, const char *text, size_t size, bool passing);

static void add_byte(struct line *line, char byte, take_line_fn *take, struct run *run)
{
	const bool end = byte == '\n' || byte == '\r';

	/* A line that ended with both is one like any other. */
	if (line->returned && byte != '\n')
		line->size = 0;
	if (!end)
		line->text[line->size++] = byte;
	if (line->size > 0 && (end || line->size == sizeof(line->text))) {
		take(run, line->text, line->size, byte == '\r');
		if (byte != '\r')
			line->size = 0;
	}
	line->returned = byte == '\r';
}

/* Cuts what comes into lines. Returns false at the end. */
static bool read_lines(int fd, struct line *line, take_line_fn *take, struct run *run)
{
	char buffer[4096];
	ssize_t got = read(fd, buffer, sizeof(buffer));

	for (ssize_t i = 0; i < got; i++)
		add_byte(line, buffer[i], take, run);
	return got > 0 || (got < 0 && errno == EINTR);
}

static const char *write_when(char when[WHEN_BYTES])
{
	const time_t now = time(NULL);
	struct tm tm;

	(void)strftime(when, WHEN_BYTES, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	return when;
}

/* "VERDICT HOST PORT IN OUT" of egress.h, added up by host and verdict. */
static void note_connection(struct run *run, const char *text, size_t size, bool passing)
{
	char line[LINE_MAX_BYTES + 1], verdict[16], host[1024], when[WHEN_BYTES];
	uint64_t in, out;
	unsigned port;
	json_t *found = NULL, *one;
	size_t i;

	(void)passing;
	memcpy(line, text, size);
	line[size] = '\0';
	if (sscanf(line, "%15s %1023s %u %" SCNu64 " %" SCNu64, verdict, host, &port, &in, &out) !=
	    5)
		return;
	json_array_foreach(run->reached, i, one)
	{
		if (strcmp(json_string_value(json_object_get(one, "host")), host) == 0 &&
		    strcmp(json_string_value(json_object_get(one, "verdict")), verdict) == 0 &&
		    json_integer_value(json_object_get(one, "port")) == (json_int_t)port)
			found = one;
	}
	if (!found) {
		/* of hosts that a build may reach there are EGRESS_HOSTS at most */
		if (json_array_size(run->reached) >= REACHED_MAX && strcmp(verdict, "ok") != 0 &&
		    strcmp(verdict, "limit") != 0) {
			run->unlisted++;
			return;
		}
		found = json_pack("{s:s, s:i, s:s, s:i, s:I, s:I}", "host", host, "port", (int)port,
				  "verdict", verdict, "connections", 0, "received", (json_int_t)0,
				  "sent", (json_int_t)0);
		if (!found || json_array_append_new(run->reached, found) < 0)
			return;
	}
	(void)json_object_set_new(
		found, "connections",
		json_integer(json_integer_value(json_object_get(found, "connections")) + 1));
	(void)json_object_set_new(
		found, "received",
		json_integer(json_integer_value(json_object_get(found, "received")) +
			     (json_int_t)in));
	(void)json_object_set_new(
		found, "sent",
		json_integer(json_integer_value(json_object_get(found, "sent")) + (json_int_t)out));
	(void)json_object_set_new(found, "last", json_string(write_when(when)));
}

/* ---- the supervisor's words ---- */

static void start_egress(struct run *run, struct status *said)
{
	cleanup(close_fd) int lifeline = -1, log = -1;
	int fds[2];

	if (said->fds[0] < 0 || run->egress > 0)
		return;
	if (pipe2(fds, O_CLOEXEC) == 0) {
		lifeline = fds[0];
		run->egress_life = fds[1];
	}
	if (lifeline >= 0 && pipe2(fds, O_CLOEXEC) == 0) {
		run->egress_log = fds[0];
		log = fds[1];
	}
	if (log < 0) {
		run->failed = true;
		(void)err_errno(run->err, "cannot make a pipe");
		return;
	}
	run->egress = egress_start(&run->plan.index.egress, steal_fd(&said->fds[0]),
				   steal_fd(&lifeline), log, run->err);
	run->failed = run->failed || run->egress < 0;
}

static void note_attempt(struct run *run, const struct status *said)
{
	char shown[512];

	/* What a resolver asks on lo is refused by nobody's intent. */
	if (said->fields < 4 || strcmp(said->field[2], "imported") == 0)
		return;
	if (json_array_size(run->attempts) == ATTEMPTS_MAX) {
		run->unlisted++;
		return;
	}
	(void)escape_string(shown, sizeof(shown), said->field[3]);
	(void)json_array_append_new(
		run->attempts, json_pack("{s:s, s:s}", "what", said->field[2], "target", shown));
}

static void obey(struct run *run, struct status *said)
{
	if (strcmp(said->word, "wall") == 0) {
		run->wall = steal_fd(&said->fds[0]);
		run->output = steal_fd(&said->fds[1]);
	} else if (strcmp(said->word, "egress") == 0) {
		start_egress(run, said);
	} else if (strcmp(said->word, "error") == 0 && said->fields == 3) {
		run->failed = true;
		(void)err_set(run->err, -ECHILD, "%s: %s", said->field[0], said->field[2]);
	} else if (strcmp(said->word, "attempt") == 0) {
		note_attempt(run, said);
	} else if (strcmp(said->word, "exceeded") == 0 && said->fields == 4) {
		(void)err_set(run->err, -EDQUOT, "the build was ended: it used more %s than it may",
			      said->field[0]);
		run->failed = true;
	} else if (strcmp(said->word, "gone") == 0 && said->fields == 2) {
		(void)parse_u64(said->field[0], INT32_MAX, &run->code);
		(void)parse_u64(said->field[1], INT32_MAX, &run->signal);
	} else if (strcmp(said->word, "done") == 0 && said->fields == 3) {
		(void)parse_u64(said->field[2], UINT64_MAX, &run->left);
	}
	for (size_t i = 0; i < STATUS_FDS; i++)
		close_fd(&said->fds[i]);
}

static bool hear(struct run *run)
{
	struct status said;
	int r = status_receive(run->launch.status, &said, NULL);

	if (r > 0)
		obey(run, &said);
	return r > 0 || r == -EAGAIN;
}

static void on_signal(struct run *run)
{
	struct signalfd_siginfo info;

	if (read(run->signals, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	run->interrupted = true;
	(void)status_send(run->launch.status, NULL, "kill", NULL);
}

/* Until the supervisor and all that it held are gone. */
static void attend(struct run *run)
{
	const uint64_t seconds = run->plan.rules->build_time;
	const int64_t until = now_ms() + (int64_t)seconds * 1000;
	bool heard = true;

	while (heard || run->output >= 0) {
		struct pollfd watch[] = {
			{.fd = heard ? run->launch.status : -1, .events = POLLIN},
			{.fd = run->output, .events = POLLIN},
			{.fd = run->egress_log, .events = POLLIN},
			{.fd = run->signals, .events = POLLIN},
		};

		if (poll(watch, 4, 1000) < 0)
			continue;
		if (seconds > 0 && now_ms() > until && !run->failed) {
			run->failed = true;
			(void)err_set(run->err, -ETIME,
				      "the build was ended after %" PRIu64
				      " seconds: nothing was changed (a policy's build.time)",
				      seconds);
		}
		if (watch[0].revents)
			heard = hear(run);
		if (watch[1].revents && !read_lines(run->output, &run->print, show, run))
			close_fd(&run->output);
		if (watch[2].revents &&
		    !read_lines(run->egress_log, &run->say, note_connection, run))
			close_fd(&run->egress_log);
		if (watch[3].revents)
			on_signal(run);
		if (run->failed && run->launch.status >= 0)
			(void)status_send(run->launch.status, NULL, "kill", NULL);
	}
	end_passing(run);
	/* Connections end with the namespace of their other side: their lines come now. */
	close_fd(&run->egress_life);
	while (run->egress_log >= 0 && read_lines(run->egress_log, &run->say, note_connection, run))
		;
	if (run->egress > 0)
		(void)waitpid(run->egress, NULL, 0);
}

/* ---- sealing ---- */

int env_record_sign(json_t *record)
{
	const struct passwd *user = getpwuid(geteuid());
	char when[WHEN_BYTES];

	return json_object_set_new(record, "created", json_string(write_when(when))) < 0 ||
			       json_object_set_new(record, "by",
						   json_string(user ? user->pw_name : "?")) < 0 ||
			       json_object_set_new(record, "reached", json_array()) < 0 ||
			       json_object_set_new(record, "attempts", json_array()) < 0
		       ? -ENOMEM
		       : 0;
}

static int fill_record(struct run *run)
{
	const struct env_base *base = run->plan.wanted->base;

	run->record = json_pack("{s:s, s:s, s:s}", "cellwall", CELLWALL_VERSION, "python",
				run->plan.from->executable, "requirements",
				base ? base->requirements : run->plan.wanted->requirements);
	if (base && run->record &&
	    (json_object_set_new(run->record, "base", json_string(base->name)) < 0 ||
	     json_object_set_new(run->record, "folder", json_string(base->folder)) < 0 ||
	     (base->hash &&
	      json_object_set_new(run->record, "base_tree", json_string(base->hash)) < 0)))
		return no_memory(run->err);
	if (!run->record || env_record_sign(run->record) < 0 ||
	    json_object_set_new(run->record, "sources", env_plan_sources(&run->plan)) < 0 ||
	    json_object_set(run->record, "reached", run->reached) < 0 ||
	    json_object_set(run->record, "attempts", run->attempts) < 0 ||
	    json_object_set_new(run->record, "unlisted", json_integer((json_int_t)run->unlisted)) <
		    0)
		return no_memory(run->err);
	return 0;
}

static int64_t seal(struct run *run)
{
	cleanup(free_ptr) char *path = path_join(run->plan.spec.out, "bundle");
	cleanup(close_fd) int in = -1;
	int r = 0;

	if (run->left > 0)
		r = staging_recover(run->plan.spec.state, run->plan.spec.out, 0, 0, NULL, NULL,
				    NULL, NULL, run->err);
	if (r < 0)
		return r;
	in = path ? open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
	if (in < 0)
		return err_errno(run->err, "the build ended without a result");
	r = sealed_take(&run->plan.sealed, in, run->err);
	return r < 0 ? r : sealed_commit(&run->plan.sealed, run->record, run->err);
}

static int64_t finish(struct run *run)
{
	int r = fill_record(run);

	if (r < 0 || run->failed)
		return run->err->code;
	if (run->interrupted)
		return err_set(run->err, -EINTR, "interrupted: nothing was changed");
	if (run->signal != 0)
		return err_set(run->err, -ECHILD,
			       "the build was ended by signal %" PRIu64 ": nothing was changed",
			       run->signal);
	if (run->code == ENV_NOTHING && run->plan.wanted->base)
		return 0;
	if (run->code != 0)
		return err_set(run->err, -ECHILD,
			       "the build failed with code %" PRIu64 ": nothing was changed",
			       run->code);
	return seal(run);
}

static void run_done(struct run *run)
{
	int *const fds[] = {&run->wall,	      &run->output,	 &run->log,
			    &run->egress_log, &run->egress_life, &run->signals};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		close_fd(fds[i]);
	for (size_t i = 0; i < KEPT_LINES; i++)
		free(run->kept[i]);
	env_plan_done(&run->plan);
	json_decref(run->reached);
	json_decref(run->attempts);
	free(run);
}

int64_t env_build(const struct env_wanted *wanted, json_t **ret_record, struct err *err)
{
	struct run *run = calloc(1, sizeof(*run));
	int64_t r;

	*ret_record = NULL;
	if (!run)
		return no_memory(err);
	run->plan = (struct env_plan)ENV_NO_PLAN;
	run->err = err;
	run->wall = run->output = run->log = run->egress_log = run->egress_life = run->signals = -1;
	run->reached = json_array();
	run->attempts = json_array();
	/* First: whoever interrupts is heard, however early. */
	run->signals = process_signals(err);
	r = run->signals < 0 ? run->signals : 0;
	if (r == 0)
		r = env_plan_make(wanted, &run->plan, err);
	if (r == 0) {
		for (size_t i = 0; i < run->plan.index.notices.count; i++)
			fprintf(stderr, "cellwall env: %s\n", run->plan.index.notices.items[i]);
		egress_pin(&run->plan.index.egress);
		run->plan.index.egress.bytes = run->plan.rules->build_size;
		r = launch_start(run->plan.sandbox, &run->plan.spec, &run->launch, err);
	}
	if (r == 0) {
		attend(run);
		launch_done(&run->launch, 10000);
		r = finish(run);
		if (r < 0)
			show_kept(run);
	}
	*ret_record = run->record;
	run_done(run);
	return r;
}
