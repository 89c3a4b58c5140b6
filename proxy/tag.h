/*
 * tag: words of markup that is looked at and not parsed.
 *
 * Everything takes `size` bytes of foreign text, NUL among them, and reads no more. Pure functions;
 * they never fail and never log. Those that are asked at every byte are inline.
 */
#ifndef PROXY_TAG_H
#define PROXY_TAG_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#define TAG_MAX 1024 /* bytes of a tag that are looked through */

/* Whether `text` begins with `word`, upper case or lower; `word` begins with a small letter or a
 * sign that has its bit 5 set too. */
static inline bool tag_word(const char *text, size_t size, const char *word)
{
	return size > 0 && (*text | 0x20) == *word && size >= strlen(word) &&
	       strncasecmp(text, word, strlen(word)) == 0;
}

/* Whether a tag of that name is at `text`, "<" included. */
static inline bool tag_is(const char *text, size_t size, const char *name)
{
	size_t length;

	if (size < 2 || text[0] != '<' || (text[1] | 0x20) != *name)
		return false;
	length = strlen(name);
	return tag_word(text + 1, size - 1, name) &&
	       (size - 1 == length || strchr(" \t\n\r\f/>", text[1 + length]) != NULL);
}

/* Whether `word` is in the first TAG_MAX bytes of the tag at `tag`. */
bool tag_has(const char *tag, size_t size, const char *word);
/* Behind the next ">" at or after `i` of `body`, or the end. */
size_t tag_past(const char *body, size_t size, size_t i);

#endif
