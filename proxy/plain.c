/*
 * Theory of operation
 *
 * Two passes. strip() drops and shows controls; break_links() works on what it leaves, so that a
 * control in the midst of an address hides nothing. In break_links a register holds the last eight
 * visible bytes, colours are stepped over, and what follows is looked at without them.
 *
 * A joint is where two pieces of text come to stand side by side that were not side by side in the
 * message: at its two ends, at \r, at the end of a line with a \r in it (what stands there goes on
 * in the rest of the line, which stays) and at \b (what is before it goes).
 * Text is written from a joint to the next, so it is enough that no piece ends with what an address
 * goes on after, and no piece that follows a \b begins with what one goes on with.
 */
#include "proxy/plain.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "proxy/buffer.h"
#include "sandbox/base.h"

#define ESC	    0x1b
#define SGR_MAX	    64 /* bytes of one colour sequence */
#define WORD_JOINER "\xe2\x81\xa0"

/* ---- stretches without anything to look at ---- */

#define BLOCK 64

typedef unsigned char vector __attribute__((vector_size(16)));

static vector load(const unsigned char *text)
{
	vector bytes;

	memcpy(&bytes, text, sizeof(bytes));
	return bytes;
}

static vector is(vector bytes, unsigned char c)
{
	return (vector)(bytes == c);
}

/* Not zero where there is something to look at; the byte after the sixteen is readable. */
static vector marks(const unsigned char *text)
{
	const vector c = load(text), next = load(text + 1);

	return ((vector)(c < 0x20) & ~(is(c, '\n') | is(c, '\t'))) | is(c, 0x7f) | is(c, 0xc2) |
	       is(c, 0xe2) | (is(c, ':') & is(next, '/')) |
	       ((is(c | 0x20, 'a') | is(c | 0x20, 'p') | is(c | 0x20, 's')) & is(next, ':')) |
	       (is(c | 0x20, 'w') & is(next | 0x20, 'w'));
}

static bool block_is_quiet(const unsigned char *text)
{
	const vector all = marks(text) | marks(text + 16) | marks(text + 32) | marks(text + 48);
	uint64_t halves[2];

	memcpy(halves, &all, sizeof(halves));
	return (halves[0] | halves[1]) == 0;
}

/* Past the quiet blocks at `i`, and not to the very end. `ret_again`: where to ask next. */
static size_t skip_quiet(const unsigned char *text, size_t size, size_t i, size_t *ret_again)
{
	while (i + BLOCK < size && block_is_quiet(text + i))
		i += BLOCK;
	*ret_again = i + BLOCK;
	return i;
}

/* ---- controls ---- */

struct strip {
	const unsigned char *text;
	size_t size;
	unsigned flags;
	bool dirty, unended; /* unended: no ST or BEL further on */
	struct buffer out;
};

static bool is_between(unsigned char c, unsigned char low, unsigned char high)
{
	return c >= low && c <= high;
}

/* The bytes of ESC [ digits ; : m at `text`, or 0. */
static size_t sgr_length(const unsigned char *text, size_t size)
{
	size_t i = 2;

	if (size < 3 || text[0] != ESC || text[1] != '[')
		return 0;
	while (i < size && i < SGR_MAX && is_between(text[i], '0', ';'))
		i++;
	return i < size && i < SGR_MAX && text[i] == 'm' ? i + 1 : 0;
}

/* Past a CSI whose parameters begin at `i`: what is malformed ends where it stops being one. */
static size_t skip_csi(const unsigned char *text, size_t size, size_t i)
{
	while (i < size && is_between(text[i], 0x20, 0x3f))
		i++;
	return i < size && is_between(text[i], 0x40, 0x7e) ? i + 1 : i;
}

/* Past a string whose payload begins at `i`. */
static size_t skip_string(struct strip *strip, size_t i)
{
	const unsigned char *text = strip->text, *line;

	for (size_t j = i; !strip->unended && j < strip->size; j++) {
		if (text[j] == '\a')
			return j + 1;
		if (j + 1 < strip->size && ((text[j] == ESC && text[j + 1] == '\\') ||
					    (text[j] == 0xc2 && text[j + 1] == 0x9c)))
			return j + 2;
	}
	strip->unended = true;
	line = memchr(text + i, '\n', strip->size - i);
	return line ? (size_t)(line - text) : strip->size;
}

