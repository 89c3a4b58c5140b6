#include "kernelspec/habits.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "kernelspec/inputs.h"
#include "kernelspec/paths.h"
#include "proxy/limits.h"
#include "sandbox/staging.h"

#define SHOWN	      200
#define STARTUP_PLACE INSIDE_HOME "/.ipython/profile_default/startup"

/*
 * Where libraries keep what they downloaded, and where it is inside. Of Hugging Face's directory
 * only these: the user's token lies beside them.
 */
static const struct cache {
	const char *name;     /* of stage.caches */
	const char *variable; /* moves it */
	const char *part;     /* of what the variable names; NULL: all */
	const char *other;    /* a variable that moves this part alone, or NULL */
	const char *usual;    /* in the home; "$": in $XDG_CACHE_HOME or ~/.cache */
	const char *inside;   /* in the home inside */
	bool quiet;	      /* that it is missing is usual */
} caches[] = {
	{"huggingface", "HF_HOME", "hub", "HF_HUB_CACHE", "$huggingface", ".cache/huggingface",
	 false},
	{"huggingface", "HF_HOME", "datasets", "HF_DATASETS_CACHE", "$huggingface",
	 ".cache/huggingface", true},
	{"huggingface", "HF_HOME", "modules", "HF_MODULES_CACHE", "$huggingface",
	 ".cache/huggingface", true},
	{"nltk", "NLTK_DATA", NULL, NULL, "nltk_data", "nltk_data", false},
	{"sklearn", "SCIKIT_LEARN_DATA", NULL, NULL, "scikit_learn_data", "scikit_learn_data",
	 false},
	{"torch", "TORCH_HOME", NULL, NULL, "$torch", ".cache/torch", false},
};

/* Where they are inside, whatever the server's variables say, and that there is no network to ask.
 */
static const struct {
	const char *cache, *name, *value;
} variables[] = {
	{"huggingface", "HF_HOME", INSIDE_HOME "/.cache/huggingface"},
	{"huggingface", "HF_HUB_OFFLINE", "1"},
	{"huggingface", "TRANSFORMERS_OFFLINE", "1"},
	{"huggingface", "HF_DATASETS_OFFLINE", "1"},
	{"huggingface", "HF_EVALUATE_OFFLINE", "1"},
	{"huggingface", "HF_HUB_DISABLE_TELEMETRY", "1"},
	{"nltk", "NLTK_DATA", INSIDE_HOME "/nltk_data"},
	{"sklearn", "SCIKIT_LEARN_DATA", INSIDE_HOME "/scikit_learn_data"},
	{"torch", "TORCH_HOME", INSIDE_HOME "/.cache/torch"},
};

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

static bool has(char **list, const char *word)
{
	for (; *list; list++)
		if (strcmp(*list, word) == 0)
			return true;
	return false;
}

int habits_variables(const struct policy *policy, bool history, habits_variable_fn *set, void *arg)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(variables) / sizeof(variables[0]); i++)
		if (has(policy->caches, variables[i].cache))
			r = set(arg, variables[i].name, variables[i].value);
	if (r == 0 && history)
		r = set(arg, "CELLWALL_HISTORY", INSIDE_HISTORY);
	return r;
}

/* ---- caches ---- */

/* The first of a list with ":", and "~" is the home. NULL: neither set nor usable, or no memory. */
static char *from_variable(const char *name)
{
	const char *value = name ? getenv(name) : NULL;
	cleanup(free_ptr) char *first = NULL, *home = NULL;

	if (!value || !*value)
		return NULL;
	first = strndup(value, strcspn(value, ":"));
	if (first && (strcmp(first, "~") == 0 || strncmp(first, "~/", 2) == 0)) {
		home = paths_home();
		return home ? format_string("%s%s", home, first + 1) : NULL;
	}
	return first && first[0] == '/' ? steal_ptr(&first) : NULL;
}

