#include "proxy/scan.h"

#include <stdint.h>
#include <string.h>

#include "proxy/header.h"
#include "proxy/picture.h"

/* Front ends redraw a line for each of these: more of them are for plain_clean to judge. */
#define OVERWRITES_MAX 256
#define SGR_MAX	       64 /* bytes of its parameters */
/* What is fetched before it is looked at: reads that straddle two lines hide from the processor
 * where they go, and 100 MB out of no cache took three times as long. */
#define AHEAD 2048

/* ---- text ---- */

/* Two registers of every x86-64, one where there is AVX2. */
typedef unsigned char block __attribute__((vector_size(32)));
typedef unsigned char loose __attribute__((vector_size(32), aligned(1), may_alias));
typedef uint64_t quarters __attribute__((vector_size(32)));
typedef unsigned char small __attribute__((vector_size(16)));
typedef unsigned char small_loose __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint64_t halves __attribute__((vector_size(16)));

/*
 * Not zero where a character needs a look: a quote, a backslash, a control character, one beyond
 * ASCII; and where addresses matter a colon and the first of two w, for which `next` is the same
 * one byte on. A macro: how vectors are handed to a function depends on the processor.
 */
#define MARKS(type, bytes, next, links)                                                            \
	((type)((bytes) == '"') | (type)((bytes) == '\\') | (type)((bytes) - ' ' > '~' - ' ') |    \
	 ((links) ? (type){0}                                                                      \
		  : (type)((bytes) == ':') |                                                       \
			    ((type)(((bytes) | 0x20) == 'w') & (type)(((next) | 0x20) == 'w'))))
#define LOAD(type, loosely, at) ((type) * (const loosely *)(at))

/* Those that can be seen and need a look, 1: in any case; 2: where addresses matter. */
static const unsigned char looks[128] = {['"'] = 1, ['\\'] = 1, [':'] = 2, ['w'] = 2, ['W'] = 2};

/* The first character that needs a look. Reads one byte more than a block. */
static inline __attribute__((always_inline)) const char *skip(const char *at, const char *end,
							      bool links)
{
	const unsigned char mask = links ? 1 : 3;

	for (; end - at > 64; at += 64) {
		const block first = LOAD(block, loose, at), second = LOAD(block, loose, at + 32);
		const quarters found =
			(quarters)(MARKS(block, first, LOAD(block, loose, at + 1), links) |
				   MARKS(block, second, LOAD(block, loose, at + 33), links));

		__builtin_prefetch((const void *)((uintptr_t)at + AHEAD));
		if (found[0] | found[1] | found[2] | found[3])
			break;
	}
	for (; end - at > 16; at += 16) {
		const small bytes = LOAD(small, small_loose, at);
		const halves found =
			(halves)MARKS(small, bytes, LOAD(small, small_loose, at + 1), links);

		if (found[0] | found[1])
			break;
	}
	while (at < end && *at >= ' ' && *at <= '~' && !(looks[(unsigned char)*at] & mask))
		at++;
	return at;
}

static const char *skip_narrow(const char *at, const char *end, bool links)
{
	return links ? skip(at, end, true) : skip(at, end, false);
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static const char *skip_wide(const char *at, const char *end,
							     bool links)
{
	return links ? skip(at, end, true) : skip(at, end, false);
}

static const char *skip_plain(const char *at, const char *end, bool links)
{
	return end - at > 32 && __builtin_cpu_supports("avx2") ? skip_wide(at, end, links)
							       : skip_narrow(at, end, links);
}
#else
#define skip_plain skip_narrow
#endif

static bool letters(const char *at, const char *word)
{
	for (; *word; at++, word++)
		if ((*at | 0x20) != *word)
			return false;
	return true;
}

/* Whether an address may begin or go on here: "://", "www.", or a ":" behind one of the words of
 * plain.c, of which a piece before may hold the first letters. */
static bool address(const char *begin, const char *at, const char *end)
{
	static const char *const words[] = {"data", "http", "https", "ftp"};
	const size_t before = (size_t)(at - begin);

	if (*at != ':')
		return end - at >= 4 && letters(at, "www") && at[3] == '.';
	if (end - at > 1 && (at[1] == '/' || at[1] == ' '))
		return at[1] == '/';
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		const size_t size = strlen(words[i]), there = before < size ? before : size;

		if (letters(at - there, words[i] + size - there))
			return true;
	}
	return false;
}