/* Past the escape sequence at `i`, which is none of SGR. */
static size_t skip_escape(struct strip *strip, size_t i)
{
	const unsigned char *text = strip->text;

	if (++i == strip->size)
		return i;
	if (text[i] == '[')
		return skip_csi(text, strip->size, i + 1);
	if (text[i] == ']' || text[i] == 'P' || text[i] == 'X' || text[i] == '^' || text[i] == '_')
		return skip_string(strip, i + 1);
	while (i < strip->size && is_between(text[i], 0x20, 0x2f))
		i++;
	return i < strip->size && is_between(text[i], 0x30, 0x7e) ? i + 1 : i;
}

/* U+0080-9F, which begins at `i`. */
static size_t skip_c1(struct strip *strip, size_t i)
{
	unsigned char c = strip->text[i + 1];

	if (c == 0x9b)
		return skip_csi(strip->text, strip->size, i + 2);
	if (c == 0x90 || c == 0x98 || c == 0x9d || c == 0x9e || c == 0x9f)
		return skip_string(strip, i + 2);
	return i + 2;
}

/* The code point of a bidirectional control at `text`, or 0. */
static unsigned bidi_control(const unsigned char *text, size_t size)
{
	if (size < 3 || text[0] != 0xe2)
		return 0;
	if (text[1] == 0x80 && is_between(text[2], 0xaa, 0xae))
		return 0x2000u + text[2] - 0x80;
	if (text[1] == 0x81 && is_between(text[2], 0xa6, 0xa9))
		return 0x2040u + text[2] - 0x80;
	return 0;
}

/* "\u202e" */
static void show_bidi(struct buffer *out, unsigned control)
{
	static const char digits[] = "0123456789abcdef";
	const char shown[] = {'\\', 'u', '2', '0', digits[control >> 4 & 15], digits[control & 15]};

	buffer_add(out, shown, sizeof(shown));
}

/* Handles the control or lead byte at `i`. Returns how many bytes stay as they are; 0: `i` moved
 * on.
 */
static size_t strip_one(struct strip *strip, size_t *i)
{
	const unsigned char *at = strip->text + *i;
	size_t left = strip->size - *i, sgr;
	unsigned bidi;

	if (*at == 0xc2) {
		if (left < 2 || !is_between(at[1], 0x80, 0x9f))
			return 1;
		*i = skip_c1(strip, *i);
	} else if (*at == 0xe2) {
		bidi = bidi_control(at, left);
		if (!bidi)
			return 1;
		show_bidi(&strip->out, bidi);
		*i += 3;
	} else if (*at == ESC) {
		sgr = strip->flags & PLAIN_PROMPT ? 0 : sgr_length(at, left);
		if (sgr)
			return sgr;
		*i = skip_escape(strip, *i);
	} else if (*at == '\t' || *at == '\n' ||
		   ((*at == '\r' || *at == '\b') && !(strip->flags & PLAIN_PROMPT))) {
		return 1;
	} else {
		*i += 1;
	}
	strip->dirty = true;
	return 0;
}

static bool is_special(unsigned char c)
{
	return c < 0x20 || c == 0x7f || c == 0xc2 || c == 0xe2;
}

/* The clean stretches are copied whole; without `keep` it stops at the first change. */
static void strip_all(struct strip *strip, bool keep)
{
	size_t i = 0, from = 0, again = 0, same;

	while (i < strip->size && (keep || !strip->dirty)) {
		if (i >= again)
			i = skip_quiet(strip->text, strip->size, i, &again);
		if (!is_special(strip->text[i])) {
			i++;
			continue;
		}
		if (keep)
			buffer_add(&strip->out, strip->text + from, i - from);
		from = i;
		same = strip_one(strip, &i);
		if (same > 0)
			i += same;
		else
			from = i;
	}
	if (keep)
		buffer_add(&strip->out, strip->text + from, i - from);
}

/* ---- \r and \b ---- */

static size_t count_moves(const char *text, size_t size)
{
	size_t moves = 0;

	if (size == 0 || (!memchr(text, '\r', size) && !memchr(text, '\b', size)))
		return 0;
	for (size_t i = 0; i < size; i++)
		moves += text[i] == '\r' || text[i] == '\b';
	return moves;
}

/* What is left of each line when there are too many, in place. Returns the new size. */
static size_t still(char *text, size_t size)
{
	size_t used = 0, line = 0;

	for (size_t i = 0; i < size; i++) {
		if (text[i] == '\b')
			continue;
		if (text[i] == '\r') {
			/* \r\n is the end of a line; of several \r the last counts. */
			if (i + 1 < size && text[i + 1] != '\n' && text[i + 1] != '\r')
				used = line;
			continue;
		}
		text[used++] = text[i];
		if (text[i] == '\n')
			line = used;
	}
	return used;
}

/* ---- addresses ---- */

enum { START = 0xff }; /* no byte of UTF-8: before the first one */

