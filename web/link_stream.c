#include "web/link_stream.h"

#include <errno.h>
#include <string.h>

#define SOURCE_BYTES_MAX WALL_TOTAL_MAX

/*
 * Theory of operation. A message that is put becomes a `source`, one queue for each class of
 * channels. link_stream_next takes the next piece of the first source whose class may send, copies
 * it into a `piece` with its sequence number, and appends that to the one list of pieces; what is
 * acknowledged leaves the list at its front. `unsent` points to the first piece of the list that
 * this connection has not carried: NULL after the last; a resume moves it to the front.
 *
 * A source that has begun goes on before another of its class begins, so the pieces of one channel
 * never alternate: a class has one queue, whatever its channels.
 */
enum { CLASS_CONTROL, CLASS_SHELL, CLASS_OUTPUT, CLASSES };

struct source {
	struct source *next;
	unsigned channel;
	void (*release)(void *arg);
	void *arg;
	unsigned char *sizes; /* count and sizes as they go out; after the parts, same block */
	size_t done, total;   /* bytes, with the sizes */
	size_t part, within;  /* where in the parts it goes on; part 0 is the sizes */
	size_t count;	      /* parts, with the sizes */
	struct iovec parts[];
};

struct piece {
	struct piece *next;
	uint64_t sequence;
	size_t size;
	unsigned char frame[];
};

struct queue {
	struct source *first, **last;
};

struct partial {
	unsigned char *data;
	size_t size, room;
};

struct link_stream {
	struct queue queues[CLASSES];
	struct piece *first, **last, *unsent;
	uint64_t sequence; /* of the last piece made */
	size_t waiting;	   /* bytes in sources */
	size_t kept;	   /* bytes in pieces */
	size_t message_max, collected;
	uint64_t received;
	struct partial partial[LINK_CHANNELS];
};

struct link_stream *link_stream_new(size_t message_max)
{
	struct link_stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return NULL;
	for (int i = 0; i < CLASSES; i++)
		stream->queues[i].last = &stream->queues[i].first;
	stream->last = &stream->first;
	stream->message_max = message_max;
	return stream;
}

static void source_free(struct source *source)
{
	if (source->release)
		source->release(source->arg);
	free(source);
}

struct link_stream *link_stream_free(struct link_stream *stream)
{
	if (!stream)
		return NULL;
	for (int i = 0; i < CLASSES; i++) {
		while (stream->queues[i].first) {
			struct source *source = stream->queues[i].first;

			stream->queues[i].first = source->next;
			source_free(source);
		}
	}
	while (stream->first) {
		struct piece *piece = stream->first;

		stream->first = piece->next;
		free(piece);
	}
	for (int i = 0; i < LINK_CHANNELS; i++)
		free(stream->partial[i].data);
	free(stream);
	return NULL;
}

/* ---- out ---- */

static unsigned class_of(unsigned channel)
{
	if (channel == WALL_CONTROL || channel == LINK_EVENTS)
		return CLASS_CONTROL;
	return channel == WALL_IOPUB ? CLASS_OUTPUT : CLASS_SHELL;
}

static void put_u32(unsigned char *out, size_t value)
{
	for (unsigned i = 0; i < 4; i++)
		out[i] = (unsigned char)(value >> (8 * i));
}

static size_t get_u32(const unsigned char *bytes)
{
	return (size_t)bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 |
	       (size_t)bytes[3] << 24;
}

