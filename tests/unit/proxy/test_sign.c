#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proxy/sign.h"

#define PART(text)                                                                                 \
	{                                                                                          \
		(void *)(uintptr_t)(text), sizeof(text) - 1                                        \
	}
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char key[] = "a0436f6c-1916-498b-8eb9-e81ab9368e84";
static const struct iovec parts[4] = {PART("{\"msg_id\":\"1\",\"msg_type\":\"execute_request\"}"),
				      PART("{}"), PART("{}"), PART("{\"code\":\"1+1\"}")};

/* python3: h = hmac.new(key, digestmod=NAME); h.update(each part); h.hexdigest() */
static const struct {
	const char *scheme;
	const char *hex;
} vectors[] = {
	{"hmac-md5", "4d6ab49ab96f0db1da025c881ebee020"},
	{"hmac-sha1", "543d25214390f86e4499b9b9b526f44b906d85b5"},
	{"hmac-sha224", "57d76ecd4c9e0721d1dc2bb6fbc503e7089a9e73c28839e2e60e4915"},
	{"hmac-sha256", "6079cf4714507d3fc645a0e9b5ea36d270738502ead09e0f753624a376aff7ce"},
	{"hmac-sha384", "c778a22a18b93c801f45c8cdb09613d473e41563830297a2586331e0d8eb2f23"
			"335515239b4e7e6c347a39bf88921752"},
	{"hmac-sha512", "2ecae81f444a8610d91750fc91db3ff766d7c624c483382567d5bcbe8a383a9c"
			"446b9a497d87dba5ecbea0c4944416342b30a7c2ce2c9b590b53a96879fcfd4f"},
	{"hmac-sha3_224", "e6fb2beaafaa64acc88a5dd3e1577eb328a0686d526096d994cad5c2"},
	{"hmac-sha3_256", "3c22cbcc67653f391239f52e196da537b7273458a51da5befed8777ba1c06744"},
	{"hmac-sha3_384", "b1ad77f74954c412df2bbcf8b5da3217063d99c1ba530aa1559bedc6435811e9"
			  "052b8e9236ca2b16fba7cad64b40aca8"},
	{"hmac-sha3_512", "cd9354d8519e2860cb22e648212d5c3d9fe1f1dfd7eb143440e6da99350c0258"
			  "62852e58bed2a2b2644f960297561650042e59e08c5a7d1a2661877fbc13d9fd"},
	{"hmac-blake2b", "42ac5ec08615d70f7ffa1a3c9be4562f7fcf02fc0fbb5f672d0dca7151a207dc"
			 "4d31c278f8d3932f1aed9cf151fbc5f3911a0b378e830c43b48e44f53c4b1159"},
	{"hmac-blake2s", "0d76b80c3f0dd21dc523871e26b4cec10385817e9bf45e11eeeb9330fde1a5cc"},
	{"hmac-blake2b512", "42ac5ec08615d70f7ffa1a3c9be4562f7fcf02fc0fbb5f672d0dca7151a207dc"
			    "4d31c278f8d3932f1aed9cf151fbc5f3911a0b378e830c43b48e44f53c4b1159"},
	{"hmac-blake2s256", "0d76b80c3f0dd21dc523871e26b4cec10385817e9bf45e11eeeb9330fde1a5cc"},
	{"hmac-ripemd160", "a8f75811d0a75746620c1ac24db393f4d2ef81ff"},
};

static struct iovec text_of(const char *text)
{
	return (struct iovec){(void *)(uintptr_t)text, strlen(text)};
}

static void agrees_with_python(void **state)
{
	char hex[SIGN_HEX_MAX];

	(void)state;
	for (size_t i = 0; i < COUNT(vectors); i++) {
		struct sign *sign = NULL;
		struct err err;

		if (sign_new(vectors[i].scheme, key, strlen(key), &sign, &err) < 0) {
			/* Only what this OpenSSL was built without may be missing. */
			assert_non_null(strstr(err.text, "not offered by this system's OpenSSL"));
			assert_true(strstr(err.text, "ripemd160") || strstr(err.text, "md5"));
			continue;
		}
		/* Twice: the state must be reset between messages. */
		for (int again = 0; again < 2; again++) {
			assert_int_equal(sign_make(sign, parts, hex), strlen(vectors[i].hex));
			assert_string_equal(hex, vectors[i].hex);
		}
		assert_int_equal(sign_check(sign, parts, text_of(vectors[i].hex)), SIGN_GOOD);
		sign_free(sign);
	}
}

static void hashes_a_long_key(void **state)
{
	struct sign *sign = NULL;
	char hex[SIGN_HEX_MAX], long_key[300];

	(void)state;
	memset(long_key, 'k', sizeof(long_key));
	assert_int_equal(sign_new(NULL, long_key, sizeof(long_key), &sign, NULL), 0);
	sign_make(sign, parts, hex);
	assert_string_equal(hex,
			    "126eb4edbe23ad7483d559a10a3981632ccbbc697e6d121b4274c9032dab34df");
	sign_free(sign);
}

