/*
 * env_audit: `cellwall env audit` and `usage`. What packages say of themselves, and advisories, are
 * shown escaped.
 */
#include <errno.h>
#include <inttypes.h>

#include "kernelspec/env.h"
#include "kernelspec/stage.h"
#include "proxy/imported.h"

static const char *escaped(const json_t *from, const char *key, char *out, size_t size)
{
	const char *text = json_string_value(json_object_get(from, key));

	return escape_string(out, size, text ? text : "");
}

/* " (CVE-2024-1, PYSEC-2)", or nothing. */
static void print_list(const char *before, const json_t *list, const char *after)
{
	const json_t *one;
	size_t i;

	if (json_array_size(list) == 0)
		return;
	fputs(before, stdout);
	json_array_foreach(list, i, one)
	{
		char shown[128];

		printf("%s%s", i > 0 ? ", " : "",
		       escape_string(shown, sizeof(shown), json_string_value(one)));
	}
	fputs(after, stdout);
}

static void print_advisory(const json_t *one)
{
	char package[256], version[128], id[128], summary[512];

	printf("%s %s: %s", escaped(one, "package", package, sizeof(package)),
	       escaped(one, "version", version, sizeof(version)),
	       escaped(one, "id", id, sizeof(id)));
	print_list(" (", json_object_get(one, "aliases"), ")");
	if (escaped(one, "summary", summary, sizeof(summary))[0])
		printf(": %s", summary);
	print_list("; fixed in ", json_object_get(one, "fixed"), "");
	printf("%s\n", json_is_true(json_object_get(one, "certain"))
			       ? ""
			       : "; its versions cannot be compared: look yourself");
}

int env_audit(const struct env *env)
{
	struct sealed sealed;
	struct err err = {0};
	json_t *result = NULL;
	const json_t *found, *one;
	char newest[64];
	size_t i, count;
	int r;

	if (env_find(env, 0, &sealed) < 0)
		return 1;
	r = env_inspect(&sealed, "audit", env->advisories, NULL, &result, &err);
	sealed_done(&sealed);
	if (r < 0)
		return env_fail("%s", err.text);
	found = json_object_get(result, "found");
	count = json_array_size(found);
	if (env->options & ENV_JSON) {
		r = stage_json_print(result);
		return r != 0 ? r : count > 0;
	}
	json_array_foreach(found, i, one) print_advisory(one);
	printf("%zu advisories for %" JSON_INTEGER_FORMAT " packages, of %" JSON_INTEGER_FORMAT
	       " looked at, the newest of %s\n",
	       count, json_integer_value(json_object_get(result, "packages")),
	       json_integer_value(json_object_get(result, "advisories")),
	       escaped(result, "newest", newest, sizeof(newest)));
	json_decref(result);
	return count > 0;
}

/* ---- usage ---- */

/* Written so that it can be given to `env create -r`. */
static void print_usage(const char *name, const json_t *said, const json_t *found)
{
	const json_t *one;
	char shown[256];
	size_t i;

	printf("# %s: what %" JSON_INTEGER_FORMAT " kernels said at their end that they imported, "
	       "with what it needs\n",
	       name, json_integer_value(json_object_get(said, "runs")));
	print_list("# not needed by it: ", json_object_get(found, "unused"), "\n");
	print_list("# not of this environment: ", json_object_get(found, "unknown"), "\n");
	json_array_foreach(json_object_get(found, "requirements"), i, one)
		printf("%s\n", escape_string(shown, sizeof(shown), json_string_value(one)));
}

int env_usage(const struct env *env)
{
	cleanup(free_ptr) char *path = sealed_usage(env->name), *modules = NULL;
	json_t *said = NULL, *found = NULL;
	struct sealed sealed;
	struct err err = {0};
	int r;

	if (env_find(env, 0, &sealed) < 0)
		return 1;
	r = path ? imported_read(path, &said) : -ENOMEM;
	if (r < 0)
		r = err_set(&err, r,
			    "no kernel of yours that ran from \"%s\" has said yet what it imported",
			    env->name);
	if (r == 0) {
		modules = json_dumps(json_object_get(said, "modules"), JSON_COMPACT);
		r = modules ? 0 : err_set(&err, -ENOMEM, "out of memory");
	}
	if (r == 0)
		r = env_inspect(&sealed, "cover", NULL, modules, &found, &err);
	sealed_done(&sealed);
	if (r < 0)
		env_fail("%s", err.text);
	else if (env->options & ENV_JSON)
		r = stage_json_print(json_pack("{s:s, s:O, s:O, s:O}", "name", env->name, "runs",
					       json_object_get(said, "runs"), "modules",
					       json_object_get(said, "modules"), "found", found));
	else
		print_usage(env->name, said, found);
	json_decref(said);
	json_decref(found);
	return r == 0 ? 0 : 1;
}
