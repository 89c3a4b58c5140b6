#include "sandbox/outbox.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "sandbox/status.h"

static void keep(struct outbox *outbox, const char *packet, size_t size)
{
	void *copy = outbox->count < OUTBOX_MAX ? malloc(size) : NULL;
	size_t at = (outbox->first + outbox->count) % OUTBOX_MAX;

	if (!copy) {
		outbox->dropped++;
		return;
	}
	memcpy(copy, packet, size);
	outbox->waiting[at].data = copy;
	outbox->waiting[at].size = size;
	outbox->count++;
}

void outbox_put(struct outbox *outbox, int fd, bool droppable, const char *word,
		const char *const *fields, size_t count)
{
	char packet[STATUS_MAX];
	size_t size = status_encode(packet, word, fields, count);
	/* Never past one that waits: "gone" comes before "done". */
	int r = outbox->count > 0 ? -EAGAIN : status_post(fd, packet, size);

	if (r != -EAGAIN)
		return;
	if (droppable)
		outbox->dropped++;
	else
		keep(outbox, packet, size);
}

bool outbox_waits(const struct outbox *outbox)
{
	return outbox->count > 0 || outbox->dropped > 0;
}

static void tell_dropped(struct outbox *outbox, int fd)
{
	char text[160], packet[STATUS_MAX];
	const char *const fields[] = {text};

	(void)snprintf(text, sizeof(text),
		       "%" PRIu64 " messages about the sandbox and its files came faster than they "
		       "could be shown and were left out",
		       outbox->dropped);
	if (status_post(fd, packet, status_encode(packet, "notice", fields, 1)) != -EAGAIN)
		outbox->dropped = 0;
}

void outbox_flush(struct outbox *outbox, int fd)
{
	while (outbox->count > 0) {
		void *data = outbox->waiting[outbox->first].data;

		/* Of no use to a proxy that is gone: any other error takes it off too. */
		if (status_post(fd, data, outbox->waiting[outbox->first].size) == -EAGAIN)
			return;
		free(data);
		outbox->first = (outbox->first + 1) % OUTBOX_MAX;
		outbox->count--;
	}
	if (outbox->dropped > 0)
		tell_dropped(outbox, fd);
}

void outbox_drain(struct outbox *outbox, int fd, int64_t deadline)
{
	for (;;) {
		struct pollfd watch = {.fd = fd, .events = POLLOUT};
		int64_t left = deadline - now_ms();

		outbox_flush(outbox, fd);
		if (!outbox_waits(outbox) || left <= 0)
			return;
		if (poll(&watch, 1, (int)left) > 0 && !(watch.revents & POLLOUT))
			return;
	}
}
