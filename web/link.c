#include "web/link.h"

#include <errno.h>
#include <string.h>

#include <zmq.h>

#include "web/eventlog.h"
#include "web/link_parts.h"
#include "web/loop.h"
#include "web/server.h"

/*
 * Theory of operation. `receive` takes what the ROUTER has, a burst at a time; a frame goes to the
 * session of its routing id, which HELLO sets. The kernel's packets are queued in the session's
 * stream by reference, and `flush` sends what its window allows. A session is freed by `tick` or
 * `soon` alone, never from a kernel's call, which may come in the middle of anything.
 */
#define ZAP		   "inproc://zeromq.zap.01"
#define ZAP_ENFORCE_DOMAIN 93 /* ZMQ_ZAP_ENFORCE_DOMAIN: zmq.h has it among its drafts */
#define TICK_MS		   1000
#define ASLEEP_MS	   4000 /* so late a tick means that this host slept */
#define BURST		   256
#define LINGER_MS	   500
#define HEARTBEAT_MS	   2000
#define HEARTBEAT_OUT	   6000
#define HANDSHAKE_MS	   5000
#define FRAMES_WAIT	   256 /* of one connection inside libzmq */
#define FRAMES_OUT	   256 /* the same to it; who acknowledges what it does not read meets it */
#define RETRY_MS	   5 /* until a full connection is tried again, when nothing says so before */
#define HOST_KEY	   "host.key" KEYS_SECRET

