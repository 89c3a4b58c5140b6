#include "proxy/setting.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define HOST_NAME_BYTES 253	     /* RFC 1035 */
#define ENV_NAME_MAX	255	     /* a name is a word; longer ones are a slip */
#define ENV_TEXT_MAX	(128 * 1024) /* NAME=VALUE and its NUL: MAX_ARG_STRLEN, execve(2) */

#define TIB (1ULL << 40)
#define GIB (1ULL << 30)
#define MIB (1ULL << 20)
#define KIB (1ULL << 10)

int setting_no_memory(const struct place *at)
{
	return err_set(at->err, -ENOMEM, "out of memory");
}

void setting_list_free(char **list)
{
	for (size_t i = 0; list && list[i]; i++)
		free(list[i]);
	free(list);
}

char **setting_list_new(size_t count)
{
	return calloc(count + 1, sizeof(char *));
}

bool setting_list_has(char **list, const char *text)
{
	for (size_t i = 0; list[i]; i++)
		if (strcmp(list[i], text) == 0)
			return true;
	return false;
}

/* Frees what `target` (a char ***) points to and puts the list there, which becomes NULL. */
static void setting_list_replace(void *target, char ***list)
{
	char ***place = target;

	setting_list_free(*place);
	*place = steal_ptr(list);
}

/* ---- values ---- */

const char *setting_type_name(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "an object {...}";
	case JSON_ARRAY:
		return "a list [...]";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "a number";
	case JSON_REAL:
		return "a fraction";
	case JSON_TRUE:
	case JSON_FALSE:
		return "true or false";
	case JSON_NULL:
		break;
	}
	return "null";
}

/* A number of bytes as people write it, when it is a whole one. */
void setting_format_size(uint64_t bytes, char out[32])
{
	static const struct {
		uint64_t unit;
		char letter;
	} units[] = {{TIB, 'T'}, {GIB, 'G'}, {MIB, 'M'}, {KIB, 'K'}};

	for (size_t i = 0; i < 4; i++) {
		if (bytes != 0 && bytes % units[i].unit == 0) {
			(void)snprintf(out, 32, "%" PRIu64 "%c", bytes / units[i].unit,
				       units[i].letter);
			return;
		}
	}
	(void)snprintf(out, 32, "%" PRIu64, bytes);
}

static int check_range(const struct setting *setting, const struct place *at, uint64_t number,
		       bool size)
{
	char min[32], max[32];

	if ((number >= setting->min && number <= setting->max) || (number == 0 && setting->zero))
		return 0;
	if (size) {
		setting_format_size(setting->min, min);
		setting_format_size(setting->max, max);
	} else {
		(void)snprintf(min, sizeof(min), "%" PRIu64, setting->min);
		(void)snprintf(max, sizeof(max), "%" PRIu64, setting->max);
	}
	return place_complain(at, false, "\"%s\" is out of range: %s to %s%s", setting->key, min,
			      max, setting->zero ? ", or 0 for no limit" : "");
}

int setting_count(const struct setting *setting, json_t *value, struct place *at, void *target)
{
	uint64_t number;
	int r;

	if (!json_is_integer(value))
		return place_complain(at, false, "\"%s\" must be a whole number, not %s",
				      setting->key, setting_type_name(value));
	/* A negative one becomes huge and is out of range as well. */
	number = (uint64_t)json_integer_value(value);
	r = check_range(setting, at, number, false);
	if (r == 0)
		*(uint64_t *)target = number;
	return r;
}

int setting_flag(const struct setting *setting, json_t *value, struct place *at, void *target)
{
	if (!json_is_boolean(value))
		return place_complain(at, false, "\"%s\" must be true or false, not %s",
				      setting->key, setting_type_name(value));
	*(bool *)target = json_is_true(value);
	return 0;
}

int setting_wall(const struct setting *setting, json_t *value, struct place *at, void *target)
{
	const char *text = json_string_value(value);

	if (!text || (strcmp(text, "namespaces") != 0 && strcmp(text, "landlock") != 0))
		return place_complain(at, false, "\"%s\" must be \"namespaces\" or \"landlock\"",
				      setting->key);
	*(bool *)target = strcmp(text, "landlock") == 0;
	return 0;
}

