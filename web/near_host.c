#include <errno.h>
#include <string.h>

#include "sandbox/log.h"
#include "web/near.h"

/*
 * Theory of operation. One connection is one ZeroMQ socket, closed when its connection ends, as the
 * monitor says, or when the host has been silent; a new one begins with HELLO. So nothing that
 * libzmq queued for an old connection can come before it. The stream keeps what has to be sent
 * again.
 */
#define MONITOR	   "inproc://cellwall-near"
#define NAME_MS	   15000 /* for the host's address */
#define CONNECT_MS 6000	 /* from connect to WELCOME */
/* We close it long before. With -1 libzmq would look for the network's interfaces, see
 * near_enclose.h, and abort. */
#define NEVER_MS       3600000
#define AGAIN_MS       700
#define HEARTBEAT_MS   2000
#define HEARTBEAT_LATE 6000
#define HANDSHAKE_MS   5000
#define FRAMES_WAITING 128 /* of LINK_FRAME, inside libzmq; then TCP holds the host back */
#define FRAMES_AT_ONCE 64
#define WINDOW_MAX     (LINK_WINDOW + 2 * LINK_RESERVE + LINK_FRAME)
#define EVENTS                                                                                     \
	(ZMQ_EVENT_CONNECTED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED |                         \
	 ZMQ_EVENT_CONNECT_RETRIED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |                             \
	 ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL)

/* ---- connections ---- */

static int set_int(void *socket, int option, int value)
{
	return zmq_setsockopt(socket, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int set_options(const struct near *near)
{
	const struct near_plan *plan = near->plan;
	const int64_t most = LINK_FRAME + LINK_CURVE;
	void *socket = near->socket;
	int code = 0;

	code |= zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, plan->host_key->public_key, KEYS_TEXT);
	code |= zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, plan->own_key->public_key, KEYS_TEXT);
	code |= zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, plan->own_key->secret_key, KEYS_TEXT);
	code |= zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &most, sizeof(most));
	code |= set_int(socket, ZMQ_LINGER, 0);
	code |= set_int(socket, ZMQ_SNDHWM, 0);
	code |= set_int(socket, ZMQ_RCVHWM, FRAMES_WAITING);
	code |= set_int(socket, ZMQ_IPV6, 1);
	code |= set_int(socket, ZMQ_RECONNECT_IVL, NEVER_MS);
	code |= set_int(socket, ZMQ_CONNECT_TIMEOUT, HANDSHAKE_MS);
	code |= set_int(socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS);
	code |= set_int(socket, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS);
	code |= set_int(socket, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_LATE);
	return code;
}

static int descriptor_of(void *socket)
{
	size_t size = sizeof(int);
	int fd = -1;

	return zmq_getsockopt(socket, ZMQ_FD, &fd, &size) < 0 ? -1 : fd;
}

void near_host_close(struct near *near)
{
	if (near->socket) {
		zmq_socket_monitor(near->socket, NULL, 0);
		zmq_close(near->socket);
	}
	if (near->monitor)
		zmq_close(near->monitor);
	near->socket = near->monitor = NULL;
	near->fds[0] = near->fds[1] = -1;
}

static void send_frame(struct near *near, const void *bytes, size_t size)
{
	if (near->socket && zmq_send(near->socket, bytes, size, ZMQ_DONTWAIT) >= 0)
		near->said = now_ms();
}

static void send_hello(struct near *near)
{
	unsigned char frame[LINK_HEADER + LINK_ID + LINK_ORDER];
	size_t size = LINK_HEADER + LINK_ID;

	link_frame_header(frame, LINK_HELLO, near->known, 0, link_stream_received(near->stream));
	memcpy(frame + LINK_HEADER, near->id, LINK_ID);
	if (!near->known) {
		const size_t order = strnlen(near->plan->order, LINK_ORDER);

		memcpy(frame + size, near->plan->order, order);
		size += order;
	}
	send_frame(near, frame, size);
}

static void connect_to(struct near *near, const char *endpoint)
{
	near->deadline = now_ms() + CONNECT_MS;
	near->socket = zmq_socket(near->context, ZMQ_DEALER);
	if (!near->socket || set_options(near) != 0 ||
	    zmq_socket_monitor(near->socket, MONITOR, EVENTS) < 0) {
		near_host_close(near);
		near_fail(near, "no socket for the link could be made");
		return;
	}
	near->monitor = zmq_socket(near->context, ZMQ_PAIR);
	if (!near->monitor || zmq_connect(near->monitor, MONITOR) < 0 ||
	    zmq_connect(near->socket, endpoint) < 0) {
		cleanup(free_ptr) char *text = format_string("the kernel's host %s: %s",
							     near->plan->host, zmq_strerror(errno));

		near_host_close(near);
		near_fail(near, text ? text : "out of memory");
		return;
	}
	near->fds[0] = descriptor_of(near->socket);
	near->fds[1] = descriptor_of(near->monitor);
	near->phase = NEAR_GREETING;
	near->reached = false;
	near->heard = now_ms();
	near->again = true;
	send_hello(near);
}

