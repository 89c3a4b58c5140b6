#include "proxy/wire.h"

#include <errno.h>
#include <string.h>

const char wire_delimiter[9] = {'<', 'I', 'D', 'S', '|', 'M', 'S', 'G', '>'};

enum { AFTER_DELIMITER = 5 }; /* signature and the four signed parts */

static bool is_delimiter(const struct iovec *frame)
{
	return frame->iov_len == sizeof(wire_delimiter) &&
	       memcmp(frame->iov_base, wire_delimiter, sizeof(wire_delimiter)) == 0;
}

/*
 * The first delimiter counts, as in Session.feed_identities. A peer whose routing identity reads
 * "<IDS|MSG>" only shifts its own frames: its identity is then taken for the signature, which is
 * wrong.
 */
int wire_parse(const struct iovec *frames, size_t count, struct wire_msg *ret_msg, struct err *err)
{
	struct wire_msg msg = {.count = count};

	while (msg.identities < count && !is_delimiter(&frames[msg.identities]))
		msg.identities++;
	if (msg.identities == count)
		return err_set(err, -EPROTO, "no <IDS|MSG> delimiter among %zu frames", count);
	if (count - msg.identities - 1 < AFTER_DELIMITER)
		return err_set(err, -EPROTO, "%zu frames after the delimiter, at least %d needed",
			       count - msg.identities - 1, AFTER_DELIMITER);
	msg.signature = frames[msg.identities + 1];
	for (size_t i = 0; i < 4; i++)
		msg.signed_part[i] = frames[msg.identities + 2 + i];
	msg.first_buffer = msg.identities + 1 + AFTER_DELIMITER;
	*ret_msg = msg;
	return 0;
}
