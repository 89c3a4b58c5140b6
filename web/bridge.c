/*
 * Theory of operation
 *
 * ZMQ_FD says that ZMQ_EVENTS may have changed, and any call on the socket may swallow what it had
 * to say (zmq_getsockopt(3)). So a socket is always read until it is empty; when that is put off,
 * because a round has done enough or because a listener is full, a timer of 0 ms or bridge_resume
 * comes back to it; and each send is followed by a look for messages.
 *
 * A kernel is ready when it has answered a kernel_info_request of ours and something came on iopub:
 * then the subscription is there, and no output of a first cell can be missed. Until then
 * bridge_send says -EAGAIN.
 *
 * A ZeroMQ socket costs 35 kB, so those that nothing is expected of are closed: our own of shell
 * and control between a question and the next, and those of a listener that is away once its last
 * message was a request and all are answered, since then nothing can be on its way either.
 */
#include "web/bridge.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>

#include <zmq.h>

#include "proxy/header.h"
#include "proxy/scan.h"
#include "proxy/sign.h"
#include "proxy/wire.h"
#include "web/frames.h"
#include "web/loop.h"

#define ROUND_MESSAGES 256
#define ROUND_BYTES    (4u * 1024 * 1024)
#define ASK_AGAIN_MS   100
/* Messages of one socket inside libzmq, each of any size; then it waits on the other side. */
#define SEND_WAITING	4
#define OUTPUTS_WAITING 64

struct port {
	void *socket; /* NULL: not open */
	struct watch *watch;
	struct timer *soon;
	struct bridge *bridge;
	struct peer *peer; /* NULL: the bridge's own */
	enum wall_channel channel;
	bool full;	   /* a send gave EAGAIN */
	bool loose;	   /* the last message sent gets no answer */
	unsigned requests; /* not answered yet */
};

struct peer {
	struct listener *listener; /* NULL: it left */
	struct port port[WALL_CHANNELS];
	char identity[33];
	unsigned busy; /* calls into the listener that are under way */
};

struct bridge {
	struct loop *loop;
	void *zmq;
	struct bridge_owner owner;
	struct connection connection; /* the endpoints alone */
	struct sign *sign;
	struct port iopub, shell, control; /* our own */
	struct timer *asking;
	struct listener *first;
	size_t listeners, paused;
	bool connected, answered, heard, ready, held;
	struct bridge_figures figures;
};

static void port_ready(void *arg, unsigned events);

/* ---- ports ---- */

static void port_soon(void *arg)
{
	struct port *port = arg;

	port->soon = NULL;
	port_ready(port, LOOP_READ);
}

static void look_soon(struct port *port)
{
	if (port->socket && !port->soon)
		(void)loop_after(port->bridge->loop, 0, port_soon, port, &port->soon, NULL);
}

static void port_close(struct port *port)
{
	port->watch = loop_unwatch(port->watch);
	port->soon = loop_cancel(port->soon);
	if (port->socket)
		(void)zmq_close(port->socket);
	port->socket = NULL;
	port->full = false;
}

static int set_int(void *socket, int option, int value)
{
	return zmq_setsockopt(socket, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int set_options(struct port *port, const char *identity)
{
	const int64_t most = WALL_TOTAL_MAX;
	const bool iopub = port->channel == WALL_IOPUB;
	void *socket = port->socket;
	int code = 0;

	code |= set_int(socket, ZMQ_LINGER, 0);
	code |= set_int(socket, ZMQ_RECONNECT_IVL, 10);
	code |= set_int(socket, ZMQ_RECONNECT_IVL_MAX, 200);
	code |= set_int(socket, ZMQ_SNDHWM, SEND_WAITING);
	code |= set_int(socket, ZMQ_RCVHWM, iopub ? OUTPUTS_WAITING : SEND_WAITING);
	code |= zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &most, sizeof(most));
	if (iopub)
		code |= zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "", 0);
	else if (identity)
		code |= zmq_setsockopt(socket, ZMQ_ROUTING_ID, identity, strlen(identity));
	return code ? -EINVAL : 0;
}

