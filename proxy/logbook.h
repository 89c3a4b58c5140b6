/*
 * logbook: the directory of the audit logs, and what makes the lines in it a chain.
 *
 * One file per launch of a kernel, STATE/cellwall/log/20261122T080201.042Z-ID.NNNN.jsonl (ID: 16
 * hex digits; NNNN: its segment), so that sorting by name is sorting by time. A line is one JSON
 * object in ASCII with "seq" (from 1) and "prev", the SHA-256 of the line before it without its
 * newline. The first line of a file has the last line of the newest file before it ("after" names
 * that file) or 64 zeros; "file" is its own name. The last one is "end" or, when a segment follows,
 * "continued". Used by audit.c, which writes, and by the verb that shows. Never logs.
 */
#ifndef PROXY_LOGBOOK_H
#define PROXY_LOGBOOK_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "sandbox/base.h"

#define LOGBOOK_NAME	  64
#define LOGBOOK_HASH	  64 /* hex digits */
#define LOGBOOK_LINE_MAX  (256u * 1024)
#define LOGBOOK_FILES_MAX 4096 /* older ones are removed */

/* STATE/cellwall/log. Caller frees. Returns 0 or a negative errno. */
int logbook_path(char **ret_path, struct err *err);
/* Opens the directory, `make`: makes it first (0700). It must be ours and writable by nobody else.
 * Returns its descriptor or a negative errno. */
int logbook_open(const char *path, bool make, struct err *err);

struct logbook_file {
	char name[LOGBOOK_NAME];
	uint64_t size;
};
struct logbook_list {
	struct logbook_file *file; /* oldest first */
	size_t count;
};
/* The logs in it (other names are passed over). Returns 0 or a negative errno. */
int logbook_list(int directory, struct logbook_list *ret_list, struct err *err);
void logbook_list_done(struct logbook_list *list);
bool logbook_is_name(const char *name);

void logbook_hash(const void *line, size_t size, char out[LOGBOOK_HASH + 1]);

/* The whole lines of one file, in order, with bounded memory. */
struct logbook_reader {
	int fd; /* owned */
	char *buffer;
	size_t start, end;
};
/* Returns 0 or a negative errno. */
int logbook_reader_open(int directory, const char *name, struct logbook_reader *ret_reader,
			struct err *err);
/* Returns 1 with a line (without its newline, NUL-terminated, valid until the next call); 0 when no
 * whole line is there (now); -EFBIG for a longer one than LOGBOOK_LINE_MAX, or another negative
 * errno. */
int logbook_next(struct logbook_reader *reader, char **ret_line, size_t *ret_size);
void logbook_reader_done(struct logbook_reader *reader);

/* Is a kernel writing to it? It holds a lock, flock(2). */
bool logbook_in_use(int directory, const char *name);

/* What one file's chain says. */
struct logbook_check {
	uint64_t lines;
	bool ended;	  /* its last line is one */
	bool in_use;	  /* a kernel is writing to it */
	size_t torn;	  /* bytes of a line that was not written to its end */
	uint64_t wrong;	  /* the first line that does not fit, 0: none */
	char problem[96]; /* why not */
	char after[LOGBOOK_NAME], prev[LOGBOOK_HASH + 1]; /* of the first line */
	char head[LOGBOOK_HASH + 1];			  /* the hash of the last whole line */
};
/* Called with each line that parses; may be NULL. */
typedef void logbook_line_fn(void *arg, const json_t *line);
/* Returns 0 when the file could be read, whatever is in it, or a negative errno. */
int logbook_check(int directory, const char *name, logbook_line_fn *each, void *arg,
		  struct logbook_check *ret_check, struct err *err);
/* Has the file a line with this hash? Returns 1, 0, or a negative errno. */
int logbook_has(int directory, const char *name, const char *hash, struct err *err);

#endif
