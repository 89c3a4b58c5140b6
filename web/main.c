/*
 * cellwall-serve: the options of `cellwall serve`, in one table, and nothing else.
 */
#include <argp.h>
#include <stddef.h>
#include <string.h>

#include "sandbox/base.h"
#include "web/eventlog.h"
#include "web/link.h"
#include "web/listen.h"
#include "web/server.h"

#define EXIT_USAGE 2

enum kind { TEXT, LIST, NUMBER, SIZE, FLAG };

/* One line for each option: where it goes, and what --help says. */
static const struct setting_option {
	const char *name;
	const char *arg;
	enum kind kind;
	size_t offset;
	size_t most; /* of a list: entries */
	const char *doc;
} options[] = {
#define OPTION(name, arg, kind, member, most, doc)                                                 \
	{                                                                                          \
		name, arg, kind, offsetof(struct settings, member), most, doc                      \
	}
	OPTION("listen", "URL", LIST, listen, LISTEN_MAX,
	       "https://ADDRESS:PORT, http://127.0.0.1:PORT, unix:PATH or curve://ADDRESS:PORT "
	       "(repeatable; default: http://127.0.0.1:8890)"),
	OPTION("certificate", "FILE", TEXT, certificate, 0,
	       "for https://: the certificate and its chain, PEM; read again on SIGHUP"),
	OPTION("private-key", "FILE", TEXT, private_key, 0, "the certificate's key, PEM"),
	OPTION("self-signed", NULL, FLAG, self_signed, 0,
	       "for a trial: make a certificate, and a token if there is no token file"),
	OPTION("client-ca", "FILE", TEXT, client_ca, 0,
	       "clients may show a certificate of these authorities (PEM); a user's "
	       "\"certificate\" is its common name"),
	OPTION("token-file", "FILE", TEXT, token_file, 0,
	       "one token, or JSON with users, their tokens and quotas (default: the credential "
	       "\"token\"); read again on SIGHUP"),
	OPTION("hub-api", "URL", TEXT, hub_api, 0,
	       "a JupyterHub's API that knows its users' tokens (http://127.0.0.1:8081/hub/api)"),
	OPTION("hub-scopes", "JSON", TEXT, hub_scopes, 0,
	       "a list of scopes; a Hub's token needs one of them (default: what the Hub put in "
	       "JUPYTERHUB_OAUTH_ACCESS_SCOPES)"),
	OPTION("base-url", "PATH", TEXT, base_url, 0,
	       "everything is below this path, as a proxy passes it on"),
	OPTION("trusted-proxy", "ADDRESS", LIST, trusted_proxy, NAMES_MAX,
	       "believe its X-Forwarded-For and X-Forwarded-Proto (repeatable)"),
	OPTION("allow-host", "NAME", LIST, allow_host, NAMES_MAX,
	       "one more name of this server (repeatable); the certificate's and this host's are "
	       "known, and --self-signed makes it for this one too"),
	OPTION("allow-origin", "ORIGIN", LIST, allow_origin, NAMES_MAX,
	       "pages of this origin may ask (https://NAME:PORT; repeatable)"),
	OPTION("kernelspec", "NAME", LIST, kernelspec, NAMES_MAX,
	       "a kernelspec that may be started (repeatable; default: all that run behind the "
	       "wall)"),
	OPTION("default-kernel", "NAME", TEXT, default_kernel, 0,
	       "the one to start without a name"),
	OPTION("allow-env", "NAME", LIST, allow_env, NAMES_MAX,
	       "a variable of a request that its kernel gets (repeatable)"),
	OPTION("max-kernels", "N", NUMBER, max_kernels, 0, "kernels in all (default: 64)"),
	OPTION("max-kernels-per-user", "N", NUMBER, max_user_kernels, 0,
	       "where the token file says nothing (default: 0, no limit)"),
	OPTION("cull-idle", "SECONDS", NUMBER, cull_idle, 0,
	       "stop kernels that were idle so long (default: 0, never)"),
	OPTION("cull-connected", NULL, FLAG, cull_connected, 0,
	       "even when a client is connected to them"),
	OPTION("cull-busy", NULL, FLAG, cull_busy, 0, "idle or not: even when they compute"),
	OPTION("cull-interval", "SECONDS", NUMBER, cull_interval, 0,
	       "between two looks (default: 30)"),
	OPTION("start-timeout", "SECONDS", NUMBER, start_timeout, 0,
	       "a kernel has so long to answer (default: 60)"),
	OPTION("link-keys", "DIR", TEXT, keys, 0,
	       "for curve://: the directory of `cellwall key allow`"),
	OPTION("link-keep", "SECONDS", NUMBER, link_keep, 0,
	       "keep the kernels of a link's client that stays away (default: 3600)"),
	OPTION("area-limit", "SIZE", SIZE, area_limit, 0,
	       "bytes of one user's staging areas, 2G for example (default: 2G)"),
	OPTION("max-connections", "N", NUMBER, max_connections, 0,
	       "connections at a time; idle ones make room (default: 4096)"),
	OPTION("data", "DIR", TEXT, data, 0,
	       "staging areas and the trial's certificate (default: cellwall/serve in the user's "
	       "data directory)"),
	OPTION("runtime", "DIR", TEXT, runtime, 0,
	       "kernels' sockets (default: in the user's runtime directory)"),
#undef OPTION
};
#define OPTIONS	  (sizeof(options) / sizeof(options[0]))
#define FIRST_KEY 256
#define LOG_KEY	  (FIRST_KEY + (int)OPTIONS)
#define FORM_KEY  (LOG_KEY + 1)

