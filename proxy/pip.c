#include "proxy/pip.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proxy/requirement.h"
#include "sandbox/base.h"

/* ---- words, as a shell makes them ---- */

struct words {
	const char *at, *end;
	bool shell; /* one reads the line: "!" */
	struct pip_line *line;
};

static void refuse(struct pip_line *line, const char *text, size_t size, const char *why)
{
	char shown[100];

	if (!line->refused[0])
		(void)snprintf(line->refused, sizeof(line->refused), "\"%s\" %s",
			       escape_text(shown, sizeof(shown), text, size < 80 ? size : 80), why);
}

/* Why a byte outside of quotes is not taken, or NULL. */
static const char *against(char byte, bool shell)
{
	if (strchr("$`{}", byte))
		return "is expanded before pip sees it: write the packages as they are";
	if (strchr(";|&()", byte) || (shell && strchr("<>", byte)))
		return "means something else to a shell: put the requirement in quotes, and "
		       "nothing else on the line";
	return byte == '\\' ? "has a backslash: write it in quotes" : NULL;
}

/* One part of a word: what is in quotes, or a byte. Returns false when it is refused. */
static bool take_part(struct words *words)
{
	struct pip_line *line = words->line;
	const char quote = *words->at == '"' || *words->at == '\'' ? *words->at : '\0';
	const char *from = words->at + (quote ? 1 : 0), *to = from + 1, *why;

	if (quote) {
		to = memchr(from, quote, (size_t)(words->end - from));
		if (!to) {
			refuse(line, words->at, (size_t)(words->end - words->at),
			       "has no closing quote");
			return false;
		}
	}
	for (const char *at = from; at < to; at++) {
		why = *at == '\0' ? "has a NUL in it" : quote ? NULL : against(*at, words->shell);
		/* IPython replaces these wherever they are, a shell all but in single quotes. */
		if (quote && *at && strchr(quote == '"' ? "$`{}\\" : "${}", *at))
			why = "is expanded before pip sees it: write the packages as they are";
		if (why) {
			refuse(line, at, 1, why);
			return false;
		}
	}
	if ((size_t)(to - from) + 1 >= sizeof(line->text) - line->used) {
		refuse(line, from, (size_t)(to - from), "is too much for one line");
		return false;
	}
	memcpy(line->text + line->used, from, (size_t)(to - from));
	line->used += (size_t)(to - from);
	words->at = to + (quote ? 1 : 0);
	return true;
}

static bool is_blank(char byte)
{
	return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\f';
}

/* The next word into the line's text. NULL: there is none, or it was refused. */
static const char *next_word(struct words *words)
{
	struct pip_line *line = words->line;
	const size_t begin = line->used;

	while (words->at < words->end && is_blank(*words->at))
		words->at++;
	if (words->at == words->end || *words->at == '#')
		return NULL;
	while (words->at < words->end && !is_blank(*words->at)) {
		if (!take_part(words))
			return NULL;
	}
	if (line->used >= sizeof(line->text) - 1) {
		refuse(line, line->text + begin, line->used - begin, "is too much for one line");
		return NULL;
	}
	line->text[line->used++] = '\0';
	return line->text + begin;
}

/* ---- options ---- */

enum option { OPTION_HARMLESS, OPTION_UPGRADE, OPTION_FILE, OPTION_INDEX, OPTION_PATH };

static const struct {
	const char *name;
	enum option option;
} options[] = {
	{"-q", OPTION_HARMLESS},
	{"-qq", OPTION_HARMLESS},
	{"-qqq", OPTION_HARMLESS},
	{"--quiet", OPTION_HARMLESS},
	{"-v", OPTION_HARMLESS},
	{"--verbose", OPTION_HARMLESS},
	{"-y", OPTION_HARMLESS},
	{"--user", OPTION_HARMLESS},
	{"--system", OPTION_HARMLESS},
	{"--no-input", OPTION_HARMLESS},
	{"--no-cache-dir", OPTION_HARMLESS},
	{"--disable-pip-version-check", OPTION_HARMLESS},
	{"--no-warn-script-location", OPTION_HARMLESS},
	{"--break-system-packages", OPTION_HARMLESS},
	{"--root-user-action=ignore", OPTION_HARMLESS},
	{"--progress-bar=off", OPTION_HARMLESS},
	{"-U", OPTION_UPGRADE},
	{"--upgrade", OPTION_UPGRADE},
	{"-r", OPTION_FILE},
	{"--requirement", OPTION_FILE},
	{"--requirements", OPTION_FILE},
	{"-i", OPTION_INDEX},
	{"--index", OPTION_INDEX},
	{"--index-url", OPTION_INDEX},
	{"--default-index", OPTION_INDEX},
	{"--extra-index-url", OPTION_INDEX},
	{"-f", OPTION_INDEX},
	{"--find-links", OPTION_INDEX},
	{"--no-index", OPTION_INDEX},
	{"--trusted-host", OPTION_INDEX},
	{"--proxy", OPTION_INDEX},
	{"--cert", OPTION_INDEX},
	{"--client-cert", OPTION_INDEX},
	{"-e", OPTION_PATH},
	{"--editable", OPTION_PATH},
	{"-c", OPTION_PATH},
	{"--constraint", OPTION_PATH},
	{"-t", OPTION_PATH},
	{"--target", OPTION_PATH},
	{"--prefix", OPTION_PATH},
	{"--root", OPTION_PATH},
};
enum { OPTIONS = sizeof(options) / sizeof(options[0]) };

