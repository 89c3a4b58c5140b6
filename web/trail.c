/*
 * Theory of operation
 *
 * A search reads the kernel's logs from the end of the newest to the beginning of the oldest, a
 * block in a turn, and takes the lines of a block from its end to its beginning: it is over when it
 * has enough. A count reads them forward, and remembers where it was. Between turns neither holds a
 * file open: it knows its name and a place in it, both are cheap, and a log that was removed
 * meanwhile is passed over. Searches take turns, and so do counts that have more to read than who
 * asked for them waited for.
 */
#include "web/trail.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "proxy/logbook.h"
#include "web/loop.h"
#include "web/trail_index.h"

#define FOLLOWED 1024 /* kernels whose logs are counted */
#define LEARNED	 32   /* logs whose first line is read in one turn */
#define OPENING	 4096 /* bytes that could be read instead of opening a file */

struct follow {
	char kernel[TRAIL_KERNEL], file[LOGBOOK_NAME];
	uint64_t at;		  /* in the file */
	uint64_t blocked, before; /* of it, in older files */
	char last[40];
	unsigned generation; /* of the index in which no newer file was */
	bool behind;
	int64_t looked;
};

struct search {
	STAILQ_ENTRY(search) next;
	char kernel[TRAIL_KERNEL], user[65];
	char *words;
	bool blocked, over;
	bool placed; /* `until` is known */
	char since[LOGBOOK_NAME], file[LOGBOOK_NAME];
	uint64_t since_at, end; /* of what is left of the file */
	size_t block;		/* bytes to read at once */
	char until[LOGBOOK_NAME + 24];
	json_t *lines; /* newest first */
	size_t size;
	void (*done)(void *arg, json_t *answer);
	void *arg;
};

struct trail {
	struct loop *loop;
	struct timer *turn;
	struct trail_index index;
	STAILQ_HEAD(searches, search) searches;
	struct follow *follow;
	size_t follows, next; /* and whose turn it is */
	char *block;	      /* LOGBOOK_LINE_MAX + 1 bytes, and a NUL */
};

struct trail *trail_new(struct loop *loop)
{
	struct trail *trail = calloc(1, sizeof(*trail));

	if (!trail)
		return NULL;
	trail->loop = loop;
	trail->block = malloc(LOGBOOK_LINE_MAX + 2);
	STAILQ_INIT(&trail->searches);
	return trail->block ? trail : trail_free(trail);
}

static int open_logs(void)
{
	cleanup(free_ptr) char *path = NULL;
	int code = logbook_path(&path, NULL);

	return code < 0 ? code : logbook_open(path, false, NULL);
}

/* Bytes of a log, to trail->block; 0 when it is not there or has no more. */
static size_t read_block(struct trail *trail, int fd, uint64_t from, size_t size)
{
	ssize_t got = fd < 0 ? -1 : pread(fd, trail->block, size, (off_t)from);

	return got > 0 ? (size_t)got : 0;
}

/* The line, when it is one of something blocked. Most are not: that is seen before it is parsed, by
 * a name that no text in a line can have, for its quotes are escaped there. */
static json_t *parse_blocked(const char *line, size_t size)
{
	static const char *const events[] = {"blocked", "refused", "result", "failed",
					     "lost",	"skipped", "attempt"};
	static const char key[] = "\"event\":\"";
	const char *at = memmem(line, size, key, sizeof(key) - 1), *event;
	bool may = false;
	json_t *object;

	for (size_t i = 0; at && i < sizeof(events) / sizeof(events[0]); i++)
		may |= strncmp(at + sizeof(key) - 1, events[i], strlen(events[i])) == 0;
	object = may ? json_loadb(line, size, 0, NULL) : NULL;
	event = json_string_value(json_object_get(object, "event"));
	for (size_t i = 0; event && i < sizeof(events) / sizeof(events[0]); i++)
		if (strcmp(event, events[i]) == 0)
			return object;
	json_decref(object);
	return NULL;
}

/* ---- the count ---- */

static struct follow *find_follow(struct trail *trail, const char *kernel)
{
	struct follow *oldest = trail->follow;