/* A character beyond ASCII: its length, or 0 when it is malformed, C1, or one that is not seen or
 * changes the direction. */
static size_t visible(const char *at, const char *end)
{
	const unsigned char *c = (const unsigned char *)at;
	const size_t length = json_sequence(c, (size_t)(end - at));

	if (length <= 1)
		return 0; /* DEL too */
	if (length == 2 &&
	    ((c[0] == 0xc2 && (c[1] < 0xa0 || c[1] == 0xad)) || (c[0] == 0xd8 && c[1] == 0x9c)))
		return 0;
	if (length == 3 && c[0] == 0xe1 && c[1] == 0xa0 && c[2] == 0x8e)
		return 0;
	if (length == 3 && c[0] == 0xe2 && c[1] == 0x80 &&
	    ((c[2] >= 0x8b && c[2] <= 0x8f) || (c[2] >= 0xa8 && c[2] <= 0xae)))
		return 0;
	if (length == 3 && c[0] == 0xe2 && c[1] == 0x81 && c[2] >= 0xa0 && c[2] <= 0xaf)
		return 0;
	if (length == 3 && c[0] == 0xef && c[1] >= 0xb7) /* U+FDC0 and on: marks and specials */
		return 0;
	return length == 4 && c[0] >= 0xf3 ? 0 : length;
}

/* A backslash: its length, or 0. An SGR sequence is taken whole. */
static size_t escape(const char *at, const char *end, unsigned *overwrites)
{
	const char *next = at + 1;

	if (next == end)
		return 0;
	if (*next == 'n' || *next == 't' || *next == '"' || *next == '\\')
		return 2;
	if (*next == 'r' || *next == 'b')
		return ++*overwrites <= OVERWRITES_MAX ? 2 : 0;
	if (end - at < 8 || (memcmp(at, "\\u001b[", 7) != 0 && memcmp(at, "\\u001B[", 7) != 0))
		return 0;
	for (next = at + 7; next < end && next - at < SGR_MAX; next++)
		if ((*next < '0' || *next > '9') && *next != ';')
			return *next == 'm' ? (size_t)(next + 1 - at) : 0;
	return 0;
}

static bool is_in(char c, const char *set)
{
	return c && strchr(set, c);
}

/*
 * Whether text on the two sides of an escape may come to be an address: front ends take colours out
 * and carry out \r and \b before they look. `bare`: nothing visible was before it.
 */
static bool joins(const char *begin, const char *at, size_t length, const char *end, bool bare)
{
	const char last = at > begin ? at[-1] : '\0', next = at + length < end ? at[length] : '\0';

	if (is_in(at[1], "nt\"\\"))
		return false;
	return is_in(last, ":/wW") || is_in(next, ":/") || (next == '"' && last == 'm') ||
	       (bare && is_in(next, "wW")) || (at[1] == 'b' && is_in(next, ".wWaAtTpPsS\\\""));
}

/* Whether what the next piece of a stream begins with could make an address of this end, or what
 * came before of this beginning. */
static bool open_ended(const char *begin, const char *end)
{
	const size_t size = (size_t)(end - begin);
	size_t w = 0, first = 0;

	while (w < size && is_in(end[-1 - (long)w], "wW"))
		w++;
	while (first < size && is_in(begin[first], "wW"))
		first++;
	return w > 1 || (w == 1 && size == 1) || (size > 0 && end[-1] == ':') ||
	       (size > 1 && end[-1] == '/' && end[-2] == ':') ||
	       (first > 0 && first < size && begin[first] == '.');
}

/* Whether what stands in a line may go on after this end of what was written over it. */
static bool goes_on(char last)
{
	return is_in(last, ":/wWdDaAtTfFhHpPsSm");
}