int link_stream_put(struct link_stream *stream, unsigned channel, const struct iovec *parts,
		    size_t count, void (*release)(void *arg), void *arg)
{
	struct queue *queue = &stream->queues[class_of(channel)];
	const size_t sizes = 4 + 4 * count;
	size_t total = sizes;
	struct source *source;

	if (channel >= LINK_CHANNELS || count == 0 || count > LINK_PARTS_MAX)
		return -EMSGSIZE;
	for (size_t i = 0; i < count; i++) {
		if (parts[i].iov_len > SOURCE_BYTES_MAX || total > SOURCE_BYTES_MAX)
			return -EMSGSIZE;
		total += parts[i].iov_len;
	}
	source = calloc(1, sizeof(*source) + (count + 1) * sizeof(struct iovec) + sizes);
	if (!source)
		return -ENOMEM;
	source->channel = channel;
	source->release = release;
	source->arg = arg;
	source->total = total;
	source->count = count + 1;
	source->sizes = (unsigned char *)&source->parts[count + 1];
	put_u32(source->sizes, count);
	for (size_t i = 0; i < count; i++) {
		put_u32(source->sizes + 4 + 4 * i, parts[i].iov_len);
		source->parts[i + 1] = parts[i];
	}
	source->parts[0] = (struct iovec){.iov_base = source->sizes, .iov_len = sizes};
	*queue->last = source;
	queue->last = &source->next;
	stream->waiting += total;
	return 0;
}

size_t link_stream_queued(const struct link_stream *stream)
{
	return stream->waiting + stream->kept;
}

static void copy_out(struct source *source, unsigned char *out, size_t size)
{
	while (size > 0) {
		const struct iovec *part = &source->parts[source->part];
		size_t some = part->iov_len - source->within;

		if (some > size)
			some = size;
		if (some > 0)
			memcpy(out, (const char *)part->iov_base + source->within, some);
		out += some;
		size -= some;
		source->within += some;
		source->done += some;
		if (source->within == part->iov_len && source->part + 1 < source->count) {
			source->part++;
			source->within = 0;
		}
	}
}

/* The first source whose class may send now, or NULL. */
static struct queue *next_queue(struct link_stream *stream)
{
	static const size_t window[CLASSES] = {LINK_WINDOW + 2 * LINK_RESERVE,
					       LINK_WINDOW + LINK_RESERVE, LINK_WINDOW};

	for (int i = 0; i < CLASSES; i++)
		if (stream->queues[i].first && stream->kept < window[i])
			return &stream->queues[i];
	return NULL;
}

static int make_piece(struct link_stream *stream)
{
	struct queue *queue = next_queue(stream);
	struct source *source = queue ? queue->first : NULL;
	struct piece *piece;
	size_t size;

	if (!source)
		return 0;
	size = source->total - source->done;
	if (size > LINK_PIECE)
		size = LINK_PIECE;
	piece = malloc(sizeof(*piece) + LINK_HEADER + size);
	if (!piece)
		return -ENOMEM;
	piece->next = NULL;
	piece->sequence = ++stream->sequence;
	piece->size = LINK_HEADER + size;
	copy_out(source, piece->frame + LINK_HEADER, size);
	link_frame_header(piece->frame, LINK_DATA, source->channel,
			  source->done == source->total ? 1 : 0, piece->sequence);
	*stream->last = piece;
	stream->last = &piece->next;
	stream->unsent = piece;
	stream->waiting -= size;
	stream->kept += piece->size;
	if (source->done == source->total) {
		queue->first = source->next;
		if (!queue->first)
			queue->last = &queue->first;
		source_free(source);
	}
	return 1;
}

int link_stream_next(struct link_stream *stream, const void **ret_frame, size_t *ret_size)
{
	if (!stream->unsent) {
		const int code = make_piece(stream);

		if (code <= 0)
			return code;
	}
	*ret_frame = stream->unsent->frame;
	*ret_size = stream->unsent->size;
	return 1;
}

void link_stream_sent(struct link_stream *stream)
{
	if (stream->unsent)
		stream->unsent = stream->unsent->next;
}

