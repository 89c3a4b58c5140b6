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
#include "kernelspec/files.h"
#include "kernelspec/index.h"
#include "kernelspec/limits.h"
#include "kernelspec/prefix.h"
#include "kernelspec/sealed.h"
#include "kernelspec/variables.h"
#include "proxy/connection.h"
#include "proxy/launch.h"
#include "proxy/policy.h"
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
#define BUILD_MS       ((int64_t)3 * 3600 * 1000) /* it holds the locks of the store */
#define BUILD_FILE_MAX (UINT64_C(64) << 30)
#define ENV_SIZE_MAX   (100u * 1024) /* of one variable: MAX_ARG_STRLEN is 128 KiB */

struct line {
	char text[LINE_MAX_BYTES];
	size_t size;
};

struct run {
	const struct env_wanted *wanted;
	struct sealed_build sealed;
	struct index index;
	struct policy policy; /* the default: nothing of another's reaches a build but its rules */
	const struct policy *rules;
	struct prefix prefix; /* of wanted->python */
	const struct prefix *from;
	char *uv; /* NULL: pip */
	struct spec spec;
	char *sandbox;
	struct launch launch;
	int wall, output, log, egress_log, egress_life, signals;
	pid_t egress;
	struct line print, say;
	char *kept[KEPT_LINES];
	size_t kept_count;
	json_t *record, *reached, *attempts;
	uint64_t left;	       /* files that the last collection did not bring */
	uint64_t code, signal; /* how the build ended */
	bool interrupted, failed;
	struct err *err;
};

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

/* ---- what is built, as the sandbox is told ---- */

/* The base at its own places, and what was added to it. */
static int fill_base(struct run *run)
{
	const struct env_base *base = run->wanted->base;
	struct spec *spec = &run->spec;

	if (base && base->tree && spec_add_bind(spec, base->tree, INSIDE_ENVIRONMENT, true) < 0)
		return no_memory(run->err);
	if (base && base->before && spec_add_bind(spec, base->before, INSIDE_BEFORE, true) < 0)
		return no_memory(run->err);
	return 0;
}

/* A kernel's cell that says uv means packages: pip has the same. */
static int find_uv(struct run *run)
{
	const struct env_base *base = run->wanted->base;
	cleanup(free_ptr) char *beside = base && base->tree ? path_join(base->tree, "bin")
							    : paths_parent(run->from->executable);

	if (!beside)
		return no_memory(run->err);
	run->uv = prefix_program("uv", beside);
	if (!run->uv && !base)
		return err_set(run->err, -ENOENT,
			       "there is no uv in PATH or beside %s: install it, or leave --uv out",
			       run->from->executable);
	if (!run->uv)
		printf("there is no uv on this host: pip builds\n");
	return 0;
}

static int fill_program(struct run *run)
{
	cleanup(free_ptr) char *share = NULL;
	struct spec *spec = &run->spec;
	int r = files_share("env", &share, run->err);

	if (r < 0)
		return r;
	if (spec_add_argv(spec, run->from->executable) < 0 || spec_add_argv(spec, "-I") < 0 ||
	    spec_add_argv(spec, run->wanted->base ? "/cellwall-build/add.py"
						  : "/cellwall-build/build.py") < 0 ||
	    spec_add_bind(spec, share, "/cellwall-build", true) < 0 ||
	    (run->uv && spec_add_bind(spec, run->uv, "/cellwall-uv", true) < 0))
		return no_memory(run->err);
	for (char **path = run->from->paths; path && *path; path++) {
		cleanup(free_ptr) char *real = paths_real(*path);

		if (!real || spec_add_bind(spec, real, real, true) < 0 ||
		    (strcmp(real, *path) != 0 && spec_add_bind(spec, real, *path, true) < 0))
			return no_memory(run->err);
	}
	return fill_base(run);
}

/*
 * The cache is what earlier builds said it is. pip compares a file that is there with a hash only
 * where it has one: that of a lock, or of an index that names one for every file, as PyPI does.
 */
static bool all_hashed(const struct run *run)
{
	static const char *const known[] = {"pypi.org", "files.pythonhosted.org", "test.pypi.org",
					    "test-files.pythonhosted.org"};

	if (run->wanted->locked)
		return true;
	if (run->index.directories.count > 0 || strstr(run->wanted->requirements, "://"))
		return false;
	for (size_t i = 0; i < run->index.egress.count; i++) {
		bool found = false;

		for (size_t j = 0; j < sizeof(known) / sizeof(known[0]); j++)
			found = found || strcmp(run->index.egress.hosts[i].name, known[j]) == 0;
		if (!found)
			return false;
	}
	return true;
}