struct links {
	const unsigned char *text;
	size_t size;
	bool stream, dirty, keep;
	bool over;     /* a \r is before, in this line */
	uint64_t last; /* visible bytes, lower case, the newest lowest */
	size_t from;   /* what is not copied yet begins here */
	struct buffer out;
};

static unsigned char before(const struct links *links, unsigned back)
{
	return (unsigned char)(links->last >> (8 * back));
}

/* The visible byte at or after `i`, which moves past it; 0 at the end. */
static unsigned char visible(const struct links *links, size_t *i)
{
	size_t sgr;

	while ((sgr = sgr_length(links->text + *i, links->size - *i)) > 0)
		*i += sgr;
	return *i < links->size ? links->text[(*i)++] : 0;
}

/* Puts `text` at `i`, in the place of `instead` bytes. */
static void put(struct links *links, size_t i, const char *text, size_t instead)
{
	links->dirty = true;
	if (!links->keep)
		return;
	buffer_add(&links->out, links->text + links->from, i - links->from);
	buffer_text(&links->out, text);
	links->from = i + instead;
}

/* Before a ":" and no "//" they are addresses too: of data anywhere, of the others in nbclassic. */
static const char *const words[] = {"data", "http", "https", "ftp"};
enum { WORDS = sizeof(words) / sizeof(words[0]) };

/* Whether the text ends with the first `letters` of `word`; with `rest` also whether it is the end
 * of them and nothing before. */
static bool ends_with(const struct links *links, const char *word, size_t letters, bool rest)
{
	for (unsigned back = 0; back < letters; back++) {
		if (rest && before(links, back) == START)
			return true;
		if (before(links, back) != (unsigned char)word[letters - 1 - back])
			return false;
	}
	return true;
}

/* Whether an address could go on after a piece that ends here. */
static bool is_open_end(const struct links *links)
{
	unsigned w = 0;

	while (w < 3 && before(links, w) == 'w')
		w++;
	if (before(links, 0) == ':' || (before(links, 0) == '/' && before(links, 1) == ':') ||
	    before(links, 0) == '\b' || w >= 2 ||
	    (w == 1 && (links->over || before(links, 1) == START)))
		return true;
	for (unsigned i = 0; links->over && i < WORDS; i++)
		for (size_t letters = 1; letters <= strlen(words[i]); letters++)
			if (ends_with(links, words[i], letters, false))
				return true;
	return false;
}

/* Whether the text ends with one of the words; with `rest` also whether it may be the rest of one
 * that began in the piece before this one. */
static bool ends_word(const struct links *links, bool rest)
{
	for (unsigned i = 0; i < WORDS; i++)
		if (ends_with(links, words[i], strlen(words[i]), rest))
			return true;
	return false;
}

static bool is_blank_next(const struct links *links, size_t after)
{
	const unsigned char next = visible(links, &after);

	return next == ' ' || next == '\t' || (next == '\n' && !links->over) ||
	       (next == 0 && !links->stream && !links->over);
}

static bool is_address_colon(const struct links *links, size_t after)
{
	const bool blank = is_blank_next(links, after);

	if (visible(links, &after) == '/' && visible(links, &after) == '/')
		return true;
	return !blank && ends_word(links, false);
}

/* Whether `i` is where a line ends that was written over. */
static bool ends_over(const struct links *links, size_t i)
{
	const unsigned char *c = links->text + i;

	return links->over && (*c == '\n' || (*c == 0xe2 && links->size - i > 2 && c[1] == 0x80 &&
					      (c[2] == 0xa8 || c[2] == 0xa9))); /* U+2028, U+2029 */
}

static bool is_address_dot(const struct links *links)
{
	unsigned w = 0;

	while (w < 3 && before(links, w) == 'w')
		w++;
	return w == 3 || (links->stream && w > 0 && before(links, w) == START);
}

/* \r\n */
static bool is_line_end(const struct links *links, size_t i)
{
	return i + 1 < links->size && links->text[i + 1] == '\n';
}

static void look(struct links *links, size_t i)
{
	unsigned char c = links->text[i];

	if (before(links, 0) == '\b' && strchr(":/.wWaAtTpPsS", c))
		put(links, i, WORD_JOINER, 0);
	if ((ends_over(links, i) || (c == '\r' && !is_line_end(links, i))) && is_open_end(links))
		put(links, i, WORD_JOINER, 0);
	if (c == '\n')
		links->over = false;
	else if (c == '\r' && !is_line_end(links, i))
		links->over = true;
	if (c == ':' && is_address_colon(links, i + 1)) {
		put(links, i, "[:]", 1);
		c = ']';
	} else if (c == ':' && links->stream && ends_word(links, true) &&
		   !is_blank_next(links, i + 1)) {
		put(links, i, WORD_JOINER, 0);
	} else if (c == '.' && is_address_dot(links)) {
		put(links, i, "[.]", 1);
		c = ']';
	}
	if (c >= 'A' && c <= 'Z')
		c |= 0x20;
	links->last = links->last << 8 | c;
}

