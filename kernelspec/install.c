#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "kernelspec/bytecode.h"
#include "kernelspec/environment.h"
#include "kernelspec/files.h"
#include "kernelspec/linked.h"
#include "kernelspec/plan.h"
#include "kernelspec/prefix.h"
#include "kernelspec/sealed.h"
#include "kernelspec/search.h"
#include "kernelspec/server.h"
#include "kernelspec/verbs.h"
#include "kernelspec/warm.h"
#include "kernelspec/wrap.h"
#include "proxy/policy.h"
#include "sandbox/spec.h"

#define LOCK_MAX (1u << 20)

enum place { PLACE_USER, PLACE_PREFIX, PLACE_SYS_PREFIX };

struct options {
	enum place place;
	const char *prefix;
	const char *name;
	const char *display_name;
	const char *python;
	const char *environment;
	bool verify;
	const char *policy;
	const char *wrap;
	const char *server_config; /* of --server-config: a directory, "" or "-"; NULL: no */
	bool shared_environment;
	struct linked linked; /* `host` is NULL: the kernel runs here */
};

enum {
	KEY_USER = 256,
	KEY_PREFIX,
	KEY_SYS_PREFIX,
	KEY_NAME,
	KEY_DISPLAY,
	KEY_PYTHON,
	KEY_ENV,
	KEY_VERIFY,
	KEY_POLICY,
	KEY_WRAP,
	KEY_SHARED,
	KEY_SERVER,
	KEY_HOST,
	KEY_HOST_KEY,
	KEY_OWN_KEY,
	KEY_HOST_KERNEL,
	KEY_HOST_AREA,
	KEY_LANGUAGE
};

static const struct argp_option known[] = {
	{NULL, 0, NULL, 0, "Where", 1},
	{"user", KEY_USER, NULL, 0, "For this account (default)", 1},
	{"prefix", KEY_PREFIX, "DIR", 0, "In DIR/share/jupyter/kernels", 1},
	{"sys-prefix", KEY_SYS_PREFIX, NULL, 0, "In the environment of the `jupyter` in PATH", 1},
	{NULL, 0, NULL, 0, "What", 2},
	{"python", KEY_PYTHON, "PATH", 0,
	 "The kernel's Python, with ipykernel (default: python3 in PATH)", 2},
	{"env", KEY_ENV, "NAME", 0, "Instead, a sealed environment (see cellwall env --help)", 2},
	{"verify", KEY_VERIFY, NULL, 0,
	 "With --env: compare every byte of it, and of what cells had installed, before each start",
	 2},
	{"wrap", KEY_WRAP, "KERNELSPEC", 0,
	 "Put an installed kernelspec behind the wall: its name, or its directory", 2},
	{"policy", KEY_POLICY, "FILE", 0,
	 "What the kernel may see and use (see cellwall policy --help)", 2},
	{"shared-environment", KEY_SHARED, NULL, 0,
	 "Accept that the notebook server runs packages of the kernel's environment, outside the "
	 "wall",
	 2},
	{"server-config", KEY_SERVER, "DIR", OPTION_ARG_OPTIONAL,
	 "Instead of a kernelspec, write the notebook server's headers against leaks, to DIR or "
	 "where --user, --prefix or --sys-prefix says; \"-\": print them",
	 2},
	{NULL, 0, NULL, 0, "What, on another host", 3},
	{"host", KEY_HOST, LINKED_SCHEME "HOST:PORT", 0,
	 "The kernel runs there, where `cellwall serve --listen " LINKED_SCHEME "…` listens", 3},
	{"host-key", KEY_HOST_KEY, "FILE", 0, "The host's public key (see cellwall key --help)", 3},
	{"key", KEY_OWN_KEY, "FILE", 0,
	 "This client's own (default: ~/.config/cellwall/client.key_secret)", 3},
	{"host-kernel", KEY_HOST_KERNEL, "NAME", 0, "The kernelspec there (default: its first)", 3},
	{"host-area", KEY_HOST_AREA, "NAME", 0, "The staging area there (default: default)", 3},
	{"language", KEY_LANGUAGE, "NAME", 0, "What that kernel speaks (default: python)", 3},
	{NULL, 0, NULL, 0, "How it is called", 4},
	{"name", KEY_NAME, "NAME", 0,
	 "Name of the kernelspec (default: python3-isolated, or python3-linked with --host)", 4},
	{"display-name", KEY_DISPLAY, "TEXT", 0,
	 "What the notebook shows (default: Python 3 (isolated))", 4},
	{0},
};

