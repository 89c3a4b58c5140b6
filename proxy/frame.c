#include "proxy/frame.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "proxy/buffer.h"
#include "proxy/height.h"
#include "proxy/tag.h"
#include "sandbox/base.h"

#define STATIC_CSP                                                                                 \
	"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "     \
	"media-src data: blob:; base-uri 'none'; form-action 'none'"
#define OUTER_CSP "; frame-src 'none'"

/*
 * A frame takes the color scheme of the element that holds it (CSS Color Adjustment 1,
 * section 2.4), and with it what prefers-color-scheme says inside: what JupyterLab shows, not what
 * the system prefers. Where the page's theme cannot be asked for it is a white card. The variables
 * are those of JupyterLab that libraries ask for, and those that a script of scikit-learn sets.
 */
#define SCHEME                                                                                     \
	"color-scheme:light;color-scheme:if(style(--jp-shadow-base-lightness:32):dark;else:light)"
#define CARD ";border-radius:3px;" SCHEME
#define LIGHT                                                                                      \
	"background:#fff;color:#111;--jp-layout-color0:#fff;--jp-layout-color1:#fff;"              \
	"--jp-layout-color2:#eee;--jp-content-font-color0:#000;--jp-content-font-color1:#212121;"  \
	"--jp-content-font-color2:#616161;--jp-content-font-color3:#757575;"                       \
	"--jp-border-color1:#bdbdbd;--jp-border-color2:#e0e0e0;"                                   \
	"--sklearn-color-text-on-default-background:#000;--sklearn-color-background:#fff;"         \
	"--sklearn-color-border-box:#000;--sklearn-color-icon:#696969"
#define DARK                                                                                       \
	"background:#111;color:#ddd;--jp-layout-color0:#111;--jp-layout-color1:#212121;"           \
	"--jp-layout-color2:#424242;--jp-content-font-color0:#fff;--jp-content-font-color1:#eee;"  \
	"--jp-content-font-color2:#bdbdbd;--jp-content-font-color3:#9e9e9e;"                       \
	"--jp-border-color1:#757575;--jp-border-color2:#616161;"                                   \
	"--sklearn-color-text-on-default-background:#fff;--sklearn-color-background:#111;"         \
	"--sklearn-color-border-box:#fff;--sklearn-color-icon:#878787"
#define STYLE                                                                                      \
	"<style>:root{color-scheme:light dark;font:13px/1.5 system-ui,sans-serif;" LIGHT           \
	"}@media(prefers-color-scheme:dark){:root{" DARK                                           \
	"}}body{margin:8px}video{display:block;max-width:100%}"                                    \
	"video:not([height]){height:calc(100vh - 16px)}</style>"
#define OUTER_STYLE                                                                                \
	"<style>:root{color-scheme:light dark}body{margin:0}iframe{display:block}</style>"

/* What an untrusted notebook shows: front ends leave the frame out and keep what is in it. */
#define INSTEAD "[cellwall: a frame, which is shown when this notebook is trusted]"

#define TOKENS_MAX 1024 /* bytes of an attribute's value */

