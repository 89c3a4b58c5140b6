/*
 * env_verb: the words and options of `cellwall env`; what each does is in env_*.c.
 */
#include <argp.h>
#include <stdarg.h>
#include <string.h>

#include "kernelspec/actions.h"
#include "kernelspec/env.h"
#include "kernelspec/verbs.h"

#define MAKING (ENV_FILE | ENV_HOST | ENV_QUIET | ENV_POLICY | ENV_UV)

/* In one order: what each takes, and what it does. */
static const struct action actions[] = {
	{"create", 0, 10000, NULL, MAKING | ENV_PYTHON | ENV_BARE | ENV_LOCK, 0},
	{"list", 0, 0, NULL, ENV_JSON, 0},
	{"show", 0, 1, NULL, ENV_JSON | ENV_LOCK | ENV_SBOM, 0},
	{"update", 0, 10000, NULL, MAKING | ENV_PYTHON, 0},
	{"verify", 0, 1, NULL, 0, 0},
	{"diff", 0, 2, NULL, 0, 0},
	{"audit", 0, 1, NULL, ENV_JSON | ENV_ADVISORIES, 0},
	{"usage", 0, 0, NULL, ENV_JSON, 0},
	{"rollback", 0, 1, NULL, 0, 0},
	{"export", 1, 1, "a FILE", 0, 0},
	{"import", 1, 1, "a FILE", 0, 0},
	{"remove", 0, 0, NULL, 0, 0},
	{"gc", 0, 0, NULL, 0, 0},
	{NULL, 0, 0, NULL, 0, 0},
};

static const struct {
	int (*run)(const struct env *env);
	bool named; /* the first word is the name of an environment */
} deeds[] = {
	{env_create, true},   {env_list, false},  {env_show, true},   {env_update, true},
	{env_verify, true},   {env_diff, true},	  {env_audit, true},  {env_usage, true},
	{env_rollback, true}, {env_export, true}, {env_import, true}, {env_remove, true},
	{env_gc, false},
};

_Static_assert(sizeof(actions) / sizeof(actions[0]) == sizeof(deeds) / sizeof(deeds[0]) + 1,
	       "each action does something");

static const char words[] = "create NAME [PACKAGE...]\n"
			    "list\n"
			    "show NAME [GENERATION]\n"
			    "update NAME [PACKAGE...]\n"
			    "verify NAME [GENERATION]\n"
			    "diff NAME [GENERATION [GENERATION]]\n"
			    "audit NAME [GENERATION] --advisories FILE\n"
			    "usage NAME\n"
			    "rollback NAME [GENERATION]\n"
			    "export NAME FILE\n"
			    "import NAME FILE\n"
			    "remove NAME\n"
			    "gc";

static const char doc[] =
	"Environments for kernels: installed with a network and without data, sealed, and run with "
	"data and without a network.\v"
	"create    install packages behind a wall of its own, with only the package\n"
	"          index in reach, and seal what was installed (ipykernel is added)\n"
	"list      show the environments\n"
	"show      show the packages of one, and what its build reached\n"
	"update    build it anew with newer or more packages; the last three\n"
	"          generations are kept\n"
	"verify    compare every byte with what was sealed\n"
	"diff      show which packages differ between two generations (default: the\n"
	"          last two)\n"
	"audit     look its packages up in a database of advisories (OSV format)\n"
	"usage     show what its kernels said that they imported, as the smallest\n"
	"          requirements that bring it\n"
	"rollback  take an earlier generation again\n"
	"export    write one to a file; import reads it, on this host or another\n"
	"remove    take it away; kernels that run keep it until they end\n"
	"gc        remove what no environment and no kernel needs any more\n\n"
	"What to install from is what pip's configuration says (pip.conf, PIP_INDEX_URL, ...). "
	"Make "
	"a kernel of it with cellwall install --env NAME.\n\n"
	"Exit codes: 0 done (verify: as sealed; diff: the same; audit: nothing found), 1 it could "
	"not be done, verify or diff found a difference or audit an advisory, 2 wrong usage.";

enum { KEY_HOST = 256, KEY_BARE, KEY_LOCK, KEY_SBOM, KEY_ADVISORIES, KEY_POLICY, KEY_UV };

