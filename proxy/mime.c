#include "proxy/mime.h"

#include <string.h>

#include "proxy/buffer.h"
#include "proxy/figures.h"
#include "proxy/fragment.h"
#include "proxy/frame.h"
#include "proxy/picture.h"
#include "proxy/plain.h"
#include "proxy/typeset.h"

#define RECORD	 "application/papermill.record/"
#define SCRAP	 "application/scrapbook.scrap."
#define SIDE_MAX 16384 /* pixels of a picture's side */

/* A value as text: a string, or a list of strings joined. */
struct text {
	const char *data;
	size_t size;
	char *joined;
};

static void text_done(struct text *text)
{
	free(text->joined);
}

static bool text_of(struct mime *mime, const json_t *value, struct text *ret_text)
{
	struct buffer out = {0};

	*ret_text = (struct text){json_string_value(value), json_string_length(value), NULL};
	if (json_is_string(value))
		return true;
	mime->why = "neither text nor lines of text";
	if (!json_is_array(value))
		return false;
	for (size_t i = 0; i < json_array_size(value); i++) {
		const json_t *line = json_array_get(value, i);

		if (!json_is_string(line)) {
			buffer_done(&out);
			return false;
		}
		buffer_add(&out, json_string_value(line), json_string_length(line));
	}
	mime->why = NULL;
	ret_text->joined = buffer_take(&out, &ret_text->size);
	buffer_done(&out);
	ret_text->data = ret_text->joined;
	mime->failed |= !ret_text->joined;
	return ret_text->joined != NULL;
}

static void set_text(struct mime *mime, const char *text, size_t size)
{
	json_t *made = json_stringn(text, size);

	mime->failed |= !made;
	json_decref(mime->value);
	mime->value = made;
}

/* ---- text ---- */

static unsigned plain_flags(const struct mime *mime)
{
	return mime->rules->links ? PLAIN_LINKS : 0;
}

static void make_plain(struct mime *mime, const char *text, size_t size)
{
	cleanup(free_ptr) char *clean = NULL;
	size_t left = size;

	mime->failed |= plain_clean(text, size, plain_flags(mime), &clean, &left) < 0;
	if (!mime->failed)
		set_text(mime, clean ? clean : text, left);
}

static void read_plain(struct mime *mime, const char *type, const struct text *text)
{
	(void)type;
	make_plain(mime, text->data, text->size);
}

static void as_text(struct mime *mime, const struct text *text, const char *why)
{
	mime->why = why;
	mime->shown_as_text = true;
	make_plain(mime, text->data, text->size);
}

static void read_latex(struct mime *mime, const char *type, const struct text *text)
{
	const char *why = typeset_latex(text->data, text->size);
	cleanup(free_ptr) char *clean = NULL, *made = NULL;
	size_t size = text->size;

	(void)type;
	if (why) {
		as_text(mime, text, why);
		return;
	}
	if (plain_clean(text->data, text->size, PLAIN_PROMPT | plain_flags(mime), &clean, &size) <
	    0)
		mime->failed = true;
	else
		made = typeset_apart(clean ? clean : text->data, size, &size);
	mime->failed |= !made;
	/* Taking controls out may have made a macro. */
	why = made ? typeset_latex(made, size) : NULL;
	if (why)
		as_text(mime, text, why);
	else if (made)
		set_text(mime, made, size);
}

static void read_markdown(struct mime *mime, const char *type, const struct text *text)
{
	cleanup(free_ptr) char *clean = NULL;
	size_t size = text->size;
	const char *why;

	(void)type;
	if (text->size > MIME_MARKDOWN_MAX) {
		as_text(mime, text, "larger than 1 MiB");
		return;
	}
	if (plain_clean(text->data, text->size, PLAIN_PROMPT | plain_flags(mime), &clean, &size) <
	    0) {
		mime->failed = true;
		return;
	}
	why = typeset_markdown(clean ? clean : text->data, size, mime->rules->links);
	if (why)
		as_text(mime, text, why);
	else
		set_text(mime, clean ? clean : text->data, size);
}

/* ---- markup and pictures ---- */

static void set_page(struct mime *mime, char *html, size_t size)
{
	mime->failed |= !html;
	mime->page = true;
	if (html)
		set_text(mime, html, size);
}

static void read_html(struct mime *mime, const char *type, const struct text *text)
{
	const bool run = mime->rules->mode == OUTPUTS_INTERACTIVE;
	cleanup(free_ptr) char *made = NULL, *still = NULL;
	size_t size = 0, scripts = 0;

	(void)type;
	if (text->size > FRAME_BODY_MAX) {
		mime->why = "larger than 16 MiB";
		return;
	}
	made = fragment_rewrite(text->data, text->size, &size);
	if (made) {
		set_page(mime, made, size);
		return;
	}
	if (frame_is_remote(text->data, text->size))
		mime->why = "what it loads from the network";
	if (run) {
		made = frame_wrap(text->data, text->size, true, &size);
		set_page(mime, made, size);
		return;
	}
	still = frame_without_scripts(text->data, text->size, &size, &scripts);
	mime->failed |= !still;
	mime->scripts = scripts > 0;
	if (scripts > 0)
		mime->why = "scripts";
	if (!still || (scripts > 0 && !frame_is_visible(still, size)))
		return;
	made = frame_wrap(still, size, false, &size);
	set_page(mime, made, size);
}

