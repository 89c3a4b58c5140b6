#include "web/near.h"

#include <errno.h>
#include <string.h>

#include "proxy/limits.h"
#include "proxy/requests.h"
#include "proxy/wire.h"
#include "sandbox/log.h"

#define BURST 64
#define TOPIC "kernel"
/* Requests that wait for the host; past it clients' sockets are not read. */
#define WAITING_MAX (32u * 1024 * 1024)
/* Output that waits for clients; past it the host is not told that more was taken. */
#define OUTPUT_WAITS (16L * 1024 * 1024)

/* ---- from clients ---- */

static void release_message(void *arg)
{
	message_free(arg);
}

static char *copy_text(struct iovec text)
{
	return strndup(text.iov_base, text.iov_len);
}

/* The kernel is ended by us, as its process here would be: clients wait for that. */
static void take_shutdown(struct near *near, const struct passage *passage)
{
	const struct iovec identity = passage->parts[0];
	struct iovec restart = requests_member(passage->wire.signed_part[WIRE_CONTENT], "restart");

	if (!near->parting && passage->wire.identities == 1) {
		near->parting = copy_text(passage->wire.signed_part[WIRE_HEADER]);
		near->parting_to.iov_base = malloc(identity.iov_len + 1);
		if (near->parting_to.iov_base) {
			memcpy(near->parting_to.iov_base, identity.iov_base, identity.iov_len);
			near->parting_to.iov_len = identity.iov_len;
		}
		near->parting_restart =
			restart.iov_len == 4 && memcmp(restart.iov_base, "true", 4) == 0;
	}
	near_leave(near);
}

static void remember_cell(struct near *near, const struct passage *passage)
{
	char *copy = copy_text(passage->wire.signed_part[WIRE_HEADER]);

	if (!copy)
		return;
	free(near->cell);
	near->cell = copy;
	if (near->told_apart) {
		cleanup(free_ptr) char *text =
			format_string("the kernel's host %s is away; this is sent when it is back",
				      near->plan->host);

		if (text)
			notice_say(&near->notice, near->cell, text);
	}
}

/* Takes the message. */
static void send_on(struct near *near, enum wall_channel channel, struct message *message)
{
	struct passage passage = {.direction = GUARD_INWARD,
				  .channel = channel,
				  .parts = message->parts,
				  .count = message->count};
	const bool good = relay_one(&near->corridor, &passage);
	const size_t first = passage.wire.identities + 2; /* after delimiter and signature */

	if (good && passage.verdict == GUARD_CELL)
		remember_cell(near, &passage);
	if (good && channel == WALL_CONTROL &&
	    strcmp(passage.header.msg_type, "shutdown_request") == 0)
		take_shutdown(near, &passage);
	else if (good && link_stream_put(near->stream, channel, message->parts + first,
					 message->count - first, release_message, message) == 0)
		message = NULL;
	else if (good)
		log_error("a message of %zu bytes to the kernel was lost: too large, or out of "
			  "memory",
			  message->bytes);
	passage_done(&passage);
	message_free(message);
}

bool near_local_takes(const struct near *near, enum wall_channel channel)
{
	if (channel == WALL_HB || channel == WALL_IOPUB || channel == WALL_CONTROL)
		return true;
	/* What comes before there is a kernel is answered in words when there will be none. */
	return (near->known || near->phase == NEAR_FAILED) &&
	       link_stream_queued(near->stream) < WAITING_MAX;
}

void near_local_receive(struct near *near, enum wall_channel channel)
{
	for (int i = 0; i < BURST && near_local_takes(near, channel); i++) {
		struct message *message = NULL;
		int code = channels_receive(near->channels, channel, &message);

		if (code == 0)
			return;
		if (code < 0) {
			log_warning("a client's message was over the limit of %u frames or %u "
				    "bytes: dropped",
				    CLIENT_FRAMES_MAX, WALL_TOTAL_MAX);
			continue;
		}
		if (channel != WALL_HB) {
			send_on(near, channel, message);
			continue;
		}
		if (message->bytes <= HEARTBEAT_MAX)
			channels_send_own(near->channels, WALL_HB, message->parts, message->count);
		message_free(message);
	}
}

/* ---- to clients ---- */