/* `identity` NULL: any. */
static int port_open(struct port *port, struct bridge *bridge, struct peer *peer,
		     enum wall_channel channel, const char *identity)
{
	size_t size = sizeof(int);
	int fd, code = -ENOMEM;

	*port = (struct port){.bridge = bridge, .peer = peer, .channel = channel};
	port->socket = zmq_socket(bridge->zmq, channel == WALL_IOPUB ? ZMQ_SUB : ZMQ_DEALER);
	if (!port->socket)
		return errno == EMFILE ? -EMFILE : -ENOMEM;
	if (set_options(port, identity) == 0 &&
	    zmq_connect(port->socket, bridge->connection.endpoint[channel]) == 0 &&
	    zmq_getsockopt(port->socket, ZMQ_FD, &fd, &size) == 0)
		code = loop_watch(bridge->loop, fd, LOOP_READ, port_ready, port, &port->watch,
				  NULL);
	if (code < 0)
		port_close(port);
	else
		look_soon(port);
	return code;
}

/* ---- from the kernel ---- */

static void deliver(struct bridge *bridge, struct packet *packet)
{
	for (struct listener *listener = bridge->first, *next; listener; listener = next) {
		next = listener->next;
		listener->message(listener, packet);
	}
}

static void tell_state(struct bridge *bridge, const char *state)
{
	for (struct listener *listener = bridge->first, *next; listener; listener = next) {
		next = listener->next;
		if (listener->state)
			listener->state(listener, state);
	}
}

static bool is_request(struct iovec type)
{
	static const char end[] = "_request";
	const size_t size = sizeof(end) - 1;

	return type.iov_len > size &&
	       memcmp((const char *)type.iov_base + type.iov_len - size, end, size) == 0;
}

static bool is_polling(struct iovec type)
{
	static const char *const types[] = {"kernel_info_request", "comm_info_request",
					    "is_complete_request", "debug_request"};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (type.iov_len == strlen(types[i]) &&
		    memcmp(type.iov_base, types[i], type.iov_len) == 0)
			return true;
	return false;
}

static void note_iopub(struct bridge *bridge, struct packet *packet)
{
	const char *state = scan_state(packet->parts[3]);

	packet->status = state != NULL;
	if (!state || !is_polling(frames_member(packet->parts[1], "msg_type")))
		bridge->owner.activity(bridge->owner.arg);
	if (state && bridge->ready)
		bridge->owner.state(bridge->owner.arg, state);
}

static void writable_again(struct port *port)
{
	uint32_t events = 0;
	size_t size = sizeof(events);

	if (!port->full || !port->peer ||
	    zmq_getsockopt(port->socket, ZMQ_EVENTS, &events, &size) < 0 || !(events & ZMQ_POLLOUT))
		return;
	port->full = false;
	if (port->peer->listener && port->peer->listener->writable)
		port->peer->listener->writable(port->peer->listener);
}

static void tell_writable(struct bridge *bridge)
{
	for (struct listener *listener = bridge->first, *next; listener; listener = next) {
		next = listener->next;
		if (listener->writable)
			listener->writable(listener);
	}
}

static void become_ready(struct bridge *bridge)
{
	if (bridge->ready || bridge->held || !bridge->answered || !bridge->heard)
		return;
	bridge->ready = true;
	bridge->asking = loop_cancel(bridge->asking);
	bridge->owner.state(bridge->owner.arg, "idle");
	tell_state(bridge, "idle");
	tell_writable(bridge);
}

static bool signature_good(struct bridge *bridge, const struct packet *packet,
			   struct iovec signature)
{
	char made[SIGN_HEX_MAX];
	int size = sign_make(bridge->sign, packet->parts, made);

	return size >= 0 && signature.iov_len == (size_t)size &&
	       CRYPTO_memcmp(made, signature.iov_base, (size_t)size) == 0;
}

/* Its sockets are made anew at its next message. */
static void rest(struct peer *peer)
{
	const struct port *ports = peer->port;

	if (!peer->listener || !peer->listener->away)
		return;
	for (int i = 0; i < WALL_CHANNELS; i++)
		if (ports[i].full || ports[i].requests || (ports[i].loose && i != WALL_STDIN))
			return;
	if (random_hex(peer->identity, 16) < 0) /* the kernel may still know the old one */
		return;
	for (int i = 0; i < WALL_CHANNELS; i++)
		port_close(&peer->port[i]);
}

