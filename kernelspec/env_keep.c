/*
 * env_keep: `cellwall env rollback`, `remove` and `gc`.
 */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "kernelspec/env.h"
#include "kernelspec/sealed.h"

struct earlier {
	uint64_t current, before;
};

static int find_earlier(void *arg, const char *name, uint64_t number, bool current,
			const json_t *record)
{
	struct earlier *earlier = arg;

	(void)name;
	(void)record;
	if (current)
		earlier->current = number;
	else if (earlier->current == 0)
		earlier->before = number;
	return 0;
}

/* It is there, with its tree, and nobody removes it or chooses another meanwhile. 0: the one before
 * the current one. */
static int choose(const char *name, uint64_t *number, struct err *err)
{
	struct earlier earlier = {0, 0};
	struct sealed_build build;
	struct sealed sealed;
	int r = sealed_begin(name, &build, err);

	if (r < 0)
		return r;
	if (*number == 0) {
		(void)sealed_each(build.store, name, find_earlier, &earlier);
		*number = earlier.before;
	}
	r = *number == 0
		    ? err_set(err, -ENOENT, "\"%s\" has no generation before the current one", name)
		    : sealed_find(name, *number, false, &sealed, err);
	if (r == 0) {
		r = sealed_choose(sealed.store, name, *number, err);
		sealed_done(&sealed);
	}
	sealed_abandon(&build);
	return r;
}

int env_rollback(const struct env *env)
{
	struct sealed sealed;
	struct err err = {0};
	int r = sealed_find(env->name, 0, false, &sealed, &err);
	uint64_t number = 0;

	if (r < 0)
		return env_fail("%s", err.text);
	sealed_done(&sealed);
	if (env->count > 0 && (parse_u64(env->words[0], INT64_MAX, &number) < 0 || number == 0))
		return env_fail("a generation is a number: see cellwall env show %s", env->name);
	if (choose(env->name, &number, &err) < 0)
		return env_fail("%s", err.text);
	printf("%s: generation %" PRIu64 "; kernels that start now get it\n", env->name, number);
	return 0;
}

static int collect(struct err *err)
{
	cleanup(free_ptr) char *store = NULL;
	uint64_t removed = 0;
	int r = sealed_store(&store, err);

	if (r == 0)
		r = sealed_collect(store, &removed, err);
	if (r == 0)
		printf("removed %" PRIu64 " trees and wheels that nothing uses\n", removed);
	return r;
}

int env_remove(const struct env *env)
{
	struct sealed_build build;
	struct sealed sealed;
	struct err err = {0};
	int r = sealed_find(env->name, 0, false, &sealed, &err);

	if (r < 0)
		return env_fail("%s", err.text);
	sealed_done(&sealed);
	/* Under the lock of a build: nobody adds a generation meanwhile. */
	r = sealed_begin(env->name, &build, &err);
	if (r == 0) {
		cleanup(free_ptr) char *usage = sealed_usage(env->name);

		r = sealed_forget(build.store, env->name, &err);
		if (usage)
			(void)unlink(usage);
		sealed_abandon(&build);
	}
	if (r < 0)
		return env_fail("%s", err.text);
	printf("removed %s\n", env->name);
	r = collect(&err);
	if (r == -EBUSY)
		printf("another environment is being built: cellwall env gc, when that is done, "
		       "frees the room\n");
	return r < 0 && r != -EBUSY ? env_fail("%s", err.text) : 0;
}

int env_gc(const struct env *env)
{
	struct err err = {0};

	(void)env;
	return collect(&err) < 0 ? env_fail("%s", err.text) : 0;
}
