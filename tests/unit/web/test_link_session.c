/* web/link_session.c with a kernel and a connection that the tests make. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "web/eventlog.h"
#include "web/kernels.h"
#include "web/link.h"
#include "web/link_parts.h"
#include "web/server.h"

#define PIECE (1024u * 1024)

static struct {
	unsigned paused, resumed, stopped, dropped_peers;
	size_t sent, sent_bytes; /* frames */
	int answer;		 /* of the connection */
	const char *name;
	const char *why;
} seen;

static char bytes[PIECE];
static struct server server;
static struct link link_of;

/* ---- what it calls ---- */

void bridge_pause(struct listener *listener)
{
	(void)listener;
	seen.paused++;
}

void bridge_resume(struct listener *listener)
{
	(void)listener;
	seen.resumed++;
}

void bridge_leave(struct listener *listener)
{
	(void)listener;
}

int bridge_send(struct listener *listener, enum wall_channel channel, const struct iovec *parts,
		size_t count)
{
	(void)listener, (void)channel, (void)parts, (void)count;
	return -EAGAIN;
}

/* The real one tells it by gone(). */
void kernel_shutdown(struct kernel *kernel, const char *reason)
{
	struct session *session = (struct session *)kernel;

	seen.stopped++;
	seen.why = reason;
	session->listener.gone(&session->listener, reason);
}

int link_send_to(struct link *link, const unsigned char routing[LINK_ROUTING], const void *frame,
		 size_t size)
{
	(void)link, (void)routing, (void)frame;
	seen.sent += seen.answer == 0;
	seen.sent_bytes += size;
	return seen.answer;
}

void link_retry(struct session *session)
{
	session->full = true;
}

void link_run_soon(struct link *link)
{
	(void)link;
}

void link_refuse(struct link *link, const unsigned char routing[LINK_ROUTING], int fd,
		 enum link_refusal why, const char *text)
{
	(void)link, (void)routing, (void)fd, (void)why, (void)text;
}

void link_peers_drop(struct link_peers *peers, int fd, int64_t until)
{
	(void)peers, (void)fd, (void)until;
	seen.dropped_peers++;
}

struct packet *packet_ref(struct packet *packet)
{
	packet->refs++;
	return packet;
}

void packet_unref(struct packet *packet)
{
	packet->refs--;
}

const char *keys_allowed_name(const struct keys_allowed *allowed, const char *public_key)
{
	(void)allowed, (void)public_key;
	return seen.name;
}

void eventlog_line(enum log_level level, const char *event, const char *format, ...)
{
	(void)level, (void)event, (void)format;
}

/* ---- the tests ---- */

static struct packet *output;

static int make_session(void **state)
{
	struct session *session = calloc(1, sizeof(*session));

	output = calloc(1, sizeof(*output) + sizeof(output->parts[0]));
	if (!session || !output)
		return -1;
	memset(&seen, 0, sizeof(seen));
	seen.name = "anna";
	server.settings.link_keep = LINK_KEEP;
	link_of = (struct link){.server = &server, .sessions = session, .count = 1};
	*output = (struct packet){.refs = 1, .channel = WALL_IOPUB, .count = 1};
	output->parts[0] = (struct iovec){bytes, PIECE};
	session->stream = link_stream_new(LINK_MESSAGE_MAX);
	session->link = &link_of;
	session->last = &session->first;
	session->heard = session->said = now_ms();
	session->kernel = (struct kernel *)session;
	session->there = true;
	link_listen(session);
	*state = session;
	return 0;
}

static int remove_session(void **state)
{
	unsigned refs;

	(void)state;
	while (link_of.sessions) {
		struct session *session = link_of.sessions;

		link_of.sessions = session->next;
		link_session_free(session);
	}
	refs = output->refs;
	free(output);
	return refs == 1 ? 0 : -1;
}

static void print(struct session *session, unsigned pieces)
{
	while (pieces--)
		session->listener.message(&session->listener, output);
}

static void a_client_that_reads_nothing_pauses_its_kernel(void **state)
{
	struct session *session = *state;

	print(session, LINK_AHEAD / PIECE - 1);
	assert_int_equal(seen.paused, 0);
	print(session, 1);
	assert_int_equal(seen.paused, 1);
	/* Not more than the window was sent. */
	assert_in_range(seen.sent_bytes, LINK_WINDOW / 2, LINK_WINDOW + LINK_FRAME);
	assert_int_equal(link_stream_acked(session->stream, seen.sent, NULL), 0);
	link_flush(session);
	assert_int_equal(seen.resumed, 0);
	while (!seen.resumed) {
		assert_int_equal(link_stream_acked(session->stream, seen.sent, NULL), 0);
		link_flush(session);
	}
	assert_true(link_stream_queued(session->stream) <= LINK_AHEAD / 2);
}

