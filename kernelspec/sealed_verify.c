#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "kernelspec/sealed.h"
#include "sandbox/tree.h"

#define MANIFEST_BYTES ((size_t)512 << 20)

/* A line of the manifest, cut up in place. */
struct entry {
	char kind;
	bool seen;
	const char *path, *digest, *to;
	uint64_t size;
};

struct check {
	struct entry *entries;
	size_t count;
	struct entry lock; /* beside the tree */
	char *text;
	sealed_differs_fn *differs;
	void *arg;
	int64_t found;
};

static void tell(struct check *check, const char *path, const char *how)
{
	check->found++;
	if (check->differs)
		check->differs(check->arg, path, how);
}

static int to_hex(const unsigned char digest[32], char hex[SEALED_HASH + 1])
{
	for (size_t i = 0; i < 32; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	return 0;
}

int sealed_digest(const void *data, size_t size, char hex[SEALED_HASH + 1])
{
	unsigned char digest[32];

	return EVP_Digest(data, size, digest, NULL, EVP_sha256(), NULL) == 1 ? to_hex(digest, hex)
									     : -ENOMEM;
}

static int digest_file(int fd, char hex[SEALED_HASH + 1])
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	unsigned char buffer[65536], digest[32];
	ssize_t got = -1;

	if (context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1) {
		while ((got = read(fd, buffer, sizeof(buffer))) > 0)
			(void)EVP_DigestUpdate(context, buffer, (size_t)got);
		(void)EVP_DigestFinal_ex(context, digest, NULL);
	}
	EVP_MD_CTX_free(context);
	return got < 0 ? -EIO : to_hex(digest, hex);
}

/* ---- the manifest ---- */

static int parse_line(char *line, struct entry *entry)
{
	char *rest = line + 2, *space;

	*entry = (struct entry){.kind = line[0], .path = rest};
	if (line[0] == '\0' || line[1] != ' ')
		return -EINVAL;
	if (line[0] == 'd')
		return 0;
	if (line[0] == 'l') {
		space = strchr(rest, '\t');
		if (!space)
			return -EINVAL;
		*space = '\0';
		entry->to = space + 1;
		return 0;
	}
	if (line[0] != 'f' && line[0] != 'x' && line[0] != 'm')
		return -EINVAL;
	space = strchr(rest, ' ');
	if (!space || space - rest != SEALED_HASH)
		return -EINVAL;
	*space = '\0';
	entry->digest = rest;
	rest = space + 1;
	space = strchr(rest, ' ');
	if (!space)
		return -EINVAL;
	*space = '\0';
	entry->path = space + 1;
	return parse_u64(rest, UINT64_MAX, &entry->size);
}

static int compare(const void *left, const void *right)
{
	const struct entry *a = left, *b = right;

	return strcmp(a->path, b->path);
}

static int parse(struct check *check, size_t lines)
{
	check->entries = calloc(lines + 1, sizeof(*check->entries));
	if (!check->entries)
		return -ENOMEM;
	for (char *line = check->text, *end; (end = strchr(line, '\n')); line = end + 1) {
		struct entry *entry = &check->entries[check->count];

		*end = '\0';
		if (check->count == lines || parse_line(line, entry) < 0)
			return -EINVAL;
		if (entry->kind != 'm')
			check->count++;
		else if (end[1] == '\0' && strcmp(entry->path, "lock") == 0)
			check->lock = *entry;
		else
			return -EINVAL;
	}
	if (!check->lock.digest)
		return -EINVAL;
	qsort(check->entries, check->count, sizeof(*check->entries), compare);
	return 0;
}

/* Is it what was sealed under `hash`? */
static int has_hash(const char *text, size_t size, const char *hash)
{
	char hex[SEALED_HASH + 1];
	int r = sealed_digest(text, size, hex);

	return r < 0 ? r : strcmp(hex, hash) == 0;
}

