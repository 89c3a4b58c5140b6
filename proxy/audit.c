/*
 * Theory of operation
 *
 * Lines are made in `pending`, each with the hash of the one before it, and go out with one
 * write(2) per flush. When that fails, the file is cut back to its last whole line, and number and
 * hash go back to it too: the chain never has a hole, the count of what was lost is in its next
 * line. A file that a killed kernel left without its last line is never written to again: the next
 * launch begins a new one, whose first line has the hash of the last whole line there.
 */
#include "proxy/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "proxy/limits.h"
#include "proxy/logbook.h"

/* Room for one more line of any length beside those that wait. */
#define PENDING_MAX (2 * LOGBOOK_LINE_MAX)
/* Of a line without its last member: what is longer is left out of it. */
#define LINE_ROOM (LOGBOOK_LINE_MAX - 1024)

/* Where the chain is: what a failed write goes back to. */
struct point {
	uint64_t seq;
	char hash[LOGBOOK_HASH + 1]; /* of the line before the next */
};

struct audit {
	struct audit_rules rules;
	char *path; /* of the directory */
	int directory, fd;
	char base[LOGBOOK_NAME]; /* TIME-ID */
	char name[LOGBOOK_NAME]; /* of the file that is written to */
	unsigned segment;	 /* its number */
	uint64_t size, limit;	 /* its bytes */
	char kernel[65], user[33];
	struct point now, written;
	char *pending;
	size_t used, line;	/* bytes in it, and where the newest line begins */
	uint64_t waiting, lost; /* lines in it; lines that could not be written */
	bool tells_lost;
	int64_t refilled;
	unsigned tokens;
	uint64_t skipped; /* past the rate */
	uint64_t cells, messages, notes;
};

/* ---- one line ---- */

static void put_raw(struct audit *audit, const char *text, size_t size)
{
	if (audit->used - audit->line + size > LINE_ROOM)
		return;
	memcpy(audit->pending + audit->used, text, size);
	audit->used += size;
}

/* ,"KEY":VALUE in ASCII; takes `value` (NULL: nothing). What finds no room is left out whole. */
static void put_json(struct audit *audit, const char *key, json_t *value)
{
	char *const from = audit->pending + audit->used;
	const size_t head = strlen(key) + 4;
	const size_t left = LINE_ROOM - (audit->used - audit->line);
	const size_t room = left > head ? left - head : 0;
	const size_t size = value ? json_dumpb(value, from + head, room,
					       JSON_ENCODE_ANY | JSON_ENSURE_ASCII | JSON_COMPACT)
				  : 0;

	if (size > 0 && size <= room) {
		memcpy(from, ",\"", 2);
		memcpy(from + 2, key, head - 4);
		memcpy(from + head - 2, "\":", 2);
		audit->used += head + size;
	}
	json_decref(value);
}

static size_t cut(size_t size, size_t most)
{
	return size < most ? size : most;
}

/* Text that is no UTF-8 is escaped first. */
static json_t *as_json(const char *text, size_t size)
{
	json_t *value = json_stringn(text, size);
	cleanup(free_ptr) char *escaped = value ? NULL : malloc(4 * size + 1);

	if (escaped)
		value = json_string(escape_text(escaped, 4 * size + 1, text, size));
	return value;
}

static void put_string(struct audit *audit, const char *key, const char *text)
{
	if (text && text[0])
		put_json(audit, key, as_json(text, cut(strlen(text), AUDIT_TEXT)));
}

static void put_number(struct audit *audit, const char *key, uint64_t value)
{
	char text[64];
	int size = snprintf(text, sizeof(text), ",\"%s\":%" PRIu64, key, value);

	if (size > 0)
		put_raw(audit, text, (size_t)size);
}

static void put_head(struct audit *audit, const char *event)
{
	struct timespec now;
	struct tm utc;
	char text[160];
	int size;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (!gmtime_r(&now.tv_sec, &utc))
		utc = (struct tm){0};
	audit->line = audit->used;
	size = snprintf(text, sizeof(text),
			"{\"seq\":%" PRIu64 ",\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ\"",
			++audit->now.seq, utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
			utc.tm_hour, utc.tm_min, utc.tm_sec, (int)(now.tv_nsec / 1000000));
	if (size > 0)
		put_raw(audit, text, (size_t)size);
	put_string(audit, "kernel", audit->kernel);
	put_string(audit, "user", audit->user);
	put_string(audit, "event", event);
}

