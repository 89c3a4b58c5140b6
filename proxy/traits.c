#include "proxy/traits.h"

#include <stdlib.h>
#include <string.h>

#include "proxy/defuse.h"
#include "proxy/forms.h"
#include "proxy/fragment.h"
#include "sandbox/base.h"

#define FILES_MAX 256
#define REFERENCE "IPY_MODEL_"

/* The model that "IPY_MODEL_..." names, or NULL when it is not known. */
static const struct model *traits_reference(const struct content *content, const json_t *value)
{
	const char *text = json_string_value(value);
	struct known_comm comm;

	if (!text || strncmp(text, REFERENCE, strlen(REFERENCE)) != 0 ||
	    json_string_length(value) > strlen(REFERENCE) + KNOWN_ID_MAX ||
	    strlen(text) != json_string_length(value))
		return NULL;
	known_comm_get(content->known, text + strlen(REFERENCE), &comm);
	return comm.kind == KNOWN_WIDGET ? models_get(comm.model) : NULL;
}

static bool reference_ok(const struct tidy *tidy, const json_t *value, enum models_role role)
{
	const struct model *model = traits_reference(tidy->content, value);

	return json_is_null(value) || (model && model->role == role);
}

/* Children that are not known are taken out one by one. */
static bool children(struct tidy *tidy, json_t *list)
{
	if (!json_is_array(list) || json_array_size(list) > FORMS_ITEMS)
		return false;
	for (size_t i = json_array_size(list); i-- > 0;)
		if (!traits_reference(tidy->content, json_array_get(list, i))) {
			json_array_remove(list, i);
			tidy->changed = true;
			blocked_add(&tidy->content->blocked, "child", 0, "no such widget");
		}
	return true;
}

/* One end of a link; TRAIT_NONE when it may not be one. */
static enum trait link_end(const struct tidy *tidy, const json_t *end)
{
	const struct model *model = traits_reference(tidy->content, json_array_get(end, 0));
	const char *name = json_string_value(json_array_get(end, 1));

	return model && name && json_array_size(end) == 2 ? models_trait(model, name) : TRAIT_NONE;
}

/*
 * A link copies a trait within the front end, past every rule here: what the user may edit, or what
 * is shown as text, would become HTML. So both ends are of one harmless kind.
 */
static void tidy_link(struct tidy *tidy, const struct model *model, json_t *state)
{
	json_t *source = json_object_get(state, "source"),
	       *target = json_object_get(state, "target");
	enum trait from = link_end(tidy, source), to = link_end(tidy, target);
	bool same = from == to && (from == TRAIT_QUANTITY || from == TRAIT_TEXT ||
				   from == TRAIT_RAW || from == TRAIT_COLOR || from == TRAIT_CSS ||
				   from == TRAIT_WORD || from == TRAIT_TEXTS || from == TRAIT_HTML);
	bool arrow = model->role == MODELS_ARROW && from == TRAIT_QUANTITY &&
		     (to == TRAIT_TEXT || to == TRAIT_RAW || to == TRAIT_HTML);

	if ((!source && !target) || same || arrow)
		return;
	tidy_drop(tidy, state, "source");
	tidy_drop(tidy, state, "target");
	blocked_add(&tidy->content->blocked, "link", 0, "its ends are not of one kind");
}

static bool text(struct tidy *tidy, json_t *state, const char *key, json_t *value)
{
	json_t *made;

	if (!json_is_string(value))
		return json_is_null(value) || json_is_boolean(value) || json_is_number(value);
	made = defuse_value(tidy, value, false);
	if (made)
		tidy_set(tidy, state, key, made);
	return true;
}