/* Options of a kernel on another host. */
static bool parse_linked(int key, char *arg, struct linked *linked)
{
	const char **member = key == KEY_HOST	       ? &linked->host
			      : key == KEY_HOST_KEY    ? &linked->host_key
			      : key == KEY_OWN_KEY     ? &linked->key
			      : key == KEY_HOST_KERNEL ? &linked->kernel
			      : key == KEY_HOST_AREA   ? &linked->area
			      : key == KEY_LANGUAGE    ? &linked->language
						       : NULL;

	if (member)
		*member = arg;
	return member;
}

static void check_linked(const struct options *options, struct argp_state *state)
{
	const struct linked *linked = &options->linked;

	if (linked->host && (options->python || options->environment || options->wrap ||
			     options->policy || options->shared_environment))
		argp_error(state, "with --host the Python, the environment and the policy are the "
				  "host's to say");
	if (!linked->host != !linked->host_key)
		argp_error(state, "--host and --host-key belong together");
	if (!linked->host && (linked->key || linked->kernel || linked->area || linked->language))
		argp_error(state, "--key, --host-kernel, --host-area and --language need --host");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;

	if (parse_linked(key, arg, &options->linked))
		return 0;

	switch (key) {
	case KEY_USER:
		options->place = PLACE_USER;
		break;
	case KEY_PREFIX:
		options->place = PLACE_PREFIX;
		options->prefix = arg;
		break;
	case KEY_SYS_PREFIX:
		options->place = PLACE_SYS_PREFIX;
		break;
	case KEY_NAME:
		options->name = arg;
		break;
	case KEY_DISPLAY:
		if (strpbrk(arg, "\n\r\x1b"))
			argp_error(state, "--display-name: one line of text is needed");
		options->display_name = arg;
		break;
	case KEY_PYTHON:
		options->python = arg;
		break;
	case KEY_ENV:
		options->environment = arg;
		break;
	case KEY_VERIFY:
		options->verify = true;
		break;
	case KEY_POLICY:
		options->policy = arg;
		break;
	case KEY_WRAP:
		options->wrap = arg;
		break;
	case KEY_SHARED:
		options->shared_environment = true;
		break;
	case KEY_SERVER:
		options->server_config = arg ? arg : "";
		break;
	case ARGP_KEY_ARG:
		argp_error(state, "%s is one word too many", arg);
		break;
	case ARGP_KEY_END:
		if (options->server_config &&
		    (options->python || options->environment || options->wrap || options->policy ||
		     options->name || options->display_name || options->shared_environment ||
		     options->linked.host))
			argp_error(state, "--server-config writes no kernelspec: give it alone, "
					  "with --prefix or with --sys-prefix");
		if (options->python && options->wrap)
			argp_error(state, "--python and --wrap exclude each other");
		if (options->environment && (options->python || options->wrap))
			argp_error(state, "--env stands alone: neither --python nor --wrap");
		check_linked(options, state);
		if (options->verify && !options->environment)
			argp_error(state, "--verify needs --env");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp parser = {
	.options = known,
	.parser = parse,
	.doc = "Install a kernelspec whose kernel runs behind the wall.\vA kernelspec of the same "
	       "name made by "
	       "cellwall is replaced; any other is left alone. Start JupyterLab, Notebook, VS Code "
	       "or papermill as "
	       "before and choose the new kernel.",
};

/* One command that gives this interpreter an ipykernel, or an environment of its own. */
static int say_no_ipykernel(const struct prefix *prefix, const struct environment *environment,
			    struct err *err)
{
	if (!environment->home && (strcmp(environment->root, "/usr") == 0 ||
				   strcmp(environment->root, "/usr/local") == 0))
		return err_set(err, -ENOENT,
			       "%s has no ipykernel: make an environment for the kernel with "
			       "python3 -m venv "
			       "~/kernel-env && ~/kernel-env/bin/pip install ipykernel, then "
			       "cellwall install --python "
			       "~/kernel-env/bin/python",
			       prefix->executable);
	return err_set(err, -ENOENT, "%s has no ipykernel: %s -m pip install ipykernel",
		       prefix->executable, prefix->executable);
}

static int check_python(const struct prefix *prefix, struct plan *plan, struct err *err)
{
	struct environment environment;
	int code = environment_read(prefix->executable, &environment, err);

	if (code < 0)
		return code;
	if (!environment_has(&environment, "ipykernel_launcher") &&
	    !environment_has(&environment, "ipykernel"))
		code = say_no_ipykernel(prefix, &environment, err);
	else if (environment.home && environment_prefix_has(environment.root, "jupyter_server"))
		plan_notice(plan,
			    "%s also holds a notebook server (jupyter_server): do not start a "
			    "server from there",
			    environment.root);
	environment_done(&environment);
	return code;
}

static bool has_ipykernel(const struct sealed *sealed)
{
	cleanup(free_ptr) char *path = path_join(sealed->directory, "lock"), *text = NULL;

	return path && read_file(AT_FDCWD, path, LOCK_MAX, &text, NULL, NULL) == 0 &&
	       strstr(text, "ipykernel==");
}

static int use_sealed(const struct options *options, struct plan *plan, struct prefix *ret_prefix,
		      struct err *err)
{
	struct sealed sealed;
	int code = sealed_find(options->environment, 0, true, &sealed, err);

	if (code < 0)
		return code;
	code = sealed_prefix(&sealed, INSIDE_ENVIRONMENT "/bin/python", ret_prefix, err);
	if (code == 0 && !has_ipykernel(&sealed))
		code = err_set(err, -ENOENT,
			       "the environment \"%s\" has no ipykernel: cellwall env update %s "
			       "ipykernel",
			       options->environment, options->environment);
	sealed_done(&sealed);
	plan->environment = strdup(options->environment);
	plan->verify = options->verify;
	if (code == 0 && !plan->name)
		plan->name = strdup(options->environment);
	if (code == 0 && !plan->display_name)
		plan->display_name = format_string("%s (isolated)", options->environment);
	return code < 0 || plan->environment ? code : err_set(err, -ENOMEM, "out of memory");
}

static int plan_python(const struct options *options, struct plan *plan, struct prefix *ret_prefix,
		       struct err *err)
{
	static const char *const command[] = {"-m", "ipykernel_launcher", "-f",
					      "{inner_connection_file}"};
	int code;

	if (options->environment) {
		code = use_sealed(options, plan, ret_prefix, err);
	} else {
		code = prefix_find(options->python ? options->python : "python3", ret_prefix, err);
		if (code == 0)
			code = check_python(ret_prefix, plan, err);
	}
	if (code < 0)
		return code;
	if (!plan->name)
		plan->name = strdup("python3-isolated");
	if (!plan->display_name)
		plan->display_name = strdup("Python 3 (isolated)");
	plan->language = strdup("python");
	plan->interrupt_mode = strdup("signal");
	plan->debugger = true;
	code = paths_list_add(&plan->argv, ret_prefix->executable);
	for (size_t i = 0; i < sizeof(command) / sizeof(command[0]) && code == 0; i++)
		code = paths_list_add(&plan->argv, command[i]);
	if (code < 0 || !plan->name || !plan->display_name || !plan->language ||
	    !plan->interrupt_mode)
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

static int plan_wrapped(const struct options *options, struct plan *plan, struct prefix *ret_prefix,
			struct err *err)
{
	struct paths_list directories;
	struct search_spec spec = {0};
	int code = search_directories(&directories, err);

	if (code < 0)
		return code;
	code = search_find(&directories, options->wrap, &spec, err);
	paths_list_done(&directories);
	if (code == 0)
		code = wrap_plan(&spec, plan, ret_prefix, err);
	search_done(&spec);
	return code;
}

/* The policy's absolute path; its links stay, so that an administrator can move what they lead to.
 */
static int take_policy(const char *file, struct plan *plan, struct err *err)
{
	struct policy policy;
	int code;

	plan->policy = paths_absolute(file);
	if (!plan->policy)
		return err_errno(err, "%s", file);
	code = policy_read(plan->policy, &policy, err);
	if (code == 0)
		policy_done(&policy);
	return code;
}

static int make_plan(const struct options *options, struct plan *plan, struct err *err)
{
	struct prefix prefix = {0};
	int code = 0;

	if (options->name && !(plan->name = strdup(options->name)))
		return err_set(err, -ENOMEM, "out of memory");
	if (options->display_name && !(plan->display_name = strdup(options->display_name)))
		return err_set(err, -ENOMEM, "out of memory");
	plan->shared_environment = options->shared_environment;
	if (options->linked.host) {
		code = linked_plan(&options->linked, plan, err);
		return code < 0 ? code : plan_check_names(plan, err);
	}
	if (options->policy)
		code = take_policy(options->policy, plan, err);
	if (code == 0)
		code = options->wrap ? plan_wrapped(options, plan, &prefix, err)
				     : plan_python(options, plan, &prefix, err);
	if (code == 0)
		code = plan_check_names(plan, err);
	if (code == 0 && !options->shared_environment)
		code = prefix_shared_with_server(&prefix, err);
	prefix_done(&prefix);
	return code;
}

/* The "…/kernels" to write to. */
static int find_place(const struct options *options, char **ret_directory, struct err *err)
{
	cleanup(free_ptr) char *data = NULL, *prefix = NULL;
	int code;

	if (options->place == PLACE_USER) {
		data = search_user_data();
	} else {
		if (options->place == PLACE_SYS_PREFIX) {
			code = search_jupyter_prefix(&prefix, err);
			if (code < 0)
				return code;
		} else {
			prefix = paths_absolute(options->prefix);
		}
		data = prefix ? path_join(prefix, "share/jupyter") : NULL;
	}
	*ret_directory = data ? path_join(data, "kernels") : NULL;
	return *ret_directory ? 0 : err_set(err, -ENOMEM, "cannot find the place for kernelspecs");
}

/* Where the server's configuration goes. */
static int find_config(const struct options *options, char **ret_directory, struct err *err)
{
	cleanup(free_ptr) char *prefix = NULL;
	int code = 0;

	if (options->place == PLACE_SYS_PREFIX)
		code = search_jupyter_prefix(&prefix, err);
	else if (options->place == PLACE_PREFIX)
		prefix = paths_absolute(options->prefix);
	if (code < 0)
		return code;
	*ret_directory = options->server_config[0] ? paths_absolute(options->server_config)
			 : options->place != PLACE_USER && !prefix ? NULL
								   : server_directory(prefix);
	return *ret_directory
		       ? 0
		       : err_set(err, -ENOMEM, "cannot find the place for the configuration");
}

static int install_server(const struct options *options, struct err *err)
{
	cleanup(free_ptr) char *directory = NULL, *path = NULL, *text = NULL;
	int code;

	if (strcmp(options->server_config, "-") == 0) {
		text = server_text();
		return text && puts(text) >= 0 ? 0 : err_set(err, -EIO, "cannot print it");
	}
	code = find_config(options, &directory, err);
	if (code == 0)
		code = server_write(directory, &path, err);
	if (code == 0)
		printf("wrote %s; start the notebook server anew\n", path);
	return code;
}

/* Beside the kernel there is the page: is it closed too? */
static void say_server(void)
{
	cleanup(free_ptr) char *path = NULL;

	if (server_find(&path) == 0)
		printf("the notebook server sends no headers against leaks yet: " SERVER_HINT "\n");
	else if (path)
		printf("the notebook server's headers against leaks are in %s\n", path);
}

/* What fails here costs time at each start and nothing else. */
static void warm_up(const char *interpreter)
{
	struct err problem = {0};

	if (bytecode_make(interpreter, &problem) < 0)
		fprintf(stderr, "cellwall install: note: %s\n", problem.text);
	if (warm_make(interpreter, &problem) < 0)
		fprintf(stderr, "cellwall install: note: fonts were not listed ahead: %s\n",
			problem.text);
}

static int install(const struct options *options, struct err *err)
{
	cleanup(free_ptr) char *cellwall = NULL, *directory = NULL, *path = NULL;
	struct plan plan = {0};
	int code = make_plan(options, &plan, err);

	if (code == 0)
		code = files_self(&cellwall, err);
	if (code == 0)
		code = find_place(options, &directory, err);
	if (code == 0)
		code = plan_write(&plan, cellwall, directory, &path, err);
	for (size_t i = 0; code == 0 && i < plan.notices.count; i++)
		fprintf(stderr, "cellwall install: note: %s\n", plan.notices.items[i]);
	if (code == 0 && !options->wrap && !options->environment && !plan.elsewhere)
		warm_up(plan.argv.items[0]);
	if (code == 0)
		printf("installed %s (\"%s\") in %s\n", plan.name, plan.display_name, path);
	if (code == 0)
		say_server();
	plan_done(&plan);
	return code;
}

int verb_install(int argc, char **argv)
{
	struct options options = {0};
	struct err err = {0};

	argp_err_exit_status = 2;
	if (argp_parse(&parser, argc, argv, 0, NULL, &options) != 0)
		return 2;
	if ((options.server_config ? install_server : install)(&options, &err) < 0) {
		fprintf(stderr, "cellwall install: %s\n", err.text);
		return 1;
	}
	return 0;
}
