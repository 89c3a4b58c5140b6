#include "proxy/outputs.h"

#include <errno.h>
#include <string.h>

#include "proxy/buffer.h"
#include "proxy/figures.h"
#include "proxy/frame.h"
#include "proxy/known.h"
#include "proxy/mime.h"
#include "proxy/outputs_setting.h"
#include "proxy/plain.h"
#include "proxy/tidy.h"
#include "proxy/traceback.h"
#include "proxy/widgets.h"

#define TRACEBACK_MAX  4096
#define DISPLAY_ID_MAX 256

/* ---- bundles ---- */

struct bundle {
	struct content *content;
	json_t *made, *metadata;
	struct blocked gone; /* of this bundle */
	bool scripts;	     /* some of it would have run */
	bool figure;	     /* one is drawn: the library's own page of it is not needed */
	bool partial;	     /* and something of it is missing */
	bool widget;	     /* one is missing */
	bool failed;
	json_t *text; /* borrowed: what could not be shown as what it is, as text */
};

static void say_gone(struct bundle *bundle, const char *type, const json_t *value,
		     const struct mime *mime)
{
	size_t size = mime_size(value);

	blocked_add(&bundle->gone, type, size, mime->why);
	blocked_add(&bundle->content->blocked, type, size, mime->why);
	bundle->scripts |= mime->scripts;
	bundle->widget |= strcmp(type, "application/vnd.jupyter.widget-view+json") == 0;
}

/* A key that another of the bundle has taken already is left out. */
static void put(struct bundle *bundle, const char *type, json_t *value)
{
	if (!json_object_get(bundle->made, type) && json_object_set(bundle->made, type, value) < 0)
		bundle->failed = true;
}

static void read_metadata(struct bundle *bundle, const char *type, const json_t *metadata)
{
	const json_t *from = json_object_get(metadata, type);
	json_t *made;

	if (!json_is_object(from))
		return;
	made = mime_metadata(bundle->content->rules, type, from);
	if (!made)
		bundle->failed = true;
	else if (json_object_size(made) > 0 && json_object_set(bundle->metadata, type, made) < 0)
		bundle->failed = true;
	json_decref(made);
}

/* Markup that was made here once comes back when a widget's outputs are restored. */
static bool was_made(const struct bundle *bundle, const char *type, const json_t *value)
{
	return bundle->content->rules->mode != OUTPUTS_TEXT && strcmp(type, "text/html") == 0 &&
	       json_is_string(value) && bundle->content->known &&
	       known_made_has(bundle->content->known, json_string_value(value),
			      json_string_length(value));
}

static bool names_no_widget(const struct bundle *bundle, const char *type, const json_t *value)
{
	const char *id = json_string_value(json_object_get(value, "model_id"));

	return strcmp(type, "application/vnd.jupyter.widget-view+json") == 0 &&
	       !(id && bundle->content->known && widgets_view_ok(bundle->content, id));
}

static void read_one(struct bundle *bundle, const char *type, json_t *value, const json_t *metadata)
{
	struct mime mime = {.rules = bundle->content->rules};

	if (bundle->figure && strcmp(type, "text/html") == 0)
		return;
	if (strlen(type) > MIME_KEY_MAX || json_object_size(bundle->made) >= MIME_KEYS)
		mime.why = "too many types";
	else if (was_made(bundle, type, value))
		mime.value = json_incref(value);
	else if (bundle->content->rules->mode != OUTPUTS_TEXT &&
		 names_no_widget(bundle, type, value))
		mime.why = "no widget of ipywidgets itself";
	else
		mime_read(&mime, type, value);
	bundle->failed |= mime.failed;
	if (mime.why)
		say_gone(bundle, type, value, &mime);
	if (mime.value && mime.shown_as_text) {
		json_decref(bundle->text);
		bundle->text = json_incref(mime.value);
	} else if (mime.value && (mime.figure || strcmp(type, "image/svg+xml") == 0)) {
		bundle->figure |= mime.figure;
		bundle->partial |= mime.figure && mime.why;
		put(bundle, "text/html", mime.value);
	} else if (mime.value) {
		put(bundle, type, mime.value);
		read_metadata(bundle, type, metadata);
	}
	json_decref(mime.value);
}

