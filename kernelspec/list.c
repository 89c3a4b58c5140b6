#include "kernelspec/list.h"

#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "kernelspec/files.h"
#include "kernelspec/plan.h"
#include "kernelspec/prefix.h"
#include "kernelspec/sealed.h"
#include "kernelspec/search.h"
#include "kernelspec/server.h"
#include "kernelspec/verbs.h"
#include "proxy/policy.h"

#define LIST_MAX 256 /* kernelspecs of ours; far above what a menu shows */

void list_done(struct list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->rows[i].kernel);
		free(list->rows[i].policy);
		free(list->rows[i].state);
		search_done(&list->rows[i].spec);
	}
	free_ptr(&list->rows);
	*list = (struct list){0};
}

static const char *word_at(const json_t *argv, size_t index)
{
	return json_string_value(json_array_get(argv, index));
}

/* What its command says after `option`, before the kernel's own words, or NULL. */
static const char *option_at(const json_t *argv, const char *option)
{
	for (size_t i = 2; i + 1 < json_array_size(argv); i++) {
		const char *word = word_at(argv, i);

		if (!word || strcmp(word, "--") == 0)
			return NULL;
		if (strcmp(word, option) == 0)
			return word_at(argv, i + 1);
	}
	return NULL;
}

/* The kernel's program: the word after "--". The options before it are ours. */
static const char *kernel_program(const json_t *argv, const char **ret_policy,
				  const char **ret_environment, bool *ret_shared)
{
	size_t count = json_array_size(argv);

	for (size_t i = 2; i < count; i++) {
		const char *word = word_at(argv, i);

		if (!word)
			return NULL;
		if (strcmp(word, "--") == 0)
			return word_at(argv, i + 1);
		if (strcmp(word, "--policy") == 0)
			*ret_policy = word_at(argv, i + 1);
		if (strcmp(word, "--env") == 0)
			*ret_environment = word_at(argv, i + 1);
		if (strcmp(word, "--shared-environment") == 0)
			*ret_shared = true;
	}
	return NULL;
}

static int check_policy(const char *file, struct err *err)
{
	struct policy policy;
	int code = file ? policy_read(file, &policy, err) : 0;

	if (file && code == 0)
		policy_done(&policy);
	return code;
}

static int check_sealed(const char *name, const char *program, struct prefix *ret_prefix,
			struct err *err)
{
	struct sealed sealed;
	int code = sealed_find(name, 0, true, &sealed, err);

	if (code < 0)
		return code;
	code = sealed_prefix(&sealed, program, ret_prefix, err);
	sealed_done(&sealed);
	return code;
}

/* Of a kernel on another host: the files that name both ends. */
static int check_linked(const json_t *argv, struct err *err)
{
	static const char *const options[] = {"--host-key", "--key"};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		const char *file = option_at(argv, options[i]);

		if (file && access(file, R_OK) < 0)
			return err_errno(err, "%s", file);
	}
	return 0;
}

/* What would go wrong when it is started? */
static int check(const struct search_spec *spec, const char *program, const char *policy,
		 const char *environment, bool shared, struct err *err)
{
	const char *cellwall = word_at(json_object_get(spec->json, "argv"), 0);
	struct prefix prefix = {0};
	int code;

	if (!cellwall || cellwall[0] != '/' || !program)
		return err_set(err, -EINVAL, "kernel.json was changed by hand: install it again");
	if (access(cellwall, X_OK) < 0)
		return err_errno(err, "%s", cellwall);
	if (option_at(json_object_get(spec->json, "argv"), "--host") == program)
		return check_linked(json_object_get(spec->json, "argv"), err);
	code = check_policy(policy, err);
	if (code == 0)
		code = environment ? check_sealed(environment, program, &prefix, err)
				   : prefix_find(program, &prefix, err);
	if (code == 0 && !shared)
		code = prefix_shared_with_server(&prefix, err);
	prefix_done(&prefix);
	return code;
}

