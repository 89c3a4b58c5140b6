/*
 * env_show: `cellwall env list`, `show`, `verify` and `diff`. Nothing of an environment is ever
 * imported or run to read it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "kernelspec/env.h"
#include "kernelspec/script.h"
#include "kernelspec/sealed.h"
#include "kernelspec/stage.h"

#define LOCK_MAX (1u << 20)

int env_packages(const char *directory, env_package_fn *found, void *arg, struct err *err)
{
	cleanup(free_ptr) char *path = path_join(directory, "lock"), *text = NULL;
	char *line, *next = NULL;
	int r = path ? read_file(AT_FDCWD, path, LOCK_MAX, &text, NULL, err)
		     : err_set(err, -ENOMEM, "out of memory");

	if (r < 0)
		return r;
	for (line = text; r == 0 && *line; line = next) {
		char *equals, *hash;

		next = line + strcspn(line, "\n");
		if (*next)
			*next++ = '\0';
		equals = strstr(line, "==");
		hash = strstr(line, " --hash=sha256:");
		if (!equals || !hash || hash < equals)
			continue;
		*equals = *hash = '\0';
		r = found(arg, line, equals + 2, hash + 15);
	}
	return r;
}

/* ---- list ---- */

struct listing {
	const char *store;
	json_t *rows;
	struct paths_list seen;
	bool shared;
};

static int add_row(void *arg, const char *name, uint64_t number, bool current, const json_t *record)
{
	struct listing *listing = arg;

	if (!current)
		return 0;
	for (size_t i = 0; i < listing->seen.count; i++)
		if (listing->shared && strcmp(listing->seen.items[i], name) == 0)
			return 0; /* one's own comes first */
	(void)paths_list_add(&listing->seen, name);
	return json_array_append_new(
		listing->rows,
		json_pack("{s:s, s:I, s:O, s:O, s:O, s:O, s:b}", "name", name, "generation",
			  (json_int_t)number, "created", json_object_get(record, "created"),
			  "python", json_object_get(record, "python"), "bytes",
			  json_object_get(record, "bytes"), "tree", json_object_get(record, "tree"),
			  "shared", listing->shared ? 1 : 0));
}

int env_list(const struct env *env)
{
	cleanup(free_ptr) char *own = NULL;
	struct listing listing = {.rows = json_array()};
	struct err err = {0};
	const json_t *row;
	size_t i;

	if (!listing.rows || sealed_store(&own, &err) < 0)
		return env_fail("out of memory");
	(void)sealed_each(own, NULL, add_row, &listing);
	listing.shared = true;
	if (strcmp(own, SEALED_SHARED) != 0)
		(void)sealed_each(SEALED_SHARED, NULL, add_row, &listing);
	paths_list_done(&listing.seen);
	if (env->options & ENV_JSON)
		return stage_json_print(listing.rows);
	json_array_foreach(listing.rows, i, row)
	{
		char size[32];

		stage_format_size(size, sizeof(size),
				  (uint64_t)json_integer_value(json_object_get(row, "bytes")));
		printf("%-20s generation %-3" JSON_INTEGER_FORMAT " %9s  %s  %s%s\n",
		       json_string_value(json_object_get(row, "name")),
		       json_integer_value(json_object_get(row, "generation")), size,
		       json_string_value(json_object_get(row, "created")),
		       json_string_value(json_object_get(row, "python")),
		       json_is_true(json_object_get(row, "shared")) ? "  (shared)" : "");
	}
	if (json_array_size(listing.rows) == 0)
		printf("no environment yet: cellwall env create NAME PACKAGE... makes one\n");
	json_decref(listing.rows);
	return 0;
}

/* ---- show ---- */

static int print_lock(const struct sealed *sealed)
{
	cleanup(free_ptr) char *path = path_join(sealed->directory, "lock"), *text = NULL;
	struct err err;

	if (!path || read_file(AT_FDCWD, path, LOCK_MAX, &text, NULL, &err) < 0)
		return env_fail("the lock cannot be read");
	return fputs(text, stdout) == EOF;
}