/* Goes on once it is known where the host is. */
static void take_name(struct near *near)
{
	char endpoint[NEAR_ENDPOINT_MAX];
	struct err err;
	const int code = near_name_take(near->name, endpoint, &err);

	if (code < 0)
		near_host_lose(near, err.text);
	else if (code > 0)
		connect_to(near, endpoint);
}

void near_host_connect(struct near *near)
{
	near->deadline = now_ms() + NAME_MS;
	near->phase = NEAR_ASKING;
	near_name_ask(near->name);
	take_name(near);
}

void near_host_lose(struct near *near, const char *why)
{
	const int64_t now = now_ms();

	near_host_close(near);
	if (near->phase >= NEAR_FAILED)
		return;
	if (near->reached && near->phase == NEAR_GREETING)
		near->refusals++;
	if (!near->apart_since)
		near->apart_since = now;
	(void)snprintf(near->refused, sizeof(near->refused), "%s", why);
	near->phase = NEAR_APART;
	near->deadline = now + AGAIN_MS;
}

static void hear_event(struct near *near, unsigned kind, const char **why)
{
	static const char keys[] = "the keys were not accepted: is --host-key the host's?";

	switch (kind) {
	case ZMQ_EVENT_CONNECTED:
		near->reached = true;
		return;
	case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
		near->unwanted = true;
		return;
	case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
	case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
		*why = keys;
		return;
	default:
		if (*why)
			return;
		if (near->phase == NEAR_TOGETHER)
			*why = "the connection ended";
		else
			*why = near->reached ? keys : NEAR_NOBODY;
	}
}

/* What the monitor says ended the connection, or NULL. */
static const char *hear_monitor(struct near *near)
{
	const char *why = NULL;
	unsigned char event[6];
	char address[ENDPOINT_MAX];

	/* Frame 1: u16 event, u32 value; frame 2: the address. Both in host order. */
	while (near->monitor &&
	       zmq_recv(near->monitor, event, sizeof(event), ZMQ_DONTWAIT) == sizeof(event)) {
		uint16_t kind;

		memcpy(&kind, event, sizeof(kind));
		(void)zmq_recv(near->monitor, address, sizeof(address), ZMQ_DONTWAIT);
		hear_event(near, kind, &why);
	}
	return why;
}

/* ---- frames of the host ---- */

void near_say(struct near *near, char *text)
{
	if (!text)
		return;
	log_warning("%s", text);
	if (near->cell)
		notice_say(&near->notice, near->cell, text);
	free(text);
}

static void welcome(struct near *near, uint64_t received)
{
	const int64_t now = now_ms();
	struct err err;

	if (near->phase != NEAR_GREETING)
		return;
	if (link_stream_resume(near->stream, received, &err) < 0) {
		near_fail(near, "the kernel's host forgot what it had received");
		return;
	}
	near->phase = NEAR_TOGETHER;
	near->deadline = 0;
	near->known = true;
	near->acknowledged = link_stream_received(near->stream);
	near->ahead = 0;
	if (near->told_apart)
		near_say(near,
			 format_string("the kernel's host %s is back after %ld s", near->plan->host,
				       (long)((now - near->apart_since) / 1000)));
	near->told_apart = false;
	near->apart_since = 0;
}

static void refuse(struct near *near, const char *why)
{
	cleanup(free_ptr) char *text =
		format_string("the kernel's host %s: %s", near->plan->host, why);

	near_fail(near, text ? text : "out of memory");
}

static void take_refusal(struct near *near, const struct link_frame *frame)
{
	char shown[LINK_TEXT];

	if (near->known && frame->a == LINK_NOT_KNOWN)
		refuse(near, "the kernel is gone: the host was started again, or ended it while "
			     "this client was away");
	else
		refuse(near, escape_text(shown, sizeof(shown), frame->body, frame->size));
}

static bool word_is(const struct link_message *message, const char *word)
{
	return message->parts[0].iov_len == strlen(word) &&
	       memcmp(message->parts[0].iov_base, word, strlen(word)) == 0;
}