static void for_one_that_is_away_more_is_kept_then_dropped_and_told(void **state)
{
	struct session *session = *state;
	size_t queued;

	link_set_away(session, 0);
	assert_int_equal(seen.dropped_peers, 1);
	print(session, LINK_KEPT / PIECE - 1);
	assert_int_equal(seen.paused, 0);
	print(session, 1);
	assert_int_equal(seen.paused, 1);
	assert_int_equal(seen.sent, 0);
	/* It did not come back while the kernel could be held up. */
	link_look_after(&link_of);
	assert_int_equal(seen.resumed, 0);
	session->paused_at -= BRIDGE_STALL_MS + 1;
	link_look_after(&link_of);
	assert_int_equal(seen.resumed, 1);
	queued = link_stream_queued(session->stream);
	print(session, 5);
	assert_int_equal(link_stream_queued(session->stream), queued);
	assert_int_equal(session->dropped, 5);
	link_tell_dropped(session);
	assert_true(link_stream_queued(session->stream) > queued); /* the word of it */
	assert_int_equal(session->dropped, 0);
	assert_false(session->dropping);
}

static void for_one_that_reads_slowly_nothing_is_dropped(void **state)
{
	struct session *session = *state;
	uint64_t taken = 0;

	link_set_away(session, 0);
	print(session, LINK_KEPT / PIECE);
	assert_int_equal(seen.paused, 1);
	session->there = true; /* it is back, and takes a little in a long time */
	link_flush(session);
	for (unsigned i = 1; i <= 20; i++) {
		taken += 2 * PIECE / LINK_PIECE;
		assert_int_equal(link_stream_acked(session->stream, taken, NULL), 0);
		link_flush(session);
		session->paused_at -= BRIDGE_STALL_MS + 1;
		link_look_after(&link_of);
		assert_int_equal(seen.resumed, i);
		print(session, 1);
		assert_int_equal(seen.paused, i + 1); /* held up again by what it said */
	}
	assert_false(session->dropping);
	assert_int_equal(session->dropped, 0);
	/* One that takes nothing. */
	session->paused_at -= BRIDGE_STALL_MS + 1;
	link_look_after(&link_of);
	print(session, 1);
	assert_int_equal(session->dropped, 1);
}

static void who_stays_away_loses_the_kernel(void **state)
{
	struct session *session = *state;

	session->heard -= LINK_AWAY_MS + 1;
	link_look_after(&link_of);
	assert_false(session->there);
	assert_int_equal(seen.stopped, 0);
	session->heard -= (int64_t)LINK_KEEP * 1000;
	link_look_after(&link_of);
	assert_int_equal(seen.stopped, 1);
	assert_string_equal(seen.why, "its client stayed away");
	/* Why is kept for a while, in case it comes. */
	assert_int_equal(link_of.count, 1);
	session->gone_at -= 60000;
	link_look_after(&link_of);
	assert_int_equal(link_of.count, 0);
}

static void who_may_not_any_more_is_ended(void **state)
{
	(void)state;
	link_look_after(&link_of);
	assert_int_equal(seen.stopped, 0);
	seen.name = NULL;
	link_look_after(&link_of);
	assert_int_equal(seen.stopped, 1);
	assert_int_equal(link_of.count, 0);
	assert_null(link_of.sessions);
}

static void a_connection_that_is_full_is_tried_again_one_that_ended_is_away(void **state)
{
	struct session *session = *state;

	seen.answer = -EAGAIN;
	print(session, 1);
	assert_true(session->full && session->there);
	seen.answer = -EHOSTUNREACH;
	link_flush(session);
	assert_false(session->there);
	assert_int_equal(seen.dropped_peers, 0); /* its descriptor may be another's by now */
	assert_true(link_stream_queued(session->stream) >= PIECE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_client_that_reads_nothing_pauses_its_kernel,
						make_session, remove_session),
		cmocka_unit_test_setup_teardown(
			for_one_that_is_away_more_is_kept_then_dropped_and_told, make_session,
			remove_session),
		cmocka_unit_test_setup_teardown(for_one_that_reads_slowly_nothing_is_dropped,
						make_session, remove_session),
		cmocka_unit_test_setup_teardown(who_stays_away_loses_the_kernel, make_session,
						remove_session),
		cmocka_unit_test_setup_teardown(who_may_not_any_more_is_ended, make_session,
						remove_session),
		cmocka_unit_test_setup_teardown(
			a_connection_that_is_full_is_tried_again_one_that_ended_is_away,
			make_session, remove_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
