/*
 * Theory of operation
 *
 * Each line to the kernel is a port of its own, which brings whole messages. While a listener is
 * full its lines are not read, nor is iopub for anybody; bridge_resume looks again.
 *
 * A kernel is ready when it has answered a kernel_info_request of ours and something came on iopub:
 * then the subscription is there, and no output of a first cell can be missed. Until then
 * bridge_send says -EAGAIN.
 *
 * Lines that nothing is expected of are closed: our own of shell and control between a question and
 * the next, and those of a listener that is away once its last message was a request and all are
 * answered, since then nothing can be on its way either.
 */
#include "web/bridge.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>

#include "proxy/header.h"
#include "proxy/scan.h"
#include "proxy/sign.h"
#include "proxy/wire.h"
#include "web/frames.h"
#include "web/loop.h"
#include "web/port.h"

#define ASK_AGAIN_MS 100

static const char ipc[] = "ipc://"; /* every kernel of ours is reached so (web/start.h) */

/* One of a kernel's sockets, for one of us. */
struct line {
	struct port *port; /* NULL: not open */
	struct bridge *bridge;
	struct peer *peer; /* NULL: the bridge's own */
	enum wall_channel channel;
	bool loose;	   /* the last message sent gets no answer */
	unsigned requests; /* not answered yet */
};

struct peer {
	struct listener *listener;
	struct line line[WALL_CHANNELS];
	char identity[PORT_IDENTITY + 1];
	bool drained;
};

struct bridge {
	struct loop *loop;
	struct bridge_owner owner;
	struct connection connection; /* the endpoints alone */
	struct sign *sign;
	struct line iopub, shell, control; /* our own */
	struct timer *asking;
	struct listener *first;
	size_t listeners, paused;
	bool connected, answered, heard, ready, held;
	struct bridge_figures figures;
};

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

static bool signature_good(struct bridge *bridge, const struct wire_msg *wire)
{
	char made[SIGN_HEX_MAX];
	int size = sign_make(bridge->sign, wire->signed_part, made);

	return size >= 0 && wire->signature.iov_len == (size_t)size &&
	       CRYPTO_memcmp(made, wire->signature.iov_base, (size_t)size) == 0;
}

/* ---- lines ---- */

static void line_close(struct line *line)
{
	line->port = port_close(line->port);
}

/* Its lines are made anew at its next message. */
static void rest(struct peer *peer)
{
	if (!peer->listener->away)
		return;
	for (int i = 0; i < WALL_CHANNELS; i++) {
		const struct line *line = &peer->line[i];

		if (line->port &&
		    (line->requests || port_queued(line->port) || (line->loose && i != WALL_STDIN)))
			return;
	}
	if (random_hex(peer->identity, PORT_IDENTITY / 2) < 0) /* the kernel may still know it */
		return;
	for (int i = 0; i < WALL_CHANNELS; i++)
		line_close(&peer->line[i]);
}

static bool still_there(const struct bridge *bridge, const struct listener *wanted)
{
	for (const struct listener *listener = bridge->first; listener; listener = listener->next)
		if (listener == wanted)
			return true;
	return false;
}

static void take(struct line *line, struct packet *packet)
{
	struct bridge *bridge = line->bridge;
	struct listener *listener = line->peer ? line->peer->listener : NULL;

	bridge->figures.out[line->channel]++;
	bridge->figures.out_bytes[line->channel] += packet->bytes;
	if (line->requests)
		line->requests--;
	if (line->channel == WALL_IOPUB) {
		bridge->heard = true;
		note_iopub(bridge, packet);
		deliver(bridge, packet);
	} else if (listener) {
		listener->message(listener, packet);
		if (still_there(bridge, listener)) /* and its line */
			rest(listener->peer);
	} else {
		bridge->answered = bridge->answered || line == &bridge->shell;
		if (!line->requests)
			line_close(line);
	}
	become_ready(bridge);
}

static void line_message(void *arg, const struct iovec *frames, size_t count, void *block)
{
	struct line *line = arg;
	struct wire_msg wire;
	struct packet *packet;

	if (wire_parse(frames, count, &wire, NULL) < 0 || !signature_good(line->bridge, &wire)) {
		line->bridge->figures.refused++;
		free(block);
		return;
	}
	/* Behind the identities, the delimiter and the signature. */
	packet = packet_new(line->channel, frames + wire.identities + 2,
			    count - wire.identities - 2, block);
	if (packet)
		take(line, packet);
	packet_unref(packet);
}

static void line_skipped(void *arg)
{
	const struct line *line = arg;

	line->bridge->figures.refused++;
}

static bool line_waits(void *arg)
{
	const struct line *line = arg;

	if (!line->peer)
		return line->channel == WALL_IOPUB && line->bridge->paused > 0;
	return line->peer->listener->paused;
}

static void line_writable(void *arg)
{
	const struct line *line = arg;

	if (line->peer && line->peer->listener->writable)
		line->peer->listener->writable(line->peer->listener);
}

static int line_open(struct line *line, struct bridge *bridge, struct peer *peer,
		     enum wall_channel channel, const char *identity)
{
	static const struct port_user user = {.message = line_message,
					      .skipped = line_skipped,
					      .waits = line_waits,
					      .writable = line_writable};

	*line = (struct line){.bridge = bridge, .peer = peer, .channel = channel};
	return port_open(bridge->loop, bridge->connection.endpoint[channel] + sizeof(ipc) - 1,
			 channel, identity, &user, line, &line->port);
}

/* ---- listeners ---- */

