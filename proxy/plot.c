#include "proxy/plot.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/buffer.h"
#include "proxy/content.h"

enum {
	HEIGHT_PLOTLY = 450, /* of plotly itself */
	HEIGHT_VEGA = 200,   /* of vega-lite itself */
	HEIGHT_ROWS = 300,
	ROWS_USUAL = 3,
	HEIGHT_AXES = 80, /* which vega adds to the height that is asked for */
	HEIGHT_MIN = 60,
	HEIGHT_MAX = 1200,
	NESTED_MAX = 8, /* charts in charts */
};

static bool is_one_of(const char *text, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(text, words[i]) == 0)
			return true;
	return false;
}
#define IS_ONE_OF(text, words) is_one_of(text, words, sizeof(words) / sizeof((words)[0]))

/* ---- types ---- */

static bool is_version(const char *type, const char *name)
{
	const size_t start = strlen(name);
	size_t digits;

	if (strncmp(type, name, start) != 0)
		return false;
	digits = strspn(type + start, "0123456789");
	/* altair 6 writes ".json" */
	return digits > 0 && digits < 3 &&
	       (strcmp(type + start + digits, "+json") == 0 ||
		strcmp(type + start + digits, ".json") == 0);
}

enum plot_kind plot_kind(const char *type)
{
	if (strcmp(type, "application/vnd.plotly.v1+json") == 0)
		return PLOT_PLOTLY;
	if (is_version(type, "application/vnd.vega.v"))
		return PLOT_VEGA;
	return is_version(type, "application/vnd.vegalite.v") ? PLOT_VEGA_LITE : PLOT_NONE;
}

enum plot_traces plot_traces(const json_t *figure)
{
	static const char *const basic[] = {"scatter", "bar", "pie"};
	static const char *const cartesian[] = {"box",	     "contour",	       "heatmap",
						"histogram", "histogram2d",    "histogram2dcontour",
						"image",     "scatterternary", "violin"};
	const json_t *traces = json_object_get(figure, "data");
	enum plot_traces needed = PLOT_BASIC;

	for (size_t i = 0; i < json_array_size(traces); i++) {
		const json_t *type = json_object_get(json_array_get(traces, i), "type");
		const char *name = type ? json_string_value(type) : "scatter";

		if (name && IS_ONE_OF(name, basic))
			continue;
		if (!name || !IS_ONE_OF(name, cartesian))
			return PLOT_OTHER;
		needed = PLOT_CARTESIAN;
	}
	return needed;
}

/* ---- addresses and links ---- */

struct strip {
	enum plot_kind kind;
	bool remote;
	bool failed;
};

/* <a ...> and </a> go, "<a<" too. Where "<" stands before one, a space keeps it from making
 * another. */
static void strip_links(struct strip *strip, json_t *text)
{
	const char *from = json_string_value(text), *at;
	const char *const end = from + json_string_length(text);
	struct buffer out = {0};

	for (at = from; at < end; at++) {
		const char *name = at + 1 < end && at[1] == '/' ? at + 2 : at + 1, *close;

		if (*at != '<' || name >= end || (*name != 'a' && *name != 'A') ||
		    (name + 1 < end && !strchr(" \t\n\r\f/><", name[1])))
			continue;
		buffer_add(&out, from, (size_t)(at - from));
		if (out.size > 0 && out.data[out.size - 1] == '<')
			buffer_text(&out, " ");
		close = memchr(name, '>', (size_t)(end - name));
		at = close ? close : end - 1;
		from = at + 1;
	}
	if (from != json_string_value(text)) {
		buffer_add(&out, from, (size_t)(end - from));
		strip->failed |= out.failed ||
				 json_string_setn(text, out.data ? out.data : "", out.size) < 0;
	}
	buffer_done(&out);
}

/* Of plotly: layout.images[].source, xsrc, and "images[0].source" among the arguments of a button.
 */
static bool is_address_key(const char *key)
{
	return strcasestr(key, "url") || strcasestr(key, "href") || strcasestr(key, "src") ||
	       strcasestr(key, "source");
}