/* Whether what was seen last may be in the midst of something that a quiet block cannot see. */
static bool is_begun(const struct links *links)
{
	unsigned char c = before(links, 0);

	return links->over || c == '\b' || c == START || strchr("apsw", c);
}

/* Past the quiet blocks at `i`, with their end in the register. */
static size_t look_past(struct links *links, size_t i, size_t *ret_again)
{
	size_t end = skip_quiet(links->text, links->size, i, ret_again);

	for (size_t j = end - 8; end > i && j < end; j++) {
		unsigned char c = links->text[j];

		links->last = links->last << 8 | (c >= 'A' && c <= 'Z' ? c | 0x20 : c);
	}
	return end;
}

static void break_links(struct links *links)
{
	size_t i = 0, again = 0, sgr;

	while (i < links->size && (links->keep || !links->dirty)) {
		if (i >= again && !is_begun(links))
			i = look_past(links, i, &again);
		sgr = links->text[i] == ESC ? sgr_length(links->text + i, links->size - i) : 0;
		if (sgr == 0)
			look(links, i);
		i += sgr ? sgr : 1;
	}
	if ((links->stream || links->over) && links->size > 0 && is_open_end(links))
		put(links, links->size, WORD_JOINER, 0);
	if (links->keep)
		buffer_add(&links->out, links->text + links->from, links->size - links->from);
}

/* ---- the interface ---- */

/* The walks that change, each to its first change. */
bool plain_is_clean(const char *text, size_t size, unsigned flags)
{
	const unsigned char *bytes = (const unsigned char *)text;
	struct strip strip = {.text = bytes, .size = size, .flags = flags};
	struct links links = {
		.text = bytes, .size = size, .stream = flags & PLAIN_STREAM, .last = START};

	strip_all(&strip, false);
	buffer_done(&strip.out);
	if (strip.dirty || count_moves(text, size) > PLAIN_MOVES)
		return false;
	if (!(flags & PLAIN_LINKS))
		break_links(&links);
	return !links.dirty;
}

/* Both passes. `ret_text` is what is left; 0, 1 or -ENOMEM. */
static int clean(const char *text, size_t size, unsigned flags, struct buffer *ret_text)
{
	struct strip strip = {.text = (const unsigned char *)text, .size = size, .flags = flags};
	struct links links = {.stream = flags & PLAIN_STREAM, .keep = true, .last = START};
	bool changed;

	strip_all(&strip, true);
	changed = strip.dirty;
	if (!strip.out.failed && strip.out.size > 0 &&
	    count_moves(strip.out.data, strip.out.size) > PLAIN_MOVES) {
		strip.out.size = still(strip.out.data, strip.out.size);
		changed = true;
	}
	if (strip.out.failed || flags & PLAIN_LINKS) {
		*ret_text = strip.out;
		return strip.out.failed ? -ENOMEM : changed;
	}
	links.text = (const unsigned char *)strip.out.data;
	links.size = strip.out.size;
	break_links(&links);
	buffer_done(&strip.out);
	*ret_text = links.out;
	return links.out.failed ? -ENOMEM : changed || links.dirty;
}

int plain_clean(const char *text, size_t size, unsigned flags, char **ret_text, size_t *ret_size)
{
	struct buffer out = {0};
	size_t left = 0;
	char *made;
	int r;

	if (plain_is_clean(text, size, flags))
		return 0;
	r = clean(text, size, flags, &out);
	made = r == 1 ? buffer_take(&out, &left) : NULL;
	buffer_done(&out);
	if (r == 1 && !made)
		return -ENOMEM;
	if (r == 1) {
		*ret_text = made;
		*ret_size = left;
	}
	return r;
}

int plain_string(json_t *object, const char *key, unsigned flags)
{
	const json_t *value = json_object_get(object, key);
	cleanup(free_ptr) char *made = NULL;
	size_t size = 0;
	int r;

	if (!json_is_string(value))
		return -EINVAL;
	r = plain_clean(json_string_value(value), json_string_length(value), flags, &made, &size);
	if (r == 1 && json_object_set_new(object, key, json_stringn(made, size)) < 0)
		return -ENOMEM;
	return r;
}