/* "--name" and "--name=value". */
static bool is_option(const char *word, const char *name)
{
	size_t length = strlen(name);

	return strcmp(word, name) == 0 ||
	       (name[1] == '-' && strncmp(word, name, length) == 0 && word[length] == '=');
}

static void add_word(struct pip_line *line, enum pip_kind kind, const char *text, const char *file)
{
	if (line->count == PIP_WORDS_MAX)
		refuse(line, text, strlen(text), "is one word too many");
	else
		line->word[line->count++] = (struct pip_word){kind, text, file};
}

/* A file is one below the notebook's folder; whether it is staged is seen later. */
static void add_file(struct words *words, const char *option, const char *name)
{
	struct pip_line *line = words->line;
	const char *equals = strchr(option, '='), *file;

	if (equals && option[1] == '-' && strlen(name) < strlen(option)) {
		add_word(line, PIP_FILE, option, equals + 1);
		return;
	}
	file = next_word(words);
	if (file) {
		add_word(line, PIP_OPTION, option, NULL);
		add_word(line, PIP_FILE, file, file);
	} else {
		refuse(line, option, strlen(option), "needs the name of a file");
	}
}

static void add_option(struct words *words, const char *word)
{
	static const char *const why[] = {
		[OPTION_INDEX] = "is not taken: packages come from where pip is configured to get "
				 "them outside",
		[OPTION_PATH] = "is not taken: only packages of the index are installed, where the "
				"kernel finds them",
	};
	struct pip_line *line = words->line;
	size_t i = 0;

	while (i < OPTIONS && !is_option(word, options[i].name))
		i++;
	if (i == OPTIONS ||
	    (options[i].option <= OPTION_UPGRADE && strcmp(word, options[i].name) != 0)) {
		refuse(line, word, strlen(word), "is an option that is not taken here");
	} else if (options[i].option == OPTION_FILE) {
		add_file(words, word, options[i].name);
	} else if (options[i].option >= OPTION_INDEX) {
		refuse(line, word, strlen(word), why[options[i].option]);
	} else {
		line->upgrade = line->upgrade || options[i].option == OPTION_UPGRADE;
		add_word(line, PIP_OPTION, word, NULL);
	}
}

/* ---- one line ---- */

static bool is_python(const char *word)
{
	const char *rest = strncmp(word, "python", 6) == 0 ? word + 6 : NULL;

	return rest &&
	       (*rest == '\0' || (*rest == '3' && strspn(rest, "0123456789.") == strlen(rest)));
}

static bool is_pip(const char *word)
{
	const char *rest = strncmp(word, "pip", 3) == 0 ? word + 3 : NULL;

	return rest &&
	       (*rest == '\0' || (*rest == '3' && strspn(rest, "0123456789.") == strlen(rest)));
}

static bool next_equals(struct words *words, const char *text)
{
	const char *word = next_word(words);

	return word && strcmp(word, text) == 0;
}

/* Whether the line begins with one of the ways to call pip's install. */
static bool begins(struct words *words)
{
	static const char executable[] = "{sys.executable}";
	const size_t length = strlen(executable);
	const char *word;

	while (words->shell && words->at < words->end && is_blank(*words->at))
		words->at++;
	if (words->shell && (size_t)(words->end - words->at) > length &&
	    memcmp(words->at, executable, length) == 0 && is_blank(words->at[length])) {
		words->at += length;
		return next_equals(words, "-m") && next_equals(words, "pip") &&
		       next_equals(words, "install");
	}
	word = next_word(words);
	if (!word)
		return false;
	words->line->uv = strcmp(word, "uv") == 0;
	if (words->line->uv)
		return next_equals(words, "pip") && next_equals(words, "install");
	if (words->shell && is_python(word))
		return next_equals(words, "-m") && next_equals(words, "pip") &&
		       next_equals(words, "install");
	return (words->shell ? is_pip(word) : strcmp(word, "pip") == 0) &&
	       next_equals(words, "install");
}