/* The answer to a question of our own. */
static void take_own(struct port *port)
{
	if (port == &port->bridge->shell)
		port->bridge->answered = true;
	if (!port->requests)
		port_close(port);
}

static void take(struct port *port, struct packet *packet)
{
	struct bridge *bridge = port->bridge;
	struct peer *peer = port->peer;

	bridge->figures.out[port->channel]++;
	bridge->figures.out_bytes[port->channel] += packet->bytes;
	if (port->requests)
		port->requests--;
	if (port->channel == WALL_IOPUB) {
		bridge->heard = true;
		note_iopub(bridge, packet);
		deliver(bridge, packet);
	} else if (peer && peer->listener) {
		peer->listener->message(peer->listener, packet);
		rest(peer);
	} else if (!peer) {
		take_own(port);
	}
	become_ready(bridge);
}

static bool must_wait(const struct port *port)
{
	if (!port->peer)
		return port->channel == WALL_IOPUB && port->bridge->paused > 0;
	return port->peer->listener && port->peer->listener->paused;
}

/* Returns false when there is nothing more to read now. */
static bool take_one(struct port *port, size_t *bytes)
{
	struct packet *packet = NULL;
	struct iovec signature;
	int r = packet_receive(port->socket, port->channel, WALL_TOTAL_MAX, &packet, &signature);

	if (r == 0)
		return false;
	if (r < 0 || !signature_good(port->bridge, packet, signature)) {
		port->bridge->figures.refused++;
		packet_unref(packet);
		return true;
	}
	*bytes += packet->bytes;
	take(port, packet);
	packet_unref(packet);
	return true;
}

static void port_ready(void *arg, unsigned events)
{
	struct port *port = arg;
	struct peer *peer = port->peer;
	size_t bytes = 0;

	(void)events;
	if (peer)
		peer->busy++;
	for (int n = 0; port->socket; n++) {
		if (must_wait(port)) {
			(void)loop_change(port->watch, 0);
			break;
		}
		if (n == ROUND_MESSAGES || bytes >= ROUND_BYTES) {
			look_soon(port);
			break;
		}
		if (!take_one(port, &bytes))
			break;
	}
	if (port->socket)
		writable_again(port);
	if (peer && --peer->busy == 0 && !peer->listener)
		free(peer);
}

/* ---- listeners ---- */

static struct peer *peer_free(struct peer *peer)
{
	if (!peer)
		return NULL;
	for (int i = 0; i < WALL_CHANNELS; i++)
		port_close(&peer->port[i]);
	peer->listener = NULL;
	if (peer->busy == 0)
		free(peer);
	return NULL;
}

int bridge_join(struct bridge *bridge, struct listener *listener)
{
	if (bridge->listeners == BRIDGE_LISTENERS_MAX)
		return -EMFILE;
	listener->peer = calloc(1, sizeof(*listener->peer));
	if (!listener->peer || random_hex(listener->peer->identity, 16) < 0) {
		free(listener->peer);
		return -ENOMEM;
	}
	listener->peer->listener = listener;
	listener->bridge = bridge;
	listener->paused = false;
	listener->next = bridge->first;
	listener->link = &bridge->first;
	if (bridge->first)
		bridge->first->link = &listener->next;
	bridge->first = listener;
	bridge->listeners++;
	return 0;
}

void bridge_leave(struct listener *listener)
{
	struct bridge *bridge = listener->bridge;

	if (!bridge)
		return;
	bridge_resume(listener);
	*listener->link = listener->next;
	if (listener->next)
		listener->next->link = listener->link;
	bridge->listeners--;
	listener->peer = peer_free(listener->peer);
	listener->bridge = NULL;
	listener->next = NULL;
}

void bridge_set_away(struct listener *listener, bool away)
{
	listener->away = away;
	if (listener->peer)
		rest(listener->peer);
}

void bridge_pause(struct listener *listener)
{
	if (!listener->bridge || listener->paused)
		return;
	listener->paused = true;
	listener->bridge->paused++;
}

