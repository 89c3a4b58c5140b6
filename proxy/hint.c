#include "proxy/hint.h"

#include <limits.h>
#include <string.h>

#include "proxy/failure.h"
#include "sandbox/base.h"

/* ---- names that may be said ---- */

/* What people call keys and passwords. Who means one of these can stage it without being told. */
static bool is_secret(const char *name, size_t length)
{
	static const char *const parts[] = {"secret", "passw",	  "credential", "id_rsa",
					    "id_dsa", "id_ecdsa", "id_ed25519", "private_key",
					    "keytab", "netrc",	  "htpasswd",	"kubeconfig"};
	static const char *const ends[] = {".pem", ".key", ".p12",  ".pfx", ".jks",
					   ".gpg", ".ppk", ".kdbx", ".ovpn"};
	char lower[NAME_MAX + 1];

	if (length > NAME_MAX)
		return true;
	for (size_t i = 0; i < length; i++)
		lower[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] | 0x20 : name[i]);
	lower[length] = '\0';
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (strstr(lower, parts[i]))
			return true;
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (length > strlen(ends[i]) &&
		    strcmp(lower + length - strlen(ends[i]), ends[i]) == 0)
			return true;
	return false;
}

/* Whether `path` can stand in a command that is copied from the line: what is shown is what is
 * there, no quote ends, nothing is an option, and "NAME=/path" is not written by accident. */
static bool is_plain(const char *path)
{
	char shown[4 * HINT_PATH_MAX];

	return path[0] != '-' && !strpbrk(path, "'`\\=") &&
	       strcmp(escape_string(shown, sizeof(shown), path), path) == 0;
}

/* The part of an absolute path that is below `top`; NULL when it is not. */
static const char *below(const char *path, const char *top)
{
	size_t length = strlen(top);

	if (length <= 1 || strncmp(path, top, length) != 0 || path[length] != '/')
		return NULL;
	return path + length + 1;
}

/*
 * `path` as a clean path below the notebook's folder: no empty component, no "." and no "..".
 * False: it is somewhere else, hidden, or not to be named.
 */
static bool clean(const char *path, const char *folder, char out[HINT_PATH_MAX])
{
	size_t used = 0;

	if (path[0] == '/') {
		const char *inside = below(path, INSIDE_WORK);

		path = inside ? inside : below(path, folder);
	}
	for (int depth = 0; path && *path && depth <= 2 * BESIDE_DEPTH_MAX; depth++) {
		size_t length = strcspn(path, "/");

		if (length > 1 && path[0] == '.')
			return false; /* ".." or hidden */
		if (length > 0 && path[0] != '.') {
			if (is_secret(path, length) || used + length + 2 > HINT_PATH_MAX)
				return false;
			if (used > 0)
				out[used++] = '/';
			memcpy(out + used, path, length);
			used += length;
		}
		path += length;
		path += strspn(path, "/");
	}
	if (!path || *path || used == 0)
		return false;
	out[used] = '\0';
	return is_plain(out);
}

static void add_file(struct hint *hint, const char *name, const char *folder)
{
	struct hint_place *place = &hint->place[hint->count];

	if (hint->count == HINT_PLACES || !clean(name, folder, place->path))
		return;
	place->named = strlen(place->path);
	hint->count++;
}

/* A module is looked for as Python's FileFinder does; of "a.b.c" it is "a" that is missing here. */
static void add_module(struct hint *hint, const char *name, const char *folder)
{
	static const char *const forms[] = {"/__init__.py", ".py", ""};
	size_t length = strcspn(name, ".");
	char path[HINT_PATH_MAX];

	if (length == 0 || length > NAME_MAX - 16 || memchr(name, '/', length))
		return;
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		(void)snprintf(path, sizeof(path), "%.*s%s", (int)length, name, forms[i]);
		add_file(hint, path, folder);
	}
	if (hint->count > 0)
		hint->place[0].named = length;
}

/* ---- what an error says ---- */

static bool is_word(char byte)
{
	return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
	       (byte >= 'a' && byte <= 'z') || byte == '_' || (byte & 0x80) != 0;
}

/*
 * The next Python string literal of `*text` into `out`, as repr() writes it; `*text` goes on after
 * it. One with another escape than that of a quote gives "". False: there is none.
 */
static bool next_literal(const char **text, char out[FAILURE_TEXT_MAX])
{
	const char *at = *text;
	size_t used = 0;
	bool fits = true;
	char quote;

	while (*at && ((*at != '\'' && *at != '"') || (at > *text && is_word(at[-1]))))
		at++;
	if (!*at)
		return false;
	quote = *at++;
	for (; *at && *at != quote; at++) {
		if (*at == '\\' && *++at != '\'' && *at != '"')
			fits = false;
		if (!*at)
			return false;
		out[used++] = *at;
	}
	if (!*at)
		return false;
	out[fits ? used : 0] = '\0';
	*text = at + 1;
	return true;
}

/* "FILE not found.", "File FILE does not exist", "… (os error 2): FILE": libraries' own words. */
static void add_unquoted(struct hint *hint, char *value, const char *folder)
{
	static const char *const ends[] = {" not found.", " not found", " does not exist.",
					   " does not exist"};
	size_t length = strlen(value);
	char *name = value, *colon;

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		size_t end = strlen(ends[i]);

		if (length > end && strcmp(value + length - end, ends[i]) == 0) {
			value[length - end] = '\0';
			break;
		}
	}
	if (strncmp(name, "File ", 5) == 0)
		name += 5;
	while ((colon = strstr(name, ": ")))
		name = colon + 2;
	add_file(hint, name, folder);
}