/* `text` is what follows "%" or "!". Returns whether it asks for packages. */
static bool read_line(const char *text, size_t size, bool shell, struct pip_line *line)
{
	struct words words = {text, text + size, shell, line};
	struct err err;
	const char *word;
	bool any = false;

	memset(line, 0, offsetof(struct pip_line, text));
	line->used = 0;
	if (!shell && size > 0 && is_blank(text[0]))
		return false;
	if (!begins(&words))
		return false;
	while (!line->refused[0] && (word = next_word(&words))) {
		if (word[0] == '-')
			add_option(&words, word);
		else if (requirement_check(word, strlen(word), &err) < 0)
			(void)snprintf(line->refused, sizeof(line->refused), "%.*s",
				       (int)sizeof(line->refused) - 1, err.text);
		else
			add_word(line, PIP_REQUIREMENT, word, NULL);
	}
	for (size_t i = 0; i < line->count; i++)
		any = any || line->word[i].kind != PIP_OPTION;
	if (!any && !line->refused[0])
		refuse(line, "pip install", strlen("pip install"), "names no package");
	return true;
}

/* ---- a cell ---- */

struct cell {
	const char *at, *end;
	size_t depth; /* of brackets */
};

/* Past the end of this line; a backslash at its end goes on, where `joined`. */
static const char *line_end(const char *at, const char *end, bool joined)
{
	for (; at < end; at++) {
		if (*at == '\n' && !(joined && at[-1] == '\\'))
			break;
	}
	return at;
}

/* Past a string that begins here: in its own line, or to the three quotes that end it. */
static void skip_string(struct cell *cell)
{
	const char quote = *cell->at;
	const char three[] = {quote, quote, quote};
	const bool triple = cell->end - cell->at >= 3 && memcmp(cell->at, three, 3) == 0;

	cell->at += triple ? 3 : 1;
	for (; cell->at < cell->end; cell->at++) {
		if (*cell->at == '\\') {
			if (++cell->at == cell->end)
				return;
		} else if (!triple && (*cell->at == quote || *cell->at == '\n')) {
			cell->at += *cell->at == quote;
			return;
		} else if (triple && cell->end - cell->at >= 3 && memcmp(cell->at, three, 3) == 0) {
			cell->at += 3;
			return;
		}
	}
}

/* Past a line of Python, which is longer than one where a string is. */
static void skip_python(struct cell *cell)
{
	while (cell->at < cell->end && *cell->at != '\n') {
		const char byte = *cell->at;

		if (byte == '#') {
			cell->at = line_end(cell->at, cell->end, false);
			return;
		}
		if (byte == '"' || byte == '\'') {
			skip_string(cell);
			continue;
		}
		if (byte && strchr("([{", byte))
			cell->depth++;
		else if (byte && strchr(")]}", byte) && cell->depth > 0)
			cell->depth--;
		if (byte == '\\' && cell->at + 1 < cell->end)
			cell->at++; /* the next line is this one's */
		cell->at++;
	}
}

/* Cells whose first line hands the others to Python; all other "%%" give them to something else. */
static bool is_python_cell(const struct cell *cell)
{
	static const char *const magics[] = {"time", "timeit", "capture"};
	const char *at = cell->at;

	if (cell->end - at < 2 || at[0] != '%' || at[1] != '%')
		return true;
	at += 2;
	for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
		size_t length = strlen(magics[i]);

		if ((size_t)(cell->end - at) > length && memcmp(at, magics[i], length) == 0 &&
		    (is_blank(at[length]) || at[length] == '\n'))
			return true;
	}
	return false;
}

/* A line of a magic with its continuations made blanks, into `out`; returns its size, or 0 when it
 * is longer than any that is read. */
static size_t join_line(const char *from, const char *to, char out[PIP_TEXT_MAX])
{
	size_t size = 0;

	for (; from < to && size < PIP_TEXT_MAX; from++) {
		if (*from == '\\' && from + 1 < to && from[1] == '\n') {
			out[size++] = ' ';
			from++;
		} else {
			out[size++] = *from;
		}
	}
	return from == to ? size : 0;
}

size_t pip_find(const char *code, size_t size, pip_found_fn *found, void *arg)
{
	struct cell cell = {code, code + size, 0};
	char joined[PIP_TEXT_MAX];
	struct pip_line line;
	size_t count = 0;

	while (cell.at < cell.end && (is_blank(*cell.at) || *cell.at == '\n'))
		cell.at++;
	if (!is_python_cell(&cell))
		return 0;
	while (cell.at < cell.end && count < PIP_LINES_MAX) {
		while (cell.at < cell.end && (is_blank(*cell.at) || *cell.at == '\n'))
			cell.at++;
		if (cell.at < cell.end && cell.depth == 0 && (*cell.at == '%' || *cell.at == '!')) {
			const char *begin = cell.at + 1;
			const bool shell = *cell.at == '!';
			size_t length;

			cell.at = line_end(begin, cell.end, true);
			length = join_line(begin, cell.at, joined);
			if (length > 0 && read_line(joined, length, shell, &line)) {
				count++;
				found(arg, &line);
			}
		} else {
			skip_python(&cell);
		}
	}
	return count;
}
