#include "kernelspec/env_plan.h"

#include <errno.h>
#include <string.h>

#include "kernelspec/files.h"
#include "kernelspec/limits.h"
#include "kernelspec/variables.h"
#include "proxy/connection.h"

#define ENV_SIZE_MAX (100u * 1024) /* of one variable: MAX_ARG_STRLEN is 128 KiB */

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

/* The base at its own places, and what was added to it. */
static int fill_base(struct env_plan *plan)
{
	const struct env_base *base = plan->wanted->base;
	struct spec *spec = &plan->spec;

	if (base && base->tree && spec_add_bind(spec, base->tree, INSIDE_ENVIRONMENT, true) < 0)
		return no_memory(plan->err);
	if (base && base->before && spec_add_bind(spec, base->before, INSIDE_BEFORE, true) < 0)
		return no_memory(plan->err);
	return 0;
}

/* A kernel's cell that says uv means packages: pip has the same. */
static int find_uv(struct env_plan *plan)
{
	const struct env_base *base = plan->wanted->base;
	cleanup(free_ptr) char *beside = base && base->tree ? path_join(base->tree, "bin")
							    : paths_parent(plan->from->executable);

	if (!beside)
		return no_memory(plan->err);
	plan->uv = prefix_program("uv", beside);
	if (!plan->uv && !base)
		return err_set(plan->err, -ENOENT,
			       "there is no uv in PATH or beside %s: install it, or leave --uv out",
			       plan->from->executable);
	if (!plan->uv)
		printf("there is no uv on this host: pip builds\n");
	return 0;
}

static int fill_program(struct env_plan *plan)
{
	cleanup(free_ptr) char *share = NULL;
	struct spec *spec = &plan->spec;
	int r = files_share("env", &share, plan->err);

	if (r < 0)
		return r;
	if (spec_add_argv(spec, plan->from->executable) < 0 || spec_add_argv(spec, "-I") < 0 ||
	    spec_add_argv(spec, plan->wanted->base ? "/cellwall-build/add.py"
						   : "/cellwall-build/build.py") < 0 ||
	    spec_add_bind(spec, share, "/cellwall-build", true) < 0 ||
	    (plan->uv && spec_add_bind(spec, plan->uv, "/cellwall-uv", true) < 0))
		return no_memory(plan->err);
	for (char **path = plan->from->paths; path && *path; path++) {
		cleanup(free_ptr) char *real = paths_real(*path);

		if (!real || spec_add_bind(spec, real, real, true) < 0 ||
		    (strcmp(real, *path) != 0 && spec_add_bind(spec, real, *path, true) < 0))
			return no_memory(plan->err);
	}
	return fill_base(plan);
}

/*
 * The cache is what earlier builds said it is. pip compares a file that is there with a hash only
 * where it has one: that of a lock, or of an index that names one for every file, as PyPI does.
 */
static bool all_hashed(const struct env_plan *plan)
{
	static const char *const known[] = {"pypi.org", "files.pythonhosted.org", "test.pypi.org",
					    "test-files.pythonhosted.org"};

	if (plan->wanted->locked)
		return true;
	if (plan->index.directories.count > 0 || strstr(plan->wanted->requirements, "://"))
		return false;
	for (size_t i = 0; i < plan->index.egress.count; i++) {
		bool found = false;

		for (size_t j = 0; j < sizeof(known) / sizeof(known[0]); j++)
			found = found || strcmp(plan->index.egress.hosts[i].name, known[j]) == 0;
		if (!found)
			return false;
	}
	return true;
}

static int fill_wanted(struct env_plan *plan)
{
	const struct env_base *base = plan->wanted->base;
	cleanup(free_ptr) char *text = NULL, *assignment = NULL, *wheels = NULL;
	json_t *wanted = json_pack("{s:s, s:b, s:b}", "requirements", plan->wanted->requirements,
				   "locked", plan->wanted->locked ? 1 : 0, "uv", plan->uv ? 1 : 0);

	if (base && wanted &&
	    (json_object_set_new(wanted, "upgrade", json_boolean(base->upgrade)) < 0 ||
	     json_object_set_new(wanted, "changed", json_boolean(base->changed)) < 0 ||
	     json_object_set_new(wanted, "lock", json_string(base->lock ? base->lock : "")) < 0)) {
		json_decref(wanted);
		return no_memory(plan->err);
	}
	text = wanted ? json_dumps(wanted, JSON_COMPACT) : NULL;
	json_decref(wanted);
	assignment = text ? format_string("CELLWALL_BUILD=%s", text) : NULL;
	wheels = format_string("%s/wheels", plan->sealed.store);
	if (!assignment || !wheels)
		return err_set(plan->err, -EINVAL, "the requirements are no UTF-8");
	if (strlen(assignment) > ENV_SIZE_MAX)
		return err_set(plan->err, -E2BIG, "the requirements are longer than %u bytes",
			       ENV_SIZE_MAX);
	if (variables_fill(&plan->spec, &plan->policy, plan->from->executable) < 0 ||
	    variables_set(&plan->spec, assignment) < 0 ||
	    variables_set(&plan->spec, "SOURCE_DATE_EPOCH=315532800") < 0 ||
	    variables_set(&plan->spec, "PYTHONHASHSEED=0") < 0 ||
	    (all_hashed(plan) && spec_add_bind(&plan->spec, wheels, "/cellwall-wheels", true) < 0))
		return no_memory(plan->err);
	return index_fill(&plan->index, &plan->spec) < 0 ? no_memory(plan->err) : 0;
}

