/* What a client is told again after its connection ended: all that it did not confirm, once in the
 * queue and once on the wire, within bounds, and how much is missing past them. */
#include "web/replay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "web/packet.h"

#define LARGE (1024u * 1024)

static struct replay replay;

static int begin(void **state)
{
	(void)state;
	replay_init(&replay);
	return 0;
}

static int finish(void **state)
{
	(void)state;
	replay_done(&replay);
	return replay.count + replay.bytes + replay.sent_bytes == 0 ? 0 : -1;
}

/* A reply has a number; an output a size, too. */
static void say(enum wall_channel channel, unsigned number, size_t size)
{
	char *content = calloc(1, size + 64);
	struct packet *packet;

	assert_non_null(content);
	(void)snprintf(content, 64, "{\"n\":%u,\"x\":\"", number);
	memset(content + strlen(content), 'x', size);
	(void)snprintf(content + strlen(content), 4, "\"}");
	packet = packet_make(channel, channel == WALL_IOPUB ? "stream" : "execute_reply",
			     (struct iovec){0}, content);
	assert_non_null(packet);
	replay_put(&replay, packet);
	packet_unref(packet);
	free(content);
}

/* The next one has this in its content. */
static void sends(const char *words)
{
	const struct packet *packet = replay_next(&replay);

	assert_non_null(packet);
	assert_non_null(
		memmem(packet->parts[3].iov_base, packet->parts[3].iov_len, words, strlen(words)));
	replay_sent(&replay);
}

static void test_what_was_confirmed_does_not_come_again(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 4; n++)
		say(WALL_IOPUB, n, 0);
	assert_false(replay_unasked(&replay));
	sends("\"n\":1,");
	sends("\"n\":2,");
	assert_true(replay_unasked(&replay));
	assert_int_equal(replay_ask(&replay), 2);
	sends("\"n\":3,");
	assert_false(replay_unasked(&replay)); /* one ping is on its way */
	replay_arrived(&replay, 2);
	assert_true(replay_unasked(&replay));
	replay_take_back(&replay);
	sends("\"n\":3,");
	sends("\"n\":4,");
	assert_null(replay_next(&replay));
	/* A new connection counts anew. */
	assert_int_equal(replay_ask(&replay), 2);
	replay_arrived(&replay, 2);
	replay_take_back(&replay);
	assert_null(replay_next(&replay));
}

static void test_what_was_sent_is_bounded(void **state)
{
	const unsigned kept = REPLAY_BYTES / LARGE - 1; /* each costs a little more */

	(void)state;
	for (unsigned n = 1; n <= kept + 5; n++) {
		say(WALL_IOPUB, n, LARGE);
		sends("");
	}
	for (int i = 0; i < 2; i++) { /* the line comes again like the rest */
		replay_take_back(&replay);
		sends("cellwall: 5 messages of this kernel were dropped");
		sends("\"n\":");
	}
	assert_true(replay.bytes <= REPLAY_BYTES);
}

static void test_what_waits_is_bounded(void **state)
{
	(void)state;
	say(WALL_SHELL, 1000, LARGE);
	for (unsigned n = 1; n <= 40; n++) {
		say(WALL_IOPUB, n, LARGE);
		replay_shorten(&replay);
	}
	assert_true(replay.bytes <= REPLAY_BYTES);
	sends("messages of this kernel were dropped");
	sends("\"n\":1000,"); /* replies stay, and front ends wait for them */
	sends("\"n\":2");     /* the last of the outputs */
	replay_remove(&replay);
	for (unsigned n = 1; n <= 30; n++) { /* replies alone, too many */
		say(WALL_SHELL, n, LARGE);
		replay_shorten(&replay);
	}
	assert_true(replay.bytes <= REPLAY_BYTES);
	for (unsigned n = 0; n < REPLAY_COUNT + 10; n++) {
		say(WALL_IOPUB, n, 0);
		replay_shorten(&replay);
	}
	assert_true(replay.count <= REPLAY_COUNT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_was_confirmed_does_not_come_again, begin,
						finish),
		cmocka_unit_test_setup_teardown(test_what_was_sent_is_bounded, begin, finish),
		cmocka_unit_test_setup_teardown(test_what_waits_is_bounded, begin, finish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
