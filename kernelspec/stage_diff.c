/*
 * stage_diff: `cellwall stage diff`, what running kernels have that is not in staging/out as it is.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/difference.h"
#include "kernelspec/paths.h"
#include "kernelspec/stage_kernels.h"

struct changes {
	const struct stage *stage;
	const struct stage_kernel *kernel;
	json_t *list;  /* NULL: as text */
	int directory; /* for copies */
	uint64_t shown;
	bool failed;
};

/* Stops a copy that is more than is compared. */
static bool not_too_large(void *arg, uint64_t done, uint64_t size)
{
	(void)arg;
	return done <= DIFFERENCE_MAX && size <= DIFFERENCE_MAX;
}

/* What the kernel has, by way of a copy. Caller frees. */
static int read_inside(const struct changes *changes, const char *path, char **ret_text,
		       size_t *ret_size)
{
	struct err err;
	int r = running_get(changes->stage->state, changes->kernel->id, path, changes->directory,
			    "copy", not_too_large, NULL, &err);

	if (r == 0)
		r = read_file(changes->directory, "copy", DIFFERENCE_MAX, ret_text, ret_size, &err);
	(void)unlinkat(changes->directory, "copy", 0);
	return r;
}

/* The path in staging/out that the collector gives it; caller frees. */
static char *collected_path(const struct changes *changes, const char *path)
{
	static const char out[] = "staging/out/";

	if (strncmp(path, out, sizeof(out) - 1) == 0)
		path += sizeof(out) - 1;
	return path_join(changes->kernel->out, path);
}

/* What is in staging/out; empty when it is not there. Caller frees. */
static int read_collected(const struct changes *changes, const char *path, char **ret_text,
			  size_t *ret_size)
{
	cleanup(free_ptr) char *whole = collected_path(changes, path);
	struct stat status;
	struct err err;

	if (!whole)
		return -ENOMEM;
	if (stat(whole, &status) < 0) {
		*ret_size = 0;
		*ret_text = calloc(1, 1);
		return *ret_text ? 0 : -ENOMEM;
	}
	/* Opening a fifo would wait for ever. */
	if (!S_ISREG(status.st_mode))
		return -EINVAL;
	return read_file(AT_FDCWD, whole, DIFFERENCE_MAX, ret_text, ret_size, &err);
}

static void compare(struct changes *changes, const struct running_file *file)
{
	cleanup(free_ptr) char *before = NULL, *after = NULL;
	char path[STAGE_SHOWN], size[32];
	size_t before_size = 0, after_size = 0;
	int r = 0;

	escape_string(path, sizeof(path), file->path);
	stage_format_size(size, sizeof(size), file->size);
	if (file->kind == RUNNING_NEW && changes->stage->count == 0) {
		printf("new: %s (%s)\n", path, size);
		return;
	}
	if (file->size > DIFFERENCE_MAX)
		r = -EFBIG;
	if (r == 0)
		r = read_collected(changes, file->path, &before, &before_size);
	if (r == 0)
		r = read_inside(changes, file->path, &after, &after_size);
	if (r == -ENOENT)
		return; /* gone meanwhile */
	if (r == -EFBIG || r == -ECANCELED) {
		printf("changed: %s (%s, too large to be compared here)\n", path, size);
		return;
	}
	if (r == 0 && before_size == after_size && memcmp(before, after, after_size) == 0)
		return;
	printf("--- staging/out: %s\n+++ kernel %.*s: %s\n", path, STAGE_ID, changes->kernel->id,
	       path);
	if (r == 0)
		r = difference_print(stdout, before, before_size, after, after_size);
	if (r < 0) {
		printf("(cannot be compared: %s)\n", strerrordesc_np(-r));
		changes->failed = true;
	}
}

static bool is_named(const struct stage *stage, const char *path)
{
	for (size_t i = 0; i < stage->count; i++)
		if (paths_within(path, stage_inside(stage->words[i])))
			return true;
	return stage->count == 0;
}

static void take_change(void *arg, const struct running_file *file)
{
	struct changes *changes = arg;

	if ((file->kind != RUNNING_NEW && file->kind != RUNNING_CHANGED) ||
	    !is_named(changes->stage, file->path))
		return;
	changes->shown++;
	if (changes->list) {
		json_t *object = stage_file_json(file);

		if (!object ||
		    json_object_set_new(object, "kernel", json_string(changes->kernel->id)) < 0)
			changes->failed = true;
		if (json_array_append_new(changes->list, object) < 0)
			changes->failed = true;
		return;
	}
	compare(changes, file);
}

static int diff_kernels(struct changes *changes, const struct stage_kernels *kernels)
{
	struct err err;
	int code = 0;

	for (size_t i = 0; i < kernels->count; i++) {
		int r;

		changes->kernel = &kernels->list[i];
		r = running_files(changes->stage->state, changes->kernel->id, STAGE_FILES_MAX,
				  take_change, changes, &err);
		if (r < 0 && r != -ENOENT)
			code = stage_fail("kernel %.*s: %s", STAGE_ID, changes->kernel->id,
					  r == -E2BIG ? "more files than are looked at" : err.text);
	}
	if (changes->failed)
		code = 1;
	return code;
}

/* A private place for copies. Returns its path (caller frees and removes it) or NULL. */
static char *make_scratch(void)
{
	const char *tmp = getenv("TMPDIR");
	cleanup(free_ptr) char *path =
		path_join(tmp && tmp[0] == '/' ? tmp : "/tmp", "cellwall-diff-XXXXXX");

	return path && mkdtemp(path) ? steal_ptr(&path) : NULL;
}

int stage_diff(const struct stage *stage)
{
	cleanup(stage_kernels_free_p) struct stage_kernels *kernels = stage_kernels(stage);
	const bool json = stage->options & STAGE_JSON;
	struct changes changes = {.stage = stage, .directory = -1};
	cleanup(free_ptr) char *scratch = NULL;
	int code;

	if (!kernels)
		return 1;
	if (json)
		changes.list = json_array();
	else
		scratch = make_scratch();
	if (scratch)
		changes.directory = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (json ? !changes.list : changes.directory < 0)
		return stage_fail("no place for copies: %s", strerrordesc_np(errno));
	code = diff_kernels(&changes, kernels);
	close_fd(&changes.directory);
	if (scratch)
		(void)rmdir(scratch);
	if (json)
		return stage_json_print(changes.list) | code;
	if (kernels->count == 0)
		printf("no kernel runs in this folder\n");
	else if (changes.shown == 0)
		printf("nothing differs from staging/out\n");
	return code;
}
