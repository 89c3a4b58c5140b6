#include "sandbox/base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The text of an error is one line whatever was put into it: a terminal shows it. */
static void flatten(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
	}
}

int err_set(struct err *err, int code, const char *format, ...)
{
	va_list args;

	if (!err)
		return code;
	err->code = code;
	va_start(args, format);
	if (vsnprintf(err->text, sizeof(err->text), format, args) < 0)
		err->text[0] = '\0';
	va_end(args);
	flatten(err->text);
	return code;
}

int err_errno(struct err *err, const char *format, ...)
{
	int number = errno > 0 ? errno : EIO; /* a caller's slip must not read as success */
	const char *reason = strerrordesc_np(number);
	size_t length, most;
	va_list args;

	if (!err)
		return -number;
	if (!reason)
		reason = "Unknown error";
	err->code = -number;
	va_start(args, format);
	if (vsnprintf(err->text, sizeof(err->text), format, args) < 0)
		err->text[0] = '\0';
	va_end(args);
	/* The reason is what the reader needs most: a long path gives way to it. */
	length = strlen(err->text);
	most = sizeof(err->text) - strlen(reason) - sizeof(": ");
	if (length > most)
		length = most;
	(void)snprintf(err->text + length, sizeof(err->text) - length, ": %s", reason);
	flatten(err->text);
	return -number;
}

int err_wrap(struct err *err, const char *format, ...)
{
	char before[sizeof(err->text)];
	size_t length;
	va_list args;

	if (!err)
		return -EIO; /* nothing is known; still no success */
	memcpy(before, err->text, sizeof(before));
	before[sizeof(before) - 1] = '\0';
	va_start(args, format);
	if (vsnprintf(err->text, sizeof(err->text), format, args) < 0)
		err->text[0] = '\0';
	va_end(args);
	length = strlen(err->text);
	(void)snprintf(err->text + length, sizeof(err->text) - length, ": %s", before);
	flatten(err->text);
	return err->code;
}

void close_fd(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		(void)close(*fd); /* never retried: Linux has freed the number even after EINTR,
				     close(2) */
	*fd = -1;
	errno = saved;
}

void free_ptr(void *ptr)
{
	free(steal_ptr(ptr));
}

int steal_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

void *steal_ptr(void *ptr)
{
	void *taken, *nothing = NULL;

	memcpy(&taken, ptr, sizeof(taken));
	memcpy(ptr, &nothing, sizeof(nothing));
	return taken;
}

int read_full(int fd, void *data, size_t size)
{
	char *next = data;

	while (size > 0) {
		ssize_t got = read(fd, next, size);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -EPIPE;
		next += got;
		size -= (size_t)got;
	}
	return 0;
}

int write_full(int fd, const void *data, size_t size)
{
	const char *next = data;

	while (size > 0) {
		ssize_t put = write(fd, next, size);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		if (put == 0)
			return -EIO;
		next += put;
		size -= (size_t)put;
	}
	return 0;
}

/* Reads to the end of file; one byte more than `limit` is asked for, to notice what is longer. */
static int read_to_end(int fd, size_t hint, size_t limit, char **ret_data, size_t *ret_size)
{
	cleanup(free_ptr) char *data = NULL;
	size_t have = 0, room = hint < limit ? hint : limit;

	if (room < 4096)
		room = limit < 4096 ? limit : 4096;
	for (;;) {
		char *larger = realloc(data, room + 1);

		if (!larger)
			return -ENOMEM;
		data = larger;
		while (have <= room) { /* the byte for the NUL tells whether there is more */
			ssize_t got = read(fd, data + have, room + 1 - have);

			if (got < 0 && errno == EINTR)
				continue;
			if (got < 0)
				return -errno;
			if (got == 0) {
				data[have] = '\0';
				*ret_data = steal_ptr(&data);
				if (ret_size)
					*ret_size = have;
				return 0;
			}
			have += (size_t)got;
		}
		if (room >= limit)
			return -EFBIG;
		room = room > limit / 2 ? limit : room * 2;
	}
}

int read_file(int dirfd, const char *path, size_t limit, char **ret_data, size_t *ret_size,
	      struct err *err)
{
	cleanup(close_fd) int fd = -1;
	char name[256];
	struct stat status;
	int r;