/* The directory that a variable may move; caller frees, NULL: no memory. */
static char *cache_home(const struct cache *cache)
{
	cleanup(free_ptr) char *moved = from_variable(cache->variable), *base = NULL, *home = NULL;

	if (moved)
		return steal_ptr(&moved);
	if (cache->usual[0] == '$')
		base = from_variable("XDG_CACHE_HOME");
	if (base)
		return path_join(base, cache->usual + 1);
	home = paths_home();
	if (!home || cache->usual[0] != '$')
		return home ? path_join(home, cache->usual) : NULL;
	return format_string("%s/.cache/%s", home, cache->usual + 1);
}

static char *cache_source(const struct cache *cache)
{
	cleanup(free_ptr) char *moved = from_variable(cache->other), *home = NULL;

	if (moved)
		return steal_ptr(&moved);
	home = cache_home(cache);
	if (!home || !cache->part)
		return steal_ptr(&home);
	return path_join(home, cache->part);
}

static int add_cache(const struct staged *staged, const struct cache *cache, struct err *err)
{
	cleanup(free_ptr) char *source = cache_source(cache), *real = NULL, *target = NULL;
	char shown[SHOWN];
	int r;

	target = format_string(INSIDE_HOME "/%s%s%s", cache->inside, cache->part ? "/" : "",
			       cache->part ? cache->part : "");
	if (!source || !target)
		return no_memory(err);
	escape_string(shown, sizeof(shown), source);
	real = realpath(source, NULL);
	if (!real || !paths_is_directory(real)) {
		if (!cache->quiet)
			staged->notice(staged->arg,
				       format_string("the policy gives the %s cache, but %s is not "
						     "there",
						     cache->name, shown));
		return 0;
	}
	r = inputs_check(staged->folder, real, source, false, err);
	if (r == 0)
		r = staging_check_input(real, STAGE_ENTRIES_MAX, err);
	if (r < 0) {
		staged->notice(staged->arg, format_string("the %s cache is not given: %s",
							  cache->name, err->text));
		return 0;
	}
	return spec_add_overlay(staged->spec, real, target, false) < 0 ? no_memory(err) : 0;
}

/* ---- startup files ---- */

static int add_startup(const struct staged *staged, const char *path, size_t number,
		       struct err *err)
{
	cleanup(free_ptr) char *source =
		path[0] == '/' ? strdup(path) : path_join(staged->folder, path);
	cleanup(free_ptr) char *real = source ? realpath(source, NULL) : NULL, *target = NULL;
	struct stat status;
	char shown[SHOWN];
	int r = 0;

	/* IPython runs them in the order of their names. */
	target = format_string(STARTUP_PLACE "/%02zu-%s", number, paths_name(path));
	if (!source || !target)
		return no_memory(err);
	escape_string(shown, sizeof(shown), source);
	if (!real || stat(real, &status) < 0)
		r = err_set(err, -errno, "%s: %s", shown,
			    errno == ENOENT ? "not there" : strerrordesc_np(errno));
	else if (!S_ISREG(status.st_mode))
		r = err_set(err, -EINVAL, "%s is not a regular file", shown);
	if (r == 0)
		r = inputs_check(staged->folder, real, source, path[0] != '/', err);
	if (r < 0) {
		staged->notice(staged->arg, format_string("not run at the start: %s", err->text));
		return 0;
	}
	return spec_add_bind(staged->spec, real, target, false) < 0 ? no_memory(err) : 0;
}

/* ---- history ---- */

static int add_history(const struct staged *staged, struct err *err)
{
	cleanup(free_ptr) char *directory = NULL;
	int r = inputs_directory(staged->folder, true, &directory, err);

	if (r < 0) {
		staged->notice(staged->arg,
			       format_string("the input history is not kept: %s", err->text));
		return r == -ENOMEM ? r : 0;
	}
	staged->spec->history = path_join(directory, "history.sqlite");
	return staged->spec->history ? 0 : no_memory(err);
}

int habits_fill(const struct staged *staged, struct err *err)
{
	const struct policy *policy = staged->policy;
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(caches) / sizeof(caches[0]); i++)
		if (has(policy->caches, caches[i].name))
			r = add_cache(staged, &caches[i], err);
	for (size_t i = 0; r == 0 && policy->startup[i]; i++)
		r = add_startup(staged, policy->startup[i], i, err);
	if (r == 0 && policy->history)
		r = add_history(staged, err);
	return r;
}
