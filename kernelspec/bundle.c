#include "kernelspec/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "kernelspec/pool.h"
#include "sandbox/tree.h"

static const char magic[] = "cellwall bundle 1\n";

#define CHUNK 65536
#define WHOLE ((size_t)32 << 20) /* a file up to this is in memory before it is written */

struct reader {
	int in, tree, wheels, pool;
	const struct bundle_sink *sink;
	struct err *err;
	EVP_MD_CTX *digest;
	uint64_t files, bytes;
	bool in_tree;		     /* the first record of the tree was seen */
	char path[BUNDLE_PATH + 1];  /* of the present record */
	char shown[4 * BUNDLE_PATH]; /* the same, to print */
	int stack[BUNDLE_DEPTH];     /* the directories that lead to the last record */
	size_t length[BUNDLE_DEPTH]; /* of each one's path */
	size_t depth;		     /* of the stack */
	char above[BUNDLE_PATH + 1]; /* the path that the stack stands for */
	unsigned char buffer[CHUNK];
	size_t at, end;
	unsigned char *whole; /* of a file, `room` bytes */
	size_t room;
};

static int refuse(struct reader *reader, const char *why)
{
	(void)escape_string(reader->shown, sizeof(reader->shown), reader->path);
	return err_set(reader->err, -EPROTO, "what was built holds \"%s\", %s", reader->shown, why);
}

/* ---- bytes ---- */

static ssize_t read_some(struct reader *reader, void *to, size_t size)
{
	ssize_t got;

	do
		got = read(reader->in, to, size);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return err_errno(reader->err, "cannot read what was built");
	if (got == 0)
		return err_set(reader->err, -EPROTO, "what was built ends too early");
	return got;
}

static int fill(struct reader *reader)
{
	ssize_t got = read_some(reader, reader->buffer, sizeof(reader->buffer));

	if (got < 0)
		return (int)got;
	reader->at = 0;
	reader->end = (size_t)got;
	return 0;
}

static int take(struct reader *reader, void *data, size_t size)
{
	unsigned char *to = data;

	while (size > 0) {
		size_t part = reader->end - reader->at;

		if (part == 0) {
			ssize_t got = size < CHUNK ? fill(reader) : read_some(reader, to, size);

			if (got < 0)
				return (int)got;
			to += got; /* 0: it is in the buffer now */
			size -= (size_t)got;
			continue;
		}
		part = part < size ? part : size;
		memcpy(to, reader->buffer + reader->at, part);
		reader->at += part;
		to += part;
		size -= part;
	}
	return 0;
}

static int take_size(struct reader *reader, uint64_t most, uint64_t *ret_size)
{
	unsigned char bytes[8];
	uint64_t size = 0;
	int r = take(reader, bytes, sizeof(bytes));

	if (r < 0)
		return r;
	for (int i = 7; i >= 0; i--)
		size = size << 8 | bytes[i];
	if (size > most || size > BUNDLE_BYTES - reader->bytes)
		return refuse(reader, "which is too large");
	reader->bytes += size;
	*ret_size = size;
	return 0;
}

/* ---- names ---- */

/* One component: no control characters, which listings and requirement files would act on. */
static bool good_name(const char *name, size_t length)
{
	if (length == 0 || length > NAME_MAX || (length == 1 && name[0] == '.') ||
	    (length == 2 && name[0] == '.' && name[1] == '.'))
		return false;
	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)name[i];

		if (byte < 0x20 || byte == 0x7f || byte == '/')
			return false;
	}
	return true;
}

static int take_name(struct reader *reader)
{
	unsigned char bytes[2];
	size_t length;
	int r = take(reader, bytes, sizeof(bytes));

	if (r < 0)
		return r;
	length = (size_t)bytes[0] | (size_t)bytes[1] << 8;
	reader->path[0] = '\0';
	if (length == 0 || length > BUNDLE_PATH)
		return err_set(reader->err, -EPROTO, "what was built holds a name of %zu bytes",
			       length);
	r = take(reader, reader->path, length);
	if (r < 0)
		return r;
	reader->path[length] = '\0';
	if (memchr(reader->path, '\0', length))
		return err_set(reader->err, -EPROTO, "what was built holds a name with a NUL");
	for (const char *part = reader->path;; part++) {
		size_t size = strcspn(part, "/");

		if (!good_name(part, size))
			return refuse(reader, "a name that is not taken");
		part += size;
		if (*part == '\0')
			return 0;
	}
}

