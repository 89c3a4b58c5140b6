#include "proxy/traffic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "proxy/beside.h"
#include "proxy/channel.h"
#include "proxy/events.h"
#include "proxy/hint.h"
#include "proxy/limits.h"
#include "sandbox/changes.h"
#include "sandbox/log.h"

/* Messages taken from one socket before the others get their turn. */
#define BURST	   64
#define WALL_BURST (1024 * 1024)
/* The socket's buffer never fills so much room at once. */
#define LARGE_ROOM (1024 * 1024)

/* ---- from a client ---- */

static void message_sent(void *arg)
{
	struct message *message = arg;

	message->sent = true;
	if (!message->kept)
		message_free(message);
}

static void remember_cell(struct session *session, const struct passage *passage)
{
	const struct iovec header = passage->wire.signed_part[WIRE_HEADER];
	char *copy = strndup(header.iov_base, header.iov_len);

	hint_cells_add(&session->cells, passage->header.msg_id);
	if (!copy)
		return;
	free(session->cell);
	session->cell = copy;
	events_say_early(session);
}

static void say_refused(void *arg, const char *text)
{
	struct session *session = arg;
	char escaped[1024];

	(void)escape_line(escaped, sizeof(escaped), text);
	audit_note(session->plan->audit, "install", NULL, NULL, 0, "refused", text);
	notice_say(&session->notice, session->cell, escaped);
}

static void relay_inward(struct session *session, enum wall_channel channel,
			 struct message *message)
{
	struct passage passage = {.direction = GUARD_INWARD, .channel = channel};
	struct iovec *parts = message->parts;

	passage.parts = parts;
	passage.count = message->count;
	if (!relay_one(&session->corridor, &passage)) {
		passage_done(&passage);
		message_free(message);
		return;
	}
	if (passage.verdict == GUARD_CELL) {
		if (now_ms() > session->heard + BUSY_EVERY_MS)
			session_tell(session, "busy");
		session->busy++;
		remember_cell(session, &passage);
		if (session->plan->install)
			install_cell(session->plan->install, passage.wire.signed_part[WIRE_CONTENT],
				     say_refused, session);
	}
	session->heard = now_ms();
	if (passage.verdict == GUARD_URGENT)
		session_resume(session);
	if (strcmp(passage.header.msg_type, "interrupt_request") == 0)
		install_cancel(session->plan->install);
	if (strcmp(passage.header.msg_type, "shutdown_request") == 0)
		session->leaving = true;

	memcpy(message->signature, passage.signature, sizeof(passage.signature));
	parts[passage.signature_part] = (struct iovec){.iov_base = message->signature,
						       .iov_len = strlen(message->signature)};
	message->kept = true;
	if (wall_writer_push(session->writer, WALL_MESSAGE, channel, channel == WALL_CONTROL, parts,
			     message->count, message_sent, message) < 0) {
		log_error("a message of %zu bytes to the kernel was lost: out of memory",
			  message->bytes);
		message_free(message);
		return;
	}
	if (passage.verdict == GUARD_CELL) { /* the kernel begins while it is recorded */
		traffic_to_wall(session);
		audit_cell(session->plan->audit, passage.wire.signed_part[WIRE_CONTENT]);
	}
	message->kept = false;
	if (message->sent)
		message_free(message);
}

/* The kernel's own heartbeat answers once it is up; until then, and while it is paused by us, we
 * do. */
static void relay_heartbeat(struct session *session, struct message *message)
{
	if (session->phase > RUNNING || message->bytes > HEARTBEAT_MAX) {
		message_free(message);
		return;
	}
	if (session->ready && !session->pressure.paused &&
	    wall_writer_push(session->writer, WALL_MESSAGE, WALL_HB, true, message->parts,
			     message->count, message_sent, message) == 0) {
		session->pings++;
		return;
	}
	channels_send_own(session->channels, WALL_HB, message->parts, message->count);
	message_free(message);
}

