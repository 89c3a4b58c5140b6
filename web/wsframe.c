#include "web/wsframe.h"

#include <string.h>

int wsframe_read(const void *data, size_t size, struct wsframe *ret_frame)
{
	const unsigned char *c = data;
	unsigned extra, opcode;
	uint64_t length;

	if (size < 2)
		return 0;
	opcode = c[0] & 0x0fu;
	length = c[1] & 0x7fu;
	if ((c[0] & 0x70) || !(c[1] & 0x80) || (opcode > 2 && opcode < 8) || opcode > 10)
		return -1;
	if (opcode >= 8 && (length > 125 || !(c[0] & 0x80)))
		return -1;
	extra = length == 126 ? 2 : length == 127 ? 8 : 0;
	if (size < 2 + extra + 4)
		return 0;
	if (extra) {
		length = 0;
		for (unsigned i = 0; i < extra; i++)
			length = (length << 8) | c[2 + i];
		if (length < (extra == 2 ? 126u : 65536u) || length >> 63)
			return -1;
	}
	*ret_frame = (struct wsframe){.opcode = opcode, .last = c[0] & 0x80, .size = length};
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
