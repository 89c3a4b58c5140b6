#include "web/near.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "proxy/answer.h"
#include "proxy/limits.h"
#include "proxy/requests.h"
#include "sandbox/log.h"

/*
 * Theory of operation. One connection is one ZeroMQ socket, closed when its connection ends, as the
 * monitor says, or when the host has been silent; a new one begins with HELLO. So nothing that
 * libzmq queued for an old connection can come before it. The stream keeps what has to be sent
 * again.
 */
#define MONITOR	       "inproc://cellwall-near"
#define CONNECT_MS     6000 /* from connect to WELCOME */
#define AGAIN_MS       700
#define START_MS       20000 /* a host that does not answer at all fails the start */
#define REFUSALS       4     /* one that answers, but never as it should, too */
#define TELL_APART_MS  2000  /* clients are told of longer absences */
#define HEARTBEAT_MS   2000
#define HEARTBEAT_LATE 6000
#define HANDSHAKE_MS   5000
#define LEAVE_MS       4000 /* clients kill after 5 s */
#define LEAVE_APART_MS 1000
#define FRAMES_WAITING 128 /* of LINK_FRAME, inside libzmq; then TCP holds the host back */
#define FRAMES_AT_ONCE 64
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
	code |= set_int(socket, ZMQ_RECONNECT_IVL, -1);
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

static void disconnect(struct near *near)
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

