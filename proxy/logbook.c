#include "proxy/logbook.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/staging.h"

int logbook_path(char **ret_path, struct err *err)
{
	cleanup(free_ptr) char *kernels = NULL;
	char *slash;
	int code = staging_state_directory(&kernels, err);

	if (code < 0)
		return code;
	slash = strrchr(kernels, '/');
	*ret_path = slash ? format_string("%.*s/log", (int)(slash - kernels), kernels) : NULL;
	return *ret_path ? 0 : err_set(err, -ENOMEM, "out of memory");
}

int logbook_open(const char *path, bool make, struct err *err)
{
	cleanup(close_fd) int fd = -1;
	struct stat status;
	int code = make ? make_directories(path, 0700, err) : 0;

	if (code < 0)
		return code;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &status) < 0)
		return err_errno(err, "%s", path);
	if (status.st_uid != geteuid() || (status.st_mode & (S_IWGRP | S_IWOTH)))
		return err_set(err, -EPERM, "%s belongs to somebody else or others can write to it",
			       path);
	return steal_fd(&fd);
}

bool logbook_is_name(const char *name)
{
	static const char shape[] = "ddddddddTdddddd.dddZ-xxxxxxxxxxxxxxxx.dddd.jsonl";

	if (strlen(name) != sizeof(shape) - 1)
		return false;
	for (size_t i = 0; shape[i]; i++) {
		const unsigned char c = (unsigned char)name[i];

		if (shape[i] == 'd'   ? !isdigit(c)
		    : shape[i] == 'x' ? !isxdigit(c)
				      : c != (unsigned char)shape[i])
			return false;
	}
	return true;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct logbook_file *)a)->name,
		      ((const struct logbook_file *)b)->name);
}

static int add_file(struct logbook_list *list, size_t *room, const char *name, uint64_t size)
{
	struct logbook_file *more;

	if (list->count == *room) {
		*room = *room ? 2 * *room : 64;
		more = realloc(list->file, *room * sizeof(*more));
		if (!more)
			return -ENOMEM;
		list->file = more;
	}
	list->file[list->count].size = size;
	(void)snprintf(list->file[list->count++].name, LOGBOOK_NAME, "%.*s", LOGBOOK_NAME - 1,
		       name);
	return 0;
}

int logbook_list(int directory, struct logbook_list *ret_list, struct err *err)
{
	struct logbook_list list = {0};
	int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), code = 0;
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	struct stat status;
	size_t room = 0;

	if (!stream) {
		code = err_errno(err, "cannot list the logs");
		close_fd(&fd);
		return code;
	}
	/* Far more than we ever leave there are not ours to sort. */
	while (code == 0 && list.count < 4 * LOGBOOK_FILES_MAX && (entry = readdir(stream)))
		if (logbook_is_name(entry->d_name) &&
		    fstatat(directory, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(status.st_mode))
			code = add_file(&list, &room, entry->d_name, (uint64_t)status.st_size);
	(void)closedir(stream);
	if (code < 0) {
		logbook_list_done(&list);
		return err_set(err, code, "out of memory");
	}
	if (list.count > 1)
		qsort(list.file, list.count, sizeof(list.file[0]), by_name);
	*ret_list = list;
	return 0;
}

void logbook_list_done(struct logbook_list *list)
{
	free(list->file);
	*list = (struct logbook_list){0};
}

void logbook_hash(const void *line, size_t size, char out[LOGBOOK_HASH + 1])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned count = 0;

	memset(out, '0', LOGBOOK_HASH);
	out[LOGBOOK_HASH] = '\0';
	if (EVP_Digest(line, size, digest, &count, EVP_sha256(), NULL) != 1)
		return; /* no memory: the chain shows it */
	for (unsigned i = 0; i < count && 2 * i < LOGBOOK_HASH; i++)
		(void)snprintf(out + (size_t)2 * i, 3, "%02x", digest[i]);
}

/* ---- reading ---- */

int logbook_reader_open(int directory, const char *name, struct logbook_reader *ret_reader,
			struct err *err)
{
	struct logbook_reader reader = {
		.fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)};
	struct stat status;

	if (reader.fd < 0)
		return err_errno(err, "%s", name);
	if (fstat(reader.fd, &status) < 0 || !S_ISREG(status.st_mode)) {
		close_fd(&reader.fd);
		return err_set(err, -EINVAL, "%s is not a regular file", name);
	}
	reader.buffer = malloc(LOGBOOK_LINE_MAX + 1);
	if (!reader.buffer) {
		close_fd(&reader.fd);
		return err_set(err, -ENOMEM, "out of memory");
	}
	*ret_reader = reader;
	return 0;
}