static bool is_rich(const json_t *made)
{
	return json_object_size(made) > (json_object_get(made, "text/plain") ? 1u : 0u);
}

static void set(struct bundle *bundle, const char *type, const struct buffer *text)
{
	if (text->failed ||
	    json_object_set_new(bundle->made, type, json_stringn(text->data, text->size)) < 0)
		bundle->failed = true;
}

/* The line in the place where the user looks: above markup, below text. It has names of the
 * kernel's choice in it: of types. */
static void place_line(struct bundle *bundle, const char *line)
{
	const char *type = json_object_get(bundle->made, "text/html") ? "text/html" : "text/plain";
	const json_t *there = json_object_get(bundle->made, type);
	cleanup(free_ptr) char *clean = NULL;
	size_t size = strlen(line);
	struct buffer out = {0};

	if (plain_clean(line, size, PLAIN_PROMPT, &clean, &size) < 0)
		bundle->failed = true;
	if (clean)
		line = clean;
	if (strcmp(type, "text/html") == 0) {
		buffer_text(&out, "<div><small>");
		frame_escape(&out, line, size);
		buffer_text(&out, "</small></div>");
	}
	buffer_add(&out, json_is_string(there) ? json_string_value(there) : "",
		   json_string_length(there));
	if (strcmp(type, "text/plain") == 0) {
		buffer_text(&out, out.size > 0 ? "\n" : "");
		buffer_text(&out, line);
	}
	set(bundle, type, &out);
	buffer_done(&out);
}

/* "<Figure size 640x480>", "IntSlider(value=7)": the name of what is shown elsewhere. */
static bool is_name(const struct bundle *bundle)
{
	const json_t *text = json_object_get(bundle->made, "text/plain");
	const char *value = json_string_value(text);
	const size_t size = json_string_length(text);

	return json_object_size(bundle->made) == 1 && size > 0 &&
	       (bundle->widget || (value[0] == '<' && value[size - 1] == '>'));
}

/*
 * A line when something is missing to the eye: nothing richer than text is left, or a part of what
 * is shown would have run. In mode "text" that text is shown is what was asked for, but a name.
 */
static void say_blocked(struct bundle *bundle)
{
	const enum outputs_mode mode = bundle->content->rules->mode;
	const json_t *html = json_object_get(bundle->made, "text/html");
	const char *more = "";
	char line[BLOCKED_TEXT + 160];

	if (bundle->gone.count == 0 ||
	    (mode == OUTPUTS_TEXT && json_object_size(bundle->made) > 0 && !is_name(bundle)) ||
	    (is_rich(bundle->made) && !html) ||
	    (html && !strstr(bundle->gone.text, "text/html") && !bundle->scripts &&
	     !bundle->partial))
		return;
	if (mode == OUTPUTS_TEXT)
		more = ", \"static\" shows more (policy, outputs.mode)";
	else if (bundle->scripts && mode == OUTPUTS_STATIC)
		more = ", \"interactive\" runs scripts of HTML (policy, outputs.mode)";
	(void)snprintf(line, sizeof(line), "[cellwall blocked: %s; mode %s%s]", bundle->gone.text,
		       outputs_mode_name(mode), more);
	place_line(bundle, line);
}

static void read_bundle(struct bundle *bundle, json_t *data, json_t *metadata)
{
	const char *type;
	json_t *value, *made;

	/* A figure goes before a page of the kernel's own, and that before one made of a picture.
	 */
	json_object_foreach(data, type, value)
	{
		if (figures_is_type(type))
			read_one(bundle, type, value, metadata);
	}
	value = json_object_get(data, "text/html");
	if (value)
		read_one(bundle, "text/html", value, metadata);
	json_object_foreach(data, type, value)
	{
		if (strcmp(type, "text/html") != 0 && !figures_is_type(type))
			read_one(bundle, type, value, metadata);
	}
	if (bundle->text && !json_object_get(bundle->made, "text/html") &&
	    json_object_set(bundle->made, "text/plain", bundle->text) < 0)
		bundle->failed = true;
	say_blocked(bundle);
	made = mime_metadata(bundle->content->rules, NULL, metadata);
	if (!made || json_object_update(bundle->metadata, made) < 0)
		bundle->failed = true;
	json_decref(made);
}

