/*
 * buffer: bytes that grow, for what is written anew from a kernel's text.
 *
 * A failed or refused growth is remembered, and everything after it is ignored: callers append
 * without looking and ask once, at the end. Never logs.
 */
#ifndef PROXY_BUFFER_H
#define PROXY_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

struct buffer {
	char *data; /* NUL-terminated when not NULL */
	size_t size, room;
	size_t max; /* bytes; 0: no limit */
	bool failed;
};

void buffer_add(struct buffer *buffer, const void *data, size_t size);
void buffer_text(struct buffer *buffer, const char *text);
void buffer_format(struct buffer *buffer, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Takes the bytes out (caller frees); NULL when it failed. `ret_size` may be NULL. */
char *buffer_take(struct buffer *buffer, size_t *ret_size);
void buffer_done(struct buffer *buffer);

#endif
