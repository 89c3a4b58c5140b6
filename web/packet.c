#include "web/packet.h"

#include <errno.h>
#include <string.h>

#include "proxy/header.h"
#include "proxy/wire.h"

struct packet *packet_ref(struct packet *packet)
{
	packet->refs++;
	return packet;
}

void packet_unref(struct packet *packet)
{
	if (!packet || --packet->refs > 0)
		return;
	for (size_t i = 0; i < packet->frame_count; i++)
		zmq_msg_close(&packet->frames[i]);
	free(packet);
}

/* The frames of one message in `frames`, and how many; reads it to its end when it is too large. */
static int receive_frames(void *socket, size_t bytes_max, zmq_msg_t *frames, size_t *ret_count,
			  size_t *ret_bytes)
{
	bool excess = false;
	int more = 1;

	*ret_count = *ret_bytes = 0;
	for (size_t n = 0; more; n = *ret_count) {
		zmq_msg_t *frame = &frames[n < PACKET_FRAMES_MAX ? n : PACKET_FRAMES_MAX - 1];

		(void)zmq_msg_init(frame);
		if (zmq_msg_recv(frame, socket, ZMQ_DONTWAIT) < 0) {
			(void)zmq_msg_close(frame);
			return errno == EAGAIN && n == 0 ? 0 : -EPROTO;
		}
		more = zmq_msg_more(frame);
		*ret_bytes += zmq_msg_size(frame);
		excess = excess || *ret_bytes > bytes_max || (n == PACKET_FRAMES_MAX - 1 && more);
		if (excess)
			(void)zmq_msg_close(frame);
		else
			(*ret_count)++;
	}
	return excess ? -EMSGSIZE : 1;
}

static struct packet *make(zmq_msg_t *frames, size_t count, enum wall_channel channel)
{
	const size_t head = sizeof(struct packet) + count * sizeof(zmq_msg_t);
	struct packet *packet = malloc(head + count * sizeof(struct iovec));

	if (!packet)
		return NULL;
	*packet = (struct packet){.refs = 1, .channel = channel, .frame_count = count};
	packet->parts = (void *)&packet->frames[count];
	for (size_t i = 0; i < count; i++) {
		(void)zmq_msg_init(&packet->frames[i]);
		(void)zmq_msg_move(&packet->frames[i], &frames[i]);
		packet->parts[i].iov_base = zmq_msg_data(&packet->frames[i]);
		packet->parts[i].iov_len = zmq_msg_size(&packet->frames[i]);
	}
	return packet;
}

int packet_receive(void *socket, enum wall_channel channel, size_t bytes_max,
		   struct packet **ret_packet, struct iovec *ret_signature)
{
	static zmq_msg_t frames[PACKET_FRAMES_MAX]; /* one thread; too much for a stack */
	struct packet *packet = NULL;
	struct wire_msg wire;
	size_t count, bytes;
	int r = receive_frames(socket, bytes_max, frames, &count, &bytes);

	if (r > 0) {
		packet = make(frames, count, channel);
		r = packet ? 1 : -ENOMEM;
	}
	for (size_t i = 0; r != 1 && i < count; i++)
		(void)zmq_msg_close(&frames[i]);
	if (r != 1)
		return r;
	if (wire_parse(packet->parts, count, &wire, NULL) < 0) {
		packet_unref(packet);
		return -EPROTO;
	}
	*ret_signature = wire.signature;
	packet->parts += wire.identities + 2; /* the delimiter and the signature */
	packet->count = count - wire.identities - 2;
	for (size_t i = 0; i < packet->count; i++)
		packet->bytes += packet->parts[i].iov_len;
	*ret_packet = packet;
	return 1;
}

struct packet *packet_make(enum wall_channel channel, const char *msg_type, struct iovec parent,
			   const char *content)
{
	cleanup(free_ptr) char *header = header_make(msg_type, "cellwall");
	const size_t sizes[PACKET_PARTS] = {header ? strlen(header) : 0,
					    parent.iov_len ? parent.iov_len : 2, 2,
					    strlen(content)};
	const void *from[PACKET_PARTS] = {header, parent.iov_len ? parent.iov_base : "{}", "{}",
					  content};
	struct packet *packet;
	char *at;

	if (!header)
		return NULL;
	packet = malloc(sizeof(*packet) + PACKET_PARTS * sizeof(struct iovec) + sizes[0] +
			sizes[1] + sizes[2] + sizes[3]);
	if (!packet)
		return NULL;
	*packet = (struct packet){.refs = 1, .channel = channel, .count = PACKET_PARTS};
	packet->status = strcmp(msg_type, "status") == 0;
	packet->parts = (void *)packet->frames;
	at = (char *)(packet->parts + PACKET_PARTS);
	for (size_t i = 0; i < PACKET_PARTS; i++) {
		memcpy(at, from[i], sizes[i]);
		packet->parts[i] = (struct iovec){at, sizes[i]};
		packet->bytes += sizes[i];
		at += sizes[i];
	}
	return packet;
}
