#include "proxy/defuse.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/plain.h"
#include "proxy/typeset.h"
#include "sandbox/base.h"

#define SPACE  "\xe2\x80\x8b" /* U+200B */
#define QUOTE  "\xe2\x80\x9d" /* U+201D */
#define GROWTH 5	      /* bytes that one becomes at most, "&quot;" less the first */

static bool starts_tag(const char *text, size_t left)
{
	return left > 1 && text[0] == '<' &&
	       ((text[1] >= 'a' && text[1] <= 'z') || (text[1] >= 'A' && text[1] <= 'Z') ||
		text[1] == '/' || text[1] == '!' || text[1] == '?');
}

/* What one byte becomes, or NULL when it stays as it is. */
static const char *replacement(const char *at, size_t left, bool formulas, bool attribute)
{
	if (starts_tag(at, left))
		return "<" SPACE;
	if (formulas && *at == '\\')
		return "\\" SPACE;
	return attribute && *at == '"' ? QUOTE : NULL;
}

/* Returns NULL when out of memory. */
static char *rewrite(const char *text, size_t size, bool formulas, bool attribute, size_t *ret_size)
{
	size_t extra = 0, out = 0;
	char *made;

	for (size_t i = 0; i < size; i++)
		if (replacement(text + i, size - i, formulas, attribute))
			extra += sizeof(SPACE) - 1;
	made = malloc(size + extra + 1);
	if (!made)
		return NULL;
	for (size_t i = 0; i < size; i++) {
		const char *put = replacement(text + i, size - i, formulas, attribute);
		size_t length = put ? strlen(put) : 1;

		memcpy(made + out, put ? put : text + i, length);
		out += length;
	}
	made[out] = '\0';
	*ret_size = out;
	return made;
}

json_t *defuse_value(struct tidy *tidy, const json_t *value, bool attribute)
{
	cleanup(free_ptr) char *cleaned = NULL;
	cleanup(free_ptr) char *made = NULL;
	const char *text = json_string_value(value);
	size_t size = json_string_length(value), made_size;
	json_t *fresh = NULL;
	int r = plain_clean(text, size, PLAIN_LINKS | PLAIN_PROMPT, &cleaned, &size);

	if (r >= 0) {
		if (r == 1)
			text = cleaned;
		made = rewrite(text, size, typeset_latex(text, size) != NULL, attribute,
			       &made_size);
		if (made && r == 0 && made_size == size && memcmp(made, text, size) == 0)
			return NULL;
		fresh = made ? json_stringn(made, made_size) : NULL;
	}
	if (!fresh)
		tidy->failed = true;
	return fresh;
}

static const char *entity(char byte)
{
	switch (byte) {
	case '&':
		return "&amp;";
	case '<':
		return "&lt;";
	case '>':
		return "&gt;";
	case '"':
		return "&quot;";
	case '\'':
		return "&#39;";
	default:
		return NULL;
	}
}

char *defuse_markup(const char *text, size_t size, size_t *ret_size)
{
	cleanup(free_ptr) char *cleaned = NULL;
	size_t out = 0;
	char *made;
	int r = plain_clean(text, size, PLAIN_LINKS | PLAIN_PROMPT, &cleaned, &size);

	if (r < 0)
		return NULL;
	if (r == 1)
		text = cleaned;
	made = malloc(size * (GROWTH + 1) + 1);
	if (!made)
		return NULL;
	for (size_t i = 0; i < size; i++) {
		const char *put = entity(text[i]);
		size_t length = put ? strlen(put) : 1;

		memcpy(made + out, put ? put : text + i, length);
		out += length;
	}
	made[out] = '\0';
	*ret_size = out;
	return made;
}