static int parse_size(const char *text, uint64_t *ret_size)
{
	size_t digits = strspn(text, "0123456789");
	const char *units = "KMGT", *unit = text + digits;
	char number[24] = "";
	unsigned shift = 0;

	if (digits >= sizeof(number))
		return -1;
	memcpy(number, text, digits);
	if (*unit) {
		const char *found = strchr(units, *unit);

		if (!found || unit[1])
			return -1;
		shift = 10 * (unsigned)(found - units + 1);
	}
	if (parse_u64(number, UINT64_MAX >> shift, ret_size) < 0)
		return -1;
	*ret_size <<= shift;
	return 0;
}

/* A list's value, before anything is opened: what could never be meant is a slip. */
static void check_value(const char *name, const char *text, struct argp_state *state)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_";
	const char *rest = strstr(text, "://");
	char number[64];
	const bool is_number = listen_number(text, number);

	if (strcmp(name, "trusted-proxy") == 0 && !is_number && strcmp(text, "unix") != 0)
		argp_error(state, "--%s %s: an address in numbers is needed, such as 127.0.0.1",
			   name, text);
	if (strcmp(name, "allow-host") == 0 && text[0] == '[')
		argp_error(state, "--%s %s: an address is written without brackets", name, text);
	if (strcmp(name, "allow-host") == 0 && strchr(text, '*'))
		argp_error(state, "--%s %s: a whole name is needed, there are no wildcards", name,
			   text);
	if (strcmp(name, "allow-host") == 0 && !is_number &&
	    (!*text || text[strcspn(text, "/:, \t")]))
		argp_error(state, "--%s %s: a name alone is needed, such as hub.example.org", name,
			   text);
	if (strcmp(name, "allow-origin") == 0 &&
	    (!rest || rest == text || !rest[3] || strpbrk(rest + 3, "/*")))
		argp_error(state, "--%s %s: https://NAME or https://NAME:PORT is needed", name,
			   text);
	if (strcmp(name, "allow-env") == 0 && (!*text || text[strspn(text, letters)]))
		argp_error(state, "--%s %s: the name of a variable is needed", name, text);
}

static void take(const struct setting_option *option, struct settings *settings, char *arg,
		 struct argp_state *state)
{
	static char proxies[NAMES_MAX][64]; /* written as a peer's address will be */
	void *target = (char *)settings + option->offset;
	uint64_t number = 0;

