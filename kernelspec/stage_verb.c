/*
 * stage_verb: the words and options of `cellwall stage`; what each does is in stage_*.c.
 */
#include <argp.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "kernelspec/actions.h"
#include "kernelspec/files.h"
#include "kernelspec/stage.h"
#include "kernelspec/verbs.h"
#include "sandbox/staging.h"

/* In one order: what each takes, and what it does. */
static const struct action actions[] = {
	{"add", 1, 10000, "a PATH", 0, 0},
	{"list", 0, 0, NULL, STAGE_ALL | STAGE_JSON, 0},
	{"drop", 1, 10000, "a NAME, --all or --gone", STAGE_ALL | STAGE_GONE,
	 STAGE_ALL | STAGE_GONE},
	{"ls", 0, 0, NULL, STAGE_ALL | STAGE_JSON | STAGE_KERNEL | STAGE_REMOTE, 0},
	{"diff", 0, 10000, NULL, STAGE_ALL | STAGE_JSON | STAGE_KERNEL, 0},
	{"get", 1, 10000, "a PATH", STAGE_KERNEL | STAGE_OUTPUT | STAGE_REMOTE, 0},
	{"put", 1, 2, "a FILE", STAGE_KERNEL | STAGE_REMOTE, 0},
	{"status", 0, 0, NULL, STAGE_JSON, 0},
	{"recover", 0, 0, NULL, STAGE_ALL | STAGE_DRY_RUN, 0},
	{NULL, 0, 0, NULL, 0, 0},
};

static int (*const deeds[])(const struct stage *stage) = {
	stage_add, stage_list, stage_drop,   stage_ls,	    stage_diff,
	stage_get, stage_put,  stage_status, stage_recover,
};

_Static_assert(sizeof(actions) / sizeof(actions[0]) == sizeof(deeds) / sizeof(deeds[0]) + 1,
	       "each action does something");

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
	"add      let the kernels of this folder see a file or folder, read-only,\n"
	"         under the name it has beside the notebook (\".\": all that is not\n"
	"         hidden; NAME=/abs/path: under another name)\n"
	"list     show what was added\n"
	"drop     take it back\n"
	"ls       sizes and origin of what is staged, and what each running kernel made\n"
	"diff     what running kernels have that is not in staging/out as it is\n"
	"get      copy a file out of a running kernel's /work, to here or to --output\n"
	"put      copy a file into a running kernel's /work; nothing is replaced\n"
	"status   show results that are waiting, and for which folder\n"
	"recover  bring in what belongs to staging/out of the present folder (the next\n"
	"         kernel in that folder does so too)\n\n"
	"With --server ls, get and put are about the areas of a cellwall serve: put writes below "
	"in, where kernels read it; get reads in/PATH and out/PATH, a file or a folder. What was "
	"cut off goes on with the same command.\n\n"
	"Kernels see what was added from their next start on. It is recorded in your state "
	"directory, never in the folder, and bounded by the policy's stage.may_add.\n\n"
	"Exit codes: 0 done (diff: whether something differs or not), 1 it could not be done, 2 "
	"wrong usage.";

enum { OPTION_SERVER = 256, OPTION_AREA, OPTION_TOKEN, OPTION_CA, OPTION_CERT, OPTION_KEY };

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
	{"cert", OPTION_CERT, "FILE", 0,
	 "with --server: be known by this client certificate (PEM), instead of a token", 1},
	{"key", OPTION_KEY, "FILE", 0,
	 "with --cert: its private key is in this file (0600), else in the certificate's", 1},
	{0},
};

struct parsed {
	struct stage stage;
	const struct action *action; /* NULL: no word yet */
	size_t place;		     /* of it */
};

/* Does what was given about a server go together? argp_error(3) does not return. */
static void check_remote(unsigned given, struct argp_state *state)
{
	if ((given & STAGE_REMOTE) && !(given & STAGE_SERVER))
		argp_error(state, "--area, --token-file, --ca, --cert and --key are for --server");
	else if ((given & STAGE_SERVER) && (given & STAGE_ALL))
		argp_error(state, "--server: without --area ls shows all areas");
	else if ((given & STAGE_AREA) && (given & STAGE_KERNEL))
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
	case OPTION_CERT:
	case OPTION_KEY:
		stage->options |= STAGE_ACCESS;
		return 0;
	case ARGP_KEY_ARG:
		if (!parsed->action) {
			parsed->place = actions_find(actions, argument, state);
			parsed->action = &actions[parsed->place];
			return 0;
		}
		stage->words[stage->count++] = argument;
		return 0;
	case ARGP_KEY_END:
		actions_check(actions, parsed->action, stage->options, stage->count, state);
		check_remote(stage->options, state);
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
		code = deeds[parsed.place](&parsed.stage);
	free(parsed.stage.words);
	free(parsed.stage.folder);
	free(parsed.stage.out);
	free(parsed.stage.state);
	return code;
}
