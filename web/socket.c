/*
 * Theory of operation
 *
 * What comes from the kernel waits in the session's queue, by reference, and is copied into the
 * connection's own queue while that is short. With a client there a long queue pauses the bridge;
 * without one the oldest outputs go, states and replies stay. What was sent stays here too until
 * the client has answered a ping that followed it, so that what a connection swallowed that ended
 * is sent again, up to REPLAY_BYTES. (That its system acknowledged the bytes says nothing:
 * it may be a proxy's.) What comes from the client goes to the kernel at once, or waits here while
 * the kernel takes no more and the client is not read.
 */
#include "web/socket.h"

#include <errno.h>
#include <string.h>

#include "proxy/header.h"
#include "web/bridge.h"
#include "web/frames.h"
#include "web/http.h"
#include "web/kernels.h"
#include "web/loop.h"
#include "web/replay.h"

#define QUEUE_HIGH	  (8u * 1024 * 1024)
#define QUEUE_LOW	  (2u * 1024 * 1024)
#define QUEUE_SLOW	  (32u * 1024 * 1024) /* to one who reads less than the kernel's proxy asks */
#define SESSION_KEEP_MS	  (60 * 60 * 1000)
#define SESSIONS_AWAY_MAX 4  /* of one kernel; the oldest goes */
#define ASK_MS		  20 /* from a message to the ping that follows it */
#define TORNADO_MAX	  (10u * 1024 * 1024)
#define PENDING_MAX	  (2 * SOCKET_MESSAGE_MAX) /* of all sessions of one kernel */

/* A client's message that the kernel does not take yet. */
struct pending {
	struct pending *next;
	bool binary;
	size_t size;
	char data[];
};

struct session;

/* One connection: the argument of its callbacks, which outlives a session that let it go. */
struct client {
	struct session *session; /* NULL: it was replaced */
	struct websocket *websocket;
};

struct session {
	struct listener listener; /* first: a listener is its session */
	struct session *next;
	struct loop *loop;
	char id[SOCKET_SESSION_MAX + 1];
	struct client *client; /* NULL: away */
	bool v1;
	size_t most; /* bytes of a message to the client; 0: any */
	struct replay replay;
	struct timer *ask;    /* until the ping; NULL with one that was not answered */
	unsigned long passed; /* messages handed on, to see progress */
	unsigned long seen;   /* `passed` when it was looked at */
	size_t seen_queued;   /* and what still had to go out */
	struct pending *pending, **pending_last;
	size_t pending_bytes;
	struct timer *stall, *keep;
	int64_t away_since;
	bool over; /* the kernel is gone */
};

static struct session *sessions;
static size_t connections;

void socket_look(struct socket_depths *ret_depths)
{
	*ret_depths = (struct socket_depths){.connections = connections};
	for (const struct session *session = sessions; session; session = session->next) {
		ret_depths->away += !session->client;
		ret_depths->to_clients += session->replay.count;
		ret_depths->to_clients_bytes += session->replay.bytes;
		for (const struct pending *p = session->pending; p; p = p->next)
			ret_depths->to_kernels++;
		ret_depths->to_kernels_bytes += session->pending_bytes;
	}
}

/* ---- what has arrived ---- */

static void ask_arrived(void *arg)
{
	struct session *session = arg;

	session->ask = NULL;
	websocket_ping(session->client->websocket, replay_ask(&session->replay));
}

/* One ping is on its way, or none and nothing to ask for. */
static void ask_later(struct session *session)
{
	if (session->client && !session->ask && replay_unasked(&session->replay))
		(void)loop_after(session->loop, ASK_MS, ask_arrived, session, &session->ask, NULL);
}

/* The connection is over. */
static void take_back(struct session *session)
{
	replay_take_back(&session->replay);
	session->ask = loop_cancel(session->ask);
}

/* ---- to the client ---- */

/* What is sent in the place of a message that the client would not take. NULL: no memory. */
static struct packet *too_large(const struct packet *packet, size_t bytes)
{
	const struct iovec type = frames_member(packet->parts[0], "msg_type");
	cleanup(free_ptr) char *text =
		format_string("an output of %zu MB was not sent: the notebook server takes %u MiB "
			      "in one message; show "
			      "less of it, or write it to a file, which comes out in staging/out",
			      bytes / 1000000, TORNADO_MAX >> 20);
	cleanup(free_ptr) char *name =
		format_string("%.*s", (int)(type.iov_len < 128 ? type.iov_len : 0),
			      type.iov_len ? (const char *)type.iov_base : "");
	cleanup(free_ptr) char *content = NULL;