/* "512M": digits and one of K, M, G, T, powers of 1024. Returns false for anything else. */
static bool read_size(const char *text, uint64_t *ret_bytes)
{
	static const char letters[] = "KMGT";
	uint64_t number, unit = 1;
	char digits[24];
	size_t length = strlen(text);
	const char *letter;

	if (length == 0 || length >= sizeof(digits))
		return false;
	memcpy(digits, text, length + 1);
	letter = strchr(letters, digits[length - 1]);
	if (letter) {
		digits[length - 1] = '\0';
		unit = 1ULL << (10 * (letter - letters + 1));
	}
	if (parse_u64(digits, UINT64_MAX / unit, &number) < 0)
		return false;
	*ret_bytes = number * unit;
	return true;
}

int setting_size(const struct setting *setting, json_t *value, struct place *at, void *target)
{
	char shown[48];
	uint64_t bytes = 0;
	int r;

	if (json_is_integer(value)) {
		bytes = (uint64_t)json_integer_value(value);
	} else if (!json_is_string(value)) {
		return place_complain(at, false, "\"%s\" must be a size such as \"512M\", not %s",
				      setting->key, setting_type_name(value));
	} else if (!read_size(json_string_value(value), &bytes)) {
		escape_string(shown, sizeof(shown), json_string_value(value));
		return place_complain(at, false,
				      "\"%s\" is not a size: bytes, or digits with K, M, G or T, "
				      "such as \"512M\"",
				      shown);
	}
	r = check_range(setting, at, bytes, true);
	if (r == 0)
		*(uint64_t *)target = bytes;
	return r;
}

int setting_path(const char *text, size_t max, const struct place *at, char **ret_path)
{
	cleanup(free_ptr) char *path = NULL;
	size_t length = 0;
	char shown[120];

	escape_string(shown, sizeof(shown), text);
	path = calloc(1, strlen(text) + 1);
	if (!path)
		return setting_no_memory(at);
	for (const char *p = text; *p;) {
		size_t step = strcspn(p, "/");

		if (step == 2 && memcmp(p, "..", 2) == 0)
			return place_complain(
				at, false, "\"%s\": \"..\" is not allowed, write the absolute path",
				shown);
		if (step > 0 && !(step == 1 && *p == '.')) {
			if (length > 0 || text[0] == '/')
				path[length++] = '/';
			memcpy(path + length, p, step);
			length += step;
		}
		p += step;
		p += *p == '/';
	}
	if (path[0] == '~')
		return place_complain(
			at, false, "\"%s\": \"~\" is not expanded, write the absolute path", shown);
	if (length > max)
		return place_complain(at, false, "a path of %zu bytes, at most %zu", length, max);
	*ret_path = steal_ptr(&path);
	return 0;
}

/* Its string at `index` (lent), or NULL with the error filled; moves `at` there. */
static const char *setting_list_string(const struct setting *setting, json_t *list, size_t index,
				       struct place *at)
{
	const json_t *value = json_array_get(list, index);

	at->in_list = true;
	at->index = index;
	if (json_is_string(value))
		return json_string_value(value);
	place_complain(at, false, "an entry of \"%s\" must be a string, not %s", setting->key,
		       setting_type_name(value));
	return NULL;
}

int setting_list(const struct setting *setting, const json_t *value, const struct place *at,
		 const char *sample)
{
	if (!json_is_array(value))
		return place_complain(at, false, "\"%s\" must be a list such as %s, not %s",
				      setting->key, sample, setting_type_name(value));
	if (json_array_size(value) > SETTING_LIST_MAX)
		return place_complain(at, false, "\"%s\" has %zu entries, at most %d", setting->key,
				      json_array_size(value), SETTING_LIST_MAX);
	return 0;
}

int setting_checked_list(const struct setting *setting, json_t *value, struct place *at,
			 void *target, const char *sample, setting_check *check)
{
	cleanup(setting_list_free_p) char **list = NULL;
	char shown[120];
	int r = setting_list(setting, value, at, sample);

	if (r < 0)
		return r;
	list = setting_list_new(json_array_size(value));
	if (!list)
		return setting_no_memory(at);
	for (size_t i = 0; i < json_array_size(value); i++) {
		cleanup(free_ptr) char *kept = NULL;
		const char *text = setting_list_string(setting, value, i, at);

		if (!text)
			return -EINVAL;
		r = check(text, at, &kept);
		if (r < 0)
			return r;
		if (setting_list_has(list, kept)) {
			escape_string(shown, sizeof(shown), kept);
			return place_complain(at, false, "\"%s\" is listed twice", shown);
		}
		list[i] = steal_ptr(&kept);
	}
	setting_list_replace(target, &list);
	return 0;
}

