/* Any bytes as a kernel's content: what the scanner keeps is an object that jansson reads as the
 * same, with nothing in its text that is not clean. */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "proxy/picture.h"
#include "proxy/plain.h"
#include "proxy/scan.h"

/* A word, ":" and no space. */
static bool is_address(const char *text, const char *word)
{
	const size_t size = strlen(word);

	return strncasecmp(text, word, size) == 0 && text[size] == ':' && text[size + 1] != ' ';
}

/* What clean text must not have, said another way than in scan.c. */
static void check_text(const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c < 0x20 && !strchr("\n\t\r\b\033", *c))
			__builtin_trap();
		if (*c == 0x7f || (*c == 0xc2 && c[1] < 0xa0))
			__builtin_trap();
		if (*c == 0x1b) {
			const size_t numbers = strspn((const char *)c + 2, "0123456789;");

			if (c[1] != '[' || c[2 + numbers] != 'm')
				__builtin_trap();
		}
		if (strncmp((const char *)c, "://", 3) == 0 ||
		    strncasecmp((const char *)c, "www.", 4) == 0 ||
		    is_address((const char *)c, "data") || is_address((const char *)c, "http") ||
		    is_address((const char *)c, "https") || is_address((const char *)c, "ftp"))
			__builtin_trap();
	}
}

static void check(enum content_rule rule, struct iovec content)
{
	json_t *object =
		json_loadb(content.iov_base, content.iov_len, JSON_REJECT_DUPLICATES, NULL);
	const json_t *data = json_object_get(object, "data");
	const char *text = json_string_value(json_object_get(object, "text"));

	if (!json_is_object(object))
		__builtin_trap();
	if (rule == CONTENT_DISPLAY || rule == CONTENT_RESULT) {
		const json_t *picture = json_object_get(data, "image/png");

		if (json_object_size(json_object_get(object, "metadata")) != 0 ||
		    json_object_size(data) !=
			    (picture ? 1u : 0u) + (json_object_get(data, "text/plain") ? 1u : 0u))
			__builtin_trap();
		if (picture && !picture_is_clean("image/png", json_string_value(picture),
						 json_string_length(picture)))
			__builtin_trap();
		text = json_string_value(json_object_get(data, "text/plain"));
	}
	if (text)
		check_text(text);
	/* the guard process would have kept it too */
	if (text && !plain_is_clean(text, strlen(text), rule == CONTENT_STREAM ? PLAIN_STREAM : 0))
		__builtin_trap();
	json_decref(object);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct iovec content = {(void *)(uintptr_t)data, size};

	for (enum content_rule rule = CONTENT_NONE; rule < CONTENT_RULES; rule++) {
		if (scan_keeps(rule, content, false)) {
			check(rule, content);
			if (!scan_keeps(rule, content, true))
				__builtin_trap();
		}
		(void)scan_metadata(rule, content);
	}
	(void)scan_state(content);
	(void)scan_count(content);
	return 0;
}