const char *scan_text(const char *at, const char *end, bool links)
{
	const char *const begin = at + 1;
	bool bare = true, escaped = false; /* nothing visible yet; an escape was seen */
	bool over = false;		   /* a \r is before, in this line */
	const char *skipped;
	unsigned overwrites = 0;

	if (at == end || *at != '"')
		return NULL;
	for (at++; (skipped = skip_plain(at, end, links)) < end;) {
		size_t length = 1;

		bare = bare && skipped == at;
		at = skipped;
		if (*at == '"')
			return links || !(open_ended(begin, at) || (over && goes_on(at[-1])))
				       ? at + 1
				       : NULL;
		if (*at == '\\') {
			length = escape(at, end, &overwrites);
			if (length == 0)
				return NULL; /* it may be the last byte */
			if (!links && (joins(begin, at, length, end, bare) ||
				       (over && is_in(at[1], "nr") && goes_on(at[-1]))))
				return NULL;
			over = at[1] != 'n' && (over || at[1] == 'r');
			escaped = true;
		} else if ((unsigned char)*at < 0x20)
			return NULL;
		else if ((unsigned char)*at >= 0x7f)
			length = visible(at, end);
		else if (address(begin, at, end) ||
			 (escaped && *at == ':' && is_in(at[-1], "aApPsS")))
			return NULL;
		if (length == 0)
			return NULL;
		bare = bare && *at == '\\';
		at += length;
	}
	return NULL;
}

/* ---- values ---- */

enum kind {
	TEXT,	/* a clean string */
	STRING, /* any string */
	COUNT,	/* a number without sign, at most 9 digits */
	TRUTH,
	OBJECT, /* {} */
	LIST,	/* [] */
	BUNDLE, /* {"text/plain": TEXT, "image/png": a picture}, or one of them */
	STREAM, /* "stdout" or "stderr" */
	STATE,
	STATUS, /* "ok" and what execute_reply's metadata says too */
	DATE,
	ID, /* header_rebuild's characters */
	VERSION
};

struct field {
	const char *name; /* NULL: no more */
	enum kind kind;
	bool optional;
};

#define FIELDS 5

/* Both without quotes: equal as a whole. */
static bool is_word(struct iovec found, const char *word)
{
	return found.iov_len == strlen(word) && memcmp(found.iov_base, word, found.iov_len) == 0;
}

/* What is between the quotes of a string without escapes; its end in *ret_end, NULL: none. */
static struct iovec word_at(const char *at, const char *end, const char **ret_end)
{
	const char *close;
	union {
		const void *constant;
		void *plain;
	} view = {.constant = at + 1};

	*ret_end = NULL;
	if (end - at < 2 || *at != '"' ||
	    !(close = memchr(at + 1, '"',
			     (size_t)(end - at - 1) > 128 ? 128 : (size_t)(end - at - 1))))
		return (struct iovec){0};
	*ret_end = close + 1;
	return (struct iovec){view.plain, (size_t)(close - at - 1)};
}

static bool made_of(struct iovec word, const char *others)
{
	const char *c = word.iov_base;

	for (size_t i = 0; i < word.iov_len; i++)
		if (!((c[i] >= '0' && c[i] <= '9') || (c[i] >= 'a' && c[i] <= 'z') ||
		      (c[i] >= 'A' && c[i] <= 'Z') || (c[i] && strchr(others, c[i]))))
			return false;
	return word.iov_len > 0;
}

/* "2026-11-22T08:09:19.732240Z", or with an offset of a time zone. */
static bool is_date(struct iovec word)
{
	static const char form[] = "dddd-dd-ddTdd:dd:dd";
	const char *c = word.iov_base;

	if (word.iov_len < sizeof(form) - 1 || word.iov_len > 40)
		return false;
	for (size_t i = 0; i < sizeof(form) - 1; i++)
		if (form[i] == 'd' ? c[i] < '0' || c[i] > '9' : c[i] != form[i])
			return false;
	for (size_t i = sizeof(form) - 1; i < word.iov_len; i++)
		if ((c[i] < '0' || c[i] > '9') && !strchr(".+-:Z", c[i]))
			return false;
	return true;
}

