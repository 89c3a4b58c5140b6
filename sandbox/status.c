#include "sandbox/status.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIELD_LEAST                                                                                \
	128	    /* of each later field this much is kept when an earlier one is too long       \
		     */
#define FDS_SEEN 16 /* descriptors a packet is searched for, to close those nobody asked for */

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int) * FDS_SEEN)];
};

static char escape_of(char byte)
{
	switch (byte) {
	case '\t':
		return 't';
	case '\n':
		return 'n';
	case '\\':
		return '\\';
	default:
		return '\0';
	}
}

static size_t escaped_length(const char *text)
{
	size_t length = 0;

	for (; *text; text++)
		length += escape_of(*text) ? 2 : 1;
	return length;
}

/* Appends `text` escaped, at most up to offset `most`, never half an escape; returns the new
 * offset. */
static size_t append(char *packet, size_t at, size_t most, const char *text)
{
	for (; *text; text++) {
		char escape = escape_of(*text);

		if (at + (escape ? 2 : 1) > most)
			break;
		if (escape)
			packet[at++] = '\\';
		packet[at++] = escape ? escape : *text;
	}
	return at;
}

/* One byte less than STATUS_MAX: the receiver adds a NUL. */
size_t status_encode(char packet[STATUS_MAX], const char *word, const char *const *fields,
		     size_t count)
{
	size_t at = append(packet, 0, FIELD_LEAST, word);

	for (size_t i = 0; i < count; i++) {
		size_t most = STATUS_MAX - 1;

		for (size_t later = i + 1; later < count; later++) {
			size_t length = escaped_length(fields[later]);

			most -= 1 + (length < FIELD_LEAST ? length : FIELD_LEAST);
		}
		packet[at++] = '\t';
		at = append(packet, at, most, fields[i]);
	}
	return at;
}

/* One attempt. */
static int try_packet(int fd, const struct msghdr *message)
{
	for (;;) {
		if (sendmsg(fd, message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
			return 0;
		if (errno == ECONNRESET) /* the peer closed without reading what we sent before */
			return -EPIPE;
		if (errno != EINTR)
			return -errno;
	}
}

/* Never in sendmsg(2) itself, which would wait for ever on a socket that blocks. */
static int send_packet(int fd, const struct msghdr *message)
{
	int64_t until = now_ms() + STATUS_WAIT_MS;

	for (;;) {
		struct pollfd watch = {.fd = fd, .events = POLLOUT};
		int r = try_packet(fd, message);
		int64_t left = until - now_ms();

		if (r != -EAGAIN || left <= 0)
			return r;
		(void)poll(&watch, 1, (int)left);
	}
}

int status_post(int fd, const void *packet, size_t size)
{
	/* sendmsg(2) only reads it. */
	struct iovec part = {.iov_base = (void *)(uintptr_t)packet, .iov_len = size};
	const struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

	return try_packet(fd, &message);
}

static int send_fields(int fd, const int *fds, size_t count, struct err *err, const char *word,
		       va_list args)
{
	const char *fields[STATUS_FIELDS], *field;
	char packet[STATUS_MAX];
	union control control = {0};
	struct iovec part = {.iov_base = packet};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	size_t used = 0;
	int r;

	while ((field = va_arg(args, const char *))) {
		if (used == STATUS_FIELDS)
			return err_set(err, -EINVAL, "status: more than %d fields", STATUS_FIELDS);
		fields[used++] = field;
	}
	if (!*word || count > STATUS_FDS)
		return err_set(err, -EINVAL, "status: no word, or more than %d descriptors",
			       STATUS_FDS);
	part.iov_len = status_encode(packet, word, fields, used);
	if (count > 0) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int) * count);
		memcpy(CMSG_DATA(&control.align), fds, sizeof(int) * count);
	}
	r = send_packet(fd, &message);
	if (r < 0)
		return err_set(err, r, "status: cannot send \"%s\": %s", word, strerrordesc_np(-r));
	return 0;
}

int status_send(int fd, struct err *err, const char *word, ...)
{
	va_list args;
	int r;

	va_start(args, word);
	r = send_fields(fd, NULL, 0, err, word, args);
	va_end(args);
	return r;
}

