/* Any JSON as a figure: what is made of it means nothing in HTML, is the JSON that it was, and has
 * no link for plotly to draw. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/plot.h"

static void check_links(const json_t *value)
{
	const char *key, *text = json_string_value(value);
	json_t *item;

	for (; text && (text = strcasestr(text, "<a")); text++)
		if (!text[2] || strchr(" \t\n\r\f/>", text[2]))
			__builtin_trap();
	json_object_foreach((json_t *)(uintptr_t)value, key, item)
	{
		check_links(item);
	}
	for (size_t i = 0; i < json_array_size(value); i++)
		check_links(json_array_get(value, i));
}

static void check(const json_t *figure)
{
	size_t size = 0;
	char *text = plot_text(figure, &size);
	json_t *again;

	if (!text || size != strlen(text) || strpbrk(text, "<>&'\""))
		__builtin_trap();
	for (char *at = text; (at = strchr(at, '~')); at++)
		*at = '"';
	again = json_loads(text, 0, NULL);
	if (!again)
		__builtin_trap();
	json_decref(again);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *object = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);

	for (int kind = PLOT_PLOTLY; json_is_object(object) && kind <= PLOT_VEGA_LITE; kind++) {
		bool remote;
		json_t *bare = plot_bare((enum plot_kind)kind, object, &remote);

		if (!bare)
			__builtin_trap();
		check(bare);
		if (kind == PLOT_PLOTLY)
			check_links(bare);
		(void)plot_traces(bare);
		(void)plot_height((enum plot_kind)kind, bare);
		json_decref(bare);
	}
	json_decref(object);
	return 0;
}
