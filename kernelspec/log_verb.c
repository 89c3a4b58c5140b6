/*
 * log_verb: the words and options of `cellwall log`.
 */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "kernelspec/log_parts.h"
#include "kernelspec/paths.h"
#include "kernelspec/verbs.h"

static const char words[] = "[KERNEL]\nverify [KERNEL|FILE]";

static const char doc[] =
	"What happened in kernels: each launch, the layers it had, each cell, what was blocked or "
	"refused, and the end.\v"
	"KERNEL is the beginning of a kernel's name as Jupyter and the second column show it, or "
	"of "
	"a log's file name; without it, all are shown, the oldest first.\n\n"
	"verify looks whether lines were changed, removed, moved or added since they were written, "
	"and says where. It cannot see that the newest log is missing, or that lines are missing "
	"at "
	"the end of one that has no last line.\n\n"
	"Exit codes: 0 done, 1 it could not be done or there is no such log, 2 wrong usage, 3 a "
	"log "
	"is not as it was written (verify).";

static const struct argp_option options[] = {
	{"blocked", 'b', NULL, 0, "only what was blocked, refused or went wrong", 0},
	{"follow", 'f', NULL, 0, "show what is recorded from now on, until interrupted", 0},
	{"json", 'j', NULL, 0, "one JSON object per line", 0},
	{0},
};

int log_fail(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "cellwall log: ");
	va_start(args, format);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fputc('\n', stderr);
	return 1;
}

bool log_is_meant(const struct log_view *view, const char *name, const char *kernel)
{
	const size_t size = view->word ? strlen(view->word) : 0;
	const char *id = strstr(name, "Z-");

	return size == 0 || strncmp(name, view->word, size) == 0 ||
	       (id && strncmp(id + 2, view->word, size) == 0) ||
	       (kernel && strncmp(kernel, view->word, size) == 0);
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
	struct log_view *view = state->input;

	switch (key) {
	case 'b':
		view->blocked = true;
		return 0;
	case 'f':
		view->follow = true;
		return 0;
	case 'j':
		view->json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (!view->verify && !view->word && strcmp(argument, "verify") == 0)
			view->verify = true;
		else if (!view->word)
			view->word = argument;
		else
			argp_error(state, "%s is one word too many", argument);
		return 0;
	case ARGP_KEY_END:
		if (view->verify && (view->blocked || view->follow))
			argp_error(state, "verify takes no option but --json");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp parser = {options, parse_option, words, doc, NULL, NULL, NULL};

/* The directory of a FILE, or that of the logs. */
static int open_directory(struct log_view *view, struct err *err)
{
	const bool file = view->verify && view->word && strchr(view->word, '/');
	int code = 0;

	if (file)
		view->path = paths_parent(view->word);
	else
		code = logbook_path(&view->path, err);
	if (code < 0)
		return code;
	if (!view->path)
		return err_set(err, -ENOMEM, "out of memory");
	view->directory = file ? open(view->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
			       : logbook_open(view->path, view->follow, err);
	if (file && view->directory < 0)
		return err_errno(err, "%s", view->path);
	return view->directory < 0 && view->directory != -ENOENT ? view->directory : 0;
}

int verb_log(int argc, char **argv)
{
	struct log_view view = {.directory = -1};
	struct err err = {0};
	int code;

	argp_err_exit_status = EXIT_USAGE;
	if (argp_parse(&parser, argc, argv, 0, NULL, &view) != 0)
		return EXIT_USAGE;
	if (open_directory(&view, &err) < 0)
		code = log_fail("%s", err.text);
	else if (view.directory < 0)
		code = log_fail("no kernel has left a log yet in %s", view.path);
	else if (view.verify)
		code = log_verify(&view);
	else
		code = view.follow ? log_follow(&view) : log_show(&view);
	if (view.directory >= 0)
		close(view.directory);
	free(view.path);
	return fflush(stdout) != 0 && code == 0 ? 1 : code;
}
