/*
 * staged: which host paths a launch puts into /work: staging/in, what the policy names, what
 * `cellwall stage add` recorded for the folder and the policy lets be added, and the results of
 * earlier runs.
 *
 * In: the policy, the notebook's folder. Out: stages and overlays of the spec, every link resolved
 * once. What is not there is a notice; what is marked required, and a tree with a socket, fifo or
 * device in it, fails the launch. Foreign names in texts are escaped. Reads the disk; never logs.
 */
#ifndef KERNELSPEC_STAGED_H
#define KERNELSPEC_STAGED_H

#include "proxy/policy.h"
#include "sandbox/spec.h"

/* Takes over `text`, which may be NULL (no memory). */
typedef void staged_notice_fn(void *arg, char *text);

struct staged_places {
	char *in;  /* NULL: there is none */
	char *out; /* need not exist */
};
/*
 * Where inputs and results are, every link resolved: in `option` (of --stage, NULL: staging) in
 * `folder`. A link that leads out of the folder, or out of `option`, must have been agreed to
 * (inputs_is_staging). Caller frees with staged_places_done. Returns 0 or a negative errno with
 * words.
 */
int staged_find(const char *folder, const char *option, struct staged_places *ret_places,
		struct err *err);
void staged_places_done(struct staged_places *places);

struct staged {
	struct spec *spec; /* borrowed, as all of these */
	const struct policy *policy;
	const char *folder; /* getcwd(3) */
	const struct staged_places *places;
	staged_notice_fn *notice;
	void *arg;
};

/* Fills spec->stages. Returns 0 or a negative errno with words. */
int staged_inputs(const struct staged *staged, struct err *err);
/* Adds the overlay that makes the present content of places->out visible, and the policy's names.
 * Returns 0 or a negative errno with words. */
int staged_results(const struct staged *staged, struct err *err);

#endif