/* ---- the tree ---- */

static void leave(struct reader *reader, size_t depth)
{
	while (reader->depth > depth) {
		/* Nothing is added to it any more. */
		(void)fchmod(reader->stack[--reader->depth], 0555);
		close_fd(&reader->stack[reader->depth]);
	}
	reader->above[reader->depth > 0 ? reader->length[reader->depth - 1] : 0] = '\0';
}

/* The directory that the present path is in: one that was made a record of it ago. Returns it
 * (lent) and the last component. */
static int find_parent(struct reader *reader, int *ret_directory, const char **ret_name)
{
	const char *slash = strrchr(reader->path, '/');
	size_t length = slash ? (size_t)(slash - reader->path) : 0;
	size_t depth = reader->depth;

	while (depth > 0 && (reader->length[depth - 1] > length ||
			     memcmp(reader->above, reader->path, reader->length[depth - 1]) != 0 ||
			     (reader->length[depth - 1] < length &&
			      reader->path[reader->length[depth - 1]] != '/')))
		depth--;
	leave(reader, depth);
	if ((depth > 0 ? reader->length[depth - 1] : 0) != length)
		return refuse(reader, "whose directory did not come right before it");
	*ret_directory = depth > 0 ? reader->stack[depth - 1] : reader->tree;
	*ret_name = slash ? slash + 1 : reader->path;
	return 0;
}

static int cannot(struct reader *reader)
{
	int code = -errno;

	if (code == -EEXIST)
		return refuse(reader, "which is there twice");
	(void)escape_string(reader->shown, sizeof(reader->shown), reader->path);
	return err_set(reader->err, code, "cannot write %s: %s", reader->shown,
		       strerrordesc_np(-code));
}

static int cannot_write(struct reader *reader, int code)
{
	return err_set(reader->err, code, "cannot write the environment: %s",
		       strerrordesc_np(-code));
}

static int tell(struct reader *reader, char kind, const char *digest, const char *to, uint64_t size)
{
	int r = reader->sink->entry(reader->sink->arg, kind, reader->path, digest, to, size);

	return r < 0 ? cannot_write(reader, r) : 0;
}

