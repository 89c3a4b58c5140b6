/* Any text: what comes out is clean, holds no control and no address that front ends make links of;
 * the fast way and the slow way agree, and what the scanner keeps is clean. */
#include <regex.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/plain.h"
#include "proxy/scan.h"

static void check_controls(const unsigned char *text, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if ((text[i] < 0x20 && !strchr("\t\n\r\b\x1b", text[i])) || text[i] == 0 ||
		    text[i] == 0x7f)
			__builtin_trap();
		if (text[i] == 0x1b) {
			size_t end = i + 2;

			while (end < size && text[end] >= '0' && text[end] <= ';')
				end++;
			if (i + 1 == size || text[i + 1] != '[' || end >= size || text[end] != 'm')
				__builtin_trap();
		}
		if (i + 1 < size && text[i] == 0xc2 && text[i + 1] >= 0x80 && text[i + 1] <= 0x9f)
			__builtin_trap();
	}
}

/* As a front end looks for links: without colours. */
static void check_links(const char *text)
{
	static regex_t links;
	static bool ready;
	char *plain = malloc(strlen(text) + 1), *to = plain;

	if (!ready && regcomp(&links,
			      "[a-z][a-z0-9+.-]{2,40}://|www\\.|data:[^[:space:]]|"
			      "(https?|ftp):[^[:space:]'\"<>]",
			      REG_EXTENDED | REG_ICASE | REG_NOSUB) != 0)
		__builtin_trap();
	ready = true;
	if (!plain)
		return;
	for (; *text; text++) {
		if (*text == 0x1b)
			text = strchr(text, 'm');
		else
			*to++ = *text;
	}
	*to = '\0';
	if (regexec(&links, plain, 0, NULL, 0) == 0)
		__builtin_trap();
	free(plain);
}

static void check(const char *text, size_t size, unsigned flags)
{
	char *made = NULL, *copy;
	size_t made_size = 0;
	int r = plain_clean(text, size, flags, &made, &made_size);

	if (r < 0 || (r == 0) != plain_is_clean(text, size, flags))
		__builtin_trap();
	copy = r ? made : strndup(text, size);
	if (!r)
		made_size = size;
	if (!plain_is_clean(copy, made_size, flags))
		__builtin_trap();
	check_controls((const unsigned char *)copy, made_size);
	if (!(flags & PLAIN_LINKS))
		check_links(copy);
	free(copy);
}

/* As json.dumps writes it: what the scanner keeps is clean. */
static void check_scanner(const json_t *text, const char *data, size_t size)
{
	char *quoted = json_dumps(text, JSON_ENCODE_ANY);

	for (int links = 0; quoted && links < 2; links++)
		if (scan_text(quoted, quoted + strlen(quoted), links) &&
		    !plain_is_clean(data, size, (links ? PLAIN_LINKS : 0) | PLAIN_STREAM))
			__builtin_trap();
	free(quoted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *text = json_stringn((const char *)data, size);

	/* What is malformed is repaired before. */
	for (unsigned flags = 0; text && flags < 8; flags++)
		check((const char *)data, size, flags);
	if (text)
		check_scanner(text, (const char *)data, size);
	json_decref(text);
	return 0;
}
