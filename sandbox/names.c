#include "sandbox/names.h"

#include <string.h>

/*
 * The next character of well-formed UTF-8 (RFC 3629: nothing overlong, no surrogates), and its
 * length in bytes; 0 when it is malformed.
 */
static size_t next_character(const unsigned char *at, uint32_t *ret_character)
{
	static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t character = at[0];
	size_t size;

	if (character < 0x80) {
		*ret_character = character;
		return 1;
	}
	if (character >= 0xc2 && character < 0xe0)
		size = 2;
	else if (character >= 0xe0 && character < 0xf0)
		size = 3;
	else if (character >= 0xf0 && character < 0xf5)
		size = 4;
	else
		return 0;
	character &= 0x7fu >> size;
	for (size_t i = 1; i < size; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0; /* the terminating NUL ends here too */
		character = character << 6 | (at[i] & 0x3f);
	}
	if (character < least[size] || character > 0x10ffff ||
	    (character >= 0xd800 && character < 0xe000))
		return 0;
	*ret_character = character;
	return size;
}

/* What makes a listing say something else than what is there (unicode.org/reports/tr9, "trojan
 * source"). */
static bool misleads(uint32_t character)
{
	return character < 0x20 || (character >= 0x7f && character < 0xa0) || character == 0x2028 ||
	       character == 0x2029 || (character >= 0x202a && character <= 0x202e) ||
	       (character >= 0x2066 && character <= 0x2069);
}

const char *name_refusal(const char *name)
{
	if (name[0] == '.')
		return "hidden names stay inside";
	for (const char *at = name; *at;) {
		const void *raw = at;
		uint32_t character = 0;
		size_t size = next_character(raw, &character);

		if (size == 0)
			return "its name is not UTF-8";
		if (misleads(character))
			return "its name has control characters";
		at += size;
	}
	return NULL;
}

void name_beside(const char *name, uint32_t number, char out[NAME_MAX + 1])
{
	char suffix[32];
	const char *extension = strrchr(name, '.');
	size_t stem, most, added, rest;

	if (number == 0) {
		snprintf(out, NAME_MAX + 1, "%s", name);
		return;
	}
	added = (size_t)snprintf(suffix, sizeof(suffix), " (cellwall %u)", number);
	/* a "." at the start or a very long rest is no extension */
	if (!extension || extension == name || strlen(extension) > NAME_MAX / 2)
		extension = name + strlen(name);
	rest = strlen(extension);
	stem = (size_t)(extension - name);
	most = NAME_MAX - added - rest;
	if (stem > most)
		for (stem = most; stem > 0 && ((unsigned char)name[stem] & 0xc0) == 0x80;)
			stem--;
	memcpy(out, name, stem);
	memcpy(out + stem, suffix, added);
	memcpy(out + stem + added, extension, rest + 1);
}
