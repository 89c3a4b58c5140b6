/*
 * Theory of operation
 *
 * jansson decides what is valid JSON, one table (settings) decides what the keys mean: each is a
 * section, a key, a parser (setting.c, stage_setting.c) and its bounds. A path of keys goes along
 * (struct place), so that an error can say where in the text it is. Everything is read into a fresh
 * policy that replaces the caller's only when all of it is right.
 */
#include "proxy/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>

#include "proxy/install_setting.h"
#include "proxy/outputs_setting.h"
#include "proxy/resource_setting.h"
#include "proxy/setting.h"
#include "proxy/stage_setting.h"

#define MIB (1ULL << 20)
#define GIB (1ULL << 30)
#define TIB (1ULL << 40)

/*
 * What a kernel gets of the server's environment when the policy does not say: how the user reads
 * text and time, what the terminal shows, and how many threads to start. Nothing that is or names a
 * secret, a path or a host. Not MPLBACKEND: ipykernel sets it for itself. A user's reproducibility
 * switch (PYTHONHASHSEED) is harmless and wanted.
 */
static const char *const default_keep[] = {
	"LANG",
	"LANGUAGE",
	"LC_ALL",
	"LC_CTYPE",
	"LC_NUMERIC",
	"LC_TIME",
	"LC_COLLATE",
	"LC_MESSAGES",
	"LC_MONETARY",
	"TZ",
	"TERM",
	"COLORTERM",
	"NO_COLOR",
	"OMP_NUM_THREADS",
	"OPENBLAS_NUM_THREADS",
	"MKL_NUM_THREADS",
	"PYTHONHASHSEED",
	NULL,
};

static const char *const default_may_add[] = {".", NULL};
static const char *const default_targets[] = {"jupyter.widget", NULL};

const char *const policy_caches[] = {"huggingface", "nltk", "sklearn", "torch", NULL};

/*
 * The bounds keep out what cannot be meant: a kernel with less than these does not start, and above
 * them the host's own limits come first (PID_MAX_LIMIT, proc(5); fs.nr_open). A tmpfs of size 0
 * would have no limit, tmpfs(5).
 */