static int fill_wanted(struct run *run)
{
	const struct env_base *base = run->wanted->base;
	cleanup(free_ptr) char *text = NULL, *assignment = NULL, *wheels = NULL;
	json_t *wanted = json_pack("{s:s, s:b, s:b}", "requirements", run->wanted->requirements,
				   "locked", run->wanted->locked ? 1 : 0, "uv", run->uv ? 1 : 0);

	if (base && wanted &&
	    (json_object_set_new(wanted, "upgrade", json_boolean(base->upgrade)) < 0 ||
	     json_object_set_new(wanted, "lock", json_string(base->lock ? base->lock : "")) < 0)) {
		json_decref(wanted);
		return no_memory(run->err);
	}
	text = wanted ? json_dumps(wanted, JSON_COMPACT) : NULL;
	json_decref(wanted);
	assignment = text ? format_string("CELLWALL_BUILD=%s", text) : NULL;
	wheels = format_string("%s/wheels", run->sealed.store);
	if (!assignment || !wheels)
		return err_set(run->err, -EINVAL, "the requirements are no UTF-8");
	if (strlen(assignment) > ENV_SIZE_MAX)
		return err_set(run->err, -E2BIG, "the requirements are longer than %u bytes",
			       ENV_SIZE_MAX);
	if (variables_fill(&run->spec, &run->policy, run->from->executable) < 0 ||
	    variables_set(&run->spec, assignment) < 0 ||
	    variables_set(&run->spec, "SOURCE_DATE_EPOCH=315532800") < 0 ||
	    variables_set(&run->spec, "PYTHONHASHSEED=0") < 0 ||
	    (all_hashed(run) && spec_add_bind(&run->spec, wheels, "/cellwall-wheels", true) < 0))
		return no_memory(run->err);
	return index_fill(&run->index, &run->spec) < 0 ? no_memory(run->err) : 0;
}

static int fill_places(struct run *run)
{
	struct spec *spec = &run->spec;
	char key[65];
	int r = random_hex(key, 32);

	limits_fill(spec, run->rules);
	spec->landlock = 0; /* the way to the index lies in a network namespace */
	spec->out_bytes = BUILD_FILE_MAX;
	spec->out_files = 1;
	spec->state = path_join(run->sealed.directory, "private");
	spec->out = path_join(run->sealed.directory, "out");
	spec->connection = r < 0 ? NULL : connection_inner(key, "build");
	if (!spec->state || !spec->out || !spec->connection)
		return no_memory(run->err);
	r = make_directories(spec->state, 0700, run->err);
	if (r == 0)
		r = files_part("cellwall-relay", &spec->relay, run->err);
	if (r == 0)
		r = files_part("cellwall-sandbox", &run->sandbox, run->err);
	return r;
}

/* The requirements are kept where everybody may read them. */
static bool has_credentials(const char *text)
{
	while ((text = strstr(text, "://"))) {
		text += 3;
		if (text[strcspn(text, "/?#@ \t\r\n")] == '@')
			return true;
	}
	return false;
}

/* Under the lock of the name: what is added goes on top of the newest, or that would be lost. */
static int check_newest(const struct run *run)
{
	const struct env_base *base = run->wanted->base;
	uint64_t number = 0;
	struct sealed sealed;

	if (!base)
		return 0;
	if (sealed_find(run->wanted->name, 0, false, &sealed, NULL) == 0) {
		number = sealed.number;
		sealed_done(&sealed);
	}
	return number == base->number ? 0
				      : err_set(run->err, -EBUSY,
						"\"%s\" was changed by another cellwall: try again",
						run->wanted->name);
}

static int prepare(struct run *run)
{
	int r = policy_default(&run->policy);

	if (r < 0)
		return no_memory(run->err);
	run->rules = run->wanted->policy ? run->wanted->policy : &run->policy;
	if (!run->rules->build)
		return err_set(run->err, -EACCES,
			       "the policy lets nobody build environments (build.allow)");
	if (has_credentials(run->wanted->requirements))
		return err_set(run->err, -EINVAL,
			       "the requirements hold a user name or password: such a URL belongs "
			       "into pip's configuration (pip.conf)");
	run->from = run->wanted->base ? run->wanted->base->prefix : &run->prefix;
	if (!run->wanted->base)
		r = prefix_find(run->wanted->python, &run->prefix, run->err);
	if (r == 0 && !run->from->python)
		r = err_set(run->err, -EINVAL, "%s is no Python", run->from->executable);
	if (r == 0)
		r = index_read(run->wanted->hosts, &run->index, run->err);
	if (r == 0 && run->rules->build_hosts)
		r = index_narrow(&run->index, run->rules->build_hosts, run->err);
	if (r == 0)
		r = sealed_begin(run->wanted->name, &run->sealed, run->err);
	if (r == 0)
		r = check_newest(run);
	if (r == 0 && run->wanted->uv)
		r = find_uv(run);
	if (r == 0)
		r = fill_program(run);
	if (r == 0)
		r = fill_wanted(run);
	if (r == 0)
		r = fill_places(run);
	return r;
}

/* ---- what is shown ---- */

