#include "proxy/watch.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>

int watch_init(struct watch *watch, void *socket)
{
	int fd;
	size_t size = sizeof(fd);

	if (zmq_getsockopt(socket, ZMQ_FD, &fd, &size) < 0)
		return -errno;
	*watch = (struct watch){.socket = socket, .fd = fd, .look = true};
	return 0;
}

/* The watch of an item that waits for a socket's messages; NULL for every other item. */
static struct watch *find_watch(struct watch *watches, size_t count, const zmq_pollitem_t *item)
{
	for (size_t i = 0; item->socket && (item->events & ZMQ_POLLIN) && i < count; i++)
		if (watches[i].socket == item->socket)
			return &watches[i];
	return NULL;
}

/* Asks libzmq whether there are messages, where there may be. */
static bool has_messages(struct watch *watch)
{
	int events = 0;
	size_t size = sizeof(events);

	/* A failure (EINTR, ETERM) is for who reads next to see. */
	if (watch->look && zmq_getsockopt(watch->socket, ZMQ_EVENTS, &events, &size) == 0)
		watch->look = (events & ZMQ_POLLIN) != 0;
	return watch->look;
}

static short to_poll(short events)
{
	return (short)((events & ZMQ_POLLIN ? POLLIN : 0) | (events & ZMQ_POLLOUT ? POLLOUT : 0));
}

static short from_poll(short revents)
{
	return (short)((revents & POLLIN ? ZMQ_POLLIN : 0) | (revents & POLLOUT ? ZMQ_POLLOUT : 0) |
		       (revents & ~(POLLIN | POLLOUT) ? ZMQ_POLLERR : 0));
}

int watch_poll(struct watch *watches, size_t count, zmq_pollitem_t *items, size_t item_count,
	       long timeout)
{
	struct pollfd fds[WATCH_ITEMS_MAX];
	struct watch *found[WATCH_ITEMS_MAX];
	int ready = 0;

	if (item_count > WATCH_ITEMS_MAX)
		return -E2BIG;
	for (size_t i = 0; i < item_count; i++) {
		found[i] = find_watch(watches, count, &items[i]);
		items[i].revents = found[i] && has_messages(found[i]) ? ZMQ_POLLIN : 0;
		ready += items[i].revents != 0;
		fds[i] = (struct pollfd){.fd = -1}; /* which poll(2) passes over */
		if (found[i] && !items[i].revents)
			fds[i] = (struct pollfd){.fd = found[i]->fd, .events = POLLIN};
		else if (!items[i].socket)
			fds[i] = (struct pollfd){.fd = items[i].fd,
						 .events = to_poll(items[i].events)};
	}
	if (timeout > INT_MAX)
		timeout = INT_MAX;
	if (poll(fds, (nfds_t)item_count, ready ? 0 : (int)timeout) < 0)
		return ready ? ready : -errno;
	for (size_t i = 0; i < item_count; i++) {
		if (!fds[i].revents)
			continue;
		if (found[i]) {
			found[i]->look = true;
			items[i].revents = has_messages(found[i]) ? ZMQ_POLLIN : 0;
		} else {
			items[i].revents = from_poll(fds[i].revents);
		}
		ready += items[i].revents != 0;
	}
	return ready;
}
