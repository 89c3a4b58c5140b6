#include "proxy/typeset.h"

#include <string.h>
#include <strings.h>

#include "proxy/buffer.h"

/* What links, loads, styles or makes other macros, in MathJax 2 and 3 with all extensions; each
 * stands for all that begin so. */
static const char *const macros[] = {
	"\\href",      "\\url",		"\\style",	"\\class",  "\\cssId",	  "\\require",
	"\\include",   "\\input",	"\\def",	"\\edef",   "\\gdef",	  "\\xdef",
	"\\let",       "\\futurelet",	"\\newc",	"\\renewc", "\\providec", "\\newenv",
	"\\renewenv",  "\\Newextarrow", "\\data",	"\\csname", "\\bbox",	  "\\texttip",
	"\\mathtip",   "\\toggle",	"\\mmlToken",	"\\html",   "\\unicode",  "\\tip",
	"\\fcolorbox", "\\definecolor", "\\setOptions",
};

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static const char *find_macro(const char *text, size_t size)
{
	const char *end = text + size;

	for (const char *at = text; (at = memchr(at, '\\', (size_t)(end - at))); at++)
		for (size_t i = 0; i < sizeof(macros) / sizeof(macros[0]); i++)
			if ((size_t)(end - at) >= strlen(macros[i]) &&
			    memcmp(at, macros[i], strlen(macros[i])) == 0)
				return "a macro that links, loads or defines";
	return NULL;
}

/* Whether "<" at `at` would begin a tag, a comment or the like. */
static bool begins_tag(const char *at, const char *end)
{
	return at + 1 < end && (is_letter(at[1]) || at[1] == '/' || at[1] == '!' || at[1] == '?');
}

/* Whether Markdown takes the two at `at` together for a link or a picture. */
static bool begins_link(const char *at, const char *end)
{
	const char next = at + 1 < end ? at[1] : '\0';

	return (*at == '!' && next == '[') ||
	       (*at == ']' && (next == '(' || next == '[' || next == ':'));
}

char *typeset_apart(const char *text, size_t size, size_t *ret_size)
{
	const char *const end = text + size;
	struct buffer out = {0};
	char *made;

	for (const char *at = text; at < end; at++) {
		buffer_add(&out, at, 1);
		if ((*at == '<' && begins_tag(at, end)) || begins_link(at, end))
			buffer_text(&out, " ");
	}
	made = buffer_take(&out, ret_size);
	buffer_done(&out);
	return made;
}

char *typeset_no_fence(const char *text, size_t size, size_t *ret_size)
{
	struct buffer out = {0};
	size_t from = 0, ticks = 0;
	char *made;

	for (size_t i = 0; i < size; i++) {
		ticks = text[i] == '`' ? ticks + 1 : 0;
		if (ticks < 3)
			continue;
		buffer_add(&out, text + from, i - from);
		buffer_text(&out, "\xe2\x80\x8b");
		from = i;
		ticks = 1;
	}
	buffer_add(&out, text + from, size - from);
	made = buffer_take(&out, ret_size);
	buffer_done(&out);
	return made;
}

static const char *find_diagram(const char *text, size_t size)
{
	for (size_t i = 0; i + 7 <= size; i++)
		if ((text[i] | 0x20) == 'm' && strncasecmp(text + i, "mermaid", 7) == 0)
			return "a diagram";
	return NULL;
}

const char *typeset_latex(const char *text, size_t size)
{
	const char *found;

	if (size > TYPESET_LATEX_MAX)
		return "larger than 64 KiB";
	found = find_macro(text, size);
	return found ? found : find_diagram(text, size);
}

/*
 * Whether what follows ``` or ~~~ in its line is harmless as an attribute's value: Lab puts the
 * language of a block of code there as it is, and a formula in the place of what stands for it,
 * wherever that came to be. With another ` behind it is code in the midst of a line, but in
 * nbclassic. And no "{": with MyST that would be a directive, {image} or {iframe}.
 */
