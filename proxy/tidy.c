#include "proxy/tidy.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/plain.h"
#include "sandbox/base.h"

enum content_verdict tidy_verdict(const struct tidy *tidy)
{
	if (tidy->failed)
		return CONTENT_DROP;
	return tidy->changed ? CONTENT_CHANGED : CONTENT_KEEP;
}

void tidy_set(struct tidy *tidy, json_t *object, const char *key, json_t *value)
{
	tidy->changed = true;
	if (json_object_set_new(object, key, value) < 0)
		tidy->failed = true;
}

void tidy_drop(struct tidy *tidy, json_t *object, const char *key)
{
	if (json_object_del(object, key) == 0)
		tidy->changed = true;
}

void tidy_keys(struct tidy *tidy, json_t *object, const char *const *keys)
{
	const char *key;
	json_t *value;
	void *next;

	json_object_foreach_safe(object, next, key, value)
	{
		bool wanted = false;

		for (size_t i = 0; keys[i] && !wanted; i++)
			wanted = strcmp(keys[i], key) == 0;
		if (!wanted)
			tidy_drop(tidy, object, key);
	}
}

bool tidy_word(const json_t *value, const char *more, size_t max)
{
	const char *text = json_string_value(value);
	size_t size = text ? json_string_length(value) : 0;

	if (!text || size > max)
		return false;
	for (size_t i = 0; i < size; i++)
		if (!(text[i] >= 'A' && text[i] <= 'Z') && !(text[i] >= 'a' && text[i] <= 'z') &&
		    !(text[i] >= '0' && text[i] <= '9') && (!text[i] || !strchr(more, text[i])))
			return false;
	return true;
}

bool tidy_version(const json_t *value, size_t max)
{
	const char *text = json_string_value(value);
	bool digit = false;

	if (!text || json_string_length(value) > max)
		return false;
	for (size_t i = 0; i < json_string_length(value); i++) {
		if (text[i] == '.' && !digit)
			return false;
		digit = text[i] >= '0' && text[i] <= '9';
		if (!digit && text[i] != '.')
			return false;
	}
	return digit;
}

bool tidy_count(const json_t *value)
{
	return json_is_integer(value) && json_integer_value(value) >= 0 &&
	       json_integer_value(value) <= INT32_MAX;
}

bool tidy_prototype(const char *key)
{
	return strcmp(key, "__proto__") == 0 || strcmp(key, "constructor") == 0 ||
	       strcmp(key, "prototype") == 0;
}

/* What a string looks like after plain_clean, as a new value; NULL when nothing changes. */
static json_t *tidy_cleaned(struct tidy *tidy, const json_t *text, unsigned flags)
{
	cleanup(free_ptr) char *cleaned = NULL;
	json_t *made = NULL;
	size_t size = 0;
	int r = plain_clean(json_string_value(text), json_string_length(text), flags, &cleaned,
			    &size);

	if (r == 0)
		return NULL;
	if (r == 1)
		made = json_stringn(cleaned, size);
	tidy->changed = true;
	if (!made)
		tidy->failed = true;
	return made;
}

void tidy_text(struct tidy *tidy, json_t *object, const char *key, unsigned flags)
{
	const json_t *text = json_object_get(object, key);
	json_t *cleaned;

	if (!json_is_string(text)) {
		tidy_drop(tidy, object, key);
		return;
	}
	cleaned = tidy_cleaned(tidy, text, flags);
	if (cleaned)
		tidy_set(tidy, object, key, cleaned);
}

static void tidy_element(struct tidy *tidy, json_t *array, size_t i, unsigned flags)
{
	json_t *cleaned = tidy_cleaned(tidy, json_array_get(array, i), flags);

	if (cleaned && json_array_set_new(array, i, cleaned) < 0)
		tidy->failed = true;
}

/* Cleans a list of strings; other elements and those after `max` are taken out. */
static void tidy_texts(struct tidy *tidy, json_t *object, const char *key, size_t max,
		       unsigned flags)
{
	json_t *array = json_object_get(object, key);

	if (!json_is_array(array)) {
		tidy_drop(tidy, object, key);
		return;
	}
	for (size_t i = json_array_size(array); i-- > 0;) {
		if (i < max && json_is_string(json_array_get(array, i))) {
			tidy_element(tidy, array, i, flags);
		} else {
			json_array_remove(array, i);
			tidy->changed = true;
		}
	}
}

void tidy_integer(struct tidy *tidy, json_t *object, const char *key)
{
	if (!json_is_integer(json_object_get(object, key)))
		tidy_drop(tidy, object, key);
}

void tidy_boolean(struct tidy *tidy, json_t *object, const char *key)
{
	if (!json_is_boolean(json_object_get(object, key)))
		tidy_drop(tidy, object, key);
}

void tidy_error(struct tidy *tidy, json_t *object)
{
	unsigned flags = tidy->content->rules->links ? PLAIN_LINKS : 0;

	tidy_text(tidy, object, "ename", flags);
	tidy_text(tidy, object, "evalue", flags);
	tidy_texts(tidy, object, "traceback", 4096, flags);
}

void tidy_plain_bundle(struct tidy *tidy, json_t *object, const char *key)
{
	static const char *const plain[] = {"text/plain", NULL};
	json_t *bundle = json_object_get(object, key);

	if (!json_is_object(bundle)) {
		tidy_drop(tidy, object, key);
		return;
	}
	tidy_keys(tidy, bundle, plain);
	tidy_text(tidy, bundle, "text/plain", tidy->content->rules->links ? PLAIN_LINKS : 0);
}

static void tidy_members(struct tidy *tidy, json_t *object, unsigned flags)
{
	const char *key;
	json_t *value;
	void *next;

	json_object_foreach_safe(object, next, key, value)
	{
		if (tidy_prototype(key))
			tidy_drop(tidy, object, key);
		else if (json_is_string(value))
			tidy_text(tidy, object, key, flags);
		else
			tidy_tree(tidy, value, flags);
	}
}

void tidy_tree(struct tidy *tidy, json_t *tree, unsigned flags)
{
	if (json_is_object(tree))
		tidy_members(tidy, tree, flags);
	for (size_t i = 0; i < json_array_size(tree); i++) {
		if (json_is_string(json_array_get(tree, i)))
			tidy_element(tidy, tree, i, flags);
		else
			tidy_tree(tidy, json_array_get(tree, i), flags);
	}
}