/*
 * One frame as the reader of the wall makes them (wall.h): envelope, delimiter and signature lie in
 * it, the rest in the message's data, which it takes.
 */
static struct wall_frame *dress(struct near *near, struct iovec envelope,
				struct link_message *message)
{
	const size_t count = message->count + 3;
	const size_t front = sizeof(struct wall_frame) + count * sizeof(struct iovec);
	const size_t own = envelope.iov_len + sizeof(wire_delimiter) + SIGN_HEX_MAX;
	struct wall_frame *frame = count <= WALL_PARTS_MAX ? malloc(front + own) : NULL;
	size_t total;
	char *at;
	int length;

	if (!frame)
		return NULL;
	at = (char *)frame + front;
	frame->parts[0] = (struct iovec){at, envelope.iov_len};
	memcpy(at, envelope.iov_base, envelope.iov_len);
	at += envelope.iov_len;
	frame->parts[1] = (struct iovec){at, sizeof(wire_delimiter)};
	memcpy(at, wire_delimiter, sizeof(wire_delimiter));
	at += sizeof(wire_delimiter);
	length = sign_make(near->corridor.outer, message->parts, at);
	if (length < 0) {
		free(frame);
		return NULL;
	}
	frame->parts[2] = (struct iovec){at, (size_t)length};
	total = envelope.iov_len + sizeof(wire_delimiter) + (size_t)length;
	for (size_t i = 0; i < message->count; i++) {
		frame->parts[3 + i] = message->parts[i];
		total += message->parts[i].iov_len;
	}
	atomic_init(&frame->refs, 1);
	frame->kind = WALL_MESSAGE;
	frame->channel = (uint8_t)message->channel;
	frame->count = (uint16_t)count;
	frame->total = (uint32_t)total;
	frame->mapped = 0;
	frame->added = steal_ptr(&message->data);
	return frame;
}

/* The client that a reply or a question is for: who asked what it belongs to. */
static const struct request *find_asker(struct near *near, const struct link_message *message)
{
	struct header parent;

	if (header_parse(message->parts[WIRE_PARENT], &parent, NULL) < 0)
		return NULL;
	return requests_find(near->corridor.requests, parent.msg_id, parent.session);
}

void near_local_deliver(struct near *near, struct link_message *message)
{
	const enum wall_channel channel = (enum wall_channel)message->channel;
	union {
		const void *constant;
		void *plain;
	} topic = {.constant = TOPIC};
	struct iovec envelope = {topic.plain, strlen(TOPIC)};
	struct wall_frame *frame;
	int code;

	if (message->count < 4)
		return;
	if (channel != WALL_IOPUB) {
		const struct request *request = find_asker(near, message);

		if (!request)
			return;
		envelope = request->identity;
	}
	frame = dress(near, envelope, message);
	code = frame ? channels_send(near->channels, channel, frame) : -ENOMEM;
	if (code < 0)
		log_warning("a message of the kernel was lost: %s",
			    code == -ENOBUFS ? "its client is away and too many wait"
					     : "out of memory");
}

void near_local_part(struct near *near)
{
	if (near->parting && near->parting_to.iov_base)
		notice_send(&near->notice, WALL_CONTROL, near->parting_to.iov_base,
			    near->parting_to.iov_len, "shutdown_reply", near->parting,
			    near->parting_restart ? "{\"status\": \"ok\", \"restart\": true}"
						  : "{\"status\": \"ok\", \"restart\": false}");
	free(steal_ptr(&near->parting));
	free(steal_ptr(&near->parting_to.iov_base));
}

bool near_local_full(struct near *near, int64_t now)
{
	const unsigned long progress = channels_progress(near->channels);
	unsigned long lost = 0;

	if (channels_outstanding(near->channels) < OUTPUT_WAITS || progress != near->progress) {
		near->progress = progress;
		near->progress_at = now;
	} else if (now - near->progress_at > STALL_MS) {
		const unsigned cut = channels_cut_stalled(near->channels, &lost);

		log_warning("%u connections of clients that do not read were ended, %lu messages "
			    "for them are lost",
			    cut, lost);
		near->progress_at = now;
	}
	return channels_outstanding(near->channels) >= OUTPUT_WAITS;
}
