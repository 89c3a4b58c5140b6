/* A kernel that ends by itself comes back, later each time, and in the end does not. The clock is
 * the test's own. */
#include "web/life.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "web/frames.h"
#include "web/loop.h"

int64_t __wrap_now_ms(void);

static int64_t clock_ms = 1000000;
static char directory[] = "/tmp/cellwall-life-XXXXXX";
static struct loop *loop;
static struct kernel *kernel;
static struct {
	struct listener listener;
	char said[16]; /* what a state of the process was */
	unsigned statuses;
} client;

int64_t __wrap_now_ms(void)
{
	return clock_ms;
}

static void take_message(struct listener *listener, struct packet *packet)
{
	const struct iovec type = frames_member(packet->parts[0], "msg_type");
	const struct iovec parent = packet->parts[1], state = packet->parts[3];

	(void)listener;
	if (type.iov_len != 6 || memcmp(type.iov_base, "status", 6) != 0)
		return;
	assert_int_equal(parent.iov_len, 2); /* {} */
	assert_non_null(memmem(state.iov_base, state.iov_len, client.said, strlen(client.said)));
	client.statuses++;
}

/* Comes behind the message. */
static void take_state(struct listener *listener, const char *state)
{
	(void)listener;
	assert_string_equal(state, client.said);
}

static void gone(struct kernel *ended)
{
	(void)ended;
	fail();
}

static int begin(void **state)
{
	struct err err = {0};

	(void)state;
	kernel = calloc(1, sizeof(*kernel));
	if (!kernel || !mkdtemp(directory) || loop_new(&loop, &err) < 0)
		return -1;
	kernel->loop = loop;
	kernel->tally_fd = -1;
	kernel->gone = gone;
	kernel->spec_name = strdup("sleep");
	kernel->owner = strdup("anna");
	kernel->folder = strdup("/");
	kernel->resources = strdup("/");
	kernel->directory = path_join(directory, "k");
	kernel->connection_file = path_join(directory, "k/kernel.json");
	kernel->spec = json_pack("{s:[s,s]}", "argv", "sleep", "100000");
	if (life_begin(kernel, &err) < 0)
		return -1;
	kernel->start_ms = 1; /* as if an earlier one had answered */
	client.listener = (struct listener){.message = take_message, .state = take_state};
	client.statuses = 0;
	return bridge_join(kernel_bridge(kernel), &client.listener);
}

static int finish(void **state)
{
	(void)state;
	bridge_leave(&client.listener);
	kernel = life_free(kernel);
	loop = loop_free(loop);
	(void)rmdir(directory);
	memcpy(strrchr(directory, '-'), "-XXXXXX", 7);
	return 0;
}

static void end_it(const char *said)
{
	const unsigned before = client.statuses;

	(void)snprintf(client.said, sizeof(client.said), "%s", said);
	assert_true(kernel->process.pid > 0);
	assert_int_equal(kill(kernel->process.pid, SIGKILL), 0);
	while (kernel->process.pid > 0)
		assert_int_equal(loop_once(loop, 20, NULL), 0);
	assert_string_equal(kernel->state, said);
	assert_int_equal(client.statuses, before + 1);
}

/* Not a millisecond sooner. */
static void comes_back_after(int64_t ms)
{
	const unsigned restarts = kernel->restarts;

	clock_ms += ms - 1;
	assert_int_equal(loop_once(loop, 0, NULL), 0);
	assert_int_equal(kernel->process.pid, 0);
	clock_ms++;
	assert_int_equal(loop_once(loop, 0, NULL), 0);
	assert_true(kernel->process.pid > 0);
	assert_int_equal(kernel->restarts, restarts + 1);
}

static void test_back_off(void **state)
{
	(void)state;
	for (int64_t ms = 100; ms <= 25600; ms *= 4) {
		end_it("restarting");
		comes_back_after(ms);
	}
	end_it("dead");
	assert_non_null(strstr(kernel->reason, "again and again"));
	clock_ms += 1000000;
	assert_int_equal(loop_once(loop, 0, NULL), 0);
	assert_int_equal(kernel->process.pid, 0);
}

static void test_who_was_stable_begins_anew(void **state)
{
	(void)state;
	end_it("restarting");
	comes_back_after(100);
	end_it("restarting");
	comes_back_after(400);
	clock_ms += 10000;
	end_it("restarting");
	comes_back_after(100);
	end_it("restarting");
	comes_back_after(400);
}

static void test_who_never_answered_is_not_tried_again(void **state)
{
	(void)state;
	kernel->start_ms = 0;
	(void)snprintf(client.said, sizeof(client.said), "dead");
	end_it("dead");
	assert_int_equal(kernel->restarts, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_back_off, begin, finish),
		cmocka_unit_test_setup_teardown(test_who_was_stable_begins_anew, begin, finish),
		cmocka_unit_test_setup_teardown(test_who_never_answered_is_not_tried_again, begin,
						finish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