/* What names a host or another document without a script: made text. */
static bool is_neutered(const char *text, size_t size)
{
	static const char *const names[] = {"link",   "meta",	     "base",  "iframe",
					    "frame",  "object",	     "embed", "applet",
					    "portal", "fencedframe", "script"};

	if (size > 0 && *text == '/') {
		text++;
		size--;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (tag_word(text, size, names[i]))
			return true;
	return false;
}

/* ---- escaping ---- */

static const struct entity {
	char text[7];
	unsigned char fewer; /* bytes less than the longest */
} entities[256] = {
	['&'] = {"&amp;", 1},  ['<'] = {"&lt;", 2},   ['>'] = {"&gt;", 2},
	['"'] = {"&quot;", 0}, ['\''] = {"&#39;", 1},
};
enum { ENTITY_MAX = 6, STRETCH = 64 };

/* `out` has room for the longest entity for each byte. Returns how many are written. */
static size_t escape_into(char *out, const char *text, size_t size)
{
	char *at = out;

	for (size_t i = 0; i < size; i++) {
		const struct entity *entity = &entities[(unsigned char)text[i]];

		if (*entity->text == '\0') {
			*at = text[i];
			at += text[i] != '\0';
		} else {
			memcpy(at, entity->text, ENTITY_MAX);
			at += ENTITY_MAX - entity->fewer;
		}
	}
	return (size_t)(at - out);
}

void frame_escape(struct buffer *out, const char *text, size_t size)
{
	char part[ENTITY_MAX * STRETCH];

	for (size_t i = 0, length; i < size; i += length) {
		length = size - i < STRETCH ? size - i : STRETCH;
		buffer_add(out, part, escape_into(part, text + i, length));
	}
}

/*
 * The bytes of an attribute sandbox="allow-..." at `text`, 0: none. A frame in a frame gets no more
 * than the outer one has, whatever it says: it says nothing.
 */
static size_t tokens_at(const char *text, size_t size)
{
	size_t i = strlen("sandbox"), from;
	const char *ends = " \t\n\r\f>";

	if ((*text | 0x20) != 's' || !tag_word(text, size, "sandbox"))
		return 0;
	while (i < size && strchr(" \t\n\r\f", text[i]))
		i++;
	if (i == size || text[i] != '=')
		return 0;
	for (i++; i < size && strchr(" \t\n\r\f", text[i]);)
		i++;
	if (i < size && (text[i] == '"' || text[i] == '\''))
		ends = text[i++] == '"' ? "\"" : "'";
	for (from = i; i < size && i - from < TOKENS_MAX && !strchr(ends, text[i]);)
		i++;
	for (size_t j = from; j < i; j++)
		if (text[j] == '&' || tag_word(text + j, i - j, "allow"))
			return i + (i < size && *ends != ' ' && text[i] == *ends);
	return 0;
}

/* The body as it stands in the document. NUL goes before names are looked at. */
static void add_body(struct buffer *out, const char *body, size_t size, bool scripts)
{
	size_t from = 0, tokens;

	for (size_t i = 0; i < size; i++) {
		const bool tag =
			!scripts && body[i] == '<' && is_neutered(body + i + 1, size - i - 1);

		tokens = tag ? 1 : tokens_at(body + i, size - i);
		if (tokens == 0)
			continue;
		buffer_add(out, body + from, i - from);
		buffer_text(out, tag ? "&lt;" : "");
		from = i + tokens;
		i = from - 1;
	}
	buffer_add(out, body + from, size - from);
}

/* ---- the frames ---- */

/* `scripts`: the sources of script-src, or NULL. A document in srcdoc has the policy of the one
 * around it too, so the outer one names them as well. */
static void add_head(struct buffer *out, const char *scripts, bool outer)
{
	buffer_text(out, "<!DOCTYPE html><html><head><meta http-equiv=\"Content-Security-Policy\" "
			 "content=\"");
	buffer_text(out, STATIC_CSP);
	buffer_text(out, scripts ? "; script-src " : "");
	buffer_text(out, scripts ? scripts : "");
	buffer_text(out, outer ? OUTER_CSP : "");
	buffer_text(out, "\"><meta charset=utf-8>"
			 "<meta http-equiv=\"x-dns-prefetch-control\" content=\"off\">");
	buffer_text(out, outer ? OUTER_STYLE : STYLE);
	buffer_text(out, "</head><body>");
}

/* A frame that holds `document`; `instead` is seen where frames are taken out. */
static void add_frame(struct buffer *out, const struct buffer *document, bool scripts,
		      unsigned height, const char *style, const char *instead)
{
	buffer_text(out, scripts ? "<iframe sandbox=\"allow-scripts\" srcdoc=\""
				 : "<iframe sandbox=\"\" srcdoc=\"");
	if (document->data)
		frame_escape(out, document->data, document->size);
	buffer_format(out, "\" style=\"width:100%%;height:%upx;border:0%s\">%s</iframe>", height,
		      style, instead);
	out->failed |= document->failed;
}

char *frame_enclose(const char *body, size_t size, const char *scripts, unsigned height,
		    size_t *ret_size)
{
	struct buffer inner = {0}, outer = {0}, out = {0};
	char *made;

	add_head(&inner, scripts, false);
	add_body(&inner, body, size, scripts != NULL);
	buffer_text(&inner, "</body></html>");
	add_head(&outer, scripts, true);
	add_frame(&outer, &inner, scripts != NULL, height, "", "");
	buffer_text(&outer, "</body></html>");
	buffer_done(&inner);
	add_frame(&out, &outer, scripts != NULL, height, CARD, INSTEAD);
	buffer_done(&outer);
	made = buffer_take(&out, ret_size);
	buffer_done(&out);
	return made;
}

char *frame_wrap(const char *body, size_t size, bool scripts, size_t *ret_size)
{
	struct buffer bare = {0};
	char *made = NULL;

	if (size > FRAME_BODY_MAX)
		return NULL;
	for (size_t i = 0; i < size;) {
		const char *nul = memchr(body + i, '\0', size - i);
		size_t stretch = nul ? (size_t)(nul - body) - i : size - i;

		buffer_add(&bare, body + i, stretch);
		i += stretch + 1;
	}
	if (!bare.failed)
		made = frame_enclose(bare.data ? bare.data : "", bare.size,
				     scripts ? "'unsafe-inline' 'unsafe-eval'" : NULL,
				     bare.data ? height_estimate(bare.data, bare.size) : HEIGHT_MIN,
				     ret_size);
	buffer_done(&bare);
	return made;
}

/* ---- scripts ---- */

/* The next tag of that name at or after `i`, or the end. */
static size_t find_tag(const char *body, size_t size, size_t i, const char *name)
{
	while (i < size) {
		const char *at = memchr(body + i, '<', size - i);

		if (!at)
			return size;
		i = (size_t)(at - body);
		if (tag_is(at, size - i, name))
			return i;
		i++;
	}
	return size;
}

/* What shows nothing without scripts or the network; NULL: it has no end tag. */
static const struct unshown {
	const char *name, *end;
} unshown[] = {
	{"script", "/script"}, {"iframe", "/iframe"}, {"title", "/title"},
	{"meta", NULL},	       {"link", NULL},	      {"base", NULL},
};

/* Where a page sends its reader shows: the frame makes it text. */
static bool is_told(const char *tag, size_t size)
{
	return tag_is(tag, size, "meta") && tag_has(tag, size, "http-equiv") &&
	       !tag_has(tag, size, "content-type");
}

/* The next one at or after `i`; NULL and the end when there is none. */
static const struct unshown *find_unshown(const char *body, size_t size, size_t *i)
{
	for (; *i < size; ++*i) {
		const char *at = memchr(body + *i, '<', size - *i);

		if (!at)
			break;
		*i = (size_t)(at - body);
		for (size_t k = 0; k < sizeof(unshown) / sizeof(unshown[0]); k++)
			if (tag_is(at, size - *i, unshown[k].name) && !is_told(at, size - *i))
				return &unshown[k];
	}
	*i = size;
	return NULL;
}

char *frame_without_scripts(const char *body, size_t size, size_t *ret_size, size_t *ret_scripts)
{
	struct buffer out = {0};
	size_t from = 0, scripts = 0;
	char *made;

	while (from < size) {
		size_t i = from;
		const struct unshown *found = find_unshown(body, size, &i);

		buffer_add(&out, body + from, i - from);
		scripts += found == &unshown[0];
		if (found && found->end)
			i = find_tag(body, size, i, found->end);
		from = tag_past(body, size, i);
	}
	made = buffer_take(&out, ret_size);
	buffer_done(&out);
	*ret_scripts = scripts;
	return made;
}

static bool shows(const char *text, size_t size)
{
	static const char *const names[] = {"img", "svg",      "audio", "video", "input",
					    "hr",  "progress", "meter", "math",	 "button"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (tag_is(text, size, names[i]))
			return true;
	return false;
}

bool frame_is_visible(const char *body, size_t size)
{
	size_t open = 0;

	for (size_t i = 0; i < size; i++) {
		if (tag_is(body + i, size - i, "style")) {
			i = tag_past(body, size, find_tag(body, size, i, "/style")) - 1;
		} else if (body[i] == '<') {
			const char next = i + 1 < size ? body[i + 1] : '\0';

			if (shows(body + i, size - i) || (next == '/' && open == 0))
				return true;
			open += next == '/' ? (size_t)-1 : next != '!' && next != '?';
			i = tag_past(body, size, i) - 1;
		} else if (!strchr(" \t\n\r\f", body[i])) {
			return true;
		}
	}
	return false;
}

static bool names_host(const char *body, size_t size)
{
	static const char *const hosts[] = {"http:", "https:", "//"};
	const char *end = body + size;

	for (const char *at = body; (at = memmem(at, (size_t)(end - at), "src", 3)); at++) {
		size_t skip = 3;

		while (at + skip < end && skip < 8 && at[skip] == ' ')
			skip++;
		if (at + skip == end || at[skip] != '=')
			continue;
		while (at + skip < end && skip < 8 && at[skip] && strchr("= \"'", at[skip]))
			skip++;
		if (tag_word(at + skip, (size_t)(end - at) - skip, "&quot;"))
			skip += strlen("&quot;"); /* a frame's srcdoc */
		for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
			if (tag_word(at + skip, (size_t)(end - at) - skip, hosts[i]))
				return true;
	}
	return false;
}

bool frame_is_remote(const char *body, size_t size)
{
	size_t i = 0;

	while (i < size) {
		size_t code = tag_past(body, size, find_tag(body, size, i, "script"));

		if (names_host(body + i, code - i))
			return true;
		i = find_tag(body, size, code, "/script");
	}
	return false;
}