static int add_row(struct list *list, struct search_spec *spec, struct err *err)
{
	struct list_row *rows, *row;
	const char *program, *policy = NULL, *environment = NULL;
	bool shared = false, hidden = false;
	struct err reason;

	if (list->count >= LIST_MAX)
		return err_set(err, -E2BIG, "more than %d kernelspecs", LIST_MAX);
	rows = realloc(list->rows, (list->count + 1) * sizeof(*rows));
	if (!rows)
		return err_set(err, -ENOMEM, "out of memory");
	list->rows = rows;
	for (size_t i = 0; i < list->count; i++)
		hidden = hidden || strcasecmp(rows[i].spec.name, spec->name) == 0;
	row = &rows[list->count++];
	*row = (struct list_row){.spec = *spec};
	*spec = (struct search_spec){0};

	program = kernel_program(json_object_get(row->spec.json, "argv"), &policy, &environment,
				 &shared);
	if (!program)
		program = option_at(json_object_get(row->spec.json, "argv"), "--host");
	row->broken = check(&row->spec, program, policy, environment, shared, &reason) < 0;
	row->kernel = strdup(program ? program : "");
	row->policy = strdup(policy ? policy : "");
	if (row->broken)
		row->state = format_string("broken: %s", reason.text);
	else if (hidden)
		row->state = strdup("hidden by the one of that name above");
	else
		row->state = strdup(shared ? "ok, shared environment" : "ok");
	return row->kernel && row->policy && row->state ? 0
							: err_set(err, -ENOMEM, "out of memory");
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int add_directory(struct list *list, const char *directory, struct err *err)
{
	struct dirent **entries = NULL;
	int count = scandir(directory, &entries, NULL, by_name);
	int code = 0;

	for (int i = 0; i < count; i++) {
		cleanup(free_ptr) char *path = path_join(directory, entries[i]->d_name);
		struct search_spec spec = {0};

		if (code == 0 && path && search_valid_name(entries[i]->d_name) &&
		    search_read(path, &spec, NULL) == 0) {
			if (search_is_ours(&spec))
				code = add_row(list, &spec, err);
			search_done(&spec);
		}
		free(entries[i]);
	}
	free(entries);
	return code;
}

int list_find(const char *prefix, struct list *ret_list, struct err *err)
{
	struct paths_list directories = {0};
	struct list list = {0};
	cleanup(free_ptr) char *absolute = NULL, *kernels = NULL;
	int code;

	if (prefix) {
		absolute = paths_absolute(prefix);
		kernels = absolute ? path_join(absolute, "share/jupyter/kernels") : NULL;
		code = kernels ? paths_list_add(&directories, kernels) : -ENOMEM;
		if (code < 0)
			(void)err_set(err, code, "out of memory");
	} else {
		code = search_directories(&directories, err);
	}
	for (size_t i = 0; i < directories.count && code == 0; i++)
		code = add_directory(&list, directories.items[i], err);
	paths_list_done(&directories);
	if (code < 0)
		list_done(&list);
	else
		*ret_list = list;
	return code;
}

static const char *display_name(const struct list_row *row)
{
	const char *name = json_string_value(json_object_get(row->spec.json, "display_name"));

	return name ? name : "";
}

enum { COLUMNS = 5, CELL_MAX = 600 };

/* The text of one cell, safe to print. */
static const char *cell(const struct list_row *row, size_t column, char out[CELL_MAX])
{
	const char *texts[COLUMNS] = {row->spec.name, display_name(row), row->kernel, row->policy,
				      row->state};

	return escape_string(out, CELL_MAX, column == 3 && !*row->policy ? "-" : texts[column]);
}

static void print_table(const struct list *list)
{
	static const char *const heads[COLUMNS] = {"NAME", "SHOWN AS", "KERNEL", "POLICY", "STATE"};
	size_t widths[COLUMNS];
	char text[CELL_MAX];

	if (list->count == 0) {
		puts("no isolated kernels are installed: cellwall install --help");
		return;
	}
	for (size_t c = 0; c < COLUMNS; c++) {
		widths[c] = strlen(heads[c]);
		for (size_t i = 0; i < list->count && c + 1 < COLUMNS; i++) {
			size_t size = strlen(cell(&list->rows[i], c, text));

			widths[c] = size > widths[c] ? size : widths[c];
		}
	}
	for (size_t c = 0; c < COLUMNS; c++)
		printf("%-*s%s", c + 1 < COLUMNS ? (int)widths[c] : 0, heads[c],
		       c + 1 < COLUMNS ? "  " : "\n");
	for (size_t i = 0; i < list->count; i++) {
		for (size_t c = 0; c < COLUMNS; c++)
			printf("%-*s%s", c + 1 < COLUMNS ? (int)widths[c] : 0,
			       cell(&list->rows[i], c, text), c + 1 < COLUMNS ? "  " : "\n");
		printf("  in %s\n",
		       escape_string(text, sizeof(text), list->rows[i].spec.directory));
	}
}

static int print_json(const struct list *list)
{
	json_t *rows = json_array();
	int code = rows ? 0 : -1;

	for (size_t i = 0; i < list->count && code == 0; i++) {
		const struct list_row *row = &list->rows[i];
		json_t *object =
			json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:s}", "name", row->spec.name,
				  "display_name", display_name(row), "kernel", row->kernel,
				  "policy", row->policy, "path", row->spec.directory, "ok",
				  !row->broken, "state", row->state);

		code = json_array_append_new(rows, object);
	}
	if (code == 0)
		code = json_dumpf(rows, stdout, JSON_INDENT(1));
	json_decref(rows);
	putchar('\n');
	return code;
}

