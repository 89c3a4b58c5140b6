#include <errno.h>
#include <string.h>

#include <jansson.h>

#include "proxy/header.h"
#include "web/eventlog.h"
#include "web/kernels.h"
#include "web/link.h"
#include "web/link_parts.h"
#include "web/server.h"
#include "web/specs.h"
#include "web/users.h"

#define HELD_MAX (2 * (size_t)LINK_MESSAGE_MAX)

static struct session *find_session(struct link *link, const char *key, const unsigned char *id)
{
	for (struct session *session = link->sessions; session; session = session->next)
		if (memcmp(session->id, id, LINK_ID) == 0 && strcmp(session->key, key) == 0)
			return session;
	return NULL;
}

/* A near end that was killed is not coming back: another is in its place. */
static void stop_same_place(struct link *link, const char *key, const unsigned char *id)
{
	for (struct session *session = link->sessions; session; session = session->next)
		if (memcmp(session->id, id, LINK_PLACE) == 0 && strcmp(session->key, key) == 0)
			link_stop_kernel(session, "its client started another in its place");
}

/* The session of this very connection. */
static struct session *find_origin(struct link *link, const struct link_origin *origin)
{
	for (struct session *session = link->sessions; session; session = session->next)
		if (session->there && session->fd == origin->fd &&
		    memcmp(session->routing, origin->routing, LINK_ROUTING) == 0 &&
		    strcmp(session->key, origin->key) == 0)
			return session;
	return NULL;
}

/* ---- orders ---- */

/* A member that is a text, or NULL when there is none. Returns 0 or -EINVAL. */
static int text_of(const json_t *order, const char *name, const char **ret_text, struct err *err)
{
	const json_t *member = json_object_get(order, name);

	if (member && !json_is_string(member))
		return err_set(err, -EINVAL, "\"%s\" in the order is no text", name);
	*ret_text = json_string_value(member);
	return 0;
}

static const struct spec_entry *find_spec(struct specs *specs, const char *name)
{
	const struct spec_entry *entry = specs_find(specs, name);

	if (!entry && specs_read(specs, NULL) == 0)
		entry = specs_find(specs, name);
	return entry;
}

static int start_ordered(struct session *session, const struct user *user, const json_t *json,
			 struct err *err)
{
	struct server *server = session->link->server;
	const struct spec_entry *entry;
	const char *name = NULL;
	struct kernels_order order = {
		.owner = user->name,
		.owner_kernels = server_user_kernels(server, (unsigned)user->max_kernels),
		.environment = json_object_get(json, "environment")};
	int code = text_of(json, "kernel", &name, err);

	if (code == 0)
		code = text_of(json, "area", &order.area, err);
	if (code < 0)
		return code;
	entry = find_spec(server->specs, name);
	if (!entry)
		return err_set(err, -ENOENT, "there is no such kernelspec here");
	if (!user_may_start(user, entry->name))
		return err_set(err, -EPERM, "you may not start %s", entry->name);
	order.spec = entry->name;
	return kernels_start(server->kernels, &order, &session->kernel, err);
}

static int start_kernel(struct session *session, const struct link_frame *hello, struct err *err)
{
	const char *bytes = (const char *)hello->body + LINK_ID;
	const size_t size = hello->size - LINK_ID;
	const struct user *user = users_get(session->link->server->users, session->owner, false);
	json_t *json = NULL;
	int code;

	if (!user)
		return err_set(err, -EACCES, "%s may not use this server", session->owner);
	if (json_shallow(bytes, size, 4))
		json = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, NULL);
	code = json_is_object(json) ? start_ordered(session, user, json, err)
				    : err_set(err, -EINVAL, "the order is not JSON");
	json_decref(json);
	if (code < 0) {
		session->kernel = NULL;
		return code;
	}
	code = bridge_join(kernel_bridge(session->kernel), &session->listener);
	if (code < 0) {
		kernel_shutdown(session->kernel, "no room for its client");
		session->kernel = NULL;
		return err_set(err, code, "no room for one more client");
	}
	return 0;
}

