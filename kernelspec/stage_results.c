/*
 * stage_results: `cellwall stage status` and `recover`, for results that a killed run left behind.
 */
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "kernelspec/stage.h"
#include "sandbox/staging.h"

/* What the callbacks need to know, and count. */
struct results {
	const struct stage *stage;
	json_t *list; /* NULL: as text */
	uint64_t shown;
	bool only_abandoned;
	bool failed;
};

/* Is `place` the results' directory of the present folder? */
static bool is_here(const struct stage *stage, const char *place)
{
	char one[PATH_MAX], other[PATH_MAX];

	return strcmp(stage->out, place) == 0 ||
	       (realpath(stage->out, one) && realpath(place, other) && strcmp(one, other) == 0);
}

static void add_json(struct results *results, const struct staging_info *info)
{
	json_t *object = json_pack("{s:b, s:I, s:I, s:I}", "running", info->held, "files",
				   (json_int_t)info->files, "bytes", (json_int_t)info->bytes,
				   "others", (json_int_t)info->others);

	if (!object || stage_json_path(object, "directory", info->directory) < 0 ||
	    stage_json_path(object, "out", info->out) < 0)
		results->failed = true;
	if (json_array_append_new(results->list, object) < 0)
		results->failed = true;
}

static void show_waiting(void *arg, const struct staging_info *info)
{
	struct results *results = arg;
	char place[STAGE_SHOWN], size[32];

	if (results->only_abandoned && (info->held || (!(results->stage->options & STAGE_ALL) &&
						       !is_here(results->stage, info->out))))
		return;
	if (!info->held && info->files == 0 && info->others == 0)
		return; /* removed by the next recovery */
	results->shown++;
	if (results->list) {
		add_json(results, info);
		return;
	}
	stage_format_size(size, sizeof(size), info->bytes);
	printf("%-9s %6" PRIu64 " %-5s %10s  %s", info->held ? "running" : "left over", info->files,
	       info->files == 1 ? "file" : "files", size,
	       escape_string(place, sizeof(place), info->out));
	if (info->others > 0)
		printf("  (%" PRIu64 " more that stay inside: links, hidden names and the like)",
		       info->others);
	putchar('\n');
}

int stage_show_waiting(const struct stage *stage, bool only_abandoned)
{
	struct results results = {.stage = stage, .only_abandoned = only_abandoned};
	struct err err;

	if (stage->options & STAGE_JSON) {
		results.list = json_array();
		if (!results.list)
			return stage_fail("out of memory");
	}
	if (staging_survey(stage->state, show_waiting, &results, &err) < 0) {
		json_decref(results.list);
		return stage_fail("%s", err.text);
	}
	if (results.list && results.failed) {
		json_decref(results.list);
		results.list = NULL;
	}
	if (stage->options & STAGE_JSON)
		return stage_json_print(results.list);
	if (results.shown == 0)
		printf("nothing is waiting\n");
	return 0;
}

int stage_status(const struct stage *stage)
{
	return stage_show_waiting(stage, false);
}

static void say_refused(void *arg, const char *path, const char *reason)
{
	char escaped[STAGE_SHOWN];

	(void)arg;
	(void)stage_fail("%s: %s", escape_string(escaped, sizeof(escaped), path), reason);
}

static void say_flagged(void *arg, const char *path, const char *reason)
{
	char escaped[STAGE_SHOWN];

	(void)arg;
	printf("can run code when opened: %s (%s)\n", escape_string(escaped, sizeof(escaped), path),
	       reason);
}

static void say_found(void *arg, const char *directory, const char *out,
		      const struct staging_report *report)
{
	struct results *results = arg;
	char place[STAGE_SHOWN], size[32];

	(void)directory;
	results->shown++;
	stage_format_size(size, sizeof(size), report->bytes);
	printf("brought in %" PRIu64 " %s (%s) to %s\n", report->files,
	       report->files == 1 ? "file" : "files", size,
	       escape_string(place, sizeof(place), out));
}

int stage_recover(const struct stage *stage)
{
	const bool all = stage->options & STAGE_ALL;
	struct results results = {.stage = stage};
	struct err err;

	if (stage->options & STAGE_DRY_RUN)
		return stage_show_waiting(stage, true);
	/* 0: the limits that the run itself had */
	if (staging_recover(stage->state, all ? NULL : stage->out, 0, 0, say_refused, say_flagged,
			    say_found, &results, &err) < 0) {
		(void)stage_fail("%s", err.text);
		return stage_fail("what could not be brought in is kept; try again when that is "
				  "mended");
	}
	if (results.shown == 0)
		printf("nothing was left over%s\n", all ? "" : " for this folder");
	return 0;
}