static void read_file_error(struct hint *hint, char *value, const char *folder)
{
	const char *at = value;
	char name[FAILURE_TEXT_MAX];
	size_t literals = 0;

	for (; literals < HINT_PLACES && next_literal(&at, name); literals++)
		add_file(hint, name, folder);
	if (literals == 0)
		add_unquoted(hint, value, folder);
}

/* The first literal after `words`, when the value begins with them. */
static void read_import_error(struct hint *hint, const char *value, const char *words,
			      const char *folder)
{
	const char *at = value + strlen(words);
	char name[FAILURE_TEXT_MAX];

	if (strncmp(value, words, strlen(words)) == 0 && next_literal(&at, name))
		add_module(hint, name, folder);
}

/* "cannot import name 'b' from 'a' (unknown location)": of a package only a part is here. */
static void read_part_error(struct hint *hint, const char *value, const char *folder)
{
	const char *from = strstr(value, " from '");

	if (from && strstr(from, "(unknown location)"))
		read_import_error(hint, from, " from ", folder);
}

bool hint_read(struct iovec content, const char *folder, struct hint *ret_hint)
{
	struct failure said;

	*ret_hint = (struct hint){0};
	if (!failure_read(content, &said))
		return false;
	if (strcmp(said.name, "ModuleNotFoundError") == 0)
		read_import_error(ret_hint, said.value, "No module named ", folder);
	else if (strcmp(said.name, "ImportError") == 0)
		read_part_error(ret_hint, said.value, folder);
	else if (strcmp(said.name, "FileNotFoundError") == 0 ||
		 (strcmp(said.name, "Exception") == 0 &&
		  strncmp(said.value, "File `'", 7) == 0)) /* %run */
		read_file_error(ret_hint, said.value, folder);
	return ret_hint->count > 0;
}

/* ---- what is known ---- */

/* Whether one path is the other or above it. */
static bool covers(const char *above, const char *path)
{
	size_t length = strlen(above);

	return strncmp(above, path, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

bool hint_is_known(const struct spec *spec, const char *folder, const char *path)
{
	cleanup(free_ptr) char *host = path_join(folder, path);
	cleanup(free_ptr) char *staging = spec->out ? strdup(spec->out) : NULL;
	char *slash = staging ? strrchr(staging, '/') : NULL;

	if (!host || covers("staging", path))
		return true;
	if (slash && slash != staging)
		*slash = '\0'; /* in/ and out/, wherever they are */
	if (staging && (covers(staging, host) || covers(host, staging)))
		return true;
	for (size_t i = 0; i < spec->stage_count; i++) {
		const char *inside = below(spec->stages[i].target, INSIDE_WORK);

		if (inside && covers(inside, path))
			return true;
	}
	return false;
}

/* ---- words ---- */

/* As a word of the shell; is_plain() has seen to it that there is no quote in it. */
static char *quote(const char *path, size_t length)
{
	static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				   "0123456789._/+,@%:-";
	const char *mark = strspn(path, safe) < length ? "'" : "";

	return format_string("%s%.*s%s", mark, (int)length, path, mark);
}

char *hint_line(const char *path, enum beside kind)
{
	static const char *const kinds[] = {[BESIDE_FILE] = "",
					    [BESIDE_DIRECTORY] = " (a folder)",
					    [BESIDE_LINK] = " (a link)",
					    [BESIDE_MOUNT] = " (a mounted folder)"};
	const char *slash = strrchr(path, '/');
	cleanup(free_ptr) char *word = quote(path, strlen(path));
	cleanup(free_ptr) char *parent = NULL;

	if (kind == BESIDE_NOTHING || !is_plain(path) || !word)
		return NULL;
	/* The file alone is the least that helps; its folder is what the next cell wants. */
	if (kind == BESIDE_FILE && slash) {
		cleanup(free_ptr) char *above = quote(path, (size_t)(slash - path));

		parent = format_string(" (or `cellwall stage add %s` for all that is in it)",
				       above ? above : "");
		if (!above || !parent)
			return NULL;
	}
	return format_string("%s%s is beside the notebook, but was not staged when this kernel "
			     "started. If the kernel may read it, run `cellwall stage add %s`%s in "
			     "a terminal in the notebook's folder and restart the kernel",
			     path, kinds[kind], word, parent ? parent : "");
}

char *hint_result_line(const char *path)
{
	if (!is_plain(path))
		return NULL;
	return format_string("%s is among the results of earlier runs: the kernel sees it as "
			     "staging/out/%s",
			     path, path);
}

/* ---- one look per cell ---- */

/* FNV-1a. A collision that somebody makes costs him the look at a cell of his own. */
static uint64_t hash(const char *text)
{
	uint64_t value = 0xcbf29ce484222325;

	for (; *text; text++)
		value = (value ^ (unsigned char)*text) * 0x100000001b3;
	return value ? value : 1;
}

void hint_cells_add(struct hint_cells *cells, const char *msg_id)
{
	cells->id[cells->next] = hash(msg_id);
	cells->next = (cells->next + 1) % HINT_CELLS;
}

bool hint_cells_take(struct hint_cells *cells, const char *msg_id)
{
	const uint64_t wanted = hash(msg_id);

	for (size_t i = 0; i < HINT_CELLS; i++) {
		if (cells->id[i] == wanted) {
			cells->id[i] = 0;
			return true;
		}
	}
	return false;
}