static bool is_language(const char *at, const char *end)
{
	static const char letters[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _+-.#=:,/";
	const bool code = at[-1] == '`' && memchr(at, '`', (size_t)(end - at));

	for (; at < end; at++) {
		const bool odd =
			code ? strchr("\"$\\@{", *at) != NULL : strchr(letters, *at) == NULL;

		if (odd || *at == '\0')
			return false;
	}
	return true;
}

/* The first ``` or ~~~ in a line, whatever stands before it: lists, quotations and, with MyST,
 * definitions ("~ ") begin in the same line. */
static bool has_odd_block(const char *at, const char *end)
{
	for (; end - at > 2; at++) {
		const char mark = *at;

		if ((mark != '`' && mark != '~') || at[1] != mark || at[2] != mark)
			continue;
		while (at < end && *at == mark)
			at++;
		return !is_language(at, end);
	}
	return false;
}

/* ":::{image}", which MyST has beside the other form; between the two it skips what JavaScript
 * calls white space. */
static bool has_directive(const char *at, const char *end)
{
	for (; end - at > 3 && !is_letter(*at); at++)
		if (memcmp(at, ":::", 3) == 0)
			return memchr(at, '{', (size_t)(end - at)) != NULL;
	return false;
}

/* Lines are judged here; markdown_at judges what does not depend on them. */
static const char *find_block(const char *text, size_t size)
{
	const char *const end = text + size;

	for (const char *line = text, *next; line < end; line = next + 1) {
		next = memchr(line, '\n', (size_t)(end - line));
		next = next ? next : end;
		if (has_odd_block(line, next))
			return "an odd language of a block of code";
		if (has_directive(line, next))
			return "a directive";
	}
	return NULL;
}

/* MyST's "{download}`//x`" is a link: no role passes, whatever it makes. Its name is not quoted, so
 * a dict of Python in code passes; "{name}" right before "`" does not, in code neither. */
static const char *find_role(const char *text, size_t size)
{
	bool named = false;

	for (size_t i = 0; i + 1 < size; i++) {
		if (text[i] == '{')
			named |= strchr("}'\"", text[i + 1]) == NULL;
		if (text[i] != '}')
			continue;
		if (named && text[i + 1] == '`')
			return "a role";
		named = false;
	}
	return NULL;
}

/* "//" and "www." */
static bool begins_address(const char *at, const char *end)
{
	return end - at > 3 && ((at[0] == '/' && at[1] == '/') || strncasecmp(at, "www.", 4) == 0);
}

/* Whether a formula could begin in an address. */
static bool has_formula(const char *at, const char *end)
{
	bool address = false;

	for (; at < end; at++) {
		if (*at == ' ' || *at == '\t' || *at == '\n')
			address = false;
		else if (begins_address(at, end))
			address = true;
		if (address &&
		    (*at == '$' || *at == '\\' || (*at == '@' && end - at > 1 && at[1] == '@')))
			return true;
	}
	return false;
}

/* What follows "](": an address without anything that ends it early, and ")". */
static bool is_plain_link(const char *at, const char *end)
{
	static const char *const schemes[] = {"https://", "http://", "mailto:"};
	size_t size = 0;

	while (at + size < end && (is_letter(at[size]) || (at[size] >= '0' && at[size] <= '9') ||
				   (at[size] && strchr("-._~:/?#@!*+,;=%", at[size]))))
		size++;
	if (at + size == end || at[size] != ')')
		return false;
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (size > strlen(schemes[i]) && strncmp(at, schemes[i], strlen(schemes[i])) == 0)
			return true;
	return false;
}

static const char *markdown_at(const char *at, const char *end, bool links)
{
	const char next = at + 1 < end ? at[1] : '\0';

	switch (*at) {
	case '<':
		return begins_tag(at, end) ? "raw HTML" : NULL;
	case '&':
		return is_letter(next) || next == '#' ? "an HTML entity" : NULL;
	case '!':
		return next == '[' ? "an image" : NULL;
	case ']':
		if (next == '(' && !(links && is_plain_link(at + 2, end)))
			return "a link";
		return next == ':' || next == '[' ? "a link by reference" : NULL;
	default:
		return NULL;
	}
}

const char *typeset_markdown(const char *text, size_t size, bool links)
{
	const char *end = text + size, *found = NULL;

	for (const char *at = text; at < end && !found; at++)
		found = markdown_at(at, end, links);
	if (!found)
		found = find_block(text, size);
	if (!found)
		found = find_role(text, size);
	if (!found && links && has_formula(text, end))
		found = "a formula in an address";
	if (!found)
		found = find_diagram(text, size);
	return found ? found : find_macro(text, size);
}
