#include "sandbox/seen.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/siphash.h"

static const char magic[16] = "cellwall seen 1";

struct journal_head {
	char magic[16];
	uint64_t key[2];
};

struct journal_record {
	uint64_t hash;
	struct seen_source source;
	struct seen_target target, before;
	uint32_t beside;
	uint32_t flags;
	uint64_t check; /* SipHash of all before: a torn record is no record */
};

#define FLAG_UNSETTLED 1u
#define FLAG_EARLIER   2u

int seen_init(struct seen *seen)
{
	memset(seen, 0, sizeof(*seen));
	seen->journal = -1;
	seen->size = 64;
	seen->table = calloc(seen->size, sizeof(*seen->table));
	if (!seen->table)
		return -ENOMEM;
	return random_bytes(seen->key, sizeof(seen->key));
}

void seen_done(struct seen *seen)
{
	for (size_t i = 0; i < seen->size && seen->table; i++) {
		if (seen->table[i])
			free(seen->table[i]->path);
		free(seen->table[i]);
	}
	free(seen->table);
	seen->table = NULL;
	close_fd(&seen->journal);
}

static void insert(struct seen_file **table, size_t size, struct seen_file *file)
{
	size_t i = file->hash & (size - 1);

	while (table[i])
		i = (i + 1) & (size - 1);
	table[i] = file;
}

static int grow(struct seen *seen)
{
	size_t size = seen->size * 2;
	struct seen_file **table;

	if (seen->used * 2 < seen->size)
		return 0;
	table = calloc(size, sizeof(*table));
	if (!table)
		return -ENOMEM;
	for (size_t i = 0; i < seen->size; i++)
		if (seen->table[i])
			insert(table, size, seen->table[i]);
	free(seen->table);
	seen->table = table;
	seen->size = size;
	return 0;
}

static struct seen_file *find(struct seen *seen, const char *path, uint64_t hash)
{
	for (size_t i = hash & (seen->size - 1); seen->table[i]; i = (i + 1) & (seen->size - 1)) {
		struct seen_file *file = seen->table[i];

		if (file->hash == hash && (!file->path || strcmp(file->path, path) == 0))
			return file;
	}
	return NULL;
}

struct seen_file *seen_find(struct seen *seen, const char *path)
{
	return find(seen, path, siphash(seen->key, path, strlen(path)));
}

/* Takes nothing; `path` may be NULL (restored). */
static struct seen_file *add(struct seen *seen, const char *path, uint64_t hash)
{
	struct seen_file *file = NULL;

	if (grow(seen) < 0)
		return NULL;
	file = calloc(1, sizeof(*file));
	if (!file)
		return NULL;
	file->hash = hash;
	if (path) {
		file->path = strdup(path);
		if (!file->path) {
			free(file);
			return NULL;
		}
	}
	insert(seen->table, seen->size, file);
	seen->used++;
	return file;
}

struct seen_file *seen_add(struct seen *seen, const char *path)
{
	uint64_t hash = siphash(seen->key, path, strlen(path));
	struct seen_file *file = find(seen, path, hash);

	if (!file) {
		file = add(seen, path, hash);
		if (file)
			seen->refused++;
		return file;
	}
	if (!file->path)
		file->path = strdup(path); /* NULL is tried again next time */
	return file;
}

static uint64_t record_check(const struct seen *seen, const struct journal_record *record)
{
	return siphash(seen->key, record, offsetof(struct journal_record, check));
}

static void count(struct seen *seen, const struct seen_file *file)
{
	if (file->earlier)
		return;
	seen->files++;
	seen->bytes += file->target.size;
}

static void discount(struct seen *seen, const struct seen_file *file)
{
	if (file->earlier)
		return;
	seen->files--;
	seen->bytes -= file->target.size;
}

static int restore(struct seen *seen, const struct journal_record *record)
{
	struct seen_file *file = add(seen, NULL, record->hash);

	if (!file)
		return -ENOMEM;
	file->source = record->source;
	file->target = record->target;
	file->before = record->before;
	file->beside = record->beside;
	file->unsettled = (record->flags & FLAG_UNSETTLED) != 0;
	file->earlier = (record->flags & FLAG_EARLIER) != 0;
	file->brought = true;
	file->slot = seen->slots;
	count(seen, file);
	return 0;
}

static off_t record_offset(uint32_t slot)
{
	return (off_t)(sizeof(struct journal_head) + slot * sizeof(struct journal_record));
}

/* Reads the records; returns 1 when the file is a journal, 0 when it is none. */
static int load(struct seen *seen, int fd, uint64_t limit)
{
	struct journal_head head;
	struct journal_record record;

	if (pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
	    memcmp(head.magic, magic, sizeof(magic)) != 0)
		return 0;
	memcpy(seen->key, head.key, sizeof(head.key));
	while (seen->slots < limit && seen->slots < UINT32_MAX &&
	       pread(fd, &record, sizeof(record), record_offset(seen->slots)) ==
		       (ssize_t)sizeof(record)) {
		if (record.check == record_check(seen, &record)) {
			int r = restore(seen, &record);

			if (r < 0)
				return r;
		}
		seen->slots++;
	}
	return 1;
}