	if (!text || !name)
		return NULL;
	if (packet->channel == WALL_IOPUB)
		content = format_string("{\"name\":\"stderr\",\"text\":\"cellwall: %s\\n\"}", text);
	else
		content = format_string("{\"status\":\"error\",\"ename\":\"MessageTooLarge\","
					"\"evalue\":\"%s\",\"traceback\":[]}",
					text);
	return content ? packet_make(packet->channel,
				     packet->channel == WALL_IOPUB ? "stream" : name,
				     packet->parts[1], content)
		       : NULL;
}

static int write_packet(struct session *session, const struct packet *packet, bool replaced)
{
	static char room[FRAMES_ROOM(WALL_PARTS_MAX)]; /* one thread */
	static struct iovec vector[FRAMES_VECTOR_MAX(WALL_PARTS_MAX)];
	size_t bytes = 0;
	bool binary = true;
	int n;

	if (session->v1)
		n = frames_write_v1(packet->channel, packet->parts, packet->count, room, vector,
				    &bytes);
	else
		n = frames_write_legacy(packet->channel, packet->parts, packet->count, room, vector,
					&bytes, &binary);
	if (n < 0)
		return 0; /* not JSON: nothing that a client of this form could read */
	if (session->most > 0 && bytes > session->most && !replaced) {
		struct packet *instead = too_large(packet, bytes);

		n = instead ? write_packet(session, instead, true) : -ENOMEM;
		packet_unref(instead);
		return n;
	}
	return websocket_send(session->client->websocket, binary, vector, (size_t)n);
}

static void stalled(void *arg);

static void check_pressure(struct session *session)
{
	if (session->replay.bytes > QUEUE_HIGH && session->client) {
		bridge_pause(&session->listener);
		if (!session->stall) {
			session->seen = session->passed;
			session->seen_queued = websocket_queued(session->client->websocket);
			(void)loop_after(session->loop, BRIDGE_STALL_MS, stalled, session,
					 &session->stall, NULL);
		}
	} else if (session->replay.bytes <= QUEUE_LOW || !session->client) {
		session->stall = loop_cancel(session->stall);
		bridge_resume(&session->listener);
	}
}

static void flush(struct session *session)
{
	const struct packet *packet;

	while (session->client && websocket_queued(session->client->websocket) <= WEBSOCKET_LOW &&
	       (packet = replay_next(&session->replay))) {
		if (write_packet(session, packet, false) < 0)
			break; /* it is closing: what is left waits for the next one */
		session->passed++;
		if (!session->id[0]) {
			replay_remove(&session->replay);
			continue;
		}
		replay_sent(&session->replay);
		ask_later(session);
	}
	check_pressure(session);
}

static void stalled(void *arg)
{
	struct session *session = arg;

	session->stall = NULL;
	if (session->client && session->passed == session->seen &&
	    websocket_queued(session->client->websocket) >= session->seen_queued)
		websocket_close(session->client->websocket, 1013, "this client takes nothing");
	else if (session->replay.bytes <= QUEUE_SLOW) /* until the kernel's next message */
		bridge_resume(&session->listener);
	else
		check_pressure(session);
}

static void on_message(struct listener *listener, struct packet *packet)
{
	struct session *session = (struct session *)listener;

	replay_put(&session->replay, packet);
	if (session->client)
		flush(session);
	else
		replay_shorten(&session->replay);
}

/* ---- from the client ---- */

/* What waits for one kernel, of all who are connected to it. */
static size_t pending_of(const struct bridge *bridge)
{
	size_t bytes = 0;

	for (const struct session *session = sessions; session; session = session->next)
		if (session->listener.bridge == bridge)
			bytes += session->pending_bytes;
	return bytes;
}

static int keep_pending(struct session *session, bool binary, const void *data, size_t size,
			struct err *err)
{
	struct pending *pending;

	if (pending_of(session->listener.bridge) + sizeof(*pending) + size > PENDING_MAX)
		return err_set(err, -ENOBUFS, "more waits for this kernel than there is room for");
	pending = malloc(sizeof(*pending) + size);
	if (!pending)
		return err_set(err, -ENOMEM, "out of memory");
	*pending = (struct pending){.binary = binary, .size = size};
	memcpy(pending->data, data, size);
	*session->pending_last = pending;
	session->pending_last = &pending->next;
	session->pending_bytes += sizeof(*pending) + size;
	return 0;
}