struct options {
	const char *prefix;
	const char *server_config; /* a directory or ""; NULL: not asked for */
	bool json;
	char **names;
	size_t count;
};

enum { KEY_PREFIX = 256, KEY_JSON, KEY_SERVER };

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;

	switch (key) {
	case KEY_PREFIX:
		options->prefix = arg;
		return 0;
	case KEY_JSON:
		options->json = true;
		return 0;
	case KEY_SERVER:
		options->server_config = arg ? arg : "";
		return 0;
	case ARGP_KEY_ARGS:
		options->names = state->argv + state->next;
		options->count = (size_t)(state->argc - state->next);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option list_options[] = {
	{"prefix", KEY_PREFIX, "DIR", 0, "Only those in DIR/share/jupyter/kernels", 0},
	{"json", KEY_JSON, NULL, 0, "As JSON", 0},
	{0},
};

static const struct argp_option remove_options[] = {
	{"prefix", KEY_PREFIX, "DIR", 0, "Those in DIR/share/jupyter/kernels", 0},
	{"server-config", KEY_SERVER, "DIR", OPTION_ARG_OPTIONAL,
	 "The server's headers that install --server-config wrote: the user's, those below "
	 "--prefix, "
	 "or in DIR",
	 0},
	{0},
};

int verb_list(int argc, char **argv)
{
	static const struct argp parser = {
		.options = list_options,
		.parser = parse,
		.doc = "List the kernelspecs made by cellwall, and whether they would start."};
	struct options options = {0};
	struct list list = {0};
	struct err err = {0};
	int code = 0;

	argp_err_exit_status = 2;
	if (argp_parse(&parser, argc, argv, 0, NULL, &options) != 0)
		return 2;
	if (options.count > 0) {
		fprintf(stderr, "cellwall list: it takes no names\n");
		return 2;
	}
	if (list_find(options.prefix, &list, &err) < 0) {
		fprintf(stderr, "cellwall list: %s\n", err.text);
		return 1;
	}
	if (options.json)
		code = print_json(&list);
	else
		print_table(&list);
	list_done(&list);
	return code < 0 || ferror(stdout) ? 1 : 0;
}

/* Removes the first of that name, which is the one a client sees. */
static int remove_one(const struct list *list, const char *name, struct err *err)
{
	char shown[160];

	for (size_t i = 0; i < list->count; i++) {
		int code;

		if (strcmp(list->rows[i].spec.name, name) != 0)
			continue;
		code = plan_remove(list->rows[i].spec.directory, err);
		if (code == 0)
			printf("removed %s\n", list->rows[i].spec.directory);
		return code;
	}
	return err_set(err, -ENOENT, "no kernelspec %s made by cellwall (see cellwall list)",
		       escape_string(shown, sizeof(shown), name));
}

/* The headers of `install --server-config`. */
static int remove_server(const struct options *options, struct err *err)
{
	cleanup(free_ptr) char *prefix = options->prefix ? paths_absolute(options->prefix) : NULL;
	cleanup(free_ptr) char *directory = options->server_config[0]
						    ? paths_absolute(options->server_config)
					    : options->prefix && !prefix ? NULL
									 : server_directory(prefix);
	cleanup(free_ptr) char *path = NULL;
	int code = directory ? server_remove(directory, &path, err)
			     : err_set(err, -ENOMEM, "cannot find the place of the configuration");

	if (code == 0)
		printf("removed %s; start the notebook server anew\n", path);
	return code;
}

int verb_remove(int argc, char **argv)
{
	static const struct argp parser = {
		.options = remove_options,
		.parser = parse,
		.args_doc = "NAME...",
		.doc = "Remove kernelspecs made by cellwall. Others are never touched."};
	struct options options = {0};
	struct list list = {0};
	struct err err = {0};
	int result = 0;

	argp_err_exit_status = 2;
	if (argp_parse(&parser, argc, argv, 0, NULL, &options) != 0)
		return 2;
	if (options.server_config && remove_server(&options, &err) < 0) {
		fprintf(stderr, "cellwall remove: %s\n", err.text);
		result = 1;
	}
	if (options.count == 0 && options.server_config)
		return result;
	if (options.count == 0) {
		fprintf(stderr, "cellwall remove: which one? (see cellwall list)\n");
		return 2;
	}
	if (list_find(options.prefix, &list, &err) < 0) {
		fprintf(stderr, "cellwall remove: %s\n", err.text);
		return 1;
	}
	for (size_t i = 0; i < options.count; i++) {
		if (remove_one(&list, options.names[i], &err) < 0) {
			fprintf(stderr, "cellwall remove: %s\n", err.text);
			result = 1;
		}
	}
	list_done(&list);
	return result;
}