static void read_again(struct port *port)
{
	if (!port->socket)
		return;
	(void)loop_change(port->watch, LOOP_READ);
	look_soon(port);
}

void bridge_resume(struct listener *listener)
{
	struct bridge *bridge = listener->bridge;

	if (!bridge || !listener->paused)
		return;
	listener->paused = false;
	for (int i = 0; i < WALL_CHANNELS; i++)
		read_again(&listener->peer->port[i]);
	if (--bridge->paused == 0)
		read_again(&bridge->iopub);
}

/* ---- to the kernel ---- */

static int send_signed(struct bridge *bridge, void *socket, const struct iovec *parts, size_t count)
{
	char signature[SIGN_HEX_MAX];
	int size = sign_make(bridge->sign, parts, signature);

	if (size < 0)
		return size;
	if (zmq_send(socket, wire_delimiter, sizeof(wire_delimiter), ZMQ_DONTWAIT | ZMQ_SNDMORE) <
	    0)
		return -errno;
	if (zmq_send(socket, signature, (size_t)size, ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0)
		return -errno;
	for (size_t i = 0; i < count; i++)
		if (zmq_send(socket, parts[i].iov_base, parts[i].iov_len,
			     ZMQ_DONTWAIT | (i + 1 < count ? ZMQ_SNDMORE : 0)) < 0)
			return -errno;
	return 0;
}

/* The sockets that a message on `channel` needs: a kernel asks on stdin whoever spoke on shell. */
static int open_ports(struct bridge *bridge, struct peer *peer, enum wall_channel channel)
{
	const enum wall_channel needed[2] = {channel, channel == WALL_SHELL ? WALL_STDIN : channel};

	for (size_t i = 0; i < 2; i++) {
		struct port *port = &peer->port[needed[i]];
		int r = port->socket ? 0 : port_open(port, bridge, peer, needed[i], peer->identity);

		if (r < 0)
			return r;
	}
	return 0;
}

int bridge_send(struct listener *listener, enum wall_channel channel, const struct iovec *parts,
		size_t count)
{
	struct bridge *bridge = listener->bridge;
	struct iovec type;
	struct port *port;
	size_t bytes = 0;
	int r;

	if (!bridge || (!bridge->connected && !bridge->held))
		return -ENOTCONN;
	if (count < PACKET_PARTS || count + 2 > WALL_PARTS_MAX ||
	    (channel != WALL_SHELL && channel != WALL_CONTROL && channel != WALL_STDIN))
		return -EPROTO;
	for (size_t i = 0; i < count; i++)
		bytes += parts[i].iov_len;
	if (bytes > WALL_TOTAL_MAX / 2)
		return -EMSGSIZE;
	if (!bridge->ready)
		return -EAGAIN;
	r = open_ports(bridge, listener->peer, channel);
	if (r < 0)
		return r;
	port = &listener->peer->port[channel];
	r = send_signed(bridge, port->socket, parts, count);
	port->full = r == -EAGAIN;
	if (r == 0) {
		type = frames_member(parts[0], "msg_type");
		port->loose = !is_request(type);
		port->requests += !port->loose;
		bridge->figures.in[channel]++;
		bridge->figures.in_bytes[channel] += bytes;
		if (!is_polling(type))
			bridge->owner.activity(bridge->owner.arg);
	}
	look_soon(port);
	return r;
}

int bridge_ask(struct bridge *bridge, enum wall_channel channel, const char *msg_type,
	       const char *content)
{
	struct port *port = channel == WALL_SHELL ? &bridge->shell : &bridge->control;
	struct packet *packet;
	int r = 0;

	if (!bridge->connected)
		return -ENOTCONN;
	if (!port->socket)
		r = port_open(port, bridge, NULL, channel, NULL);
	if (r < 0)
		return r;
	packet = packet_make(channel, msg_type, (struct iovec){0}, content);
	if (!packet)
		return -ENOMEM;
	r = send_signed(bridge, port->socket, packet->parts, packet->count);
	packet_unref(packet);
	port->requests += r == 0;
	look_soon(port);
	return r;
}

/* ---- our own messages ---- */

static void tell(struct bridge *bridge, const char *msg_type, const char *content)
{
	struct packet *packet =
		content ? packet_make(WALL_IOPUB, msg_type, (struct iovec){0}, content) : NULL;

	if (!packet)
		return;
	deliver(bridge, packet);
	packet_unref(packet);
}

void bridge_tell_state(struct bridge *bridge, const char *state)
{
	cleanup(free_ptr) char *content = format_string("{\"execution_state\":\"%s\"}", state);

	tell(bridge, "status", content);
	tell_state(bridge, state);
	if (!bridge->connected && !bridge->held)
		tell_writable(bridge); /* what waits for the kernel waits in vain */
}

void bridge_tell_notice(struct bridge *bridge, const char *text)
{
	cleanup(free_ptr) char *line = format_string("cellwall: %s\n", text);
	cleanup(free_ptr) char *literal = line ? json_literal(line, strlen(line)) : NULL;
	cleanup(free_ptr) char *content =
		literal ? format_string("{\"name\":\"stderr\",\"text\":%s}", literal) : NULL;

	tell(bridge, "stream", content);
}

/* ---- life ---- */

int bridge_new(struct loop *loop, void *zmq, const struct bridge_owner *owner,
	       struct bridge **ret_bridge, struct err *err)
{
	struct bridge *bridge = calloc(1, sizeof(*bridge));

	if (!bridge)
		return err_set(err, -ENOMEM, "out of memory");
	bridge->loop = loop;
	bridge->zmq = zmq;
	bridge->owner = *owner;
	*ret_bridge = bridge;
	return 0;
}

/* The first may have been sent before the subscription was there: then its status is missed. */
static void ask_again(void *arg)
{
	struct bridge *bridge = arg;

	bridge->asking = NULL;
	if (bridge->answered && !bridge->heard)
		(void)bridge_ask(bridge, WALL_SHELL, "kernel_info_request", "{}");
	(void)loop_after(bridge->loop, ASK_AGAIN_MS, ask_again, bridge, &bridge->asking, NULL);
}

int bridge_connect(struct bridge *bridge, const struct connection *connection, struct err *err)
{
	int r;

	bridge_disconnect(bridge);
	memcpy(bridge->connection.endpoint, connection->endpoint,
	       sizeof(bridge->connection.endpoint));
	r = sign_new(connection->scheme, connection->key, connection->key_size, &bridge->sign, err);
	if (r < 0)
		return r;
	r = port_open(&bridge->iopub, bridge, NULL, WALL_IOPUB, NULL);
	bridge->connected = r == 0;
	if (r == 0)
		r = bridge_ask(bridge, WALL_SHELL, "kernel_info_request", "{}");
	if (r < 0) {
		bridge_disconnect(bridge);
		return err_set(err, r, "cannot connect to the kernel: %s", strerrordesc_np(-r));
	}
	ask_again(bridge);
	return 0;
}

void bridge_disconnect(struct bridge *bridge)
{
	port_close(&bridge->iopub);
	port_close(&bridge->shell);
	port_close(&bridge->control);
	for (struct listener *listener = bridge->first; listener; listener = listener->next)
		for (int i = 0; i < WALL_CHANNELS; i++)
			port_close(&listener->peer->port[i]);
	bridge->asking = loop_cancel(bridge->asking);
	bridge->sign = sign_free(bridge->sign);
	bridge->connected = bridge->answered = bridge->heard = false;
	bridge->ready = bridge->held = false;
}

void bridge_hold(struct bridge *bridge)
{
	bridge->ready = false;
	bridge->held = true;
	bridge->asking = loop_cancel(bridge->asking);
}

const struct bridge_figures *bridge_figures(const struct bridge *bridge)
{
	return &bridge->figures;
}

size_t bridge_listeners(const struct bridge *bridge)
{
	size_t count = 0;

	for (const struct listener *listener = bridge->first; listener; listener = listener->next)
		count += !listener->away;
	return count;
}

struct bridge *bridge_free(struct bridge *bridge, const char *reason)
{
	if (!bridge)
		return NULL;
	bridge_disconnect(bridge);
	while (bridge->first) {
		struct listener *listener = bridge->first;

		bridge_leave(listener);
		if (listener->gone)
			listener->gone(listener, reason);
	}
	free(bridge);
	return NULL;
}