static void drop_pending(struct session *session)
{
	struct pending *pending = session->pending;

	session->pending = pending->next;
	if (!session->pending)
		session->pending_last = &session->pending;
	session->pending_bytes -= sizeof(*pending) + pending->size;
	free(pending);
}

/* What the sender hears when there is no kernel: it would wait for ever. */
static void say_dead(struct session *session)
{
	struct packet *packet = packet_make(WALL_IOPUB, "status", (struct iovec){0},
					    "{\"execution_state\":\"dead\"}");

	if (packet)
		on_message(&session->listener, packet);
	packet_unref(packet);
}

/* 0; -EAGAIN: not now; or another negative errno, with which the connection ends. */
static int hand_on(struct session *session, bool binary, const void *data, size_t size,
		   struct err *err)
{
	static struct frames_message message; /* one thread; too much for a stack */
	int r;

	if (session->v1 && !binary)
		return err_set(err, -EPROTO, "a message of this protocol is binary");
	r = session->v1 ? frames_read_v1(data, size, &message, err)
			: frames_read_legacy(data, size, binary, &message, err);
	if (r < 0)
		return r;
	r = bridge_send(&session->listener, message.channel, message.parts, message.count);
	if (r == -ENOTCONN) {
		say_dead(session);
		return 0;
	}
	return r < 0 && r != -EAGAIN ? err_set(err, r, "%s", strerrordesc_np(-r)) : r;
}

/* By RFC 6455, 7.4.1: whose fault it is that a message is not taken. */
static void refuse(const struct client *client, int code, const struct err *err)
{
	websocket_close(client->websocket, code == -EPROTO ? 1002 : 1011, err->text);
}

static void ws_message(void *arg, bool binary, void *data, size_t size)
{
	const struct client *client = arg;
	struct session *session = client->session;
	struct err err = {0};
	int r = -EAGAIN;

	if (!session)
		return;
	if (!session->pending)
		r = hand_on(session, binary, data, size, &err);
	if (r == -EAGAIN) {
		r = keep_pending(session, binary, data, size, &err);
		if (r == 0)
			websocket_pause(client->websocket, true);
	}
	if (r < 0)
		refuse(client, r, &err);
}

static void on_writable(struct listener *listener)
{
	struct session *session = (struct session *)listener;

	while (session->pending) {
		struct err err = {0};
		int r = hand_on(session, session->pending->binary, session->pending->data,
				session->pending->size, &err);

		if (r == -EAGAIN)
			return;
		drop_pending(session);
		if (r < 0 && session->client)
			refuse(session->client, r, &err);
	}
	if (session->client)
		websocket_pause(session->client->websocket, false);
}

/* ---- sessions ---- */

static void end_session(struct session *session)
{
	struct session **place = &sessions;

	while (*place && *place != session)
		place = &(*place)->next;
	if (*place)
		*place = session->next;
	bridge_leave(&session->listener);
	session->stall = loop_cancel(session->stall);
	session->keep = loop_cancel(session->keep);
	session->ask = loop_cancel(session->ask);
	replay_done(&session->replay);
	while (session->pending)
		drop_pending(session);
	free(session);
}

static void kept_enough(void *arg)
{
	struct session *session = arg;

	session->keep = NULL;
	end_session(session);
}

static void on_gone(struct listener *listener, const char *reason)
{
	struct session *session = (struct session *)listener;

	session->over = true;
	if (session->client)
		websocket_close(session->client->websocket, 1000, reason);
	else
		end_session(session);
}

static void ws_drained(void *arg)
{
	const struct client *client = arg;

	if (client->session)
		flush(client->session);
}

static void ws_pong(void *arg, uint64_t mark)
{
	const struct client *client = arg;

	if (!client->session)
		return;
	replay_arrived(&client->session->replay, mark);
	ask_later(client->session);
}

/* Of the sessions of this kernel that are away, the oldest when they are too many. */
static struct session *superfluous(const struct bridge *bridge)
{
	struct session *oldest = NULL;
	size_t count = 0;

