/*
 * stage_ls: `cellwall stage ls`, what the next kernel would see and what running ones have.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "kernelspec/inputs.h"
#include "kernelspec/paths.h"
#include "kernelspec/stage_kernels.h"

struct files {
	json_t *list; /* NULL: as text */
	bool failed;
};

static void show_file(void *arg, const struct running_file *file)
{
	struct files *files = arg;
	char path[STAGE_SHOWN], origin[STAGE_SHOWN], size[32];

	if (files->list) {
		if (json_array_append_new(files->list, stage_file_json(file)) < 0)
			files->failed = true;
		return;
	}
	stage_format_size(size, sizeof(size), stage_file_size(file));
	printf("  %-9s %10s  %s", stage_kind(file->kind), size,
	       escape_string(path, sizeof(path), file->path));
	if (file->origin)
		printf("  (%s%s)", file->kind == RUNNING_STAGED ? "from " : "",
		       escape_string(origin, sizeof(origin), file->origin));
	putchar('\n');
}

static void print_kernel(const struct stage_kernel *kernel)
{
	time_t started = (time_t)kernel->started;
	char when[32] = "?", out[STAGE_SHOWN];
	struct tm local;

	if (localtime_r(&started, &local))
		(void)strftime(when, sizeof(when), "%F %T", &local);
	printf("kernel %.*s, since %s, results in %s\n", STAGE_ID, kernel->id, when,
	       escape_string(out, sizeof(out), kernel->out));
}

static json_t *kernel_json(const struct stage_kernel *kernel, json_t *list, bool more)
{
	json_t *object = json_pack("{s:s, s:I, s:b, s:o}", "id", kernel->id, "started",
				   (json_int_t)kernel->started, "more", more, "files", list);

	if (object && stage_json_path(object, "out", kernel->out) < 0) {
		json_decref(object);
		return NULL;
	}
	return object;
}

/* One kernel's files, as text or, unless it is NULL, in `ret_object`. Returns 0 or 1, having said
 * why. */
static int show_kernel(const struct stage *stage, const struct stage_kernel *kernel,
		       json_t **ret_object)
{
	const bool json = ret_object;
	struct files files = {.list = json ? json_array() : NULL};
	struct err err;
	int r;

	if (json && !files.list)
		return stage_fail("out of memory");
	if (!json)
		print_kernel(kernel);
	r = running_files(stage->state, kernel->id, STAGE_FILES_MAX, show_file, &files, &err);
	if (r == -E2BIG && !json)
		printf("  and more than these %d\n", STAGE_FILES_MAX);
	if (r < 0 && r != -E2BIG && r != -ENOENT) {
		json_decref(files.list);
		return stage_fail("kernel %.*s: %s", STAGE_ID, kernel->id, err.text);
	}
	if (json)
		*ret_object = kernel_json(kernel, files.list, r == -E2BIG);
	return json && (!*ret_object || files.failed) ? stage_fail("out of memory") : 0;
}

/* What the next kernel here is given, with its size: one row. */
struct given {
	json_t *list; /* NULL: as text */
	const struct stage *stage;
	const struct inputs *inputs;
	bool failed;
};

static void show_given(struct given *given, const char *name, const char *path, const char *problem)
{
	char shown[STAGE_SHOWN], from[STAGE_SHOWN], bytes[32];
	struct stage_size size = {0};
	json_t *object;

	if (!problem)
		stage_measure(path, &size);
	if (given->list) {
		object = json_pack("{s:I, s:I, s:b, s:b}", "size", (json_int_t)size.bytes, "files",
				   (json_int_t)size.files, "more", size.more, "ok", !problem);
		if (!object || stage_json_path(object, "name", name) < 0 ||
		    stage_json_path(object, "path", path) < 0)
			given->failed = true;
		if (json_array_append_new(given->list, object) < 0)
			given->failed = true;
		return;
	}
	stage_format_size(bytes, sizeof(bytes), size.bytes);
	printf("  %-20s", escape_string(shown, sizeof(shown), name));
	if (problem)
		printf("  NOT STAGED: %s\n", problem);
	else
		printf("  %10s%s  %" PRIu64 " %s%s%s\n", bytes, size.more ? " or more" : "",
		       size.files, size.files == 1 ? "file" : "files",
		       paths_within(path, given->stage->folder) ? "" : "  from ",
		       paths_within(path, given->stage->folder)
			       ? ""
			       : escape_string(from, sizeof(from), path));
}