static void show(struct run *run, const char *text, size_t size)
{
	char safe[2 * LINE_MAX_BYTES];
	char **slot;

	(void)escape_text(safe, sizeof(safe), text, size);
	if (!run->wanted->quiet) {
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

/* Cuts what comes into lines. Returns false at the end. */
static bool read_lines(int fd, struct line *line, void (*take)(struct run *, const char *, size_t),
		       struct run *run)
{
	char buffer[4096];
	ssize_t got = read(fd, buffer, sizeof(buffer));

	for (ssize_t i = 0; i < got; i++) {
		bool end = buffer[i] == '\n' || buffer[i] == '\r';

		if (!end)
			line->text[line->size++] = buffer[i];
		if (line->size > 0 && (end || line->size == sizeof(line->text))) {
			take(run, line->text, line->size);
			line->size = 0;
		}
	}
	return got > 0 || (got < 0 && errno == EINTR);
}

/* "VERDICT HOST PORT IN OUT" of egress.h, added up by host and verdict. */
static void note_connection(struct run *run, const char *text, size_t size)
{
	char line[LINE_MAX_BYTES + 1], verdict[16], host[1024];
	uint64_t in, out;
	unsigned port;
	json_t *found = NULL, *one;
	size_t i;

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
		if (json_array_size(run->reached) >= REACHED_MAX && strcmp(verdict, "ok") != 0)
			return;
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
	run->egress = egress_start(&run->index.egress, steal_fd(&said->fds[0]), steal_fd(&lifeline),
				   log, run->err);
	run->failed = run->failed || run->egress < 0;
}

static void note_attempt(struct run *run, const struct status *said)
{
	char shown[512];

	/* What a resolver asks on lo is refused by nobody's intent. */
	if (said->fields < 4 || strcmp(said->field[2], "imported") == 0 ||
	    json_array_size(run->attempts) == ATTEMPTS_MAX)
		return;
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
	const int64_t until = now_ms() + BUILD_MS;
	bool heard = true;

	while (heard || run->output >= 0) {
		struct pollfd watch[] = {
			{.fd = heard ? run->launch.status : -1, .events = POLLIN},
			{.fd = run->output, .events = POLLIN},
			{.fd = run->egress_log, .events = POLLIN},
			{.fd = run->signals, .events = POLLIN},
		};

		if (poll(watch, 4, 60000) < 0)
			continue;
		if (now_ms() > until && !run->failed) {
			run->failed = true;
			(void)err_set(run->err, -ETIME,
				      "the build took more than %d hours: nothing was changed",
				      (int)(BUILD_MS / 3600000));
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
	const time_t now = time(NULL);
	struct tm tm;
	char when[32];

	(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	return json_object_set_new(record, "created", json_string(when)) < 0 ||
			       json_object_set_new(record, "by",
						   json_string(user ? user->pw_name : "?")) < 0 ||
			       json_object_set_new(record, "reached", json_array()) < 0 ||
			       json_object_set_new(record, "attempts", json_array()) < 0
		       ? -ENOMEM
		       : 0;
}

static int fill_record(struct run *run)
{
	const struct env_base *base = run->wanted->base;

	run->record = json_pack("{s:s, s:s, s:s}", "cellwall", CELLWALL_VERSION, "python",
				run->from->executable, "requirements",
				base ? base->requirements : run->wanted->requirements);
	if (base && run->record &&
	    (json_object_set_new(run->record, "base", json_string(base->name)) < 0 ||
	     json_object_set_new(run->record, "folder", json_string(base->folder)) < 0))
		return no_memory(run->err);
	if (!run->record || env_record_sign(run->record) < 0 ||
	    json_object_set(run->record, "reached", run->reached) < 0 ||
	    json_object_set(run->record, "attempts", run->attempts) < 0)
		return no_memory(run->err);
	return 0;
}

static int64_t seal(struct run *run)
{
	cleanup(free_ptr) char *path = path_join(run->spec.out, "bundle");
	cleanup(close_fd) int in = -1;
	int r = 0;

	if (run->left > 0)
		r = staging_recover(run->spec.state, run->spec.out, 0, 0, NULL, NULL, NULL, NULL,
				    run->err);
	if (r < 0)
		return r;
	in = path ? open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
	if (in < 0)
		return err_errno(run->err, "the build ended without a result");
	r = sealed_take(&run->sealed, in, run->err);
	return r < 0 ? r : sealed_commit(&run->sealed, run->record, run->err);
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
	if (run->code == ENV_NOTHING && run->wanted->base)
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
	sealed_abandon(&run->sealed);
	index_done(&run->index);
	prefix_done(&run->prefix);
	policy_done(&run->policy);
	spec_done(&run->spec);
	free(run->sandbox);
	free(run->uv);
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
	run->wanted = wanted;
	run->err = err;
	run->wall = run->output = run->log = run->egress_log = run->egress_life = run->signals = -1;
	run->sealed = (struct sealed_build)SEALED_NO_BUILD;
	run->reached = json_array();
	run->attempts = json_array();
	/* First: whoever interrupts is heard, however early. */
	run->signals = process_signals(err);
	r = run->signals < 0 ? run->signals : 0;
	if (r == 0)
		r = prepare(run);
	if (r == 0) {
		for (size_t i = 0; i < run->index.notices.count; i++)
			fprintf(stderr, "cellwall env: %s\n", run->index.notices.items[i]);
		egress_pin(&run->index.egress);
		run->index.egress.bytes = BUILD_FILE_MAX;
		r = launch_start(run->sandbox, &run->spec, &run->launch, err);
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
