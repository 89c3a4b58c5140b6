/*
 * Each input is a list of frames: one byte with the length of the frame (255: the delimiter
 * itself), then its bytes.
 */
#include <stdint.h>
#include <string.h>

#include "proxy/wire.h"

enum { FRAMES_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct iovec frames[FRAMES_MAX];
	struct wire_msg msg;
	struct err err;
	size_t count = 0;
	int r;

	while (size > 0 && count < FRAMES_MAX) {
		size_t length = *data++;

		size--;
		if (length == 255) {
			frames[count++] = (struct iovec){(void *)(uintptr_t)wire_delimiter,
							 sizeof(wire_delimiter)};
			continue;
		}
		if (length > size)
			length = size;
		frames[count++] = (struct iovec){(void *)(uintptr_t)data, length};
		data += length;
		size -= length;
	}
	r = wire_parse(frames, count, &msg, &err);
	if (r < 0)
		return 0;
	/* A view into the frames that were given, and nothing else. */
	if (msg.count != count || msg.first_buffer > count ||
	    msg.identities + 6 != msg.first_buffer ||
	    msg.signature.iov_base != frames[msg.identities + 1].iov_base ||
	    memcmp(msg.signed_part, &frames[msg.identities + 2], sizeof(msg.signed_part)) != 0)
		__builtin_trap();
	return 0;
}