void logbook_reader_done(struct logbook_reader *reader)
{
	free_ptr(&reader->buffer);
	close_fd(&reader->fd);
}

/* Bytes after the last whole line. */
static size_t logbook_torn(const struct logbook_reader *reader)
{
	return reader->end - reader->start;
}

int logbook_next(struct logbook_reader *reader, char **ret_line, size_t *ret_size)
{
	size_t looked = 0;

	for (;;) {
		char *from = reader->buffer + reader->start, *end;
		ssize_t got;

		end = memchr(from + looked, '\n', logbook_torn(reader) - looked);
		if (end) {
			*end = '\0';
			*ret_line = from;
			*ret_size = (size_t)(end - from);
			reader->start += *ret_size + 1;
			return 1;
		}
		looked = logbook_torn(reader);
		memmove(reader->buffer, from, looked);
		reader->start = 0;
		reader->end = looked;
		if (looked == LOGBOOK_LINE_MAX)
			return -EFBIG;
		got = read(reader->fd, reader->buffer + looked, LOGBOOK_LINE_MAX - looked);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : 0;
		reader->end += (size_t)got;
	}
}

bool logbook_in_use(int directory, const char *name)
{
	cleanup(close_fd) int fd =
		openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

/* ---- the chain ---- */

static void find_wrong(struct logbook_check *check, const char *problem)
{
	if (check->wrong)
		return;
	check->wrong = check->lines;
	(void)snprintf(check->problem, sizeof(check->problem), "%s", problem);
}

static const char *member(const json_t *line, const char *key)
{
	const char *text = json_string_value(json_object_get(line, key));

	return text ? text : "";
}

static void check_first(struct logbook_check *check, const json_t *line, const char *name)
{
	const char *prev = member(line, "prev"), *after = member(line, "after");

	if (strcmp(member(line, "file"), name) != 0)
		find_wrong(check, "it is the beginning of another file");
	if (strlen(prev) != LOGBOOK_HASH)
		find_wrong(check, "it has no hash of what is before it");
	(void)snprintf(check->prev, sizeof(check->prev), "%.*s", LOGBOOK_HASH, prev);
	if (logbook_is_name(after))
		(void)snprintf(check->after, sizeof(check->after), "%.*s", LOGBOOK_NAME - 1, after);
}

static void check_line(struct logbook_check *check, const json_t *line, const char *name)
{
	const char *event = member(line, "event");

	if (!json_is_object(line)) {
		find_wrong(check, "it is no JSON object");
		return;
	}
	if (check->ended)
		find_wrong(check, "it follows the last line");
	if (json_integer_value(json_object_get(line, "seq")) != (json_int_t)check->lines)
		find_wrong(check, "its number is not the next: a line was removed or moved");
	if (check->lines == 1)
		check_first(check, line, name);
	else if (strcmp(member(line, "prev"), check->head) != 0)
		find_wrong(check, "the line before it is not the one that was written");
	check->ended = strcmp(event, "end") == 0 || strcmp(event, "continued") == 0;
}

int logbook_check(int directory, const char *name, logbook_line_fn *each, void *arg,
		  struct logbook_check *ret_check, struct err *err)
{
	struct logbook_check check = {.in_use = logbook_in_use(directory, name)};
	struct logbook_reader reader;
	size_t size = 0;
	char *text = NULL;
	int code = logbook_reader_open(directory, name, &reader, err);

	if (code < 0)
		return code;
	while ((code = logbook_next(&reader, &text, &size)) > 0) {
		json_t *line = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);

		check.lines++;
		check_line(&check, line, name);
		if (line && each)
			each(arg, line);
		json_decref(line);
		logbook_hash(text, size, check.head);
	}
	check.torn = logbook_torn(&reader);
	logbook_reader_done(&reader);
	if (code == -EFBIG) {
		check.lines++;
		find_wrong(&check, "it is longer than any that is written");
	} else if (code < 0) {
		return err_set(err, code, "%s: %s", name, strerrordesc_np(-code));
	}
	*ret_check = check;
	return 0;
}

int logbook_has(int directory, const char *name, const char *hash, struct err *err)
{
	struct logbook_reader reader;
	char found[LOGBOOK_HASH + 1], *text = NULL;
	size_t size = 0;
	int code = logbook_reader_open(directory, name, &reader, err);

	if (code < 0)
		return code;
	found[0] = '\0';
	while (strcmp(found, hash) != 0 && (code = logbook_next(&reader, &text, &size)) > 0)
		logbook_hash(text, size, found);
	logbook_reader_done(&reader);
	return code < 0 && code != -EFBIG ? err_set(err, code, "%s", name)
					  : strcmp(found, hash) == 0;
}
