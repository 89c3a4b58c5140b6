#include "proxy/stage_setting.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "sandbox/staging.h"

#define STARTUP_MAX 100 /* they are numbered with two digits */

struct policy_input *stage_setting_inputs_new(size_t count)
{
	return calloc(count + 1, sizeof(struct policy_input));
}

void stage_setting_inputs_free(struct policy_input *inputs)
{
	for (struct policy_input *input = inputs; input && input->path; input++) {
		free(input->path);
		free(input->name);
	}
	free(inputs);
}

/* ---- stage.in ---- */

/* Where the input appears below /work. */
static int clean_name(const char *text, const struct place *at, char **ret_name)
{
	cleanup(free_ptr) char *name = NULL;
	char shown[120];
	int r = setting_path(text, STAGING_PATH_MAX, at, &name);

	if (r < 0)
		return r;
	if (name[0] == '\0' || name[0] == '/') {
		escape_string(shown, sizeof(shown), text);
		return place_complain(
			at, false,
			"\"%s\" is not a name in /work, such as \"data\" or \"data/2026\"", shown);
	}
	if (strcmp(name, "staging/in") == 0)
		return place_complain(at, false, "staging/in is always staged: leave it out");
	if (strcmp(name, "staging") == 0 || strcmp(name, "staging/out") == 0 ||
	    strncmp(name, "staging/out/", 12) == 0)
		return place_complain(at, false,
				      "staging/out is where results go and cannot be staged");
	*ret_name = steal_ptr(&name);
	return 0;
}

static int clean_source(const char *text, const struct place *at, char **ret_path)
{
	cleanup(free_ptr) char *path = NULL;
	int r;

	if (text[0] == '\0')
		return place_complain(at, false,
				      "an empty path: name a folder or file, such as \"data\"");
	r = setting_path(text, text[0] == '/' ? SETTING_PATH_MAX : STAGING_PATH_MAX, at, &path);
	if (r < 0)
		return r;
	if (path[0] == '\0' && text[0] == '/')
		return place_complain(
			at, false, "\"/\" would show the whole host: name what the kernel needs");
	if (path[0] == '\0')
		return place_complain(at, false,
				      "\".\" would show everything beside the notebook, secrets "
				      "included: name what the kernel needs, such as \"data\"");
	*ret_path = steal_ptr(&path);
	return 0;
}

/* `text` is the path; `name` may be NULL: a relative one keeps its place, an absolute one has its
 * last name. */
static int fill_input(struct policy_input *input, const char *text, const char *name,
		      const struct place *at)
{
	int r = clean_source(text, at, &input->path);

	if (r < 0)
		return r;
	if (!name)
		name = input->path[0] == '/' ? strrchr(input->path, '/') + 1 : input->path;
	return clean_name(name, at, &input->name);
}

/* "NAME=/abs/path", or a path. What begins with "/" or "./" is a path whatever follows. */
static int read_text(const char *text, const struct place *at, struct policy_input *input)
{
	const char *equals = strstr(text, "=/");
	cleanup(free_ptr) char *name = NULL;

	if (!equals || equals == text || text[0] == '/' || strncmp(text, "./", 2) == 0)
		return fill_input(input, text, NULL, at);
	name = strndup(text, (size_t)(equals - text));
	return name ? fill_input(input, equals + 1, name, at) : setting_no_memory(at);
}

/* One member of {"path", "name", "required"}; `path` and `name` are lent. */
static int read_member(const char *key, const json_t *value, const struct place *at,
		       const char **path, const char **name, bool *required)
{
	char shown[64];

	if (strcmp(key, "required") == 0) {
		if (!json_is_boolean(value))
			return place_complain(at, false,
					      "\"required\" must be true or false, not %s",
					      setting_type_name(value));
		*required = json_is_true(value);
		return 0;
	}
	if (strcmp(key, "path") != 0 && strcmp(key, "name") != 0) {
		escape_string(shown, sizeof(shown), key);
		return place_complain(
			at, true,
			"unknown key \"%s\" in an entry of \"in\" (known: path, name, required)",
			shown);
	}
	if (!json_is_string(value))
		return place_complain(at, false, "\"%s\" must be a string, not %s", key,
				      setting_type_name(value));
	*(strcmp(key, "path") == 0 ? path : name) = json_string_value(value);
	return 0;
}

static int read_object(json_t *object, struct place *at, struct policy_input *input)
{
	const char *path = NULL, *name = NULL, *key;
	json_t *value;
	int r = 0;

	json_object_foreach(object, key, value)
	{
		at->item = key;
		r = read_member(key, value, at, &path, &name, &input->required);
		if (r < 0)
			return r;
	}
	at->item = NULL;
	if (!path)
		return place_complain(at, false, "\"path\" is missing in this entry of \"in\"");
	at->item = "path";
	r = clean_source(path, at, &input->path);
	if (r < 0)
		return r;
	if (name)
		at->item = "name";
	else
		name = input->path[0] == '/' ? strrchr(input->path, '/') + 1 : input->path;
	r = clean_name(name, at, &input->name);
	at->item = NULL;
	return r;
}

/* A name can be had once. */
static int check_name(const struct policy_input *inputs, const struct policy_input *input,
		      const struct place *at)
{
	char shown[120];

	for (const struct policy_input *other = inputs; other != input; other++) {
		if (strcmp(other->name, input->name) == 0) {
			escape_string(shown, sizeof(shown), other->path);
			return place_complain(at, false,
					      "it would take the place of \"%s\" in /work", shown);
		}
	}
	return 0;
}

