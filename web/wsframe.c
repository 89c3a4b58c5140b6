#include "web/wsframe.h"

#include <string.h>

/* By its first two bytes: a mask, no reserved bit or opcode, and a control frame whole and short.
 */
static bool front_good(const unsigned char front[2])
{
	const unsigned opcode = front[0] & 0x0fu;
	const bool control = opcode >= WSFRAME_CLOSE;

	if ((front[0] & 0x70) || !(front[1] & 0x80))
		return false;
	if (control)
		return opcode <= WSFRAME_PONG && (front[0] & 0x80) && (front[1] & 0x7f) <= 125;
	return opcode <= WSFRAME_BINARY;
}

/* A length in so many bytes. Returns it, or -1: it would fit in fewer, or in none. */
static int64_t long_length(const unsigned char *bytes, unsigned count)
{
	const uint64_t least = count == 2 ? 126 : 65536;
	uint64_t length = 0;

	for (unsigned i = 0; i < count; i++)
		length = (length << 8) | bytes[i];
	return length < least || length >> 63 ? -1 : (int64_t)length;
}

int wsframe_read(const void *data, size_t size, struct wsframe *ret_frame)
{
	const unsigned char *c = data;
	unsigned extra;
	int64_t length;

	if (size < 2)
		return 0;
	if (!front_good(c))
		return -1;
	length = c[1] & 0x7f;
	extra = length == 126 ? 2 : length == 127 ? 8 : 0;
	if (size < 2 + extra + 4)
		return 0;
	if (extra)
		length = long_length(c + 2, extra);
	if (length < 0)
		return -1;
	*ret_frame = (struct wsframe){
		.opcode = c[0] & 0x0fu, .last = c[0] & 0x80, .size = (uint64_t)length};
	memcpy(ret_frame->mask, c + 2 + extra, 4);
	return (int)(2 + extra + 4);
}

size_t wsframe_write(unsigned char out[WSFRAME_HEAD_MAX], unsigned opcode, uint64_t size)
{
	unsigned extra = size < 126 ? 0 : size < 65536 ? 2 : 8;

	out[0] = (unsigned char)(0x80 | opcode);
	out[1] = (unsigned char)(extra == 0 ? size : extra == 2 ? 126 : 127);
	for (unsigned i = 0; i < extra; i++)
		out[2 + i] = (unsigned char)(size >> (8 * (extra - 1 - i)));
	return 2 + extra;
}

void wsframe_mask(const unsigned char mask[4], uint64_t offset, void *data, size_t size)
{
	unsigned char *c = data;
	unsigned char turned[8];
	uint64_t word, wide;
	size_t i = 0;

	for (unsigned n = 0; n < 8; n++)
		turned[n] = mask[(offset + n) % 4];
	memcpy(&wide, turned, 8);
	for (; i + 8 <= size; i += 8) {
		memcpy(&word, c + i, 8);
		word ^= wide;
		memcpy(c + i, &word, 8);
	}
	for (; i < size; i++)
		c[i] ^= turned[i % 8];
}

bool wsframe_code_good(unsigned code)
{
	return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
	       (code >= 3000 && code <= 4999);
}
