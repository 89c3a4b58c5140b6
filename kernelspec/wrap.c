#include "kernelspec/wrap.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

static int out_of_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

/* What the placeholders of jupyter_client's manager.py stand for. */
struct values {
	const char *resource_dir;
	char *prefix; /* of the environment whose share/jupyter holds the spec, else of `jupyter`;
			 may be NULL */
	bool connection_used;
	bool prefix_used;
	bool resource_used;
};

static bool is_program(const char *path)
{
	return access(path, X_OK) == 0;
}

/* PREFIX of PREFIX/share/jupyter/kernels/NAME. NULL: it lies elsewhere. */
static char *prefix_of_spec(const char *directory)
{
	static const char *const steps[] = {"kernels", "jupyter", "share"};
	cleanup(free_ptr) char *at = paths_parent(directory);

	for (size_t i = 0; at && i < sizeof(steps) / sizeof(steps[0]); i++) {
		char *up;

		if (strcmp(paths_name(at), steps[i]) != 0)
			return NULL;
		up = paths_parent(at);
		free_ptr(&at);
		at = up;
	}
	return steal_ptr(&at);
}

/* One placeholder, as text; NULL: not one of Jupyter's, it stays. */
static const char *value_of(struct values *values, const char *name, size_t size)
{
	if (size == 15 && strncmp(name, "connection_file", size) == 0) {
		values->connection_used = true;
		return "{inner_connection_file}";
	}
	if (size == 12 && strncmp(name, "resource_dir", size) == 0) {
		values->resource_used = true;
		return values->resource_dir;
	}
	if (size == 6 && strncmp(name, "prefix", size) == 0) {
		values->prefix_used = true;
		return values->prefix;
	}
	return NULL;
}

/* Replaces placeholders in one word. Caller frees; NULL: no memory. */
static char *replace(struct values *values, const char *word)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	while (*word) {
		const char *end = *word == '{' ? strchr(word, '}') : NULL;
		const char *value =
			end ? value_of(values, word + 1, (size_t)(end - word - 1)) : NULL;

		if (value) {
			(void)fputs(value, out);
			word = end + 1;
		} else {
			(void)fputc(*word++, out);
		}
	}
	if (fclose(out) != 0)
		free_ptr(&text);
	return text;
}

/*
 * "python" in a spec is the interpreter of the server that reads it (manager.py,
 * format_kernel_cmd): the one of the prefix that holds the spec, or of `jupyter`.
 */
static char *server_python(const struct values *values, const char *name)
{
	cleanup(free_ptr) char *bin = values->prefix ? path_join(values->prefix, "bin") : NULL;
	const char *names[] = {name, "python3"};

	for (size_t i = 0; bin && i < 2; i++) {
		cleanup(free_ptr) char *path = path_join(bin, names[i]);

		if (path && is_program(path))
			return steal_ptr(&path);
	}
	return NULL;
}

static int find_program(const struct values *values, const char *word, struct plan *plan,
			struct prefix *ret_prefix, struct err *err)
{
	cleanup(free_ptr) char *python = NULL;
	int code;

	if (!strchr(word, '/') && strncmp(word, "python", 6) == 0)
		python = server_python(values, word);
	code = prefix_find(python ? python : word, ret_prefix, err);
	if (code < 0)
		return code;
	return paths_list_add(&plan->argv, ret_prefix->executable) < 0 ? out_of_memory(err) : 0;
}

/* Is the path visible inside as things stand? */
static bool visible(const struct plan *plan, const struct prefix *prefix, const char *path)
{
	if (prefix_always_there(path))
		return true;
	for (char **each = prefix->paths; each && *each; each++)
		if (paths_within(path, *each))
			return true;
	for (size_t i = 0; i < plan->shows.count; i++)
		if (paths_within(path, plan->shows.items[i]))
			return true;
	return false;
}

static int show(struct plan *plan, const struct prefix *prefix, const char *directory,
		struct err *err)
{
	int code;

	if (visible(plan, prefix, directory))
		return 0;
	code = prefix_may_show(directory, err);
	if (code == 0 && paths_list_add(&plan->shows, directory) < 0)
		code = out_of_memory(err);
	if (code == 0)
		plan_notice(plan, "%s is shown read-only inside the kernel", directory);
	return code;
}

/* A path among the arguments ("/x/kernel.js", "--config=/x/y") is of no use unless it can be seen.
 */
static int show_argument(struct plan *plan, const struct prefix *prefix, const char *word,
			 struct err *err)
{
	const char *equals = word[0] == '-' ? strchr(word, '=') : NULL;
	const char *named = equals ? equals + 1 : word;
	cleanup(free_ptr) char *path = NULL, *parent = NULL;
	struct err reason;

	if (named[0] != '/' || access(named, F_OK) < 0)
		return 0;
	path = paths_absolute(named);
	parent = path ? paths_parent(path) : NULL;
	if (!parent)
		return out_of_memory(err);
	if (show(plan, prefix, paths_is_directory(path) ? path : parent, &reason) == -EACCES)
		plan_notice(plan, "%s will not be visible inside the kernel: %s", path,
			    reason.text);
	return 0;
}

static int take_argv(const struct search_spec *spec, struct values *values, struct plan *plan,
		     struct prefix *ret_prefix, struct err *err)
{
	const json_t *argv = json_object_get(spec->json, "argv");
	const json_t *word;
	size_t i;
	int code = 0;