	if (limit > SSIZE_MAX - 1)
		limit = SSIZE_MAX - 1;
	escape_string(name, sizeof(name), path);
	fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return err_errno(err, "cannot open %s", name);
	if (fstat(fd, &status) < 0)
		return err_errno(err, "cannot stat %s", name);
	r = read_to_end(fd, status.st_size > 0 ? (size_t)status.st_size : 0, limit, ret_data,
			ret_size);
	if (r == -EFBIG)
		return err_set(err, r, "%s is longer than %zu bytes", name, limit);
	if (r < 0) {
		errno = -r;
		return err_errno(err, "cannot read %s", name);
	}
	return 0;
}

int write_new_file(int dirfd, const char *path, mode_t mode, const void *data, size_t size,
		   struct err *err)
{
	char name[256];
	int fd, r;

	escape_string(name, sizeof(name), path);
	fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC,
		    mode);
	if (fd < 0)
		return err_errno(err, "cannot create %s", name);
	r = write_full(fd, data, size);
	/* A full quota may be reported only here, close(2). EINTR: the data is with the kernel. */
	if (close(fd) < 0 && r == 0 && errno != EINTR)
		r = -errno;
	if (r < 0) {
		(void)unlinkat(dirfd, path, 0);
		errno = -r;
		return err_errno(err, "cannot write %s", name);
	}
	return 0;
}

/*
 * Code points that show nothing, reorder what is around them or end a line: what a name needs to
 * look like another one (CVE-2021-42574, Unicode TR36). In ascending order.
 */
static const struct {
	uint32_t first, last;
} hidden[] = {
	{0x00, 0x1f},	  /* C0 controls */
	{0x7f, 0x9f},	  /* DEL, C1 controls: U+009B alone starts a terminal sequence */
	{0xad, 0xad},	  /* soft hyphen */
	{0x34f, 0x34f},	  /* combining grapheme joiner */
	{0x61c, 0x61c},	  /* arabic letter mark */
	{0x115f, 0x1160}, /* hangul fillers */
	{0x17b4, 0x17b5}, /* khmer inherent vowels, invisible */
	{0x180b, 0x180f}, /* mongolian selectors and vowel separator */
	{0x200b, 0x200f}, /* zero width space, joiners, left-to-right and right-to-left mark */
	{0x2028, 0x202e}, /* line and paragraph separator, bidirectional embeddings and overrides */
	{0x2060, 0x206f}, /* word joiner, invisible operators, bidirectional isolates, deprecated */
	{0x3164, 0x3164}, /* hangul filler */
	{0xd800, 0xdfff}, /* surrogates */
	{0xfdd0, 0xfdef}, /* noncharacters */
	{0xfeff, 0xfeff}, /* byte order mark */
	{0xffa0, 0xffa0}, /* halfwidth hangul filler */
	{0xfff0, 0xfffb}, /* unassigned, interlinear annotation */
	{0x1bca0, 0x1bca3}, /* shorthand format controls */
	{0x1d173, 0x1d17a}, /* musical format controls */
	{0xe0000, 0xe0fff}, /* tags and variation selectors: whole sentences fit in there unseen */
};

static bool printable(uint32_t point)
{
	if (point > 0x10ffff || (point & 0xfffe) == 0xfffe)
		return false;
	for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++) {
		if (point <= hidden[i].last)
			return point < hidden[i].first;
	}
	return true;
}

/* Bytes of the well-formed, printable character at `text`, or 0 (RFC 3629; overlong forms are
 * malformed). */
static size_t printable_length(const unsigned char *text, size_t size)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t length;
	uint32_t point;

	if (text[0] < 0x80)
		return text[0] != '\\' && printable(text[0]) ? 1 : 0;
	if (text[0] < 0xc0 || text[0] > 0xf7)
		return 0;
	length = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
	if (length > size)
		return 0;
	point = text[0] & (0x7fu >> length);
	for (size_t i = 1; i < length; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		point = point << 6 | (text[i] & 0x3fu);
	}
	return point >= least[length] && printable(point) ? length : 0;
}

/* One character of `text` into `unit`: how many bytes it became; *ret_used: how many it was. */
static size_t escape_one(char unit[4], const unsigned char *text, size_t size, size_t *ret_used)
{
	static const char digits[] = "0123456789abcdef";
	size_t length = printable_length(text, size);

	if (length > 0) {
		memcpy(unit, text, length);
		*ret_used = length;
		return length;
	}
	*ret_used = 1;
	unit[0] = '\\';
	if (text[0] == '\\' || text[0] == '\n' || text[0] == '\t') {
		unit[1] = text[0] == '\n' ? 'n' : text[0] == '\t' ? 't' : '\\';
		return 2;
	}
	unit[1] = 'x';
	unit[2] = digits[text[0] >> 4];
	unit[3] = digits[text[0] & 15];
	return 4;
}