int status_send_fds(int fd, const int *fds, size_t count, struct err *err, const char *word, ...)
{
	va_list args;
	int r;

	va_start(args, word);
	r = send_fields(fd, fds, count, err, word, args);
	va_end(args);
	return r;
}

/* Takes the descriptors out of a message; closes those past STATUS_FDS. Returns 0 or -EPROTO. */
static int take_fds(struct msghdr *message, int fds[STATUS_FDS])
{
	size_t taken = 0, surplus = 0;

	for (struct cmsghdr *item = CMSG_FIRSTHDR(message); item;
	     item = CMSG_NXTHDR(message, item)) {
		size_t count;

		if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS)
			continue;
		count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(item) + i * sizeof(fd), sizeof(fd));
			if (taken < STATUS_FDS) {
				fds[taken++] = fd;
			} else {
				close_fd(&fd);
				surplus++;
			}
		}
	}
	return surplus > 0 ? -EPROTO : 0;
}

/* Undoes the escapes of one field in place. */
static bool unescape(char *field)
{
	char *to = field;

	for (const char *from = field; *from; from++) {
		if (*from == '\n')
			return false;
		if (*from != '\\') {
			*to++ = *from;
			continue;
		}
		switch (*++from) {
		case 't':
			*to++ = '\t';
			break;
		case 'n':
			*to++ = '\n';
			break;
		case '\\':
			*to++ = '\\';
			break;
		default: /* the end of the field too */
			return false;
		}
	}
	*to = '\0';
	return true;
}

/* Splits text of `size` bytes (a NUL follows) into word and fields. Returns 0 or -EPROTO. */
static int split(struct status *status, size_t size)
{
	char *next = status->text;

	if (size == 0 || memchr(next, '\0', size))
		return -EPROTO;
	status->word = next;
	for (;;) {
		char *tab = strchr(next, '\t'); /* one inside a field is written \t */

		if (tab)
			*tab = '\0';
		if (!unescape(next))
			return -EPROTO;
		if (!tab)
			return *status->word ? 0 : -EPROTO;
		if (status->fields == STATUS_FIELDS)
			return -EPROTO;
		next = tab + 1;
		status->field[status->fields++] = next;
	}
}

/* One recvmsg across EINTR; ECONNRESET is reported once, before packets that still wait to be read.
 */
static ssize_t receive_packet(int fd, struct msghdr *message)
{
	bool reset = false;

	for (;;) {
		ssize_t got = recvmsg(fd, message, MSG_CMSG_CLOEXEC);

		if (got >= 0)
			return got;
		if (errno == ECONNRESET && !reset)
			reset = true;
		else if (errno == ECONNRESET)
			return 0;
		else if (errno != EINTR)
			return -errno;
	}
}

static void forget(struct status *status)
{
	status->word = NULL;
	status->fields = 0;
	for (size_t i = 0; i < STATUS_FIELDS; i++)
		status->field[i] = NULL;
	for (size_t i = 0; i < STATUS_FDS; i++)
		close_fd(&status->fds[i]);
}

int status_receive(int fd, struct status *ret_status, struct err *err)
{
	union control control;
	struct iovec part = {.iov_base = ret_status->text, .iov_len = STATUS_MAX - 1};
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t got;
	int r;

	for (size_t i = 0; i < STATUS_FDS; i++)
		ret_status->fds[i] = -1;
	forget(ret_status);
	got = receive_packet(fd, &message);
	if (got < 0)
		return err_set(err, (int)got, "status: cannot receive: %s",
			       strerrordesc_np((int)-got));
	if (got == 0 && message.msg_controllen == 0)
		return 0;
	ret_status->text[got] = '\0';
	r = take_fds(&message, ret_status->fds);
	if (r == 0 && (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		r = -EPROTO;
	if (r == 0)
		r = split(ret_status, (size_t)got);
	if (r < 0) {
		forget(ret_status);
		return err_set(err, r, "status: a packet of %zd bytes does not parse", got);
	}
	return 1;
}