static int show_entry(void *arg, const char *name)
{
	struct given *given = arg;
	const struct input input = {.name = strdup(name), .real = (char[]){""}};
	cleanup(free_ptr) char *real = NULL, *own = input.name;
	struct err err;

	if (!own)
		return -ENOMEM;
	for (size_t i = 0; i < given->inputs->count; i++)
		if (strcmp(given->inputs->items[i].name, name) == 0)
			return 0; /* said already */
	if (inputs_resolve(given->stage->folder, &input, &real, &err) == 0)
		show_given(given, name, real, NULL);
	return 0;
}

static int show_inputs(struct given *given)
{
	const struct stage *stage = given->stage;
	cleanup(free_ptr) char *in = path_join(stage->folder, "staging/in");
	struct inputs inputs = {0};
	struct err err;
	bool all = false;
	int r = inputs_read(stage->folder, &inputs, &err);

	if (r < 0 || !in)
		return stage_fail("%s", r < 0 ? err.text : "out of memory");
	if (paths_is_directory(in))
		show_given(given, "staging/in", in, NULL);
	for (size_t i = 0; i < inputs.count; i++) {
		const struct input *input = &inputs.items[i];
		cleanup(free_ptr) char *real = NULL;

		if (!input->source && strcmp(input->name, INPUTS_ALL) == 0)
			all = true;
		else if (inputs_resolve(stage->folder, input, &real, &err) < 0)
			show_given(given, input->name, input->real, err.text);
		else if (!inputs_is_staging(input->name))
			show_given(given, input->name, real, NULL);
	}
	given->inputs = &inputs;
	r = all ? inputs_entries(stage->folder, show_entry, given, &err) : 0;
	given->inputs = NULL;
	inputs_done(&inputs);
	return r < 0 ? stage_fail("%s", err.text) : 0;
}

static int ls_text(const struct stage *stage, const struct stage_kernels *kernels)
{
	struct given given = {.stage = stage};
	int code = 0;

	if (!stage->kernel && !(stage->options & STAGE_ALL)) {
		printf("a kernel that is started here now sees\n");
		code = show_inputs(&given);
		printf("  and what its policy names\n");
	}
	for (size_t i = 0; i < kernels->count; i++)
		code |= show_kernel(stage, &kernels->list[i], NULL);
	if (kernels->count == 0 && stage->kernel)
		return stage_fail("no kernel of that name runs: cellwall stage ls --all");
	if (kernels->count == 0)
		printf("no kernel runs%s\n", (stage->options & STAGE_ALL) ? "" : " in this folder");
	return code;
}

int stage_ls(const struct stage *stage)
{
	cleanup(stage_kernels_free_p) struct stage_kernels *kernels = stage_kernels(stage);
	struct given given = {.stage = stage};
	json_t *whole, *list;
	int code;

	if (!kernels)
		return 1;
	if (!(stage->options & STAGE_JSON))
		return ls_text(stage, kernels);
	given.list = json_array();
	list = json_array();
	whole = json_pack("{s:o, s:o}", "inputs", given.list, "kernels", list);
	if (!whole || stage_json_path(whole, "folder", stage->folder) < 0) {
		json_decref(whole);
		return stage_fail("out of memory");
	}
	code = show_inputs(&given);
	for (size_t i = 0; code == 0 && i < kernels->count; i++) {
		json_t *object = NULL;

		code = show_kernel(stage, &kernels->list[i], &object);
		if (code == 0 && json_array_append_new(list, object) < 0)
			code = stage_fail("out of memory");
	}
	if (code == 0 && !given.failed)
		return stage_json_print(whole);
	json_decref(whole);
	return code ? code : stage_fail("out of memory");
}