static const struct setting settings[] = {
	{"stage", "in", stage_setting_inputs, offsetof(struct policy, stage_in), 0, 0, false},
	{"stage", "may_add", stage_setting_trees, offsetof(struct policy, may_add), 0, 0, false},
	{"stage", "out_limit", setting_size, offsetof(struct policy, out_limit), MIB, 16 * TIB,
	 false},
	{"stage", "out_files", setting_count, offsetof(struct policy, out_files), 1, 1000000,
	 false},
	{"stage", "out_names", stage_setting_names, offsetof(struct policy, out_names), 0, 0,
	 false},
	{"stage", "caches", stage_setting_caches, offsetof(struct policy, caches), 0, 0, false},
	{"stage", "history", stage_setting_history, offsetof(struct policy, history), 0, 0, false},
	{"stage", "startup", stage_setting_startup, offsetof(struct policy, startup), 0, 0, false},
	{NULL, "wall", setting_wall, offsetof(struct policy, landlock), 0, 0, false},
	{NULL, "python", setting_directory, offsetof(struct policy, python), 0, 0, false},
	{NULL, "install", install_setting, offsetof(struct policy, install), 0, 0, false},
	{"env", "keep", setting_names, offsetof(struct policy, env_keep), 0, 0, false},
	{"env", "set", setting_assignments, offsetof(struct policy, env_set), 0, 0, false},
	{"resources", "memory", resource_setting_memory, offsetof(struct policy, memory), 128 * MIB,
	 16 * TIB, true},
	{"resources", "cpus", resource_setting_cpus, offsetof(struct policy, cpus), 0, 0, true},
	{"resources", "disk", setting_size, offsetof(struct policy, disk), 16 * MIB, 16 * TIB,
	 true},
	{"resources", "idle_timeout", resource_setting_duration,
	 offsetof(struct policy, idle_timeout), 1, 365 * 86400, true},
	{"resources", "enforce", resource_setting_enforce, offsetof(struct policy, cgroup_only), 0,
	 0, false},
	{"resources", "pids", setting_count, offsetof(struct policy, pids), 32, 4194304, false},
	{"resources", "open_files", setting_count, offsetof(struct policy, open_files), 64, 1048576,
	 false},
	{"resources", "tmp", setting_size, offsetof(struct policy, tmp), MIB, 16 * TIB, false},
	{"audit", "content", setting_flag, offsetof(struct policy, audit.content), 0, 0, false},
	{"audit", "messages", setting_flag, offsetof(struct policy, audit.messages), 0, 0, false},
	{"audit", "required", setting_flag, offsetof(struct policy, audit.required), 0, 0, false},
	{"audit", "keep", setting_size, offsetof(struct policy, audit.keep), MIB, 16 * TIB, false},
	{"outputs", "mode", outputs_setting_mode, offsetof(struct policy, outputs.mode), 0, 0,
	 false},
	{"outputs", "autolink", outputs_setting_autolink, offsetof(struct policy, outputs.links), 0,
	 0, false},
	{"outputs", "mime", outputs_setting_mime, offsetof(struct policy, outputs.mime), 0, 0,
	 false},
	{"outputs", "extra_types", outputs_setting_types,
	 offsetof(struct policy, outputs.extra_types), 0, 0, false},
	{"outputs", "comm_targets", outputs_setting_targets,
	 offsetof(struct policy, outputs.comm_targets), 0, 0, false},
	{"build", "allow", setting_flag, offsetof(struct policy, build), 0, 0, false},
	{"build", "hosts", setting_hosts, offsetof(struct policy, build_hosts), 0, 0, false},
	{"build", "size", setting_size, offsetof(struct policy, build_size), MIB, 64 * GIB, false},
	{"build", "time", resource_setting_duration, offsetof(struct policy, build_time), 1,
	 365 * 86400, true},
};
enum { SETTINGS = sizeof(settings) / sizeof(settings[0]) };

/* ---- keys ---- */

enum { NEAR_MAX = 24 }; /* no known key is as long */

/* Edits (insert, remove, replace) from one word to the other; NEAR_MAX when either is too long. */
static size_t edit_distance(const char *a, const char *b)
{
	size_t row[NEAR_MAX + 1], length = strlen(b);

	if (strlen(a) > NEAR_MAX || length > NEAR_MAX)
		return NEAR_MAX;
	for (size_t j = 0; j <= length; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= length; j++) {
			size_t best = diagonal + (a[i - 1] != b[j - 1]);

			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diagonal = row[j];
			row[j] = best;
		}
	}
	return row[length];
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

/* The i-th name that may stand in `section` (NULL: at the top, where sections count once), or NULL
 * when it does not. */
static const char *name_in(const char *section, size_t i)
{
	if (section || !settings[i].section)
		return same_text(section, settings[i].section) ? settings[i].key : NULL;
	return i == 0 || !same_text(settings[i].section, settings[i - 1].section)
		       ? settings[i].section
		       : NULL;
}

/* A word on where the key may have been meant to stand, or what it may have been meant to be. */
static void hint_for(const char *section, const char *key, char out[96])
{
	size_t nearest = 3;

	out[0] = '\0';
	for (size_t i = 0; i < SETTINGS; i++) {
		const char *name = name_in(section, i);
		size_t distance = name ? edit_distance(key, name) : NEAR_MAX;

		if (!same_text(section, settings[i].section) && strcmp(key, settings[i].key) == 0) {
			if (settings[i].section)
				(void)snprintf(out, 96, ": it belongs in \"%s\"",
					       settings[i].section);
			else
				(void)snprintf(out, 96, ": it belongs at the top");
			return;
		}
		/* Of a short word, two edits leave nothing. */
		if (distance < nearest && 2 * distance <= strlen(key)) {
			nearest = distance;
			(void)snprintf(out, 96, ", did you mean \"%s\"?", name);
		}
	}
}

