#include "proxy/forms.h"

#include <stddef.h>
#include <string.h>

#include "proxy/tidy.h"

#define MEMBERS_MAX 16 /* of a date */

/* A number, a word such as "any" or a time; lists and dates are made of these. */
static bool scalar(const json_t *value)
{
	return json_is_number(value) || json_is_boolean(value) || json_is_null(value) ||
	       tidy_word(value, ":.+-", 40);
}

bool forms_quantity(json_t *value)
{
	const char *key;
	json_t *member;

	if (json_is_array(value))
		return forms_each(value, scalar);
	if (!json_is_object(value))
		return scalar(value);
	if (json_object_size(value) > MEMBERS_MAX)
		return false;
	json_object_foreach(value, key, member)
	{
		if (tidy_prototype(key) || !scalar(member))
			return false;
	}
	return true;
}

bool forms_word(const json_t *value)
{
	return json_is_null(value) || tidy_word(value, " -", 64);
}

/* Whether the name before a parenthesis is of a function that loads nothing. */
static bool css_function(const char *text, size_t size)
{
	static const char *const names[] = {"rgb", "rgba",  "hsl",    "hsla",	"calc",	      "min",
					    "max", "clamp", "minmax", "repeat", "fit-content"};
	size_t start = size;

	while (start > 0 &&
	       (text[start - 1] == '-' || (text[start - 1] >= 'a' && text[start - 1] <= 'z')))
		start--;
	if (start == size) /* a parenthesis within calc() */
		return start > 0 && (text[start - 1] == ' ' || text[start - 1] == '(');
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i]) == size - start &&
		    memcmp(names[i], text + start, size - start) == 0)
			return true;
	return false;
}

bool forms_css(const json_t *value)
{
	const char *text = json_string_value(value);

	if (!text || !tidy_word(value, "# .,%/_\"'+*()-", 256))
		return json_is_null(value) || json_is_number(value);
	for (const char *open = strchr(text, '('); open; open = strchr(open + 1, '('))
		if (!css_function(text, (size_t)(open - text)))
			return false;
	return true;
}

/* The classes of a front end's own parts would draw, for one, a dialog over the whole page. */
bool forms_class(const json_t *value)
{
	static const char *const own[] = {"jp-", "lm-", "p-", "bp", "ui-", "modal", "jupyter-"};
	const char *text = json_string_value(value);

	if (!text || !tidy_word(value, " _-", 128))
		return false;
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		for (const char *at = strstr(text, own[i]); at; at = strstr(at + 1, own[i]))
			if (at == text || at[-1] == ' ')
				return false;
	return true;
}

bool forms_icon(const json_t *value)
{
	return json_is_null(value) || tidy_word(value, " _-", 128);
}

bool forms_number_format(const json_t *value)
{
	return json_is_null(value) || tidy_word(value, " .,%+()=^$#_~-", 32);
}

/* SVG is a document once it is opened in a tab of its own. */
bool forms_media(const json_t *value)
{
	const char *text = json_string_value(value);

	return text && tidy_word(value, ".-", 32) && strcmp(text, "url") != 0 &&
	       !strstr(text, "svg") && !strstr(text, "xml") && !strstr(text, "htm");
}

bool forms_accept(const json_t *value)
{
	return json_is_null(value) || tidy_word(value, " .,/*+_-", 1024);
}

bool forms_message(const json_t *value)
{
	return json_is_null(value) || tidy_word(value, "_.-", 128);
}

bool forms_version(const json_t *value)
{
	const char *text = json_string_value(value);

	if (!text || !tidy_word(value, ".^~", 32))
		return json_is_null(value);
	text += *text == '^' || *text == '~';
	return strspn(text, "0123456789.") == strlen(text);
}

bool forms_each(json_t *list, bool (*element)(const json_t *))
{
	const json_t *value;
	size_t i;

	if (!json_is_array(list) || json_array_size(list) > FORMS_ITEMS)
		return false;
	json_array_foreach(list, i, value)
	{
		if (!element(value))
			return false;
	}
	return true;
}
