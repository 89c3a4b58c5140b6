#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "kernelspec/log_parts.h"
#include "kernelspec/paths.h"

#define NOT_AS_WRITTEN 3
#define REMOVED_MAX    (4 * LOGBOOK_FILES_MAX)

enum state { WHOLE, RUNNING, UNFINISHED, CHANGED };
static const char *const state_names[] = {"whole", "running", "unfinished", "changed"};

struct verification {
	const struct log_view *view;
	char (*removed)[LOGBOOK_NAME]; /* what whole logs say was removed by the limits */
	size_t removed_count;
	bool gathers;
	char kernel[80]; /* of the file that is read */
	unsigned logs, count[4];
	uint64_t lines;
};

static void take_line(void *arg, const json_t *line)
{
	struct verification *verification = arg;
	const char *removed = json_string_value(json_object_get(line, "removed"));
	const char *kernel = json_string_value(json_object_get(line, "kernel"));

	if (kernel && !verification->kernel[0])
		(void)snprintf(verification->kernel, sizeof(verification->kernel), "%.64s", kernel);
	if (verification->gathers && removed && logbook_is_name(removed) &&
	    verification->removed_count < REMOVED_MAX)
		(void)snprintf(verification->removed[verification->removed_count++], LOGBOOK_NAME,
			       "%.*s", LOGBOOK_NAME - 1, removed);
}

static bool was_removed(const struct verification *verification, const char *name)
{
	for (size_t i = 0; i < verification->removed_count; i++)
		if (strcmp(verification->removed[i], name) == 0)
			return true;
	return false;
}

/* Is the line that this file goes on from still where it was? "" or why not. Caller frees; NULL: no
 * memory. */
static char *check_before(const struct verification *verification,
			  const struct logbook_check *check)
{
	const int directory = verification->view->directory;
	struct err err;

	if (!check->after[0] || was_removed(verification, check->after))
		return strdup("");
	if (faccessat(directory, check->after, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return format_string("the log before it, %s, is missing", check->after);
	if (logbook_has(directory, check->after, check->prev, &err) == 1)
		return strdup("");
	return format_string("the log before it, %s, was changed or cut short since", check->after);
}

static void print_result(const struct log_view *view, const char *name, enum state state,
			 const struct verification *verification, const struct logbook_check *check,
			 const char *problem)
{
	char shown[LOGBOOK_NAME * 4], kernel[100];
	json_t *object;

	if (view->json) {
		object = json_pack("{s:s, s:s, s:s, s:I, s:s, s:s}", "log", name, "kernel",
				   verification->kernel, "state", state_names[state], "lines",
				   (json_int_t)check->lines, "head", check->head, "problem",
				   problem);
		(void)json_dumpf(object, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
		putchar('\n');
		json_decref(object);
		return;
	}
	printf("%-10s  %s  %.8s  %" PRIu64 " lines  head %.16s%s%s\n", state_names[state],
	       escape_string(shown, sizeof(shown), name),
	       escape_string(kernel, sizeof(kernel), verification->kernel), check->lines,
	       check->head, problem[0] ? "\n            -> " : "", problem);
}

/* What its chain says, and in `ret_problem` (caller frees) why; NULL: no memory. */
static enum state judge(const struct verification *verification, const struct logbook_check *check,
			char **ret_problem)
{
	if (check->wrong) {
		*ret_problem = format_string("line %" PRIu64 ": %s", check->wrong, check->problem);
		return CHANGED;
	}
	if (check->ended && check->torn) {
		*ret_problem = strdup("something follows its last line");
		return CHANGED;
	}
	*ret_problem = check_before(verification, check);
	if (!*ret_problem || (*ret_problem)[0])
		return CHANGED;
	if (check->ended || check->in_use)
		return check->ended ? WHOLE : RUNNING;
	free(*ret_problem);
	*ret_problem =
		check->torn ? format_string("no last line, and %zu bytes of a torn one: its proxy "
					    "was killed, or lines were cut off",
					    check->torn)
			    : strdup("no last line: its proxy was killed, or lines were cut off");
	return UNFINISHED;
}

/* Returns 0, or 1 when it could not be read. Without `print` only what was removed is taken. */
static int verify_one(struct verification *verification, const char *name, bool print)
{
	const struct log_view *view = verification->view;
	cleanup(free_ptr) char *problem = NULL;
	struct logbook_check check;
	enum state state;
	struct err err;

	verification->kernel[0] = '\0';
	verification->gathers = !print;
	if (logbook_check(view->directory, name, take_line, verification, &check, &err) < 0)
		return print ? log_fail("%s", err.text) : 0;
	if (!print || (view->word && !strchr(view->word, '/') &&
		       !log_is_meant(view, name, verification->kernel)))
		return 0;
	state = judge(verification, &check, &problem);
	if (!problem)
		return log_fail("out of memory");
	print_result(view, name, state, verification, &check, problem);
	verification->logs++;
	verification->count[state]++;
	verification->lines += check.lines;
	return 0;
}

/* What was removed by the limits is said in newer logs: all are read first. */
static int verify_all(struct verification *verification)
{
	const struct log_view *view = verification->view;
	struct logbook_list list;
	struct err err;
	int code = 0;

	if (logbook_list(view->directory, &list, &err) < 0)
		return log_fail("%s", err.text);
	for (size_t i = 0; i < list.count; i++)
		code |= verify_one(verification, list.file[i].name, false);
	if (view->word && strchr(view->word, '/'))
		code = verify_one(verification, paths_name(view->word), true);
	else
		for (size_t i = 0; i < list.count; i++)
			code |= verify_one(verification, list.file[i].name, true);
	logbook_list_done(&list);
	return code;
}

int log_verify(struct log_view *view)
{
	struct verification verification = {.view = view};
	char word[200];
	int code;

	verification.removed = calloc(REMOVED_MAX, sizeof(*verification.removed));
	if (!verification.removed)
		return log_fail("out of memory");
	code = verify_all(&verification);
	free(verification.removed);
	if (code == 0 && view->word && verification.logs == 0)
		return log_fail("no log of a kernel %s in %s",
				escape_string(word, sizeof(word), view->word), view->path);
	if (!view->json && code == 0)
		printf("%u log%s, %" PRIu64 " lines: %s\n", verification.logs,
		       verification.logs == 1 ? "" : "s", verification.lines,
		       verification.count[CHANGED] ? "NOT as they were written"
						   : "as they were written");
	return verification.count[CHANGED] ? NOT_AS_WRITTEN : code;
}
