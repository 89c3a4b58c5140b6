/*
 * stage_verb: the words and options of `cellwall stage`; what each does is in stage_*.c.
 */
#include <argp.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kernelspec/files.h"
#include "kernelspec/stage.h"
#include "kernelspec/verbs.h"
#include "sandbox/staging.h"

static const struct action {
	const char *name;
	int (*run)(const struct stage *stage);
	size_t least, most; /* words after it */
	unsigned options;
	unsigned instead; /* of the least: one of these options */
} actions[] = {
	{"add", stage_add, 1, 10000, 0, 0},
	{"list", stage_list, 0, 0, STAGE_ALL | STAGE_JSON, 0},
	{"drop", stage_drop, 1, 10000, STAGE_ALL | STAGE_GONE, STAGE_ALL | STAGE_GONE},
	{"ls", stage_ls, 0, 0, STAGE_ALL | STAGE_JSON | STAGE_KERNEL | STAGE_REMOTE, 0},
	{"diff", stage_diff, 0, 10000, STAGE_ALL | STAGE_JSON | STAGE_KERNEL, 0},
	{"get", stage_get, 1, 10000, STAGE_KERNEL | STAGE_OUTPUT | STAGE_REMOTE, 0},
	{"put", stage_put, 1, 2, STAGE_KERNEL | STAGE_REMOTE, 0},
	{"status", stage_status, 0, 0, STAGE_JSON, 0},
	{"recover", stage_recover, 0, 0, STAGE_ALL | STAGE_DRY_RUN, 0},
};
enum { ACTIONS = sizeof(actions) / sizeof(actions[0]) };

static const char words[] = "add PATH...|NAME=/ABS/PATH|.\n"
			    "list\n"
			    "drop NAME...\n"
			    "ls\n"
			    "diff [PATH...]\n"
			    "get PATH...\n"
			    "put FILE [PATH]\n"
			    "status\n"
			    "recover";

static const char doc[] =
	"What the kernels of the present folder see, what they made, and results that a killed run "
	"left behind.\v"
	"add      let the kernels of this folder see a file or folder, read-only, under the name "
	"it "
	"has beside the notebook (\".\": all that is not hidden; NAME=/abs/path: under another "
	"name)\n"
	"list     show what was added\n"
	"drop     take it back\n"
	"ls       sizes and origin of what is staged, and what each running kernel made\n"
	"diff     what running kernels have that is not in staging/out as it is\n"
	"get      copy a file out of a running kernel's /work, to here or to --output\n"
	"put      copy a file into a running kernel's /work; nothing is replaced\n"
	"With --server ls, get and put are about the areas of a cellwall serve: put writes below "
	"in, where kernels read it; get reads in/PATH and out/PATH, a file or a folder. What was "
	"cut off goes on with the same command.\n"
	"status   show results that are waiting, and for which folder\n"
	"recover  bring in what belongs to staging/out of the present folder (the next kernel in "
	"that folder does so too)\n\n"
	"Kernels see what was added from their next start on. It is recorded in your state "
	"directory, never in the folder, and bounded by the policy's stage.may_add.\n\n"
	"Exit codes: 0 done (diff: whether something differs or not), 1 it could not be done, 2 "
	"wrong usage.";

enum { OPTION_SERVER = 256, OPTION_AREA, OPTION_TOKEN, OPTION_CA };

static const struct argp_option options[] = {
	{"all", 'a', NULL, 0, "of every folder, not only the present one; drop: all that was added",
	 0},
	{"dry-run", 'n', NULL, 0, "recover: say what would be brought in, touch nothing", 0},
	{"gone", 'g', NULL, 0, "drop: what was added for folders that are not there any more", 0},
	{"json", 'j', NULL, 0, "list, ls, diff, status: as JSON", 0},
	{"kernel", 'k', "ID", 0, "ls, diff, get, put: the kernel whose name (see ls) begins so", 0},
	{"output", 'o', "DIR", 0, "get: copy to this directory", 0},
	{"server", OPTION_SERVER, "URL", 0,
	 "ls, get, put: in the areas of a cellwall serve (https://HOST:PORT, http:// for this "
	 "host, "
	 "unix:PATH)",
	 1},
	{"area", OPTION_AREA, "NAME", 0,
	 "with --server: this area (default: \"default\"; ls: all; --kernel: that kernel's)", 1},
	{"token-file", OPTION_TOKEN, "FILE", 0,
	 "with --server: the token is in this file (0600), else in the variable CELLWALL_TOKEN", 1},
	{"ca", OPTION_CA, "FILE", 0,
	 "with --server: check its certificate with those of this file (PEM), not with the "
	 "system's",
	 1},
	{0},
};

