#include "proxy/requirement.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS	"0123456789"

static const char in_name[] = LETTERS DIGITS "._-";
static const char in_version[] = LETTERS DIGITS ".*+!_-";
static const char in_marker[] = LETTERS DIGITS " ._-+*'\"<>=!~(),";

/* What is left of the text. */
struct rest {
	const char *at, *end;
};

static void skip_blanks(struct rest *rest)
{
	while (rest->at < rest->end && (*rest->at == ' ' || *rest->at == '\t'))
		rest->at++;
}

static bool next_is(const struct rest *rest, char byte)
{
	return rest->at < rest->end && *rest->at == byte;
}

/* Bytes of `set` from here on. Not strspn(3): the text has no NUL at its end, and may have one in
 * it. */
static size_t span(const struct rest *rest, const char *set)
{
	size_t size = 0;

	while (rest->at + size < rest->end && rest->at[size] && strchr(set, rest->at[size]))
		size++;
	return size;
}

static bool take_name(struct rest *rest)
{
	size_t size = span(rest, in_name);

	if (size == 0 || size > REQUIREMENT_NAME || strchr("._-", rest->at[0]) ||
	    strchr("._-", rest->at[size - 1]))
		return false;
	rest->at += size;
	return true;
}

/* "[a, b]", when there is one. */
static bool take_extras(struct rest *rest)
{
	if (!next_is(rest, '['))
		return true;
	do {
		rest->at++;
		skip_blanks(rest);
		if (!take_name(rest))
			return false;
		skip_blanks(rest);
	} while (next_is(rest, ','));
	if (!next_is(rest, ']'))
		return false;
	rest->at++;
	return true;
}

static bool take_comparison(struct rest *rest)
{
	static const char *const operators[] = {"===", "==", "!=", "<=", ">=", "~=", "<", ">"};
	const size_t left = (size_t)(rest->end - rest->at);
	size_t size;

	for (size_t i = 0; i < sizeof(operators) / sizeof(operators[0]); i++) {
		size = strlen(operators[i]);
		if (size > left || memcmp(rest->at, operators[i], size) != 0)
			continue;
		rest->at += size;
		skip_blanks(rest);
		size = span(rest, in_version);
		rest->at += size;
		return size > 0;
	}
	return false;
}

/* ">=1, <2", with parentheses or without, when there are any. */
static bool take_versions(struct rest *rest)
{
	const bool closed = next_is(rest, '(');

	if (closed)
		rest->at++;
	skip_blanks(rest);
	if (!closed && (rest->at == rest->end || next_is(rest, ';')))
		return true;
	for (;;) {
		if (!take_comparison(rest))
			return false;
		skip_blanks(rest);
		if (!next_is(rest, ','))
			break;
		rest->at++;
		skip_blanks(rest);
	}
	if (closed && !next_is(rest, ')'))
		return false;
	rest->at += closed;
	return true;
}

static bool take_marker(struct rest *rest)
{
	skip_blanks(rest);
	if (!next_is(rest, ';'))
		return true;
	rest->at++;
	skip_blanks(rest);
	if (rest->at == rest->end || span(rest, in_marker) != (size_t)(rest->end - rest->at))
		return false;
	rest->at = rest->end;
	return true;
}

/* pip takes what ends so for a file, wherever it runs. */
static bool is_archive(const char *text, size_t size)
{
	static const char *const ends[] = {".whl", ".zip",	".tar", ".tar.gz",
					   ".tgz", ".tar.bz2",	".tbz", ".tar.xz",
					   ".txz", ".tar.lzma", ".tlz", ".egg"};

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		size_t length = strlen(ends[i]);

		if (size >= length && strncasecmp(text + size - length, ends[i], length) == 0)
			return true;
	}
	return false;
}

static int refuse(struct err *err, const char *text, size_t size, const char *why)
{
	char shown[120];

	return err_set(err, -EINVAL, "\"%s\" %s",
		       escape_text(shown, sizeof(shown), text, size < 100 ? size : 100), why);
}

int requirement_check(const char *text, size_t size, struct err *err)
{
	struct rest rest = {text, text + size};

	if (size == 0 || size > REQUIREMENT_MAX)
		return refuse(err, text, size, "is no requirement: it is empty or very long");
	if (text[0] == '-')
		return refuse(err, text, size, "is an option that is not taken here");
	if (memchr(text, '@', size) || memchr(text, ':', size))
		return refuse(err, text, size,
			      "names an address: only packages of the index are installed");
	if (memchr(text, '/', size) || memchr(text, '\\', size) || text[0] == '.' ||
	    text[0] == '~' || is_archive(text, size))
		return refuse(err, text, size,
			      "is a path: only packages of the index are installed");
	if (!take_name(&rest))
		return refuse(err, text, size, "does not begin with the name of a package");
	skip_blanks(&rest);
	if (take_extras(&rest)) {
		skip_blanks(&rest);
		if (take_versions(&rest) && take_marker(&rest) && rest.at == rest.end)
			return 0;
	}
	return refuse(err, text, size,
		      "is no requirement: write it as in \"pandas\", \"pandas>=2\" or "
		      "\"pandas[excel]\"");
}

void requirement_name(const char *text, char out[REQUIREMENT_NAME + 1])
{
	size_t used = 0;

	for (; *text && strchr(in_name, *text) && used < REQUIREMENT_NAME; text++) {
		if (!strchr("._-", *text))
			out[used++] = (char)(*text >= 'A' && *text <= 'Z' ? *text | 0x20 : *text);
		else if (used > 0 && out[used - 1] != '-')
			out[used++] = '-';
	}
	out[used] = '\0';
}

/* ---- files ---- */

/* A line without its comment and the blanks around it. */
static struct rest bare_line(const char *line, size_t size)
{
	struct rest rest = {line, line + size};

	for (size_t i = 0; i < size; i++) {
		if (line[i] == '#' && (i == 0 || line[i - 1] == ' ' || line[i - 1] == '\t')) {
			rest.end = line + i;
			break;
		}
	}
	skip_blanks(&rest);
	while (rest.end > rest.at && strchr(" \t\r", rest.end[-1]) && rest.end[-1])
		rest.end--;
	return rest;
}

int requirement_lines(const char *text, size_t size, size_t most, char **ret_lines, struct err *err)
{
	cleanup(free_ptr) char *lines = malloc(size + 2);
	size_t used = 0, number = 0, count = 0;

	if (!lines)
		return err_set(err, -ENOMEM, "out of memory");
	while (size > 0) {
		const char *end = memchr(text, '\n', size);
		const size_t length = end ? (size_t)(end - text) : size;
		const struct rest bare = bare_line(text, length);
		const size_t left = (size_t)(bare.end - bare.at);

		number++;
		text += length + (end != NULL);
		size -= length + (end != NULL);
		if (left == 0)
			continue;
		if (requirement_check(bare.at, left, err) < 0)
			return err_wrap(err, "line %zu", number);
		if (++count > most)
			return err_set(err, -EINVAL, "more than %zu requirements", most);
		memcpy(lines + used, bare.at, left);
		used += left;
		lines[used++] = '\n';
	}
	lines[used] = '\0';
	*ret_lines = steal_ptr(&lines);
	return 0;
}