static void read_svg(struct mime *mime, const char *type, const struct text *text)
{
	cleanup(free_ptr) char *made = NULL;
	size_t size = 0;

	(void)type;
	made = picture_svg(text->data, text->size, &size);
	if (made)
		set_page(mime, made, size);
	else
		mime->why = "not an SVG of at most 16 MiB";
}

static void read_picture(struct mime *mime, const char *type, const struct text *text)
{
	cleanup(free_ptr) char *made = NULL;
	size_t size = 0;

	if (picture_is_clean(type, text->data, text->size)) {
		set_text(mime, text->data, text->size);
		return;
	}
	made = picture_clean(type, text->data, text->size, &size);
	if (made)
		set_text(mime, made, size);
	else
		mime->why = "not a picture of that type of at most 16 MiB";
}

/* ---- objects ---- */

static bool is_model_id(const json_t *value)
{
	const char *text = json_string_value(value);
	size_t size = text ? strlen(text) : 0;

	return size > 0 && size <= 64 && size == json_string_length(value) &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") ==
		       size;
}

static void read_view(struct mime *mime, json_t *value)
{
	json_t *id = json_object_get(value, "model_id"),
	       *major = json_object_get(value, "version_major"),
	       *minor = json_object_get(value, "version_minor");

	if (!is_model_id(id)) {
		mime->why = "it names no widget";
		return;
	}
	mime->value =
		json_pack("{s:I, s:I, s:O}", "version_major",
			  json_is_integer(major) ? json_integer_value(major) : 2, "version_minor",
			  json_is_integer(minor) ? json_integer_value(minor) : 0, "model_id", id);
	mime->failed |= !mime->value;
}

/*
 * VS Code puts a string, and the strings of a list, as they are into a block of code of Markdown:
 * three ` in a line of their own would end it.
 */
static json_t *without_fences(const json_t *value)
{
	cleanup(free_ptr) char *text = NULL;
	json_t *made, *member;
	size_t i, size = 0;

	if (json_is_string(value)) {
		text = typeset_no_fence(json_string_value(value), json_string_length(value), &size);
		return text ? json_stringn(text, size) : NULL;
	}
	if (!json_is_array(value))
		return json_incref((json_t *)(uintptr_t)value);
	made = json_array();
	json_array_foreach(value, i, member)
	{
		if (json_array_append_new(made, without_fences(member)) == 0)
			continue;
		json_decref(made);
		return NULL;
	}
	return made;
}

static void read_json(struct mime *mime, json_t *value)
{
	mime->value = without_fences(value);
	mime->failed |= !mime->value;
}

static void read_figure(struct mime *mime, const char *type, const json_t *value)
{
	cleanup(free_ptr) char *made = NULL;
	size_t size = 0;

	if (mime->rules->mode == OUTPUTS_TEXT) {
		mime->why = "text and pictures alone";
		return;
	}
	made = figures_draw(mime->rules->figures, type, value, &size, &mime->why);
	mime->figure = made != NULL;
	if (made || !mime->why)
		set_page(mime, made, size);
}

/* ---- the table ---- */

static const struct type {
	const char *name;
	void (*text)(struct mime *mime, const char *type, const struct text *text);
	void (*object)(struct mime *mime, json_t *value); /* instead */
	bool always;					  /* in mode "text" too */
} types[] = {
	{"text/plain", read_plain, NULL, true},
	{"text/html", read_html, NULL, false},
	{"text/markdown", read_markdown, NULL, false},
	{"text/latex", read_latex, NULL, false},
	{"image/svg+xml", read_svg, NULL, true},
	{"image/png", read_picture, NULL, true},
	{"image/jpeg", read_picture, NULL, true},
	{"image/gif", read_picture, NULL, true},
	{"image/webp", read_picture, NULL, true},
	{"image/bmp", read_picture, NULL, true},
	{"application/json", NULL, read_json, false},
	{"application/vnd.jupyter.widget-view+json", NULL, read_view, false},
};

static const struct type *find_type(const char *name)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(types[i].name, name) == 0)
			return &types[i];
	return NULL;
}

static bool is_script(const char *type)
{
	return strcasestr(type, "javascript") || strcasestr(type, "ecmascript");
}

bool mime_is_known(const char *type)
{
	return find_type(type) || is_script(type);
}