static void strip_string(struct strip *strip, json_t *text, const char *key)
{
	if (strip->kind != PLOT_PLOTLY)
		return; /* vega draws text as text */
	if (is_address_key(key) && json_string_length(text) > 0 &&
	    strncasecmp(json_string_value(text), "data:image/", 11) != 0) {
		strip->remote |= strstr(json_string_value(text), "//") != NULL;
		strip->failed |= json_string_set(text, "") < 0;
	} else {
		strip_links(strip, text);
	}
}

/* What is left out whole: of plotly the maps, whose tiles and shapes are a server's; of vega what
 * it would load and follow. */
static bool is_left_out(enum plot_kind kind, const char *key)
{
	static const char *const plotly[] = {"mapbox", "map", "geo"};
	static const char *const vega[] = {"url", "href", "usermeta", "embed_options", "$schema"};

	return kind == PLOT_PLOTLY ? IS_ONE_OF(key, plotly) : IS_ONE_OF(key, vega);
}

/* The rows of a table, which may have columns of any name. */
static bool is_rows(enum plot_kind kind, const char *key, const char *above, unsigned depth)
{
	return kind != PLOT_PLOTLY && ((strcmp(key, "values") == 0 && strcmp(above, "data") == 0) ||
				       (strcmp(key, "datasets") == 0 && depth == 0));
}

static void strip_value(struct strip *strip, json_t *value, const char *key, unsigned depth);

static void strip_object(struct strip *strip, json_t *object, const char *above, unsigned depth)
{
	const char *key;
	json_t *value;
	void *next;
	bool empty = false;

	json_object_foreach_safe(object, next, key, value)
	{
		if (is_rows(strip->kind, key, above, depth))
			continue;
		if (!is_left_out(strip->kind, key)) {
			strip_value(strip, value, key, depth + 1);
			continue;
		}
		empty |= strcmp(key, "url") == 0 && strcmp(above, "data") == 0;
		strip->remote |= empty;
		(void)json_object_del(object, key);
	}
	if (empty && json_object_set_new(object, "values", json_array()) < 0)
		strip->failed = true;
}

static void strip_value(struct strip *strip, json_t *value, const char *key, unsigned depth)
{
	if (depth > CONTENT_DEPTH) {
		(void)json_object_clear(value);
		(void)json_array_clear(value);
	} else if (json_is_object(value)) {
		strip_object(strip, value, key, depth);
	} else if (json_is_string(value)) {
		strip_string(strip, value, key);
	}
	for (size_t i = 0; i < json_array_size(value); i++)
		strip_value(strip, json_array_get(value, i), key, depth + 1);
}

/* ---- what is drawn ---- */

static void keep(struct strip *strip, json_t *made, const json_t *from, const char *key)
{
	json_t *value = json_object_get(from, key);

	if (value && json_object_set(made, key, value) < 0)
		strip->failed = true;
}

/* Four parts, and of the settings those that change how it is handled. scattergl is scatter on a
 * canvas of its own. */