static struct session *make_session(struct link *link, const char *key, const char *name,
				    const struct link_frame *hello, struct err *err)
{
	struct session *session;

	if (link->count >= LINK_SESSIONS_MAX) {
		err_set(err, -EDQUOT, "too many kernels");
		return NULL;
	}
	session = calloc(1, sizeof(*session));
	if (session)
		session->stream = link_stream_new(LINK_MESSAGE_MAX);
	if (!session || !session->stream) {
		free(session);
		err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	link->count++;
	session->link = link;
	session->last = &session->first;
	session->heard = now_ms();
	memcpy(session->id, hello->body, LINK_ID);
	(void)snprintf(session->key, sizeof(session->key), "%s", key);
	(void)snprintf(session->owner, sizeof(session->owner), "%s", name);
	link_listen(session);
	if (start_kernel(session, hello, err) < 0) {
		link_session_free(session);
		return NULL;
	}
	session->next = link->sessions;
	link->sessions = session;
	event_info("link", "user=%s result=started", session->owner);
	return session;
}

static void refuse_origin(struct link *link, const struct link_origin *origin,
			  enum link_refusal why, const char *text)
{
	link_refuse(link, origin->routing, origin->fd, why, text);
}

static void take_hello(struct link *link, const struct link_origin *origin,
		       const struct link_frame *frame)
{
	const char *key = origin->key, *name;
	struct session *session;
	struct err err = {0};

	link_peers_serve(link->peers, now_ms()); /* an earlier one of this descriptor has ended */
	/* One session to a connection, none to one that ended behind its last words. */
	if (find_origin(link, origin) || !link_peers_has(link->peers, origin->fd))
		return;
	keys_allowed_look(link->allowed);
	name = keys_allowed_name(link->allowed, key);
	if (!name) {
		refuse_origin(link, origin, LINK_NOT_ALLOWED, "this client's key was revoked");
		return;
	}
	session = find_session(link, key, frame->body);
	if (!session && frame->a == 0) {
		stop_same_place(link, key, frame->body);
		session = make_session(link, key, name, frame, &err);
	}
	if (!session) {
		refuse_origin(link, origin, frame->a ? LINK_NOT_KNOWN : LINK_NOT_STARTED,
			      frame->a ? "no such kernel" : err.text);
		return;
	}
	if (link_stream_resume(session->stream, frame->number, &err) < 0) {
		refuse_origin(link, origin, LINK_NOT_KNOWN, err.text);
		return;
	}
	if (session->there) /* over another connection, whose end was not seen yet */
		link_set_away(session, 0);
	memcpy(session->routing, origin->routing, LINK_ROUTING);
	session->fd = origin->fd;
	session->there = true;
	session->heard = now_ms();
	if (!session->first)
		session->acknowledged = link_stream_received(session->stream);
	link_send_number(session, LINK_WELCOME, link_stream_received(session->stream));
	if (!session->there) /* it has ended: the descriptor may be a newcomer's */
		return;
	link_peers_keep(link->peers, origin->fd);
	link_tell_dropped(session);
	link_flush(session);
}

/* ---- frames of clients ---- */

static void take_event(struct session *session, const struct link_message *message)
{
	const struct iovec word = message->parts[0];
	struct err err = {0};
	unsigned count;

	if (!session->kernel)
		return;
	if (word.iov_len == 9 && memcmp(word.iov_base, "interrupt", 9) == 0) {
		if (kernel_interrupt(session->kernel, &err) < 0 && link_may_log(session, &count))
			event_warning("link", "user=%s result=%s reason=%s count=%u",
				      session->owner, "not interrupted", err.text, count);
	} else if (word.iov_len == 8 && memcmp(word.iov_base, "shutdown", 8) == 0) {
		link_stop_kernel(session, "its client ended it");
	}
}

/* Takes the message. Returns 0, or -EPROTO when more than any client's window holds would wait. */
static int take_message(struct session *session, struct link_message *message, struct err *err)
{
	const size_t bytes = link_held_bytes(message);
	struct held *held;

	if (message->channel == LINK_EVENTS) {
		take_event(session, message);
		link_message_free(message);
		return 0;
	}
	if (session->held + bytes > HELD_MAX) {
		link_message_free(message);
		return err_set(err, -EPROTO, "more than is acknowledged was sent");
	}
	held = calloc(1, sizeof(*held));
	if (!held || !session->kernel) {
		free(held);
		link_message_free(message);
		return 0;
	}
	held->message = message;
	*session->last = held;
	session->last = &held->next;
	session->held += bytes;
	link_send_held(session);
	return 0;
}

/* Ends a connection in words: libzmq cannot end one of a ROUTER's. What it still sends is passed
 * over. */
static void end_connection(struct session *session, const char *why)
{
	unsigned count;

	if (link_may_log(session, &count))
		event_warning("link", "user=%s result=ended reason=%s count=%u", session->owner,
			      why, count);
	link_refuse(session->link, session->routing, session->fd, LINK_NOT_STARTED, why);
	link_set_away(session, LINK_PARTING_MS);
}

void link_take_frame(struct link *link, const struct link_origin *origin, const void *bytes,
		     size_t size)
{
	struct session *session = find_origin(link, origin);
	struct link_message *message = NULL;
	struct link_frame frame;
	struct err err = {0};
	int code;

	code = link_frame_parse(bytes, size, &frame, &err);
	if (code == 0 && frame.type == LINK_HELLO && frame.version != LINK_VERSION)
		refuse_origin(link, origin, LINK_NOT_SPOKEN,
			      "the two ends speak different versions of the link: install the "
			      "same cellwall on both");
	else if (code == 0 && frame.version == LINK_VERSION && frame.type == LINK_HELLO)
		take_hello(link, origin, &frame);
	if (!session)
		return;
	session->heard = now_ms();
	if (code == 0 && frame.version != LINK_VERSION) /* nothing of it was checked */
		code = err_set(&err, -EPROTO, "a frame of another version");
	else if (code == 0 && frame.type == LINK_ACK)
		code = link_stream_acked(session->stream, frame.number, &err);
	else if (code == 0 && frame.type == LINK_DATA)
		code = link_stream_take(session->stream, &frame, &message, &err);
	if (code > 0)
		code = take_message(session, message, &err);
	if (code < 0) {
		end_connection(session, err.text);
		return;
	}
	if (frame.type == LINK_ACK) {
		link_flush(session);
		if (link_stream_queued(session->stream) < LINK_AHEAD)
			link_tell_dropped(session);
	} else {
		link_acknowledge(session);
	}
}
