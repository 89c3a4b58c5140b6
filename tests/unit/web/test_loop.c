/* The event loop: order of timers, and what may be taken away while it runs. */
#include "web/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

struct side {
	struct loop *loop;
	struct watch *watch;
	struct side *other;
	int calls;
	int fd;
};

static char order[16];
static size_t ordered;

static void note(void *arg)
{
	order[ordered++] = *(const char *)arg;
}

static void unwatch_both(void *arg, unsigned events)
{
	struct side *side = arg;

	assert_true(events & LOOP_READ);
	side->calls++;
	side->watch = loop_unwatch(side->watch);
	side->other->watch = loop_unwatch(side->other->watch);
}

static void test_unwatched_is_not_called(void **state)
{
	struct loop *loop;
	struct side side[2];
	int pipes[2][2];

	(void)state;
	assert_int_equal(loop_new(&loop, NULL), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pipe(pipes[i]), 0);
		side[i] = (struct side){.loop = loop, .other = &side[1 - i], .fd = pipes[i][0]};
		assert_int_equal(write(pipes[i][1], "x", 1), 1);
		assert_int_equal(loop_watch(loop, pipes[i][0], LOOP_READ, unwatch_both, &side[i],
					    &side[i].watch, NULL),
				 0);
	}
	/* Both are ready in one round; the first takes both away. */
	assert_int_equal(loop_once(loop, 1000, NULL), 0);
	assert_int_equal(loop_once(loop, 0, NULL), 0);
	assert_int_equal(side[0].calls + side[1].calls, 1);
	for (int i = 0; i < 2; i++) {
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
	loop_free(loop);
}

static void test_timers_in_order(void **state)
{
	struct loop *loop;
	struct timer *timer[5];
	static const char *const names[] = {"a", "b", "c", "d", "e"};
	static const int64_t times[] = {-1000000, -3000000, -2000000, 0, -1500000};

	(void)state;
	ordered = 0;
	assert_int_equal(loop_new(&loop, NULL), 0);
	for (int i = 0; i < 5; i++)
		assert_int_equal(loop_after(loop, times[i], note, (void *)(uintptr_t)names[i],
					    &timer[i], NULL),
				 0);
	loop_cancel(timer[2]);
	loop_again(timer[3], 0);
	while (ordered < 4)
		assert_int_equal(loop_once(loop, -1, NULL), 0);
	assert_string_equal(order, "bead");
	loop_free(loop);
}

static void again(void *arg)
{
	struct side *side = arg;
	struct timer *timer;

	side->calls++;
	assert_int_equal(loop_after(side->loop, 0, again, side, &timer, NULL), 0);
}

static void test_a_timer_that_sets_itself_does_not_keep_the_round(void **state)
{
	struct side side = {0};

	(void)state;
	assert_int_equal(loop_new(&side.loop, NULL), 0);
	again(&side);
	assert_int_equal(loop_once(side.loop, -1, NULL), 0);
	assert_int_equal(side.calls, 2);
	loop_free(side.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unwatched_is_not_called),
		cmocka_unit_test(test_timers_in_order),
		cmocka_unit_test(test_a_timer_that_sets_itself_does_not_keep_the_round),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
