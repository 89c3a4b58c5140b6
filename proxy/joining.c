#include "proxy/joining.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/limits.h"

bool joining_wants(struct joining *joining, int64_t now)
{
	const int64_t passed = joining->filled ? now - joining->filled : JOIN_BURST * 1000;
	const uint64_t fresh =
		passed <= 0 ? 0 : (passed < 60000 ? (uint64_t)passed : 60000) * JOIN_RATE;
	const uint64_t milli = joining->milli + (uint64_t)joining->tokens * 1000 + fresh;

	joining->filled = now;
	joining->tokens = milli < JOIN_BURST * 1000 ? (unsigned)(milli / 1000) : JOIN_BURST;
	joining->milli = (unsigned)(milli % 1000);
	if (joining->tokens > 0)
		joining->tokens--;
	if (joining->tokens == 0)
		joining->fast = true;
	else if (joining->tokens > JOIN_BURST / 2)
		joining->fast = false; /* not as soon as there is one: it would come by itself */
	return joining->fast || joining->behind;
}

/* ---- what waits ---- */

static bool grow(struct joining *joining, size_t size)
{
	size_t room = joining->room ? joining->room : 4096;
	char *bytes;

	while (room - joining->size < size)
		room *= 2;
	if (room == joining->room)
		return true;
	bytes = realloc(joining->bytes, room);
	if (!bytes)
		return false;
	joining->bytes = bytes;
	joining->room = room;
	return true;
}

static void put(struct joining *joining, const void *bytes, size_t size)
{
	if (size)
		memcpy(joining->bytes + joining->size, bytes, size);
	joining->size += size;
}

static bool equal(const char *bytes, size_t size, struct iovec other)
{
	return size == other.iov_len && memcmp(bytes, other.iov_base, size) == 0;
}

/* Of the same stream and parent as what waits. */
static bool alike(const struct joining *joining, const struct passage *passage)
{
	const char *at = joining->bytes;

	if (!equal(at, joining->topic, passage->parts[0]))
		return false;
	at += joining->topic + joining->header;
	return equal(at, joining->parent, passage->fresh[WIRE_PARENT]) &&
	       /* stdout, stderr */
	       equal(joining->bytes + joining->name, passage->stream.iov_len, passage->stream);
}

/* How many \r and \b there are at the most. */
static unsigned count_moves(struct iovec text)
{
	const char *at = text.iov_base, *const end = at + text.iov_len;
	unsigned moves = 0;

	while (at < end && (at = memchr(at, '\\', (size_t)(end - at)))) {
		moves += at + 1 < end && (at[1] == 'r' || at[1] == 'b');
		at += 2;
	}
	return moves;
}

static bool begin(struct joining *joining, const struct passage *passage, int64_t now)
{
	static const char before_name[] = "{\"name\": \"", before_text[] = "\", \"text\": \"";
	const struct iovec topic = passage->parts[0], header = passage->fresh[WIRE_HEADER],
			   parent = passage->fresh[WIRE_PARENT];

	joining->size = 0;
	joining->moves = 0;
	if (!grow(joining, topic.iov_len + header.iov_len + parent.iov_len + sizeof(before_name) +
				   sizeof(before_text) + passage->stream.iov_len + 2))
		return false;
	put(joining, topic.iov_base, joining->topic = topic.iov_len);
	put(joining, header.iov_base, joining->header = header.iov_len);
	put(joining, parent.iov_base, joining->parent = parent.iov_len);
	put(joining, before_name, sizeof(before_name) - 1);
	joining->name = joining->size;
	put(joining, passage->stream.iov_base, passage->stream.iov_len);
	put(joining, before_text, sizeof(before_text) - 1);
	joining->text = joining->size;
	joining->until = now + (joining->behind ? JOIN_BEHIND_MS : JOIN_MS);
	return true;
}

bool joining_add(struct joining *joining, const struct passage *passage, int64_t now)
{
	const unsigned moves = count_moves(passage->text);

	if (joining->until && (!alike(joining, passage) || joining->moves + moves > JOIN_MOVES ||
			       joining->size + passage->text.iov_len > JOIN_MAX))
		return false;
	if (!joining->until && !begin(joining, passage, now))
		return false;
	if (!grow(joining, passage->text.iov_len + 2)) { /* what closes it has room too */
		if (joining->size == joining->text)
			joining->until = 0;
		return false;
	}
	put(joining, passage->text.iov_base, passage->text.iov_len);
	joining->moves += moves;
	return true;
}

/* ---- what goes on ---- */

enum { TOPIC, DELIMITER, SIGNATURE, HEADER, PARENT, METADATA, CONTENT, PARTS };

static struct iovec copy(char **at, const void *bytes, size_t size)
{
	const struct iovec part = {*at, size};

	if (size)
		memcpy(*at, bytes, size);
	*at += size;
	return part;
}

static struct wall_frame *make_frame(const struct joining *joining, struct sign *sign)
{
	const size_t front = sizeof(struct wall_frame) + PARTS * sizeof(struct iovec);
	const char *from = joining->bytes;
	const size_t content = joining->size - joining->topic - joining->header - joining->parent;
	struct wall_frame *frame =
		calloc(1, front + joining->size + sizeof(wire_delimiter) + 2 + SIGN_HEX_MAX);
	struct iovec *parts = frame ? frame->parts : NULL;
	char *at = frame ? (char *)frame + front : NULL;
	int size;

	if (!frame)
		return NULL;
	atomic_init(&frame->refs, 1);
	frame->kind = WALL_MESSAGE;
	frame->channel = WALL_IOPUB;
	frame->count = PARTS;
	parts[TOPIC] = copy(&at, from, joining->topic);
	parts[HEADER] = copy(&at, from += joining->topic, joining->header);
	parts[PARENT] = copy(&at, from += joining->header, joining->parent);
	parts[CONTENT] = copy(&at, from += joining->parent, content);
	parts[METADATA] = copy(&at, "{}", 2);
	parts[DELIMITER] = copy(&at, wire_delimiter, sizeof(wire_delimiter));
	size = sign_make(sign, &parts[HEADER], at);
	if (size < 0) {
		free(frame);
		return NULL;
	}
	parts[SIGNATURE] = (struct iovec){at, (size_t)size};
	for (size_t i = 0; i < PARTS; i++)
		frame->total += (uint32_t)parts[i].iov_len;
	return frame;
}

struct wall_frame *joining_take(struct joining *joining, struct sign *sign,
				struct iovec *ret_content, int *ret_code)
{
	struct wall_frame *frame;

	*ret_code = 0;
	if (!joining->until)
		return NULL;
	put(joining, "\"}", 2);
	frame = make_frame(joining, sign);
	joining->until = 0;
	joining->size = 0;
	if (frame)
		*ret_content = frame->parts[CONTENT];
	else
		*ret_code = -ENOMEM;
	return frame;
}

void joining_done(struct joining *joining)
{
	free_ptr(&joining->bytes);
	joining->until = 0;
}