/* Appends ", word" when there is room. */
static void add_word(char *list, size_t size, const char *word)
{
	size_t used = strlen(list), length = strlen(word);

	if (used + length + 3 > size)
		return;
	if (used > 0) {
		memcpy(list + used, ", ", 2);
		used += 2;
	}
	memcpy(list + used, word, length + 1);
}

static int unknown_key(const struct place *at, const char *section, const char *key)
{
	char shown[64], known[128] = "", hint[96], within[48] = "";

	escape_string(shown, sizeof(shown), key);
	hint_for(section, key, hint);
	if (section)
		(void)snprintf(within, sizeof(within), " in \"%s\"", section);
	for (size_t i = 0; i < SETTINGS; i++) {
		const char *name = name_in(section, i);

		if (name)
			add_word(known, sizeof(known), name);
	}
	return place_complain(at, true, "unknown key \"%s\"%s%s (known: %s)", shown, within, hint,
			      known);
}

static const struct setting *find_setting(const char *section, const char *key)
{
	for (size_t i = 0; i < SETTINGS; i++)
		if (same_text(section, settings[i].section) && strcmp(key, settings[i].key) == 0)
			return &settings[i];
	return NULL;
}

static bool is_section(const char *key)
{
	for (size_t i = 0; i < SETTINGS; i++)
		if (settings[i].section && strcmp(settings[i].section, key) == 0)
			return true;
	return false;
}

/* The keys of one object: `section` NULL is the whole file, whose sections are read one level down.
 */