static void take_event(struct near *near, const struct link_message *message)
{
	char shown[512] = "";
	cleanup(free_ptr) char *text = NULL;

	if (message->count > 1)
		escape_text(shown, sizeof(shown), message->parts[1].iov_base,
			    message->parts[1].iov_len);
	if (word_is(message, "gone")) {
		near->known = false;
		if (near->leaving) {
			near->exit_code = 0;
			near_local_part(near);
			near->phase = NEAR_OVER;
			return;
		}
		text = format_string("the kernel on %s ended: %s", near->plan->host, shown);
		near_fail(near, text ? text : "out of memory");
	} else if (word_is(message, "notice")) {
		log_warning("%s", shown);
		if (near->cell)
			notice_say(&near->notice, near->cell, shown);
	}
}

static void take_data(struct near *near, const struct link_frame *frame)
{
	const uint64_t before = link_stream_received(near->stream);
	struct link_message *message = NULL;
	struct err err;
	int code = link_stream_take(near->stream, frame, &message, &err);

	if (link_stream_received(near->stream) != before)
		near->ahead += LINK_HEADER + frame->size;
	if (code >= 0 && near->ahead > WINDOW_MAX) {
		link_message_free(message);
		code = err_set(&err, -EPROTO, "more than its window");
	}
	if (code < 0) {
		log_error("the kernel's host %s: %s", near->plan->host, err.text);
		near_fail(near, "the kernel's host sent something that is not of the link");
		return;
	}
	if (code == 0)
		return;
	if (message->channel == LINK_EVENTS)
		take_event(near, message);
	else
		near_local_deliver(near, message);
	link_message_free(message);
}

static void take_frame(struct near *near, const void *bytes, size_t size)
{
	struct link_frame frame;
	struct err err;

	near->heard = now_ms();
	if (link_frame_parse(bytes, size, &frame, &err) < 0) {
		near_host_lose(near, err.text);
		return;
	}
	if (frame.type == LINK_REFUSE)
		take_refusal(near, &frame);
	else if (frame.version != LINK_VERSION)
		near_host_lose(near, "it speaks another version of the link: install the "
				     "same cellwall on both");
	else if (frame.type == LINK_WELCOME)
		welcome(near, frame.number);
	else if (near->phase != NEAR_TOGETHER)
		return;
	else if (frame.type == LINK_DATA)
		take_data(near, &frame);
	else if (frame.type == LINK_ACK && link_stream_acked(near->stream, frame.number, &err) < 0)
		near_host_lose(near, err.text);
}

static void hear_host(struct near *near)
{
	near->again = false;
	for (int i = 0; near->socket; i++) {
		zmq_msg_t message;

		if (i == FRAMES_AT_ONCE) {
			near->again = true;
			return;
		}
		zmq_msg_init(&message);
		if (zmq_msg_recv(&message, near->socket, ZMQ_DONTWAIT) < 0) {
			zmq_msg_close(&message);
			return;
		}
		if (zmq_msg_more(&message))
			near_host_lose(near, "a message of several frames");
		else
			take_frame(near, zmq_msg_data(&message), zmq_msg_size(&message));
		zmq_msg_close(&message);
	}
}

static void send_ack(struct near *near)
{
	unsigned char frame[LINK_HEADER];

	link_frame_header(frame, LINK_ACK, 0, 0, near->acknowledged);
	send_frame(near, frame, sizeof(frame));
}

void near_host_tell(struct near *near)
{
	const int64_t now = now_ms();
	const void *bytes;
	size_t size;

	if (near->phase != NEAR_TOGETHER)
		return;
	while (link_stream_next(near->stream, &bytes, &size) == 1) {
		send_frame(near, bytes, size);
		link_stream_sent(near->stream);
	}
	if (near->acknowledged != link_stream_received(near->stream) &&
	    !near_local_full(near, now)) {
		near->acknowledged = link_stream_received(near->stream);
		near->ahead = 0;
		send_ack(near);
	} else if (now - near->said >= LINK_QUIET_MS) {
		send_ack(near);
	}
}

void near_host_serve(struct near *near)
{
	const char *why = NULL;

	if (near->phase == NEAR_ASKING)
		take_name(near);
	if (!near->socket)
		return;
	hear_host(near); /* what came before the end first */
	if (near->socket && !near->again)
		why = hear_monitor(near);
	if (near->unwanted)
		refuse(near, "it does not let this client's key in (there: `cellwall key allow`)");
	else if (why)
		near_host_lose(near, why);
}