static void connect_again(struct near *near)
{
	near->deadline = now_ms() + CONNECT_MS;
	near->socket = zmq_socket(near->context, ZMQ_DEALER);
	if (!near->socket || set_options(near) != 0 ||
	    zmq_socket_monitor(near->socket, MONITOR, EVENTS) < 0) {
		disconnect(near);
		near_fail(near, "no socket for the link could be made");
		return;
	}
	near->monitor = zmq_socket(near->context, ZMQ_PAIR);
	if (!near->monitor || zmq_connect(near->monitor, MONITOR) < 0 ||
	    zmq_connect(near->socket, near->plan->endpoint) < 0) {
		cleanup(free_ptr) char *text = format_string("the kernel's host %s: %s",
							     near->plan->host, zmq_strerror(errno));

		disconnect(near);
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

static void lose(struct near *near, const char *why)
{
	const int64_t now = now_ms();

	disconnect(near);
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
			*why = near->reached ? keys : "nobody answers there";
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

static void say(struct near *near, char *text)
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
	if (near->told_apart)
		say(near,
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
	struct link_message *message = NULL;
	struct err err;
	const int code = link_stream_take(near->stream, frame, &message, &err);

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
		lose(near, err.text);
		return;
	}
	if (frame.type == LINK_REFUSE)
		take_refusal(near, &frame);
	else if (frame.version != LINK_VERSION)
		lose(near, "it speaks another version");
	else if (frame.type == LINK_WELCOME)
		welcome(near, frame.number);
	else if (near->phase != NEAR_TOGETHER)
		return;
	else if (frame.type == LINK_DATA)
		take_data(near, &frame);
	else if (frame.type == LINK_ACK && link_stream_acked(near->stream, frame.number, &err) < 0)
		lose(near, err.text);
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
			lose(near, "a message of several frames");
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

static void talk_to_host(struct near *near)
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
		send_ack(near);
	} else if (now - near->said >= LINK_QUIET_MS) {
		send_ack(near);
	}
}

/* ---- the end ---- */

void near_ask(struct near *near, const char *word)
{
	union {
		const void *constant;
		void *plain;
	} view = {.constant = word}; /* of string constants alone: it is borrowed for long */
	const struct iovec part = {view.plain, strlen(word)};

	if (link_stream_put(near->stream, LINK_EVENTS, &part, 1, NULL, NULL) < 0)
		log_error("\"%s\" was not sent to the kernel's host: out of memory", word);
}

void near_leave(struct near *near)
{
	if (near->leaving)
		return;
	near->leaving = true;
	near->leave_by = now_ms() + (near->phase == NEAR_TOGETHER ? LEAVE_MS : LEAVE_APART_MS);
	if (near->known || near->phase == NEAR_GREETING)
		near_ask(near, "shutdown");
	else
		near->leave_by = now_ms();
}

void near_fail(struct near *near, const char *text)
{
	if (near->phase >= NEAR_FAILED)
		return;
	log_error("%s", text);
	if (near->cell)
		notice_say(&near->notice, near->cell, text);
	free(near->failure);
	near->failure = strdup(text);
	disconnect(near);
	near->exit_code = 1;
	near->phase = NEAR_FAILED;
	near->deadline = now_ms() + FAILED_MS;
}

static void take_signals(struct near *near)
{
	struct signalfd_siginfo info;

	while (read(near->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGINT)
			near_ask(near, "interrupt");
		else
			near_leave(near);
	}
}

/* ---- the loop ---- */

enum {
	ITEM_SOCKETS,
	ITEM_MONITORS = WALL_CHANNELS,
	ITEM_SIGNALS = 2 * WALL_CHANNELS,
	ITEM_SERVER,
	ITEM_HOST,
	ITEM_MONITOR,
	ITEMS
};

static void poll_items(const struct near *near, zmq_pollitem_t items[ITEMS])
{
	memset(items, 0, ITEMS * sizeof(items[0]));
	for (int i = 0; i < ITEMS; i++)
		items[i].fd = -1;
	for (int i = 0; i < WALL_CHANNELS; i++) {
		const enum wall_channel channel = (enum wall_channel)i;

		items[i].socket = channels_socket(near->channels, channel);
		items[i].events = near_local_takes(near, channel) ? ZMQ_POLLIN : 0;
		items[ITEM_MONITORS + i].socket = channels_monitor(near->channels, channel);
		items[ITEM_MONITORS + i].events = ZMQ_POLLIN;
	}
	items[ITEM_SIGNALS].fd = near->signals;
	items[ITEM_SERVER].fd = near->server;
	items[ITEM_HOST].fd = near->fds[0];
	items[ITEM_MONITOR].fd = near->fds[1];
	for (int i = ITEM_SIGNALS; i < ITEMS; i++)
		items[i].events = items[i].fd >= 0 ? ZMQ_POLLIN : 0;
}

static long poll_timeout(const struct near *near)
{
	const int64_t now = now_ms();
	int64_t until = now + LINK_QUIET_MS;

	if (near->again)
		return 0;
	if (near->deadline && near->deadline < until)
		until = near->deadline;
	if (near->leaving && near->leave_by < until)
		until = near->leave_by;
	if (channels_waiting(near->channels) && now + REPLY_RETRY_EVERY < until)
		until = now + REPLY_RETRY_EVERY;
	if (channels_outstanding(near->channels) > 0 && near->phase == NEAR_TOGETHER &&
	    near->acknowledged != link_stream_received(near->stream) && now + 10 < until)
		until = now + 10;
	return until > now ? (long)(until - now) : 0;
}

static void serve_clients(struct near *near, const zmq_pollitem_t items[ITEMS])
{
	static const enum wall_channel order[] = {WALL_CONTROL, WALL_STDIN, WALL_SHELL, WALL_HB};

	for (int i = 0; i < WALL_CHANNELS; i++)
		if (items[ITEM_MONITORS + i].revents)
			channels_watch(near->channels, (enum wall_channel)i);
	if (items[WALL_IOPUB].revents)
		near_local_subscriptions(near);
	if (near->phase == NEAR_FAILED) {
		answer_requests(near->channels, &near->corridor, &near->notice, near->failure);
		return;
	}
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		if (items[order[i]].revents)
			near_local_receive(near, order[i]);
}

static void serve_host(struct near *near)
{
	const char *why = NULL;

	if (!near->socket)
		return;
	hear_host(near); /* what came before the end first */
	if (near->socket && !near->again)
		why = hear_monitor(near);
	if (near->unwanted)
		refuse(near, "it does not let this client's key in (there: `cellwall key allow`)");
	else if (why)
		lose(near, why);
}

static void tell_apart(struct near *near, int64_t now)
{
	if (!near->apart_since || near->told_apart || now - near->apart_since < TELL_APART_MS ||
	    !near->known)
		return;
	near->told_apart = true;
	say(near, format_string("the kernel's host %s does not answer; the kernel goes on there, "
				"and what it shows comes when the host is back",
				near->plan->host));
}

static void advance(struct near *near)
{
	const int64_t now = now_ms();
	cleanup(free_ptr) char *text = NULL;

	(void)channels_retry(near->channels);
	if (near->phase == NEAR_TOGETHER && now - near->heard > LINK_AWAY_MS)
		lose(near, "it is silent");
	if (near->phase == NEAR_GREETING && now >= near->deadline)
		lose(near, "it does not answer");
	if (near->phase == NEAR_APART && !near->known && near->apart_since &&
	    (now - near->apart_since > START_MS || near->refusals >= REFUSALS)) {
		text = format_string("the kernel's host %s cannot be reached: %s", near->plan->host,
				     near->refused);
		near_fail(near, text ? text : "out of memory");
	}
	if (near->phase == NEAR_APART && now >= near->deadline)
		connect_again(near);
	tell_apart(near, now);
	if (near->phase == NEAR_FAILED && now >= near->deadline)
		near->phase = NEAR_OVER;
	if (near->leaving && near->phase < NEAR_FAILED && now >= near->leave_by) {
		if (near->known)
			log_warning("the kernel's host %s did not confirm that the kernel ended",
				    near->plan->host);
		near->exit_code = 0;
		near_local_part(near);
		near->phase = NEAR_OVER;
	}
}

static int open_signals(struct err *err)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? err_errno(err, "signalfd") : fd;
}

