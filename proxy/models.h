/*
 * models: the models of ipywidgets 7 and 8, and what each of their traits may be.
 *
 * A model has one view: a view of another would read its value in another way, an HTML view that of
 * a text field. Source: ipywidgets 7.8 and 8.1 (their traits tagged sync), @jupyter-widgets/base,
 * controls and output (what their views do with a value). Tables and look-ups alone.
 */
#ifndef PROXY_MODELS_H
#define PROXY_MODELS_H

enum trait {
	TRAIT_NONE,	/* not of any model: numbers, booleans and null alone */
	TRAIT_QUANTITY, /* numbers, dates, times, true and false, lists of them; "any" */
	TRAIT_WORD,	/* of an enumeration */
	TRAIT_TEXT,	/* shown as text, perhaps with formulas */
	TRAIT_TEXTS,	/* a list of them, or an object by number */
	TRAIT_RAW,	/* in a field that the user may edit */
	TRAIT_HTML,
	TRAIT_CSS,
	TRAIT_COLOR,
	TRAIT_COLORS,
	TRAIT_CLASSES,
	TRAIT_ICON,
	TRAIT_ICONS,
	TRAIT_FORMAT,  /* of d3-format */
	TRAIT_MEDIA,   /* what a picture, a sound or a film is in; an address if it were "url" */
	TRAIT_ACCEPT,  /* MIME types and endings of files */
	TRAIT_OPTIONS, /* ipywidgets 7 writes them into an attribute */
	TRAIT_BINARY,  /* comes in a buffer */
	TRAIT_FILES,   /* what the user uploaded */
	TRAIT_OUTPUTS,
	TRAIT_MESSAGE, /* a msg_id */
	TRAIT_LAYOUT,  /* references to other models */
	TRAIT_STYLE,
	TRAIT_CHILDREN,
	TRAIT_LINK,
	TRAIT_FALSE, /* description_allow_html */
	TRAIT_MODEL_MODULE,
	TRAIT_MODEL_NAME,
	TRAIT_VIEW_MODULE,
	TRAIT_VIEW_NAME,
	TRAIT_VERSION,
};

enum models_role { MODELS_PLAIN, MODELS_LAYOUT, MODELS_STYLE, MODELS_LINK, MODELS_ARROW };

struct model {
	const char *module, *name, *view_module, *view; /* the latter two may be NULL */
	enum trait value;				/* of the trait of that name */
	enum models_role role;
};

/* Returns the number of a model, from 1 on, or 0 when there is none of that name. */
unsigned short models_find(const char *module, const char *name);
/* Returns NULL for a number that is none. */
const struct model *models_get(unsigned short number);
enum trait models_trait(const struct model *model, const char *name);

#endif
