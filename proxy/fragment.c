#include "proxy/fragment.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "proxy/buffer.h"
#include "proxy/fragment_style.h"
#include "proxy/frame.h"
#include "proxy/picture.h"
#include "sandbox/base.h"

/* What an element is, and what it holds. */
enum place { INLINE, BLOCK, ITEM, CAPTION, SECTION, ROW, CELL };
enum holds { FLOW, PHRASING, LIST, TABLE, ROWS, CELLS, NOTHING };

struct element {
	const char *name;
	enum place place;
	enum holds holds;
};

static const struct element elements[] = {
	{"div", BLOCK, FLOW},	     {"p", BLOCK, PHRASING},	   {"br", INLINE, NOTHING},
	{"hr", BLOCK, NOTHING},	     {"b", INLINE, PHRASING},	   {"i", INLINE, PHRASING},
	{"em", INLINE, PHRASING},    {"strong", INLINE, PHRASING}, {"u", INLINE, PHRASING},
	{"s", INLINE, PHRASING},     {"sub", INLINE, PHRASING},	   {"sup", INLINE, PHRASING},
	{"code", INLINE, PHRASING},  {"pre", BLOCK, PHRASING},	   {"span", INLINE, PHRASING},
	{"small", INLINE, PHRASING}, {"h1", BLOCK, PHRASING},	   {"h2", BLOCK, PHRASING},
	{"h3", BLOCK, PHRASING},     {"h4", BLOCK, PHRASING},	   {"h5", BLOCK, PHRASING},
	{"h6", BLOCK, PHRASING},     {"ul", BLOCK, LIST},	   {"ol", BLOCK, LIST},
	{"li", ITEM, FLOW},	     {"table", BLOCK, TABLE},	   {"caption", CAPTION, PHRASING},
	{"thead", SECTION, ROWS},    {"tbody", SECTION, ROWS},	   {"tfoot", SECTION, ROWS},
	{"tr", ROW, CELLS},	     {"th", CELL, FLOW},	   {"td", CELL, FLOW},
	{"img", INLINE, NOTHING},
};
enum { ELEMENTS = sizeof(elements) / sizeof(elements[0]) };

/* Left out; what it holds stays. */
static const struct element anchor = {"a", INLINE, PHRASING};

static const bool may_hold[NOTHING][CELL + 1] = {
	[FLOW] = {[INLINE] = true, [BLOCK] = true},
	[PHRASING] = {[INLINE] = true},
	[LIST] = {[ITEM] = true},
	[TABLE] = {[CAPTION] = true, [SECTION] = true, [ROW] = true},
	[ROWS] = {[ROW] = true},
	[CELLS] = {[CELL] = true},
};

struct reader {
	const char *at, *end;
	const struct element *open[FRAGMENT_DEPTH];
	size_t depth;
	struct buffer out;
};

static size_t left(const struct reader *reader)
{
	return (size_t)(reader->end - reader->at);
}

