#include <errno.h>
#include <string.h>

#include "web/eventlog.h"
#include "web/kernels.h"
#include "web/link.h"
#include "web/link_parts.h"
#include "web/packet.h"
#include "web/server.h"

#define LOGGED_MS    1000
#define GONE_KEPT_MS 30000 /* that a kernel is gone is told so long to a client that is away */

/* ---- sending ---- */

static size_t most_queued(const struct session *session)
{
	return session->there ? LINK_AHEAD : LINK_KEPT;
}

/* Pauses the kernel, or lets it go on, by what waits. */
static void balance(struct session *session)
{
	const size_t queued = link_stream_queued(session->stream);
	const size_t most = most_queued(session);

	if (!session->kernel)
		return;
	if (!session->paused && !session->dropping && queued > most) {
		session->paused = true;
		session->paused_at = now_ms();
		session->paused_queued = queued;
		bridge_pause(&session->listener);
	} else if (session->paused && queued <= most / 2) {
		session->paused = false;
		bridge_resume(&session->listener);
	}
}

void link_set_away(struct session *session, int64_t ms)
{
	if (session->there)
		link_peers_drop(session->link->peers, session->fd, now_ms() + ms);
	session->there = false;
	balance(session);
}

static void not_sent(struct session *session, int code)
{
	if (code == -EAGAIN) {
		link_retry(session);
		return;
	}
	session->there = false; /* it has ended: the descriptor may be a newcomer's by now */
	balance(session);
}

void link_send_number(struct session *session, enum link_type type, uint64_t number)
{
	unsigned char frame[LINK_HEADER];
	int code;

	link_frame_header(frame, type, 0, 0, number);
	if (!session->there)
		return;
	code = link_send_to(session->link, session->routing, frame, sizeof(frame));
	if (code == 0)
		session->said = now_ms();
	else
		not_sent(session, code);
}

void link_flush(struct session *session)
{
	const void *bytes;
	size_t size;

	while (session->there && link_stream_next(session->stream, &bytes, &size) == 1) {
		const int code = link_send_to(session->link, session->routing, bytes, size);

		if (code < 0) {
			not_sent(session, code);
			break;
		}
		link_stream_sent(session->stream);
		session->said = now_ms();
	}
	balance(session);
	link_run_soon(session->link); /* sending may have swallowed that something came (ZMQ_FD) */
}

void link_send_event(struct session *session, const char *word, const char *text)
{
	char *copy = strdup(text);
	union {
		const void *constant;
		void *plain;
	} view = {.constant = word}; /* string constants alone */
	const struct iovec parts[] = {{view.plain, strlen(word)}, {copy, copy ? strlen(copy) : 0}};

	if (!copy || link_stream_put(session->stream, LINK_EVENTS, parts, 2, free, copy) < 0)
		free(copy);
	link_flush(session);
}

/* ---- the kernel ---- */

static void release_packet(void *arg)
{
	packet_unref(arg);
}

static void take_packet(struct listener *listener, struct packet *packet)
{
	struct session *session = listener->arg;
	const size_t queued = link_stream_queued(session->stream);
	const size_t most = most_queued(session);
	const bool output = packet->channel == WALL_IOPUB && !packet->status;

	if (session->dropping && queued > (output ? most : most + LINK_AHEAD)) {
		session->dropped++;
		return;
	}
	if (link_stream_put(session->stream, packet->channel, packet->parts, packet->count,
			    release_packet, packet_ref(packet)) < 0) {
		packet_unref(packet);
		session->dropped++;
	}
	link_flush(session);
}

static void take_state(struct listener *listener, const char *state)
{
	struct session *session = listener->arg;

	if (strcmp(state, "dead") != 0)
		return;
	session->stop = true;
	session->why = "it died";
	link_run_soon(session->link);
}

void link_acknowledge(struct session *session)
{
	if (session->first || session->acknowledged == link_stream_received(session->stream))
		return;
	session->acknowledged = link_stream_received(session->stream);
	link_send_number(session, LINK_ACK, session->acknowledged);
}

bool link_may_log(struct session *session, unsigned *ret_count)
{
	const int64_t now = now_ms();

	*ret_count = ++session->unsaid;
	if (session->logged && now - session->logged < LOGGED_MS)
		return false;
	session->logged = now;
	session->unsaid = 0;
	return true;
}

size_t link_held_bytes(const struct link_message *message)
{
	size_t bytes = HELD_COST;

	for (size_t i = 0; i < message->count; i++)
		bytes += message->parts[i].iov_len;
	return bytes;
}

