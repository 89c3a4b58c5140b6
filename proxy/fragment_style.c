#include "proxy/fragment_style.h"

#include <string.h>

#define VALUE_MAX 128
#define DIGITS	  4 /* of a length: what is larger pushes the rest of the page away */

/* `length`: its numbers are lengths. None of them moves what it is on over something else. */
static const struct {
	const char *name;
	bool length;
} properties[] = {
	{"color", false},
	{"background-color", false},
	{"font-weight", false},
	{"font-style", false},
	{"font-family", false},
	{"text-align", false},
	{"vertical-align", false},
	{"text-decoration", false},
	{"text-decoration-color", false},
	{"white-space", false},
	{"overflow-x", false},
	{"line-height", true},
	{"width", true},
	{"height", true},
	{"padding", true},
	{"margin", true},
	{"border", true},
};
enum { PROPERTIES = sizeof(properties) / sizeof(properties[0]) };

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static void trim(const char **text, size_t *size)
{
	while (*size > 0 && strchr(" \t\n", **text) && **text) {
		++*text;
		--*size;
	}
	while (*size > 0 && strchr(" \t\n", (*text)[*size - 1]) && (*text)[*size - 1])
		--*size;
}

/* rgb(...) or rgba(...) with numbers in it. */
static bool is_colour(const char *text, size_t size)
{
	size_t i = 4;

	if (size < 6 || strncmp(text, "rgb", 3) != 0 || text[size - 1] != ')')
		return false;
	if (text[3] == 'a' && text[4] == '(')
		i = 5;
	else if (text[3] != '(')
		return false;
	for (; i < size - 1; i++)
		if (!is_digit(text[i]) && !strchr("., %", text[i]))
			return false;
	return true;
}

static bool is_plain_value(const char *text, size_t size, bool quotes)
{
	size_t quoted = 0;

	for (size_t i = 0; i < size; i++) {
		quoted += text[i] == '\'';
		if (!is_letter(text[i]) && !is_digit(text[i]) &&
		    !(text[i] && strchr(quotes ? "# .,%-'" : "# .,%-", text[i])))
			return false;
	}
	return quoted % 2 == 0;
}

static bool is_length(const char *text, size_t size)
{
	size_t digits = 0;

	for (size_t i = 0; i < size; i++) {
		digits = is_digit(text[i]) ? digits + 1 : 0;
		if (digits > DIGITS && !memchr(text, '#', i))
			return false;
		if (text[i] == '-' && (i + 1 == size || !is_letter(text[i + 1])))
			return false;
	}
	return true;
}

static bool add_declaration(const char *name, size_t length, const char *value, size_t size,
			    struct buffer *out)
{
	size_t i = 0;

	while (i < PROPERTIES && !(strlen(properties[i].name) == length &&
				   memcmp(properties[i].name, name, length) == 0))
		i++;
	if (i == PROPERTIES || size == 0 || size > VALUE_MAX)
		return false;
	if (!is_colour(value, size) &&
	    !is_plain_value(value, size, strcmp(properties[i].name, "font-family") == 0))
		return false;
	if (properties[i].length && !is_length(value, size))
		return false;
	if (out->size > 0)
		buffer_text(out, "; ");
	buffer_add(out, name, length);
	buffer_text(out, ": ");
	buffer_add(out, value, size);
	return true;
}

bool fragment_style(const char *text, size_t size, struct buffer *out)
{
	while (size > 0) {
		const char *end = memchr(text, ';', size), *colon, *value, *name = text;
		size_t length = end ? (size_t)(end - text) : size, name_length, value_length;

		text += length + (end != NULL);
		size -= length + (end != NULL);
		trim(&name, &length);
		if (length == 0)
			continue;
		colon = memchr(name, ':', length);
		if (!colon)
			return false;
		name_length = (size_t)(colon - name);
		value = colon + 1;
		value_length = length - name_length - 1;
		trim(&name, &name_length);
		trim(&value, &value_length);
		if (!add_declaration(name, name_length, value, value_length, out))
			return false;
	}
	return true;
}
