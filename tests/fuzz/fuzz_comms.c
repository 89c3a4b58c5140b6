/*
 * Any JSON as the content of any message, one message per line: its first byte is the rule, the
 * rest its content. What the rules have passed once passes them again without a change, and no
 * reply and no widget's state holds what they are there to take out.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/content.h"
#include "proxy/known.h"

/* content.h bounds the depth before jansson sees a byte */
static bool too_deep(const uint8_t *data, size_t size)
{
	size_t open = 0;

	for (size_t i = 0; i < size; i++)
		open += data[i] == '{' || data[i] == '[';
	return open > CONTENT_DEPTH;
}

/* No module but those of ipywidgets, under either spelling, and no prototype. */
static void check_tree(const json_t *tree)
{
	const char *key;
	json_t *value;
	size_t i;

	json_array_foreach(tree, i, value)
	{
		check_tree(value);
	}
	json_object_foreach((json_t *)(uintptr_t)tree, key, value)
	{
		if (strstr(key, "model_module") && !strstr(key, "version") &&
		    json_is_string(value) &&
		    strncmp(json_string_value(value), "@jupyter-widgets/", 17) != 0)
			__builtin_trap();
		if (strcmp(key, "__proto__") == 0)
			__builtin_trap();
		check_tree(value);
	}
}

static void check(enum content_rule rule, struct content *content)
{
	bool again = rule == CONTENT_COMM_OPEN || rule == CONTENT_COMM_MSG ||
		     (rule >= CONTENT_EXECUTE_REPLY && rule <= CONTENT_STATUS_REPLY);
	char *text = json_dumps(content->content, 0);

	if (!text)
		return;
	if (rule == CONTENT_COMM_OPEN || rule == CONTENT_COMM_MSG)
		check_tree(content->content);
	/* the outputs of a widget have rules of their own */
	if (again && !strstr(text, "outputs") && content_judge(rule, content) != CONTENT_KEEP)
		__builtin_trap();
	free(text);
}

static void judge(struct content *content, const uint8_t *line, size_t size)
{
	enum content_rule rule = (enum content_rule)((line[0] - '0') & 31);
	enum content_verdict verdict;

	if (rule == CONTENT_NONE || rule >= CONTENT_RULES || too_deep(line + 1, size - 1))
		return;
	content->content = json_loadb((const char *)line + 1, size - 1,
				      JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	content->metadata = json_object();
	if (json_is_object(content->content)) {
		json_t *before = json_deep_copy(content->content);

		memset(&content->blocked, 0, sizeof(content->blocked));
		verdict = content_judge(rule, content);
		/* then the message's own bytes go on */
		if (verdict == CONTENT_KEEP && before && !json_equal(before, content->content))
			__builtin_trap();
		json_decref(before);
		if (verdict == CONTENT_KEEP || verdict == CONTENT_CHANGED)
			check(rule, content);
	}
	json_decref(content->content);
	json_decref(content->metadata);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct outputs_rules rules = {.mode = OUTPUTS_STATIC};
	struct content content = {.rules = &rules, .known = known_new()};
	const uint8_t *end = data + size;

	if (!content.known)
		return 0;
	while (data < end) {
		const uint8_t *stop = memchr(data, '\n', (size_t)(end - data));

		stop = stop ? stop : end;
		if (stop - data > 1)
			judge(&content, data, (size_t)(stop - data));
		data = stop + 1;
	}
	known_free(content.known);
	return 0;
}
