#include "proxy/notice.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/header.h"
#include "proxy/plain.h"
#include "proxy/wire.h"

#define BURST 64 /* subscriptions at a time: others wait too */

#define TOPIC "cellwall"

static struct iovec text_part(const char *text)
{
	/* iovec is for both directions; these are only read. */
	union {
		const void *constant;
		void *plain;
	} view = {.constant = text};

	return (struct iovec){.iov_base = view.plain, .iov_len = strlen(text)};
}

#define PARTS 7

/* What the parts of a message of our own point to. */
struct made {
	char *header;
	char signature[SIGN_HEX_MAX];
	struct iovec parts[PARTS];
};

static int make(const struct notice *notice, struct iovec envelope, const char *msg_type,
		const char *parent, const char *content, struct made *made)
{
	union {
		const void *constant;
		void *plain;
	} delimiter = {.constant = wire_delimiter}; /* no string: it has no NUL */
	struct iovec *parts = made->parts;

	made->header = header_make(msg_type, notice->session);
	if (!made->header)
		return -ENOMEM;
	parts[0] = envelope;
	parts[1] = (struct iovec){.iov_base = delimiter.plain, .iov_len = sizeof(wire_delimiter)};
	parts[3] = text_part(made->header);
	parts[4] = text_part(parent ? parent : "{}");
	parts[5] = text_part("{}");
	parts[6] = text_part(content);
	made->signature[0] = '\0';
	if (sign_make(notice->sign, &parts[3], made->signature) < 0) {
		free_ptr(&made->header);
		return -EIO;
	}
	parts[2] = text_part(made->signature);
	return 0;
}

int notice_send(const struct notice *notice, enum wall_channel channel, const void *identity,
		size_t identity_size, const char *msg_type, const char *parent, const char *content)
{
	union {
		const void *constant;
		void *plain;
	} view = {.constant = identity};
	const struct iovec envelope = {.iov_base = view.plain, .iov_len = identity_size};
	struct made made;
	int code;

	if (!notice->channels)
		return 0; /* on the way out: the log has it */
	code = make(notice, envelope, msg_type, parent, content, &made);
	if (code < 0)
		return code;
	code = channels_send_own(notice->channels, channel, made.parts, PARTS);
	free(made.header);
	return code;
}

/* The content of a line on stderr; caller frees. NULL: out of memory. A name in it may be of the
 * kernel's choice, and a front end would make a link of it. */
static char *stream_content(const char *text)
{
	cleanup(free_ptr) char *line = format_string("cellwall: %s\n", text);
	size_t size = line ? strlen(line) : 0;
	cleanup(free_ptr) char *clean = NULL;
	cleanup(free_ptr) char *literal = NULL;

	if (line && plain_clean(line, size, PLAIN_PROMPT, &clean, &size) >= 0)
		literal = json_literal(clean ? clean : line, size);
	return literal ? format_string("{\"name\": \"stderr\", \"text\": %s}", literal) : NULL;
}

int notice_say(const struct notice *notice, const char *parent, const char *text)
{
	cleanup(free_ptr) char *content = stream_content(text);

	if (!content)
		return -ENOMEM;
	return notice_send(notice, WALL_IOPUB, TOPIC, strlen(TOPIC), "stream", parent, content);
}

/* One block, as the reader of the wall makes them (wall.h). */
static struct wall_frame *pack(const struct iovec parts[PARTS])
{
	const size_t front = sizeof(struct wall_frame) + PARTS * sizeof(struct iovec);
	struct wall_frame *frame;
	size_t total = 0;
	char *at;

	for (size_t i = 0; i < PARTS; i++)
		total += parts[i].iov_len;
	if (total > WALL_TOTAL_MAX)
		return NULL;
	frame = malloc(front + total);
	if (!frame)
		return NULL;
	atomic_init(&frame->refs, 1);
	frame->kind = WALL_MESSAGE;
	frame->channel = WALL_IOPUB;
	frame->count = PARTS;
	frame->total = (uint32_t)total;
	frame->mapped = 0;
	frame->added = NULL;
	at = (char *)frame + front;
	for (size_t i = 0; i < PARTS; i++) {
		frame->parts[i] = (struct iovec){.iov_base = at, .iov_len = parts[i].iov_len};
		memcpy(at, parts[i].iov_base, parts[i].iov_len);
		at += parts[i].iov_len;
	}
	return frame;
}

struct wall_frame *notice_frame(const struct notice *notice, const char *parent, const char *text)
{
	cleanup(free_ptr) char *content = stream_content(text);
	struct wall_frame *frame;
	struct made made;

	if (!content || make(notice, text_part(TOPIC), "stream", parent, content, &made) < 0)
		return NULL;
	frame = pack(made.parts);
	free(made.header);
	return frame;
}

/* Well-formed UTF-8 comes back from json_literal unchanged but for its quotes and escapes: U+FFFD
 * tells the rest. */
static bool is_utf8(const char *text, size_t size)
{
	return memmem(text, size, "\xEF\xBF\xBD", 3) == NULL;
}

static int welcome(const struct notice *notice, const void *topic, size_t size)
{
	cleanup(free_ptr) char *literal = json_literal(topic, size);
	cleanup(free_ptr) char *content = NULL;

	if (literal && !is_utf8(literal, strlen(literal)))
		return 0;
	content = literal ? format_string("{\"subscription\": %s}", literal) : NULL;
	if (!content)
		return -ENOMEM;
	return notice_send(notice, WALL_IOPUB, topic, size, "iopub_welcome", NULL, content);
}

void notice_subscriptions(const struct notice *notice)
{
	for (int i = 0; i < BURST; i++) {
		struct message *message = NULL;

		if (channels_receive(notice->channels, WALL_IOPUB, &message) != 1)
			return;
		if (message->count == 1 && message->parts[0].iov_len >= 1) {
			const char *bytes = message->parts[0].iov_base;

			if (bytes[0] == 1)
				(void)welcome(notice, bytes + 1, message->parts[0].iov_len - 1);
		}
		message_free(message);
	}
}
