#include "proxy/answer.h"

#include <string.h>

#define REQUEST "_request"

/*
 * The content of execute_reply, of iopub's error, and of kernel_info_reply, whose fields clients
 * read without looking at the status (jupyter_client docs/messaging.rst).
 */
static char *error_content(const char *why)
{
	cleanup(free_ptr) char *literal = json_literal(why, strlen(why));

	if (!literal)
		return NULL;
	return format_string(
		"{\"status\": \"error\", \"ename\": \"CellwallError\", \"evalue\": %s, "
		"\"traceback\": [%s], \"execution_count\": 0, \"banner\": %s, "
		"\"protocol_version\": \"5.4\", \"implementation\": \"cellwall\", "
		"\"implementation_version\": \"" CELLWALL_VERSION "\", \"help_links\": [], "
		"\"language_info\": {\"name\": \"none\", \"version\": \"0\", "
		"\"mimetype\": \"text/plain\", \"file_extension\": \".txt\"}}",
		literal, literal, literal);
}

static void answer_one(const struct passage *passage, const struct notice *notice, const char *why)
{
	const struct iovec *header = &passage->wire.signed_part[WIRE_HEADER];
	const struct iovec *identity = &passage->parts[0];
	const char *type = passage->header.msg_type;
	cleanup(free_ptr) char *parent = NULL, *content = NULL, *reply = NULL;
	size_t stem = strlen(type);

	if (passage->wire.identities != 1 || stem <= strlen(REQUEST) ||
	    strcmp(type + stem - strlen(REQUEST), REQUEST) != 0)
		return;
	stem -= strlen(REQUEST);
	parent = strndup(header->iov_base, header->iov_len);
	content = error_content(why);
	reply = format_string("%.*s_reply", (int)stem, type);
	if (!parent || !content || !reply)
		return;
	if (passage->verdict == GUARD_CELL)
		notice_send(notice, WALL_IOPUB, "error", 5, "error", parent, content);
	notice_send(notice, passage->channel, identity->iov_base, identity->iov_len, reply, parent,
		    content);
	notice_send(notice, WALL_IOPUB, "status", 6, "status", parent,
		    "{\"execution_state\": \"idle\"}");
}

void answer_requests(struct channels *channels, struct corridor *corridor,
		     const struct notice *notice, const char *why)
{
	static const enum wall_channel asked[] = {WALL_CONTROL, WALL_SHELL};

	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
		struct message *message = NULL;

		while (channels_receive(channels, asked[i], &message) == 1) {
			struct passage passage = {.direction = GUARD_INWARD,
						  .channel = asked[i],
						  .parts = message->parts,
						  .count = message->count};

			if (relay_one(corridor, &passage))
				answer_one(&passage, notice, why);
			message = message_free(message);
		}
	}
}
