#include "web/trail_index.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#define LIST_EVERY_MS 250
#define SETTLED_S     2	 /* a directory that did not change for so long has a time of its own */
#define BEGINNING     16 /* newest logs that may have no first line yet */
#define FIRST_LINE    4096

int trail_open(int directory, const char *name, uint64_t *ret_size)
{
	cleanup(close_fd) int fd =
		openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat status;

	if (fd < 0 || fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
		return -1;
	*ret_size = (uint64_t)status.st_size;
	return steal_fd(&fd);
}

/* What was known of the same names, in both lists in order, is known of the new one. */
static void carry_over(const struct trail_index *old, struct trail_index *new)
{
	size_t from = 0;

	for (size_t i = 0; i < new->count; i++) {
		while (from < old->count && strcmp(old->file[from].name, new->file[i].name) < 0)
			from++;
		if (from < old->count && strcmp(old->file[from].name, new->file[i].name) == 0)
			new->file[i] = old->file[from];
		if (new->file[i].state == TRAIL_EMPTY)
			new->file[i].state = TRAIL_UNKNOWN;
		if (new->file[i].state == TRAIL_UNKNOWN)
			new->unknown++;
	}
}

static bool list_again(struct trail_index *index, int directory)
{
	struct trail_index new = *index;
	struct logbook_list list = {0};

	if (logbook_list(directory, &list, NULL) < 0)
		return false;
	new.count = new.unknown = 0;
	new.file = calloc(list.count + 1, sizeof(*new.file));
	for (size_t i = 0; new.file &&i < list.count; i++)
		memcpy(new.file[new.count++].name, list.file[i].name, LOGBOOK_NAME);
	logbook_list_done(&list);
	if (!new.file)
		return false;
	carry_over(index, &new);
	free(index->file);
	*index = new;
	return true;
}

/* Has one of the newest logs no first line yet? */
static bool one_begins(const struct trail_index *index)
{
	for (size_t i = index->count; i > 0 && index->count - i < BEGINNING; i--)
		if (index->file[i - 1].state == TRAIL_EMPTY)
			return true;
	return false;
}

void trail_index_look(struct trail_index *index, int directory)
{
	const int64_t now = now_ms();
	struct timespec time;
	struct stat status;

	/* What was listed is learned first: it would never be with many that have no first line. */
	if (index->unknown > 0 || (index->listed && now - index->listed < LIST_EVERY_MS))
		return;
	if (fstat(directory, &status) < 0 || clock_gettime(CLOCK_REALTIME, &time) < 0)
		return;
	if (index->settled && !one_begins(index) &&
	    status.st_mtim.tv_sec == index->changed.tv_sec &&
	    status.st_mtim.tv_nsec == index->changed.tv_nsec)
		return;
	index->listed = now;
	if (!list_again(index, directory))
		return;
	index->changed = status.st_mtim;
	index->settled = time.tv_sec - status.st_mtim.tv_sec > SETTLED_S;
}

/* Whose it is, from its first line. */
static void learn(struct trail_file *file, int directory)
{
	cleanup(close_fd) int fd = -1;
	char text[FIRST_LINE];
	const char *end, *kernel;
	json_t *line = NULL;
	uint64_t size = 0;
	ssize_t got;

	fd = trail_open(directory, file->name, &size);
	got = fd < 0 ? -1 : pread(fd, text, sizeof(text), 0);
	end = got > 0 ? memchr(text, '\n', (size_t)got) : NULL;
	file->state = end || got == sizeof(text) ? TRAIL_KNOWN : TRAIL_EMPTY;
	if (end)
		line = json_loadb(text, (size_t)(end - text), 0, NULL);
	kernel = json_string_value(json_object_get(line, "kernel"));
	if (kernel && strlen(kernel) < sizeof(file->kernel))
		(void)snprintf(file->kernel, sizeof(file->kernel), "%s", kernel);
	json_decref(line);
}

bool trail_index_learn(struct trail_index *index, int directory, unsigned most)
{
	for (size_t i = index->count; i > 0 && most > 0 && index->unknown > 0; i--) {
		if (index->file[i - 1].state != TRAIL_UNKNOWN)
			continue;
		learn(&index->file[i - 1], directory);
		index->unknown--;
		if (index->file[i - 1].state == TRAIL_KNOWN)
			index->generation++;
		most--;
	}
	return index->unknown == 0;
}

static bool is_of(const struct trail_file *file, const char *kernel)
{
	return file->state == TRAIL_KNOWN && strcmp(file->kernel, kernel) == 0;
}

const char *trail_index_newer(const struct trail_index *index, const char *kernel, const char *name)
{
	for (size_t i = 0; i < index->count; i++)
		if (is_of(&index->file[i], kernel) && strcmp(index->file[i].name, name) > 0)
			return index->file[i].name;
	return NULL;
}

const char *trail_index_older(const struct trail_index *index, const char *kernel, const char *name)
{
	for (size_t i = index->count; i > 0; i--)
		if (is_of(&index->file[i - 1], kernel) &&
		    (!name[0] || strcmp(index->file[i - 1].name, name) < 0))
			return index->file[i - 1].name;
	return NULL;
}

void trail_index_done(struct trail_index *index)
{
	free(index->file);
	*index = (struct trail_index){0};
}
