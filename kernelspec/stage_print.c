#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/inputs.h"
#include "kernelspec/stage.h"
#include "sandbox/tree.h"

#define MEASURE_MAX    200000 /* entries */
#define MEASURE_MS     2000
#define PROGRESS_AFTER 500 /* ms: what is done sooner needs no progress */
#define PROGRESS_EVERY 200

int stage_fail(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "cellwall stage: ");
	va_start(args, format);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fputc('\n', stderr);
	return 1;
}

void stage_format_size(char *out, size_t size, uint64_t bytes)
{
	static const char *const unit[] = {"B", "kB", "MB", "GB", "TB"};
	double value = (double)bytes;
	size_t i = 0;

	for (; value >= 1000 && i + 1 < sizeof(unit) / sizeof(unit[0]); i++)
		value /= 1000;
	snprintf(out, size, i == 0 ? "%.0f %s" : "%.1f %s", value, unit[i]);
}

int stage_json_path(json_t *object, const char *key, const char *path)
{
	cleanup(free_ptr) char *encoded = NULL, *note = NULL;

	if (json_object_set_new(object, key, json_string(path)) == 0)
		return 0;
	encoded = inputs_encode(path);
	note = format_string("%s_encoding", key);
	if (!encoded || !note || json_object_set_new(object, key, json_string(encoded)) < 0)
		return -1;
	return json_object_set_new(object, note, json_string("percent"));
}

int stage_json_print(json_t *value)
{
	/* ASCII: what a terminal shows is what is there, whatever names are made of. */
	int code = value ? json_dumpf(value, stdout, JSON_INDENT(1) | JSON_ENSURE_ASCII) : -1;

	json_decref(value);
	if (code < 0)
		return stage_fail("out of memory");
	putchar('\n');
	return 0;
}

static void count(struct stage_size *size, const struct stat *status)
{
	if (S_ISDIR(status->st_mode))
		return;
	size->files++;
	if (S_ISREG(status->st_mode))
		size->bytes += (uint64_t)status->st_size;
}

static void measure_tree(int directory, struct stage_size *size)
{
	cleanup(walk_done) struct walk walk;
	const int64_t end = now_ms() + MEASURE_MS;
	struct stat status;
	int r;

	walk_init(&walk);
	walk.across = true;
	r = walk_start(&walk, directory);
	for (unsigned looked = 0; r >= 0 && (r = walk_next(&walk)) != 0; looked++) {
		size->more = looked == MEASURE_MAX || now_ms() > end;
		if (size->more)
			return;
		if (r < 0) {
			r = 0; /* one directory that cannot be read */
			continue;
		}
		if (walk_stat(&walk, &status) < 0)
			continue;
		count(size, &status);
		if (S_ISDIR(status.st_mode))
			(void)walk_enter(&walk);
	}
}

void stage_measure(const char *path, struct stage_size *ret_size)
{
	cleanup(close_fd) int fd = -1;
	struct stat status;

	*ret_size = (struct stage_size){0};
	if (stat(path, &status) < 0)
		return;
	count(ret_size, &status);
	if (!S_ISDIR(status.st_mode))
		return;
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		measure_tree(fd, ret_size);
}

void stage_progress_begin(struct stage_progress *progress, const char *name)
{
	*progress = (struct stage_progress){.name = name, .begun = now_ms()};
}

bool stage_progress_step(void *arg, uint64_t done, uint64_t size)
{
	struct stage_progress *progress = arg;
	char name[48], so_far[32], all[32];
	int64_t now = now_ms();

	if (!isatty(STDERR_FILENO) || now < progress->begun + PROGRESS_AFTER ||
	    now < progress->last + PROGRESS_EVERY)
		return true;
	progress->last = now;
	progress->shown = true;
	stage_format_size(so_far, sizeof(so_far), done);
	stage_format_size(all, sizeof(all), size);
	/* CSI K: clear to the end of the line, console_codes(4) */
	fprintf(stderr, "\r%s: %s of %s, %" PRIu64 " %%\033[K",
		escape_string(name, sizeof(name), progress->name), so_far, all,
		size > 0 && done <= size ? done / ((size + 99) / 100) : 100);
	return true;
}

void stage_progress_end(struct stage_progress *progress)
{
	if (progress->shown)
		fprintf(stderr, "\r\033[K");
	progress->shown = false;
}
