/*
 * env: what the actions of `cellwall env` share. env_verb.c parses the words and options,
 * env_make.c has create, update, import and export, env_show.c list, show, verify and diff,
 * env_audit.c audit and usage, env_keep.c rollback, remove and gc.
 */
#ifndef KERNELSPEC_ENV_H
#define KERNELSPEC_ENV_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernelspec/paths.h"
#include "kernelspec/sealed.h"

enum env_option {
	ENV_PYTHON = 1,
	ENV_FILE = 2,
	ENV_HOST = 4,
	ENV_JSON = 8,
	ENV_BARE = 16,
	ENV_QUIET = 32,
	ENV_LOCK = 64,
	ENV_SBOM = 128,
	ENV_ADVISORIES = 256,
	ENV_POLICY = 512,
	ENV_UV = 1024,
};

struct env {
	unsigned options; /* of enum env_option */
	const char *name;
	const char *python, *file, *advisories, *policy;
	struct paths_list hosts;
	char **words; /* after the name */
	size_t count;
};

/* The actions. Each prints what it did and returns the exit code. */
int env_create(const struct env *env);
int env_update(const struct env *env);
int env_export(const struct env *env);
int env_import(const struct env *env);
int env_list(const struct env *env);
int env_show(const struct env *env);
int env_verify(const struct env *env);
int env_diff(const struct env *env);
int env_audit(const struct env *env);
int env_usage(const struct env *env);
int env_rollback(const struct env *env);
int env_remove(const struct env *env);
int env_gc(const struct env *env);

/* What a build reached and was kept from, a line each. */
void env_say_reached(const json_t *record);
/* Adds `line` (to its end or the text's) to requirements; one for the same distribution goes.
 * Returns 0 or -ENOMEM. */
int env_add_line(char **lines, const char *line);

/* "cellwall env: TEXT" to stderr; returns 1, the exit code. */
int env_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The generation that words[word] names, the current one without; printed words on failure. */
int env_find(const struct env *env, size_t word, struct sealed *ret_sealed);
/* What share/env/packages.py says of the tree to one of its verbs; caller decrefs. Texts in it may
 * hold anything. */
int env_inspect(const struct sealed *sealed, const char *verb, const char *word, const char *input,
		json_t **ret_found, struct err *err);

/* Calls `found` for each line "NAME==VERSION --hash=sha256:HEX" of a lock. Returns 0, a negative
 * errno, or the first number of `found` that is not 0. */
typedef int env_package_fn(void *arg, const char *name, const char *version, const char *hash);
int env_packages(const char *directory, env_package_fn *found, void *arg, struct err *err);

#endif
