/* Any bytes as a client's message in the three forms it can have; what is understood is written in
 * both protocols, and read again it is the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "web/frames.h"

static struct frames_message message, again;
static char room[FRAMES_ROOM(FRAMES_PARTS_MAX)];
static struct iovec vector[FRAMES_VECTOR_MAX(FRAMES_PARTS_MAX)];

static char *join(int count, size_t bytes)
{
	char *all = malloc(bytes ? bytes : 1);
	size_t at = 0;

	for (int i = 0; all && i < count; i++) {
		memcpy(all + at, vector[i].iov_base, vector[i].iov_len);
		at += vector[i].iov_len;
	}
	if (all && at != bytes)
		__builtin_trap();
	return all;
}

static void check_same(int r)
{
	if (r != 0 || again.count != message.count || again.channel != message.channel)
		__builtin_trap();
	for (size_t i = 0; i < message.count; i++)
		if (again.parts[i].iov_len != message.parts[i].iov_len ||
		    (again.parts[i].iov_len &&
		     memcmp(again.parts[i].iov_base, message.parts[i].iov_base,
			    again.parts[i].iov_len) != 0))
			__builtin_trap();
}

static void write_both(bool legacy)
{
	struct err err;
	size_t bytes;
	bool binary;
	char *all;
	int n = frames_write_v1(message.channel, message.parts, message.count, room, vector,
				&bytes);

	all = join(n, bytes);
	check_same(frames_read_v1(all, bytes, &again, &err));
	free(all);
	n = frames_write_legacy(message.channel, message.parts, message.count, room, vector, &bytes,
				&binary);
	if (n < 0 && legacy)
		__builtin_trap();
	if (n < 0)
		return;
	all = join(n, bytes);
	if (!binary && !frames_is_json(all, bytes))
		__builtin_trap();
	if (legacy)
		check_same(frames_read_legacy(all, bytes, binary, &again, &err));
	free(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err;

	if (frames_read_v1(data, size, &message, &err) == 0)
		write_both(false);
	if (frames_read_legacy(data, size, false, &message, &err) == 0)
		write_both(true);
	if (frames_read_legacy(data, size, true, &message, &err) == 0)
		write_both(true);
	return 0;
}
