/* Frames as RFC 6455 (5.7) shows them, and those that it forbids. */
#include "web/wsframe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_the_masked_hello_of_the_rfc(void **state)
{
	unsigned char data[] = "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
	struct wsframe frame;

	(void)state;
	for (size_t size = 0; size < 6; size++)
		assert_int_equal(wsframe_read(data, size, &frame), 0);
	assert_int_equal(wsframe_read(data, 11, &frame), 6);
	assert_true(frame.last && frame.opcode == WSFRAME_TEXT && frame.size == 5);
	wsframe_mask(frame.mask, 0, data + 6, 2);
	wsframe_mask(frame.mask, 2, data + 8, 3);
	assert_memory_equal(data + 6, "Hello", 5);
}

static void test_lengths(void **state)
{
	static const uint64_t sizes[] = {0, 125, 126, 65535, 65536, 1ull << 40};
	unsigned char out[WSFRAME_HEAD_MAX];
	struct wsframe frame;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t size = wsframe_write(out, WSFRAME_BINARY, sizes[i]);

		assert_int_equal(wsframe_read(out, size, &frame), -1);
		out[1] |= 0x80; /* as a client writes it */
		assert_int_equal(wsframe_read(out, sizeof(out), &frame), size + 4);
		assert_true(frame.size == sizes[i] && frame.opcode == WSFRAME_BINARY);
	}
}

static void test_violations(void **state)
{
	static const char *const bad[] = {
		"\x81\x05",					/* no mask */
		"\xc1\x85",					/* a reserved bit */
		"\x83\x85",					/* an opcode that is none */
		"\x8b\x85",					/* nor this */
		"\x09\x85",					/* a ping in parts */
		"\x89\xfe\x01\x01....",				/* a long ping */
		"\x82\xfe\x00\x7d....",				/* 125 written as 16 bits */
		"\x82\xff\x80\x01\x01\x01\x01\x01\x01\x01....", /* past 63 bits */
	};
	struct wsframe frame;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(wsframe_read(bad[i],
					      i == 6   ? 8
					      : i == 7 ? 14
						       : 2 + (i == 5) * 6,
					      &frame),
				 -1);
	assert_true(wsframe_code_good(1000) && wsframe_code_good(3000) && wsframe_code_good(4999));
	assert_false(wsframe_code_good(999) || wsframe_code_good(1005) || wsframe_code_good(1006) ||
		     wsframe_code_good(1015) || wsframe_code_good(2999) || wsframe_code_good(5000));
}

static void test_the_mask_in_any_pieces(void **state)
{
	unsigned char mask[4] = {1, 2, 3, 4}, once[100] = {0}, pieces[100] = {0};

	(void)state;
	wsframe_mask(mask, 0, once, sizeof(once));
	for (size_t at = 0, step = 1; at < sizeof(pieces); at += step, step = step % 23 + 1) {
		if (step > sizeof(pieces) - at)
			step = sizeof(pieces) - at;
		wsframe_mask(mask, at, pieces + at, step);
	}
	assert_memory_equal(once, pieces, sizeof(once));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_masked_hello_of_the_rfc),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_violations),
		cmocka_unit_test(test_the_mask_in_any_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