static json_t *plotly_parts(struct strip *strip, const json_t *figure)
{
	static const char *const parts[] = {"data", "layout", "frames"};
	static const char *const settings[] = {"displayModeBar", "scrollZoom", "staticPlot",
					       "showTips", "doubleClick"};
	json_t *made = json_object(), *config = json_object(), *trace;
	const json_t *data;
	size_t i;

	if (!made || !config || json_object_set(made, "config", config) < 0)
		strip->failed = true;
	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		keep(strip, made, figure, parts[i]);
	for (i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		keep(strip, config, json_object_get(figure, "config"), settings[i]);
	json_decref(config);
	data = json_object_get(made, "data");
	json_array_foreach(data, i, trace)
	{
		const char *type = json_string_value(json_object_get(trace, "type"));

		if (type && strcmp(type, "scattergl") == 0 &&
		    json_object_set_new(trace, "type", json_string("scatter")) < 0)
			strip->failed = true;
	}
	return made;
}

json_t *plot_bare(enum plot_kind kind, const json_t *figure, bool *ret_remote)
{
	struct strip strip = {.kind = kind};
	json_t *copy = json_is_object(figure) ? json_deep_copy(figure) : NULL;
	json_t *made = copy;

	*ret_remote = false;
	if (!copy)
		return NULL;
	if (kind == PLOT_PLOTLY) {
		made = plotly_parts(&strip, copy);
		json_decref(copy);
	}
	if (made)
		strip_value(&strip, made, "", 0);
	*ret_remote = strip.remote;
	if (strip.failed) {
		json_decref(made);
		return NULL;
	}
	return made;
}

/* ---- height ---- */

static double number(const json_t *object, const char *key, double otherwise)
{
	const json_t *value = json_object_get(object, key);

	return json_is_number(value) ? json_number_value(value) : otherwise;
}

/* Of one chart. Rows of names, and of charts, are as many as the data have: a guess. */
static double chart_height(const json_t *spec)
{
	const json_t *view = json_object_get(json_object_get(spec, "config"), "view"),
		     *y = json_object_get(json_object_get(spec, "encoding"), "y"),
		     *row = json_object_get(json_object_get(spec, "encoding"), "row");
	const char *type = json_string_value(json_object_get(y, "type"));
	const bool rows = type && (strcmp(type, "nominal") == 0 || strcmp(type, "ordinal") == 0);
	const double usual = rows ? HEIGHT_ROWS : number(view, "continuousHeight", HEIGHT_VEGA);

	return number(spec, "height", usual) * (row ? ROWS_USUAL : 1) + HEIGHT_AXES;
}

/* Charts below one another are as high as all of them, beside one another as the highest. */
static double vega_height(const json_t *spec, unsigned depth)
{
	static const char *const lists[] = {"vconcat", "hconcat", "concat"};
	double height = 0;

	for (size_t list = 0; list < 3; list++) {
		const json_t *charts = json_object_get(spec, lists[list]);

		for (size_t i = 0; depth < NESTED_MAX && i < json_array_size(charts); i++) {
			const double one = vega_height(json_array_get(charts, i), depth + 1);

			if (list == 0)
				height += one;
			else
				height = one > height ? one : height;
		}
	}
	if (height > 0)
		return height;
	if (depth < NESTED_MAX && json_is_object(json_object_get(spec, "spec")))
		return 2 * vega_height(json_object_get(spec, "spec"), depth + 1);
	return chart_height(spec);
}

unsigned plot_height(enum plot_kind kind, const json_t *figure)
{
	const double height = kind == PLOT_PLOTLY ? number(json_object_get(figure, "layout"),
							   "height", HEIGHT_PLOTLY)
						  : vega_height(figure, 0);

	if (!(height > HEIGHT_MIN))
		return HEIGHT_MIN;
	return height < HEIGHT_MAX ? (unsigned)height : HEIGHT_MAX;
}

/* ---- text ---- */

static const char *escaped(char c)
{
	switch (c) {
	case '<':
		return "\\u003c";
	case '>':
		return "\\u003e";
	case '&':
		return "\\u0026";
	case '\'':
		return "\\u0027";
	case '~':
		return "\\u007e";
	case '"':
		return "~";
	default:
		return NULL;
	}
}

char *plot_text(const json_t *figure, size_t *ret_size)
{
	char *text = json_dumps(figure, JSON_COMPACT | JSON_REAL_PRECISION(16)), *made;
	struct buffer out = {0};
	size_t from = 0, i;

	if (!text)
		return NULL;
	for (i = 0; text[i]; i++) {
		const char *instead = escaped(text[i]);

		if (!instead)
			continue;
		buffer_add(&out, text + from, i - from);
		buffer_text(&out, instead);
		from = i + 1;
	}
	buffer_add(&out, text + from, i - from);
	free(text);
	made = buffer_take(&out, ret_size);
	buffer_done(&out);
	return made;
}
