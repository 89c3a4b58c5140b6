/*
 * Each input is what a hostile end sends: two bytes with a frame's length, then its bytes. A DATA
 * frame whose first sequence byte is 0xff gets the number that is expected, so that its body
 * counts.
 */
#include <stdint.h>
#include <string.h>

#include "web/link_stream.h"

enum { MESSAGE_MAX = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take(struct link_stream *stream, struct link_frame frame)
{
	struct link_message *message = NULL;
	struct err err;

	if ((frame.number & 0xff) == 0xff)
		frame.number = link_stream_received(stream) + 1;
	if (link_stream_take(stream, &frame, &message, &err) == 1) {
		size_t total = 0;

		for (size_t i = 0; i < message->count; i++)
			total += message->parts[i].iov_len;
		if (total > MESSAGE_MAX)
			__builtin_trap();
	}
	link_message_free(message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char text[3 * LINK_PIECE];
	const struct iovec part = {text, sizeof(text)};
	struct link_stream *stream = link_stream_new(MESSAGE_MAX);

	if (!stream || link_stream_put(stream, WALL_IOPUB, &part, 1, NULL, NULL) < 0)
		__builtin_trap();
	while (size > 2) {
		size_t length = (size_t)(data[0] | data[1] << 8);
		struct link_frame frame;
		const void *bytes;
		size_t next;
		struct err err;

		data += 2;
		size -= 2;
		if (length > size)
			length = size;
		if (link_frame_parse(data, length, &frame, &err) == 0 &&
		    frame.version == LINK_VERSION) {
			if (frame.type == LINK_DATA)
				take(stream, frame);
			else if (frame.type == LINK_ACK)
				(void)link_stream_acked(stream, frame.number, &err);
			else if (frame.type == LINK_HELLO)
				(void)link_stream_resume(stream, frame.number, &err);
			if (link_stream_next(stream, &bytes, &next) == 1)
				link_stream_sent(stream);
		}
		data += length;
		size -= length;
	}
	link_stream_free(stream);
	return 0;
}
