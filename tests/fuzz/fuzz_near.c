/* Any bytes as what a host that means no good sends to the near end of the link, over connections
 * that end and come again: messages are whole and for a channel, what people read is text. */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sandbox/log.h"
#include "web/near.h"

/* In a record's first byte: what its bytes are, or what happens behind them. */
enum { EVENT = 0x80, TELL = 0x40, MORE = 0x20, LEAVE = 0x10, AGAIN = 0x08 };

#define require(what)                                                                              \
	do {                                                                                       \
		if (!(what))                                                                       \
			__builtin_trap();                                                          \
	} while (0)

/* The next thing that a socket gives. */
static struct {
	unsigned how;
	unsigned char *bytes; /* in a block of their own; NULL: nothing more */
	size_t size;
} next;
static char link_socket, monitor_socket; /* their addresses stand for them */

static void check_text(const char *text)
{
	for (; *text; text++)
		require((unsigned char)*text >= ' ' && *text != 0x7f);
}

/* ---- libzmq ---- */

void *zmq_socket(void *context, int type)
{
	(void)context;
	return type == ZMQ_DEALER ? &link_socket : &monitor_socket;
}

int zmq_setsockopt(void *socket, int option, const void *value, size_t size)
{
	(void)socket, (void)option, (void)value, (void)size;
	return 0;
}

int zmq_getsockopt(void *socket, int option, void *value, size_t *size)
{
	(void)socket, (void)option, (void)value, (void)size;
	return -1;
}

int zmq_socket_monitor(void *socket, const char *address, int events)
{
	(void)socket, (void)address, (void)events;
	return 0;
}

int zmq_connect(void *socket, const char *endpoint)
{
	(void)socket, (void)endpoint;
	return 0;
}

int zmq_close(void *socket)
{
	(void)socket;
	return 0;
}

int zmq_send(void *socket, const void *bytes, size_t size, int flags)
{
	struct link_frame frame;

	(void)flags;
	require(socket == &link_socket && link_frame_parse(bytes, size, &frame, NULL) == 0);
	return (int)size;
}

/* Of the monitor: an event, then its address. */
int zmq_recv(void *socket, void *out, size_t room, int flags)
{
	static bool address;
	size_t size = next.size < room ? next.size : room;

	(void)flags;
	require(socket == &monitor_socket);
	if (address) {
		address = false;
		return 0;
	}
	if (!next.bytes || !(next.how & EVENT))
		return -1;
	memset(out, 0, room);
	memcpy(out, next.bytes, size);
	free(next.bytes);
	next.bytes = NULL;
	address = true;
	return (int)room;
}

int zmq_msg_init(zmq_msg_t *message)
{
	(void)message;
	return 0;
}

int zmq_msg_recv(zmq_msg_t *message, void *socket, int flags)
{
	(void)message, (void)flags;
	require(socket == &link_socket);
	return next.bytes && !(next.how & EVENT) ? (int)next.size : -1;
}

int zmq_msg_more(const zmq_msg_t *message)
{
	(void)message;
	return (next.how & MORE) != 0;
}

void *zmq_msg_data(zmq_msg_t *message)
{
	(void)message;
	return next.bytes;
}

size_t zmq_msg_size(const zmq_msg_t *message)
{
	(void)message;
	return next.size;
}

int zmq_msg_close(zmq_msg_t *message)
{
	(void)message;
	if (!(next.how & EVENT)) {
		free(next.bytes);
		next.bytes = NULL;
	}
	return 0;
}

const char *zmq_strerror(int error)
{
	(void)error;
	return "";
}

/* ---- the other rooms of the near end ---- */

void __wrap_log_line(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void __wrap_log_line(enum log_level level, const char *format, ...)
{
	char text[4096];
	va_list arguments;

	(void)level;
	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	check_text(text);
}

int notice_say(const struct notice *notice, const char *parent, const char *text)
{
	(void)notice, (void)parent;
	check_text(text);
	return 0;
}

void near_fail(struct near *near, const char *text)
{
	check_text(text);
	near_host_close(near);
	near->phase = NEAR_FAILED;
}

void near_name_ask(struct near_name *name)
{
	(void)name;
}

int near_name_take(struct near_name *name, char out[NEAR_ENDPOINT_MAX], struct err *err)
{
	(void)name, (void)err;
	(void)snprintf(out, NEAR_ENDPOINT_MAX, "tcp://127.0.0.1:1");
	return 1;
}

void near_local_deliver(struct near *near, struct link_message *message)
{
	require(near->phase == NEAR_TOGETHER && message->channel < LINK_EVENTS && message->count);
	for (size_t i = 0; i < message->count; i++)
		if (message->parts[i].iov_len)
			memset(message->parts[i].iov_base, 0, message->parts[i].iov_len);
}

void near_local_part(struct near *near)
{
	require(near->leaving);
}

bool near_local_full(struct near *near, int64_t now)
{
	(void)near, (void)now;
	return false;
}

/* ---- what comes ---- */

static void put_request(struct near *near)
{
	static char part[] = "{}";
	const struct iovec parts[4] = {{part, 2}, {part, 2}, {part, 2}, {part, 2}};

	require(link_stream_put(near->stream, WALL_SHELL, parts, 4, NULL, NULL) == 0);
}

static void take(struct near *near, unsigned how, const uint8_t *bytes, size_t size)
{
	next.how = how;
	next.size = size;
	next.bytes = malloc(size + !size);
	require(next.bytes);
	memcpy(next.bytes, bytes, size);
	near->leaving = near->leaving || how & LEAVE;
	near_host_serve(near);
	free(next.bytes);
	next.bytes = NULL;
	if (how & TELL)
		near_host_tell(near);
	if (near->phase == NEAR_APART && how & AGAIN) {
		put_request(near);
		near_host_connect(near);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char cell[] = "{}";
	static const struct key key = {.public_key = ""};
	static const struct near_plan plan = {
		.host = "host:1", .host_key = &key, .own_key = &key, .order = "{}"};
	struct near near = {.plan = &plan, .cell = cell};

	near.stream = link_stream_new(1 << 20);
	require(near.stream);
	put_request(&near);
	near_host_connect(&near);
	while (size > 3 && near.phase < NEAR_FAILED) {
		const unsigned how = data[0];
		size_t length = (size_t)(data[1] | data[2] << 8);

		data += 3;
		size -= 3;
		if (length > size)
			length = size;
		take(&near, how, data, length);
		data += length;
		size -= length;
	}
	near_host_close(&near);
	link_stream_free(near.stream);
	return 0;
}
