/* Any bytes as a header frame, and the same bytes as the text of a literal, which must be valid
 * JSON. */
#include <errno.h>
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/header.h"

/* A space before it, and jansson reads it: nothing else may change. */
static void check_alike(const uint8_t *data, size_t size, int r, const struct header *header)
{
	char *text = malloc(size + 1);
	struct header again;

	if (!text)
		__builtin_trap();
	text[0] = ' ';
	memcpy(text + 1, data, size);
	if (header_parse((struct iovec){text, size + 1}, &again, NULL) != r ||
	    (r == 0 && (strcmp(again.msg_id, header->msg_id) != 0 ||
			strcmp(again.msg_type, header->msg_type) != 0 ||
			strcmp(again.session, header->session) != 0 ||
			strcmp(again.subshell_id, header->subshell_id) != 0 ||
			strcmp(again.version, header->version) != 0)))
		__builtin_trap();
	free(text);
}

static void check_literal(const uint8_t *data, size_t size)
{
	char *literal = json_literal(data, size);
	json_t *value;

	if (!literal)
		__builtin_trap();
	for (const char *c = literal; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			__builtin_trap();
	value = json_loads(literal, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	if (!json_is_string(value))
		__builtin_trap();
	json_decref(value);
	free(literal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct header header;
	struct err err;
	int r;

	r = header_parse((struct iovec){(void *)(uintptr_t)data, size}, &header, &err);
	if (r != 0 && r != -EPROTO && r != -ENOENT)
		__builtin_trap();
	if (r == -EPROTO && (err.text[0] == '\0' || strchr(err.text, '\n')))
		__builtin_trap();
	if (r == 0) {
		char *made = header_make(header.msg_type, header.session);
		struct header again;

		if (!made || header_parse((struct iovec){made, strlen(made)}, &again, &err) != 0 ||
		    strcmp(again.msg_type, header.msg_type) != 0 ||
		    strcmp(again.session, header.session) != 0)
			__builtin_trap();
		free(made);
	}
	if (size > 0 && size < HEADER_MAX)
		check_alike(data, size, r, &header);
	check_literal(data, size);
	return 0;
}
