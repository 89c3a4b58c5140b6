/*
 * cellwall: the verbs, in one table.
 */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "kernelspec/verbs.h"
#include "sandbox/base.h"
#include "sandbox/log.h"

static int verb_version(int argc, char **argv);
static int verb_help(int argc, char **argv);

static const struct verb {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *doc;
} verbs[] = {
	{"kernel", verb_kernel, "run one kernel behind the wall (what a kernelspec calls)"},
	{"install", verb_install, "make a kernelspec for an isolated kernel"},
	{"list", verb_list, "show the isolated kernelspecs"},
	{"remove", verb_remove, "remove an isolated kernelspec"},
	{"stage", verb_stage, "what kernels see of a folder, and what they made"},
	{"env", verb_env, "environments for kernels: built apart, sealed, run without a network"},
	{"log", verb_log, "what happened in kernels: cells, and what was blocked or refused"},
	{"serve", verb_serve, "kernels for other programs, users and hosts through one port"},
	{"key", verb_key, "the keys of a link between a notebook server and its kernels' host"},
	{"policy", verb_policy, "check a policy file, show the effective one"},
	{"doctor", verb_doctor, "what this host can give, and how to get what is missing"},
	{"version", verb_version, "print the version"},
	{"help", verb_help, "print this"},
};

static int verb_version(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	printf("cellwall %s\n", CELLWALL_VERSION);
	return 0;
}

static void print_usage(FILE *to)
{
	fprintf(to, "Usage: cellwall VERB [OPTION...]\n"
		    "Jupyter kernels behind a wall: no network, no files but what is staged.\n\n");
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		fprintf(to, "  %-10s %s\n", verbs[i].name, verbs[i].doc);
	fprintf(to, "\n`cellwall VERB --help` tells more; man 1 cellwall tells all.\n");
}

static int verb_help(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	print_usage(stdout);
	return 0;
}

static const struct verb *find_verb(const char *name)
{
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
		name = "help";
	if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
		name = "version";
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

int main(int argc, char **argv)
{
	const struct verb *verb = argc > 1 ? find_verb(argv[1]) : NULL;
	cleanup(free_ptr) char *name = NULL;
	char escaped[128];
	int code, failed;

	log_setup("cellwall", LOG_LEVEL_WARNING);
	if (argc < 2) {
		print_usage(stderr);
		return EXIT_USAGE;
	}
	if (!verb) {
		fprintf(stderr, "cellwall: there is no verb \"%s\"; `cellwall help` lists them\n",
			escape_string(escaped, sizeof(escaped), argv[1]));
		return EXIT_USAGE;
	}
	name = format_string("cellwall %s", verb->name);
	if (!name)
		return 1;
	argv[1] = name;
	argp_err_exit_status = EXIT_USAGE;
	code = verb->run(argc - 1, argv + 1);
	failed = fflush(stdout) != 0 ? errno : 0;
	/* What an earlier write failed with is not kept. */
	if (failed == 0 && ferror(stdout))
		failed = EIO;
	if (failed != 0) {
		fprintf(stderr, "%s: its output cannot be written: %s\n", name,
			strerrordesc_np(failed));
		code = code == 0 ? 1 : code;
	}
	return code;
}