static const char *escape(char *out, size_t out_size, const void *text, size_t size, bool again)
{
	const unsigned char *next = text;
	size_t at = 0, cut = 0; /* cut: where "..." still fits */
	char unit[4];

	if (out_size == 0)
		return "";
	while (size > 0) {
		size_t used = 1, length = 1;

		if (again && *next == '\\')
			unit[0] = '\\';
		else
			length = escape_one(unit, next, size, &used);

		if (length >= out_size - at) {
			at = cut;
			while (at < out_size - 1 && at < cut + 3)
				out[at++] = '.';
			break;
		}
		memcpy(out + at, unit, length);
		at += length;
		if (at + 3 < out_size)
			cut = at;
		next += used;
		size -= used;
	}
	out[at] = '\0';
	return out;
}

const char *escape_text(char *out, size_t out_size, const void *text, size_t size)
{
	return escape(out, out_size, text, size, false);
}

const char *escape_string(char *out, size_t out_size, const char *text)
{
	return escape(out, out_size, text, strlen(text), false);
}

const char *escape_line(char *out, size_t out_size, const char *text)
{
	return escape(out, out_size, text, strlen(text), true);
}

char *path_join(const char *directory, const char *name)
{
	size_t length = strlen(directory);

	while (length > 0 && directory[length - 1] == '/')
		length--;
	while (*name == '/')
		name++;
	if (length == 0 &&
	    *directory == '\0') /* "" is the current directory: no "/" makes it the root */
		return strdup(name);
	if (length > INT_MAX)
		return NULL;
	return format_string("%.*s/%s", (int)length, directory, name);
}

char *format_string(const char *format, ...)
{
	char *text = NULL;
	va_list args;
	int r;

	va_start(args, format);
	r = vasprintf(&text, format, args);
	va_end(args);
	return r < 0 ? NULL : text;
}

/* One step of make_directories; an existing symbolic link to a directory is accepted. */
static int make_directory(const char *path, mode_t mode, struct err *err)
{
	char name[256];
	struct stat status;

	if (mkdir(path, mode) == 0)
		return 0;
	/* Read-only file systems answer EROFS and automounts EACCES for a directory that is there.
	 */
	if (errno == EEXIST || errno == EROFS || errno == EACCES) {
		int saved = errno;

		if (stat(path, &status) == 0) {
			if (S_ISDIR(status.st_mode))
				return 0;
			saved = ENOTDIR;
		}
		errno = saved;
	}
	return err_errno(err, "cannot make directory %s", escape_string(name, sizeof(name), path));
}

int make_directories(const char *path, mode_t mode, struct err *err)
{
	cleanup(free_ptr) char *copy = strdup(path);
	char *slash;

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	for (slash = copy; *slash; slash++) {
		int r;

		if (*slash != '/' || slash == copy || slash[-1] == '/')
			continue;
		*slash = '\0';
		r = make_directory(copy, mode, err);
		if (r < 0)
			return r;
		*slash = '/';
	}
	return make_directory(copy, mode, err);
}

int64_t now_ms(void)
{
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with these arguments */
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int random_bytes(void *data, size_t size)
{
	unsigned char *next = data;

	while (size > 0) {
		ssize_t got = getrandom(next, size, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		next += got;
		size -= (size_t)got;
	}
	return 0;
}

int random_hex(char *out, size_t size)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char *bytes = (unsigned char *)out + size; /* the upper half, eaten from below */
	int r = random_bytes(bytes, size);

	if (r < 0)
		return r;
	for (size_t i = 0; i < size; i++) {
		unsigned char byte = bytes[i];

		out[2 * i] = digits[byte >> 4];
		out[2 * i + 1] = digits[byte & 15];
	}
	out[2 * size] = '\0';
	return 0;
}

int parse_u64(const char *text, uint64_t max, uint64_t *ret_value)
{
	uint64_t value = 0;
	bool over = false;

	if (!text || !*text)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		over = over || __builtin_mul_overflow(value, 10u, &value) ||
		       __builtin_add_overflow(value, (unsigned)(*text - '0'), &value);
	}
	if (over || value > max)
		return -ERANGE;
	*ret_value = value;
	return 0;
}
