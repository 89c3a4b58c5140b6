/*
 * env_build: one build of an environment, from what is wanted to a generation in the store.
 *
 * The build runs in cellwall-sandbox with nothing staged, an empty home and no network but a relay
 * to the package index (egress.h); what it made comes back as one file (bundle.h) and is sealed
 * (sealed.h). Prints what the build prints, made safe, line by line.
 */
#ifndef KERNELSPEC_ENV_BUILD_H
#define KERNELSPEC_ENV_BUILD_H

#include <stdbool.h>

#include <jansson.h>

#include "kernelspec/paths.h"
#include "kernelspec/prefix.h"
#include "proxy/policy.h"
#include "sandbox/base.h"

#define ENV_NOTHING 3 /* exit code of a build that finds everything there */

/* What a notebook's kernel runs from, and what its cells have had installed already. */
struct env_base {
	const struct prefix *prefix; /* of the kernel's Python */
	const char *tree;	     /* of the sealed environment it is, or NULL */
	const char *hash;	     /* of that tree, or NULL */
	const char *name;	     /* of that, or the path of the Python */
	const char *folder;
	uint64_t number;	   /* of the last generation; 0: there is none */
	const char *before, *lock; /* its tree and lock, or NULL */
	const char *requirements;  /* all that was ever asked for, for the record */
	bool upgrade;
	bool changed; /* since the last generation, which is fitted to it */
};

struct env_wanted {
	const char *name;
	const char *python;	  /* a path or a name in PATH */
	const char *requirements; /* the text of a requirements file */
	bool locked;		  /* it is a lock: nothing without a hash is taken */
	bool uv;    /* it resolves and installs, where the host has one; without a base it must */
	bool quiet; /* the build's output is shown only when it fails */
	const struct paths_list *hosts; /* URLs of more hosts that may be reached */
	/* Whether anything is built, which hosts, and its limits; NULL: the default. */
	const struct policy *policy;
	const struct env_base *base; /* what is added to it is built, see added.h; or NULL */
};

/*
 * Builds and commits. Returns the number of the generation; 0: a base has it all; -EINTR when it
 * was interrupted; or another negative errno (-EBUSY: somebody else builds it, or built more on the
 * base meanwhile; the build's own words were printed). `ret_record` (caller decrefs, set also on
 * failure of the build itself, else NULL) says what was reached and refused.
 */
int64_t env_build(const struct env_wanted *wanted, json_t **ret_record, struct err *err);

/* Says in a record who made it on this host and when; nothing was reached. 0 or -ENOMEM. */
int env_record_sign(json_t *record);

#endif
