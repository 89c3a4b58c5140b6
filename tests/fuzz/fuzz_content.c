/* Any bytes as a kernel's content, for the rule that the first byte names: what comes out is an
 * object again, small, and without the keys that may not be. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/content.h"
#include "proxy/known.h"

static const char *const keys[] = {"__proto__", "constructor", "prototype"};

static void check_keys(json_t *value)
{
	const char *key;
	json_t *member;
	size_t index;

	if (json_is_array(value))
		json_array_foreach(value, index, member) check_keys(member);
	json_object_foreach(value, key, member)
	{
		for (size_t i = 0; i < 3; i++)
			if (strcmp(key, keys[i]) == 0)
				__builtin_trap();
		check_keys(member);
	}
}

static void check_blocked(const char *text)
{
	if (strlen(text) >= BLOCKED_TEXT)
		__builtin_trap();
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			__builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct outputs_rules rules = {.mode = size > 1 ? data[1] % OUTPUTS_OFF : 0};
	static struct known *known; /* as in the guard process it remembers what came before */
	struct content content = {.rules = &rules};
	char metadata[] = "{}", *new_metadata, *new_content;
	enum content_verdict verdict;
	json_t *object;

	if (!known)
		known = known_new();
	if (!known || size < 2)
		return 0;
	content.known = known;
	verdict = content_examine((enum content_rule)(data[0] % CONTENT_RULES),
				  (struct iovec){metadata, 2},
				  (struct iovec){(void *)(uintptr_t)(data + 2), size - 2}, &content,
				  &new_metadata, &new_content);
	check_blocked(content.blocked.text);
	if ((verdict == CONTENT_CHANGED || verdict == CONTENT_DROP_COMM) != (new_content != NULL))
		__builtin_trap();
	if (new_content) {
		object = json_loads(new_content, JSON_REJECT_DUPLICATES, NULL);
		if (!json_is_object(object))
			__builtin_trap();
		check_keys(object);
		json_decref(object);
	}
	free(new_metadata);
	free(new_content);
	return 0;
}
