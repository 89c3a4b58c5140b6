/*
 * stage_copy: `cellwall stage get` and `put`, files out of a running kernel and into it.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/paths.h"
#include "kernelspec/stage_kernels.h"
#include "sandbox/spec.h"

static void say_copied(const char *what, const char *from, const char *to)
{
	char one[STAGE_SHOWN], other[STAGE_SHOWN];

	printf("%s %s to %s\n", what, escape_string(one, sizeof(one), from),
	       escape_string(other, sizeof(other), to));
}

int stage_get(const struct stage *stage)
{
	cleanup(stage_kernels_free_p) struct stage_kernels *kernels = stage_kernel(stage);
	const char *to = stage->output ? stage->output : ".";
	cleanup(close_fd) int directory = -1;
	char shown[STAGE_SHOWN];
	struct err err;

	if (!kernels)
		return 1;
	directory = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return stage_fail("%s: %s", escape_string(shown, sizeof(shown), to),
				  strerrordesc_np(errno));
	for (size_t i = 0; i < stage->count; i++) {
		const char *path = stage_inside(stage->words[i]);
		struct stage_progress progress;
		int r;

		stage_progress_begin(&progress, path);
		r = running_get(stage->state, kernels->list[0].id, path, directory,
				paths_name(path), stage_progress_step, &progress, &err);
		stage_progress_end(&progress);
		if (r == -EEXIST)
			return stage_fail("%s is there already: --output DIR for another place",
					  escape_string(shown, sizeof(shown), paths_name(path)));
		if (r < 0)
			return stage_fail("%s", err.text);
		say_copied("got", path, to);
	}
	return 0;
}

/* The place in /work: as named, or the file's own name in what ends with "/" (caller frees). */
static char *put_path(const struct stage *stage)
{
	const char *name = paths_name(stage->words[0]);
	const char *path = stage->count > 1 ? stage_inside(stage->words[1]) : "";
	size_t size = strlen(path);

	if (size == 0 || strcmp(path, ".") == 0)
		return strdup(name);
	return path[size - 1] == '/' ? path_join(path, name) : strdup(path);
}

int stage_put(const struct stage *stage)
{
	cleanup(stage_kernels_free_p) struct stage_kernels *kernels = stage_kernel(stage);
	cleanup(free_ptr) char *path = put_path(stage), *whole = NULL;
	cleanup(close_fd) int source = -1;
	struct stage_progress progress;
	struct stat status;
	char shown[STAGE_SHOWN];
	struct err err;
	int r;

	if (!kernels)
		return 1;
	if (!path)
		return stage_fail("out of memory");
	/* Opening a fifo would wait for ever. */
	source = open(stage->words[0], O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	escape_string(shown, sizeof(shown), stage->words[0]);
	if (source < 0 || fstat(source, &status) < 0)
		return stage_fail("%s: %s", shown, strerrordesc_np(errno));
	if (!S_ISREG(status.st_mode))
		return stage_fail("%s is not a regular file", shown);
	stage_progress_begin(&progress, path);
	r = running_put(stage->state, kernels->list[0].id, source, path, stage_progress_step,
			&progress, &err);
	stage_progress_end(&progress);
	if (r == -EEXIST)
		return stage_fail("/work/%s is there already, nothing is replaced",
				  escape_string(shown, sizeof(shown), path));
	if (r < 0)
		return stage_fail("%s", err.text);
	whole = path_join(INSIDE_WORK, path);
	if (whole)
		say_copied("put", stage->words[0], whole);
	return 0;
}
