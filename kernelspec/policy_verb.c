#include <argp.h>
#include <string.h>

#include "kernelspec/verbs.h"
#include "proxy/policy.h"

struct options {
	const char *action;
	const char *file;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;

	switch (key) {
	case ARGP_KEY_ARG:
		if (!options->action)
			options->action = arg;
		else if (!options->file)
			options->file = arg;
		else
			argp_error(state, "%s is one word too many", arg);
		return 0;
	case ARGP_KEY_END:
		if (!options->action ||
		    (strcmp(options->action, "check") != 0 && strcmp(options->action, "show") != 0))
			argp_error(state, "say `check FILE` or `show [FILE]`");
		else if (strcmp(options->action, "check") == 0 && !options->file)
			argp_error(state, "check needs a FILE");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp parser = {
	.parser = parse,
	.args_doc = "check FILE\nshow [FILE]",
	.doc = "Check a policy file, or show the policy that is in effect with it (without FILE: "
	       "the default).\v"
	       "A policy is one JSON object; everything in it is optional:\n\n"
	       "  { \"stage\":     { \"in\": [\"data\", \"set=/srv/set\"], \"may_add\": [\".\"],\n"
	       "                   \"out_limit\": \"2G\", \"caches\": [\"huggingface\"] },\n"
	       "    \"env\":       { \"keep\": [\"LANG\", \"TZ\"] },\n"
	       "    \"resources\": { \"memory\": \"4G\", \"cpus\": 2, \"idle_timeout\": \"2h\" },\n"
	       "    \"outputs\":   { \"mode\": \"static\" },\n"
	       "    \"install\":   \"deny\" }\n\n"
	       "`cellwall policy show` prints every key with its default; "
	       "share/cellwall/doc/policy.md describes them. "
	       "An unknown key is an error, with its line and column.",
};

static int show(const struct policy *policy)
{
	cleanup(free_ptr) char *text = policy_show(policy);

	if (!text) {
		fprintf(stderr, "cellwall policy: out of memory\n");
		return 1;
	}
	printf("%s\n", text);
	return 0;
}

int verb_policy(int argc, char **argv)
{
	struct options options = {0};
	struct policy policy;
	struct err err = {0};
	int code;

	argp_err_exit_status = 2;
	if (argp_parse(&parser, argc, argv, 0, NULL, &options) != 0)
		return 2;
	if (options.file)
		code = policy_read(options.file, &policy, &err);
	else
		code = policy_default(&policy) < 0 ? err_set(&err, -1, "out of memory") : 0;
	if (code < 0) {
		fprintf(stderr, "cellwall policy: %s\n", err.text);
		return 1;
	}
	if (strcmp(options.action, "show") == 0) {
		code = show(&policy);
	} else {
		printf("%s: ok\n", options.file);
	}
	policy_done(&policy);
	return code;
}