/* As session.c: a Jupyter server names itself, and a kernel does not outlive it. */
static int watch_server(void)
{
	const char *text = getenv("JPY_PARENT_PID");
	uint64_t pid = 0;
	int fd;

	if (!text || parse_u64(text, INT_MAX, &pid) < 0 || pid <= 1)
		return -1;
	fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (fd < 0 && errno == ESRCH)
		kill(getpid(), SIGTERM);
	return fd;
}

/* The place is known by its key and by an address that we have bound: nobody else is there. */
static int make_id(struct near *near)
{
	const struct connection *connection = near->plan->connection;
	unsigned char digest[EVP_MAX_MD_SIZE];
	cleanup(free_ptr) char *place =
		format_string("%.*s %s", (int)connection->key_size, connection->key,
			      connection->endpoint[WALL_SHELL]);

	if (!place || EVP_Digest(place, strlen(place), digest, NULL, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	memcpy(near->id, digest, LINK_PLACE);
	explicit_bzero(place, strlen(place));
	return random_bytes(near->id + LINK_PLACE, LINK_ID - LINK_PLACE);
}

static int open_near(struct near *near, struct err *err)
{
	const struct connection *connection = near->plan->connection;
	int code;

	near->signals = open_signals(err);
	if (near->signals < 0)
		return near->signals;
	near->server = watch_server();
	code = sign_new(connection->scheme, connection->key, connection->key_size,
			&near->corridor.outer, err);
	if (code == 0) /* the link carries no signatures */
		code = sign_new(NULL, "", 0, &near->corridor.inner, err);
	if (code == 0)
		code = channels_open(connection, near->signals, &near->channels, err);
	if (code < 0)
		return code;
	near->notice.channels = near->channels;
	near->notice.sign = near->corridor.outer;
	near->corridor.session = near->notice.session;
	near->corridor.requests = requests_new();
	near->stream = link_stream_new(WALL_TOTAL_MAX);
	near->context = zmq_ctx_new();
	if (!near->corridor.requests || !near->stream || !near->context)
		return err_set(err, -ENOMEM, "out of memory");
	code = make_id(near);
	if (code == 0)
		code = random_hex(near->notice.session, 16);
	return code < 0 ? err_set(err, code, "no random numbers") : 0;
}

static void close_near(struct near *near)
{
	disconnect(near);
	if (near->context)
		zmq_ctx_term(near->context);
	near->notice.channels = NULL;
	near->channels = channels_free(near->channels, DRAIN_MS);
	link_stream_free(near->stream);
	corridor_done(&near->corridor);
	free(near->cell);
	free(near->failure);
	free(near->parting);
	free(near->parting_to.iov_base);
	close_fd(&near->signals);
	close_fd(&near->server);
}

int near_run(const struct near_plan *plan)
{
	struct near near = {.plan = plan,
			    .phase = NEAR_APART,
			    .exit_code = 1,
			    .fds = {-1, -1},
			    .signals = -1,
			    .server = -1};
	zmq_pollitem_t items[ITEMS];
	struct err err;

	prctl(PR_SET_DUMPABLE, 0);
	if (open_near(&near, &err) < 0) {
		log_error("%s", err.text);
		close_near(&near);
		return 1;
	}
	if (plan->failure)
		near_fail(&near, plan->failure);
	else
		near.apart_since = now_ms();
	while (near.phase != NEAR_OVER) {
		int code;

		poll_items(&near, items);
		code = channels_poll(near.channels, items, ITEMS, poll_timeout(&near));
		if (code < 0 && code != -EINTR) {
			log_error("poll: %s", strerrordesc_np(-code));
			break;
		}
		if (items[ITEM_SIGNALS].revents)
			take_signals(&near);
		if (items[ITEM_SERVER].events && items[ITEM_SERVER].revents) {
			close_fd(&near.server);
			near_leave(&near);
		}
		serve_host(&near);
		serve_clients(&near, items);
		advance(&near);
		talk_to_host(&near);
		/* Sending may have swallowed what a descriptor had to tell (ZMQ_FD). */
		if (near.socket) {
			int events = 0;
			size_t size = sizeof(events);

			zmq_getsockopt(near.socket, ZMQ_EVENTS, &events, &size);
			near.again = near.again || (events & ZMQ_POLLIN);
		}
	}
	close_near(&near);
	return near.exit_code;
}