/* A list, or an object by number as ipywidgets 7 has it for titles. */
static bool texts(struct tidy *tidy, json_t *value, bool attribute)
{
	const char *key;
	json_t *member, *made;
	void *next;
	size_t i;

	if (json_array_size(value) > FORMS_ITEMS || json_object_size(value) > FORMS_ITEMS)
		return false;
	json_array_foreach(value, i, member)
	{
		if (!json_is_string(member) && !json_is_number(member))
			return false;
		made = json_is_string(member) ? defuse_value(tidy, member, attribute) : NULL;
		tidy->changed |= made != NULL;
		if (made && json_array_set_new(value, i, made) < 0)
			tidy->failed = true;
	}
	json_object_foreach_safe(value, next, key, member)
	{
		if (strspn(key, "0123456789") != strlen(key) || !text(tidy, value, key, member))
			tidy_drop(tidy, value, key);
	}
	return json_is_array(value) || json_is_object(value);
}

/* Markup as the text that it is, in the form that fragment.h has it. */
static char *as_text(const char *markup, size_t size, size_t *ret_size)
{
	cleanup(free_ptr) char *escaped = defuse_markup(markup, size, &size);

	return escaped ? fragment_rewrite(escaped, size, ret_size) : NULL;
}

/* Either accepted as a whole and written anew, or shown as the text that it is. */
static bool html(struct tidy *tidy, const struct model *model, json_t *state, const char *key,
		 json_t *value)
{
	const char *sent = json_string_value(value);
	size_t size = json_string_length(value), made_size = 0;
	char *made;

	if (!sent)
		return false;
	/* fragment.h takes formulas apart; without markup they can stay, as in any text */
	if (size == 0 || (strcmp(model->name, "HTMLMathModel") == 0 && !strpbrk(sent, "<&")))
		return text(tidy, state, key, value);
	made = fragment_rewrite(sent, size, &made_size);
	if (!made) {
		blocked_add(&tidy->content->blocked, model->name, size, "markup shown as text");
		made = as_text(sent, size, &made_size);
	}
	if (!made)
		tidy->failed = true;
	else if (made_size != size || memcmp(made, sent, size) != 0)
		tidy_set(tidy, state, key, json_stringn(made, made_size));
	free(made);
	return true;
}

static enum content_rule output_rule(const char *type)
{
	static const struct {
		const char *type;
		enum content_rule rule;
	} rules[] = {
		{"stream", CONTENT_STREAM},
		{"display_data", CONTENT_DISPLAY},
		{"execute_result", CONTENT_RESULT},
		{"error", CONTENT_ERROR},
	};

	for (size_t i = 0; type && i < sizeof(rules) / sizeof(rules[0]); i++)
		if (strcmp(rules[i].type, type) == 0)
			return rules[i].rule;
	return CONTENT_NONE;
}

/* One of an Output widget's, as the message of that type would be. Returns whether it stays. */
static bool output(struct tidy *tidy, json_t *entry)
{
	json_t *type = json_incref(json_object_get(entry, "output_type"));
	enum content_rule rule = output_rule(json_string_value(type));
	enum content_verdict verdict = CONTENT_DROP;
	struct content sub = *tidy->content;

	if (rule != CONTENT_NONE) {
		sub.metadata = json_object();
		sub.content = entry;
		sub.buffer_count = 0;
		json_object_del(entry, "output_type");
		if (sub.metadata)
			verdict = content_judge(rule, &sub);
		tidy->content->blocked = sub.blocked;
		json_decref(sub.metadata);
		if (json_object_set(entry, "output_type", type) < 0)
			tidy->failed = true;
	}
	json_decref(type);
	if (verdict == CONTENT_CHANGED)
		tidy->changed = true;
	return verdict == CONTENT_KEEP || verdict == CONTENT_CHANGED;
}

static bool outputs(struct tidy *tidy, json_t *list)
{
	if (!json_is_array(list) || json_array_size(list) > FORMS_ITEMS)
		return false;
	for (size_t i = json_array_size(list); i-- > 0;)
		if (!output(tidy, json_array_get(list, i))) {
			json_array_remove(list, i);
			tidy->changed = true;
		}
	return true;
}

