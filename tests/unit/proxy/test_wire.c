#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "proxy/wire.h"

#define FRAME(text)                                                                                \
	{                                                                                          \
		(void *)(uintptr_t)(text), sizeof(text) - 1                                        \
	}
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void assert_bytes(struct iovec frame, const char *text)
{
	assert_int_equal(frame.iov_len, strlen(text));
	assert_memory_equal(frame.iov_base, text, strlen(text));
}

static void finds_all_parts(void **state)
{
	const struct iovec frames[] = {
		FRAME("client"), FRAME("second"), FRAME("<IDS|MSG>"), FRAME("sig"), FRAME("{h}"),
		FRAME("{p}"),	 FRAME("{m}"),	  FRAME("{c}"),	      FRAME("b0"),  FRAME("")};
	struct wire_msg msg;

	(void)state;
	assert_int_equal(wire_parse(frames, COUNT(frames), &msg, NULL), 0);
	assert_int_equal(msg.identities, 2);
	assert_int_equal(msg.count, 10);
	assert_int_equal(msg.first_buffer, 8);
	assert_bytes(msg.signature, "sig");
	assert_bytes(msg.signed_part[WIRE_HEADER], "{h}");
	assert_bytes(msg.signed_part[WIRE_PARENT], "{p}");
	assert_bytes(msg.signed_part[WIRE_METADATA], "{m}");
	assert_bytes(msg.signed_part[WIRE_CONTENT], "{c}");
	assert_ptr_equal(msg.signed_part[WIRE_CONTENT].iov_base, frames[7].iov_base);
}

static void needs_no_identity_and_no_buffer(void **state)
{
	const struct iovec frames[] = {FRAME("<IDS|MSG>"), FRAME(""),	FRAME("{}"),
				       FRAME("{}"),	   FRAME("{}"), FRAME("{}")};
	struct wire_msg msg;

	(void)state;
	assert_int_equal(wire_parse(frames, COUNT(frames), &msg, NULL), 0);
	assert_int_equal(msg.identities, 0);
	assert_int_equal(msg.first_buffer, 6);
	assert_int_equal(msg.signature.iov_len, 0);
}

/* A buffer may hold any bytes: only the first delimiter counts. */
static void takes_the_first_delimiter(void **state)
{
	const struct iovec frames[] = {FRAME("<IDS|MSG"), FRAME("<IDS|MSG>"), FRAME("s"),
				       FRAME("{}"),	  FRAME("{}"),	      FRAME("{}"),
				       FRAME("{}"),	  FRAME("<IDS|MSG>")};
	struct wire_msg msg;

	(void)state;
	assert_int_equal(wire_parse(frames, COUNT(frames), &msg, NULL), 0);
	assert_int_equal(msg.identities, 1);
	assert_int_equal(msg.first_buffer, 7);
}

static void refuses_what_is_too_short(void **state)
{
	const struct iovec frames[] = {FRAME("id"), FRAME("<IDS|MSG>"), FRAME("s"),
				       FRAME("{}"), FRAME("{}"),	FRAME("{}")};
	struct wire_msg msg;
	struct err err;

	(void)state;
	memset(&msg, 7, sizeof(msg));
	assert_int_equal(wire_parse(frames, COUNT(frames), &msg, &err), -EPROTO);
	assert_string_equal(err.text, "4 frames after the delimiter, at least 5 needed");
	assert_int_equal(wire_parse(frames, 1, &msg, &err), -EPROTO);
	assert_string_equal(err.text, "no <IDS|MSG> delimiter among 1 frames");
	assert_int_equal(wire_parse(frames, 2, &msg, &err), -EPROTO);
	assert_int_equal(wire_parse(NULL, 0, &msg, &err), -EPROTO);
	assert_int_equal(((unsigned char *)&msg)[0], 7); /* untouched on failure */
}

static void takes_empty_frames_without_memory(void **state)
{
	const struct iovec frames[8] = {{NULL, 0}, FRAME("<IDS|MSG>"), {NULL, 0}, {NULL, 0},
					{NULL, 0}, {NULL, 0},	       {NULL, 0}, {NULL, 0}};
	struct wire_msg msg;

	(void)state;
	assert_int_equal(wire_parse(frames, COUNT(frames), &msg, NULL), 0);
	assert_int_equal(msg.first_buffer, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_all_parts),
		cmocka_unit_test(needs_no_identity_and_no_buffer),
		cmocka_unit_test(takes_the_first_delimiter),
		cmocka_unit_test(refuses_what_is_too_short),
		cmocka_unit_test(takes_empty_frames_without_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