int stage_setting_inputs(const struct setting *setting, json_t *value, struct place *at,
			 void *target)
{
	cleanup(stage_setting_inputs_free_p) struct policy_input *inputs = NULL;
	struct policy_input **place = target;
	int r = setting_list(setting, value, at, "[\"data\"]");

	if (r < 0)
		return r;
	inputs = stage_setting_inputs_new(json_array_size(value));
	if (!inputs)
		return setting_no_memory(at);
	at->in_list = true;
	for (size_t i = 0; i < json_array_size(value); i++) {
		json_t *entry = json_array_get(value, i);
		struct policy_input one = {0};

		at->index = i;
		if (json_is_string(entry))
			r = read_text(json_string_value(entry), at, &one);
		else if (json_is_object(entry))
			r = read_object(entry, at, &one);
		else
			r = place_complain(
				at, false,
				"an entry of \"%s\" must be a string or an object, not %s",
				setting->key, setting_type_name(entry));
		if (r == 0) {
			inputs[i] = one;
			r = check_name(inputs, &inputs[i], at);
		} else {
			free(one.path);
			free(one.name);
		}
		if (r < 0)
			return r;
	}
	stage_setting_inputs_free(*place);
	*place = steal_ptr(&inputs);
	return 0;
}

/* ---- lists of strings ---- */

static int copy(const char *text, const struct place *at, char **ret_text)
{
	*ret_text = strdup(text);
	return *ret_text ? 0 : setting_no_memory(at);
}

static int check_directory(const char *text, const struct place *at, char **ret_text)
{
	cleanup(free_ptr) char *path = NULL;
	char shown[120];
	int r;

	if (strcmp(text, ".") == 0)
		return copy(text, at, ret_text);
	escape_string(shown, sizeof(shown), text);
	r = setting_path(text, SETTING_PATH_MAX, at, &path);
	if (r < 0)
		return r;
	if (text[0] == '/' && path[0] == '\0')
		return place_complain(
			at, false,
			"\"/\" would let the whole host be added: name the directories that may");
	if (text[0] != '/')
		return place_complain(
			at, false,
			"\"%s\" is neither \".\" (what is beside the notebook) nor an "
			"absolute directory",
			shown);
	*ret_text = steal_ptr(&path);
	return 0;
}

int stage_setting_trees(const struct setting *setting, json_t *value, struct place *at,
			void *target)
{
	return setting_checked_list(setting, value, at, target, "[\".\", \"/srv/data\"]",
				    check_directory);
}

static int check_file_name(const char *text, const struct place *at, char **ret_text)
{
	char shown[120];

	if (text[0] == '\0' || strchr(text, '/') || strcmp(text, ".") == 0 ||
	    strcmp(text, "..") == 0 || strlen(text) > NAME_MAX) {
		escape_string(shown, sizeof(shown), text);
		return place_complain(
			at, false,
			"\"%s\" is not one name of a file or directory, such as \"conftest.py\"",
			shown);
	}
	if (strchr(text, '*') || strchr(text, '?')) {
		escape_string(shown, sizeof(shown), text);
		return place_complain(at, false,
				      "\"%s\": patterns are not expanded, write the name", shown);
	}
	return copy(text, at, ret_text);
}

int stage_setting_names(const struct setting *setting, json_t *value, struct place *at,
			void *target)
{
	return setting_checked_list(setting, value, at, target, "[\"conftest.py\"]",
				    check_file_name);
}

static int check_cache(const char *text, const struct place *at, char **ret_text)
{
	char shown[120], known[120] = "";
	size_t used = 0;

	for (const char *const *cache = policy_caches; *cache; cache++) {
		if (strcmp(*cache, text) == 0)
			return copy(text, at, ret_text);
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s",
					 used ? ", " : "", *cache);
	}
	escape_string(shown, sizeof(shown), text);
	return place_complain(at, false, "unknown cache \"%s\" (known: %s)", shown, known);
}

int stage_setting_caches(const struct setting *setting, json_t *value, struct place *at,
			 void *target)
{
	return setting_checked_list(setting, value, at, target, "[\"huggingface\"]", check_cache);
}

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), tail = strlen(end);

	return length > tail && strcmp(text + length - tail, end) == 0;
}

static int check_startup(const char *text, const struct place *at, char **ret_text)
{
	cleanup(free_ptr) char *path = NULL;
	char shown[120];
	int r = setting_path(text, SETTING_PATH_MAX, at, &path);

	if (r < 0)
		return r;
	escape_string(shown, sizeof(shown), text);
	if (!ends_with(path, ".py") && !ends_with(path, ".ipy"))
		return place_complain(at, false,
				      "\"%s\": IPython runs files that end with .py or .ipy only",
				      shown);
	if (at->index >= STARTUP_MAX)
		return place_complain(at, false, "more than %d files", STARTUP_MAX);
	*ret_text = steal_ptr(&path);
	return 0;
}

int stage_setting_startup(const struct setting *setting, json_t *value, struct place *at,
			  void *target)
{
	return setting_checked_list(setting, value, at, target, "[\"startup.py\"]", check_startup);
}

/* ---- stage.history ---- */

int stage_setting_history(const struct setting *setting, json_t *value, struct place *at,
			  void *target)
{
	const char *text = json_string_value(value);
	bool folder = text && strcmp(text, "folder") == 0;

	if (!folder && (!text || strcmp(text, "off") != 0))
		return place_complain(
			at, false,
			"\"%s\" must be \"off\" or \"folder\" (kept for the notebooks "
			"of one folder)%s%s",
			setting->key, text ? "" : ", not ", text ? "" : setting_type_name(value));
	*(bool *)target = folder;
	return 0;
}
