/*
 * stage_verb: `cellwall stage status` and `cellwall stage recover`, for results that a killed run
 * left behind.
 */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "kernelspec/verbs.h"
#include "sandbox/staging.h"

enum stage_action { STAGE_NONE, STAGE_STATUS, STAGE_RECOVER };

struct stage_options {
	enum stage_action action;
	bool all;
	bool dry_run;
};

static const char doc[] = "Results that a kernel wrote are copied to staging/out after every cell "
			  "and at its end. When everything "
			  "was killed in between, the rest waits in a private directory; the next "
			  "kernel in that folder brings it in, "
			  "and so does this.\v"
			  "status   shows what is waiting, and for which folder\n"
			  "recover  brings in what belongs to staging/out of the present folder";

static const struct argp_option options[] = {
	{"all", 'a', NULL, 0, "recover: for every folder, not only the present one", 0},
	{"dry-run", 'n', NULL, 0, "recover: say what would be brought in, touch nothing", 0},
	{0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	struct stage_options *chosen = state->input;

	switch (key) {
	case 'a':
		chosen->all = true;
		return 0;
	case 'n':
		chosen->dry_run = true;
		return 0;
	case ARGP_KEY_ARG:
		if (chosen->action != STAGE_NONE)
			argp_error(state, "one word is enough: status or recover");
		else if (strcmp(argument, "status") == 0)
			chosen->action = STAGE_STATUS;
		else if (strcmp(argument, "recover") == 0)
			chosen->action = STAGE_RECOVER;
		else
			argp_error(state, "unknown word; status or recover is expected");
		return 0;
	case ARGP_KEY_END:
		if (chosen->action == STAGE_NONE)
			argp_error(state, "status or recover is expected");
		if (chosen->action == STAGE_STATUS && (chosen->all || chosen->dry_run))
			argp_error(state, "status takes no options");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp parser = {options, parse_option, "status|recover", doc, NULL, NULL, NULL};

/* What the callbacks need to know, and count. */
struct stage_run {
	const char *state; /* where private directories are */
	const char *out;   /* NULL: any */
	uint64_t shown;
	uint64_t refused;
	bool only_abandoned;
};

static void print_bytes(char *out, size_t size, uint64_t bytes)
{
	static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
	double value = (double)bytes;
	size_t i = 0;

	for (; value >= 1000 && i + 1 < sizeof(unit) / sizeof(unit[0]); i++)
		value /= 1000;
	snprintf(out, size, i == 0 ? "%.0f %s" : "%.1f %s", value, unit[i]);
}

/* Is `place` the directory `out`? */
static bool is_same(const char *out, const char *place)
{
	char one[PATH_MAX], other[PATH_MAX];

	return strcmp(out, place) == 0 ||
	       (realpath(out, one) && realpath(place, other) && strcmp(one, other) == 0);
}

static void show_waiting(void *arg, const struct staging_info *info)
{
	struct stage_run *run = arg;
	char place[PATH_MAX], size[32];

	if (run->only_abandoned && (info->held || (run->out && !is_same(run->out, info->out))))
		return;
	if (!info->held && info->files == 0 && info->others == 0)
		return; /* removed by the next recovery */
	run->shown++;
	print_bytes(size, sizeof(size), info->bytes);
	printf("%-9s %6" PRIu64 " %-5s %10s  %s", info->held ? "running" : "left over", info->files,
	       info->files == 1 ? "file" : "files", size,
	       escape_string(place, sizeof(place), info->out));
	if (info->others > 0)
		printf("  (%" PRIu64 " more that stay inside: links, hidden names and the like)",
		       info->others);
	putchar('\n');
}

static int stage_status(struct stage_run *run)
{
	struct err err;
	int r = staging_survey(run->state, show_waiting, run, &err);

	if (r < 0) {
		fprintf(stderr, "cellwall stage: %s\n", err.text);
		return 1;
	}
	if (run->shown == 0)
		printf("nothing is waiting\n");
	return 0;
}

static void say_refused(void *arg, const char *path, const char *reason)
{
	struct stage_run *run = arg;
	char escaped[PATH_MAX];

	run->refused++;
	fprintf(stderr, "cellwall stage: %s: %s\n", escape_string(escaped, sizeof(escaped), path),
		reason);
}

static void say_found(void *arg, const char *directory, const char *out,
		      const struct staging_report *report)
{
	struct stage_run *run = arg;
	char place[PATH_MAX], size[32];

	(void)directory;
	run->shown++;
	print_bytes(size, sizeof(size), report->bytes);
	printf("brought in %" PRIu64 " %s (%s) to %s\n", report->files,
	       report->files == 1 ? "file" : "files", size,
	       escape_string(place, sizeof(place), out));
}

static int stage_recover(struct stage_run *run)
{
	struct err err;
	/* 0: the limits that the run itself had */
	int r = staging_recover(run->state, run->out, 0, 0, say_refused, say_found, run, &err);

	if (r < 0) {
		fprintf(stderr, "cellwall stage: %s\n", err.text);
		fprintf(stderr,
			"cellwall stage: what could not be brought in is kept; try again when "
			"that is mended\n");
		return 1;
	}
	if (run->shown == 0)
		printf("nothing was left over%s\n", run->out ? " for this folder" : "");
	return 0;
}

int verb_stage(int argc, char **argv)
{
	struct stage_options chosen = {.action = STAGE_NONE};
	cleanup(free_ptr) char *state = NULL;
	cleanup(free_ptr) char *folder = NULL;
	cleanup(free_ptr) char *out = NULL;
	struct stage_run run = {0};
	struct err err;

	argp_err_exit_status = 2;
	if (argp_parse(&parser, argc, argv, 0, NULL, &chosen) != 0)
		return 2;
	if (staging_state_directory(&state, &err) < 0) {
		fprintf(stderr, "cellwall stage: %s\n", err.text);
		return 1;
	}
	run.state = state;
	if (chosen.action == STAGE_STATUS)
		return stage_status(&run);
	if (!chosen.all) {
		folder = getcwd(NULL, 0);
		out = folder ? path_join(folder, "staging/out") : NULL;
		if (!out) {
			fprintf(stderr, "cellwall stage: the present folder is not there: %s\n",
				strerrordesc_np(errno));
			return 1;
		}
		run.out = out;
	}
	if (!chosen.dry_run)
		return stage_recover(&run);
	run.only_abandoned = true;
	return stage_status(&run);
}