static bool is_version(struct iovec word)
{
	const char *c = word.iov_base;
	unsigned dots = 0;

	if (word.iov_len > 20 || word.iov_len == 0)
		return false;
	for (size_t i = 0; i < word.iov_len; i++) {
		dots += c[i] == '.';
		if ((c[i] < '0' || c[i] > '9') && c[i] != '.')
			return false;
	}
	return dots <= 2;
}

static bool word_fits(enum kind kind, struct iovec word)
{
	switch (kind) {
	case STREAM:
		return is_word(word, "stdout") || is_word(word, "stderr");
	case STATE:
		return is_word(word, "busy") || is_word(word, "idle") || is_word(word, "starting");
	case STATUS:
		return is_word(word, "ok") || is_word(word, "error") || is_word(word, "aborted");
	case DATE:
		return is_date(word);
	case ID:
		return made_of(word, "_.-");
	case VERSION:
		return is_version(word);
	default:
		return false;
	}
}

static const char *literal(const char *at, const char *end, const char *text)
{
	const size_t size = strlen(text);

	return (size_t)(end - at) >= size && memcmp(at, text, size) == 0 ? at + size : NULL;
}

static const char *blank(const char *at, const char *end)
{
	return at < end && *at == ' ' ? at + 1 : at;
}

static const char *png(const char *at, const char *end)
{
	const char *close =
		at < end && *at == '"' ? memchr(at + 1, '"', (size_t)(end - at - 1)) : NULL;

	return close && picture_is_clean("image/png", at + 1, (size_t)(close - at - 1)) ? close + 1
											: NULL;
}

static const char *bundle(const char *at, const char *end, bool links)
{
	bool text = false, picture = false;

	for (at = literal(at, end, "{"); at; at = blank(at + 1, end)) {
		const char *value;

		if (!text && (value = literal(at, end, "\"text/plain\":"))) {
			text = true;
			at = scan_text(blank(value, end), end, links);
		} else if (!picture && (value = literal(at, end, "\"image/png\":"))) {
			picture = true;
			at = png(blank(value, end), end);
		} else {
			return NULL;
		}
		if (!at || at == end || *at != ',')
			return at ? literal(at, end, "}") : NULL;
	}
	return NULL;
}

static const char *count(const char *at, const char *end)
{
	const char *begin = at;

	while (at < end && *at >= '0' && *at <= '9')
		at++;
	if (at == begin || at - begin > 9 || (*begin == '0' && at - begin > 1))
		return NULL;
	return at;
}

static const char *any_string(const char *at, const char *end)
{
	if (at == end || *at != '"')
		return NULL;
	for (at++; at < end; at++) {
		if (*at == '\\')
			at++;
		else if (*at == '"')
			return at + 1;
	}
	return NULL;
}

/* The end of a value of that kind, or NULL. */
static const char *value(const char *at, const char *end, enum kind kind, bool links)
{
	const char *after;
	struct iovec word;

	switch (kind) {
	case TEXT:
		return scan_text(at, end, links);
	case STRING:
		return any_string(at, end);
	case COUNT:
		return count(at, end);
	case TRUTH:
		after = literal(at, end, "true");
		return after ? after : literal(at, end, "false");
	case OBJECT:
		return literal(at, end, "{}");
	case LIST:
		return literal(at, end, "[]");
	case BUNDLE:
		return bundle(at, end, links);
	default:
		word = word_at(at, end, &after);
		return after && word_fits(kind, word) ? after : NULL;
	}
}

/* ---- objects ---- */

static int find_field(const struct field fields[FIELDS], struct iovec name)
{
	for (int i = 0; i < FIELDS && fields[i].name; i++)
		if (is_word(name, fields[i].name))
			return i;
	return -1;
}

/* Whether `text` is an object of these fields; where each value is goes to `spans`. */
static bool object(struct iovec text, const struct field fields[FIELDS], bool links,
		   struct iovec spans[FIELDS])
{
	const char *at = text.iov_base, *const end = at + text.iov_len;
	unsigned seen = 0;