static int take_directory(struct reader *reader, int parent, const char *name)
{
	int fd;

	if (reader->depth == BUNDLE_DEPTH)
		return refuse(reader, "which is too deep");
	if (mkdirat(parent, name, 0755) < 0)
		return cannot(reader);
	fd = tree_step(parent, name, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return err_set(reader->err, fd, "cannot open what was just made: %s",
			       strerrordesc_np(-fd));
	reader->stack[reader->depth] = fd;
	reader->length[reader->depth++] = strlen(reader->path);
	memcpy(reader->above, reader->path, sizeof(reader->above));
	return tell(reader, 'd', NULL, NULL, 0);
}

static void write_hex(const unsigned char digest[32], char hex[65])
{
	for (size_t i = 0; i < 32; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

/* The next `size` bytes into memory, with their digest. */
static int take_whole(struct reader *reader, size_t size, char hex[65])
{
	unsigned char digest[32];
	int r;

	if (size > reader->room) {
		free(reader->whole);
		reader->room = 0;
		reader->whole = malloc(size);
		if (!reader->whole)
			return err_set(reader->err, -ENOMEM, "out of memory");
		reader->room = size;
	}
	r = take(reader, reader->whole, size);
	if (r == 0 && EVP_Digest(reader->whole, size, digest, NULL, EVP_sha256(), NULL) != 1)
		r = err_set(reader->err, -ENOMEM, "cannot compute a digest");
	if (r == 0)
		write_hex(digest, hex);
	return r;
}

/* From the present place to a fresh file; `hex` gets the digest of what it is. */
static int copy_out(struct reader *reader, int fd, uint64_t size, char hex[65])
{
	unsigned char digest[32];
	unsigned int length = sizeof(digest);

	if (EVP_DigestInit_ex(reader->digest, EVP_sha256(), NULL) != 1)
		return err_set(reader->err, -ENOMEM, "cannot compute a digest");
	while (size > 0) {
		size_t part = reader->end - reader->at;
		int r;

		if (part == 0) {
			r = fill(reader);
			if (r < 0)
				return r;
			continue;
		}
		part = part < size ? part : (size_t)size;
		(void)EVP_DigestUpdate(reader->digest, reader->buffer + reader->at, part);
		r = fd < 0 ? 0 : write_full(fd, reader->buffer + reader->at, part);
		if (r < 0)
			return cannot_write(reader, r);
		reader->at += part;
		size -= part;
	}
	(void)EVP_DigestFinal_ex(reader->digest, digest, &length);
	write_hex(digest, hex);
	return 0;
}

static int take_file(struct reader *reader, int parent, const char *name, char kind)
{
	cleanup(close_fd) int fd = -1;
	uint64_t size = 0;
	char hex[65];
	int r = take_size(reader, BUNDLE_BYTES, &size);
	const bool whole = size > 0 && size <= WHOLE;

	if (r == 0 && whole)
		r = take_whole(reader, (size_t)size, hex);
	if (r < 0)
		return r;
	if (whole &&
	    pool_find(reader->pool, parent, name, hex, kind == 'x', reader->whole, (size_t)size))
		return tell(reader, kind, hex, NULL, size);
	fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return cannot(reader);
	r = whole ? write_full(fd, reader->whole, (size_t)size) : copy_out(reader, fd, size, hex);
	if (r < 0)
		return whole ? cannot_write(reader, r) : r;
	if (fchmod(fd, kind == 'x' ? 0555 : 0444) < 0)
		return cannot(reader);
	if (size > 0)
		pool_share(reader->pool, parent, name, hex, kind == 'x');
	return tell(reader, kind, hex, NULL, size);
}

/* Does `to`, read from the directory of the present path, stay in the tree? By its text, which is
 * enough for clear words: nobody outside a sandbox ever follows one. */
static bool stays_inside(const struct reader *reader, const char *to)
{
	size_t depth = reader->depth;

	if (to[0] == '/' || to[0] == '\0')
		return false;
	for (const char *part = to;; part++) {
		size_t size = strcspn(part, "/");

		if (size == 2 && part[0] == '.' && part[1] == '.') {
			if (depth-- == 0)
				return false;
		} else if (size > 0 && !(size == 1 && part[0] == '.')) {
			if (!good_name(part, size))
				return false;
			depth++;
		}
		part += size;
		if (*part == '\0')
			return true;
	}
}

static bool is_interpreter(const char *path, const char *to)
{
	if (strncmp(path, "bin/python", 10) != 0 || strchr(path + 4, '/') || to[0] != '/')
		return false;
	for (const char *byte = to; *byte; byte++) {
		if ((unsigned char)*byte < 0x20 || *byte == 0x7f)
			return false;
	}
	return true;
}

static int take_link(struct reader *reader, int parent, const char *name)
{
	uint64_t size = 0;
	char to[BUNDLE_PATH + 1];
	int r = take_size(reader, BUNDLE_PATH, &size);

	if (r < 0)
		return r;
	r = take(reader, to, (size_t)size);
	if (r < 0)
		return r;
	to[size] = '\0';
	if (strlen(to) != size || (!stays_inside(reader, to) && !is_interpreter(reader->path, to)))
		return refuse(reader, "a link that leads out of the environment");
	if (symlinkat(to, parent, name) < 0)
		return cannot(reader);
	return tell(reader, 'l', NULL, to, size);
}

/* ---- what comes before the tree ---- */

static int take_note(struct reader *reader)
{
	cleanup(free_ptr) char *text = NULL;
	uint64_t size = 0;
	int r = take_size(reader, BUNDLE_TEXT, &size);

	if (r < 0)
		return r;
	text = malloc((size_t)size + 1);
	if (!text)
		return err_set(reader->err, -ENOMEM, "out of memory");
	r = take(reader, text, (size_t)size);
	if (r < 0)
		return r;
	text[size] = '\0';
	r = reader->sink->note(reader->sink->arg, reader->path, text, (size_t)size);
	return r < 0 ? cannot_write(reader, r) : 0;
}

/* WHEELS/<digest>/<name>, made whole under another name first. Kept already: nothing to do. */
static int keep_wheel(struct reader *reader, const char *fresh, const char *hex)
{
	cleanup(close_fd) int directory = -1;

	if (mkdirat(reader->wheels, hex, 0755) < 0 && errno != EEXIST)
		return cannot(reader);
	directory = tree_step(reader->wheels, hex, O_RDONLY | O_DIRECTORY);
	if (directory < 0)
		return err_set(reader->err, directory, "the cache of wheels: %s",
			       strerrordesc_np(-directory));
	if (renameat(reader->wheels, fresh, directory, reader->path) < 0)
		return cannot(reader);
	return 0;
}

static int take_wheel(struct reader *reader)
{
	cleanup(close_fd) int fd = -1;
	char fresh[] = ".new-0123456789abcdef0123456789abcdef", hex[65];
	uint64_t size = 0;
	int r = take_size(reader, BUNDLE_BYTES, &size);

	if (r < 0)
		return r;
	if (strchr(reader->path, '/') || reader->path[0] == '.')
		return refuse(reader, "a name that is not taken");
	if (reader->wheels < 0)
		return copy_out(reader, -1, size, hex);
	r = random_hex(fresh + 5, 16);
	if (r < 0)
		return err_set(reader->err, r, "no random numbers");
	fd = openat(reader->wheels, fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (fd < 0)
		return cannot(reader);
	r = copy_out(reader, fd, size, hex);
	if (r == 0)
		r = keep_wheel(reader, fresh, hex);
	if (r < 0)
		(void)unlinkat(reader->wheels, fresh, 0);
	return r;
}

/* ---- records ---- */

static int take_record(struct reader *reader, char kind)
{
	const char *name = NULL;
	int parent = -1;
	int r = take_name(reader);

	if (r < 0)
		return r;
	if (++reader->files > BUNDLE_FILES)
		return refuse(reader, "one file too many");
	if (kind == 'm' || kind == 'w') {
		if (reader->in_tree)
			return refuse(reader, "which comes too late");
		return kind == 'm' ? take_note(reader) : take_wheel(reader);
	}
	reader->in_tree = true;
	r = find_parent(reader, &parent, &name);
	if (r < 0)
		return r;
	switch (kind) {
	case 'd':
		return take_directory(reader, parent, name);
	case 'f':
	case 'x':
		return take_file(reader, parent, name, kind);
	case 'l':
		return take_link(reader, parent, name);
	default:
		return refuse(reader, "of no kind that is known");
	}
}

static int read_all(struct reader *reader)
{
	char head[sizeof(magic)] = "", kind = 0;
	int r = take(reader, head, sizeof(magic) - 1);

	if (r == 0 && strcmp(head, magic) != 0)
		r = err_set(reader->err, -EPROTO, "what was built is no bundle");
	while (r == 0) {
		r = take(reader, &kind, 1);
		if (r == 0 && kind == 'e')
			break;
		if (r == 0)
			r = take_record(reader, kind);
	}
	return r;
}

int bundle_read(int in, int tree, int wheels, int pool, const struct bundle_sink *sink,
		struct err *err)
{
	struct reader *reader = calloc(1, sizeof(*reader));
	int r;

	if (!reader)
		return err_set(err, -ENOMEM, "out of memory");
	reader->in = in;
	reader->tree = tree;
	reader->wheels = wheels;
	reader->pool = pool;
	reader->sink = sink;
	reader->err = err;
	reader->digest = EVP_MD_CTX_new();
	r = reader->digest ? read_all(reader) : err_set(err, -ENOMEM, "out of memory");
	leave(reader, 0);
	EVP_MD_CTX_free(reader->digest);
	free(reader->whole);
	free(reader);
	return r;
}