struct lines {
	const char *directory;
	sealed_differs_fn *differs;
	void *arg;
	FILE *to;
};

static int report(const struct lines *lines, const char *path, const char *how)
{
	if (!lines->differs)
		return -EBADMSG;
	lines->differs(lines->arg, path, how);
	return 0;
}

/* A line "p SHA256 SIZE parts/N": the part's lines in its place. */
static int take_part(const struct lines *lines, char *line)
{
	struct entry entry;
	cleanup(free_ptr) char *path = NULL, *text = NULL;
	size_t size = 0;
	const char *how = NULL;
	int r;

	line[0] = 'm'; /* of the same form */
	if (parse_line(line, &entry) < 0 || strncmp(entry.path, "parts/", 6) != 0 ||
	    entry.path[6 + strspn(entry.path + 6, "0123456789")] != '\0')
		return -EINVAL;
	path = path_join(lines->directory, entry.path);
	if (!path)
		return -ENOMEM;
	if (read_file(AT_FDCWD, path, MANIFEST_BYTES, &text, &size, NULL) < 0) {
		how = "cannot be read";
	} else {
		r = has_hash(text, size, entry.digest);
		if (r < 0)
			return r;
		if (r == 0)
			how = "has other bytes";
		(void)fwrite(text, 1, size, lines->to);
	}
	return how ? report(lines, entry.path, how) : 0;
}

int sealed_manifest(const char *directory, const char *hash, sealed_differs_fn *differs, void *arg,
		    char **ret_text, struct err *err)
{
	cleanup(free_ptr) char *path = path_join(directory, "manifest"), *text = NULL, *all = NULL;
	struct lines lines = {directory, differs, arg, NULL};
	size_t size = 0, used = 0;
	int r = path ? read_file(AT_FDCWD, path, MANIFEST_BYTES, &text, &size, err)
		     : err_set(err, -ENOMEM, "out of memory");

	if (r < 0)
		return r;
	r = has_hash(text, size, hash);
	lines.to = r < 0 ? NULL : open_memstream(&all, &used);
	if (!lines.to)
		return err_set(err, -ENOMEM, "out of memory");
	r = r == 0 ? report(&lines, "manifest", "is not the one of this environment") : 0;
	for (char *line = text, *end; r == 0 && (end = strchr(line, '\n')); line = end + 1) {
		*end = '\0';
		if (line[0] == 'p')
			r = take_part(&lines, line);
		else if (line[0] == 'm' && end[1] == '\0')
			fprintf(lines.to, "%s\n", line);
		else
			r = -EINVAL;
	}
	if (fclose(lines.to) != 0 && r == 0)
		r = -ENOMEM;
	if (r < 0)
		return err_set(err, r, "%s: %s", path, strerrordesc_np(-r));
	*ret_text = steal_ptr(&all);
	return 0;
}

static void tell_it(void *arg, const char *path, const char *how)
{
	tell(arg, path, how);
}

static int read_manifest(struct check *check, const char *directory, const char *hash,
			 struct err *err)
{
	size_t lines = 0;
	int r = sealed_manifest(directory, hash, tell_it, check, &check->text, err);

	if (r < 0)
		return r;
	for (const char *at = check->text; *at; at++)
		lines += *at == '\n';
	r = parse(check, lines);
	return r < 0 ? err_set(err, r, "%s/manifest: %s", directory, strerrordesc_np(-r)) : 0;
}

/* ---- the tree ---- */

static const char *compare_file(const struct walk_frame *here, const char *name,
				const struct entry *entry, const struct stat *status)
{
	cleanup(close_fd) int fd = -1;
	char hex[SEALED_HASH + 1];

	if (!S_ISREG(status->st_mode))
		return "is no file any more";
	if ((uint64_t)status->st_size != entry->size)
		return "has another size";
	if ((status->st_mode & 07777) != (entry->kind == 'x' ? 0555 : 0444))
		return "has another mode";
	fd = tree_step(here->fd, name, O_RDONLY | O_NONBLOCK);
	if (fd < 0 || digest_file(fd, hex) < 0)
		return "cannot be read";
	return strcmp(hex, entry->digest) == 0 ? NULL : "has other bytes";
}