static int read_keys(json_t *object, const char *section, struct place place, struct policy *policy)
{
	const char *key;
	json_t *value;
	int r;

	place.depth++;
	json_object_foreach(object, key, value)
	{
		const struct setting *setting = find_setting(section, key);
		struct place at = place;

		at.path[at.depth - 1] = key;
		if (setting) {
			r = setting->parse(setting, value, &at,
					   (void *)((char *)policy + setting->offset));
		} else if (!section && is_section(key)) {
			if (!json_is_object(value))
				return place_complain(&at, false,
						      "\"%s\" must be an object {...}, not %s", key,
						      setting_type_name(value));
			r = read_keys(value, key, at, policy);
		} else {
			return unknown_key(&at, section, key);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the interface ---- */

static char **copy_list(const char *const *list)
{
	cleanup(setting_list_free_p) char **copy = NULL;
	size_t count = 0;

	while (list[count])
		count++;
	copy = setting_list_new(count);
	for (size_t i = 0; copy && i < count; i++) {
		copy[i] = strdup(list[i]);
		if (!copy[i])
			return NULL;
	}
	return steal_ptr(&copy);
}

int policy_default(struct policy *ret_policy)
{
	struct policy policy = {
		.out_limit = 2 * GIB,
		.out_files = 10000,
		.memory = 80,
		.disk = 20 * GIB,
		.pids = 4096,
		.open_files = 4096,
		.tmp = GIB,
		.audit.keep = 256 * MIB,
		.build = true,
		.build_size = 64 * GIB,
		.build_time = 3 * 3600, /* it holds the locks of the store */
		.stage_in = stage_setting_inputs_new(0),
		.may_add = copy_list(default_may_add),
		.out_names = setting_list_new(0),
		.caches = setting_list_new(0),
		.startup = setting_list_new(0),
		.env_keep = copy_list(default_keep),
		.env_set = setting_list_new(0),
		.outputs = {.mode = OUTPUTS_STATIC,
			    .mime = setting_list_new(0),
			    .extra_types = setting_list_new(0),
			    .comm_targets = copy_list(default_targets)},
	};

	if (!policy.stage_in || !policy.may_add || !policy.out_names || !policy.caches ||
	    !policy.startup || !policy.env_keep || !policy.env_set || !policy.outputs.mime ||
	    !policy.outputs.extra_types || !policy.outputs.comm_targets) {
		policy_done(&policy);
		return -ENOMEM;
	}
	*ret_policy = policy;
	return 0;
}

void policy_done(struct policy *policy)
{
	stage_setting_inputs_free(policy->stage_in);
	setting_list_free(policy->may_add);
	setting_list_free(policy->out_names);
	setting_list_free(policy->caches);
	setting_list_free(policy->startup);
	setting_list_free(policy->env_keep);
	setting_list_free(policy->env_set);
	setting_list_free(policy->outputs.mime);
	setting_list_free(policy->outputs.extra_types);
	setting_list_free(policy->outputs.comm_targets);
	setting_list_free(policy->build_hosts);
	install_rules_done(&policy->install);
	free(policy->python);
	*policy = (struct policy){0};
}

/* What people most often write into JSON files that is none. */
static const char *syntax_hint(const char *text)
{
	if (strstr(text, "near '/") || strstr(text, "near '#"))
		return " (JSON has no comments)";
	if (strstr(text, "near '}'") || strstr(text, "near ']'"))
		return " (no comma after the last entry)";
	if (strstr(text, "near '''"))
		return " (strings are in double quotes)";
	if (strstr(text, "near '\xef\xbb\xbf"))
		return " (save it without a byte order mark)";
	if (strstr(text, "near end of file"))
		return " (the default policy is \"{}\")";
	return "";
}

static int parse_text(const char *name, const char *text, size_t size, struct policy *policy,
		      struct err *err)
{
	struct place at = {.name = name, .text = text, .size = size, .err = err};
	json_error_t error;
	json_t *object;
	char file[200], shown[160];
	int r;

	escape_string(file, sizeof(file), name);
	if (size > POLICY_FILE_MAX)
		return err_set(err, -EFBIG, "%s: longer than %d bytes", file, POLICY_FILE_MAX);
	object = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
	if (!object) {
		escape_string(shown, sizeof(shown), error.text);
		return err_set(err, -EINVAL, "%s:%d:%d: %s%s", file, error.line, error.column,
			       shown, syntax_hint(error.text));
	}
	if (json_is_object(object))
		r = read_keys(object, NULL, at, policy);
	else
		r = place_complain(&at, false, "a policy must be an object {...}, not %s",
				   setting_type_name(object));
	json_decref(object);
	return r;
}

int policy_parse(const char *name, const char *text, size_t size, struct policy *ret_policy,
		 struct err *err)
{
	struct policy policy;
	int r;

	r = policy_default(&policy);
	if (r < 0)
		return err_set(err, r, "out of memory");
	r = parse_text(name, text, size, &policy, err);
	if (r < 0) {
		policy_done(&policy);
		return r;
	}
	*ret_policy = policy;
	return 0;
}

int policy_read(const char *path, struct policy *ret_policy, struct err *err)
{
	cleanup(free_ptr) char *text = NULL;
	struct stat status;
	char shown[200];
	size_t size = 0;
	int r;

	escape_string(shown, sizeof(shown), path);
	/* Opening a fifo would wait for a writer for ever. */
	if (stat(path, &status) < 0)
		return err_errno(err, "policy file %s", shown);
	if (!S_ISREG(status.st_mode))
		return err_set(err, -EINVAL, "policy file %s is not a regular file", shown);
	r = read_file(AT_FDCWD, path, POLICY_FILE_MAX, &text, &size, err);
	if (r < 0) {
		err_wrap(err, "policy file");
		return r;
	}
	return policy_parse(path, text, size, ret_policy, err);
}

/* ---- printing ---- */

static json_t *show_list(char **list)
{
	json_t *array = json_array();

	for (size_t i = 0; array && list[i]; i++) {
		if (json_array_append_new(array, json_string(list[i])) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

/* As short as it can be written. */
static json_t *show_input(const struct policy_input *input)
{
	const bool absolute = input->path[0] == '/';
	const char *usual = absolute ? strrchr(input->path, '/') + 1 : input->path;

	/* A relative path with "=/" in it would read as a name and a path. */
	if (!input->required && strcmp(usual, input->name) == 0 &&
	    (absolute || !strstr(input->path, "=/")))
		return json_string(input->path);
	if (input->required)
		return json_pack("{s:s, s:s, s:b}", "path", input->path, "name", input->name,
				 "required", 1);
	return json_pack("{s:s, s:s}", "path", input->path, "name", input->name);
}

static json_t *show_inputs(const struct policy_input *inputs)
{
	json_t *array = json_array();

	for (; array && inputs->path; inputs++) {
		if (json_array_append_new(array, show_input(inputs)) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

static json_t *show_assignments(char **list)
{
	json_t *object = json_object();

	for (size_t i = 0; object && list[i]; i++) {
		cleanup(free_ptr) char *name = strdup(list[i]);
		char *equals = name ? strchr(name, '=') : NULL;

		if (equals)
			*equals = '\0';
		if (!equals || json_object_set_new(object, name, json_string(equals + 1)) < 0) {
			json_decref(object);
			return NULL;
		}
	}
	return object;
}

static json_t *show_size(uint64_t bytes)
{
	char text[32];

	if (bytes == 0)
		return json_integer(0);
	setting_format_size(bytes, text);
	return json_string(text);
}

static json_t *show_outputs(const struct outputs_rules *outputs)
{
	return json_pack("{s:s, s:s, s:o, s:o, s:o}", "mode", outputs_mode_name(outputs->mode),
			 "autolink", outputs->links ? "leave" : "defang", "mime",
			 show_list(outputs->mime), "extra_types", show_list(outputs->extra_types),
			 "comm_targets", show_list(outputs->comm_targets));
}

char *policy_show(const struct policy *policy)
{
	json_t *object;
	char *text;

	/* json_pack(3) takes every "o" over and gives NULL when one of them is NULL. */
	object = json_pack(
		"{s:{s:o,s:o,s:o,s:I,s:o,s:o,s:s,s:o}, s:s, s:s?, s:{s:o,s:o}, "
		"s:{s:o,s:o,s:I,s:I,s:o,s:o,s:o,s:s}, "
		"s:{s:b,s:b,s:b,s:o}, s:o, s:{s:b,s:o,s:o,s:o}, s:o}",
		"stage", "in", show_inputs(policy->stage_in), "may_add", show_list(policy->may_add),
		"out_limit", show_size(policy->out_limit), "out_files",
		(json_int_t)policy->out_files, "out_names", show_list(policy->out_names), "caches",
		show_list(policy->caches), "history", policy->history ? "folder" : "off", "startup",
		show_list(policy->startup), "wall", policy->landlock ? "landlock" : "namespaces",
		"python", policy->python, "env", "keep", show_list(policy->env_keep), "set",
		show_assignments(policy->env_set), "resources", "memory",
		resource_setting_show_memory(policy->memory), "cpus",
		resource_setting_show_cpus(policy->cpus), "pids", (json_int_t)policy->pids,
		"open_files", (json_int_t)policy->open_files, "tmp", show_size(policy->tmp), "disk",
		show_size(policy->disk), "idle_timeout",
		resource_setting_show_duration(policy->idle_timeout), "enforce",
		policy->cgroup_only ? "cgroup" : "best", "audit", "content", policy->audit.content,
		"messages", policy->audit.messages, "required", policy->audit.required, "keep",
		show_size(policy->audit.keep), "outputs", show_outputs(&policy->outputs), "build",
		"allow", policy->build, "hosts",
		policy->build_hosts ? show_list(policy->build_hosts) : json_null(), "size",
		show_size(policy->build_size), "time",
		resource_setting_show_duration(policy->build_time), "install",
		install_setting_show(&policy->install));
	if (!object)
		return NULL;
	text = json_dumps(object, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	json_decref(object);
	return text;
}
