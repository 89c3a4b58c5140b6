#include "proxy/place.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#define NAME_SHOWN 200 /* bytes of a file's name in a message */

static const char *skip_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
		p++;
	return p;
}

/* Past the string that begins at `p`. */
static const char *skip_string(const char *p, const char *end)
{
	for (p++; p < end && *p != '"'; p++)
		if (*p == '\\')
			p++;
	return p < end ? p + 1 : end;
}

/* Past the value that begins at `p`. */
static const char *skip_value(const char *p, const char *end)
{
	size_t depth = 0;

	while (p < end) {
		if (*p == '"') {
			p = skip_string(p, end);
			if (depth == 0)
				break;
			continue;
		}
		if (*p == '{' || *p == '[')
			depth++;
		else if ((*p == '}' || *p == ']' || *p == ',') && depth == 0)
			break;
		else if ((*p == '}' || *p == ']') && --depth == 0)
			return p + 1;
		p++;
	}
	return p;
}

/* A key may be written with escapes, so it is decoded before it is compared. */
static bool key_is(const char *begin, const char *end, const char *key)
{
	json_t *decoded = json_loadb(begin, (size_t)(end - begin), JSON_DECODE_ANY, NULL);
	bool same = json_is_string(decoded) && strcmp(json_string_value(decoded), key) == 0;

	json_decref(decoded);
	return same;
}

/* In the object at `p`: the place of `key`, and of its value. Returns the key's place, or NULL. */
static const char *enter_object(const char *p, const char *end, const char *key,
				const char **ret_value)
{
	p = skip_space(p, end);
	if (p >= end || *p != '{')
		return NULL;
	for (p = skip_space(p + 1, end); p < end && *p == '"';) {
		const char *begin = p;

		p = skip_string(p, end);
		bool found = key_is(begin, p, key);
		p = skip_space(p, end);
		p = p < end ? skip_space(p + 1, end) : end; /* the colon */
		if (found) {
			*ret_value = p;
			return begin;
		}
		p = skip_space(skip_value(p, end), end);
		p = p < end ? skip_space(p + 1, end) : end; /* the comma */
	}
	return NULL;
}

static const char *enter_list(const char *p, const char *end, size_t index)
{
	if (p < end && *p == '[')
		p++;
	p = skip_space(p, end);
	for (; index > 0 && p < end; index--) {
		p = skip_space(skip_value(p, end), end);
		p = p < end ? skip_space(p + 1, end) : end; /* the comma */
	}
	return p;
}

/* Line and column (both from 1, columns in characters) of a place's key or value. */
static void locate(const struct place *at, bool at_key, size_t *ret_line, size_t *ret_column)
{
	const char *end = at->text + at->size, *value = at->text, *found;

	value = skip_space(value, end);
	found = value;
	for (size_t i = 0; i < at->depth; i++) {
		const char *key = enter_object(value, end, at->path[i], &value);

		if (!key)
			break;
		found = at_key ? key : value;
	}
	if (at->in_list)
		found = value = enter_list(value, end, at->index);
	if (at->in_list && at->item) {
		const char *key = enter_object(value, end, at->item, &value);

		if (key)
			found = at_key ? key : value;
	}
	*ret_line = 1;
	*ret_column = 1;
	for (const char *p = at->text; p < found && p < end; p++) {
		if (*p == '\n') {
			++*ret_line;
			*ret_column = 1;
		} else if (((unsigned char)*p & 0xc0) != 0x80) {
			++*ret_column;
		}
	}
}

int place_complain(const struct place *at, bool at_key, const char *format, ...)
{
	char name[NAME_SHOWN], text[sizeof(at->err->text)];
	size_t line, column;
	va_list args;

	if (!at->err)
		return -EINVAL;
	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	escape_string(name, sizeof(name), at->name);
	locate(at, at_key, &line, &column);
	return err_set(at->err, -EINVAL, "%s:%zu:%zu: %s", name, line, column, text);
}