static bool is_listed(char **list, const char *text)
{
	for (size_t i = 0; list && list[i]; i++)
		if (strcmp(list[i], text) == 0)
			return true;
	return false;
}

/* What no front end renders: a scrap of scrapbook. */
static bool is_inert(const char *type)
{
	const size_t start = strlen(SCRAP);
	size_t word;

	if (strncmp(type, SCRAP, start) != 0)
		return false;
	word = strspn(type + start, "abcdefghijklmnopqrstuvwxyz0123456789_");
	return word > 0 && strcmp(type + start + word, "+json") == 0;
}

static void read_type(struct mime *mime, const struct type *type, json_t *value)
{
	struct text text;

	if (!type->always && mime->rules->mode == OUTPUTS_TEXT) {
		mime->why = "text and pictures alone";
		return;
	}
	if (type->object) {
		type->object(mime, value);
	} else if (text_of(mime, value, &text)) {
		type->text(mime, type->name, &text);
		text_done(&text);
	}
}

void mime_read(struct mime *mime, const char *type, json_t *value)
{
	/* What papermill and myst-nb keep for later under a name of their own. */
	bool record = strncmp(type, RECORD, strlen(RECORD)) == 0;
	const struct type *found = find_type(record ? type + strlen(RECORD) : type);

	if (found && !(record && strcmp(found->name, "image/svg+xml") == 0)) {
		read_type(mime, found, value);
	} else if (is_script(type)) {
		mime->why = "scripts do not run in the page";
		mime->scripts = true;
	} else if (is_inert(type) || is_listed(mime->rules->mime, type)) {
		mime->value = json_incref(value);
	} else if (figures_is_type(type)) {
		read_figure(mime, type, value);
	} else {
		mime->why = "not a type that passes";
	}
}

size_t mime_size(const json_t *value)
{
	size_t size = json_string_length(value);

	if (json_is_array(value))
		for (size_t i = 0; i < json_array_size(value); i++)
			size += json_string_length(json_array_get(value, i));
	return json_is_object(value) || size == 0
		       ? json_dumpb(value, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY)
		       : size;
}

/* ---- metadata ---- */

static void keep(json_t *made, const json_t *from, const char *key, bool fine)
{
	if (fine)
		(void)json_object_set(made, key, json_object_get(from, key));
}

static bool is_side(const json_t *value)
{
	return json_is_integer(value) && json_integer_value(value) >= 1 &&
	       json_integer_value(value) <= SIDE_MAX;
}

static bool is_background(const json_t *value)
{
	const char *text = json_string_value(value);

	return text && (strcmp(text, "light") == 0 || strcmp(text, "dark") == 0);
}

static bool is_name(const json_t *value)
{
	return json_is_string(value) && json_string_length(value) <= 256 &&
	       plain_is_clean(json_string_value(value), json_string_length(value), PLAIN_PROMPT);
}

/* "scrapbook": {"name": ..., "mime_prefix": ..., "data": true, "display": false} */
static json_t *scrap_metadata(const json_t *from)
{
	const char *prefix = json_string_value(json_object_get(from, "mime_prefix"));
	json_t *made = json_object();

	if (!made)
		return NULL;
	keep(made, from, "name", is_name(json_object_get(from, "name")));
	keep(made, from, "mime_prefix", prefix && (strcmp(prefix, RECORD) == 0 || *prefix == '\0'));
	keep(made, from, "data", json_is_boolean(json_object_get(from, "data")));
	keep(made, from, "display", json_is_boolean(json_object_get(from, "display")));
	return made;
}

json_t *mime_metadata(const struct outputs_rules *rules, const char *type, const json_t *metadata)
{
	static const char *const scraps[] = {"scrapbook", "papermill"};
	json_t *made = json_object();

	if (!made)
		return NULL;
	if (!type || picture_is_type(type))
		keep(made, metadata, "needs_background",
		     is_background(json_object_get(metadata, "needs_background")));
	for (size_t i = 0; !type && i < 2; i++)
		if (json_is_object(json_object_get(metadata, scraps[i])))
			(void)json_object_set_new(
				made, scraps[i],
				scrap_metadata(json_object_get(metadata, scraps[i])));
	if (type && picture_is_type(type)) {
		keep(made, metadata, "width", is_side(json_object_get(metadata, "width")));
		keep(made, metadata, "height", is_side(json_object_get(metadata, "height")));
		keep(made, metadata, "unconfined",
		     json_is_boolean(json_object_get(metadata, "unconfined")));
	} else if (type && strcmp(type, "application/json") == 0) {
		keep(made, metadata, "expanded",
		     json_is_boolean(json_object_get(metadata, "expanded")));
		keep(made, metadata, "root", is_name(json_object_get(metadata, "root")));
	} else if (type && is_listed(rules->mime, type)) {
		(void)json_object_update(made, (json_t *)(uintptr_t)metadata);
	}
	return made;
}