	for (struct session *session = sessions; session; session = session->next) {
		if (session->listener.bridge != bridge || session->client)
			continue;
		count++;
		if (!oldest || session->away_since < oldest->away_since)
			oldest = session;
	}
	return count > SESSIONS_AWAY_MAX ? oldest : NULL;
}

static void go_away(struct session *session)
{
	struct session *oldest;

	bridge_set_away(&session->listener, true);
	session->away_since = now_ms();
	check_pressure(session);
	replay_shorten(&session->replay);
	if (loop_after(session->loop, SESSION_KEEP_MS, kept_enough, session, &session->keep, NULL) <
	    0) {
		end_session(session);
		return;
	}
	oldest = superfluous(session->listener.bridge);
	if (oldest)
		end_session(oldest);
}

static void ws_closed(void *arg, unsigned code)
{
	struct client *client = arg;
	struct session *session = client->session;

	(void)code;
	connections--;
	free(client);
	if (!session)
		return;
	session->client = NULL;
	take_back(session);
	if (session->over || session->id[0] == '\0')
		end_session(session);
	else
		go_away(session);
}

static bool good_session_id(const char *id)
{
	const size_t size = strlen(id);

	return size <= SOCKET_SESSION_MAX &&
	       strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") ==
		       size;
}

static struct session *find_session(const struct bridge *bridge, const char *id)
{
	for (struct session *session = sessions; session; session = session->next)
		if (session->listener.bridge == bridge && id[0] && strcmp(session->id, id) == 0)
			return session;
	return NULL;
}

static struct session *new_session(struct loop *loop, struct bridge *bridge, const char *id)
{
	struct session *session = calloc(1, sizeof(*session));

	if (!session)
		return NULL;
	session->loop = loop;
	session->listener =
		(struct listener){.message = on_message, .writable = on_writable, .gone = on_gone};
	replay_init(&session->replay);
	session->pending_last = &session->pending;
	(void)snprintf(session->id, sizeof(session->id), "%s", id);
	if (bridge_join(bridge, &session->listener) < 0) {
		free(session);
		return NULL;
	}
	bridge_set_away(&session->listener, true);
	session->next = sessions;
	sessions = session;
	return session;
}

/* The connection that this session had: it is told why it ends, and nothing more of it is heard. */
static void replace(struct session *session)
{
	if (!session->client)
		return;
	take_back(session);
	session->client->session = NULL;
	websocket_close(session->client->websocket, 1000, "another connection took this session");
	session->client = NULL;
}

/* Takes the request. False when it became no connection. */
static bool attach(struct session *session, struct request *request)
{
	static const struct websocket_calls calls = {
		.message = ws_message, .drained = ws_drained, .pong = ws_pong, .closed = ws_closed};
	const char *agent = http_header(request, "user-agent");
	const bool v1 = http_offers(request, SOCKET_V1);
	const bool tornado = agent && strncmp(agent, "Tornado/", 8) == 0;
	struct client *client = calloc(1, sizeof(*client));

	if (!client) {
		http_error(request, 503, NULL, "no memory");
		return false;
	}
	client->websocket =
		http_upgrade(request, v1 ? SOCKET_V1 : NULL, SOCKET_MESSAGE_MAX, &calls, client);
	if (!client->websocket) {
		free(client);
		return false;
	}
	connections++;
	replace(session);
	client->session = session;
	session->client = client;
	session->v1 = v1;
	session->most = tornado && !v1 ? TORNADO_MAX : 0;
	bridge_set_away(&session->listener, false);
	session->keep = loop_cancel(session->keep);
	return true;
}

void socket_open(struct loop *loop, struct request *request, struct kernel *kernel)
{
	struct bridge *bridge = kernel_bridge(kernel);
	const char *id = http_query(request, "session_id");
	struct session *session;

	if (!http_wants_upgrade(request)) {
		http_error(request, 400, NULL, "this address is for WebSockets");
		return;
	}
	if (!id)
		id = "";
	if (!good_session_id(id)) {
		http_error(request, 400, NULL,
			   "session_id is of at most %d letters, digits and _ . -",
			   SOCKET_SESSION_MAX);
		return;
	}
	session = find_session(bridge, id);
	if (!session)
		session = new_session(loop, bridge, id);
	if (!session) {
		http_error(request, 503, NULL, "this kernel has too many connections");
		return;
	}
	if (attach(session, request))
		flush(session);
	else if (!session->client && !session->keep)
		end_session(session);
}
