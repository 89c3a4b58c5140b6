#include "sandbox/outbox.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "sandbox/status.h"

static int ends[2];
static struct outbox outbox;
static struct status said;

static int open_pair(void **state)
{
	(void)state;
	memset(&outbox, 0, sizeof(outbox));
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
}

static int close_pair(void **state)
{
	(void)state;
	close_fd(&ends[0]);
	close_fd(&ends[1]);
	return 0;
}

static void put(bool droppable, const char *word, const char *field)
{
	outbox_put(&outbox, ends[0], droppable, word, &field, 1);
}

/* The next packet is this one. */
static void expect(const char *word, const char *field)
{
	assert_int_equal(status_receive(ends[1], &said, NULL), 1);
	assert_string_equal(said.word, word);
	if (field)
		assert_string_equal(said.field[0], field);
}

/* Returns how many went into the socket before it was full. */
static size_t fill(void)
{
	size_t count = 0;

	for (; outbox.dropped == 0; count++)
		put(true, "refused", "name");
	outbox.dropped = 0;
	return count - 1;
}

static void test_room(void **state)
{
	(void)state;
	put(true, "refused", "a\tb");
	put(false, "gone", "0");
	assert_false(outbox_waits(&outbox));
	expect("refused", "a\tb");
	expect("gone", "0");
}

static void test_order(void **state)
{
	size_t count = fill();

	(void)state;
	put(false, "gone", "0");
	put(true, "notice", "lost");
	put(false, "done", "1");
	assert_true(outbox_waits(&outbox));
	/* Room for one: those that wait come before it, and a notice does not pass them. */
	expect("refused", NULL);
	put(true, "refused", "lost too");
	assert_int_equal(outbox.dropped, 2);
	for (size_t i = 1; i < count; i++)
		expect("refused", NULL);
	outbox_flush(&outbox, ends[0]);
	assert_false(outbox_waits(&outbox));
	expect("gone", "0");
	expect("done", "1");
	expect("notice", NULL);
	assert_true(strncmp(said.field[0], "2 messages ", 11) == 0);
}

static void test_bounded(void **state)
{
	int64_t begin;

	(void)state;
	(void)fill();
	for (int i = 0; i < OUTBOX_MAX + 5; i++)
		put(false, "paused", "1");
	assert_int_equal(outbox.count, OUTBOX_MAX);
	assert_int_equal(outbox.dropped, 5);
	begin = now_ms();
	outbox_drain(&outbox, ends[0], begin + 100);
	assert_in_range(now_ms() - begin, 90, 3000);
	/* A peer that is gone is not waited for, and takes everything off. */
	close_fd(&ends[1]);
	outbox_drain(&outbox, ends[0], now_ms() + 20000);
	assert_in_range(now_ms() - begin, 90, 6000);
	assert_int_equal(outbox.count, 0);
}

/* Others than the supervisor wait, but not for ever, on a socket that blocks too. */
static void test_status_send_is_bounded(void **state)
{
	int64_t begin;

	(void)state;
	(void)fill();
	begin = now_ms();
	assert_int_equal(status_send(ends[0], NULL, "notice", "x", NULL), -EAGAIN);
	assert_in_range(now_ms() - begin, STATUS_WAIT_MS - 20, STATUS_WAIT_MS + 4000);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_pair, close_pair)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_room),
		TEST(test_order),
		TEST(test_bounded),
		TEST(test_status_send_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