void traffic_from_clients(struct session *session, enum wall_channel channel)
{
	for (int i = 0; i < BURST; i++) {
		struct message *message = NULL;
		int code = channels_receive(session->channels, channel, &message);

		if (code == 0)
			return;
		if (code < 0) {
			log_warning("a client's message was over the limit of %u frames or %u "
				    "bytes: dropped",
				    CLIENT_FRAMES_MAX, WALL_TOTAL_MAX);
			continue;
		}
		if (channel == WALL_HB)
			relay_heartbeat(session, message);
		else
			relay_inward(session, channel, message);
	}
}

/* ---- from the kernel ---- */

/* Whether all that the kernel wrote is in staging/out already, and no reply waits that came before:
 * most cells write nothing. */
static bool nothing_to_collect(const struct session *session)
{
	return session->up_to_date && session->asked == session->collected &&
	       holding_timeout(&session->holding, 0) < 0 && session->changes >= 0 &&
	       changes_none(session->changes);
}

/* The end of a cell waits for its files. Returns true when the frame was kept. */
static bool hold_result(struct session *session, const struct passage *passage,
			struct wall_frame *frame)
{
	const struct request *request = passage->request;
	const struct iovec content = passage->wire.signed_part[WIRE_CONTENT];
	struct hold *hold;
	bool fresh;

	if (session->phase != RUNNING || !request)
		return false;
	if (passage->verdict == GUARD_STATUS &&
	    (strcmp(request->msg_type, "execute_request") != 0 || content.iov_len > 256 ||
	     !memmem(content.iov_base, content.iov_len, "\"idle\"", 6)))
		return false;
	if (nothing_to_collect(session))
		return false;
	hold = holding_enter(&session->holding, request->msg_id, request->header.iov_base,
			     request->header.iov_len, now_ms(), &fresh);
	if (!hold)
		return false;
	if (fresh)
		session_collect(session);
	if (passage->channel == WALL_IOPUB)
		return holding_output(&session->holding, hold, frame);
	return holding_keep(hold, passage->channel, frame);
}

/* Whether the results of earlier runs are seen inside. */
static bool sees_results(const struct spec *spec)
{
	for (size_t i = 0; i < spec->overlay_count; i++)
		if (strcmp(spec->overlays[i].target, INSIDE_OUT) == 0)
			return true;
	return false;
}

/* What there is to say of one place, or NULL. Caller frees. */
static char *line_for(const struct session_plan *plan, struct hint_place *place)
{
	const bool whole = place->named == strlen(place->path);
	size_t length = 0;
	enum beside kind;

	if (hint_is_known(plan->spec, plan->folder, place->path))
		return NULL;
	kind = beside_look(plan->folder, place->path, &length);
	if (kind == BESIDE_NOTHING) {
		if (whole && sees_results(plan->spec) &&
		    beside_look(plan->spec->out, place->path, &length) == BESIDE_FILE)
			return hint_result_line(place->path);
		return NULL;
	}
	if (length > place->named) { /* a package is staged whole */
		length = place->named;
		kind = BESIDE_DIRECTORY;
	}
	place->path[length] = '\0';
	if (plan->closed || hint_is_known(plan->spec, plan->folder, place->path))
		return NULL;
	return hint_line(place->path, kind);
}

/*
 * The line that follows a cell's first error, or NULL: of what it names as missing, the first that
 * is beside the notebook and was not staged. It goes to the clients alone.
 */
static struct wall_frame *make_hint(struct session *session, const struct passage *passage)
{
	const struct session_plan *plan = session->plan;
	const struct request *request = passage->request;
	cleanup(free_ptr) char *line = NULL;
	struct hint hint;

	if (!plan->folder || !session->notice.channels || !request ||
	    !hint_cells_take(&session->cells, request->msg_id) ||
	    !hint_read(passage->wire.signed_part[WIRE_CONTENT], plan->folder, &hint))
		return NULL;
	for (size_t i = 0; i < hint.count && !line; i++)
		line = line_for(plan, &hint.place[i]);
	return line ? notice_frame(&session->notice, request->header.iov_base, line) : NULL;
}