static void end_line(struct audit *audit)
{
	/* LINE_ROOM leaves room for it. */
	audit->used += (size_t)snprintf(audit->pending + audit->used, LOGBOOK_HASH + 16,
					",\"prev\":\"%s\"}", audit->now.hash);
	logbook_hash(audit->pending + audit->line, audit->used - audit->line, audit->now.hash);
	audit->pending[audit->used++] = '\n';
	audit->waiting++;
}

/* A new line; what was lost before it is said first. */
static void begin_line(struct audit *audit, const char *event)
{
	if (audit->used > PENDING_MAX - LOGBOOK_LINE_MAX - 4096)
		(void)audit_flush(audit, NULL);
	if (audit->lost && !audit->tells_lost) {
		audit->tells_lost = true;
		put_head(audit, "lost");
		put_number(audit, "lines", audit->lost);
		end_line(audit);
	}
	put_head(audit, event);
}

/* The hash of a cell or message; itself, when the policy says so. */
static void put_content(struct audit *audit, const char *text, size_t size)
{
	char hash[LOGBOOK_HASH + 1];

	logbook_hash(text, size, hash);
	put_number(audit, "size", size);
	put_string(audit, "sha256", hash);
	if (!audit->rules.content)
		return;
	put_json(audit, "content", as_json(text, cut(size, AUDIT_CONTENT)));
	if (size > AUDIT_CONTENT)
		put_raw(audit, ",\"cut\":true", 11);
}

/* ---- the file ---- */

/* Puts what waits on disk. What does not fit is lost whole. */
static int write_pending(struct audit *audit, struct err *err)
{
	size_t done = 0;
	int code = 0;

	while (code == 0 && done < audit->used) {
		ssize_t put = write(audit->fd, audit->pending + done, audit->used - done);

		if (put > 0)
			done += (size_t)put;
		else if (put < 0 && errno != EINTR)
			code = -errno;
	}
	if (code == 0) {
		audit->size += audit->used;
		audit->written = audit->now;
		if (audit->tells_lost)
			audit->lost = 0;
	} else {
		/* The lost line that waited is not one of them. */
		audit->lost += audit->waiting - (audit->tells_lost ? 1 : 0);
		audit->now = audit->written;
		if (done > 0 && ftruncate(audit->fd, (off_t)audit->size) < 0)
			close_fd(&audit->fd); /* never on behind half a line */
	}
	audit->tells_lost = false;
	audit->used = audit->waiting = 0;
	return code < 0 ? err_set(err, code, "the audit log %s/%s: %s", audit->path, audit->name,
				  strerrordesc_np(-code))
			: 0;
}

static int make_file(struct audit *audit, unsigned segment, char name[LOGBOOK_NAME], int *ret_fd,
		     struct err *err)
{
	cleanup(close_fd) int fd = -1;