static void remember_made(const struct bundle *bundle)
{
	const json_t *html = json_object_get(bundle->made, "text/html");

	if (json_is_string(html) && bundle->content->known)
		known_made_add(bundle->content->known, json_string_value(html),
			       json_string_length(html));
}

/* `object` becomes what `made` is. 0, 1 or -ENOMEM. */
static int replace(json_t *object, json_t *made)
{
	if (json_equal(object, made))
		return 0;
	return json_object_clear(object) < 0 || json_object_update(object, made) < 0 ? -ENOMEM : 1;
}

int outputs_bundle(json_t *data, json_t *metadata, struct content *content)
{
	struct bundle bundle = {
		.content = content, .made = json_object(), .metadata = json_object()};
	int r = -ENOMEM, also;

	if (bundle.made && bundle.metadata)
		read_bundle(&bundle, data, metadata);
	if (bundle.made && bundle.metadata && !bundle.failed) {
		remember_made(&bundle);
		r = replace(data, bundle.made);
		also = replace(metadata, bundle.metadata);
		r = r < 0 || also < 0 ? -ENOMEM : r | also;
	}
	json_decref(bundle.made);
	json_decref(bundle.metadata);
	json_decref(bundle.text);
	return r;
}

/* ---- messages ---- */

static enum content_verdict drop(struct content *content, const char *type, const char *why)
{
	blocked_add(&content->blocked, type, 0, why);
	return CONTENT_DROP;
}

static enum content_verdict verdict(int r)
{
	if (r < 0)
		return CONTENT_DROP;
	return r > 0 ? CONTENT_CHANGED : CONTENT_KEEP;
}

/* Takes out keys that are not in the NULL-terminated list. Returns 0 or 1. */
static int only(json_t *object, const char *const *keys)
{
	const char *key;
	json_t *value;
	void *next;
	int changed = 0;

	json_object_foreach_safe(object, next, key, value)
	{
		size_t i = 0;

		while (keys[i] && strcmp(keys[i], key) != 0)
			i++;
		if (!keys[i]) {
			changed = 1;
			(void)json_object_del(object, key);
		}
	}
	return changed;
}

/* The metadata frame of a message says nothing to a front end. */
static int clear_metadata(struct content *content)
{
	if (json_object_size(content->metadata) == 0)
		return 0;
	return json_object_clear(content->metadata) < 0 ? -ENOMEM : 1;
}

/* `r` and one more result. */
static int with(int r, int more)
{
	if (r < 0 || more < 0)
		return r < 0 ? r : more;
	return r | more;
}

static unsigned text_flags(const struct content *content)
{
	return content->rules->links ? PLAIN_LINKS : 0;
}

enum content_verdict outputs_stream(struct content *content)
{
	static const char *const keys[] = {"name", "text", NULL};
	const char *name = json_string_value(json_object_get(content->content, "name"));
	int r;

	if (content->rules->mode == OUTPUTS_OFF)
		return CONTENT_KEEP;
	if (!name || (strcmp(name, "stdout") != 0 && strcmp(name, "stderr") != 0))
		return drop(content, "stream", "neither stdout nor stderr");
	r = plain_string(content->content, "text", text_flags(content) | PLAIN_STREAM);
	if (r == -EINVAL)
		return drop(content, "stream", "no text");
	r = with(r, only(content->content, keys));
	return verdict(with(r, clear_metadata(content)));
}

/* transient.display_id, or NULL. */
static const json_t *display_id(const struct content *content)
{
	const json_t *id =
		json_object_get(json_object_get(content->content, "transient"), "display_id");

	return json_string_length(id) > 0 && json_string_length(id) <= DISPLAY_ID_MAX &&
			       !tidy_prototype(json_string_value(id))
		       ? id
		       : NULL;
}

static int keep_display_id(struct content *content)
{
	const json_t *id = display_id(content), *transient;
	json_t *made;
	int r;

	transient = json_object_get(content->content, "transient");
	if (!transient)
		return 0;
	made = id ? json_pack("{s:O}", "display_id", id) : json_object();
	if (!made)
		return -ENOMEM;
	r = json_equal(transient, made) ? 0 : 1;
	if (r && json_object_set(content->content, "transient", made) < 0)
		r = -ENOMEM;
	json_decref(made);
	return r;
}

static enum content_verdict show(struct content *content, const char *type, const char *const *keys)
{
	json_t *data = json_object_get(content->content, "data"), *metadata;
	int r = 0;

