#include "proxy/frame.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "proxy/buffer.h"
#include "sandbox/base.h"

#define STATIC_CSP                                                                                 \
	"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "     \
	"media-src data: blob:; base-uri 'none'; form-action 'none'"
#define OUTER_CSP "; frame-src 'none'"

/* White, in a dark theme too: a frame cannot know the theme, and libraries write dark text. */
#define STYLE                                                                                      \
	"<style>:root{color-scheme:light;background:#fff;color:#111;"                              \
	"font:13px/1.5 system-ui,sans-serif}body{margin:8px}</style>"
#define OUTER_STYLE "<style>body{margin:0;background:#fff}iframe{display:block}</style>"

/* What an untrusted notebook shows: front ends leave the frame out and keep what is in it. */
#define INSTEAD "[cellwall: a frame, which is shown when this notebook is trusted]"

enum {
	HEIGHT_MIN = 60,
	HEIGHT_MAX = 1200,
	HEIGHT_USUAL = 400,
	HEIGHT_BORDER = 24, /* margins of the body */
	HEIGHT_NAMED = 30,  /* smaller ones are icons */
	HEIGHT_ROW = 24,
	HEIGHT_AUDIO = 64,
	PADDING_MAX = 20,
	HEIGHT_AXES = 60, /* what some libraries draw around a figure's height */
	WIDTH_LETTERS = 110,
	TOKENS_MAX = 1024, /* bytes of an attribute's value, or of a tag that is looked through */
};

/* ---- words ---- */

/* `word` begins with a small letter or a sign that has its bit 5 set too. */
static inline bool is_word(const char *text, size_t size, const char *word)
{
	return size > 0 && (*text | 0x20) == *word && size >= strlen(word) &&
	       strncasecmp(text, word, strlen(word)) == 0;
}

static bool ends_name(const char *text, size_t size)
{
	return size == 0 || strchr(" \t\n\r\f/>", *text) != NULL;
}

/* Whether a tag of that name is at `text`, "<" included. */
static inline bool is_tag(const char *text, size_t size, const char *name)
{
	size_t length;

	if (size < 2 || text[0] != '<' || (text[1] | 0x20) != *name)
		return false;
	length = strlen(name);
	return is_word(text + 1, size - 1, name) && ends_name(text + 1 + length, size - 1 - length);
}

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
		if (is_word(text, size, names[i]))
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

	if ((*text | 0x20) != 's' || !is_word(text, size, "sandbox"))
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
		if (text[j] == '&' || is_word(text + j, i - j, "allow"))
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

/* ---- height ---- */

static size_t number_at(const char *text, size_t size)
{
	size_t value = 0;

	for (size_t i = 0; i < size && text[i] >= '0' && text[i] <= '9' && value < 100000; i++)
		value = value * 10 + (size_t)(text[i] - '0');
	return value;
}

/* N of height:Npx, height="N", "height":N at `text`, where "height" begins. */
static size_t height_at(const char *text, size_t size)
{
	size_t i = strlen("height"), gap;

	for (gap = i; gap < size && gap < i + 4 && text[gap] && strchr("\"': =", text[gap]); gap++)
		;
	return gap > i && gap < size ? number_at(text + gap, size - gap) : 0;
}

struct extent {
	size_t height;	/* the largest that is named, in pixels */
	size_t data;	/* the last one in a script */
	size_t rows;	/* of tables */
	size_t padding; /* above and below what is in a row */
	size_t lines;	/* that text begins on its own */
	size_t letters; /* of text */
	size_t folded;	/* depth in what shows its summary alone */
	bool graphic;	/* something whose size nobody knows */
	bool line;	/* the next letter begins one */
	bool tag, code; /* where it is now */
};

static void look_at_tag(struct extent *extent, const char *text, size_t size)
{
	static const char *const lines[] = {"p",  "div", "li", "h1",  "h2", "h3",
					    "h4", "h5",	 "h6", "pre", "dt", "summary"};
	static const char *const graphics[] = {"img", "svg", "canvas", "video", "script"};

	if (is_tag(text, size, "/details") && extent->folded > 0)
		extent->folded--;
	if (is_tag(text, size, "tr"))
		extent->rows += extent->folded == 0;
	if (is_tag(text, size, "br") || is_tag(text, size, "hr"))
		extent->lines += extent->folded == 0;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		extent->line |= is_tag(text, size, lines[i]);
	for (size_t i = 0; i < sizeof(graphics) / sizeof(graphics[0]); i++)
		extent->graphic |= is_tag(text, size, graphics[i]);
	if (is_tag(text, size, "audio") && extent->height < HEIGHT_AUDIO)
		extent->height = HEIGHT_AUDIO;
	if (is_tag(text, size, "details"))
		extent->folded++;
}

/* Text, or what is in a tag or a script. */
static void look_at(struct extent *extent, const char *text, size_t size)
{
	if (*text == '<') {
		look_at_tag(extent, text, size);
		extent->code = is_tag(text, size, "script") || is_tag(text, size, "style") ||
			       (extent->code && !is_tag(text, size, "/script") &&
				!is_tag(text, size, "/style"));
		extent->tag = true;
	} else if (*text == '>') {
		extent->tag = false;
	} else if (!extent->tag && !extent->code && extent->folded == 0) {
		extent->letters++;
		extent->lines += extent->line && !strchr(" \t\r\n", *text);
		extent->line &= strchr(" \t\r\n", *text) != NULL;
	}
}

