/*
 * cellwall-remote: executed by `cellwall stage` with its own arguments when --server is among them
 * (stage_verb.c has looked at them by then; --help is there).
 */
#include <argp.h>
#include <signal.h>
#include <string.h>

#include "kernelspec/remote.h"
#include "kernelspec/verbs.h"

enum { SERVER = 256, AREA, TOKEN_FILE, CA, CERT, KEY };

static const struct argp_option options[] = {
	{"server", SERVER, "URL", 0, "the cellwall serve that has the areas", 0},
	{"area", AREA, "NAME", 0, "the area", 0},
	{"token-file", TOKEN_FILE, "FILE", 0, "the token", 0},
	{"ca", CA, "FILE", 0, "certificates that the server's is checked with", 0},
	{"cert", CERT, "FILE", 0, "the client's certificate", 0},
	{"key", KEY, "FILE", 0, "its private key", 0},
	{"kernel", 'k', "ID", 0, "the area of this kernel", 0},
	{"output", 'o', "DIR", 0, "get: copy to this directory", 0},
	{"json", 'j', NULL, 0, "ls: as JSON", 0},
	{0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	struct remote *remote = state->input;

	switch (key) {
	case SERVER:
		remote->server = argument;
		return 0;
	case AREA:
		remote->area = argument;
		return 0;
	case TOKEN_FILE:
		remote->token_file = argument;
		return 0;
	case CA:
		remote->ca = argument;
		return 0;
	case CERT:
		remote->cert = argument;
		return 0;
	case KEY:
		remote->key = argument;
		return 0;
	case 'k':
		remote->kernel = argument;
		return 0;
	case 'o':
		remote->output = argument;
		return 0;
	case 'j':
		remote->json = true;
		return 0;
	case ARGP_KEY_ARGS:
		remote->action = state->argv[state->next];
		remote->words = state->argv + state->next + 1;
		remote->count = (size_t)(state->argc - state->next - 1);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp parser = {options, parse_option, "ls|get|put", NULL, NULL, NULL, NULL};

static int run(struct remote *remote)
{
	if (strcmp(remote->action, "ls") == 0)
		return remote_ls(remote);
	if (strcmp(remote->action, "get") == 0)
		return remote_get(remote);
	return remote_put(remote);
}

int main(int argc, char **argv)
{
	struct remote remote = {0};
	struct err err;
	int code;

	argp_err_exit_status = EXIT_USAGE;
	if (argp_parse(&parser, argc, argv, 0, NULL, &remote) != 0 || !remote.server ||
	    !remote.action)
		return EXIT_USAGE;
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR ||
	    curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return stage_fail("out of memory");
	code = remote_open(&remote, &err) < 0 ? stage_fail("%s", err.text) : run(&remote);
	remote_close(&remote);
	curl_global_cleanup();
	return code;
}