	if (!json_is_object(data))
		return drop(content, type, "no data");
	metadata = json_object_get(content->content, "metadata");
	if (!json_is_object(metadata)) {
		metadata = json_object();
		r = json_object_set_new(content->content, "metadata", metadata) < 0 ? -ENOMEM : 1;
	}
	if (r >= 0)
		r = with(r, outputs_bundle(data, metadata, content));
	r = with(r, keep_display_id(content));
	r = with(r, only(content->content, keys));
	return verdict(with(r, clear_metadata(content)));
}

static void remember(struct content *content)
{
	const json_t *id = display_id(content);

	if (id && content->known)
		known_display_add(content->known, json_string_value(id), json_string_length(id));
}

enum content_verdict outputs_display(struct content *content)
{
	static const char *const keys[] = {"data", "metadata", "transient", NULL};

	remember(content);
	if (content->rules->mode == OUTPUTS_OFF)
		return CONTENT_KEEP;
	return show(content, "display_data", keys);
}

enum content_verdict outputs_result(struct content *content)
{
	static const char *const keys[] = {"data", "metadata", "transient", "execution_count",
					   NULL};

	remember(content);
	if (content->rules->mode == OUTPUTS_OFF)
		return CONTENT_KEEP;
	if (!tidy_count(json_object_get(content->content, "execution_count")))
		return drop(content, "execute_result", "no execution count");
	return show(content, "execute_result", keys);
}

enum content_verdict outputs_update(struct content *content)
{
	static const char *const keys[] = {"data", "metadata", "transient", NULL};
	const json_t *id = display_id(content);

	if (content->rules->mode == OUTPUTS_OFF)
		return CONTENT_KEEP;
	if (!id || !content->known ||
	    !known_display_has(content->known, json_string_value(id), json_string_length(id)))
		return drop(content, "update_display_data", "no such display");
	return show(content, "update_display_data", keys);
}

enum content_verdict outputs_clear(struct content *content)
{
	static const char *const keys[] = {"wait", NULL};
	int r;

	if (content->rules->mode == OUTPUTS_OFF)
		return CONTENT_KEEP;
	r = only(content->content, keys);
	if (!json_is_boolean(json_object_get(content->content, "wait")))
		r = json_object_set_new(content->content, "wait", json_false()) < 0 ? -ENOMEM : 1;
	return verdict(with(r, clear_metadata(content)));
}

/* A list of lines; what is no string goes. */
static int clean_traceback(json_t *lines, unsigned flags)
{
	int r = 0;

	for (size_t i = json_array_size(lines); i-- > 0 && r >= 0;) {
		const json_t *line = json_array_get(lines, i);
		cleanup(free_ptr) char *made = NULL;
		size_t size = 0;
		int one;

		if (!json_is_string(line) || i >= TRACEBACK_MAX) {
			r = json_array_remove(lines, i) < 0 ? -ENOMEM : 1;
			continue;
		}
		one = traceback_clean(json_string_value(line), json_string_length(line), flags,
				      &made, &size);
		if (one == 1 && json_array_set_new(lines, i, json_stringn(made, size)) < 0)
			one = -ENOMEM;
		r = with(r, one);
	}
	return r;
}

static int clean_or_empty(struct content *content, const char *key)
{
	int r = plain_string(content->content, key, text_flags(content));

	if (r != -EINVAL)
		return r;
	return json_object_set_new(content->content, key, json_string("")) < 0 ? -ENOMEM : 1;
}

enum content_verdict outputs_error(struct content *content)
{
	static const char *const keys[] = {"ename", "evalue", "traceback", NULL};
	json_t *lines = json_object_get(content->content, "traceback");
	int r;

	if (content->rules->mode == OUTPUTS_OFF)
		return CONTENT_KEEP;
	r = only(content->content, keys);
	r = with(r, clean_or_empty(content, "ename"));
	r = with(r, clean_or_empty(content, "evalue"));
	if (json_is_array(lines))
		r = with(r, clean_traceback(lines, text_flags(content)));
	else
		r = with(r, json_object_set_new(content->content, "traceback", json_array()) < 0
				    ? -ENOMEM
				    : 1);
	return verdict(with(r, clear_metadata(content)));
}