	if (text.iov_len == 0 || !(at = literal(at, end, "{")))
		return false;
	for (;;) {
		const char *after;
		const struct iovec name = word_at(at, end, &after);
		union {
			const void *constant;
			void *plain;
		} view;
		int which;

		which = after ? find_field(fields, name) : -1;
		if (which < 0 || seen & (1u << which) || !(after = literal(after, end, ":")))
			return false;
		seen |= 1u << which;
		after = blank(after, end);
		at = value(after, end, fields[which].kind, links);
		if (!at || at == end)
			return false;
		view.constant = after;
		spans[which] = (struct iovec){view.plain, (size_t)(at - after)};
		if (*at == '}')
			break;
		if (*at++ != ',')
			return false;
		at = blank(at, end);
	}
	for (int i = 0; i < FIELDS && fields[i].name; i++)
		if (!fields[i].optional && !(seen & (1u << i)))
			return false;
	return at + 1 == end;
}

static const struct shape {
	enum content_rule rule;
	struct field fields[FIELDS];
} shapes[] = {
	/* the first, see scan_stream */
	{CONTENT_STREAM, {{"name", STREAM, false}, {"text", TEXT, false}}},
	{CONTENT_DISPLAY,
	 {{"data", BUNDLE, false}, {"metadata", OBJECT, false}, {"transient", OBJECT, true}}},
	{CONTENT_RESULT,
	 {{"data", BUNDLE, false}, {"metadata", OBJECT, false}, {"execution_count", COUNT, false}}},
	{CONTENT_CLEAR, {{"wait", TRUTH, false}}},
	{CONTENT_EXECUTE_REPLY,
	 {{"status", STATUS, false},
	  {"execution_count", COUNT, false},
	  {"user_expressions", OBJECT, false},
	  {"payload", LIST, false}}},
	{CONTENT_STATUS_REPLY, {{"status", STATUS, false}, {"restart", TRUTH, true}}},
};

bool scan_keeps(enum content_rule rule, struct iovec content, bool links)
{
	struct iovec spans[FIELDS];

	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		if (shapes[i].rule == rule && object(content, shapes[i].fields, links, spans))
			return true;
	return false;
}

static struct iovec between_quotes(struct iovec literal)
{
	return (struct iovec){(char *)literal.iov_base + 1, literal.iov_len - 2};
}

bool scan_stream(struct iovec content, bool links, struct iovec *ret_name, struct iovec *ret_text)
{
	struct iovec spans[FIELDS] = {{0}};

	if (!object(content, shapes[0].fields, links, spans))
		return false;
	*ret_name = between_quotes(spans[0]);
	*ret_text = between_quotes(spans[1]);
	return true;
}

const char *scan_state(struct iovec content)
{
	static const struct field fields[FIELDS] = {{"execution_state", STATE, false}};
	static const char *const states[] = {"busy", "idle", "starting"};
	struct iovec spans[FIELDS] = {{0}};

	if (!object(content, fields, true, spans))
		return NULL;
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		if (spans[0].iov_len == strlen(states[i]) + 2 &&
		    memcmp((const char *)spans[0].iov_base + 1, states[i], strlen(states[i])) == 0)
			return states[i];
	return NULL;
}

struct iovec scan_count(struct iovec content)
{
	static const struct field fields[FIELDS] = {{"code", STRING, false},
						    {"execution_count", COUNT, false}};
	struct iovec spans[FIELDS] = {{0}};

	return object(content, fields, true, spans) ? spans[1] : (struct iovec){0};
}

bool scan_metadata(enum content_rule rule, struct iovec metadata)
{
	static const struct field replies[FIELDS] = {{"started", DATE, true},
						     {"dependencies_met", TRUTH, true},
						     {"engine", ID, true},
						     {"status", STATUS, true}};
	static const struct field opens[FIELDS] = {{"version", VERSION, false}};
	struct iovec spans[FIELDS];

	if (metadata.iov_len == 2 && memcmp(metadata.iov_base, "{}", 2) == 0)
		return true;
	if (metadata.iov_len > 1024)
		return false;
	if (rule == CONTENT_EXECUTE_REPLY)
		return object(metadata, replies, true, spans);
	return rule == CONTENT_COMM_OPEN && object(metadata, opens, true, spans);
}
