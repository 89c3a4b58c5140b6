#include "sandbox/zmtp.h"

#include <errno.h>
#include <string.h>

enum { FLAG_MORE = 1, FLAG_LONG = 2, FLAG_COMMAND = 4 };

static uint64_t load_big(const uint8_t *bytes, size_t size)
{
	uint64_t value = 0;

	for (size_t i = 0; i < size; i++)
		value = value << 8 | bytes[i];
	return value;
}

static void store_big(uint8_t *to, uint64_t value, size_t size)
{
	for (size_t i = size; i > 0; i--, value >>= 8)
		to[i - 1] = (uint8_t)value;
}

int zmtp_frame(const uint8_t *bytes, size_t size, struct zmtp_frame *ret_frame)
{
	uint8_t flags;
	size_t front;

	if (size == 0)
		return 0;
	flags = bytes[0];
	/* A command is never continued. */
	if (flags & ~(FLAG_MORE | FLAG_LONG | FLAG_COMMAND) ||
	    (flags & FLAG_COMMAND && flags & FLAG_MORE))
		return -EPROTO;
	front = flags & FLAG_LONG ? 9 : 2;
	if (size < front)
		return 0;
	ret_frame->size = load_big(bytes + 1, front - 1);
	if (ret_frame->size > INT64_MAX)
		return -EPROTO;
	ret_frame->front = front;
	ret_frame->more = flags & FLAG_MORE;
	ret_frame->command = flags & FLAG_COMMAND;
	return 1;
}

size_t zmtp_front(uint8_t out[ZMTP_FRAME_MAX], size_t size, bool more)
{
	const size_t front = size > UINT8_MAX ? 9 : 2;

	out[0] = (uint8_t)((more ? FLAG_MORE : 0) | (front == 9 ? FLAG_LONG : 0));
	store_big(out + 1, size, front - 1);
	return front;
}

/* ---- the beginning of a connection ---- */

static uint8_t *put(uint8_t *at, const void *bytes, size_t size)
{
	memcpy(at, bytes, size);
	return at + size;
}

static uint8_t *put_property(uint8_t *at, const char *name, const char *value)
{
	*at++ = (uint8_t)strlen(name);
	at = put(at, name, strlen(name));
	store_big(at, strlen(value), 4);
	return put(at + 4, value, strlen(value));
}

static const char ready[] = "\5READY";
#define READY_SIZE (sizeof(ready) - 1)

size_t zmtp_hello(uint8_t out[ZMTP_HELLO_MAX], const char *type, const char *identity)
{
	uint8_t *frame = out + ZMTP_GREETING_SIZE, *at = frame + 2;

	memset(out, 0, ZMTP_GREETING_SIZE);
	out[0] = 0xff;
	out[8] = 1; /* as libzmq: what version 1 would take for an empty identity */
	out[9] = 0x7f;
	out[10] = 3;
	memcpy(out + 12, "NULL", 4);
	at = put(at, ready, READY_SIZE);
	at = put_property(at, "Socket-Type", type);
	if (identity[0])
		at = put_property(at, "Identity", identity);
	frame[0] = FLAG_COMMAND;
	frame[1] = (uint8_t)(at - frame - 2);
	return (size_t)(at - out);
}

bool zmtp_greeting_ok(const uint8_t greeting[ZMTP_GREETING_SIZE])
{
	static const uint8_t null[20] = "NULL";

	return greeting[0] == 0xff && greeting[9] == 0x7f && greeting[10] >= 3 &&
	       memcmp(greeting + 12, null, sizeof(null)) == 0;
}

bool zmtp_ready_ok(const uint8_t *body, size_t size)
{
	size_t at = READY_SIZE;

	if (size < READY_SIZE || memcmp(body, ready, READY_SIZE) != 0)
		return false;
	while (at < size) {
		const size_t name = body[at];
		uint64_t value;

		if (name == 0 || size - at < 1 + name + 4)
			return false;
		at += 1 + name;
		value = load_big(body + at, 4);
		at += 4;
		if (value > size - at)
			return false;
		at += value;
	}
	return true;
}

size_t zmtp_pong(uint8_t out[ZMTP_FRAME_MAX + 32], const uint8_t *body, size_t size)
{
	/* "PING", u16 of time to live, at most 16 bytes that come back (ZMTP 3.1). */
	if (size < 7 || size > 7 + 16 || memcmp(body, "\4PING", 5) != 0)
		return 0;
	out[0] = FLAG_COMMAND;
	out[1] = (uint8_t)(size - 2);
	memcpy(out + 2, "\4PONG", 5);
	memcpy(out + 7, body + 7, size - 7);
	return size;
}

/* ---- messages ---- */

enum zmtp_found zmtp_message(uint8_t *bytes, size_t size, struct iovec *parts, size_t most,
			     size_t *ret_count, size_t *ret_size)
{
	struct zmtp_frame frame = {.more = true};
	size_t at = 0, count = 0;

	while (frame.more) {
		int found = zmtp_frame(bytes + at, size - at, &frame);

		if (found < 0)
			return ZMTP_BROKEN;
		*ret_count = count;
		*ret_size = at + ZMTP_FRAME_MAX;
		if (found == 0)
			return ZMTP_PART;
		if (frame.command || count == most)
			return ZMTP_MIXED;
		at += frame.front;
		*ret_size = frame.size < SIZE_MAX - at ? at + frame.size : SIZE_MAX;
		if (frame.size > size - at)
			return ZMTP_PART;
		parts[count++] = (struct iovec){.iov_base = bytes + at, .iov_len = frame.size};
		at += frame.size;
	}
	*ret_count = count;
	*ret_size = at;
	return ZMTP_WHOLE;
}
