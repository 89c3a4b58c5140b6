#include "proxy/traceback.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "proxy/buffer.h"
#include "proxy/plain.h"
#include "sandbox/base.h"

#define SPACE "\xe2\x80\x8b" /* U+200B */

struct line {
	const char *begin, *end;
	const char *quote; /* the first of them, or NULL */
	const char *place; /* the last ":" before a digit, or NULL */
	const char *cell;  /* the last "In [", or NULL */
};

/* Past the colours at `at`: VS Code takes some of them out before it looks. */
static const char *past_colours(const char *at, const char *end)
{
	while (at < end && *at == '\x1b') {
		const char *stop = memchr(at, 'm', (size_t)(end - at));

		at = stop ? stop + 1 : end;
	}
	return at;
}

/* Behind the word when it is at `at`, whatever colours are in it; else NULL. */
static const char *past_word(const char *at, const char *end, const char *word)
{
	for (; *word; at++, word++) {
		at = past_colours(at, end);
		if (at == end || *at != *word)
			return NULL;
	}
	return at;
}

/* White space of JavaScript: what is beyond ASCII may be. */
static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r') || (unsigned char)c >= 0x80;
}

static bool is_cell(const char *at, const char *end)
{
	at = past_word(at, end, "In");
	while (at && at < end && (is_blank(*at) || *at == '\x1b'))
		at = *at == '\x1b' ? past_colours(at, end) : at + 1;
	return at && at < end && *at == '[';
}

static struct line line_at(const char *at, const char *end)
{
	const char *stop = memchr(at, '\n', (size_t)(end - at)), *next;
	struct line line = {.begin = at, .end = stop ? stop : end};

	for (; at < line.end; at++) {
		if (!line.quote && (*at == '\'' || *at == '"'))
			line.quote = at;
		if (*at == ':' && (next = past_colours(at + 1, line.end)) < line.end &&
		    *next >= '0' && *next <= '9')
			line.place = at;
		if (*at == 'I' && is_cell(at, line.end))
			line.cell = at;
	}
	return line;
}

/* Behind what a link would begin with at `at`, if the line could make one of its own; else NULL. */
static const char *begun(const struct line *line, const char *at)
{
	const char *next;

	if (*at == '<') {
		next = past_colours(at + 1, line->end);
		if (next == line->end || (*next | 0x20) != 'a')
			return NULL;
		next = past_colours(next + 1, line->end);
		return at == line->begin || next == line->end || is_blank(*next) ||
				       strchr("/>", *next)
			       ? at + 1
			       : NULL;
	}
	if (!line->quote)
		return NULL;
	if (line->place > at && line->quote < line->place &&
	    (next = past_word(at, line->end, "File")))
		return next;
	if (line->cell > at && ((next = past_word(at, line->end, "Cell")) ||
				(next = past_word(at, line->end, "Input"))))
		return next;
	return NULL;
}

/* As plain_clean(). */
static int apart(const char *text, size_t size, char **ret_text, size_t *ret_size)
{
	const char *const end = text + size, *from = text, *at, *word;
	struct buffer out = {0};

	for (at = text; at < end; at++) {
		const struct line line = line_at(at, end);

		for (; at < line.end; at++) {
			if (!strchr("<FCI", *at) || !(word = begun(&line, at)))
				continue;
			buffer_add(&out, from, (size_t)(word - from));
			buffer_text(&out, SPACE);
			from = word;
			at = word - 1;
		}
	}
	if (from == text)
		return 0;
	buffer_add(&out, from, (size_t)(end - from));
	*ret_text = buffer_take(&out, ret_size);
	buffer_done(&out);
	return *ret_text ? 1 : -ENOMEM;
}

int traceback_clean(const char *text, size_t size, unsigned flags, char **ret_text,
		    size_t *ret_size)
{
	cleanup(free_ptr) char *clean = NULL;
	const int first = plain_clean(text, size, flags, &clean, &size);
	const int second =
		first < 0 ? first : apart(clean ? clean : text, size, ret_text, ret_size);

	if (first <= 0 || second != 0)
		return second;
	*ret_text = steal_ptr(&clean);
	*ret_size = size;
	return first;
}