int link_send_to(struct link *link, const unsigned char routing[LINK_ROUTING], const void *bytes,
		 size_t size)
{
	if (zmq_send(link->router, routing, LINK_ROUTING, ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0)
		return errno == EAGAIN ? -EAGAIN : -EHOSTUNREACH;
	return zmq_send(link->router, bytes, size, ZMQ_DONTWAIT) < 0 ? -EHOSTUNREACH : 0;
}

void link_refuse(struct link *link, const unsigned char routing[LINK_ROUTING], int fd,
		 enum link_refusal why, const char *text)
{
	unsigned char frame[LINK_HEADER + LINK_TEXT];
	const size_t size = strnlen(text, LINK_TEXT);

	link_frame_header(frame, LINK_REFUSE, why, 0, 0);
	memcpy(frame + LINK_HEADER, text, size);
	if (link_send_to(link, routing, frame, LINK_HEADER + size) != -EHOSTUNREACH)
		link_peers_drop(link->peers, fd, now_ms() + LINK_PARTING_MS);
}

/* A client that chose its routing id could wait for what is another's (zmq_setsockopt(3),
 * ZMQ_ROUTING_ID): only those that the ROUTER made are taken. They begin with 0; who guesses one is
 * no further, see srandom below. */
static void take_frame(struct link *link, zmq_msg_t *routing, zmq_msg_t *frame)
{
	struct link_origin origin = {.key = zmq_msg_gets(frame, "User-Id"),
				     .fd = zmq_msg_get(frame, ZMQ_SRCFD)};
	const unsigned char *made = zmq_msg_data(routing);

	if (!origin.key || zmq_msg_size(routing) != LINK_ROUTING || made[0] != 0) {
		link_peers_drop(link->peers, origin.fd, now_ms());
		return;
	}
	memcpy(origin.routing, made, LINK_ROUTING);
	link_take_frame(link, &origin, zmq_msg_data(frame), zmq_msg_size(frame));
}

/* Reads one message to its end. Returns false when there is none. */
static bool receive_one(struct link *link)
{
	zmq_msg_t routing, frame, rest;
	bool more;

	zmq_msg_init(&routing);
	zmq_msg_init(&frame);
	if (zmq_msg_recv(&routing, link->router, ZMQ_DONTWAIT) < 0)
		return false;
	more = zmq_msg_more(&routing) && zmq_msg_recv(&frame, link->router, ZMQ_DONTWAIT) >= 0 &&
	       zmq_msg_more(&frame);
	if (!more)
		take_frame(link, &routing, &frame);
	while (more) {
		zmq_msg_init(&rest);
		more = zmq_msg_recv(&rest, link->router, ZMQ_DONTWAIT) >= 0 && zmq_msg_more(&rest);
		zmq_msg_close(&rest);
	}
	zmq_msg_close(&routing);
	zmq_msg_close(&frame);
	return true;
}

static void receive(struct link *link)
{
	link_peers_serve(link->peers, now_ms());
	for (int i = 0; i < BURST; i++)
		if (!receive_one(link))
			return;
	link_run_soon(link);
}

static void send_again(struct link *link)
{
	for (struct session *session = link->sessions; session; session = session->next) {
		if (!session->full)
			continue;
		session->full = false;
		link_send_number(session, LINK_ACK, session->acknowledged);
		link_flush(session);
	}
}

static void retry_is_now(void *arg)
{
	struct link *link = arg;

	link->retry = NULL;
	send_again(link);
}

void link_retry(struct session *session)
{
	struct link *link = session->link;

	session->full = true;
	if (!link->retry)
		(void)loop_after(link->server->loop, RETRY_MS, retry_is_now, link, &link->retry,
				 NULL);
}

static void peers_ready(void *arg, unsigned events)
{
	struct link *link = arg;

	(void)events;
	link_peers_serve(link->peers, now_ms());
}

/* A connection has ended. */
static void peer_lost(void *arg, int fd)
{
	struct link *link = arg;

	for (struct session *session = link->sessions; session; session = session->next)
		if (session->there && session->fd == fd)
			link_set_away(session, 0);
}

static void router_ready(void *arg, unsigned events)
{
	(void)events;
	receive(arg);
	send_again(arg);
}

/* ---- who may connect ---- */

enum {
	ZAP_VERSION,
	ZAP_REQUEST,
	ZAP_DOMAIN,
	ZAP_ADDRESS,
	ZAP_IDENTITY,
	ZAP_MECHANISM,
	ZAP_CREDENTIALS,
	ZAP_FRAMES
};

static void say_refused(struct link *link, const char *address)
{
	const int64_t now = now_ms();

	link->refused++;
	if (link->refused_said && now - link->refused_said < 1000)
		return;
	link->refused_said = now;
	event_warning("link", "result=refused address=%s reason=%s count=%u", address,
		      "key not allowed", link->refused);
}

/* One request of ZeroMQ RFC 27; the frames are libzmq's, of a client only the credentials are. */
static bool answer_one(struct link *link)
{
	char address[64] = "", request[64] = "", key[KEYS_TEXT] = "";
	size_t request_size = 0;
	bool curve = false, more = true;
	const char *status, *name = NULL;

	for (int i = 0; more; i++) {
		zmq_msg_t part;
		size_t size;

		zmq_msg_init(&part);
		if (zmq_msg_recv(&part, link->zap, ZMQ_DONTWAIT) < 0) {
			zmq_msg_close(&part);
			return false;
		}
		size = zmq_msg_size(&part);
		if (i == ZAP_REQUEST && size <= sizeof(request)) {
			memcpy(request, zmq_msg_data(&part), size);
			request_size = size;
		} else if (i == ZAP_ADDRESS && size < sizeof(address)) {
			memcpy(address, zmq_msg_data(&part), size);
		} else if (i == ZAP_MECHANISM) {
			curve = size == 5 && memcmp(zmq_msg_data(&part), "CURVE", 5) == 0;
		} else if (i == ZAP_CREDENTIALS && curve && size == KEYS_BYTES) {
			(void)zmq_z85_encode(key, zmq_msg_data(&part), KEYS_BYTES);
		}
		more = zmq_msg_more(&part);
		zmq_msg_close(&part);
	}
	keys_allowed_look(link->allowed);
	if (key[0])
		name = keys_allowed_name(link->allowed, key);
	if (!name)
		say_refused(link, address);
	status = name ? "200" : "400";
	(void)zmq_send(link->zap, "1.0", 3, ZMQ_SNDMORE);
	(void)zmq_send(link->zap, request, request_size, ZMQ_SNDMORE);
	(void)zmq_send(link->zap, status, 3, ZMQ_SNDMORE);
	(void)zmq_send(link->zap, "", 0, ZMQ_SNDMORE);
	(void)zmq_send(link->zap, name ? key : "", name ? strlen(key) : 0, ZMQ_SNDMORE);
	(void)zmq_send(link->zap, "", 0, 0);
	return true;
}

static void zap_ready(void *arg, unsigned events)
{
	struct link *link = arg;

	(void)events;
	for (int i = 0; i < BURST; i++)
		if (!answer_one(link))
			return;
	link_run_soon(link);
}

/* ---- timers ---- */

static void soon_is_now(void *arg)
{
	struct link *link = arg;

	link->soon = NULL;
	receive(link);
	zap_ready(link, 0);
	for (struct session *session = link->sessions; session; session = session->next)
		if (session->stop)
			link_stop_kernel(session, session->why);
}

void link_run_soon(struct link *link)
{
	if (!link->soon)
		(void)loop_after(link->server->loop, 0, soon_is_now, link, &link->soon, NULL);
}

static void tick(void *arg)
{
	struct link *link = arg;
	const int64_t now = now_ms();

	link->tick = NULL;
	if (link->ticked && now - link->ticked > ASLEEP_MS) /* nobody was away but we */
		for (struct session *session = link->sessions; session; session = session->next)
			session->heard = now;
	link->ticked = now;
	keys_allowed_look(link->allowed);
	link_look_after(link);
	send_again(link);
	receive(link);
	zap_ready(link, 0);
	(void)loop_after(link->server->loop, TICK_MS, tick, link, &link->tick, NULL);
}

/* ---- opening ---- */

static int set_int(void *socket, int option, int value)
{
	return zmq_setsockopt(socket, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int set_options(void *router, const struct key *key)
{
	const int64_t most = LINK_FRAME + LINK_CURVE;
	int code = 0;

	code |= set_int(router, ZMQ_CURVE_SERVER, 1);
	code |= zmq_setsockopt(router, ZMQ_CURVE_SECRETKEY, key->secret_key, KEYS_TEXT);
	code |= zmq_setsockopt(router, ZMQ_ZAP_DOMAIN, "link", 4);
	code |= set_int(router, ZAP_ENFORCE_DOMAIN, 1); /* nobody to ask: nobody comes in */
	code |= zmq_setsockopt(router, ZMQ_MAXMSGSIZE, &most, sizeof(most));
	code |= set_int(router, ZMQ_ROUTER_MANDATORY, 1);
	code |= set_int(router, ZMQ_LINGER, LINGER_MS);
	code |= set_int(router, ZMQ_SNDHWM, FRAMES_OUT);
	code |= set_int(router, ZMQ_RCVHWM, FRAMES_WAIT);
	code |= set_int(router, ZMQ_IPV6, 1);
	code |= set_int(router, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS);
	code |= set_int(router, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS);
	code |= set_int(router, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_OUT);
	return code;
}

static int watch_socket(struct link *link, void *socket, void (*ready)(void *, unsigned),
			struct watch **ret_watch, struct err *err)
{
	size_t size = sizeof(int);
	int fd = -1;

	if (zmq_getsockopt(socket, ZMQ_FD, &fd, &size) < 0)
		return err_set(err, -errno, "link: %s", zmq_strerror(errno));
	return loop_watch(link->server->loop, fd, LOOP_READ, ready, link, ret_watch, err);
}

/* The ROUTER numbers its connections from rand(3), without a seed of its own: who knows the next
 * number could choose it, at which libzmq 4.3 aborts, or a cut connection's. */
static int seed_numbers(struct err *err)
{
	unsigned seed = 0;

	if (random_bytes(&seed, sizeof(seed)) < 0)
		return err_set(err, -EIO, "no random numbers");
	srandom(seed);
	return 0;
}

static int open_sockets(struct link *link, const char *own, struct err *err)
{
	struct key key;
	int code = keys_read(own, true, &key, err);

	if (code < 0)
		return err_wrap(err, "link: no key of this host (`cellwall key new host`)");
	link->context = zmq_ctx_new();
	link->zap = link->context ? zmq_socket(link->context, ZMQ_REP) : NULL;
	link->router = link->context ? zmq_socket(link->context, ZMQ_ROUTER) : NULL;
	if (!link->zap || !link->router || set_options(link->router, &key) != 0 ||
	    set_int(link->zap, ZMQ_LINGER, 0) < 0)
		code = err_set(err, -ENOMEM, "link: no sockets: %s", zmq_strerror(errno));
	keys_done(&key);
	return code;
}

/* Those who decide who may connect, before anybody can. */
static int open_gate(struct link *link, const char *clients, struct err *err)
{
	int code = keys_allowed_new(clients, &link->allowed, err);

	if (code == 0)
		code = link_peers_new(link->context, link->router, LINK_SESSIONS_MAX, peer_lost,
				      link, &link->peers, err);
	if (code == 0)
		code = watch_socket(link, link_peers_monitor(link->peers), peers_ready,
				    &link->peers_watch, err);
	if (code == 0 && zmq_bind(link->zap, ZAP) < 0)
		code = err_set(err, -errno, "link: %s: %s", ZAP, zmq_strerror(errno));
	if (code == 0)
		code = watch_socket(link, link->zap, zap_ready, &link->zap_watch, err);
	return code;
}

static int open_port(struct link *link, const char *address, const char *endpoint, struct err *err)
{
	int code;

	if (zmq_bind(link->router, endpoint) < 0)
		return err_set(err, -errno, "cannot listen on curve://%s: %s", address,
			       zmq_strerror(errno));
	code = link_peers_bound(link->peers, link->router, err);
	if (code == 0)
		code = watch_socket(link, link->router, router_ready, &link->router_watch, err);
	return code;
}

static int open_link(struct link *link, const char *address, const char *directory, struct err *err)
{
	cleanup(free_ptr) char *clients = path_join(directory, "clients");
	cleanup(free_ptr) char *own = path_join(directory, HOST_KEY);
	cleanup(free_ptr) char *endpoint = format_string("tcp://%s", address);
	int code;

	if (!clients || !own || !endpoint)
		return err_set(err, -ENOMEM, "out of memory");
	code = seed_numbers(err);
	if (code == 0)
		code = open_sockets(link, own, err);
	if (code == 0)
		code = open_gate(link, clients, err);
	if (code == 0)
		code = open_port(link, address, endpoint, err);
	if (code == 0)
		code = loop_after(link->server->loop, 0, tick, link, &link->tick, err);
	return code;
}

int link_new(struct server *server, const char *address, struct link **ret_link, struct err *err)
{
	struct link *link = calloc(1, sizeof(*link));
	cleanup(free_ptr) char *directory = NULL, *url = NULL;
	int code;

	if (!link)
		return err_set(err, -ENOMEM, "out of memory");
	link->server = server;
	code = keys_directory(server->settings.keys, &directory, err);
	if (code == 0)
		code = open_link(link, address, directory, err);
	if (code < 0) {
		link_free(link);
		return code;
	}
	url = format_string("curve://%s", address);
	event_info("listen", "url=%s keys=%s", url ? url : "", directory);
	*ret_link = link;
	return 0;
}

void link_look(const struct link *link, struct link_depths *ret_depths)
{
	*ret_depths = (struct link_depths){0};
	if (!link)
		return;
	for (const struct session *session = link->sessions; session; session = session->next) {
		ret_depths->sessions++;
		ret_depths->away += !session->there;
		ret_depths->to_clients += link_stream_queued(session->stream);
		ret_depths->to_kernels += session->held;
	}
}

struct link *link_free(struct link *link)
{
	if (!link)
		return NULL;
	loop_cancel(link->tick);
	loop_cancel(link->soon);
	loop_cancel(link->retry);
	loop_unwatch(link->router_watch);
	loop_unwatch(link->zap_watch);
	loop_unwatch(link->peers_watch);
	while (link->sessions) {
		struct session *session = link->sessions;

		link->sessions = session->next;
		link_session_free(session);
	}
	link_peers_free(link->peers, link->router);
	if (link->router)
		zmq_close(link->router);
	if (link->zap)
		zmq_close(link->zap);
	if (link->context)
		zmq_ctx_term(link->context);
	keys_allowed_free(link->allowed);
	free(link);
	return NULL;
}