static int fill_places(struct env_plan *plan)
{
	struct spec *spec = &plan->spec;
	char key[65];
	int r = random_hex(key, 32);

	limits_fill(spec, plan->rules);
	spec->landlock = 0; /* the way to the index lies in a network namespace */
	spec->out_bytes = plan->rules->build_size;
	spec->out_files = 1;
	spec->state = path_join(plan->sealed.directory, "private");
	spec->out = path_join(plan->sealed.directory, "out");
	spec->connection = r < 0 ? NULL : connection_inner(key, "build");
	if (!spec->state || !spec->out || !spec->connection)
		return no_memory(plan->err);
	r = make_directories(spec->state, 0700, plan->err);
	if (r == 0)
		r = files_part("cellwall-relay", &spec->relay, plan->err);
	if (r == 0)
		r = files_part("cellwall-sandbox", &plan->sandbox, plan->err);
	return r;
}

/* The requirements are kept where everybody may read them. */
static bool has_credentials(const char *text)
{
	while ((text = strstr(text, "://"))) {
		text += 3;
		if (text[strcspn(text, "/?#@ \t\r\n")] == '@')
			return true;
	}
	return false;
}

/* Under the lock of the name: what is added goes on top of the newest, or that would be lost. */
static int check_newest(const struct env_plan *plan)
{
	const struct env_base *base = plan->wanted->base;
	uint64_t number = 0;
	struct sealed sealed;

	if (!base)
		return 0;
	if (sealed_find(plan->wanted->name, 0, false, &sealed, NULL) == 0) {
		number = sealed.number;
		sealed_done(&sealed);
	}
	return number == base->number ? 0
				      : err_set(plan->err, -EBUSY,
						"\"%s\" was changed by another cellwall: try again",
						plan->wanted->name);
}

static int fill(struct env_plan *plan)
{
	int r = policy_default(&plan->policy);

	if (r < 0)
		return no_memory(plan->err);
	plan->rules = plan->wanted->policy ? plan->wanted->policy : &plan->policy;
	if (!plan->rules->build)
		return err_set(plan->err, -EACCES,
			       "the policy lets nobody build environments (build.allow)");
	if (has_credentials(plan->wanted->requirements))
		return err_set(plan->err, -EINVAL,
			       "the requirements hold a user name or password: such a URL belongs "
			       "into pip's configuration (pip.conf)");
	plan->from = plan->wanted->base ? plan->wanted->base->prefix : &plan->prefix;
	if (!plan->wanted->base)
		r = prefix_find(plan->wanted->python, &plan->prefix, plan->err);
	if (r == 0 && !plan->from->python)
		r = err_set(plan->err, -EINVAL, "%s is no Python", plan->from->executable);
	if (r == 0)
		r = index_read(plan->wanted->hosts, &plan->index, plan->err);
	if (r == 0 && plan->rules->build_hosts)
		r = index_narrow(&plan->index, plan->rules->build_hosts, plan->err);
	if (r == 0)
		r = sealed_begin(plan->wanted->name, &plan->sealed, plan->err);
	if (r == 0)
		r = check_newest(plan);
	if (r == 0 && plan->wanted->uv)
		r = find_uv(plan);
	if (r == 0)
		r = fill_program(plan);
	if (r == 0)
		r = fill_wanted(plan);
	if (r == 0)
		r = fill_places(plan);
	return r;
}

static int add_words(json_t *sources, const char *words, bool one)
{
	while (*(words += strspn(words, " "))) {
		const size_t size = strcspn(words, one ? "" : " ");
		cleanup(free_ptr) char *word = strndup(words, size);
		cleanup(free_ptr) char *shown = word ? index_shown(word) : NULL;

		if (!shown || json_array_append_new(sources, json_string(shown)) < 0)
			return -ENOMEM;
		words += size;
	}
	return 0;
}

json_t *env_plan_sources(const struct env_plan *plan)
{
	static const char *const names[] = {
		"PIP_INDEX_URL=", "PIP_EXTRA_INDEX_URL=", "PIP_FIND_LINKS="};
	const struct paths_list *variables = &plan->index.variables;
	json_t *sources = json_array();

	for (size_t i = 0; sources && i < variables->count; i++) {
		for (size_t j = 0; j < sizeof(names) / sizeof(names[0]); j++) {
			const size_t size = strlen(names[j]);

			if (strncmp(variables->items[i], names[j], size) == 0 &&
			    add_words(sources, variables->items[i] + size, j == 0) < 0) {
				json_decref(sources);
				return NULL;
			}
		}
	}
	return sources;
}

int env_plan_make(const struct env_wanted *wanted, struct env_plan *plan, struct err *err)
{
	int r;

	*plan = (struct env_plan)ENV_NO_PLAN;
	plan->wanted = wanted;
	plan->err = err;
	r = fill(plan);
	if (r < 0)
		env_plan_done(plan);
	return r;
}

void env_plan_done(struct env_plan *plan)
{
	sealed_abandon(&plan->sealed);
	index_done(&plan->index);
	prefix_done(&plan->prefix);
	policy_done(&plan->policy);
	spec_done(&plan->spec);
	free(plan->sandbox);
	free(plan->uv);
	*plan = (struct env_plan)ENV_NO_PLAN;
}
