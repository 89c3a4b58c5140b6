/* Any JSON as the content of an output: whatever mode and rule, only known types go on, and what is
 * judged a second time passes unchanged, frames apart. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/known.h"
#include "proxy/outputs.h"

static enum content_verdict (*const judge[])(struct content *content) = {
	outputs_stream, outputs_display, outputs_result,
	outputs_update, outputs_clear,	 outputs_error};

static bool is_known(const char *type)
{
	static const char *const known[] = {"text/plain",
					    "text/html",
					    "text/markdown",
					    "text/latex",
					    "image/png",
					    "image/jpeg",
					    "image/gif",
					    "image/webp",
					    "image/bmp",
					    "application/json",
					    "application/vnd.jupyter.widget-view+json"};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i], type) == 0)
			return true;
	return strncmp(type, "application/papermill.record/", 29) == 0 ||
	       strncmp(type, "application/scrapbook.scrap.", 28) == 0;
}

static void check_html(const char *html)
{
	for (const char *at = html; (at = strchr(at, '<')); at++)
		if (strncasecmp(at, "<script", 7) == 0 || strncasecmp(at, "<link", 5) == 0 ||
		    strncasecmp(at, "<meta", 5) == 0 || strncasecmp(at, "<svg", 4) == 0 ||
		    (strncmp(at, "<iframe", 7) == 0 && strncmp(at, "<iframe sandbox=\"", 17) != 0))
			__builtin_trap();
}

static void check(json_t *content)
{
	json_t *data = json_object_get(content, "data"), *value;
	const char *type, *html = json_string_value(json_object_get(data, "text/html"));

	json_object_foreach(data, type, value)
	{
		if (!is_known(type))
			__builtin_trap();
	}
	if (html)
		check_html(html);
}

static void run(json_t *object, unsigned rule, struct content *content)
{
	content->content = json_deep_copy(object);
	content->metadata = json_object();
	if (content->content && content->metadata && judge[rule](content) != CONTENT_DROP)
		check(content->content);
	json_decref(content->content);
	json_decref(content->metadata);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct known *known;
	json_t *object;

	if (!known)
		known = known_new();
	if (size < 2)
		return 0;
	object = json_loadb((const char *)data + 1, size - 1, JSON_REJECT_DUPLICATES, NULL);
	for (unsigned mode = OUTPUTS_TEXT; json_is_object(object) && mode < OUTPUTS_OFF; mode++) {
		struct outputs_rules rules = {.mode = mode, .links = data[0] & 1};
		struct content content = {.rules = &rules, .known = known};

		run(object, (data[0] >> 1) % 6, &content);
	}
	json_decref(object);
	return 0;
}