static struct peer *peer_free(struct peer *peer)
{
	if (!peer)
		return NULL;
	for (int i = 0; i < WALL_CHANNELS; i++)
		line_close(&peer->line[i]);
	free(peer);
	return NULL;
}

int bridge_join(struct bridge *bridge, struct listener *listener)
{
	if (bridge->listeners == BRIDGE_LISTENERS_MAX)
		return -EMFILE;
	listener->peer = calloc(1, sizeof(*listener->peer));
	if (!listener->peer || random_hex(listener->peer->identity, PORT_IDENTITY / 2) < 0) {
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

void bridge_resume(struct listener *listener)
{
	struct bridge *bridge = listener->bridge;

	if (!bridge || !listener->paused)
		return;
	listener->paused = false;
	for (int i = 0; i < WALL_CHANNELS; i++)
		port_look(listener->peer->line[i].port);
	if (--bridge->paused == 0)
		port_look(bridge->iopub.port);
}

/* ---- to the kernel ---- */

static int send_signed(struct bridge *bridge, struct port *port, const struct iovec *parts,
		       size_t count)
{
	static struct iovec frames[WALL_PARTS_MAX]; /* one thread; too much for a stack */
	char signature[SIGN_HEX_MAX];
	int size = sign_make(bridge->sign, parts, signature);

	if (size < 0)
		return size;
	frames[0] = (struct iovec){(void *)(uintptr_t)wire_delimiter, sizeof(wire_delimiter)};
	frames[1] = (struct iovec){signature, (size_t)size};
	memcpy(frames + 2, parts, count * sizeof(parts[0]));
	return port_send(port, frames, count + 2);
}

/* The sockets that a message on `channel` needs: a kernel asks on stdin whoever spoke on shell. */
static int open_lines(struct bridge *bridge, struct peer *peer, enum wall_channel channel)
{
	const enum wall_channel needed[2] = {channel, channel == WALL_SHELL ? WALL_STDIN : channel};

	for (size_t i = 0; i < 2; i++) {
		struct line *line = &peer->line[needed[i]];
		int r = line->port ? 0 : line_open(line, bridge, peer, needed[i], peer->identity);

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
	struct line *line;
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
	r = open_lines(bridge, listener->peer, channel);
	if (r < 0)
		return r;
	line = &listener->peer->line[channel];
	r = send_signed(bridge, line->port, parts, count);
	if (r == 0) {
		type = frames_member(parts[0], "msg_type");
		line->loose = !is_request(type);
		line->requests += !line->loose;
		bridge->figures.in[channel]++;
		bridge->figures.in_bytes[channel] += bytes;
		if (!is_polling(type))
			bridge->owner.activity(bridge->owner.arg);
	}
	return r;
}

int bridge_ask(struct bridge *bridge, enum wall_channel channel, const char *msg_type,
	       const char *content)
{
	struct line *line = channel == WALL_SHELL ? &bridge->shell : &bridge->control;
	struct packet *packet;
	int r = 0;

	if (!bridge->connected)
		return -ENOTCONN;
	if (!line->port)
		r = line_open(line, bridge, NULL, channel, "");
	if (r < 0)
		return r;
	packet = packet_make(channel, msg_type, (struct iovec){0}, content);
	if (!packet)
		return -ENOMEM;
	r = send_signed(bridge, line->port, packet->parts, packet->count);
	packet_unref(packet);
	line->requests += r == 0;
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

int bridge_new(struct loop *loop, const struct bridge_owner *owner, struct bridge **ret_bridge,
	       struct err *err)
{
	struct bridge *bridge = calloc(1, sizeof(*bridge));

	if (!bridge)
		return err_set(err, -ENOMEM, "out of memory");
	bridge->loop = loop;
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
	if (strncmp(connection->endpoint[WALL_SHELL], ipc, sizeof(ipc) - 1) != 0)
		return err_set(err, -EINVAL, "%s: not an ipc socket",
			       connection->endpoint[WALL_SHELL]);
	memcpy(bridge->connection.endpoint, connection->endpoint,
	       sizeof(bridge->connection.endpoint));
	r = sign_new(connection->scheme, connection->key, connection->key_size, &bridge->sign, err);
	if (r < 0)
		return r;
	r = line_open(&bridge->iopub, bridge, NULL, WALL_IOPUB, "");
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
	line_close(&bridge->iopub);
	line_close(&bridge->shell);
	line_close(&bridge->control);
	for (struct listener *listener = bridge->first; listener; listener = listener->next)
		for (int i = 0; i < WALL_CHANNELS; i++)
			line_close(&listener->peer->line[i]);
	bridge->asking = loop_cancel(bridge->asking);
	bridge->sign = sign_free(bridge->sign);
	bridge->connected = bridge->answered = bridge->heard = false;
	bridge->ready = bridge->held = false;
}

/* Whoever is there may leave while another one is drained. */
static struct listener *next_to_drain(const struct bridge *bridge)
{
	struct listener *listener = bridge->first;

	while (listener && listener->peer->drained)
		listener = listener->next;
	return listener;
}

void bridge_drain(struct bridge *bridge)
{
	struct listener *listener;

	bridge_hold(bridge);
	port_drain(bridge->iopub.port);
	for (listener = bridge->first; listener; listener = listener->next)
		listener->peer->drained = false;
	while ((listener = next_to_drain(bridge))) {
		listener->peer->drained = true;
		for (int i = 0; i < WALL_CHANNELS && still_there(bridge, listener); i++)
			port_drain(listener->peer->line[i].port);
	}
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
