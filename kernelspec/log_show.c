#include <errno.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "kernelspec/log_parts.h"
#include "kernelspec/stage.h"

#define SHOWN	       2048 /* bytes of one escaped value */
#define NAME_ON_SCREEN 8

/* What --blocked shows, and how each is coloured: SGR of console_codes(4). */
static const struct kind {
	const char *event, *colour;
	bool blocked;
} kinds[] = {
	{"blocked", "31", true},  {"refused", "31", true}, {"result", "31", true},
	{"failed", "31;1", true}, {"lost", "31;1", true},  {"skipped", "31", true},
	{"attempt", "31", true},  {"notice", "33", true},  {"launch", "1", false},
	{"cell", "36", false},	  {"gone", "1", false},	   {"end", "2", false},
	{"begin", "2", false},
};

static const struct kind *find_kind(const char *event)
{
	static const struct kind other = {"", NULL, false};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].event, event) == 0)
			return &kinds[i];
	return &other;
}

static const char *text_of(const json_t *line, const char *key)
{
	const char *text = json_string_value(json_object_get(line, key));

	return text ? text : "";
}

static void print_value(const char *key, const json_t *value)
{
	static const char *const bare[] = {"channel", "msg_type", "verdict", "reason"};
	char shown[SHOWN], size[32];
	bool alone = false;

	for (size_t i = 0; i < sizeof(bare) / sizeof(bare[0]); i++)
		alone = alone || strcmp(bare[i], key) == 0;
	printf("  ");
	if (strcmp(key, "size") == 0 && json_is_integer(value)) {
		stage_format_size(size, sizeof(size), (uint64_t)json_integer_value(value));
		printf("%s", size);
		return;
	}
	if (!alone)
		printf("%s ", escape_string(shown, sizeof(shown), key));
	if (json_is_string(value)) {
		escape_string(shown, sizeof(shown), json_string_value(value));
		printf("%.*s", strcmp(key, "sha256") == 0 ? 12 : SHOWN, shown);
	} else {
		const size_t length = json_dumpb(value, shown, sizeof(shown) - 1,
						 JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

		shown[length < sizeof(shown) ? length : sizeof(shown) - 1] = '\0';
		printf("%s", shown);
	}
}

static void print_line(const json_t *line, bool coloured)
{
	static const char *const silent[] = {"seq",   "time", "kernel",	  "user",
					     "event", "prev", "direction"};
	const char *const event = text_of(line, "event");
	const char *const colour = coloured ? find_kind(event)->colour : NULL;
	char time[80], kernel[80], what[80];
	const char *key;
	const json_t *value;
	bool skip;

	if (colour)
		printf("\033[%sm", colour);
	printf("%-24s  %-*.*s  %-8s", escape_string(time, sizeof(time), text_of(line, "time")),
	       NAME_ON_SCREEN, NAME_ON_SCREEN,
	       escape_string(kernel, sizeof(kernel), text_of(line, "kernel")),
	       escape_string(what, sizeof(what), event));
	/* jansson's loop macro wants an object that it may change */
	for (void *at = json_object_iter((json_t *)(uintptr_t)line); at;
	     at = json_object_iter_next((json_t *)(uintptr_t)line, at)) {
		key = json_object_iter_key(at);
		value = json_object_iter_value(at);
		skip = false;
		for (size_t i = 0; i < sizeof(silent) / sizeof(silent[0]); i++)
			skip = skip || strcmp(silent[i], key) == 0;
		if (!skip)
			print_value(key, value);
	}
	printf("%s\n", colour ? "\033[0m" : "");
}

/* One line of a log, whatever is in it. Returns whether it is of a kernel that is meant. */
static bool show_line(const struct log_view *view, const char *name, const char *text, size_t size)
{
	json_t *line = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
	const bool meant = log_is_meant(view, name, text_of(line, "kernel"));
	char shown[SHOWN];

	if (meant && !json_is_object(line))
		(void)log_fail("%s: not a line of a log: %s", name,
			       escape_text(shown, 200, text, size));
	else if (meant && (!view->blocked || find_kind(text_of(line, "event"))->blocked)) {
		if (view->json) {
			/* ASCII: what a terminal shows is what is there */
			(void)json_dumpf(line, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
			putchar('\n');
		} else {
			print_line(line, isatty(STDOUT_FILENO) && !getenv("NO_COLOR"));
		}
	}
	json_decref(line);
	return meant;
}

/* Lines from `*offset` on, which moves behind the last whole one. Returns whether any was of a
 * kernel that is meant. */
static bool show_file(const struct log_view *view, const char *name, uint64_t *offset)
{
	struct logbook_reader reader;
	struct err err;
	char *text = NULL;
	size_t size = 0;
	bool any = false;
	int code;

	if (logbook_reader_open(view->directory, name, &reader, &err) < 0) {
		(void)log_fail("%s", err.text);
		return false;
	}
	(void)lseek(reader.fd, (off_t)*offset, SEEK_SET);
	while ((code = logbook_next(&reader, &text, &size)) > 0) {
		*offset += size + 1;
		if (size > 0)
			any = show_line(view, name, text, size) || any;
	}
	if (code < 0)
		(void)log_fail("%s: %s", name, strerrordesc_np(-code));
	logbook_reader_done(&reader);
	return any;
}

int log_show(const struct log_view *view)
{
	struct logbook_list list;
	struct err err;
	char word[200];
	bool any = false;

	if (logbook_list(view->directory, &list, &err) < 0)
		return log_fail("%s", err.text);
	for (size_t i = 0; i < list.count; i++) {
		uint64_t offset = 0;

		any = show_file(view, list.file[i].name, &offset) || any;
	}
	logbook_list_done(&list);
	if (!any && view->word)
		return log_fail("no log of a kernel %s in %s",
				escape_string(word, sizeof(word), view->word), view->path);
	return 0;
}

/* How far each file was shown, from one list to the next, both in order of names. */
static void show_news(const struct log_view *view, struct logbook_list *old, bool first)
{
	struct logbook_list now;
	size_t before = 0;

	if (logbook_list(view->directory, &now, NULL) < 0)
		return;
	for (size_t i = 0; i < now.count; i++) {
		struct logbook_file *file = &now.file[i];
		uint64_t offset = 0;

		while (before < old->count && strcmp(old->file[before].name, file->name) < 0)
			before++;
		if (before < old->count && strcmp(old->file[before].name, file->name) == 0)
			offset = old->file[before].size;
		if (!first && file->size > offset)
			(void)show_file(view, file->name, &offset);
		else if (first)
			offset = file->size;
		file->size = offset;
	}
	logbook_list_done(old);
	*old = now;
}

int log_follow(struct log_view *view)
{
	char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	cleanup(close_fd) int watch = inotify_init1(IN_CLOEXEC);
	struct logbook_list shown = {0};

	if (watch < 0 ||
	    inotify_add_watch(watch, view->path, IN_MODIFY | IN_CREATE | IN_ONLYDIR) < 0)
		return log_fail("cannot watch %s: %s", view->path, strerrordesc_np(errno));
	for (bool first = true;; first = false) {
		show_news(view, &shown, first);
		if (fflush(stdout) != 0)
			break;
		if (read(watch, events, sizeof(events)) < 0 && errno != EINTR)
			break;
	}
	logbook_list_done(&shown);
	return 1;
}