	for (size_t i = 0; i < trail->follows; i++) {
		if (strcmp(trail->follow[i].kernel, kernel) == 0)
			return &trail->follow[i];
		if (trail->follow[i].looked < oldest->looked)
			oldest = &trail->follow[i];
	}
	if (trail->follows < FOLLOWED) {
		struct follow *more =
			reallocarray(trail->follow, trail->follows + 1, sizeof(*more));

		if (more) {
			trail->follow = more;
			oldest = &more[trail->follows++];
		}
	}
	if (!oldest)
		return NULL;
	*oldest = (struct follow){0};
	(void)snprintf(oldest->kernel, sizeof(oldest->kernel), "%s", kernel);
	return oldest;
}

static void count_line(struct follow *follow, const char *line, size_t size)
{
	json_t *object = parse_blocked(line, size);
	const char *time = json_string_value(json_object_get(object, "time"));

	if (!object)
		return;
	follow->blocked++;
	(void)snprintf(follow->last, sizeof(follow->last), "%s", time ? time : "");
	json_decref(object);
}

/* Counts the next whole lines of the file; returns their bytes. */
static size_t count_block(struct trail *trail, int fd, struct follow *follow)
{
	size_t got = read_block(trail, fd, follow->at, TRAIL_TURN), from = 0;
	char *end = memchr(trail->block, '\n', got);

	if (!end && got == TRAIL_TURN) {
		got = read_block(trail, fd, follow->at, LOGBOOK_LINE_MAX + 1);
		end = memchr(trail->block, '\n', got);
		if (!end && got > LOGBOOK_LINE_MAX)
			from = got; /* nothing that we write is so long */
	}
	for (; end; end = memchr(trail->block + from, '\n', got - from)) {
		*end = '\0';
		count_line(follow, trail->block + from, (size_t)(end - trail->block) - from);
		from = (size_t)(end - trail->block) + 1;
	}
	follow->at += from;
	return from;
}

/* One block more, and what it cost in bytes. Returns false when there is nothing more now. */
static bool count_on(struct trail *trail, int directory, struct follow *follow, size_t *ret_cost)
{
	cleanup(close_fd) int fd = -1;
	const char *newer = NULL;
	size_t got = 0;
	uint64_t size;

	*ret_cost = OPENING;
	/* Asked for first: what the older one is given after that is not told as blocked. */
	if (!follow->file[0] || follow->generation != trail->index.generation) {
		newer = trail_index_newer(&trail->index, follow->kernel, follow->file);
		*ret_cost += OPENING; /* all names may be looked at */
	}
	if (follow->file[0]) {
		fd = trail_open(directory, follow->file, &size);
		if (fd >= 0 && size < follow->at) { /* what had no room was cut back */
			follow->at = 0;
			follow->blocked = follow->before;
		}
		got = count_block(trail, fd, follow);
		*ret_cost += got;
	}
	if (got > 0)
		return true;
	if (!newer) {
		follow->generation = trail->index.generation;
		return false;
	}
	(void)snprintf(follow->file, sizeof(follow->file), "%s", newer);
	follow->at = 0;
	follow->before = follow->blocked;
	return true;
}

/* A turn of one of those that are behind. Returns false when none is. */
static bool count_turn(struct trail *trail, int directory)
{
	for (size_t i = 0; i < trail->follows; i++) {
		struct follow *follow = &trail->follow[trail->next++ % trail->follows];
		size_t cost;

		if (!follow->behind)
			continue;
		follow->behind = count_on(trail, directory, follow, &cost);
		return true;
	}
	return false;
}

/* ---- the lines ---- */

static void free_search(struct search *search)
{
	json_decref(search->lines);
	free(search->words);
	free(search);
}

/* The answer; takes the search, which is in no queue any more. */
static void finish(struct search *search, bool whole)
{
	void (*done)(void *arg, json_t *answer) = search->done;
	void *arg = search->arg;
	json_t *lines = whole ? json_array() : NULL, *answer = NULL;

	for (size_t i = lines ? json_array_size(search->lines) : 0; i > 0; i--)
		(void)json_array_append(lines, json_array_get(search->lines, i - 1));
	if (lines)
		answer = json_pack("{s:o, s:s}", "lines", lines, "until", search->until);
	free_search(search);
	done(arg, answer);
}

static bool is_full(const struct search *search)
{
	return search->over || search->size > TRAIL_BYTES ||
	       json_array_size(search->lines) >= TRAIL_LINES;
}