	(void)snprintf(name, LOGBOOK_NAME, "%.40s.%04u.jsonl", audit->base, segment);
	fd = openat(audit->directory, name,
		    O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(err, "cannot make %s/%s", audit->path, name);
	(void)flock(fd, LOCK_EX | LOCK_NB);
	*ret_fd = steal_fd(&fd);
	return 0;
}

/* The first line of a file; `after` "" when it is the first of all. */
static void put_begin(struct audit *audit, const char *after)
{
	audit->now.seq = 0;
	put_head(audit, "begin");
	put_string(audit, "file", audit->name);
	if (after[0])
		put_string(audit, "after", after);
	put_string(audit, "version", CELLWALL_VERSION);
	end_line(audit);
}

/* Removes one file that no kernel writes to. */
static bool remove_file(struct audit *audit, const char *name)
{
	if (logbook_in_use(audit->directory, name) || unlinkat(audit->directory, name, 0) < 0)
		return false;
	begin_line(audit, "removed");
	put_string(audit, "removed", name);
	put_string(audit, "reason", "the logs are limited in size and number");
	end_line(audit);
	return true;
}

/* The oldest go until there is room for what this launch may write. */
static void remove_oldest(struct audit *audit)
{
	struct logbook_list list;
	uint64_t total = 0;
	size_t left;

	if (logbook_list(audit->directory, &list, NULL) < 0)
		return;
	left = list.count;
	for (size_t i = 0; i < list.count; i++)
		total += list.file[i].size;
	for (size_t i = 0; i < list.count; i++) {
		if (total + audit->limit <= audit->rules.keep && left <= LOGBOOK_FILES_MAX)
			break;
		if (remove_file(audit, list.file[i].name)) {
			total -= list.file[i].size;
			left--;
		}
	}
	logbook_list_done(&list);
}

/* This file is full: its last line names the next. */
static int go_on(struct audit *audit, struct err *err)
{
	cleanup(close_fd) int fd = -1;
	char next[LOGBOOK_NAME], old[LOGBOOK_NAME];
	int code = make_file(audit, audit->segment + 1, next, &fd, err);

	if (code < 0)
		return code;
	put_head(audit, "continued");
	put_string(audit, "next", next);
	end_line(audit);
	code = write_pending(audit, err);
	if (code < 0) {
		(void)unlinkat(audit->directory, next, 0);
		return code;
	}
	(void)snprintf(old, sizeof(old), "%s", audit->name);
	(void)snprintf(audit->name, sizeof(audit->name), "%s", next);
	close_fd(&audit->fd);
	audit->fd = steal_fd(&fd);
	audit->segment++;
	audit->size = 0;
	put_begin(audit, old);
	if (audit->segment > AUDIT_SEGMENTS) {
		(void)snprintf(old, sizeof(old), "%.40s.%04u.jsonl", audit->base,
			       audit->segment - AUDIT_SEGMENTS + 1);
		(void)remove_file(audit, old);
	}
	remove_oldest(audit);
	return write_pending(audit, err);
}

int audit_flush(struct audit *audit, struct err *err)
{
	int code;

	if (!audit || audit->used == 0)
		return 0;
	code = write_pending(audit, err);
	return code == 0 && audit->size >= audit->limit ? go_on(audit, err) : code;
}

/* ---- the beginning and the end ---- */

/* Takes the hash of its last whole line; false when it has none. */
static bool take_last(struct audit *audit, const struct logbook_file *file)
{
	struct logbook_reader reader;
	char *line = NULL;
	size_t size = 0;
	bool any = false;

	if (logbook_reader_open(audit->directory, file->name, &reader, NULL) < 0)
		return false;
	if (file->size > LOGBOOK_LINE_MAX) /* then the first "line" is the end of one */
		(void)lseek(reader.fd, (off_t)(file->size - LOGBOOK_LINE_MAX), SEEK_SET);
	while (logbook_next(&reader, &line, &size) > 0) {
		logbook_hash(line, size, audit->now.hash);
		any = true;
	}
	logbook_reader_done(&reader);
	return any;
}

/* The newest file there is, which the new one goes on from. */
static void find_before(struct audit *audit, char after[LOGBOOK_NAME])
{
	struct logbook_list list;

	after[0] = '\0';
	memset(audit->now.hash, '0', LOGBOOK_HASH);
	if (logbook_list(audit->directory, &list, NULL) < 0)
		return;
	for (size_t i = list.count; i > 0 && !after[0]; i--)
		if (take_last(audit, &list.file[i - 1]))
			(void)snprintf(after, LOGBOOK_NAME, "%s", list.file[i - 1].name);
	logbook_list_done(&list);
}

/* Jupyter's own name of the kernel: kernel-NAME.json. */
static int name_kernel(struct audit *audit, const char *connection_file)
{
	static const char usual[] = "kernel-";
	static const char fine[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				   "-_";
	const char *name = strrchr(connection_file, '/');
	size_t size;

	name = name ? name + 1 : connection_file;
	if (strncmp(name, usual, sizeof(usual) - 1) == 0)
		name += sizeof(usual) - 1;
	size = strspn(name, fine);
	if (size == 0 || size >= sizeof(audit->kernel) || strcmp(name + size, ".json") != 0)
		return random_hex(audit->kernel, 16);
	memcpy(audit->kernel, name, size);
	return 0;
}

static void name_user(struct audit *audit)
{
	struct passwd entry, *found = NULL;
	char buffer[4096];

	if (getpwuid_r(geteuid(), &entry, buffer, sizeof(buffer), &found) == 0 && found)
		(void)snprintf(audit->user, sizeof(audit->user), "%.32s", found->pw_name);
	else
		(void)snprintf(audit->user, sizeof(audit->user), "%u", (unsigned)geteuid());
}

static int name_base(struct audit *audit)
{
	char id[17], seconds[32];
	struct timespec now;
	struct tm utc;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (!gmtime_r(&now.tv_sec, &utc) || random_hex(id, 8) < 0 ||
	    strftime(seconds, sizeof(seconds), "%Y%m%dT%H%M%S", &utc) == 0)
		return -EIO;
	(void)snprintf(audit->base, sizeof(audit->base), "%s.%03dZ-%s", seconds,
		       (int)(now.tv_nsec / 1000000), id);
	return 0;
}

static struct audit *audit_free(struct audit *audit)
{
	if (!audit)
		return NULL;
	close_fd(&audit->fd);
	close_fd(&audit->directory);
	free(audit->pending);
	free(audit->path);
	free(audit);
	return NULL;
}
DEFINE_CLEANUP(struct audit *, audit_free)

int audit_open(const char *connection_file, const struct audit_rules *rules,
	       struct audit **ret_audit, struct err *err)
{
	cleanup(audit_free_p) struct audit *audit = calloc(1, sizeof(*audit));
	char after[LOGBOOK_NAME];
	int code;

	if (!audit)
		return err_set(err, -ENOMEM, "out of memory");
	*audit = (struct audit){.rules = *rules,
				.directory = -1,
				.fd = -1,
				.segment = 1,
				.tokens = AUDIT_BURST,
				.refilled = now_ms(),
				.pending = malloc(PENDING_MAX)};
	audit->limit = rules->keep / (2 * AUDIT_SEGMENTS);
	if (audit->limit > AUDIT_SEGMENT)
		audit->limit = AUDIT_SEGMENT;
	if (audit->limit < AUDIT_SEGMENT_LEAST)
		audit->limit = AUDIT_SEGMENT_LEAST;
	if (!audit->pending)
		return err_set(err, -ENOMEM, "out of memory");
	code = logbook_path(&audit->path, err);
	if (code < 0)
		return code;
	audit->directory = logbook_open(audit->path, true, err);
	if (audit->directory < 0)
		return audit->directory;
	if (name_base(audit) < 0 || name_kernel(audit, connection_file) < 0)
		return err_set(err, -EIO, "no time or random numbers");
	name_user(audit);
	find_before(audit, after);
	code = make_file(audit, 1, audit->name, &audit->fd, err);
	if (code < 0)
		return code;
	audit->written = audit->now;
	put_begin(audit, after);
	remove_oldest(audit);
	code = write_pending(audit, err);
	if (code < 0) {
		(void)unlinkat(audit->directory, audit->name, 0);
		return code;
	}
	*ret_audit = steal_ptr(&audit);
	return 0;
}

int audit_close(struct audit *audit, struct err *err)
{
	int code;

	if (!audit)
		return 0;
	begin_line(audit, "end");
	put_number(audit, "cells", audit->cells);
	put_number(audit, "blocked", audit->notes);
	if (audit->rules.messages)
		put_number(audit, "messages", audit->messages);
	if (audit->skipped)
		put_number(audit, "skipped", audit->skipped);
	end_line(audit);
	code = write_pending(audit, err); /* the last: never on in another file */
	audit_free(audit);
	return code;
}

bool audit_required(const struct audit *audit)
{
	return audit && audit->rules.required;
}

const char *audit_directory(const struct audit *audit)
{
	return audit ? audit->path : NULL;
}

/* ---- what is recorded ---- */

static json_t *as_list(char *const *texts)
{
	json_t *list = json_array();

	for (size_t i = 0; list && texts[i] && i < 64; i++)
		(void)json_array_append_new(list, as_json(texts[i], cut(strlen(texts[i]), 512)));
	return list;
}

void audit_launch(struct audit *audit, const char *folder, char *const *argv, const char *policy)
{
	if (!audit)
		return;
	begin_line(audit, "launch");
	put_string(audit, "folder", folder);
	put_json(audit, "command", as_list(argv));
	put_string(audit, "policy", policy);
	end_line(audit);
}

void audit_layers(struct audit *audit, const char *has, const char *lacks, const char *limits)
{
	if (!audit)
		return;
	begin_line(audit, "layers");
	put_string(audit, "has", has);
	if (*lacks)
		put_string(audit, "lacks", lacks);
	put_string(audit, "limits", limits);
	end_line(audit);
}

void audit_limits(struct audit *audit, const char *holder, const char *limits, const char *reason)
{
	if (!audit)
		return;
	begin_line(audit, "limits");
	put_string(audit, "held_by", holder);
	put_string(audit, "limits", limits);
	if (*reason)
		put_string(audit, "reason", reason);
	end_line(audit);
}

void audit_cell(struct audit *audit, struct iovec content)
{
	json_t *object;
	const json_t *code;

	if (!audit)
		return;
	audit->cells++;
	object = content.iov_len <= AUDIT_CODE
			 ? json_loadb(content.iov_base, content.iov_len, JSON_ALLOW_NUL, NULL)
			 : NULL;
	code = json_object_get(object, "code");
	begin_line(audit, "cell");
	put_string(audit, "direction", "in");
	put_string(audit, "channel", "shell");
	put_string(audit, "msg_type", "execute_request");
	if (json_is_string(code)) {
		put_content(audit, json_string_value(code), json_string_length(code));
	} else {
		put_content(audit, content.iov_base, content.iov_len);
		put_string(audit, "reason", "of the whole request: its code could not be read");
	}
	end_line(audit);
	json_decref(object);
}

void audit_message(struct audit *audit, bool inward, const char *channel, const char *msg_type,
		   struct iovec content)
{
	if (!audit || !audit->rules.messages)
		return;
	audit->messages++;
	begin_line(audit, "message");
	put_string(audit, "direction", inward ? "in" : "out");
	put_string(audit, "channel", channel);
	put_string(audit, "msg_type", msg_type);
	put_string(audit, "verdict", "passed");
	put_content(audit, content.iov_base, content.iov_len);
	end_line(audit);
}

/* Whether there is room for one more in the rate; the first after some that had none tells them. */
static bool take_token(struct audit *audit)
{
	const int64_t now = now_ms();
	const int64_t fresh = (now - audit->refilled) * AUDIT_RATE / 1000;

	if (fresh > 0) {
		const uint64_t tokens = audit->tokens + (uint64_t)fresh;

		audit->tokens = tokens < AUDIT_BURST ? (unsigned)tokens : AUDIT_BURST;
		audit->refilled = now;
	}
	if (audit->tokens == 0) {
		audit->skipped++;
		return false;
	}
	audit->tokens--;
	if (audit->skipped) {
		begin_line(audit, "skipped");
		put_number(audit, "skipped", audit->skipped);
		put_string(audit, "reason", "more than are recorded one by one");
		end_line(audit);
		audit->skipped = 0;
	}
	return true;
}

static void note(struct audit *audit, const char *event, const char *direction, const char *channel,
		 const char *msg_type, size_t size, const char *verdict, const char *reason)
{
	if (!audit)
		return;
	audit->notes++;
	if (!take_token(audit))
		return;
	begin_line(audit, event);
	put_string(audit, "direction", direction);
	put_string(audit, "channel", channel);
	put_string(audit, "msg_type", msg_type);
	if (size > 0)
		put_number(audit, "size", size);
	put_string(audit, "verdict", verdict);
	put_string(audit, "reason", reason);
	end_line(audit);
}

void audit_refused(struct audit *audit, bool inward, const char *channel, const char *msg_type,
		   size_t size, const char *verdict, const char *reason)
{
	note(audit, "refused", inward ? "in" : "out", channel, msg_type, size, verdict, reason);
}

void audit_note(struct audit *audit, const char *event, const char *channel, const char *msg_type,
		size_t size, const char *verdict, const char *reason)
{
	note(audit, event, channel ? "out" : NULL, channel, msg_type, size, verdict, reason);
}

void audit_gone(struct audit *audit, int code, int signal_number)
{
	if (!audit)
		return;
	begin_line(audit, "gone");
	put_number(audit, "code", (uint64_t)code);
	put_number(audit, "signal", (uint64_t)signal_number);
	end_line(audit);
}