/* Output goes out in order: behind what waits, or at once. */
static int send_output(struct session *session, struct wall_frame *frame)
{
	if (holding_output(&session->holding, NULL, frame))
		return 0;
	return channels_send(session->channels, WALL_IOPUB, frame);
}

void traffic_send_joined(struct session *session)
{
	struct iovec content;
	int code;
	struct wall_frame *frame =
		joining_take(&session->joining, session->corridor.outer, &content, &code);

	if (code < 0)
		log_error("output that was joined is lost: out of memory");
	if (!frame)
		return;
	audit_message(session->plan->audit, false, "iopub", "stream", content);
	(void)send_output(session, frame);
}

/* Pieces of streams that come fast wait for more. */
static void join(struct session *session, const struct passage *passage)
{
	const int64_t now = now_ms();

	if (joining_add(&session->joining, passage, now))
		return;
	traffic_send_joined(session);
	if (!joining_add(&session->joining, passage, now))
		log_error("a piece of output is lost: out of memory");
}

/* What the corridor has to say of a message, in its place. */
static void say_of(struct session *session, const struct passage *passage)
{
	const char *parent = passage->request ? passage->request->header.iov_base : session->cell;
	struct wall_frame *line;

	if (!passage->said || !session->notice.channels)
		return;
	line = notice_frame(&session->notice, parent, passage->said);
	if (line)
		(void)send_output(session, line);
}

static struct iovec put(char **at, const void *bytes, size_t size)
{
	const struct iovec part = {*at, size};

	memcpy(*at, bytes, size);
	*at += size;
	return part;
}

/* A comm that may not be is closed as a front end would that does not know it. */
static void close_comm(struct session *session, const char *content)
{
	cleanup(free_ptr) char *header = header_make("comm_close", session->notice.session);
	const size_t size = header ? strlen(header) + strlen(content) : 0;
	char *block = header ? malloc(size + sizeof(wire_delimiter) + SIGN_HEX_MAX + 16) : NULL;
	char *at = block;
	struct iovec parts[7];

	if (!block)
		return;
	parts[0] = put(&at, "cellwall", 8);
	parts[1] = put(&at, wire_delimiter, sizeof(wire_delimiter));
	parts[3] = put(&at, header, strlen(header));
	parts[4] = put(&at, "{}", 2);
	parts[5] = put(&at, "{}", 2);
	parts[6] = put(&at, content, strlen(content));
	if (sign_make(session->corridor.inner, &parts[3], at) < 0) {
		free(block);
		return;
	}
	parts[2] = (struct iovec){at, strlen(at)};
	if (wall_writer_push(session->writer, WALL_MESSAGE, WALL_SHELL, false, parts, 7, free,
			     block) < 0)
		free(block);
}

/* Takes the frame. */
static int pass_outward(struct session *session, const struct passage *passage,
			struct wall_frame *frame)
{
	struct wall_frame *hint = NULL;
	int code;

	say_of(session, passage);
	if ((passage->verdict == GUARD_RESULT || passage->verdict == GUARD_STATUS) &&
	    hold_result(session, passage, frame))
		return 0;
	if (passage->verdict == GUARD_ERROR)
		hint = make_hint(session, passage); /* before the frame is given away */
	if (passage->channel == WALL_IOPUB)
		code = send_output(session, frame);
	else
		code = channels_send(session->channels, passage->channel, frame);
	if (hint)
		(void)send_output(session, hint);
	return code;
}

