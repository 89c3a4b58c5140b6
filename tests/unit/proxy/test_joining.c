/* joining: pieces of streams that come fast become one message, and nothing else does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/joining.h"
#include "proxy/limits.h"

static struct iovec part(const char *text)
{
	union {
		const void *constant;
		void *plain;
	} view = {.constant = text};

	return (struct iovec){view.plain, strlen(text)};
}

static struct iovec topic;

static struct passage piece(const char *id, const char *parent, const char *name, const char *text)
{
	struct passage passage = {.parts = &topic, .stream = part(name), .text = part(text)};

	topic = part("stream");
	passage.fresh[WIRE_HEADER] = part(id);
	passage.fresh[WIRE_PARENT] = part(parent);
	return passage;
}

static bool add(struct joining *joining, const char *parent, const char *name, const char *text)
{
	const struct passage passage = piece("{id}", parent, name, text);

	return joining_add(joining, &passage, 1000);
}

static bool rate(struct joining *joining, int64_t from, int64_t to, unsigned each, bool all)
{
	for (int64_t now = from; now < to; now++)
		for (unsigned i = 0; i < each; i++)
			if (joining_wants(joining, now) != all)
				return false;
	return true;
}

static void few_go_as_they_are(void **state)
{
	struct joining joining = {0};

	(void)state;
	for (unsigned i = 0; i < JOIN_BURST - 1; i++)
		assert_false(joining_wants(&joining, 1000));
	assert_true(joining_wants(&joining, 1000));
	assert_true(rate(&joining, 1000, 3000, 3, true));
	/* not as soon as one more would be allowed */
	assert_true(joining_wants(&joining, 3010));
	assert_false(joining_wants(&joining, 4000));
	/* below the rate for ever */
	joining = (struct joining){0};
	assert_true(rate(&joining, 1000, 1255, 1, false));
	for (int64_t now = 2000; now < 20000; now += 3)
		assert_false(joining_wants(&joining, now));
	/* a clock that goes back, and one that leaps */
	assert_false(joining_wants(&joining, 5));
	assert_false(joining_wants(&joining, INT64_MAX / 2));
	/* while clients are behind all are joined */
	joining.behind = true;
	assert_true(joining_wants(&joining, INT64_MAX / 2 + 1000));
}

static void one_message(void **state)
{
	struct joining joining = {0};
	struct sign *sign = NULL;
	char signature[SIGN_HEX_MAX];
	struct wall_frame *frame;
	struct iovec content;
	int code;

	(void)state;
	assert_int_equal(sign_new(NULL, "key", 3, &sign, NULL), 0);
	assert_null(joining_take(&joining, sign, &content, &code));
	assert_int_equal(code, 0);
	assert_true(add(&joining, "{parent}", "stdout", "1\\n"));
	assert_int_equal(joining.until, 1000 + JOIN_MS);
	assert_true(add(&joining, "{parent}", "stdout", ""));
	assert_true(add(&joining, "{parent}", "stdout", "2\\n"));
	assert_false(add(&joining, "{parent}", "stderr", "x"));
	assert_false(add(&joining, "{other}", "stdout", "x"));
	assert_false(add(&joining, "{parent}}", "stdout", "x"));
	frame = joining_take(&joining, sign, &content, &code);
	assert_non_null(frame);
	assert_int_equal(joining.until, 0);
	assert_int_equal(frame->count, 7);
	assert_memory_equal(frame->parts[0].iov_base, "stream", 6);
	assert_memory_equal(frame->parts[1].iov_base, "<IDS|MSG>", 9);
	assert_int_equal(sign_make(sign, &frame->parts[3], signature), 64);
	assert_memory_equal(frame->parts[2].iov_base, signature, 64);
	assert_memory_equal(frame->parts[3].iov_base, "{id}", 4);
	assert_memory_equal(frame->parts[4].iov_base, "{parent}", 8);
	assert_memory_equal(frame->parts[5].iov_base, "{}", 2);
	assert_int_equal(content.iov_len, 36);
	assert_memory_equal(content.iov_base, "{\"name\": \"stdout\", \"text\": \"1\\n2\\n\"}", 36);
	wall_frame_unref(frame);
	/* the other one begins anew */
	assert_true(add(&joining, "{parent}", "stderr", "x"));
	joining_done(&joining);
	sign_free(sign);
}

static void has_an_end(void **state)
{
	static char text[JOIN_PIECE + 1];
	struct joining joining = {0};
	unsigned added = 0;

	(void)state;
	memset(text, 'x', JOIN_PIECE);
	while (add(&joining, "{}", "stdout", text))
		added++;
	assert_in_range(added, JOIN_MAX / JOIN_PIECE - 1, JOIN_MAX / JOIN_PIECE);
	assert_true(joining.room <= 2 * JOIN_MAX);
	joining_done(&joining);
	joining = (struct joining){0};
	for (unsigned i = 0; i < JOIN_MOVES; i++)
		assert_true(add(&joining, "{}", "stdout", i % 2 ? "\\rx" : "\\\\x\\bx"));
	assert_true(add(&joining, "{}", "stdout", "\\\\r \\n"));
	assert_false(add(&joining, "{}", "stdout", "\\r"));
	joining_done(&joining);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(few_go_as_they_are),
		cmocka_unit_test(one_message),
		cmocka_unit_test(has_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
