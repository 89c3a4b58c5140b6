#include "kernelspec/verbs.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/added.h"
#include "kernelspec/files.h"
#include "kernelspec/habits.h"
#include "kernelspec/installer.h"
#include "kernelspec/limits.h"
#include "kernelspec/prefix.h"
#include "kernelspec/sealed.h"
#include "kernelspec/staged.h"
#include "kernelspec/variables.h"
#include "kernelspec/warm.h"
#include "proxy/audit.h"
#include "proxy/connection.h"
#include "proxy/examine.h"
#include "proxy/figures.h"
#include "proxy/imported.h"
#include "proxy/install.h"
#include "proxy/known.h"
#include "proxy/limits.h"
#include "proxy/policy.h"
#include "proxy/session.h"
#include "sandbox/log.h"
#include "sandbox/staging.h"

#define TOKEN	    "{inner_connection_file}"
#define NOTICES_MAX 32
#define SHOW_MAX    64

struct options {
	const char *connection_file;
	const char *policy_file;
	const char *stage;
	const char *show[SHOW_MAX];
	size_t shows;
	const char *setenv[SHOW_MAX];
	size_t setenvs;
	bool shared_environment;
	const char *environment; /* of --env, or NULL */
	bool verify;
	char **argv; /* of the kernel, from after "--" */
};

/* Everything that the plan borrows. */
struct parts {
	struct connection connection;
	struct policy policy;
	struct prefix prefix;
	struct sealed sealed; /* of --env */
	struct imported imported;
	struct added added; /* what cells have had installed */
	struct install *install;
	pid_t installer;
	char *base_tree; /* of --env */
	struct spec spec;
	struct staged_places places;
	struct audit *audit;
	char inner_key[65];
	struct known *known;
	struct examine *examine;
	struct figures *figures;
	char *sandbox;
	char *folder; /* the notebook's */
	char *notices[NOTICES_MAX + 1];
	size_t notice_count;
	size_t notices_lost;
};

/* ---- options ---- */

enum { OPTION_SHARED = 256, OPTION_SETENV, OPTION_SHOW, OPTION_ENV, OPTION_VERIFY };