/* Gives the kernel what it did not take before. */
void link_send_held(struct session *session)
{
	while (session->first && session->kernel) {
		struct held *held = session->first;
		const struct link_message *message = held->message;
		const int code =
			bridge_send(&session->listener, (enum wall_channel)message->channel,
				    message->parts, message->count);
		unsigned count;

		if (code == -EAGAIN)
			return;
		if (code < 0 && link_may_log(session, &count))
			event_warning("link", "user=%s result=%s reason=%s count=%u",
				      session->owner, "message refused", strerrordesc_np(-code),
				      count);
		session->held -= link_held_bytes(message);
		session->first = held->next;
		if (!session->first)
			session->last = &session->first;
		link_message_free(held->message);
		free(held);
	}
}

static void take_writable(struct listener *listener)
{
	struct session *session = listener->arg;

	link_send_held(session);
	link_acknowledge(session);
}

static void take_gone(struct listener *listener, const char *reason)
{
	struct session *session = listener->arg;

	session->kernel = NULL;
	session->gone_at = now_ms();
	link_send_event(session, "gone", session->why ? session->why : reason);
}

void link_listen(struct session *session)
{
	session->listener = (struct listener){.message = take_packet,
					      .state = take_state,
					      .writable = take_writable,
					      .gone = take_gone,
					      .arg = session};
}

/* ---- sessions ---- */

void link_session_free(struct session *session)
{
	while (session->first) {
		struct held *held = session->first;

		session->first = held->next;
		link_message_free(held->message);
		free(held);
	}
	if (session->kernel)
		bridge_leave(&session->listener);
	if (session->there) /* why it is over is on its way to it */
		link_peers_drop(session->link->peers, session->fd, now_ms() + LINK_STRANGER_MS);
	link_stream_free(session->stream);
	session->link->count--;
	free(session);
}

/* Stops its kernel; take_gone follows from that. */
void link_stop_kernel(struct session *session, const char *why)
{
	struct kernel *kernel = session->kernel;

	session->stop = false;
	if (!kernel)
		return;
	session->why = why;
	kernel_shutdown(kernel, why);
}

/* Nothing goes to its client any more and nothing comes from it. */
static void revoke(struct session *session)
{
	static const char why[] = "this client's key was revoked";

	event_warning("link", "user=%s result=stopped reason=%s", session->owner,
		      "its key was revoked");
	session->revoked = true;
	if (session->there)
		link_refuse(session->link, session->routing, session->fd, LINK_NOT_ALLOWED, why);
	link_set_away(session, LINK_PARTING_MS);
	link_stop_kernel(session, "its client's key was revoked");
}

/* A client that is not heard of. */
static void look_at_client(struct session *session, int64_t now)
{
	const int64_t keep = (int64_t)session->link->server->settings.link_keep * 1000;
	const int64_t quiet = now - session->heard;

	if (session->there && quiet > LINK_AWAY_MS)
		link_set_away(session, 0);
	if (session->kernel && !session->there && keep && quiet > keep) {
		event_info("link", "user=%s result=stopped reason=%s", session->owner,
			   "its client stayed away");
		link_stop_kernel(session, "its client stayed away");
	}
}

/* A kernel that was held up for as long as its proxy grants goes on: until what it says next holds
 * it up again, when the client takes what waits, if slowly; otherwise its output is dropped. */
static void look_at_pause(struct session *session, int64_t now)
{
	const size_t queued = link_stream_queued(session->stream);

	if (!session->paused || now - session->paused_at <= BRIDGE_STALL_MS)
		return;
	session->paused = false;
	session->dropping =
		!session->there || queued >= session->paused_queued || queued > LINK_KEPT;
	if (session->kernel)
		bridge_resume(&session->listener);
}

/* What is left to do outside of any call. Returns true when the session is over. */
static bool look_after(struct session *session, int64_t now)
{
	if (session->stop)
		link_stop_kernel(session, session->why);
	look_at_client(session, now);
	if (!session->revoked && !keys_allowed_name(session->link->allowed, session->key))
		revoke(session);
	look_at_pause(session, now);
	if (session->there && now - session->said >= LINK_QUIET_MS)
		link_send_number(session, LINK_ACK, session->acknowledged);
	return !session->kernel && (session->revoked || link_stream_queued(session->stream) == 0 ||
				    now - session->gone_at > GONE_KEPT_MS);
}

void link_look_after(struct link *link)
{
	struct session **at = &link->sessions;
	const int64_t now = now_ms();

	while (*at) {
		struct session *session = *at;

		if (look_after(session, now)) {
			*at = session->next;
			link_session_free(session);
		} else {
			at = &session->next;
		}
	}
}

void link_tell_dropped(struct session *session)
{
	cleanup(free_ptr) char *text = NULL;

	session->dropping = false;
	if (!session->dropped)
		return;
	text = format_string("%llu outputs were lost: more came while the link was away than is "
			     "kept",
			     (unsigned long long)session->dropped);
	session->dropped = 0;
	if (text)
		link_send_event(session, "notice", text);
}