int setting_directory(const struct setting *setting, json_t *value, struct place *at, void *target)
{
	cleanup(free_ptr) char *path = NULL;
	char **place = target;
	int r;

	if (!json_is_null(value)) {
		if (!json_is_string(value) || json_string_value(value)[0] != '/')
			return place_complain(
				at, false,
				"\"%s\" must be the absolute path of an interpreter's "
				"folder, such as \"/opt/venvs/course\"",
				setting->key);
		r = setting_path(json_string_value(value), SETTING_PATH_MAX, at, &path);
		if (r < 0)
			return r;
		if (path[0] == '\0')
			return place_complain(at, false, "\"/\" would show the whole host");
	}
	free(*place);
	*place = steal_ptr(&path);
	return 0;
}

/* A portable name of a variable, environ(7). */
static bool is_name(const char *text)
{
	size_t length = strlen(text);

	return length > 0 && length <= ENV_NAME_MAX && strspn(text, "0123456789") == 0 &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") ==
		       length;
}

static int bad_name(const struct place *at, bool at_key, const char *name)
{
	char shown[80];

	escape_string(shown, sizeof(shown), name);
	return place_complain(
		at, at_key,
		"\"%s\" is not a variable's name: letters, digits and _, no pattern and no value",
		shown);
}

int setting_names(const struct setting *setting, json_t *value, struct place *at, void *target)
{
	cleanup(setting_list_free_p) char **list = NULL;
	int r;

	r = setting_list(setting, value, at, "[\"LANG\", \"TZ\"]");
	if (r < 0)
		return r;
	list = setting_list_new(json_array_size(value));
	if (!list)
		return setting_no_memory(at);
	for (size_t i = 0; i < json_array_size(value); i++) {
		const char *name = setting_list_string(setting, value, i, at);

		if (!name)
			return -EINVAL;
		if (!is_name(name))
			return bad_name(at, false, name);
		if (setting_list_has(list, name))
			return place_complain(at, false, "\"%s\" is listed twice", name);
		list[i] = strdup(name);
		if (!list[i])
			return setting_no_memory(at);
	}
	setting_list_replace(target, &list);
	return 0;
}

static int check_host(const char *text, const struct place *at, char **ret_text)
{
	const size_t name = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789._-");
	uint64_t port = 1;
	char shown[128];

	if (name == 0 || name > HOST_NAME_BYTES || (text[name] != '\0' && text[name] != ':') ||
	    (text[name] == ':' && parse_u64(text + name + 1, UINT16_MAX, &port) < 0) || port == 0)
		return place_complain(at, false,
				      "\"%s\" is not a host in lower case, such as \"pypi.org\" or "
				      "\"index.example:8080\"",
				      escape_string(shown, sizeof(shown), text));
	*ret_text = strdup(text);
	return *ret_text ? 0 : setting_no_memory(at);
}

int setting_hosts(const struct setting *setting, json_t *value, struct place *at, void *target)
{
	char **none = NULL;

	if (!json_is_null(value))
		return setting_checked_list(setting, value, at, target, "[\"pypi.org\"]",
					    check_host);
	setting_list_replace(target, &none);
	return 0;
}

int setting_assignments(const struct setting *setting, json_t *value, struct place *at,
			void *target)
{
	cleanup(setting_list_free_p) char **list = NULL;
	const char *name;
	json_t *text;
	size_t used = 0;

	if (!json_is_object(value))
		return place_complain(at, false,
				      "\"%s\" must be an object such as {\"TZ\": \"UTC\"}, not %s",
				      setting->key, setting_type_name(value));
	list = setting_list_new(json_object_size(value));
	if (!list)
		return setting_no_memory(at);
	json_object_foreach(value, name, text)
	{
		at->path[2] = name;
		at->depth = 3;
		if (!is_name(name))
			return bad_name(at, true, name);
		if (!json_is_string(text))
			return place_complain(at, false,
					      "the value of \"%s\" must be a string, not %s%s",
					      name, setting_type_name(text),
					      json_is_number(text) ? ": put it in quotes" : "");
		if (strlen(name) + json_string_length(text) + 2 > ENV_TEXT_MAX)
			return place_complain(
				at, false,
				"the value of \"%s\" is longer than a process may be given", name);
		list[used] = format_string("%s=%s", name, json_string_value(text));
		if (!list[used++])
			return setting_no_memory(at);
	}
	setting_list_replace(target, &list);
	return 0;
}
