#include "proxy/picture.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "proxy/buffer.h"
#include "sandbox/base.h"

#define BASE64_MAX ((size_t)PICTURE_MAX / 3 * 4 + 4)
#define HEAD	   12

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* What a file of the type begins with; "." is any byte. */
static const struct {
	const char *mime, *magic;
	size_t size;
} types[] = {
	{"image/png", "\x89PNG\r\n\x1a\n", 8},
	{"image/jpeg", "\xff\xd8\xff", 3},
	{"image/gif", "GIF87a", 6},
	{"image/gif", "GIF89a", 6},
	{"image/webp", "RIFF....WEBP", 12},
	{"image/bmp", "BM", 2},
};
enum { TYPES = sizeof(types) / sizeof(types[0]) };

bool picture_is_type(const char *mime)
{
	for (size_t i = 0; i < TYPES; i++)
		if (strcmp(types[i].mime, mime) == 0)
			return true;
	return false;
}

static int value(char c)
{
	const char *at = c ? strchr(alphabet, c) : NULL;

	return at ? (int)(at - alphabet) : -1;
}

/* Without branches: compilers make vector code of the loop around it. */
static unsigned char is_letter(unsigned char c)
{
	return (((c | 0x20) >= 'a') & ((c | 0x20) <= 'z')) | ((c >= '/') & (c <= '9')) | (c == '+');
}

/* Letters of the alphabet, then at most two "=", a multiple of four in all. */
static bool is_base64(const char *text, size_t size)
{
	unsigned char all = 1;
	size_t body = size;

	if (size == 0 || size % 4 != 0 || size > BASE64_MAX)
		return false;
	while (body > size - 2 && text[body - 1] == '=')
		body--;
	for (size_t i = 0; i < body; i++)
		all &= is_letter((unsigned char)text[i]);
	return all;
}

/* The first bytes of valid base64. Returns how many. */
static size_t head_of(const char *text, size_t size, unsigned char head[HEAD])
{
	size_t used = 0;

	for (size_t i = 0; i + 4 <= size && used < HEAD; i += 4) {
		uint32_t word = 0;
		unsigned letters = 0;

		for (unsigned j = 0; j < 4; j++) {
			int v = value(text[i + j]);

			word = word << 6 | (v < 0 ? 0 : (uint32_t)v);
			letters += v >= 0;
		}
		for (unsigned j = 0; j + 1 < letters && used < HEAD; j++)
			head[used++] = (unsigned char)(word >> (16 - 8 * j));
	}
	return used;
}

static bool begins_with(const unsigned char *head, size_t size, const char *magic, size_t length)
{
	if (size < length)
		return false;
	for (size_t i = 0; i < length; i++)
		if (magic[i] != '.' && head[i] != (unsigned char)magic[i])
			return false;
	return true;
}

bool picture_is_clean(const char *mime, const char *text, size_t size)
{
	unsigned char head[HEAD];
	size_t used;

	if (!is_base64(text, size))
		return false;
	if (strcmp(mime, "image/svg+xml") == 0)
		return true;
	used = head_of(text, size, head);
	for (size_t i = 0; i < TYPES; i++)
		if (strcmp(types[i].mime, mime) == 0 &&
		    begins_with(head, used, types[i].magic, types[i].size))
			return true;
	return false;
}

char *picture_clean(const char *mime, const char *text, size_t size, size_t *ret_size)
{
	cleanup(free_ptr) char *clean = NULL;
	size_t used = 0;

	/* With line breaks after every 64 letters, which is the least that is in use. */
	if (size > BASE64_MAX + BASE64_MAX / 32)
		return NULL;
	clean = malloc(size + 1);
	for (size_t i = 0; clean && i < size; i++)
		if (text[i] != '\n' && text[i] != '\r' && text[i] != ' ' && text[i] != '\t')
			clean[used++] = text[i];
	if (!clean || !picture_is_clean(mime, clean, used))
		return NULL;
	clean[used] = '\0';
	*ret_size = used;
	return steal_ptr(&clean);
}

/* ---- SVG ---- */

static void encode(struct buffer *out, const unsigned char *text, size_t size)
{
	for (size_t i = 0; i < size; i += 3) {
		uint32_t word = (uint32_t)text[i] << 16;
		char four[4];

		if (i + 1 < size)
			word |= (uint32_t)text[i + 1] << 8;
		if (i + 2 < size)
			word |= text[i + 2];
		for (unsigned j = 0; j < 4; j++)
			four[j] = alphabet[word >> (18 - 6 * j) & 63];
		if (i + 1 >= size)
			four[2] = '=';
		if (i + 2 >= size)
			four[3] = '=';
		buffer_add(out, four, 4);
	}
}

static bool is_svg(const char *text, size_t size)
{
	static const char *const starts[] = {"<?xml", "<!DOCTYPE svg", "<!--", "<svg"};
	static const char mark[] = "\xef\xbb\xbf";

	if (size >= 3 && memcmp(text, mark, 3) == 0) {
		text += 3;
		size -= 3;
	}
	while (size > 0 && (*text == ' ' || *text == '\n' || *text == '\r' || *text == '\t')) {
		text++;
		size--;
	}
	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
		if (size > strlen(starts[i]) && memcmp(text, starts[i], strlen(starts[i])) == 0)
			return memmem(text, size, "<svg", 4) != NULL;
	return false;
}

char *picture_svg(const char *text, size_t size, size_t *ret_size)
{
	struct buffer out = {0};
	char *made;

	if (size > PICTURE_MAX || !is_svg(text, size))
		return NULL;
	buffer_text(&out, "<img src=\"data:image/svg+xml;base64,");
	encode(&out, (const unsigned char *)text, size);
	buffer_text(&out, "\">");
	made = buffer_take(&out, ret_size);
	buffer_done(&out);
	return made;
}