	if (json_array_size(argv) == 0)
		return err_set(err, -EINVAL, "%s/kernel.json has no argv", spec->directory);
	json_array_foreach(argv, i, word)
	{
		cleanup(free_ptr) char *text = NULL;

		if (!json_is_string(word))
			return err_set(err, -EINVAL,
				       "%s/kernel.json: argv holds something that is no string",
				       spec->directory);
		text = replace(values, json_string_value(word));
		if (!text)
			return out_of_memory(err);
		if (i == 0)
			code = find_program(values, text, plan, ret_prefix, err);
		else if (paths_list_add(&plan->argv, text) < 0)
			code = err_set(err, -E2BIG, "%s/kernel.json: argv is too long",
				       spec->directory);
		if (code < 0)
			return code;
	}
	if (values->prefix_used && !values->prefix)
		return search_jupyter_prefix(&values->prefix, err);
	if (!values->connection_used)
		return err_set(err, -EINVAL, "%s/kernel.json has no {connection_file} in its argv",
			       spec->directory);
	return 0;
}

static int take_paths(const struct values *values, struct plan *plan, const struct prefix *prefix,
		      struct err *err)
{
	int code = 0;

	if (values->resource_used)
		code = show(plan, prefix, values->resource_dir, err);
	if (code == 0 && values->prefix_used)
		code = show(plan, prefix, values->prefix, err);
	for (size_t i = 1; code == 0 && i < plan->argv.count; i++)
		code = show_argument(plan, prefix, plan->argv.items[i], err);
	return code;
}

/* A name whose value would be read in the process list, where --setenv puts it. */
static bool looks_secret(const char *name)
{
	static const char *const words[] = {"TOKEN",  "SECRET",	    "PASSWORD",
					    "PASSWD", "CREDENTIAL", "API_KEY"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcasestr(name, words[i]))
			return true;
	return false;
}

static int take_env(const struct search_spec *spec, struct plan *plan, struct err *err)
{
	json_t *env = json_object_get(spec->json, "env"), *value;
	const char *name;

	json_object_foreach(env, name, value)
	{
		cleanup(free_ptr) char *entry = NULL;
		const char *text = json_string_value(value);
		char shown[128];

		escape_string(shown, sizeof(shown), name);
		if (!text || !*name || strchr(name, '=')) {
			plan_notice(plan, "env %s was left out: it is not a string", shown);
		} else if (strchr(text, '$')) {
			plan_notice(plan,
				    "env %s was left out: its value is a template of the server's "
				    "environment; set it in a policy",
				    shown);
		} else if (strchr(text, '{') && strchr(text, '}')) {
			plan_notice(plan,
				    "env %s was left out: Jupyter would replace what is in braces",
				    shown);
		} else if (looks_secret(name)) {
			plan_notice(plan,
				    "env %s was left out: every user of this host would read it in "
				    "the process "
				    "list; set it in a policy",
				    shown);
		} else {
			entry = format_string("%s=%s", name, text);
			if (!entry || paths_list_add(&plan->setenv, entry) < 0)
				return err_set(err, -E2BIG, "%s/kernel.json: env is too long",
					       spec->directory);
		}
	}
	return 0;
}

/* Takes a string member, or `otherwise`. */
static char *member(const json_t *json, const char *key, const char *otherwise)
{
	const char *value = json_string_value(json_object_get(json, key));

	return strdup(value && *value ? value : otherwise);
}

static int take_looks(const struct search_spec *spec, struct plan *plan, struct err *err)
{
	const json_t *metadata = json_object_get(spec->json, "metadata");
	cleanup(free_ptr) char *display = member(spec->json, "display_name", spec->name);

	plan->debugger = json_is_true(json_object_get(metadata, "debugger"));
	plan->language = member(spec->json, "language", "");
	plan->interrupt_mode = member(spec->json, "interrupt_mode", "signal");
	plan->wraps = strdup(spec->directory);
	plan->mode_private = !(spec->mode & 0004);
	if (!plan->name)
		plan->name = format_string("%s-isolated", spec->name);
	if (!plan->display_name && display)
		plan->display_name = format_string("%s (isolated)", display);
	if (!plan->language || !plan->interrupt_mode || !plan->wraps || !plan->name ||
	    !plan->display_name)
		return out_of_memory(err);
	if (strcmp(plan->interrupt_mode, "signal") != 0 &&
	    strcmp(plan->interrupt_mode, "message") != 0)
		return err_set(err, -EINVAL,
			       "%s/kernel.json: interrupt_mode is neither signal nor message",
			       spec->directory);
	if (json_object_get(metadata, "kernel_provisioner"))
		plan_notice(
			plan,
			"its kernel provisioner is not used: cellwall starts the kernel itself");
	return 0;
}

int wrap_plan(const struct search_spec *spec, struct plan *plan, struct prefix *ret_prefix,
	      struct err *err)
{
	struct values values = {.resource_dir = spec->directory};
	int code;

	if (search_is_ours(spec))
		return err_set(err, -EINVAL, "%s is isolated already", spec->directory);
	values.prefix = prefix_of_spec(spec->directory);
	/* ~/.local/share/jupyter belongs to every server of the account, not to an interpreter in
	 * ~/.local. */
	if (values.prefix && !(paths_exists(values.prefix, "bin/python3") ||
			       paths_exists(values.prefix, "bin/python")))
		free_ptr(&values.prefix);
	if (!values.prefix)
		(void)search_jupyter_prefix(&values.prefix, NULL);
	code = take_looks(spec, plan, err);
	if (code == 0)
		code = take_argv(spec, &values, plan, ret_prefix, err);
	if (code == 0)
		code = take_paths(&values, plan, ret_prefix, err);
	if (code == 0)
		code = take_env(spec, plan, err);
	free_ptr(&values.prefix);
	return code;
}
