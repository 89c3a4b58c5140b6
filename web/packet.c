#include "web/packet.h"

#include <string.h>

#include "proxy/header.h"

struct packet *packet_ref(struct packet *packet)
{
	packet->refs++;
	return packet;
}

void packet_unref(struct packet *packet)
{
	if (!packet || --packet->refs > 0)
		return;
	free(packet->block);
	free(packet);
}

struct packet *packet_new(enum wall_channel channel, const struct iovec *parts, size_t count,
			  void *block)
{
	size_t bytes = 0;
	struct packet *packet;
	char *at;

	for (size_t i = 0; i < count; i++)
		bytes += parts[i].iov_len;
	packet = malloc(sizeof(*packet) + count * sizeof(parts[0]) + (block ? 0 : bytes));
	if (!packet) {
		free(block);
		return NULL;
	}
	*packet = (struct packet){
		.refs = 1, .channel = channel, .bytes = bytes, .count = count, .block = block};
	at = (char *)&packet->parts[count];
	for (size_t i = 0; i < count; i++) {
		packet->parts[i] = parts[i];
		if (block)
			continue;
		packet->parts[i].iov_base = at;
		if (parts[i].iov_len > 0)
			memcpy(at, parts[i].iov_base, parts[i].iov_len);
		at += parts[i].iov_len;
	}
	return packet;
}

struct packet *packet_make(enum wall_channel channel, const char *msg_type, struct iovec parent,
			   const char *content)
{
	cleanup(free_ptr) char *header = header_make(msg_type, "cellwall");
	char empty[] = "{}";
	const struct iovec parts[PACKET_PARTS] = {{header, header ? strlen(header) : 0},
						  parent.iov_len > 0 ? parent
								     : (struct iovec){empty, 2},
						  {empty, 2},
						  {(void *)(uintptr_t)content, strlen(content)}};
	struct packet *packet = header ? packet_new(channel, parts, PACKET_PARTS, NULL) : NULL;

	if (packet)
		packet->status = strcmp(msg_type, "status") == 0;
	return packet;
}