static void relay_outward(struct session *session, struct wall_frame *frame)
{
	struct passage passage = {.direction = GUARD_OUTWARD,
				  .channel = (enum wall_channel)frame->channel,
				  .parts = frame->parts,
				  .count = frame->count};
	bool goes;
	int code;

	if (passage.channel == WALL_HB) {
		if (session->pings > 0 && frame->count <= HEARTBEAT_PARTS &&
		    frame->total <= HEARTBEAT_MAX) {
			session->pings--;
			channels_send_own(session->channels, WALL_HB, frame->parts, frame->count);
		}
		wall_frame_unref(frame);
		return;
	}
	if (frame->mapped)
		session->spare_until = now_ms() + SPARE_MS;
	goes = relay_one(&session->corridor, &passage);
	if (goes && passage.joins) {
		join(session, &passage);
		passage_done(&passage);
		wall_frame_unref(frame);
		return;
	}
	if (goes || passage.said)
		traffic_send_joined(session); /* what comes next is never before it */
	if (!goes || passage_dress(&passage, frame) < 0) {
		say_of(session, &passage);
		if (passage.comm_close)
			close_comm(session, passage.comm_close);
		passage_done(&passage);
		wall_frame_unref(frame);
		return;
	}
	if (passage.verdict == GUARD_RESULT && session->busy > 0) {
		session->busy--;
		session->heard = now_ms();
	}
	code = pass_outward(session, &passage, frame);
	passage_done(&passage);
	if (code < 0 && (++session->lost_replies <= 10 || session->lost_replies % 1000 == 0))
		log_warning("a reply was lost: %s (%u so far)",
			    code == -ENOBUFS ? "its client is away and too many wait"
					     : "out of memory",
			    session->lost_replies);
}

static void count_dropped(struct session *session, const struct wall_frame *frame)
{
	uint64_t figures[2];

	if (frame->count != 1 || frame->parts[0].iov_len != sizeof(figures))
		return;
	memcpy(figures, frame->parts[0].iov_base, sizeof(figures));
	session->dropped_messages += figures[0];
	session->dropped_bytes += figures[1];
}

void traffic_say_dropped(struct session *session, int64_t now)
{
	cleanup(free_ptr) char *text = NULL;

	if (!session->dropped_messages || now < session->dropped_said + DROPPED_EVERY_MS)
		return;
	text = format_string(
		"%llu messages (%llu bytes) of the kernel were dropped: more than its "
		"clients could take, though it was paused, or too large, or broken off",
		(unsigned long long)session->dropped_messages,
		(unsigned long long)session->dropped_bytes);
	session->dropped_said = now;
	session->dropped_messages = session->dropped_bytes = 0;
	if (!text)
		return;
	log_warning("%s", text);
	notice_say(&session->notice, session->cell, text);
}

static void take_frame(struct session *session, struct wall_frame *frame)
{
	if (frame->kind == WALL_MESSAGE && frame->channel < WALL_CHANNELS) {
		relay_outward(session, frame);
		return;
	}
	if (frame->kind == WALL_READY)
		session->ready = true;
	else if (frame->kind == WALL_DROPPED)
		count_dropped(session, frame);
	wall_frame_unref(frame);
}

void traffic_close_wall(struct session *session)
{
	close_fd(&session->wall);
	session->ready = false;
}

void traffic_from_wall(struct session *session)
{
	size_t taken = 0;

	session->joining.behind =
		session->channels && channels_outstanding(session->channels) > JOIN_BEHIND;

	while (taken < WALL_BURST && session->wall >= 0) {
		size_t room;
		void *buffer = wall_reader_buffer(session->reader, &room);
		ssize_t got = recv(session->wall, buffer, room, MSG_DONTWAIT);
		struct err err = {0};
		struct wall_frame *frame;
		int code;

		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got <= 0) {
			traffic_close_wall(session);
			return;
		}
		taken += (size_t)got;
		code = wall_reader_advance(session->reader, (size_t)got, &err);
		while (code == 0 && (frame = wall_reader_next(session->reader, &code, &err)))
			take_frame(session, frame);
		if (code < 0) {
			log_error("the wall carried something that is not ours (%s): ending the "
				  "kernel",
				  err.text);
			session_tell(session, "kill");
			traffic_close_wall(session);
			return;
		}
		if ((size_t)got < room && room < LARGE_ROOM)
			return; /* of a large message more comes at once */
	}
}

void traffic_to_wall(struct session *session)
{
	if (session->wall >= 0 && wall_writer_pending(session->writer) &&
	    wall_writer_flush(session->writer, session->wall) < 0 && session->phase == RUNNING)
		traffic_close_wall(session);
}