static const char *compare_link(const struct walk_frame *here, const char *name,
				const struct entry *entry)
{
	char to[PATH_MAX];
	ssize_t size = readlinkat(here->fd, name, to, sizeof(to) - 1);

	if (size < 0)
		return "is no link any more";
	to[size] = '\0';
	return strcmp(to, entry->to) == 0 ? NULL : "leads elsewhere";
}

static const char *compare_directory(const struct stat *status)
{
	if (!S_ISDIR(status->st_mode))
		return "is no directory any more";
	return (status->st_mode & 07777) == 0555 ? NULL : "has another mode";
}

static void look(struct check *check, struct walk *walk)
{
	const struct entry wanted = {.path = walk->path};
	struct entry *entry =
		bsearch(&wanted, check->entries, check->count, sizeof(*check->entries), compare);
	struct stat status;
	const char *how = NULL;

	if (!entry || walk_stat(walk, &status) < 0) {
		tell(check, walk->path, "was not built");
		return;
	}
	entry->seen = true;
	if (entry->kind == 'd')
		how = compare_directory(&status);
	else if (entry->kind == 'l')
		how = compare_link(walk_here(walk), walk->name, entry);
	else
		how = compare_file(walk_here(walk), walk->name, entry, &status);
	if (how)
		tell(check, walk->path, how);
	if (entry->kind == 'd' && S_ISDIR(status.st_mode) && walk_enter(walk) < 0)
		tell(check, walk->path, "cannot be read");
}

static int walk_tree(struct check *check, const char *directory, struct err *err)
{
	cleanup(free_ptr) char *path = path_join(directory, "tree");
	cleanup(close_fd) int fd =
		path ? open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
	struct walk *walk = calloc(1, sizeof(*walk));
	struct stat status;
	int r;

	if (!walk || !path) {
		free(walk);
		return err_set(err, -ENOMEM, "out of memory");
	}
	walk_init(walk);
	r = fd < 0 || fstat(fd, &status) < 0 ? -errno : walk_start(walk, fd);
	if (r == 0 && (status.st_mode & 07777) != 0555)
		tell(check, "tree", "has another mode");
	if (r < 0)
		r = err_set(err, r, "%s: %s", path, strerrordesc_np(-r));
	while (r >= 0 && (r = walk_next(walk)) != 0) {
		if (r > 0)
			look(check, walk);
		else
			tell(check, walk->path, "cannot be read");
		r = 0;
	}
	walk_done(walk);
	free(walk);
	return r;
}

static void check_lock(struct check *check, const char *directory)
{
	cleanup(free_ptr) char *path = path_join(directory, "lock");
	cleanup(close_fd) int fd =
		path ? open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;
	char hex[SEALED_HASH + 1];

	if (fd < 0 || digest_file(fd, hex) < 0)
		tell(check, "lock", "cannot be read");
	else if (strcmp(hex, check->lock.digest) != 0)
		tell(check, "lock", "has other bytes");
}

int64_t sealed_verify(const char *directory, const char *hash, sealed_differs_fn *differs,
		      void *arg, struct err *err)
{
	struct check check = {.differs = differs, .arg = arg};
	int r = read_manifest(&check, directory, hash, err);

	if (r == 0) {
		check_lock(&check, directory);
		r = walk_tree(&check, directory, err);
	}
	for (size_t i = 0; r == 0 && i < check.count; i++) {
		if (!check.entries[i].seen)
			tell(&check, check.entries[i].path, "is missing");
	}
	free(check.entries);
	free(check.text);
	return r < 0 ? r : check.found;
}