/* What the user uploaded, as the front end told it; its bytes come in buffers. */
static bool files(struct tidy *tidy, json_t *list)
{
	static const char *const keys[] = {"name",	   "type",    "size",  "last_modified",
					   "lastModified", "content", "error", NULL};
	json_t *entry, *value;
	const char *key;
	void *next;
	size_t i;

	if (!json_is_array(list) || json_array_size(list) > FILES_MAX)
		return false;
	json_array_foreach(list, i, entry)
	{
		tidy_keys(tidy, entry, keys);
		json_object_foreach_safe(entry, next, key, value)
		{
			if (!text(tidy, entry, key, value))
				tidy_drop(tidy, entry, key);
		}
		if (!json_is_object(entry) && !json_is_null(entry))
			return false;
	}
	return true;
}

static bool name_ok(const json_t *value, const char *wanted)
{
	const char *text = json_string_value(value);

	return json_is_null(value) || (text && wanted && strcmp(text, wanted) == 0);
}

/* The three that need more than a look at the value. */
static bool references(struct tidy *tidy, enum trait trait, json_t *value)
{
	if (trait == TRAIT_CHILDREN)
		return children(tidy, value);
	return reference_ok(tidy, value, trait == TRAIT_LAYOUT ? MODELS_LAYOUT : MODELS_STYLE);
}

static bool form_ok(const struct model *model, enum trait trait, json_t *value)
{
	switch (trait) {
	case TRAIT_QUANTITY:
		return forms_quantity(value);
	case TRAIT_WORD:
		return forms_word(value);
	case TRAIT_RAW:
		return json_is_string(value) || json_is_null(value);
	case TRAIT_CSS:
	case TRAIT_COLOR:
		return forms_css(value);
	case TRAIT_COLORS:
		return forms_each(value, forms_css);
	case TRAIT_CLASSES:
		return forms_each(value, forms_class);
	case TRAIT_ICON:
		return forms_icon(value);
	case TRAIT_ICONS:
		return forms_each(value, forms_icon);
	case TRAIT_FORMAT:
		return forms_number_format(value);
	case TRAIT_MEDIA:
		return forms_media(value);
	case TRAIT_ACCEPT:
		return forms_accept(value);
	case TRAIT_MESSAGE:
		return forms_message(value);
	case TRAIT_MODEL_MODULE:
		return name_ok(value, model->module);
	case TRAIT_MODEL_NAME:
		return name_ok(value, model->name);
	case TRAIT_VIEW_MODULE:
		return name_ok(value, model->view_module);
	case TRAIT_VIEW_NAME:
		return name_ok(value, model->view);
	case TRAIT_VERSION:
		return forms_version(value);
	default: /* a trait that is none, or bytes that do not come in a buffer */
		return json_is_number(value) || json_is_boolean(value) || json_is_null(value);
	}
}

static bool trait_ok(struct tidy *tidy, const struct model *model, json_t *state, const char *key,
		     json_t *value)
{
	enum trait trait = models_trait(model, key);

	switch (trait) {
	case TRAIT_TEXT:
		return text(tidy, state, key, value);
	case TRAIT_TEXTS:
	case TRAIT_OPTIONS:
		return texts(tidy, value, trait == TRAIT_OPTIONS);
	case TRAIT_HTML:
		return html(tidy, model, state, key, value);
	case TRAIT_OUTPUTS:
		return outputs(tidy, value);
	case TRAIT_FILES:
		return files(tidy, value);
	case TRAIT_LAYOUT:
	case TRAIT_STYLE:
	case TRAIT_CHILDREN:
		return references(tidy, trait, value);
	case TRAIT_LINK: /* both ends at once */
		return true;
	case TRAIT_FALSE:
		if (!json_is_false(value))
			tidy_set(tidy, state, key, json_false());
		return true;
	default:
		return form_ok(model, trait, value);
	}
}

void traits_filter(struct tidy *tidy, const struct model *model, json_t *state)
{
	size_t count = 0;
	const char *key;
	json_t *value;
	void *next;

	json_object_foreach_safe(state, next, key, value)
	{
		if (++count <= TRAITS_MAX && !tidy_prototype(key) &&
		    trait_ok(tidy, model, state, key, value))
			continue;
		blocked_add(&tidy->content->blocked, key, 0, model->name);
		tidy_drop(tidy, state, key);
	}
	tidy_link(tidy, model, state);
}
