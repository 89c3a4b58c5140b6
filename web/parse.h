/*
 * parse: the head of an HTTP/1.1 request (RFC 9112), its target, and chunks of a body; strictly.
 *
 * In: bytes of strangers. Out: pieces of the same memory, cut and decoded in place. What two
 * parsers could read in two ways is refused: bare LF, folded lines, spaces before a colon, both
 * lengths, a repeated Content-Length or Host, signs and lists in numbers. Pure: no I/O, no
 * allocation, no log.
 */
#ifndef WEB_PARSE_H
#define WEB_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "web/http.h"

#define PARSE_HEAD_MAX (32u * 1024) /* cookies of other services on the same host come along */

struct parse_head {
	enum http_method method;
	char *path;  /* begins with "/", as it was written */
	char *query; /* after "?", or NULL */
	struct http_pair
		header[HTTP_HEADERS_MAX]; /* names in lower case, values without outer space */
	size_t headers;
	bool keep; /* the connection may be used again */
	bool chunked;
	bool has_length;
	bool expects; /* Expect: 100-continue */
	uint64_t length;
};

/* Bytes of the head with its empty line, 0: not complete yet. Call it with all there is so far. */
size_t parse_head_size(const char *data, size_t size);
/* Takes `size` bytes of one complete head apart. Returns 0, or the status to refuse it with (400,
 * 405, 417, 431, 501, 505). */
int parse_head(char *data, size_t size, struct parse_head *head);
const char *parse_find(const struct http_pair *pairs, size_t count, const char *name);
/* True when a comma-separated list holds this token, in any case. */
bool parse_list_has(const char *list, const char *token);

/* Cuts a path (a fresh copy) at "/" and decodes it. Returns the number of parts, or -1: refused. */
int parse_parts(char *path, char *part[HTTP_PARTS_MAX]);
/* Cuts a query and decodes it. Returns the number of pairs, or -1: refused. */
int parse_query(char *query, struct http_pair pair[HTTP_QUERY_MAX]);

/* Decodes chunked transfer coding; data is passed on as it lies there. */
struct parse_chunks {
	enum { CHUNK_SIZE, CHUNK_DATA, CHUNK_DATA_END, CHUNK_TRAILER, CHUNK_DONE } state;
	uint64_t left;
	unsigned digits;
	unsigned line; /* bytes of this line */
	bool cr;
};
/*
 * Takes from `data` and returns how many bytes that were; *ret_out, *ret_out_size: body among them.
 * Call it until everything is taken or state is CHUNK_DONE. -1: refused.
 */
ptrdiff_t parse_chunk(struct parse_chunks *chunks, const char *data, size_t size,
		      const char **ret_out, size_t *ret_out_size);

/* "bytes=A-B" of a file of `size`: 1 with the range, 0 when it is to be ignored, -1: 416. */
int parse_range(const char *text, uint64_t size, uint64_t *ret_from, uint64_t *ret_count);

/* Copies `size` bytes and ends them with a NUL. False: no room. */
bool parse_copy(char *out, size_t room, const char *text, size_t size);

/* True for well-formed UTF-8 (RFC 3629). `data` is not NULL. */
bool parse_utf8(const void *data, size_t size);
/* How much of it are whole characters, when up to 3 bytes at the end may be the beginning of one
 * more; -1: it is no UTF-8, whatever follows. */
ptrdiff_t parse_utf8_whole(const void *data, size_t size);

#endif
