/*
 * notice: what cellwall itself says to the clients, as signed messages of its own on iopub.
 */
#ifndef PROXY_NOTICE_H
#define PROXY_NOTICE_H

#include <stddef.h>

#include "proxy/channel.h"
#include "proxy/sign.h"

struct notice {
	struct channels *channels;
	struct sign *sign; /* the outer key */
	char session[40];  /* of all messages that clients get, the kernel's too */
};

/* Sends a message of `msg_type` with `content` and `parent` (JSON texts; parent NULL: {}).
 * `identity` names the client on a ROUTER channel, the topic on iopub. Returns 0 or a negative
 * errno. */
int notice_send(const struct notice *notice, enum wall_channel channel, const void *identity,
		size_t identity_size, const char *msg_type, const char *parent,
		const char *content);
/* A line of text in the notebook: `stream` stderr "cellwall: TEXT\n". Foreign text in it was
 * escaped by the caller. */
int notice_say(const struct notice *notice, const char *parent, const char *text);
/*
 * The same line as a frame like those of the kernel, for its place among held output. The caller
 * owns one reference. NULL: out of memory.
 */
struct wall_frame *notice_frame(const struct notice *notice, const char *parent, const char *text);
/* Subscriptions of clients that have come (1 topic) and their ends (0 topic): each subscriber gets
 * its iopub_welcome (JEP 65), but for a topic that is not UTF-8. A burst of them at a time. */
void notice_subscriptions(const struct notice *notice);

#endif
