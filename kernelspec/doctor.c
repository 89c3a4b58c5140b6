#include <argp.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "kernelspec/files.h"
#include "kernelspec/list.h"
#include "kernelspec/paths.h"
#include "kernelspec/plan.h"
#include "kernelspec/probe.h"
#include "kernelspec/server.h"
#include "kernelspec/verbs.h"
#include "proxy/connection.h"
#include "proxy/enclose.h"
#include "proxy/launch.h"
#include "sandbox/staging.h"
#include "sandbox/status.h"

#define START_MS   15000 /* a sandbox takes some 10 ms; a loaded host ten times that */
#define CANNOT_RUN 3

static const char *const states[] = {"ok", "limited", "missing"};

/* ---- what is installed ---- */

static void probe_parts(struct probe_result *result)
{
	static const char *const parts[] = {"cellwall-sandbox", "cellwall-relay"};
	cleanup(free_ptr) char *share = NULL;
	struct err err;

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		cleanup(free_ptr) char *path = NULL;

		if (files_part(parts[i], &path, &err) < 0 ||
		    (access(path, X_OK) < 0 && err_errno(&err, "%s", path) < 0)) {
			probe_say(result, PROBE_MISSING,
				  "cmake --install BUILD --prefix /usr/local", "%s", err.text);
			return;
		}
	}
	if (files_share("logo-32x32.png", &share, &err) < 0)
		probe_say(result, PROBE_LIMITED, "cmake --install BUILD --prefix /usr/local", "%s",
			  err.text);
	else
		probe_say(result, PROBE_OK, NULL, "cellwall-sandbox cellwall-relay share");
}

/* Can the directory, or the nearest one above it that exists, be written to? */
static void probe_state_directory(struct probe_result *result)
{
	cleanup(free_ptr) char *state = NULL, *at = NULL;
	struct err err;

	if (staging_state_directory(&state, &err) < 0) {
		probe_say(result, PROBE_MISSING, "set XDG_STATE_HOME to a directory of yours", "%s",
			  err.text);
		return;
	}
	at = strdup(state);
	while (at && access(at, F_OK) < 0 && strcmp(at, "/") != 0) {
		char *up = paths_parent(at);

		free(at);
		at = up;
	}
	if (!at || access(at, W_OK | X_OK) < 0)
		probe_say(result, PROBE_MISSING, "set XDG_STATE_HOME to a directory of yours",
			  "%s cannot be written: %s", at ? at : state, strerrordesc_np(errno));
	else
		probe_say(result, PROBE_OK, NULL, "%s", state);
}

/* ---- one real start ---- */

