/*
 * stage_kernels: the kernels that run, for the actions of `cellwall stage` that look into them.
 * Says on stderr what is wrong. Used by stage_ls.c, stage_diff.c and stage_copy.c.
 */
#ifndef KERNELSPEC_STAGE_KERNELS_H
#define KERNELSPEC_STAGE_KERNELS_H

#include "kernelspec/stage.h"
#include "sandbox/running.h"

#define STAGE_KERNELS_MAX 256
#define STAGE_FILES_MAX	  10000 /* of one kernel */
#define STAGE_ID	  8	/* hex digits of a kernel's name: enough for a person */

struct stage_kernel {
	char *id, *out;
	int64_t started;
};

struct stage_kernels {
	const struct stage *stage;
	struct stage_kernel list[STAGE_KERNELS_MAX];
	size_t count;
	bool failed;
};

void stage_kernels_free(struct stage_kernels *kernels); /* accepts NULL */
DEFINE_CLEANUP(struct stage_kernels *, stage_kernels_free)
/* Those of this folder, of --kernel, or all. NULL: said why. */
struct stage_kernels *stage_kernels(const struct stage *stage);
/* The one kernel that is meant. NULL: said why. */
struct stage_kernels *stage_kernel(const struct stage *stage);

/* The word for it. */
const char *stage_kind(enum running_kind kind);
/* A path as people write it: /work/x and ./x are x. Points into `word`. */
const char *stage_inside(const char *word);
/* Its bytes; of a staged directory, of all in it. */
uint64_t stage_file_size(const struct running_file *file);
/* kind, size, path and origin; NULL: no memory. */
json_t *stage_file_json(const struct running_file *file);

#endif