	switch (option->kind) {
	case TEXT:
		*(const char **)target = arg;
		return;
	case LIST: {
		const char **list = target;
		size_t count = 0;

		while (list[count])
			count++;
		if (count == option->most)
			argp_error(state, "--%s: at most %zu of them", option->name, option->most);
		check_value(option->name, arg, state);
		list[count] = arg;
		if (target == settings->trusted_proxy && listen_number(arg, proxies[count]))
			list[count] = proxies[count];
		return;
	}
	case FLAG:
		*(bool *)target = true;
		return;
	case SIZE:
		if (parse_size(arg, &number) < 0)
			argp_error(state, "--%s %s: a number of bytes, or 2G", option->name, arg);
		break;
	default:
		if (parse_u64(arg, 1000000000, &number) < 0)
			argp_error(state, "--%s %s: a whole number is needed", option->name, arg);
	}
	*(uint64_t *)target = number;
}

static void set_log(const char *level, struct argp_state *state)
{
	if (strcmp(level, "warning") == 0)
		log_setup("cellwall-serve", LOG_LEVEL_WARNING);
	else if (strcmp(level, "info") == 0)
		log_setup("cellwall-serve", LOG_LEVEL_INFO);
	else if (strcmp(level, "debug") == 0)
		log_setup("cellwall-serve", LOG_LEVEL_DEBUG);
	else
		argp_error(state, "--log %s: warning, info or debug", level);
}

static void set_log_format(const char *form, struct argp_state *state)
{
	if (strcmp(form, "json") == 0)
		eventlog_as_json();
	else if (strcmp(form, "text") != 0)
		argp_error(state, "--log-format %s: text or json", form);
}

/* Without slashes at its end; "/" alone is no path. */
static void trim_base_url(char *path, struct argp_state *state)
{
	char *end = path + strlen(path);

	while (end > path && end[-1] == '/')
		*--end = '\0';
	if (*path && *path != '/')
		argp_error(state, "--base-url: it begins with \"/\"");
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct settings *settings = state->input;

	switch (key) {
	case LOG_KEY:
		set_log(arg, state);
		return 0;
	case FORM_KEY:
		set_log_format(arg, state);
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "%s: there is nothing but options", arg);
		return ARGP_ERR_UNKNOWN;
	case ARGP_KEY_END:
		/* From the command line, which may be written to (C17, 5.1.2.2.1). */
		trim_base_url((char *)(uintptr_t)settings->base_url, state);
		return 0;
	default:
		if (key < FIRST_KEY || key >= LOG_KEY)
			return ARGP_ERR_UNKNOWN;
		take(&options[key - FIRST_KEY], settings, arg, state);
		return 0;
	}
}

int main(int argc, char **argv)
{
	static struct argp_option table[OPTIONS + 3];
	static const struct argp parser = {
		table,
		parse_option,
		"",
		"Run isolated Jupyter kernels for other programs, users and hosts, through one "
		"port: a gateway for JupyterLab (--gateway-url), VS Code and whatever speaks "
		"Jupyter's kernels API, and a page that shows what they do.\v"
		"Without options: http://127.0.0.1:8890 for this host's programs, with a token "
		"that "
		"is made for this run.",
		NULL,
		NULL,
		NULL};
	char base[] = "";
	struct settings settings = {.base_url = base,
				    .max_kernels = 64,
				    .max_connections = 4096,
				    .start_timeout = 60,
				    .link_keep = LINK_KEEP,
				    .hub_scopes = getenv("JUPYTERHUB_OAUTH_ACCESS_SCOPES"),
				    .area_limit = 2ull << 30};

	for (size_t i = 0; i < OPTIONS; i++)
		table[i] = (struct argp_option){.name = options[i].name,
						.key = FIRST_KEY + (int)i,
						.arg = options[i].arg,
						.doc = options[i].doc};
	table[OPTIONS] =
		(struct argp_option){.name = "log",
				     .key = LOG_KEY,
				     .arg = "LEVEL",
				     .doc = "warning, info (default), or debug: each request"};
	table[OPTIONS + 1] =
		(struct argp_option){.name = "log-format",
				     .key = FORM_KEY,
				     .arg = "FORM",
				     .doc = "text (default): event=NAME key=value …; json: an "
					    "object in each line"};
	log_setup("cellwall-serve", LOG_LEVEL_INFO);
	argp_err_exit_status = EXIT_USAGE;
	if (argp_parse(&parser, argc, argv, 0, NULL, &settings) != 0)
		return EXIT_USAGE;
	if (!settings.listen[0])
		settings.listen[0] = "http://127.0.0.1:8890";
	return server_serve(&settings);
}