int link_stream_acked(struct link_stream *stream, uint64_t received, struct err *err)
{
	if (received > stream->sequence)
		return err_set(err, -EPROTO, "an acknowledgement of what was not sent");
	while (stream->first && stream->first->sequence <= received) {
		struct piece *piece = stream->first;

		if (piece == stream->unsent)
			return err_set(err, -EPROTO, "an acknowledgement of what was not sent");
		stream->first = piece->next;
		if (!stream->first)
			stream->last = &stream->first;
		stream->kept -= piece->size;
		free(piece);
	}
	return 0;
}

int link_stream_resume(struct link_stream *stream, uint64_t received, struct err *err)
{
	const uint64_t kept = stream->first ? stream->first->sequence - 1 : stream->sequence;

	if (received < kept)
		return err_set(err, -EPROTO, "the other end forgot what it had received");
	/* What it has may never have been known here as sent. */
	stream->unsent = NULL;
	if (link_stream_acked(stream, received, err) < 0)
		return -EPROTO;
	stream->unsent = stream->first;
	return 0;
}

/* ---- in ---- */

struct link_message *link_message_free(struct link_message *message)
{
	if (!message)
		return NULL;
	free(message->data);
	free(message);
	return NULL;
}

static int grow(struct partial *partial, size_t needed)
{
	size_t room = partial->room ? partial->room : 256;
	unsigned char *larger;

	while (room < needed)
		room *= 2;
	if (room == partial->room)
		return 0;
	larger = realloc(partial->data, room);
	if (!larger)
		return -ENOMEM;
	partial->data = larger;
	partial->room = room;
	return 0;
}

/* Takes the partial's data. */
static int complete(struct partial *partial, unsigned channel, struct link_message **ret_message,
		    struct err *err)
{
	const size_t count = partial->size >= 4 ? get_u32(partial->data) : 0;
	struct link_message *message;
	size_t at = 4 + 4 * count;

	if (count == 0 || count > LINK_PARTS_MAX || partial->size < at)
		return err_set(err, -EPROTO, "a message of %zu bytes with %zu parts", partial->size,
			       count);
	message = malloc(sizeof(*message) + count * sizeof(struct iovec));
	if (!message)
		return err_set(err, -ENOMEM, "out of memory");
	message->channel = channel;
	message->count = count;
	message->parts = (struct iovec *)(message + 1);
	for (size_t i = 0; i < count; i++) {
		const size_t size = get_u32(partial->data + 4 + 4 * i);

		if (size > partial->size - at) {
			free(message);
			return err_set(err, -EPROTO, "a part past its message's end");
		}
		message->parts[i] = (struct iovec){.iov_base = partial->data + at, .iov_len = size};
		at += size;
	}
	if (at != partial->size) {
		free(message);
		return err_set(err, -EPROTO, "%zu bytes after a message's last part",
			       partial->size - at);
	}
	message->data = partial->data;
	*partial = (struct partial){0};
	*ret_message = message;
	return 1;
}

int link_stream_take(struct link_stream *stream, const struct link_frame *frame,
		     struct link_message **ret_message, struct err *err)
{
	struct partial *partial;
	size_t size;
	int code;

	if (frame->a >= LINK_CHANNELS)
		return err_set(err, -EPROTO, "no channel %u", frame->a);
	partial = &stream->partial[frame->a];
	if (frame->number <= stream->received)
		return 0;
	if (frame->number != stream->received + 1)
		return err_set(err, -EPROTO, "a gap in the sequence");
	if (frame->size > stream->message_max - stream->collected)
		return err_set(err, -EPROTO, "a message of more than %zu bytes",
			       stream->message_max);
	if (grow(partial, partial->size + frame->size) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	memcpy(partial->data + partial->size, frame->body, frame->size);
	partial->size += frame->size;
	stream->collected += frame->size;
	stream->received = frame->number;
	if (!frame->b)
		return 0;
	size = partial->size;
	code = complete(partial, frame->a, ret_message, err);
	if (code > 0)
		stream->collected -= size;
	return code;
}

uint64_t link_stream_received(const struct link_stream *stream)
{
	return stream->received;
}
