#include "proxy/notice.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/header.h"
#include "proxy/wire.h"

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

int notice_send(const struct notice *notice, enum wall_channel channel, const void *identity,
		size_t identity_size, const char *msg_type, const char *parent, const char *content)
{
	cleanup(free_ptr) char *header = header_make(msg_type, notice->session);
	char signature[SIGN_HEX_MAX] = "";
	union {
		const void *constant;
		void *plain;
	} view = {.constant = identity}, delimiter;
	struct iovec parts[7];

	if (!notice->channels)
		return 0; /* on the way out: the log has it */
	if (!header)
		return -ENOMEM;
	parts[0] = (struct iovec){.iov_base = view.plain, .iov_len = identity_size};
	delimiter.constant = wire_delimiter; /* no string: it has no NUL */
	parts[1] = (struct iovec){.iov_base = delimiter.plain, .iov_len = sizeof(wire_delimiter)};
	parts[3] = text_part(header);
	parts[4] = text_part(parent ? parent : "{}");
	parts[5] = text_part("{}");
	parts[6] = text_part(content);
	if (sign_make(notice->sign, &parts[3], signature) < 0)
		return -EIO;
	parts[2] = text_part(signature);
	return channels_send_own(notice->channels, channel, parts, 7);
}

int notice_say(const struct notice *notice, const char *parent, const char *text)
{
	cleanup(free_ptr) char *line = NULL, *literal = NULL, *content = NULL;

	line = format_string("cellwall: %s\n", text);
	literal = line ? json_literal(line, strlen(line)) : NULL;
	content = literal ? format_string("{\"name\": \"stderr\", \"text\": %s}", literal) : NULL;
	if (!content)
		return -ENOMEM;
	return notice_send(notice, WALL_IOPUB, TOPIC, strlen(TOPIC), "stream", parent, content);
}

/* Well-formed UTF-8 comes back from json_literal unchanged but for its quotes and escapes: U+FFFD
 * tells the rest. */
static bool is_utf8(const char *text, size_t size)
{
	return memmem(text, size, "\xEF\xBF\xBD", 3) == NULL;
}

int notice_welcome(const struct notice *notice, const void *topic, size_t size)
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
