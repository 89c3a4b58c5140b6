#include "web/trail.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "proxy/logbook.h"

#define FOLLOWED   256	 /* kernels whose log is being followed */
#define FILES_MOST 512	 /* newest logs that are looked at for a kernel's */
#define ROUND	   20000 /* lines of one log in one look */

struct follow {
	char kernel[64];
	char file[LOGBOOK_NAME];
	struct logbook_reader reader;
	uint64_t blocked;
	char last[40];
	int64_t looked;
};

struct trail {
	struct follow follow[FOLLOWED];
};

struct trail *trail_new(void)
{
	return calloc(1, sizeof(struct trail));
}

static void forget(struct follow *follow)
{
	if (follow->file[0])
		logbook_reader_done(&follow->reader);
	*follow = (struct follow){0};
}

struct trail *trail_free(struct trail *trail)
{
	for (unsigned i = 0; trail && i < FOLLOWED; i++)
		forget(&trail->follow[i]);
	free(trail);
	return NULL;
}

static bool tells_of_blocked(const json_t *line)
{
	static const char *const events[] = {"blocked", "refused", "result", "failed",
					     "lost",	"skipped", "attempt"};
	const char *event = json_string_value(json_object_get(line, "event"));

	for (size_t i = 0; event && i < sizeof(events) / sizeof(events[0]); i++)
		if (strcmp(event, events[i]) == 0)
			return true;
	return false;
}

static int open_logs(void)
{
	cleanup(free_ptr) char *path = NULL;

	if (logbook_path(&path, NULL) < 0)
		return -1;
	return logbook_open(path, false, NULL);
}

/* Is the first line of this file this kernel's? */
static bool is_of(int directory, const char *name, const char *kernel)
{
	struct logbook_reader reader;
	json_t *first = NULL;
	const char *found;
	size_t size;
	char *line;
	bool same;

	if (logbook_reader_open(directory, name, &reader, NULL) < 0)
		return false;
	if (logbook_next(&reader, &line, &size) == 1)
		first = json_loadb(line, size, 0, NULL);
	found = json_string_value(json_object_get(first, "kernel"));
	same = found && strcmp(found, kernel) == 0;
	json_decref(first);
	logbook_reader_done(&reader);
	return same;
}

/* ---- the count ---- */

static struct follow *find_follow(struct trail *trail, const char *kernel)
{
	struct follow *oldest = &trail->follow[0];

	for (unsigned i = 0; i < FOLLOWED; i++) {
		if (strcmp(trail->follow[i].kernel, kernel) == 0)
			return &trail->follow[i];
		if (trail->follow[i].looked < oldest->looked)
			oldest = &trail->follow[i];
	}
	forget(oldest);
	(void)snprintf(oldest->kernel, sizeof(oldest->kernel), "%s", kernel);
	return oldest;
}

/* Opens the kernel's newest log when it is not the one that is followed. */
static void open_newest(struct follow *follow)
{
	cleanup(close_fd) int directory = open_logs();
	struct logbook_list list = {0};

	if (directory < 0 || logbook_list(directory, &list, NULL) < 0)
		return;
	for (size_t i = list.count; i > 0 && list.count - i < FILES_MOST; i--) {
		const char *name = list.file[i - 1].name;

		if (strcmp(name, follow->file) == 0)
			break;
		if (!is_of(directory, name, follow->kernel))
			continue;
		if (follow->file[0])
			logbook_reader_done(&follow->reader);
		follow->file[0] = '\0';
		if (logbook_reader_open(directory, name, &follow->reader, NULL) == 0)
			(void)snprintf(follow->file, sizeof(follow->file), "%s", name);
		break;
	}
	logbook_list_done(&list);
}

uint64_t trail_blocked(struct trail *trail, const char *kernel, const char **ret_last)
{
	struct follow *follow = find_follow(trail, kernel);
	size_t size;
	char *line;

	*ret_last = follow->last;
	/* A restart begins a new log: look for it now and then. */
	if (!follow->file[0] || now_ms() - follow->looked > 5000) {
		open_newest(follow);
		follow->looked = now_ms();
	}
	for (unsigned i = 0; i < ROUND && follow->file[0]; i++) {
		json_t *object;

		if (logbook_next(&follow->reader, &line, &size) != 1)
			break;
		object = json_loadb(line, size, 0, NULL);
		if (tells_of_blocked(object)) {
			const char *time = json_string_value(json_object_get(object, "time"));

			follow->blocked++;
			(void)snprintf(follow->last, sizeof(follow->last), "%s", time ? time : "");
		}
		json_decref(object);
	}
	return follow->blocked;
}

/* ---- the lines ---- */

static void add_lines(int directory, const char *name, bool blocked, const char *words,
		      json_t *lines)
{
	struct logbook_reader reader;
	size_t size;
	char *line;

	if (logbook_reader_open(directory, name, &reader, NULL) < 0)
		return;
	for (unsigned i = 0; i < ROUND * 5 && logbook_next(&reader, &line, &size) == 1; i++) {
		json_t *object;

		if (words && *words && !strcasestr(line, words))
			continue;
		object = json_loadb(line, size, 0, NULL);
		if (!json_is_object(object) || (blocked && !tells_of_blocked(object))) {
			json_decref(object);
			continue;
		}
		(void)json_object_del(object, "prev");
		(void)json_array_append_new(lines, object);
		if (json_array_size(lines) > TRAIL_LINES)
			(void)json_array_remove(lines, 0);
	}
	logbook_reader_done(&reader);
}

json_t *trail_lines(struct trail *trail, const char *kernel, bool blocked, const char *words)
{
	cleanup(close_fd) int directory = open_logs();
	struct logbook_list list = {0};
	json_t *lines = json_array();
	size_t first;

	(void)trail;
	if (directory < 0 || !lines || logbook_list(directory, &list, NULL) < 0)
		return lines;
	first = list.count > FILES_MOST ? list.count - FILES_MOST : 0;
	for (size_t i = first; i < list.count; i++)
		if (is_of(directory, list.file[i].name, kernel))
			add_lines(directory, list.file[i].name, blocked, words, lines);
	logbook_list_done(&list);
	return lines;
}
