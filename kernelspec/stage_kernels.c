#include "kernelspec/stage_kernels.h"

#include <string.h>

#include "sandbox/spec.h"

void stage_kernels_free(struct stage_kernels *kernels)
{
	for (size_t i = 0; kernels && i < kernels->count; i++) {
		free(kernels->list[i].id);
		free(kernels->list[i].out);
	}
	free(kernels);
}

static void take_kernel(void *arg, const struct running_kernel *found)
{
	struct stage_kernels *kernels = arg;
	const char *wanted = kernels->stage->kernel;
	struct stage_kernel *kernel = &kernels->list[kernels->count];

	if (kernels->count == STAGE_KERNELS_MAX ||
	    (wanted && strncmp(found->id, wanted, strlen(wanted)) != 0))
		return;
	*kernel = (struct stage_kernel){
		.id = strdup(found->id), .out = strdup(found->out), .started = found->started};
	kernels->count++;
	kernels->failed = kernels->failed || !kernel->id || !kernel->out;
}

struct stage_kernels *stage_kernels(const struct stage *stage)
{
	cleanup(stage_kernels_free_p) struct stage_kernels *kernels = calloc(1, sizeof(*kernels));
	const bool any = stage->kernel || (stage->options & STAGE_ALL);
	struct err err;

	if (!kernels) {
		(void)stage_fail("out of memory");
		return NULL;
	}
	kernels->stage = stage;
	if (running_list(stage->state, any ? NULL : stage->out, take_kernel, kernels, &err) < 0) {
		(void)stage_fail("%s", err.text);
		return NULL;
	}
	if (kernels->failed) {
		(void)stage_fail("out of memory");
		return NULL;
	}
	return steal_ptr(&kernels);
}

static void say_several(const struct stage_kernels *kernels)
{
	char out[STAGE_SHOWN];

	(void)stage_fail("%zu kernels run%s: say which with --kernel", kernels->count,
			 kernels->stage->kernel ? "" : " in this folder");
	for (size_t i = 0; i < kernels->count; i++)
		fprintf(stderr, "  --kernel %.*s  %s\n", STAGE_ID, kernels->list[i].id,
			escape_string(out, sizeof(out), kernels->list[i].out));
}

struct stage_kernels *stage_kernel(const struct stage *stage)
{
	cleanup(stage_kernels_free_p) struct stage_kernels *kernels = stage_kernels(stage);

	if (!kernels)
		return NULL;
	if (kernels->count == 1)
		return steal_ptr(&kernels);
	if (kernels->count > 1)
		say_several(kernels);
	else if (stage->kernel)
		(void)stage_fail("no kernel of that name runs: cellwall stage ls --all");
	else
		(void)stage_fail("no kernel runs in this folder");
	return NULL;
}

const char *stage_kind(enum running_kind kind)
{
	switch (kind) {
	case RUNNING_STAGED:
		return "staged";
	case RUNNING_NEW:
		return "new";
	case RUNNING_CHANGED:
		return "changed";
	case RUNNING_COLLECTED:
		return "collected";
	case RUNNING_REFUSED:
		return "refused";
	}
	return "?";
}

const char *stage_inside(const char *word)
{
	static const char work[] = INSIDE_WORK "/";

	if (strncmp(word, work, sizeof(work) - 1) == 0)
		word += sizeof(work) - 1;
	while (strncmp(word, "./", 2) == 0)
		word += 2;
	return word;
}

uint64_t stage_file_size(const struct running_file *file)
{
	struct stage_size size;

	if (file->kind != RUNNING_STAGED || !file->origin)
		return file->size;
	stage_measure(file->origin, &size);
	return size.bytes;
}

json_t *stage_file_json(const struct running_file *file)
{
	json_t *object = json_pack("{s:s, s:I}", "kind", stage_kind(file->kind), "size",
				   (json_int_t)stage_file_size(file));

	if (!object || stage_json_path(object, "path", file->path) < 0 ||
	    (file->origin && stage_json_path(object, "origin", file->origin) < 0)) {
		json_decref(object);
		return NULL;
	}
	return object;
}