/* CycloneDX 1.5 JSON, https://cyclonedx.org/docs/1.5/json/. */
static int print_sbom(const struct sealed *sealed, const json_t *rows)
{
	json_t *parts = json_array();
	const json_t *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		json_t *purl = json_object_get(row, "purl");
		json_t *part = json_pack(
			"{s:s, s:O, s:O, s:O, s:O, s:[{s:s, s:O}], s:[{s:{s:O}}]}", "type",
			"library", "bom-ref", purl, "name", json_object_get(row, "name"), "version",
			json_object_get(row, "version"), "purl", purl, "hashes", "alg", "SHA-256",
			"content", json_object_get(row, "sha256"), "licenses", "license", "name",
			json_object_get(row, "licence"));

		/* one that no lock names, with nothing that was compared */
		if (!json_is_string(json_object_get(row, "sha256")))
			(void)json_object_del(part, "hashes");
		(void)json_array_append_new(parts, part);
	}
	return stage_json_print(json_pack(
		"{s:s, s:s, s:i, s:{s:O, s:{s:s, s:s, s:s}}, s:o}", "bomFormat", "CycloneDX",
		"specVersion", "1.5", "version", 1, "metadata", "timestamp",
		json_object_get(sealed->record, "created"), "component", "type", "application",
		"name", sealed->name, "version", sealed->hash, "components", parts));
}

static int print_generation(void *arg, const char *name, uint64_t number, bool current,
			    const json_t *record)
{
	(void)arg;
	(void)name;
	printf("%s generation %" PRIu64 ", %s by %s, tree %.16s\n", current ? "->" : "  ", number,
	       json_string_value(json_object_get(record, "created")),
	       json_string_value(json_object_get(record, "by")),
	       json_string_value(json_object_get(record, "tree")));
	return 0;
}

static const char *what_came_of(const char *verdict)
{
	return strcmp(verdict, "ok") == 0	? "reached"
	       : strcmp(verdict, "failed") == 0 ? "did not reach"
	       : strcmp(verdict, "limit") == 0	? "was cut off from"
						: "was refused";
}

static void print_all(const struct sealed *sealed, const json_t *rows)
{
	const json_t *row;
	size_t i;

	printf("%s, built with %s\n", sealed->name, sealed->python);
	if (json_is_string(json_object_get(sealed->record, "folder"))) {
		char folder[256];

		printf("installed by cells of notebooks in %s\n",
		       escape_string(folder, sizeof(folder),
				     json_string_value(json_object_get(sealed->record, "folder"))));
	}
	(void)sealed_each(sealed->store, sealed->name, print_generation, NULL);
	if (json_object_get(sealed->record, "imported"))
		printf("imported: where its packages came from is what the bundle says\n");
	json_array_foreach(json_object_get(sealed->record, "sources"), i, row)
	{
		char source[1024];

		if (json_is_string(row))
			printf("packages came from %s\n",
			       escape_string(source, sizeof(source), json_string_value(row)));
	}
	printf("%zu packages:\n", json_array_size(rows));
	json_array_foreach(rows, i, row)
	{
		char size[32], shown[256], name[256], version[256];

		stage_format_size(size, sizeof(size),
				  (uint64_t)json_integer_value(json_object_get(row, "size")));
		escape_string(name, sizeof(name), json_string_value(json_object_get(row, "name")));
		escape_string(version, sizeof(version),
			      json_string_value(json_object_get(row, "version")));
		printf("  %-28s %-14s %9s  ", name, version, size);
		printf("%s\n", escape_string(shown, sizeof(shown),
					     json_string_value(json_object_get(row, "licence"))));
	}
	json_array_foreach(json_object_get(sealed->record, "reached"), i, row)
	{
		const char *last = json_string_value(json_object_get(row, "last"));

		printf("the build %s %s port %" JSON_INTEGER_FORMAT "%s%s\n",
		       what_came_of(json_string_value(json_object_get(row, "verdict"))),
		       json_string_value(json_object_get(row, "host")),
		       json_integer_value(json_object_get(row, "port")),
		       last ? ", the last time " : "", last ? last : "");
	}
}

/* The generation that a word names; 0: the current one. */
static int generation_of(const char *word, uint64_t *ret_number)
{
	*ret_number = 0;
	return !word ? 0 : parse_u64(word, INT64_MAX, ret_number);
}

int env_find(const struct env *env, size_t word, struct sealed *ret_sealed)
{
	struct err err = {0};
	uint64_t number;

	if (generation_of(env->count > word ? env->words[word] : NULL, &number) < 0) {
		env_fail("a generation is a number: see cellwall env show %s", env->name);
		return -EINVAL;
	}
	if (sealed_find(env->name, number, true, ret_sealed, &err) < 0) {
		env_fail("%s", err.text);
		return -ENOENT;
	}
	return 0;
}