/* The largest padding-top: Npx. */
static void look_at_padding(struct extent *extent, const char *text, size_t size)
{
	size_t i = strlen("padding-top:"), padding;

	if (*text != 'p' || !is_word(text, size, "padding-top:"))
		return;
	i += i < size && text[i] == ' ';
	padding = number_at(text + i, size - i);
	if (padding > extent->padding && padding <= PADDING_MAX)
		extent->padding = padding;
}

static unsigned estimate_height(const char *body, size_t size)
{
	struct extent extent = {0};
	size_t height, named;

	for (size_t i = 0; i < size; i++) {
		look_at(&extent, body + i, size - i);
		look_at_padding(&extent, body + i, size - i);
		if ((body[i] != 'h' && body[i] != 'H') || !is_word(body + i, size - i, "height") ||
		    (i > 0 && body[i - 1] == '-'))
			continue;
		named = height_at(body + i, size - i);
		if (named >= HEIGHT_MAX * 4)
			continue;
		/* Of a script the data count, which come after the library. */
		if (!extent.code)
			extent.height = named > extent.height ? named : extent.height;
		else if (i > 0 && body[i - 1] == '"' && named >= HEIGHT_NAMED)
			extent.data = named;
	}
	if (extent.height < HEIGHT_NAMED && extent.data > 0)
		extent.height = extent.data + HEIGHT_AXES;
	if (extent.graphic && extent.height < HEIGHT_NAMED)
		extent.height = HEIGHT_USUAL;
	height = extent.rows * (HEIGHT_ROW + 2 * extent.padding);
	if (extent.rows == 0 && !extent.graphic)
		height = (extent.lines + extent.letters / WIDTH_LETTERS + 1) * HEIGHT_ROW;
	if (extent.height > height)
		height = extent.height;
	height += HEIGHT_BORDER;
	if (height < HEIGHT_MIN)
		return HEIGHT_MIN;
	return height > HEIGHT_MAX ? HEIGHT_MAX : (unsigned)height;
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
		      unsigned height, const char *instead)
{
	buffer_text(out, scripts ? "<iframe sandbox=\"allow-scripts\" srcdoc=\""
				 : "<iframe sandbox=\"\" srcdoc=\"");
	if (document->data)
		frame_escape(out, document->data, document->size);
	buffer_format(out, "\" style=\"width:100%%;height:%upx;border:0\">%s</iframe>", height,
		      instead);
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
	add_frame(&outer, &inner, scripts != NULL, height, "");
	buffer_text(&outer, "</body></html>");
	buffer_done(&inner);
	add_frame(&out, &outer, scripts != NULL, height, INSTEAD);
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
				     bare.data ? estimate_height(bare.data, bare.size) : HEIGHT_MIN,
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
		if (is_tag(at, size - i, name))
			return i;
		i++;
	}
	return size;
}

static size_t past_tag(const char *body, size_t size, size_t i)
{
	const char *end = i < size ? memchr(body + i, '>', size - i) : NULL;

	return end ? (size_t)(end - body) + 1 : size;
}

/* What shows nothing without scripts or the network; NULL: it has no end tag. */
static const struct unshown {
	const char *name, *end;
} unshown[] = {
	{"script", "/script"}, {"iframe", "/iframe"}, {"title", "/title"},
	{"meta", NULL},	       {"link", NULL},	      {"base", NULL},
};

static bool tag_has(const char *tag, size_t size, const char *word)
{
	/* every "<meta" may be asked about, and have no end */
	size = past_tag(tag, size < TOKENS_MAX ? size : TOKENS_MAX, 0);
	for (size_t i = 0; i < size; i++)
		if (is_word(tag + i, size - i, word))
			return true;
	return false;
}

/* Where a page sends its reader shows: the frame makes it text. */
static bool is_told(const char *tag, size_t size)
{
	return is_tag(tag, size, "meta") && tag_has(tag, size, "http-equiv") &&
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
			if (is_tag(at, size - *i, unshown[k].name) && !is_told(at, size - *i))
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
		from = past_tag(body, size, i);
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
		if (is_tag(text, size, names[i]))
			return true;
	return false;
}

bool frame_is_visible(const char *body, size_t size)
{
	size_t open = 0;

	for (size_t i = 0; i < size; i++) {
		if (is_tag(body + i, size - i, "style")) {
			i = past_tag(body, size, find_tag(body, size, i, "/style")) - 1;
		} else if (body[i] == '<') {
			const char next = i + 1 < size ? body[i + 1] : '\0';

			if (shows(body + i, size - i) || (next == '/' && open == 0))
				return true;
			open += next == '/' ? (size_t)-1 : next != '!' && next != '?';
			i = past_tag(body, size, i) - 1;
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
		if (is_word(at + skip, (size_t)(end - at) - skip, "&quot;"))
			skip += strlen("&quot;"); /* a frame's srcdoc */
		for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
			if (is_word(at + skip, (size_t)(end - at) - skip, hosts[i]))
				return true;
	}
	return false;
}

bool frame_is_remote(const char *body, size_t size)
{
	size_t i = 0;

	while (i < size) {
		size_t code = past_tag(body, size, find_tag(body, size, i, "script"));

		if (names_host(body + i, code - i))
			return true;
		i = find_tag(body, size, code, "/script");
	}
	return false;
}
