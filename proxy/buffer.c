#include "proxy/buffer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_START 256

static bool grow(struct buffer *buffer, size_t size)
{
	size_t room = buffer->room ? buffer->room : BUFFER_START;
	char *data;

	if (buffer->failed || size >= SIZE_MAX / 4 - buffer->size ||
	    (buffer->max && buffer->size + size > buffer->max)) {
		buffer->failed = true;
		return false;
	}
	while (room < buffer->size + size + 1)
		room *= 2;
	if (room == buffer->room)
		return true;
	data = realloc(buffer->data, room);
	if (!data) {
		buffer->failed = true;
		return false;
	}
	buffer->data = data;
	buffer->room = room;
	return true;
}

void buffer_add(struct buffer *buffer, const void *data, size_t size)
{
	if (!grow(buffer, size))
		return;
	if (size > 0)
		memcpy(buffer->data + buffer->size, data, size);
	buffer->size += size;
	buffer->data[buffer->size] = '\0';
}

void buffer_text(struct buffer *buffer, const char *text)
{
	buffer_add(buffer, text, strlen(text));
}

void buffer_format(struct buffer *buffer, const char *format, ...)
{
	char text[512];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (length < 0 || (size_t)length >= sizeof(text))
		buffer->failed = true;
	else
		buffer_add(buffer, text, (size_t)length);
}

char *buffer_take(struct buffer *buffer, size_t *ret_size)
{
	char *data;

	buffer_add(buffer, "", 0);
	if (buffer->failed)
		return NULL;
	data = buffer->data;
	if (ret_size)
		*ret_size = buffer->size;
	*buffer = (struct buffer){0};
	return data;
}

void buffer_done(struct buffer *buffer)
{
	free(buffer->data);
	*buffer = (struct buffer){0};
}
