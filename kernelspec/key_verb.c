#include "kernelspec/verbs.h"

#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/paths.h"
#include "proxy/keys.h"

#define CLIENTS "clients"

struct options {
	const char *action;
	const char *subject; /* a name or a file */
	const char *directory;
	const char *as;
};

struct action {
	const char *name;
	int (*run)(const char *directory, const struct options *options, struct err *err);
	bool needs_subject;
};

enum { OPTION_AS = 256, OPTION_DIRECTORY };

static const struct argp_option option_table[] = {
	{"as", OPTION_AS, "NAME", 0,
	 "allow: the client's name here (default: that of its file); new kernels are told it", 0},
	{"directory", OPTION_DIRECTORY, "DIR", 0,
	 "where keys are, and below it clients/ (default: ~/.config/cellwall)", 0},
	{0},
};

static int run_new(const char *directory, const struct options *options, struct err *err);
static int run_show(const char *directory, const struct options *options, struct err *err);
static int run_allow(const char *directory, const struct options *options, struct err *err);
static int run_revoke(const char *directory, const struct options *options, struct err *err);

static const struct action actions[] = {
	{"new", run_new, true},
	{"show", run_show, false},
	{"allow", run_allow, true},
	{"revoke", run_revoke, true},
};

static const struct action *find_action(const char *name)
{
	for (size_t i = 0; name && i < sizeof(actions) / sizeof(actions[0]); i++)
		if (strcmp(actions[i].name, name) == 0)
			return &actions[i];
	return NULL;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;
	const struct action *action;

	switch (key) {
	case OPTION_AS:
		options->as = arg;
		return 0;
	case OPTION_DIRECTORY:
		options->directory = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (!options->action)
			options->action = arg;
		else if (!options->subject)
			options->subject = arg;
		else
			argp_error(state, "%s is one word too many", arg);
		return 0;
	case ARGP_KEY_END:
		action = find_action(options->action);
		if (!action)
			argp_error(state, "say `new NAME`, `show [NAME]`, `allow FILE` or `revoke "
					  "NAME`");
		else if (action->needs_subject && !options->subject)
			argp_error(state, "%s needs %s", action->name,
				   strcmp(action->name, "allow") == 0 ? "a FILE" : "a NAME");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp parser = {
	.options = option_table,
	.parser = parse_option,
	.args_doc = "new NAME\nshow [NAME]\nallow FILE\nrevoke NAME",
	.doc = "The keys of the link between a notebook server and the host that runs its "
	       "kernels.\v"
	       "Each end has a pair: NAME.key is public and is given to the other end, "
	       "NAME.key_secret stays where it was made. The files are czmq's certificates.\n\n"
	       "  cellwall key new laptop          on the laptop, and `new host` on the host\n"
	       "  cellwall key allow laptop.key    on the host, with the laptop's public file\n"
	       "  cellwall key revoke laptop       its kernels are stopped, it comes in no more",
};

static int check_name(const char *name, struct err *err)
{
	char shown[80];

	if (keys_name(name))
		return 0;
	return err_set(err, -EINVAL,
		       "\"%s\" cannot be a key's name: up to %d letters, digits, \"-\", \"_\", "
		       "\".\" and \"@\"",
		       escape_string(shown, sizeof(shown), name), KEYS_NAME - 1);
}

static int run_new(const char *directory, const struct options *options, struct err *err)
{
	cleanup(free_ptr) char *open = format_string("%s/%s.key", directory, options->subject);
	cleanup(free_ptr) char *secret = open ? format_string("%s" KEYS_SECRET, open) : NULL;
	struct key key;
	int code = check_name(options->subject, err);

	if (code == 0 && !secret)
		code = err_set(err, -ENOMEM, "out of memory");
	if (code == 0)
		code = make_directories(directory, 0700, err);
	if (code == 0)
		code = keys_make(&key, err);
	if (code < 0)
		return code;
	code = keys_write(secret, &key, options->subject, true, err);
	if (code == 0) {
		code = keys_write(open, &key, options->subject, false, err);
		if (code < 0)
			(void)unlink(secret);
	}
	if (code == 0)
		printf("%s\n%s  (stays here)\npublic key %s\n", open, secret, key.public_key);
	keys_done(&key);
	return code;
}

static int show_one(const char *path, struct err *err)
{
	struct key key;
	int code = keys_read(path, false, &key, err);

	if (code == 0)
		printf("%s\n", key.public_key);
	return code;
}

/* Each NAME.key of a directory as a line. Returns how many. */
static size_t show_all(const char *directory, const char *what)
{
	struct dirent **entries = NULL;
	int count = scandir(directory, &entries, NULL, alphasort);
	size_t shown = 0;

	for (int i = 0; i < count; i++) {
		char *name = entries[i]->d_name;
		const size_t length = strlen(name);
		cleanup(free_ptr) char *path = path_join(directory, name);
		struct key key;

		if (length > 4 && strcmp(name + length - 4, ".key") == 0) {
			name[length - 4] = '\0';
			if (path && keys_name(name) && keys_read(path, false, &key, NULL) == 0) {
				printf("%-8s %-20s %s\n", what, name, key.public_key);
				shown++;
			}
		}
		free(entries[i]);
	}
	free(entries);
	return shown;
}

static int run_show(const char *directory, const struct options *options, struct err *err)
{
	cleanup(free_ptr) char *clients = path_join(directory, CLIENTS);
	cleanup(free_ptr) char *path = NULL;

	if (!clients)
		return err_set(err, -ENOMEM, "out of memory");
	if (!options->subject) {
		if (show_all(directory, "key") + show_all(clients, "allowed") == 0)
			printf("no keys are in %s: cellwall key new NAME\n", directory);
		return 0;
	}
	if (strchr(options->subject, '/') || paths_exists(".", options->subject))
		return show_one(options->subject, err);
	path = format_string("%s/%s.key", directory, options->subject);
	return path ? show_one(path, err) : err_set(err, -ENOMEM, "out of memory");
}

static bool is_secret(const char *path)
{
	const size_t length = strlen(path), end = strlen(KEYS_SECRET);

	return length > end && strcmp(path + length - end, KEYS_SECRET) == 0;
}

static int run_allow(const char *directory, const struct options *options, struct err *err)
{
	cleanup(free_ptr) char *clients = path_join(directory, CLIENTS);
	cleanup(free_ptr) char *name =
		strdup(options->as ? options->as : paths_name(options->subject));
	cleanup(free_ptr) char *target = NULL;
	struct keys_allowed *allowed = NULL;
	const char *known;
	struct key key;
	int code;

	if (!clients || !name)
		return err_set(err, -ENOMEM, "out of memory");
	if (!options->as && strlen(name) > 4 && strcmp(name + strlen(name) - 4, ".key") == 0)
		name[strlen(name) - 4] = '\0';
	code = check_name(name, err);
	if (code == 0 && is_secret(options->subject))
		code = err_set(err, -EINVAL,
			       "%s is the secret half, which stays where it was made: name the "
			       "file without \"" KEYS_SECRET "\"",
			       options->subject);
	if (code == 0)
		code = keys_read(options->subject, false, &key, err);
	if (code == 0)
		code = make_directories(clients, 0700, err);
	if (code == 0)
		code = keys_allowed_new(clients, &allowed, err);
	if (code < 0)
		return code;
	keys_allowed_look(allowed);
	known = keys_allowed_name(allowed, key.public_key);
	target = format_string("%s/%s.key", clients, name);
	if (known)
		code = err_set(err, -EEXIST, "this key is allowed already, as %s", known);
	else if (!target)
		code = err_set(err, -ENOMEM, "out of memory");
	else
		code = keys_write(target, &key, name, false, err);
	if (code == 0)
		printf("%s is allowed: public key %s\n", name, key.public_key);
	keys_allowed_free(allowed);
	return code;
}

static int run_revoke(const char *directory, const struct options *options, struct err *err)
{
	cleanup(free_ptr) char *path = NULL;
	int code = check_name(options->subject, err);

	if (code < 0)
		return code;
	path = format_string("%s/" CLIENTS "/%s.key", directory, options->subject);
	if (!path)
		return err_set(err, -ENOMEM, "out of memory");
	if (unlink(path) < 0)
		return errno == ENOENT
			       ? err_set(err, -ENOENT, "nobody is allowed as %s: cellwall key show",
					 options->subject)
			       : err_errno(err, "cannot revoke %s", path);
	printf("%s is allowed no more\n", options->subject);
	return 0;
}

int verb_key(int argc, char **argv)
{
	struct options options = {0};
	const struct action *action;
	cleanup(free_ptr) char *directory = NULL;
	struct err err = {0};
	int code;

	if (argp_parse(&parser, argc, argv, 0, NULL, &options) != 0)
		return EXIT_USAGE;
	action = find_action(options.action);
	if (!action)
		return EXIT_USAGE;
	code = keys_directory(options.directory, &directory, &err);
	if (code == 0)
		code = action->run(directory, &options, &err);
	if (code < 0)
		fprintf(stderr, "cellwall key: %s\n", err.text);
	return code < 0 ? 1 : 0;
}