static const struct argp_option options[] = {
	{"python", 'p', "PATH", 0, "create, update: the Python to build with (default: python3)",
	 0},
	{"requirement", 'r', "FILE", 0, "create, update: a requirements file instead of words", 0},
	{"allow-host", KEY_HOST, "URL", 0,
	 "create, update: a host that may be reached besides the index", 0},
	{"policy", KEY_POLICY, "FILE", 0,
	 "create, update: a policy, of which build and resources count", 0},
	{"uv", KEY_UV, NULL, 0, "create, update: uv resolves and installs, not pip", 0},
	{"no-kernel", KEY_BARE, NULL, 0, "create: without ipykernel", 0},
	{"lock", KEY_LOCK, NULL, 0,
	 "show: print the requirements with hashes; create: -r FILE is such a file", 0},
	{"sbom", KEY_SBOM, NULL, 0, "show: print a CycloneDX bill of materials", 0},
	{"advisories", KEY_ADVISORIES, "FILE", 0,
	 "audit: a file, a zip file or a directory of advisories", 0},
	{"quiet", 'q', NULL, 0, "create, update: show the build's output only when it fails", 0},
	{"json", 'j', NULL, 0, "list, show, audit, usage: as JSON", 0},
	{0},
};

struct parsed {
	struct env env;
	const struct action *action; /* NULL: no word yet */
	size_t place;		     /* of it */
};

/* argp_error(3) does not return. */
static void check(const struct parsed *parsed, struct argp_state *state)
{
	const struct env *env = &parsed->env;
	const struct action *action = parsed->action;

	if (action && deeds[parsed->place].named && !env->name)
		argp_error(state, "%s needs the NAME of an environment", action->name);
	actions_check(actions, action, env->options, env->count, state);
	if (env->file && env->count > 0)
		argp_error(state, "packages as words, or -r FILE, not both");
	else if ((env->options & ENV_LOCK) && deeds[parsed->place].run == env_create && !env->file)
		argp_error(state, "--lock needs -r FILE");
	else if (deeds[parsed->place].run == env_audit && !env->advisories)
		argp_error(state, "audit needs --advisories FILE");
}

static void take_word(struct parsed *parsed, char *word, struct argp_state *state)
{
	if (!parsed->action) {
		parsed->place = actions_find(actions, word, state);
		parsed->action = &actions[parsed->place];
	} else if (deeds[parsed->place].named && !parsed->env.name) {
		parsed->env.name = word;
	} else {
		parsed->env.words[parsed->env.count++] = word;
	}
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	struct parsed *parsed = state->input;
	struct env *env = &parsed->env;

	switch (key) {
	case 'p':
		env->options |= ENV_PYTHON;
		env->python = argument;
		return 0;
	case 'r':
		env->options |= ENV_FILE;
		env->file = argument;
		return 0;
	case 'q':
		env->options |= ENV_QUIET;
		return 0;
	case 'j':
		env->options |= ENV_JSON;
		return 0;
	case KEY_HOST:
		env->options |= ENV_HOST;
		if (paths_list_add(&env->hosts, argument) < 0)
			argp_error(state, "too many hosts");
		return 0;
	case KEY_BARE:
		env->options |= ENV_BARE;
		return 0;
	case KEY_LOCK:
		env->options |= ENV_LOCK;
		return 0;
	case KEY_ADVISORIES:
		env->options |= ENV_ADVISORIES;
		env->advisories = argument;
		return 0;
	case KEY_POLICY:
		env->options |= ENV_POLICY;
		env->policy = argument;
		return 0;
	case KEY_UV:
		env->options |= ENV_UV;
		return 0;
	case KEY_SBOM:
		env->options |= ENV_SBOM;
		return 0;
	case ARGP_KEY_ARG:
		take_word(parsed, argument, state);
		return 0;
	case ARGP_KEY_END:
		check(parsed, state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp parser = {options, parse_option, words, doc, NULL, NULL, NULL};

int env_fail(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "cellwall env: ");
	va_start(args, format);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fputc('\n', stderr);
	return 1;
}

int verb_env(int argc, char **argv)
{
	cleanup(free_ptr) char **list = calloc((size_t)argc + 1, sizeof(*list));
	struct parsed parsed = {.env.words = list};
	int code;

	if (!list)
		return env_fail("out of memory");
	argp_err_exit_status = EXIT_USAGE;
	if (argp_parse(&parser, argc, argv, 0, NULL, &parsed) != 0)
		return EXIT_USAGE;
	code = deeds[parsed.place].run(&parsed.env);
	paths_list_done(&parsed.env.hosts);
	return code;
}