static void take_line(struct search *search, const char *line, size_t size)
{
	json_t *object;

	if (search->words && !strcasestr(line, search->words))
		return;
	object = search->blocked ? parse_blocked(line, size) : json_loadb(line, size, 0, NULL);
	if (json_is_object(object)) {
		(void)json_object_del(object, "prev");
		(void)json_array_append(search->lines, object);
		search->size += size;
	}
	json_decref(object);
}

/* Takes lines from the end of a block, whose last byte is a newline, until there are enough;
 * `first`: it begins with a line. Returns where the last one that was taken begins; `size`: none is
 * whole. */
static size_t take_block(struct search *search, char *block, size_t size, bool first)
{
	while (size > 0 && !is_full(search)) {
		const char *before = memrchr(block, '\n', size - 1);
		const size_t from = before ? (size_t)(before - block) + 1 : 0;

		if (!before && !first)
			break;
		block[size - 1] = '\0';
		take_line(search, block + from, size - 1 - from);
		size = from;
	}
	return size;
}

static void set_until(struct search *search, uint64_t at)
{
	(void)snprintf(search->until, sizeof(search->until), "%s:%" PRIu64, search->file, at);
}

/* The block before what was looked at. */
static void search_block(struct trail *trail, int fd, struct search *search)
{
	const bool same = strcmp(search->file, search->since) == 0;
	const uint64_t since = same ? search->since_at : 0;
	const uint64_t floor = since < search->end ? since : search->end;
	const uint64_t start =
		search->end - floor > search->block ? search->end - search->block : floor;
	size_t got = read_block(trail, fd, start, (size_t)(search->end - start)), left;
	const char *last = memrchr(trail->block, '\n', got);

	got = last ? (size_t)(last - trail->block) + 1 : 0;
	left = take_block(search, trail->block, got, start == floor);
	if (!search->placed && (last || start == floor)) {
		search->placed = true;
		set_until(search, start + got);
	}
	if (start == floor) {
		search->end = 0;
	} else if (left < got) {
		search->end = start + left;
		search->block = TRAIL_TURN;
	} else if (last && start + got < search->end) {
		search->end = start + got; /* behind it is no whole line */
	} else if (search->block < LOGBOOK_LINE_MAX + 1) {
		search->block = LOGBOOK_LINE_MAX + 1; /* a long line */
	} else {
		search->end = 0; /* nothing that we write is so long */
	}
}

/* The newest file that was not looked at. */
static int search_open(int directory, struct search *search, const char *name)
{
	int fd;

	(void)snprintf(search->file, sizeof(search->file), "%s", name);
	fd = trail_open(directory, name, &search->end);
	if (fd >= 0 && strcmp(name, search->since) == 0 && search->end < search->since_at) {
		search->since_at = 0; /* what had no room was cut back: all of it is new */
		if (!search->placed)
			set_until(search, 0);
	}
	return fd;
}

/* A turn of this search. Returns false when it is over. */
static bool search_on(struct trail *trail, int directory, struct search *search)
{
	cleanup(close_fd) int fd = -1;
	uint64_t size = 0;

	if (is_full(search))
		return false;
	if (search->end == 0) {
		const char *older = trail_index_older(&trail->index, search->kernel, search->file);

		if (!older || strcmp(older, search->since) < 0)
			return false;
		fd = search_open(directory, search, older);
	} else {
		fd = trail_open(directory, search->file, &size);
		search->end = size < search->end ? 0 : search->end;
	}
	if (search->end > 0)
		search_block(trail, fd, search);
	return true;
}

/* ---- turns ---- */

static void end_all(struct trail *trail, bool whole)
{
	struct search *search;

	while ((search = STAILQ_FIRST(&trail->searches))) {
		STAILQ_REMOVE_HEAD(&trail->searches, next);
		finish(search, whole);
	}
}

static void turn(void *arg);

static void go_on(struct trail *trail)
{
	if (!trail->turn && loop_after(trail->loop, 0, turn, trail, &trail->turn, NULL) < 0)
		end_all(trail, false);
}