int env_inspect(const struct sealed *sealed, const char *verb, const char *word, const char *input,
		json_t **ret_found, struct err *err)
{
	const char *const words[] = {verb, sealed->directory, word, NULL};

	return script_run("env/packages.py", words, input, ret_found, err);
}

static int show(const struct env *env, const struct sealed *sealed)
{
	struct err err = {0};
	json_t *found, *rows;
	int code = 0;

	if (env_inspect(sealed, "show", NULL, NULL, &found, &err) < 0)
		return env_fail("%s", err.text);
	rows = json_object_get(found, "packages");
	if (env->options & ENV_SBOM)
		code = print_sbom(sealed, rows);
	else if (env->options & ENV_JSON)
		code = stage_json_print(json_pack("{s:s, s:I, s:O, s:O}", "name", sealed->name,
						  "generation", (json_int_t)sealed->number,
						  "record", sealed->record, "packages", rows));
	else
		print_all(sealed, rows);
	json_decref(found);
	return code;
}

int env_show(const struct env *env)
{
	struct sealed sealed;
	int code;

	if (env_find(env, 0, &sealed) < 0)
		return 1;
	code = env->options & ENV_LOCK ? print_lock(&sealed) : show(env, &sealed);
	sealed_done(&sealed);
	return code;
}

/* ---- verify and diff ---- */

static void print_difference(void *arg, const char *path, const char *how)
{
	char shown[STAGE_SHOWN];

	(void)arg;
	printf("%s %s\n", escape_string(shown, sizeof(shown), path), how);
}

int env_verify(const struct env *env)
{
	struct sealed sealed;
	struct err err = {0};
	int64_t found;

	if (env_find(env, 0, &sealed) < 0)
		return 1;
	found = sealed_verify(sealed.directory, sealed.hash, print_difference, NULL, &err);
	if (found == 0)
		printf("%s, generation %" PRIu64 ": as it was sealed, %" JSON_INTEGER_FORMAT
		       " files\n",
		       sealed.name, sealed.number,
		       json_integer_value(json_object_get(sealed.record, "files")));
	sealed_done(&sealed);
	if (found > 0)
		return env_fail("%s is not as it was sealed: do not use it; cellwall env update %s "
				"builds it anew",
				env->name, env->name);
	return found < 0 ? env_fail("%s", err.text) : 0;
}

static int keep_version(void *arg, const char *name, const char *version, const char *hash)
{
	(void)hash;
	return json_object_set_new(arg, name, json_string(version));
}

static int compare(const struct sealed *before, const struct sealed *after)
{
	json_t *old = json_object(), *new = json_object();
	struct err err = {0};
	const char *name;
	json_t *version;
	int found = 0;

	if (env_packages(before->directory, keep_version, old, &err) < 0 ||
	    env_packages(after->directory, keep_version, new, &err) < 0)
		found = env_fail("%s", err.text);
	json_object_foreach(old, name, version)
	{
		const char *now = json_string_value(json_object_get(new, name));

		if (now && strcmp(now, json_string_value(version)) == 0)
			continue;
		found = 1;
		printf(now ? "%s %s -> %s\n" : "%s %s removed\n", name, json_string_value(version),
		       now);
	}
	json_object_foreach(new, name, version)
	{
		if (json_object_get(old, name))
			continue;
		found = 1;
		printf("%s %s added\n", name, json_string_value(version));
	}
	json_decref(old);
	json_decref(new);
	return found;
}

int env_diff(const struct env *env)
{
	struct sealed before, after;
	struct err err = {0};
	int code;

	if (env_find(env, 1, &after) < 0)
		return 1;
	if (env->count > 0) {
		code = env_find(env, 0, &before);
	} else {
		code = after.number < 2
			       ? -ENOENT
			       : sealed_find(env->name, after.number - 1, true, &before, &err);
		if (code < 0)
			env_fail("\"%s\" has no generation before the current one", env->name);
	}
	if (code == 0) {
		code = compare(&before, &after);
		sealed_done(&before);
	} else {
		code = 1;
	}
	sealed_done(&after);
	return code;
}