/* Takes `text` when it is next. */
static bool take(struct reader *reader, const char *text)
{
	size_t size = strlen(text);

	if (left(reader) < size || memcmp(reader->at, text, size) != 0)
		return false;
	reader->at += size;
	return true;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static enum holds inside(const struct reader *reader)
{
	return reader->depth ? reader->open[reader->depth - 1]->holds : FLOW;
}

static bool holds_text(const struct reader *reader)
{
	return inside(reader) == FLOW || inside(reader) == PHRASING;
}

/* A name of lower-case letters and digits; its bytes. */
static size_t take_name(struct reader *reader)
{
	const char *from = reader->at;

	while (reader->at < reader->end && ((*reader->at >= 'a' && *reader->at <= 'z') ||
					    (*reader->at >= '0' && *reader->at <= '9')))
		reader->at++;
	return (size_t)(reader->at - from);
}

static const struct element *find_element(const char *name, size_t size)
{
	for (size_t i = 0; i < ELEMENTS; i++)
		if (strlen(elements[i].name) == size && memcmp(elements[i].name, name, size) == 0)
			return &elements[i];
	return size == 1 && *name == 'a' ? &anchor : NULL;
}

/* ---- text ---- */

static const struct {
	const char *name;
	uint32_t code;
} entities[] = {
	{"amp", '&'},	   {"lt", '<'},	      {"gt", '>'},	 {"quot", '"'},
	{"apos", '\''},	   {"nbsp", 0xa0},    {"copy", 0xa9},	 {"reg", 0xae},
	{"laquo", 0xab},   {"raquo", 0xbb},   {"deg", 0xb0},	 {"plusmn", 0xb1},
	{"micro", 0xb5},   {"middot", 0xb7},  {"times", 0xd7},	 {"divide", 0xf7},
	{"ndash", 0x2013}, {"mdash", 0x2014}, {"bull", 0x2022},	 {"hellip", 0x2026},
	{"larr", 0x2190},  {"rarr", 0x2192},  {"minus", 0x2212}, {"euro", 0x20ac},
	{"lsquo", 0x2018}, {"rsquo", 0x2019}, {"ldquo", 0x201c}, {"rdquo", 0x201d},
	{"le", 0x2264},	   {"ge", 0x2265},    {"ne", 0x2260},
};
enum { ENTITIES = sizeof(entities) / sizeof(entities[0]) };

/* Characters that no text needs, or that a browser reads as others. */
static bool is_bad_code(uint32_t code)
{
	return (code < 0x20 && code != '\t' && code != '\n') || (code >= 0x7f && code < 0xa0) ||
	       (code >= 0xd800 && code < 0xe000) || code > 0x10ffff || (code & 0xfffe) == 0xfffe;
}

static bool is_bidi(uint32_t code)
{
	return (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

static bool add_code(struct buffer *out, uint32_t code, bool spans)
{
	char utf8[5] = "";

	if (is_bad_code(code))
		return false;
	if (is_bidi(code)) {
		buffer_format(out, "[U+%04X]", code);
		return true;
	}
	if (spans && (code == '$' || code == '\\')) {
		buffer_format(out, "<span>%c</span>", (char)code);
		return true;
	}
	if (code < 0x80) {
		utf8[0] = (char)code;
	} else if (code < 0x800) {
		utf8[0] = (char)(0xc0 | code >> 6);
		utf8[1] = (char)(0x80 | (code & 63));
	} else if (code < 0x10000) {
		utf8[0] = (char)(0xe0 | code >> 12);
		utf8[1] = (char)(0x80 | (code >> 6 & 63));
		utf8[2] = (char)(0x80 | (code & 63));
	} else {
		utf8[0] = (char)(0xf0 | code >> 18);
		utf8[1] = (char)(0x80 | (code >> 12 & 63));
		utf8[2] = (char)(0x80 | (code >> 6 & 63));
		utf8[3] = (char)(0x80 | (code & 63));
	}
	frame_escape(out, utf8, strlen(utf8));
	return true;
}

/* &#39; or &#x27; from behind the "#". */
static bool take_number(struct reader *reader, uint32_t *ret_code)
{
	const unsigned base = take(reader, "x") || take(reader, "X") ? 16 : 10;
	uint32_t code = 0;
	unsigned digits = 0;

	for (; reader->at < reader->end && digits < 8; reader->at++, digits++) {
		char c = *reader->at;
		unsigned digit;

		if (c >= '0' && c <= '9')
			digit = (unsigned)(c - '0');
		else if (base == 16 && (c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			digit = (unsigned)((c | 0x20) - 'a') + 10;
		else
			break;
		code = code * base + digit;
	}
	*ret_code = code;
	return digits > 0 && digits < 8 && take(reader, ";");
}

/* What begins with "&". A lone one is itself. */
static bool take_entity(struct reader *reader, uint32_t *ret_code)
{
	reader->at++;
	if (take(reader, "#"))
		return take_number(reader, ret_code);
	for (size_t i = 0; i < ENTITIES; i++) {
		const char *from = reader->at;

		if (take(reader, entities[i].name) && take(reader, ";")) {
			*ret_code = entities[i].code;
			return true;
		}
		reader->at = from;
	}
	*ret_code = '&';
	return reader->at == reader->end || is_space(*reader->at);
}

/* The code point at `at`; decoded text is well-formed. */
static bool take_utf8(struct reader *reader, uint32_t *ret_code)
{
	const unsigned char *at = (const unsigned char *)reader->at;
	size_t size = *at < 0x80 ? 1 : *at < 0xe0 ? 2 : *at < 0xf0 ? 3 : 4;
	uint32_t code = size == 1 ? *at : *at & (0x7fu >> size);

	if (left(reader) < size || (*at >= 0x80 && *at < 0xc2) || *at > 0xf4)
		return false;
	for (size_t i = 1; i < size; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return false;
		code = code << 6 | (at[i] & 63);
	}
	reader->at += size;
	*ret_code = code;
	return true;
}

/* Bytes that need no look: printable ASCII without markup and formulas, white space. */
static bool is_easy(char c)
{
	return (c >= ' ' && c < 0x7f && !strchr("&<>\"'$\\", c)) || c == '\n' || c == '\t';
}

static bool read_text(struct reader *reader, char until, bool spans)
{
	while (reader->at < reader->end && *reader->at != until) {
		const char *from = reader->at;
		uint32_t code = 0;

		while (reader->at < reader->end && is_easy(*reader->at) && *reader->at != until)
			reader->at++;
		buffer_add(&reader->out, from, (size_t)(reader->at - from));
		if (reader->at == reader->end || *reader->at == until)
			break;
		if (*reader->at == '<')
			return false;
		if (*reader->at == '\r') {
			/* As a browser reads it. */
			code = '\n';
			reader->at += left(reader) > 1 && reader->at[1] == '\n' ? 2 : 1;
		} else if (*reader->at == '&') {
			if (!take_entity(reader, &code))
				return false;
		} else if (!take_utf8(reader, &code)) {
			return false;
		}
		if (!add_code(&reader->out, code, spans))
			return false;
	}
	return true;
}

static bool read_space(struct reader *reader)
{
	const char *from = reader->at;

	while (reader->at < reader->end && is_space(*reader->at))
		reader->at++;
	buffer_add(&reader->out, from, (size_t)(reader->at - from));
	return reader->at == reader->end || *reader->at == '<';
}

/* ---- attributes ---- */

enum attribute { CLASS, BORDER, SPAN, WORD, STYLE, SRC, SIZE, ALT, IGNORED };

static const struct {
	const char *name;
	enum attribute form;
	const char *only; /* on this element alone */
} attributes[] = {
	{"class", CLASS, NULL},	 {"border", BORDER, NULL}, {"colspan", SPAN, NULL},
	{"rowspan", SPAN, NULL}, {"scope", WORD, NULL},	   {"align", WORD, NULL},
	{"halign", WORD, NULL},	 {"valign", WORD, NULL},   {"style", STYLE, NULL},
	{"src", SRC, "img"},	 {"width", SIZE, "img"},   {"height", SIZE, "img"},
	{"alt", ALT, "img"},	 {"href", IGNORED, "a"},   {"target", IGNORED, "a"},
	{"rel", IGNORED, "a"},	 {"title", IGNORED, "a"},  {"class", IGNORED, "a"},
};
enum { ATTRIBUTES = sizeof(attributes) / sizeof(attributes[0]) };

static bool all_between(const char *text, size_t size, char low, char high, size_t max)
{
	for (size_t i = 0; i < size; i++)
		if (text[i] < low || text[i] > high)
			return false;
	return size > 0 && size <= max;
}

static bool is_data_image(const char *text, size_t size)
{
	static const char *const types[] = {"image/png", "image/jpeg", "image/gif", "image/webp",
					    "image/svg+xml"};
	cleanup(free_ptr) char *start = NULL;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		free_ptr(&start);
		start = format_string("data:%s;base64,", types[i]);
		if (!start)
			return false;
		if (size > strlen(start) && memcmp(text, start, strlen(start)) == 0)
			return picture_is_clean(types[i], text + strlen(start),
						size - strlen(start));
	}
	return false;
}

/* Appends the value in its one form. */
static bool add_value(struct buffer *out, enum attribute form, const char *value, size_t size)
{
	struct reader alt = {.at = value, .end = value + size};
	bool fine = false;

	switch (form) {
	case CLASS:
		fine = size == 9 && memcmp(value, "dataframe", 9) == 0;
		break;
	case BORDER:
		fine = all_between(value, size, '0', '9', 1);
		break;
	case SPAN:
	case SIZE:
		fine = all_between(value, size, '0', '9', 4);
		break;
	case WORD:
		fine = all_between(value, size, 'a', 'z', 16);
		break;
	case SRC:
		fine = is_data_image(value, size);
		break;
	case STYLE:
		return fragment_style(value, size, out);
	case ALT:
		fine = read_text(&alt, '"', false) && !alt.out.failed;
		buffer_add(out, alt.out.data ? alt.out.data : "", alt.out.size);
		buffer_done(&alt.out);
		return fine;
	case IGNORED:
		return true;
	}
	buffer_add(out, value, size);
	return fine;
}

static bool add_attribute(struct reader *reader, size_t index, const char *value, size_t size)
{
	struct buffer made = {0};
	bool fine = add_value(&made, attributes[index].form, value, size) && !made.failed;

	if (fine && (made.size > 0 || attributes[index].form == ALT)) {
		buffer_format(&reader->out, " %s=\"", attributes[index].name);
		buffer_add(&reader->out, made.data ? made.data : "", made.size);
		buffer_text(&reader->out, "\"");
	}
	buffer_done(&made);
	return fine;
}

static size_t find_attribute(const char *name, size_t size, const struct element *element)
{
	size_t i = 0;

	while (i < ATTRIBUTES &&
	       !(strlen(attributes[i].name) == size &&
		 memcmp(attributes[i].name, name, size) == 0 &&
		 (attributes[i].only ? strcmp(attributes[i].only, element->name) == 0
				     : element != &anchor)))
		i++;
	return i;
}

/* name="value"; a word may be without quotes, as R's tables have it. */
static bool read_attribute(struct reader *reader, const struct element *element, uint32_t *seen)
{
	const char *name = reader->at, *value, *end;
	size_t index = find_attribute(name, take_name(reader), element);

	if (index == ATTRIBUTES || *seen & 1u << index || !take(reader, "="))
		return false;
	*seen |= 1u << index;
	if (!take(reader, "\"")) {
		value = reader->at;
		return attributes[index].form == WORD &&
		       add_attribute(reader, index, value, take_name(reader));
	}
	value = reader->at;
	end = memchr(value, '"', left(reader));
	if (!end)
		return false;
	reader->at = end + 1;
	return add_attribute(reader, index, value, (size_t)(end - value));
}

/* ---- tags ---- */

static bool is_selector(const char *text, size_t size)
{
	while (size > 0 && is_space(*text)) {
		text++;
		size--;
	}
	return size == 0 || (size > 10 && memcmp(text, ".dataframe", 10) == 0);
}

/* The rules that pandas and polars put before a table: left out, front ends have their own. */
static bool read_table_style(struct reader *reader)
{
	const char *from = reader->at, *end = memchr(from, '<', left(reader));

	if (inside(reader) != FLOW || !end)
		return false;
	for (const char *at = from; at < end; at++) {
		if (!is_selector(at, (size_t)(end - at)))
			return false;
		at = memchr(at, '}', (size_t)(end - at));
		if (!at)
			break;
	}
	reader->at = end;
	return take(reader, "</style>");
}

static bool read_end_tag(struct reader *reader)
{
	const char *name = reader->at;
	size_t size = take_name(reader);
	const struct element *element = find_element(name, size);

	if (!element || reader->depth == 0 || reader->open[reader->depth - 1] != element ||
	    !take(reader, ">"))
		return false;
	reader->depth--;
	if (element != &anchor)
		buffer_format(&reader->out, "</%s>", element->name);
	return true;
}

static bool read_start_tag(struct reader *reader)
{
	const char *name = reader->at;
	const struct element *element = find_element(name, take_name(reader));
	uint32_t seen = 0;

	if (!element || !may_hold[inside(reader)][element->place])
		return false;
	if (element != &anchor)
		buffer_format(&reader->out, "<%s", element->name);
	for (;;) {
		bool space = reader->at < reader->end && is_space(*reader->at);

		while (reader->at < reader->end && is_space(*reader->at))
			reader->at++;
		if (take(reader, ">") || (element->holds == NOTHING && take(reader, "/>")))
			break;
		if (!space || !read_attribute(reader, element, &seen))
			return false;
	}
	if (element != &anchor)
		buffer_text(&reader->out, ">");
	if (element->holds == NOTHING)
		return true;
	if (reader->depth == FRAGMENT_DEPTH)
		return false;
	reader->open[reader->depth++] = element;
	return true;
}

/* What was written before: one character that MathJax must not see beside others. */
static bool take_span(struct reader *reader)
{
	static const char *const spans[] = {"<span>$</span>", "<span>\\</span>"};

	for (size_t i = 0; i < 2; i++) {
		if (holds_text(reader) && take(reader, spans[i])) {
			buffer_text(&reader->out, spans[i]);
			return true;
		}
	}
	return false;
}

static bool read_next(struct reader *reader)
{
	if (*reader->at != '<')
		return holds_text(reader) ? read_text(reader, '<', true) : read_space(reader);
	if (take_span(reader))
		return true;
	if (take(reader, "<style scoped>") || take(reader, "<style>"))
		return read_table_style(reader);
	if (take(reader, "</"))
		return read_end_tag(reader);
	reader->at++;
	return read_start_tag(reader);
}

char *fragment_rewrite(const char *html, size_t size, size_t *ret_size)
{
	struct reader reader = {.at = html, .end = html + size};
	bool fine = true;
	char *made = NULL;

	while (fine && reader.at < reader.end)
		fine = read_next(&reader);
	if (fine && reader.depth == 0)
		made = buffer_take(&reader.out, ret_size);
	buffer_done(&reader.out);
	return made;
}
