/*
 * cellwall-link: what `cellwall kernel --host curve://HOST:PORT` becomes. Its options, and the plan
 * for near.h.
 */
#include <argp.h>
#include <errno.h>
#include <string.h>

#include <jansson.h>

#include "proxy/keys.h"
#include "sandbox/log.h"
#include "web/near.h"

#define EXIT_USAGE    2
#define SCHEME	      "curve://"
#define VARIABLES_MAX 64

struct options {
	const char *connection_file;
	const char *host;
	const char *host_key;
	const char *key;
	const char *kernel;
	const char *area;
	const char *setenv[VARIABLES_MAX];
	size_t setenvs;
};

enum { OPTION_HOST = 256, OPTION_HOST_KEY, OPTION_KEY, OPTION_KERNEL, OPTION_AREA, OPTION_SETENV };

static const struct argp_option option_table[] = {
	{"connection-file", 'f', "FILE", 0, "the connection file that the client wrote", 0},
	{"f", 'f', NULL, OPTION_ALIAS, NULL, 0},
	{"host", OPTION_HOST, SCHEME "HOST:PORT", 0,
	 "the host that runs the kernel: `cellwall serve --listen " SCHEME "…` there", 0},
	{"host-key", OPTION_HOST_KEY, "FILE", 0, "the host's public key (see `cellwall key`)", 0},
	{"key", OPTION_KEY, "FILE", 0,
	 "this client's own key (default: ~/.config/cellwall/client.key_secret)", 0},
	{"host-kernel", OPTION_KERNEL, "NAME", 0,
	 "the kernelspec on the host (default: the host's first)", 0},
	{"host-area", OPTION_AREA, "NAME", 0, "the staging area on the host (default: default)", 0},
	{"setenv", OPTION_SETENV, "NAME=VALUE", 0,
	 "a variable for the kernel, if the host allows it (repeatable)", 0},
	{0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;
	uint16_t port;

	switch (key) {
	case 'f':
		options->connection_file = arg[0] == '=' ? arg + 1 : arg;
		return 0;
	case OPTION_HOST:
		if (strncmp(arg, SCHEME, strlen(SCHEME)) != 0 ||
		    near_name_port(arg + strlen(SCHEME), &port) < 0)
			argp_error(state, "--host %s: " SCHEME "HOST:PORT is needed", arg);
		options->host = arg + strlen(SCHEME);
		return 0;
	case OPTION_HOST_KEY:
		options->host_key = arg;
		return 0;
	case OPTION_KEY:
		options->key = arg;
		return 0;
	case OPTION_KERNEL:
		options->kernel = arg;
		return 0;
	case OPTION_AREA:
		options->area = arg;
		return 0;
	case OPTION_SETENV:
		if (options->setenvs == VARIABLES_MAX || arg[0] == '=' || !strchr(arg, '='))
			argp_error(state, "--setenv %s: NAME=VALUE is needed, at most %d of them",
				   arg, VARIABLES_MAX);
		options->setenv[options->setenvs++] = arg;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "%s: with --host the kernel's command is the host's to say", arg);
		return 0;
	case ARGP_KEY_END:
		if (!options->connection_file || !options->host || !options->host_key)
			argp_error(state, "-f CONNECTION_FILE, --host and --host-key are needed");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp parser = {
	option_table,
	parse_option,
	NULL,
	"Run one Jupyter kernel on another host, for the client that wrote the connection "
	"file, over one port and encrypted.\v"
	"Exit codes: 0 when a client or a signal ended it; 1 when there was no kernel, or it or "
	"its host was gone; 2 for wrong usage or a bad connection file.",
	NULL,
	NULL,
	NULL};

/* The order as JSON text (caller frees), or NULL with a reason. */
static char *make_order(const struct options *options, struct err *err)
{
	json_t *order = json_object();
	char *text = NULL;

	if (order && options->kernel)
		json_object_set_new(order, "kernel", json_string(options->kernel));
	if (order && options->area)
		json_object_set_new(order, "area", json_string(options->area));
	if (order && options->setenvs) {
		json_t *environment = json_object();

		for (size_t i = 0; environment && i < options->setenvs; i++) {
			const char *equals = strchr(options->setenv[i], '=');
			cleanup(free_ptr) char *name =
				strndup(options->setenv[i], (size_t)(equals - options->setenv[i]));

			if (name)
				json_object_set_new(environment, name, json_string(equals + 1));
		}
		json_object_set_new(order, "environment", environment);
	}
	if (order)
		text = json_dumps(order, JSON_COMPACT);
	json_decref(order);
	if (!text) {
		err_set(err, -ENOMEM, "out of memory");
	} else if (strlen(text) >= LINK_ORDER) {
		err_set(err, -E2BIG, "names and variables for the host are longer than %u bytes",
			LINK_ORDER);
		free_ptr(&text);
		text = NULL;
	}
	return text;
}

static int read_keys(const struct options *options, struct key *host_key, struct key *own_key,
		     struct err *err)
{
	cleanup(free_ptr) char *directory = NULL, *own = NULL;
	int code = keys_read(options->host_key, false, host_key, err);

	if (code == 0 && options->key)
		return keys_read(options->key, true, own_key, err);
	if (code == 0)
		code = keys_directory(NULL, &directory, err);
	if (code < 0)
		return code;
	own = path_join(directory, "client.key" KEYS_SECRET);
	return own ? keys_read(own, true, own_key, err) : err_set(err, -ENOMEM, "out of memory");
}

int main(int argc, char **argv)
{
	struct options options = {0};
	struct connection connection = {0};
	struct key host_key = {0}, own_key = {0};
	cleanup(free_ptr) char *order = NULL;
	struct near_plan plan;
	struct err err = {0};
	int code;

	log_setup("cellwall", LOG_LEVEL_WARNING);
	argp_err_exit_status = EXIT_USAGE;
	if (argp_parse(&parser, argc, argv, 0, NULL, &options) != 0)
		return EXIT_USAGE;
	if (connection_read(options.connection_file, &connection, &err) < 0) {
		log_error("%s", err.text);
		return EXIT_USAGE;
	}
	code = read_keys(&options, &host_key, &own_key, &err);
	if (code == 0) {
		order = make_order(&options, &err);
		code = order ? 0 : err.code;
	}
	plan = (struct near_plan){.connection = &connection,
				  .host = options.host,
				  .host_key = &host_key,
				  .own_key = &own_key,
				  .order = order,
				  .failure = code < 0 ? err.text : NULL};
	code = near_run(&plan);
	keys_done(&own_key);
	connection_done(&connection);
	return code;
}
