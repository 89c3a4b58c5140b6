#include "sandbox/siphash.h"

#include <string.h>

static uint64_t rotate(uint64_t word, unsigned int by)
{
	return (word << by) | (word >> (64 - by));
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[0] = rotate(v[0], 32);
	v[2] += v[3];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[2] = rotate(v[2], 32);
}

uint64_t siphash(const uint64_t key[2], const void *data, size_t size)
{
	const unsigned char *at = data;
	uint64_t v[4] = {
		key[0] ^ 0x736f6d6570736575,
		key[1] ^ 0x646f72616e646f6d,
		key[0] ^ 0x6c7967656e657261,
		key[1] ^ 0x7465646279746573,
	};
	size_t left = size;
	uint64_t word;

	for (;; at += 8, left -= 8) {
		size_t part = left < 8 ? left : 8;

		word = 0;
		memcpy(&word, at, part);
		if (part < 8)
			word |= (uint64_t)size << 56;
		v[3] ^= word;
		sip_round(v);
		sip_round(v);
		v[0] ^= word;
		if (part < 8)
			break;
	}
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