struct parsed {
	struct stage stage;
	const struct action *action;
};

static const struct action *find_action(const char *name)
{
	for (size_t i = 0; i < ACTIONS; i++)
		if (strcmp(actions[i].name, name) == 0)
			return &actions[i];
	return NULL;
}

/* Does what was given go together? argp_error(3) does not return. */
static void check(const struct parsed *parsed, struct argp_state *state)
{
	const struct stage *stage = &parsed->stage;
	const struct action *action = parsed->action;
	bool spared = action && (stage->options & action->instead);

	if (!action)
		argp_error(state, "one of add, list, drop, ls, diff, get, put, status, recover is "
				  "expected");
	else if (stage->options & ~action->options)
		argp_error(state, "%s does not take one of the options given", action->name);
	else if (stage->count < action->least && !spared)
		argp_error(state, "%s needs %s", action->name,
			   strcmp(action->name, "put") == 0    ? "a FILE"
			   : strcmp(action->name, "drop") == 0 ? "a NAME, --all or --gone"
							       : "a PATH");
	else if (stage->count > action->most)
		argp_error(state, "too many words for %s", action->name);
	else if (stage->count > 0 && spared)
		argp_error(state, "drop: names, --all or --gone");
	else if ((stage->options & STAGE_REMOTE) && !(stage->options & STAGE_SERVER))
		argp_error(state, "--area, --token-file and --ca are for --server");
	else if ((stage->options & STAGE_SERVER) && (stage->options & STAGE_ALL))
		argp_error(state, "--server: without --area ls shows all areas");
	else if ((stage->options & STAGE_AREA) && (stage->options & STAGE_KERNEL))
		argp_error(state, "--area or --kernel");
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	struct parsed *parsed = state->input;
	struct stage *stage = &parsed->stage;

	switch (key) {
	case 'a':
		stage->options |= STAGE_ALL;
		return 0;
	case 'n':
		stage->options |= STAGE_DRY_RUN;
		return 0;
	case 'g':
		stage->options |= STAGE_GONE;
		return 0;
	case 'j':
		stage->options |= STAGE_JSON;
		return 0;
	case 'k':
		stage->options |= STAGE_KERNEL;
		stage->kernel = argument;
		return 0;
	case 'o':
		stage->options |= STAGE_OUTPUT;
		stage->output = argument;
		return 0;
	case OPTION_SERVER:
		stage->options |= STAGE_SERVER;
		return 0;
	case OPTION_AREA:
		stage->options |= STAGE_AREA;
		return 0;
	case OPTION_TOKEN:
	case OPTION_CA:
		stage->options |= STAGE_ACCESS;
		return 0;
	case ARGP_KEY_ARG:
		if (!parsed->action) {
			parsed->action = find_action(argument);
			if (!parsed->action)
				argp_error(state, "unknown word; see --help");
			return 0;
		}
		stage->words[stage->count++] = argument;
		return 0;
	case ARGP_KEY_END:
		check(parsed, state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp parser = {options, parse_option, words, doc, NULL, NULL, NULL};

static int find_places(struct stage *stage)
{
	struct err err;

	if (staging_state_directory(&stage->state, &err) < 0)
		return stage_fail("%s", err.text);
	stage->folder = getcwd(NULL, 0);
	stage->out = stage->folder ? path_join(stage->folder, "staging/out") : NULL;
	if (!stage->out)
		return stage_fail("the present folder is not there: %s", strerrordesc_np(errno));
	return 0;
}

/* libcurl is in a part of its own. */
static int run_remote(char **argv)
{
	cleanup(free_ptr) char *part = NULL;
	struct err err;

	if (files_part("cellwall-remote", &part, &err) < 0)
		return stage_fail("%s", err.text);
	execv(part, argv);
	return stage_fail("cannot execute %s: %s", part, strerrordesc_np(errno));
}

int verb_stage(int argc, char **argv)
{
	struct parsed parsed = {0};
	int code;

	argp_err_exit_status = EXIT_USAGE;
	parsed.stage.words = calloc((size_t)argc, sizeof(char *));
	if (!parsed.stage.words)
		return stage_fail("out of memory");
	if (argp_parse(&parser, argc, argv, 0, NULL, &parsed) != 0 || !parsed.action)
		code = EXIT_USAGE;
	else if (parsed.stage.options & STAGE_SERVER)
		code = run_remote(argv);
	else
		code = find_places(&parsed.stage);
	if (code == 0)
		code = parsed.action->run(&parsed.stage);
	free(parsed.stage.words);
	free(parsed.stage.folder);
	free(parsed.stage.out);
	free(parsed.stage.state);
	return code;
}
