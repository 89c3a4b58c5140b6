#include "proxy/failure.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct scan {
	const char *at, *end;
};

static void skip_space(struct scan *scan)
{
	while (scan->at < scan->end && memchr(" \t\r\n", *scan->at, 4))
		scan->at++;
}

static bool take(struct scan *scan, char byte)
{
	skip_space(scan);
	if (scan->at == scan->end || *scan->at != byte)
		return false;
	scan->at++;
	return true;
}

static bool take_hex(struct scan *scan, uint32_t *ret_value)
{
	uint32_t value = 0;

	if (scan->end - scan->at < 4)
		return false;
	for (int i = 0; i < 4; i++) {
		const char digit = *scan->at++;

		if (digit >= '0' && digit <= '9')
			value = value << 4 | (uint32_t)(digit - '0');
		else if ((digit | 0x20) >= 'a' && (digit | 0x20) <= 'f')
			value = value << 4 | (uint32_t)((digit | 0x20) - 'a' + 10);
		else
			return false;
	}
	*ret_value = value;
	return true;
}

/* What follows "\u": one character, or two halves of one (RFC 8259, section 7). */
static bool take_character(struct scan *scan, uint32_t *ret_character)
{
	uint32_t high, low;

	if (!take_hex(scan, &high))
		return false;
	if (high < 0xd800 || high > 0xdfff) {
		*ret_character = high;
		return high != 0;
	}
	if (high > 0xdbff || scan->end - scan->at < 2 || memcmp(scan->at, "\\u", 2) != 0)
		return false;
	scan->at += 2;
	if (!take_hex(scan, &low) || low < 0xdc00 || low > 0xdfff)
		return false;
	*ret_character = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
	return true;
}

static size_t put_utf8(uint32_t character, char out[4])
{
	if (character < 0x80) {
		out[0] = (char)character;
		return 1;
	}
	if (character < 0x800) {
		out[0] = (char)(0xc0 | character >> 6);
		out[1] = (char)(0x80 | (character & 0x3f));
		return 2;
	}
	if (character < 0x10000) {
		out[0] = (char)(0xe0 | character >> 12);
		out[1] = (char)(0x80 | (character >> 6 & 0x3f));
		out[2] = (char)(0x80 | (character & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | character >> 18);
	out[1] = (char)(0x80 | (character >> 12 & 0x3f));
	out[2] = (char)(0x80 | (character >> 6 & 0x3f));
	out[3] = (char)(0x80 | (character & 0x3f));
	return 4;
}

static bool take_escape(struct scan *scan, char one[4], size_t *ret_length)
{
	static const char named[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
	uint32_t character;
	char letter;

	if (scan->at == scan->end)
		return false;
	letter = *scan->at++;
	*ret_length = 1;
	for (size_t i = 0; i + 1 < sizeof(named); i += 2) {
		if (named[i] == letter) {
			one[0] = named[i + 1];
			return true;
		}
	}
	if (letter != 'u' || !take_character(scan, &character))
		return false;
	*ret_length = put_utf8(character, one);
	return true;
}

/* A string into `out` of `size` bytes. One that has no room gives "", as does a NUL in it. */
static bool take_string(struct scan *scan, char *out, size_t size)
{
	size_t used = 0;
	bool fits = true;

	if (!take(scan, '"'))
		return false;
	while (scan->at < scan->end && *scan->at != '"') {
		char one[4] = {*scan->at++};
		size_t length = 1;

		if (one[0] == '\0' || (one[0] == '\\' && !take_escape(scan, one, &length)))
			return false;
		fits = fits && used + length < size;
		if (fits)
			memcpy(out + used, one, length);
		used += length;
	}
	if (scan->at == scan->end)
		return false;
	scan->at++;
	out[fits ? used : 0] = '\0';
	return true;
}

/* Over a string without looking what is in it. */
static bool skip_string(struct scan *scan)
{
	for (scan->at++; scan->at < scan->end; scan->at++) {
		if (*scan->at == '\\')
			scan->at++;
		else if (*scan->at == '"')
			break;
	}
	if (scan->at >= scan->end)
		return false;
	scan->at++;
	return true;
}

/* Over any value, up to the "," or "}" that follows it. */
static bool skip_value(struct scan *scan)
{
	size_t depth = 0;

	while (scan->at < scan->end) {
		const char byte = *scan->at;

		if (byte == '"') {
			if (!skip_string(scan))
				return false;
			continue;
		}
		if (depth == 0 && (byte == ',' || byte == '}'))
			return true;
		if (byte == '{' || byte == '[')
			depth++;
		else if ((byte == '}' || byte == ']') && depth-- == 0)
			return false;
		scan->at++;
	}
	return false;
}

/* What was read so far: a key twice means nothing. */
struct seen {
	unsigned names, values;
};

static bool take_member(struct scan *scan, struct failure *failure, struct seen *seen)
{
	char key[16];

	if (!take_string(scan, key, sizeof(key)) || !take(scan, ':'))
		return false;
	if (strcmp(key, "ename") == 0 && seen->names++ == 0)
		return take_string(scan, failure->name, sizeof(failure->name));
	if (strcmp(key, "evalue") == 0 && seen->values++ == 0)
		return take_string(scan, failure->value, sizeof(failure->value));
	return skip_value(scan);
}

bool failure_read(struct iovec content, struct failure *ret_failure)
{
	struct scan scan = {.at = content.iov_base};
	struct seen seen = {0};

	if (content.iov_len == 0 || content.iov_len > FAILURE_CONTENT_MAX)
		return false;
	scan.end = scan.at + content.iov_len;
	if (!take(&scan, '{'))
		return false;
	do {
		if (!take_member(&scan, ret_failure, &seen))
			return false;
	} while (take(&scan, ','));
	return take(&scan, '}') && seen.names == 1 && seen.values == 1;
}