static const struct argp_option option_table[] = {
	{"connection-file", 'f', "FILE", 0, "the connection file that the client wrote", 0},
	{"f", 'f', NULL, OPTION_ALIAS, NULL, 0},
	{"policy", 'p', "FILE", 0, "the policy of this kernel (see `cellwall policy`)", 0},
	{"stage", 's', "DIR", 0, "the staging directory, with in/ and out/ (default: ./staging)",
	 0},
	{"show", OPTION_SHOW, "DIR", 0, "make a directory visible inside, read-only (repeatable)",
	 0},
	{"setenv", OPTION_SETENV, "NAME=VALUE", 0, "a variable for the kernel (repeatable)", 0},
	{"env", OPTION_ENV, "NAME", 0,
	 "run from this sealed environment (see `cellwall env`), which is at /env inside", 0},
	{"verify", OPTION_VERIFY, NULL, 0,
	 "with --env: compare every byte of it first, and of what cells have had installed", 0},
	{"shared-environment", OPTION_SHARED, NULL, 0,
	 "run although the notebook server uses the kernel's environment too: code installed there "
	 "then "
	 "runs outside the wall when the server starts",
	 0},
	{0},
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;

	switch (key) {
	case 'f':
		options->connection_file =
			arg[0] == '=' ? arg + 1 : arg; /* VS Code writes -f=FILE */
		return 0;
	case 'p':
		options->policy_file = arg;
		return 0;
	case 's':
		options->stage = arg;
		return 0;
	case OPTION_SHOW:
		if (options->shows == SHOW_MAX || arg[0] != '/')
			argp_error(state,
				   "--show %s: an absolute path is needed, at most %d of them", arg,
				   SHOW_MAX);
		options->show[options->shows++] = arg;
		return 0;
	case OPTION_SETENV:
		if (options->setenvs == SHOW_MAX || arg[0] == '=' || !strchr(arg, '='))
			argp_error(state, "--setenv %s: NAME=VALUE is needed, at most %d of them",
				   arg, SHOW_MAX);
		options->setenv[options->setenvs++] = arg;
		return 0;
	case OPTION_ENV:
		options->environment = arg;
		return 0;
	case OPTION_VERIFY:
		options->verify = true;
		return 0;
	case OPTION_SHARED:
		options->shared_environment = true;
		return 0;
	case ARGP_KEY_ARGS:
		options->argv = state->argv + state->next;
		return 0;
	case ARGP_KEY_END:
		if (!options->connection_file)
			argp_error(state, "-f CONNECTION_FILE is missing");
		if (!options->argv)
			argp_error(state, "the kernel's command is missing after \"--\"");
		if (options->verify && !options->environment)
			argp_error(state, "--verify needs --env");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp parser = {
	option_table,
	parse_option,
	"-- KERNEL ARGV...",
	"Run one Jupyter kernel behind the wall, for the client that wrote the connection file.\v"
	"The word " TOKEN
	" in KERNEL ARGV becomes the path of the kernel's own connection file, for "
	"Python:\n\n  PYTHON -m ipykernel_launcher -f " TOKEN "\n\n"
	"Exit codes: the kernel's own; 128+N when signal N ended it; 1 when it could not be "
	"started; 2 for "
	"wrong usage, a bad connection file or a bad policy.\n\n"
	"With --host curve://HOST:PORT --host-key FILE the kernel runs on another host: "
	"`cellwall kernel --help --host x`.",
	NULL,
	NULL,
	NULL};

/* ---- the plan ---- */

/* Takes over `text`. The last of very many says that there are more. */
static void add_notice(struct parts *parts, char *text)
{
	if (text && parts->notice_count < NOTICES_MAX) {
		parts->notices[parts->notice_count++] = text;
		return;
	}
	free(text);
	if (parts->notices_lost++ == 0 && parts->notice_count == NOTICES_MAX) {
		free(parts->notices[NOTICES_MAX - 1]);
		parts->notices[NOTICES_MAX - 1] = strdup("and more that is not listed here");
		parts->notice_count =
			parts->notices[NOTICES_MAX - 1] ? NOTICES_MAX : NOTICES_MAX - 1;
	}
}

static void take_notice(void *arg, char *text)
{
	add_notice(arg, text);
}

/* `text` with the token exchanged for the inner path; caller frees. */
static char *fill_token(const char *text)
{
	const char *at = strstr(text, TOKEN);

	if (!at)
		return strdup(text);
	return format_string("%.*s%s%s", (int)(at - text), text, INSIDE_CONNECTION,
			     at + strlen(TOKEN));
}

static int fill_argv(struct parts *parts, char **argv, struct err *err)
{
	int code = spec_add_argv(&parts->spec, parts->prefix.executable);
	bool found = false;

	for (char **arg = argv + 1; code == 0 && *arg; arg++) {
		cleanup(free_ptr) char *filled = fill_token(*arg);

		found = found || strstr(*arg, TOKEN);
		code = filled ? spec_add_argv(&parts->spec, filled) : -ENOMEM;
	}
	if (code < 0)
		return err_set(err, code, "out of memory");
	if (!found)
		return err_set(err, -EINVAL,
			       "the kernel's command does not contain %s: it could not find its "
			       "connection file",
			       TOKEN);
	return 0;
}

static int fill_environment(struct parts *parts, const struct options *options, struct err *err)
{
	struct spec *spec = &parts->spec;
	int code = variables_fill(spec, &parts->policy, parts->prefix.executable);

	for (size_t i = 0; code == 0 && i < options->setenvs; i++)
		code = variables_set(spec, options->setenv[i]);
	return code < 0 ? err_set(err, code, "out of memory") : 0;
}

/* A directory appears under the name it was given and under its real one: links lead to both. */
static int show(struct spec *spec, const char *path, struct err *err)
{
	cleanup(free_ptr) char *real = realpath(path, NULL);
	int code;

	if (!real)
		return err_errno(err, "cannot show %s inside", path);
	code = prefix_may_show(path, err);
	if (code < 0)
		return err_wrap(err, "cannot show %s inside", path);
	for (size_t i = 0; i < spec->bind_count; i++)
		if (strcmp(spec->binds[i].target, path) == 0)
			return 0;
	code = spec_add_bind(spec, real, real, true);
	if (code == 0 && strcmp(real, path) != 0)
		code = spec_add_bind(spec, real, path, true);
	return code < 0 ? err_set(err, code, "out of memory") : 0;
}

/* Compares every byte of it. */
static int verify(const struct sealed *sealed, struct err *err)
{
	int64_t changed = sealed_verify(sealed->directory, sealed->hash, NULL, NULL, err);

	if (changed < 0)
		return err->code;
	return changed == 0
		       ? 0
		       : err_set(err, -EIO,
				 "the environment \"%s\" is not as it was sealed: cellwall env "
				 "verify %s says what changed",
				 sealed->name, sealed->name);
}

/* The sealed environment, held for as long as this process lives. */
static int find_sealed(struct parts *parts, const struct options *options, struct err *err)
{
	cleanup(free_ptr) char *usage = NULL;
	int code = sealed_find(options->environment, 0, true, &parts->sealed, err);

	if (code == 0 && parts->policy.landlock)
		code = err_set(
			err, -EINVAL,
			"--env needs a wall of namespaces, and the policy says \"landlock\"");
	if (code == 0 && options->verify)
		code = verify(&parts->sealed, err);
	if (code < 0)
		return code;
	usage = sealed_usage(options->environment);
	if (usage)
		imported_open(&parts->imported, usage);
	return sealed_prefix(&parts->sealed, options->argv[0], &parts->prefix, err);
}

static int show_sealed(struct parts *parts, struct err *err)
{
	parts->base_tree = path_join(parts->sealed.directory, "tree");
	if (!parts->base_tree ||
	    spec_add_bind(&parts->spec, parts->base_tree, INSIDE_ENVIRONMENT, true) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

static int fill_binds(struct parts *parts, const struct options *options, struct err *err)
{
	int code = 0;

	for (char **path = parts->prefix.paths; code == 0 && path && *path; path++)
		code = show(&parts->spec, *path, err);
	if (code == 0 && options->environment)
		code = show_sealed(parts, err);
	if (code == 0 && parts->policy.python)
		code = show(&parts->spec, parts->policy.python, err);
	for (size_t i = 0; code == 0 && i < options->shows; i++)
		code = show(&parts->spec, options->show[i], err);
	return code;
}

static int fill_places(struct parts *parts, const struct options *options, struct err *err)
{
	struct spec *spec = &parts->spec;
	struct staged staged;
	int code;

	parts->folder = getcwd(NULL, 0);
	if (!parts->folder)
		return err_errno(err, "cannot tell the notebook's folder");
	code = staged_find(parts->folder, options->stage, &parts->places, err);
	if (code < 0)
		return code;
	spec->out = strdup(parts->places.out);
	if (!spec->out)
		return err_set(err, -ENOMEM, "out of memory");
	code = staging_state_directory(&spec->state, err);
	staged = (struct staged){.spec = spec,
				 .policy = &parts->policy,
				 .folder = parts->folder,
				 .places = &parts->places,
				 .notice = take_notice,
				 .arg = parts};
	if (code == 0)
		code = staged_inputs(&staged, err);
	if (code == 0)
		code = staged_results(&staged, err);
	if (code == 0)
		code = habits_fill(&staged, err);
	if (code == 0 && parts->prefix.python && warm_use(spec, parts->prefix.executable) < 0)
		code = err_set(err, -ENOMEM, "out of memory");
	return code;
}

static int fill_limits(struct parts *parts, struct err *err)
{
	struct spec *spec = &parts->spec;
	const struct policy *policy = &parts->policy;
	int code;

	limits_fill(spec, policy);
	code = random_hex(parts->inner_key, 32);
	if (code < 0)
		return err_set(err, code, "no random numbers");
	spec->connection = connection_inner(parts->inner_key, parts->connection.kernel_name);
	if (!spec->connection)
		return err_set(err, -ENOMEM, "out of memory");
	code = files_part("cellwall-relay", &spec->relay, err);
	if (code == 0)
		code = files_part("cellwall-sandbox", &parts->sandbox, err);
	return code;
}

/* The policy, and by it the guard process: before the connection file, whose key it need not have.
 * A bad one is said in the notebook too, by a session that starts nothing and has the default one.
 */
static int read_policy(struct parts *parts, const struct options *options, struct err *ret_bad,
		       struct err *err)
{
	cleanup(free_ptr) char *figures = NULL;
	int code = 0;

	if (!options->policy_file || policy_read(options->policy_file, &parts->policy, ret_bad) < 0)
		code = policy_default(&parts->policy);

	if (code < 0 || parts->policy.outputs.mode == OUTPUTS_OFF)
		return code;
	parts->known = known_new();
	if (files_share("figures", &figures, NULL) == 0)
		parts->figures = figures_open(figures);
	if (!parts->known || (figures && !parts->figures))
		return err_set(err, -ENOMEM, "out of memory");
	parts->policy.outputs.figures = parts->figures;
	return examine_start(examine_serve, &parts->policy.outputs, parts->known, &parts->examine,
			     err);
}

/* The installer needs no key of a kernel. */
static void forget_key(void *arg)
{
	struct parts *parts = arg;

	connection_done(&parts->connection);
}

static int start_installer(struct parts *parts, const struct options *options, int *ret_socket,
			   struct err *err)
{
	const bool sealed = options->environment != NULL;
	const char *python = sealed ? parts->sealed.python : parts->prefix.executable;
	const char *base = sealed ? options->environment : parts->prefix.executable;
	const struct installer installer = {
		.added = &parts->added,
		.spec = &parts->spec,
		.policy = &parts->policy,
		.base = {.prefix = &parts->prefix,
			 .tree = parts->base_tree,
			 .hash = parts->sealed.hash,
			 .name = base,
			 .folder = parts->folder},
		.forget = forget_key,
		.arg = parts,
	};
	int code = added_open(parts->folder, base, python, &parts->added, err);

	if (code == 0 && added_base_changed(&parts->added.sealed, parts->sealed.hash))
		add_notice(parts,
			   format_string("the environment \"%s\" has changed since cells of this "
					 "folder had packages installed beside it: the next %%pip "
					 "install fits them to it, cellwall env remove %s outside "
					 "takes them away",
					 base, parts->added.name));
	if (code == 0)
		code = added_fill(&parts->added, &parts->prefix, &parts->spec, err);
	if (code == 0)
		parts->installer = installer_start(&installer, ret_socket, err);
	return code == 0 && parts->installer < 0 ? parts->installer : code;
}

/* What cannot be installed is no reason not to start: cells that ask for it are told. */
static int fill_install(struct parts *parts, const struct options *options, struct err *err)
{
	cleanup(close_fd) int socket = -1;
	cleanup(free_ptr) char *told = NULL;
	struct err why = {0};
	int code = 0;

	if (!parts->prefix.python)
		return 0;
	if (parts->policy.landlock)
		code = err_set(&why, -EINVAL,
			       "that needs a wall of namespaces, and the policy says \"landlock\"");
	else if (parts->policy.install.mode != INSTALL_DENY)
		code = start_installer(parts, options, &socket, &why);
	if (options->verify && parts->added.sealed.directory &&
	    verify(&parts->added.sealed, err) < 0)
		return err->code;
	if (code == 0 && parts->added.directory) {
		told = path_join(parts->added.directory, "told");
		if (!told)
			return err_set(err, -ENOMEM, "out of memory");
	}
	parts->install = install_new(&parts->policy.install, steal_fd(&socket), told,
				     code < 0 ? why.text : NULL);
	return parts->install ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int make_plan(struct parts *parts, const struct options *options, struct err *err)
{
	int code = options->environment ? find_sealed(parts, options, err)
					: prefix_find(options->argv[0], &parts->prefix, err);

	if (code == 0 && !options->shared_environment)
		code = prefix_shared_with_server(&parts->prefix, err);
	if (code == 0 && options->shared_environment &&
	    prefix_shared_with_server(&parts->prefix, NULL) == -EEXIST)
		add_notice(parts,
			   format_string("the notebook server shares the kernel's environment "
					 "(--shared-environment): code installed there runs "
					 "outside the wall when the server starts"));
	if (code == 0)
		code = fill_argv(parts, options->argv, err);
	if (code == 0)
		code = fill_binds(parts, options, err);
	if (code == 0)
		code = fill_places(parts, options, err);
	if (code == 0)
		code = fill_environment(parts, options, err);
	if (code == 0)
		code = fill_install(parts, options, err);
	if (code == 0)
		code = fill_limits(parts, err);
	return code;
}

static void parts_done(struct parts *parts)
{
	parts->install = install_free(parts->install);
	installer_end(parts->installer);
	parts->examine = examine_stop(parts->examine);
	known_free(parts->known);
	parts->figures = figures_close(parts->figures);
	connection_done(&parts->connection);
	policy_done(&parts->policy);
	prefix_done(&parts->prefix);
	imported_close(&parts->imported);
	sealed_done(&parts->sealed);
	added_done(&parts->added);
	free(parts->base_tree);
	spec_done(&parts->spec);
	staged_places_done(&parts->places);
	free(parts->sandbox);
	free(parts->folder);
	for (size_t i = 0; i < parts->notice_count; i++)
		free(parts->notices[i]);
	explicit_bzero(parts, sizeof(*parts));
}

/* Without a log the kernel starts only when the policy does not require one. */
static int open_log(struct parts *parts, const struct options *options, struct err *err)
{
	int code = audit_open(options->connection_file, &parts->policy.audit, &parts->audit, err);

	if (code == 0) {
		audit_launch(parts->audit, parts->folder, options->argv, options->policy_file);
		return 0;
	}
	if (parts->policy.audit.required)
		return err_wrap(err, "the policy requires an audit log");
	add_notice(parts, format_string("no audit log is kept: %s", err->text));
	return 0;
}

/*
 * What libzmq and the threads take in address space. Below it libzmq ends the process in the middle
 * of a launch, with words for its authors.
 */
#define ADDRESS_SPACE_LEAST (UINT64_C(128) << 20)

static int check_memory(struct err *err)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_AS, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
	    limit.rlim_cur >= ADDRESS_SPACE_LEAST)
		return 0;
	return err_set(err, -ENOMEM,
		       "this process may use %" PRIu64 " MB of memory (ulimit -v) and cellwall "
		       "needs %" PRIu64 ": raise the limit where the server is started",
		       (uint64_t)limit.rlim_cur >> 20, ADDRESS_SPACE_LEAST >> 20);
}

/* --host among our own words: the kernel runs on another host, and another program speaks to it. */
static bool runs_elsewhere(char **argv)
{
	for (char **arg = argv + 1; *arg && strcmp(*arg, "--") != 0; arg++)
		if (strcmp(*arg, "--host") == 0 || strncmp(*arg, "--host=", 7) == 0)
			return true;
	return false;
}

static int run_elsewhere(char **argv)
{
	cleanup(free_ptr) char *program = NULL;
	struct err err = {0};

	if (files_part("cellwall-link", &program, &err) == 0) {
		execv(program, argv);
		err_errno(&err, "cannot run %s", program);
	}
	log_error("%s", err.text);
	return EXIT_LAUNCH;
}

int verb_kernel(int argc, char **argv)
{
	struct options options = {0};
	struct parts parts = {.sealed = {.held = -1, .guard = -1},
			      .imported = IMPORTED_NONE,
			      .added = ADDED_NONE};
	struct session_plan plan;
	struct err err = {0}, bad = {0};
	int code;

	argp_err_exit_status = EXIT_USAGE;
	if (runs_elsewhere(argv))
		return run_elsewhere(argv);
	if (argp_parse(&parser, argc, argv, 0, NULL, &options) != 0)
		return EXIT_USAGE;
	/* Hashes alone are asked of it: its configuration file takes a part of a launch to read,
	 * and may name modules to load. */
	(void)OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
	if (check_memory(&err) < 0 || read_policy(&parts, &options, &bad, &err) < 0 ||
	    connection_read(options.connection_file, &parts.connection, &err) < 0) {
		log_error("%s", err.text);
		parts_done(&parts);
		return EXIT_USAGE;
	}
	if (parts.policy.outputs.mode == OUTPUTS_OFF)
		add_notice(&parts,
			   format_string("outputs.mode is \"off\": whatever this kernel shows "
					 "reaches the browser as it is, scripts included"));
	if (bad.code < 0)
		err = bad;
	code = bad.code < 0 ? bad.code : make_plan(&parts, &options, &err);
	if (code == 0)
		code = open_log(&parts, &options, &err);
	else
		(void)open_log(&parts, &options, &(struct err){0}); /* it has the failure */
	plan = (struct session_plan){.connection = &parts.connection,
				     .spec = &parts.spec,
				     .sandbox = parts.sandbox,
				     .inner_key = parts.inner_key,
				     .folder = parts.folder,
				     .audit = parts.audit,
				     .tally = tally_take(),
				     .idle_timeout = parts.policy.idle_timeout,
				     .closed = !parts.policy.may_add || !*parts.policy.may_add,
				     .install = parts.install,
				     .outputs = &parts.policy.outputs,
				     .examine = parts.examine,
				     .known = parts.known,
				     .imported = &parts.imported,
				     .notices = parts.notices,
				     .failure = code < 0 ? err.text : NULL};
	code = session_run(&plan);
	if (bad.code < 0)
		code = EXIT_USAGE;
	if (audit_close(steal_ptr(&parts.audit), &err) < 0)
		log_error("%s", err.text);
	parts_done(&parts);
	return code;
}
