#include "proxy/tag.h"

size_t tag_past(const char *body, size_t size, size_t i)
{
	const char *end = i < size ? memchr(body + i, '>', size - i) : NULL;

	return end ? (size_t)(end - body) + 1 : size;
}

bool tag_has(const char *tag, size_t size, const char *word)
{
	/* every "<meta" may be asked about, and have no end */
	size = tag_past(tag, size < TAG_MAX ? size : TAG_MAX, 0);
	for (size_t i = 0; i < size; i++)
		if (tag_word(tag + i, size - i, word))
			return true;
	return false;
}