static int fill_spec(struct spec *spec, const char *directory, struct err *err)
{
	static const char *const environment[] = {"PATH=/usr/bin:/bin", "HOME=" INSIDE_HOME};
	char key[65];
	int code = files_part("cellwall-relay", &spec->relay, err);

	if (code < 0)
		return code;
	spec->state = path_join(directory, "state");
	spec->out = path_join(directory, "out");
	if (!spec->state || !spec->out || random_hex(key, 32) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	spec->connection = connection_inner(key, "doctor");
	spec->out_bytes = spec->tmp_bytes = 16u * 1024 * 1024;
	spec->out_files = 16;
	spec->pids = spec->open_files = 256;
	if (!spec->connection || spec_add_argv(spec, "/usr/bin/true") < 0)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < sizeof(environment) / sizeof(environment[0]); i++)
		if (spec_add_env(spec, environment[i]) < 0)
			return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

/* Which layers the sandbox had that was really started, and which limits. */
static struct probe_result layers, limits;
static char each_process[512];

static void take_layers(const struct status *packet)
{
	const char *has = packet->field[0], *lacks = packet->field[1];

	if (*lacks)
		probe_say(&layers, PROBE_LIMITED,
			  "a newer kernel has them; Landlock is switched on with lsm=landlock,… on "
			  "the kernel's command line",
			  "lacks %s", lacks);
	else
		probe_say(&layers, PROBE_OK, NULL, "%s", has);
	(void)snprintf(each_process, sizeof(each_process), "%s",
		       packet->field[2] ? packet->field[2] : "");
}

static void take_limits(const struct status *packet)
{
	const bool group = strcmp(packet->field[0], "cgroup") == 0;

	probe_say(&limits, PROBE_OK, NULL, "all together, %s: %s; each process: %s",
		  group ? "held by a cgroup" : "looked at by the supervisor", packet->field[2],
		  each_process);
}

/* Reads packets until the sandbox has run the program. Returns 0 or a negative errno. */
static int follow(const struct launch *launch, struct err *err)
{
	int64_t end = now_ms() + START_MS;
	cleanup(close_fd) int wall = -1, output = -1;
	struct status packet;

	for (;;) {
		struct pollfd ready = {.fd = launch->status, .events = POLLIN};
		int64_t left = end - now_ms();
		int code;

		if (left <= 0 || poll(&ready, 1, (int)left) <= 0)
			return err_set(err, -ETIMEDOUT, "it did not start in %d s",
				       START_MS / 1000);
		code = status_receive(launch->status, &packet, err);
		if (code == -EAGAIN)
			continue;
		if (code <= 0)
			return code < 0 ? code : err_set(err, -EPIPE, "it ended without a word");
		if (strcmp(packet.word, "wall") ==
		    0) { /* held: the relay ends when its wall does */
			wall = packet.fds[0];
			output = packet.fds[1];
			close_fd(&packet.fds[2]);
		}
		if (strcmp(packet.word, "layers") == 0 && packet.fields >= 2)
			take_layers(&packet);
		if (strcmp(packet.word, "limits") == 0 && packet.fields >= 3)
			take_limits(&packet);
		if (strcmp(packet.word, "error") == 0)
			return err_set(err, -EIO, "%s: %s",
				       packet.fields > 0 ? packet.field[0] : "?",
				       packet.fields > 2 ? packet.field[2] : "?");
		if (strcmp(packet.word, "gone") == 0 && packet.fields >= 2) {
			bool fine = strcmp(packet.field[0], "0") == 0 &&
				    strcmp(packet.field[1], "0") == 0;

			return fine ? 0
				    : err_set(err, -EIO,
					      "true(1) ended with code %s, signal %s inside",
					      packet.field[0], packet.field[1]);
		}
	}
}

static int start_sandbox(const char *directory, struct err *err)
{
	cleanup(free_ptr) char *program = NULL;
	struct launch launch;
	struct spec spec = {0};
	int code = files_part("cellwall-sandbox", &program, err);

	if (code == 0)
		code = fill_spec(&spec, directory, err);
	if (code == 0)
		code = launch_start(program, &spec, &launch, err);
	if (code == 0) {
		code = follow(&launch, err);
		launch_done(&launch, START_MS);
	}
	spec_done(&spec);
	return code;
}

/* Not forked as the other probes: launch_start is for the main thread of a process that stays. */
static void probe_start(struct probe_result *result)
{
	const char *tmp = getenv("TMPDIR");
	cleanup(free_ptr) char *directory =
		path_join(tmp && tmp[0] == '/' ? tmp : "/tmp", "cellwall-doctor-XXXXXX");
	int64_t begin = now_ms();
	struct err err = {0};

	if (!directory || !mkdtemp(directory)) {
		probe_say(result, PROBE_MISSING, "set TMPDIR to a directory of yours", "%s: %s",
			  directory ? directory : "TMPDIR", strerrordesc_np(errno));
		return;
	}
	if (start_sandbox(directory, &err) < 0)
		probe_say(result, PROBE_MISSING, "see the first line above that is missing", "%s",
			  err.text);
	else
		probe_say(result, PROBE_OK, NULL, "in %lld ms, with a program in it",
			  (long long)(now_ms() - begin));
	(void)plan_remove(directory, NULL);
}

static void probe_layers(struct probe_result *result)
{
	if (layers.detail[0])
		*result = layers;
	else
		probe_say(result, PROBE_LIMITED, NULL, "no sandbox could be started");
}

static void probe_limits(struct probe_result *result)
{
	if (limits.detail[0])
		*result = limits;
	else
		probe_say(result, PROBE_LIMITED, NULL, "no sandbox could be started");
}

/* The same steps that `cellwall kernel` takes, in a process of their own. */
static void enclosed(struct probe_result *result)
{
	struct connection connection = {0};
	struct spec spec = {.state = (char[]){"/nonexistent"},
			    .out = (char[]){"/nonexistent/staging/out"}};
	const struct session_plan plan = {.connection = &connection, .spec = &spec};
	struct enclosed holds;
	struct err err;

	if (enclose_files(&plan, &err) < 0 || enclose_calls(&err) < 0) {
		probe_say(result, PROBE_MISSING, NULL, "%s", err.text);
		return;
	}
	holds = enclose_measure();
	probe_say(result, holds.files && holds.calls ? PROBE_OK : PROBE_LIMITED,
		  "Landlock is switched on with lsm=landlock,… on the kernel's command line",
		  "%s%s", holds.calls ? "proxy-filter" : "no proxy-filter",
		  holds.files ? " proxy-files" : ", no proxy-files");
}

static void probe_proxy(struct probe_result *result)
{
	static const struct probe alone = {"the proxy", false, enclosed};

	probe_run(&alone, result);
}

static const struct probe installed[] = {
	{"parts", true, probe_parts},	     {"state directory", true, probe_state_directory},
	{"a sandbox", true, probe_start},    {"its layers", false, probe_layers},
	{"its limits", false, probe_limits}, {"the proxy", false, probe_proxy},
};

/* ---- the page ---- */

struct page {
	bool json;
	bool can_run;
	json_t *lines;
};

static void put(struct page *page, const char *what, bool needed, const struct probe_result *result)
{
	if (needed && result->state == PROBE_MISSING)
		page->can_run = false;
	if (page->json) {
		(void)json_array_append_new(
			page->lines, json_pack("{s:s, s:s, s:s, s:s, s:b}", "what", what, "state",
					       states[result->state], "detail", result->detail,
					       "help", result->help, "needed", needed));
		return;
	}
	printf("%-8s %-18s %s\n", states[result->state], what, result->detail);
	if (result->state != PROBE_OK && result->help[0])
		printf("%-8s %-18s -> %s\n", "", "", result->help);
}

/* Kernelspecs that would not start are said, but do not make the host unfit. */
static void put_kernelspecs(struct page *page)
{
	struct list list = {0};
	struct probe_result result;
	struct err err;

	if (list_find(NULL, &list, &err) < 0) {
		probe_say(&result, PROBE_LIMITED, NULL, "%s", err.text);
		put(page, "kernelspecs", false, &result);
		return;
	}
	if (list.count == 0) {
		probe_say(&result, PROBE_OK, NULL, "none installed yet: cellwall install");
		put(page, "kernelspecs", false, &result);
	}
	for (size_t i = 0; i < list.count; i++) {
		char name[32];

		probe_say(&result, list.rows[i].broken ? PROBE_LIMITED : PROBE_OK,
			  list.rows[i].broken ? list.rows[i].state : NULL, "%s",
			  list.rows[i].broken ? "will not start" : list.rows[i].state);
		put(page, escape_string(name, sizeof(name), list.rows[i].spec.name), false,
		    &result);
	}
	list_done(&list);
}

/* The page's side of it, which a kernel can run without. */
static void put_server(struct page *page)
{
	cleanup(free_ptr) char *path = NULL;
	struct probe_result result;

	if (server_find(&path) > 0)
		probe_say(&result, PROBE_OK, NULL, "%s", path);
	else
		probe_say(&result, PROBE_LIMITED, SERVER_HINT,
			  "the notebook server sends none against leaks");
	put(page, "server headers", false, &result);
}

static void print_page(struct page *page)
{
	struct probe_result result;

	for (size_t i = 0; i < probe_host_count; i++) {
		probe_run(&probe_host[i], &result);
		put(page, probe_host[i].what, probe_host[i].needed, &result);
	}
	for (size_t i = 0; i < sizeof(installed) / sizeof(installed[0]); i++) {
		result = (struct probe_result){.state = PROBE_MISSING};
		installed[i].run(&result);
		put(page, installed[i].what, installed[i].needed, &result);
	}
	put_server(page);
	put_kernelspecs(page);
	if (page->json)
		printf("%s", "");
	else
		puts(page->can_run ? "isolated kernels can run here"
				   : "isolated kernels cannot run here");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct page *page = state->input;

	if (key == 'j') {
		page->json = true;
		return 0;
	}
	if (key == ARGP_KEY_ARG)
		argp_error(state, "%s is one word too many", arg);
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_option known[] = {
	{"json", 'j', NULL, 0, "As JSON", 0},
	{0},
};

static const struct argp parser = {
	.options = known,
	.parser = parse,
	.doc = "Say what this host can give to isolated kernels, and for each missing thing how to "
	       "get it.\v"
	       "Exit code 0 when a kernel can start, 3 when it cannot.",
};

int verb_doctor(int argc, char **argv)
{
	struct page page = {.can_run = true};
	int code = 0;

	argp_err_exit_status = 2;
	if (argp_parse(&parser, argc, argv, 0, NULL, &page) != 0)
		return 2;
	if (page.json) {
		page.lines = json_array();
		if (!page.lines)
			return 1;
	}
	print_page(&page);
	if (page.json) {
		json_t *whole =
			json_pack("{s:b, s:o}", "can_run", page.can_run, "lines", page.lines);

		code = whole ? json_dumpf(whole, stdout, JSON_INDENT(1)) : -1;
		putchar('\n');
		json_decref(whole);
	}
	if (code < 0)
		return 1;
	return page.can_run ? 0 : CANNOT_RUN;
}