int seen_journal(struct seen *seen, int fd, uint64_t limit)
{
	cleanup(close_fd) int journal = fd;
	struct journal_head head;
	int r = load(seen, journal, limit);

	if (r < 0)
		return r;
	if (r == 0) {
		memcpy(head.magic, magic, sizeof(magic));
		memcpy(head.key, seen->key, sizeof(head.key));
		if (ftruncate(journal, 0) < 0)
			return -errno;
		if (pwrite(journal, &head, sizeof(head), 0) != (ssize_t)sizeof(head))
			return errno ? -errno : -EIO;
	}
	seen->journal = steal_fd(&journal);
	return 0;
}

int seen_peek(struct seen *seen, int fd, uint64_t limit)
{
	cleanup(close_fd) int journal = fd;
	int r = load(seen, journal, limit);

	return r < 0 ? r : 0;
}

static int write_record(struct seen *seen, const struct seen_file *file)
{
	struct journal_record record = {.hash = file->hash};
	ssize_t wrote;

	if (seen->journal < 0)
		return 0;
	record.source = file->source;
	record.target = file->target;
	record.before = file->before;
	record.beside = file->beside;
	record.flags = (file->unsettled ? FLAG_UNSETTLED : 0) | (file->earlier ? FLAG_EARLIER : 0);
	record.check = record_check(seen, &record);
	wrote = pwrite(seen->journal, &record, sizeof(record), record_offset(file->slot));
	if (wrote < 0)
		return -errno;
	return wrote == (ssize_t)sizeof(record) ? 0 : -ENOSPC;
}

/* What seen_intend does, but for writing it. */
static void set_target(struct seen *seen, struct seen_file *file, const struct seen_target *target,
		       uint32_t beside, bool earlier)
{
	if (file->brought) {
		discount(seen, file);
		/* what is left of it under another name stays, and stays counted */
		if (!file->earlier && file->beside != beside)
			seen->bytes += file->target.size;
	} else {
		file->brought = true;
		file->slot = seen->slots++;
		seen->refused--;
	}
	memset(&file->before, 0, sizeof(file->before));
	memset(&file->source, 0, sizeof(file->source));
	file->target = *target;
	file->beside = beside;
	file->earlier = earlier;
	count(seen, file);
}

int seen_intend(struct seen *seen, struct seen_file *file, const struct seen_target *target,
		uint32_t beside, const struct seen_target *replaced)
{
	set_target(seen, file, target, beside, false);
	if (replaced)
		file->before = *replaced;
	return write_record(seen, file);
}

static int store(struct seen *seen, struct seen_file *file, const struct seen_source *source,
		 bool unsettled)
{
	memset(&file->before, 0, sizeof(file->before));
	file->source = *source;
	file->unsettled = unsettled;
	return write_record(seen, file);
}

int seen_store(struct seen *seen, struct seen_file *file, const struct seen_source *source,
	       const struct seen_target *target, uint32_t beside, bool unsettled)
{
	if (!file->brought || file->beside != beside || !seen_same_target(&file->target, target))
		set_target(seen, file, target, beside, false);
	return store(seen, file, source, unsettled);
}

int seen_store_earlier(struct seen *seen, struct seen_file *file, const struct seen_source *source,
		       const struct seen_target *target, uint32_t beside, bool unsettled)
{
	if (!file->brought)
		set_target(seen, file, target, beside, true);
	else if (file->beside != beside || !seen_same_target(&file->target, target))
		set_target(seen, file, target, beside, file->earlier);
	return store(seen, file, source, unsettled);
}

bool seen_is_ours(const struct seen_file *file, const struct seen_target *there)
{
	return file->brought &&
	       (seen_same_target(&file->target, there) ||
		(file->before.inode != 0 && seen_same_target(&file->before, there)));
}

bool seen_is_anothers(const struct seen *seen, const struct seen_file *file,
		      const struct seen_target *there)
{
	for (size_t i = 0; i < seen->size; i++)
		if (seen->table[i] && seen->table[i] != file && seen_is_ours(seen->table[i], there))
			return true;
	return false;
}

static int64_t nanoseconds(struct timespec time)
{
	return (int64_t)((uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec);
}

void seen_source_of(const struct stat *status, struct seen_source *ret_source)
{
	ret_source->inode = status->st_ino;
	ret_source->size = (uint64_t)status->st_size;
	ret_source->mtime = nanoseconds(status->st_mtim);
	ret_source->ctime = nanoseconds(status->st_ctim);
}

void seen_target_of(const struct stat *status, struct seen_target *ret_target)
{
	ret_target->inode = status->st_ino;
	ret_target->size = (uint64_t)status->st_size;
	ret_target->mtime = nanoseconds(status->st_mtim);
}

bool seen_same_source(const struct seen_source *a, const struct seen_source *b)
{
	return a->inode == b->inode && a->size == b->size && a->mtime == b->mtime &&
	       a->ctime == b->ctime;
}

bool seen_same_target(const struct seen_target *a, const struct seen_target *b)
{
	return a->inode == b->inode && a->size == b->size && a->mtime == b->mtime;
}
