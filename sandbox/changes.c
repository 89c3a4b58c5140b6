#include "sandbox/changes.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>

/* Whatever can make a file a result, or a result ready: IN_ATTRIB may have made it readable. */
#define EVENTS (IN_CREATE | IN_MOVED_TO | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB)

void changes_open(struct changes *changes)
{
	changes->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	changes->blind = changes->fd < 0;
}

void changes_forget(struct changes *changes)
{
	_Alignas(struct inotify_event) char events[16384];

	/* The queue is bounded (max_queued_events), but refilled as fast as the kernel writes. */
	for (int i = 0; i < 256 && changes->fd >= 0; i++)
		if (read(changes->fd, events, sizeof(events)) <= 0)
			return;
}

void changes_watch(struct changes *changes, int directory)
{
	char path[64];
	int watch;

	if (changes->blind)
		return;
	/* inotify has no call that takes a descriptor, see proc(5) */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", directory);
	watch = inotify_add_watch(changes->fd, path, EVENTS | IN_ONLYDIR);
	/* Numbers are not used again: this one counts the watches that ever were. */
	if (watch < 0 || watch > CHANGES_WATCHES_MAX)
		changes->blind = true;
}

bool changes_none(int fd)
{
	struct pollfd watch = {.fd = fd, .events = POLLIN};

	return poll(&watch, 1, 0) == 0;
}