static void turn(void *arg)
{
	cleanup(close_fd) int directory = open_logs();
	struct trail *trail = arg;
	struct search *search = STAILQ_FIRST(&trail->searches);
	bool more = true;

	trail->turn = NULL;
	if (directory < 0) {
		end_all(trail, directory == -ENOENT); /* there is no log yet */
		return;
	}
	trail_index_look(&trail->index, directory);
	if (trail_index_learn(&trail->index, directory, LEARNED)) {
		more = count_turn(trail, directory);
		if (search) {
			STAILQ_REMOVE_HEAD(&trail->searches, next);
			if (search_on(trail, directory, search))
				STAILQ_INSERT_TAIL(&trail->searches, search, next);
			else
				finish(search, true);
		}
	}
	if (more || !STAILQ_EMPTY(&trail->searches))
		go_on(trail);
}

/* ---- who asks ---- */

static void take_off(size_t *room, size_t cost)
{
	*room -= cost < *room ? cost : *room;
}

/* As much as there is room for. An older log than one that was counted is never counted: all first
 * lines are read before. */
static void count_now(struct trail *trail, struct follow *follow, size_t *room)
{
	cleanup(close_fd) int directory = open_logs();
	struct trail_index *index = &trail->index;
	size_t unknown, cost;

	if (directory < 0)
		return;
	trail_index_look(index, directory);
	unknown = index->unknown;
	(void)trail_index_learn(index, directory, LEARNED);
	take_off(room, (unknown - index->unknown) * OPENING);
	while (index->unknown == 0 && *room > 0 && follow->behind) {
		follow->behind = count_on(trail, directory, follow, &cost);
		take_off(room, cost);
	}
}

uint64_t trail_blocked(struct trail *trail, const char *kernel, size_t *room, const char **ret_last)
{
	struct follow *follow = find_follow(trail, kernel);

	*ret_last = "";
	if (!follow)
		return 0;
	*ret_last = follow->last;
	follow->looked = now_ms();
	follow->behind = true;
	if (*room > 0)
		count_now(trail, follow, room);
	if (follow->behind)
		go_on(trail);
	return follow->blocked;
}

/* NAME:OFFSET, of an answer's "until"; whatever else it is, all is meant. */
static void parse_since(struct search *search, const char *text)
{
	const char *colon = text ? strrchr(text, ':') : NULL;
	char name[LOGBOOK_NAME];

	if (!colon || (size_t)(colon - text) >= sizeof(name) || !colon[1] ||
	    colon[1 + strspn(colon + 1, "0123456789")])
		return;
	(void)snprintf(name, sizeof(name), "%.*s", (int)(colon - text), text);
	if (!logbook_is_name(name))
		return;
	memcpy(search->since, name, sizeof(name));
	search->since_at = strtoull(colon + 1, NULL, 10);
	(void)snprintf(search->until, sizeof(search->until), "%s:%" PRIu64, name, search->since_at);
}

int trail_search(struct trail *trail, const struct trail_wanted *wanted,
		 void (*done)(void *arg, json_t *answer), void *arg)
{
	struct search *search;
	unsigned others = 0;

	STAILQ_FOREACH(search, &trail->searches, next)
	others +=
		!search->over && strncmp(search->user, wanted->user, sizeof(search->user) - 1) == 0;
	if (others >= TRAIL_SEARCHES)
		return -EDQUOT;
	search = calloc(1, sizeof(*search));
	if (!search)
		return -ENOMEM;
	(void)snprintf(search->kernel, sizeof(search->kernel), "%s", wanted->kernel);
	(void)snprintf(search->user, sizeof(search->user), "%s", wanted->user);
	search->blocked = wanted->blocked;
	search->block = TRAIL_TURN;
	search->lines = json_array();
	search->done = done;
	search->arg = arg;
	parse_since(search, wanted->since);
	if (wanted->words && wanted->words[0])
		search->words = strdup(wanted->words);
	if (!search->lines || (wanted->words && wanted->words[0] && !search->words)) {
		free_search(search);
		return -ENOMEM;
	}
	STAILQ_INSERT_TAIL(&trail->searches, search, next);
	go_on(trail);
	return 0;
}

void trail_stop(struct trail *trail, const void *arg)
{
	struct search *search;

	STAILQ_FOREACH(search, &trail->searches, next)
	if (search->arg == arg)
		search->over = true;
}

struct trail *trail_free(struct trail *trail)
{
	if (!trail)
		return NULL;
	end_all(trail, false);
	trail->turn = loop_cancel(trail->turn);
	trail_index_done(&trail->index);
	free(trail->follow);
	free(trail->block);
	free(trail);
	return NULL;
}