static void names_the_known_schemes(void **state)
{
	static const char *const bad[] = {
		"hmac-sha257", "sha256",      "hmac-",	      "",
		"HMAC-SHA256", "hmac-SHA256", "hmac-sha256 ", "hmac-x\n\x1b[31m"};
	struct sign *sign = NULL;
	struct err err;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		assert_int_equal(sign_new(bad[i], key, 4, &sign, &err), -EINVAL);
		assert_non_null(strstr(err.text, "md5, sha1, sha224, sha256"));
		assert_non_null(strstr(err.text, "ripemd160)"));
		assert_null(strchr(err.text, '\x1b'));
		assert_null(sign);
	}
	/* The scheme of an unused key is checked too. */
	assert_int_equal(sign_new("hmac-foo", "", 0, &sign, &err), -EINVAL);
}

static void refuses_what_does_not_match(void **state)
{
	const char *good = vectors[3].hex;
	char changed[SIGN_HEX_MAX];
	struct iovec other[4];
	struct sign *sign = NULL;

	(void)state;
	assert_int_equal(sign_new("hmac-sha256", key, strlen(key), &sign, NULL), 0);
	assert_int_equal(sign_check(sign, parts, (struct iovec){NULL, 0}), SIGN_MISSING);
	for (size_t i = 0; i < strlen(good); i++) {
		snprintf(changed, sizeof(changed), "%s", good);
		changed[i] = changed[i] == '0' ? '1' : '0';
		assert_int_equal(sign_check(sign, parts, text_of(changed)), SIGN_WRONG);
	}
	snprintf(changed, sizeof(changed), "%s", good);
	for (char *c = changed; *c; c++)
		*c = (char)toupper((unsigned char)*c);
	assert_int_equal(sign_check(sign, parts, text_of(changed)), SIGN_WRONG);
	assert_int_equal(sign_check(sign, parts, (struct iovec){(void *)(uintptr_t)good, 63}),
			 SIGN_WRONG);
	assert_int_equal(sign_check(sign, parts, (struct iovec){(void *)(uintptr_t)good, 65}),
			 SIGN_WRONG);
	for (size_t i = 0; i < 4; i++) {
		memcpy(other, parts, sizeof(other));
		other[i] = text_of("{} ");
		assert_int_equal(sign_check(sign, other, text_of(good)), SIGN_WRONG);
	}
	/* None of that has put it into the history. */
	assert_int_equal(sign_check(sign, parts, text_of(good)), SIGN_GOOD);
	assert_int_equal(sign_check(sign, parts, text_of(good)), SIGN_REPEATED);
	assert_null(sign_free(sign));
}

static void takes_everything_with_an_empty_key(void **state)
{
	struct sign *sign = NULL;
	char hex[SIGN_HEX_MAX] = "x";

	(void)state;
	assert_int_equal(sign_new(NULL, NULL, 0, &sign, NULL), 0);
	assert_int_equal(sign_make(sign, parts, hex), 0);
	assert_string_equal(hex, "");
	assert_int_equal(sign_check(sign, parts, (struct iovec){NULL, 0}), SIGN_GOOD);
	assert_int_equal(sign_check(sign, parts, text_of("rubbish")), SIGN_GOOD);
	assert_int_equal(sign_check(sign, parts, text_of("rubbish")), SIGN_GOOD);
	sign_free(sign);
	assert_null(sign_free(NULL));
}

static enum sign_verdict send_number(struct sign *sign, unsigned int number)
{
	char text[16], hex[SIGN_HEX_MAX];
	struct iovec numbered[4] = {{text, 0}, {NULL, 0}, {NULL, 0}, {NULL, 0}};

	numbered[0].iov_len = (size_t)snprintf(text, sizeof(text), "%u", number);
	assert_true(sign_make(sign, numbered, hex) > 0);
	return sign_check(sign, numbered, text_of(hex));
}

/* Three times around the ring: exactly the last 65,536 are known, whatever was removed from the
 * table between. */
static void remembers_the_last_65536(void **state)
{
	enum { WINDOW = 65536, ALL = 3 * WINDOW + 1000 };
	struct sign *sign = NULL;

	(void)state;
	assert_int_equal(sign_new(NULL, key, strlen(key), &sign, NULL), 0);
	for (unsigned int i = 0; i < ALL; i++) {
		assert_int_equal(send_number(sign, i), SIGN_GOOD);
		if (i % 7 == 0)
			assert_int_equal(send_number(sign, i), SIGN_REPEATED);
	}
	for (unsigned int i = ALL - WINDOW; i < ALL; i++)
		assert_int_equal(send_number(sign, i), SIGN_REPEATED);
	/* One that has left the window is taken again, and drives the oldest out. */
	assert_int_equal(send_number(sign, ALL - WINDOW - 1), SIGN_GOOD);
	assert_int_equal(send_number(sign, ALL - WINDOW), SIGN_GOOD);
	assert_int_equal(send_number(sign, ALL - 1), SIGN_REPEATED);
	sign_free(sign);
}

static void names_verdicts(void **state)
{
	(void)state;
	assert_string_equal(sign_verdict_text(SIGN_MISSING), "missing");
	assert_string_equal(sign_verdict_text(SIGN_WRONG), "wrong");
	assert_string_equal(sign_verdict_text(SIGN_REPEATED), "repeated");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_python),
		cmocka_unit_test(hashes_a_long_key),
		cmocka_unit_test(names_the_known_schemes),
		cmocka_unit_test(refuses_what_does_not_match),
		cmocka_unit_test(takes_everything_with_an_empty_key),
		cmocka_unit_test(remembers_the_last_65536),
		cmocka_unit_test(names_verdicts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
