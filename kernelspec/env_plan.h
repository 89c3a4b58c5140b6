/*
 * env_plan: how one build of an environment is to run, before any of it does: where packages come
 * from, the spec of its sandbox, and its place in the store, which is held from here on.
 */
#ifndef KERNELSPEC_ENV_PLAN_H
#define KERNELSPEC_ENV_PLAN_H

#include "kernelspec/env_build.h"
#include "kernelspec/index.h"
#include "kernelspec/prefix.h"
#include "kernelspec/sealed.h"
#include "proxy/policy.h"
#include "sandbox/spec.h"

struct env_plan {
	const struct env_wanted *wanted; /* borrowed */
	struct sealed_build sealed;
	struct index index;
	struct policy policy; /* the default: nothing of another's reaches a build but its rules */
	const struct policy *rules;
	struct prefix prefix; /* of wanted->python */
	const struct prefix *from;
	char *uv; /* NULL: pip */
	struct spec spec;
	char *sandbox;
	struct err *err; /* borrowed */
};

#define ENV_NO_PLAN                                                                                \
	{                                                                                          \
		.sealed = SEALED_NO_BUILD                                                          \
	}

/* Returns 0 or a negative errno with words, and then nothing is held. */
int env_plan_make(const struct env_wanted *wanted, struct env_plan *plan, struct err *err);
/* Where packages come from, for the record, which everybody may read: as index_shown has it. A JSON
 * array; NULL: no memory. */
json_t *env_plan_sources(const struct env_plan *plan);
/* Gives back what it holds, and removes what was not committed. */
void env_plan_done(struct env_plan *plan);

#endif
