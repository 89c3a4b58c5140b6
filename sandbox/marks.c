/*
 * marks: what the private directory says of names and files, besides what the collector saw: names
 * that the policy lets out, and files that were copied in and are no results.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/staging_parts.h"

#define LET_OUT_MAX (256 * 1024) /* bytes of all names together */
#define GIVEN_MAX   131072

static void free_names(char **names)
{
	for (size_t i = 0; names && names[i]; i++)
		free(names[i]);
	free(names);
}

void marks_done(struct staging *staging)
{
	free_names(staging->let_out);
	staging->let_out = NULL;
	free(staging->given.file);
	staging->given = (struct given){0};
}

/* The names of `text`, each with a NUL at its end. */
static int take_names(struct staging *staging, const char *text, size_t size)
{
	size_t count = 0, n = 0;
	char **names;

	for (size_t i = 0; i < size; i++)
		count += text[i] == '\0';
	names = calloc(count + 1, sizeof(*names));
	if (!names)
		return -ENOMEM;
	for (const char *at = text; n < count; at += strlen(at) + 1) {
		names[n] = strdup(at);
		if (!names[n++]) {
			free_names(names);
			return -ENOMEM;
		}
	}
	free_names(staging->let_out);
	staging->let_out = names;
	return 0;
}

int staging_let_out(struct staging *staging, char *const *names)
{
	cleanup(free_ptr) char *text = NULL;
	size_t size = 0;
	int r;

	for (size_t i = 0; names && names[i]; i++) {
		const size_t length = strlen(names[i]) + 1;
		char *longer = realloc(text, size + length);

		if (!longer)
			return -ENOMEM;
		text = longer;
		memcpy(text + size, names[i], length);
		size += length;
		if (size > LET_OUT_MAX)
			return -E2BIG;
	}
	if (!text)
		return 0;
	r = take_names(staging, text, size);
	return r < 0 ? r : write_new_file(staging->fd, "let_out", 0600, text, size, NULL);
}

int marks_read_let_out(struct staging *staging, struct err *err)
{
	cleanup(free_ptr) char *text = NULL;
	size_t size = 0;
	int r;

	if (faccessat(staging->fd, "let_out", F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return 0;
	r = read_file(staging->fd, "let_out", LET_OUT_MAX, &text, &size, err);
	if (r == 0 && take_names(staging, text, size) < 0)
		r = err_set(err, -ENOMEM, "out of memory");
	return r;
}

int staging_given(struct staging *staging, const struct stat *status)
{
	cleanup(close_fd) int fd = openat(
		staging->fd, "given", O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct seen_target file;
	struct stat size;

	if (fd < 0 || fstat(fd, &size) < 0)
		return -errno;
	if ((uint64_t)size.st_size >= GIVEN_MAX * sizeof(file))
		return -E2BIG;
	seen_target_of(status, &file);
	return write_full(fd, &file, sizeof(file));
}

/* Others append while this reads: `cellwall stage put`. */
void marks_read_given(struct staging *staging)
{
	struct given *given = &staging->given;
	cleanup(close_fd) int fd = openat(staging->fd, "given", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct seen_target *file;
	struct stat status;
	size_t count;

	if (fd < 0 || fstat(fd, &status) < 0)
		return;
	count = (size_t)status.st_size / sizeof(*file);
	if (count > GIVEN_MAX)
		count = GIVEN_MAX;
	if (count <= given->count)
		return;
	file = reallocarray(given->file, count, sizeof(*file));
	if (!file)
		return; /* the next call tries again */
	given->file = file;
	while (given->count < count &&
	       pread(fd, &file[given->count], sizeof(*file),
		     (off_t)(given->count * sizeof(*file))) == (ssize_t)sizeof(*file))
		given->count++;
}

bool marks_is_given(const struct staging *staging, const struct stat *status)
{
	struct seen_target file;

	seen_target_of(status, &file);
	for (size_t i = 0; i < staging->given.count; i++)
		if (seen_same_target(&staging->given.file[i], &file))
			return true;
	return false;
}
