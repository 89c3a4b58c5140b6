/* The name that a TLS client asks for: as OpenSSL writes it, cut, changed, and in other ways
 * hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ssl.h>

#include "kernelspec/hello.h"

/* What OpenSSL sends first; returns its size. */
static size_t hello(const char *name, unsigned char *out, size_t room)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(context);
	BIO *in = BIO_new(BIO_s_mem()), *to = BIO_new(BIO_s_mem());
	int size;

	SSL_set_bio(ssl, in, to);
	if (name)
		/* SSL_set_tlsext_host_name, whose cast clang refuses. */
		assert_int_equal(SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME,
					  TLSEXT_NAMETYPE_host_name, (void *)(uintptr_t)name),
				 1);
	assert_int_equal(SSL_connect(ssl), -1);
	size = BIO_read(to, out, (int)room);
	assert_true(size > 0);
	SSL_free(ssl);
	SSL_CTX_free(context);
	return (size_t)size;
}

static void reads_what_clients_send(void **state)
{
	unsigned char data[4096], split[8192];
	char name[HELLO_NAME + 1];
	size_t size = hello("Files.PythonHosted.org", data, sizeof(data)), used = 0;

	(void)state;
	assert_int_equal(hello_name(data, size, name), 0);
	assert_string_equal(name, "files.pythonhosted.org");
	for (size_t i = 0; i < size; i++)
		assert_int_equal(hello_name(data, i, name), -EAGAIN);
	/* in records of 7 bytes, with the first of what follows */
	for (size_t at = 5; at < size; at += 7) {
		size_t part = size - at < 7 ? size - at : 7;

		memcpy(split + used, (unsigned char[]){22, 3, 1, 0, (unsigned char)part}, 5);
		memcpy(split + used + 5, data + at, part);
		used += 5 + part;
	}
	assert_int_equal(hello_name(split, used, name), 0);
	assert_string_equal(name, "files.pythonhosted.org");
	assert_int_equal(hello_name(split, used + 3, name), 0);
	size = hello(NULL, data, sizeof(data));
	assert_int_equal(hello_name(data, size, name), 0);
	assert_string_equal(name, "");
}

/* A ClientHello with these extensions alone. */
static int with(const void *extensions, size_t size, char name[HELLO_NAME + 1])
{
	unsigned char data[1024] = {22, 3, 1, 0, 0, 1, 0, 0, 0, 3, 3};
	size_t at = 11 + 32;

	data[at++] = 0; /* no session */
	memcpy(data + at, (unsigned char[]){0, 2, 0x13, 1, 1, 0}, 6);
	at += 6;
	data[at++] = (unsigned char)(size >> 8);
	data[at++] = (unsigned char)size;
	memcpy(data + at, extensions, size);
	at += size;
	data[3] = (unsigned char)((at - 5) >> 8);
	data[4] = (unsigned char)(at - 5);
	data[7] = (unsigned char)((at - 9) >> 8);
	data[8] = (unsigned char)(at - 9);
	return hello_name(data, at, name);
}
#define WITH(bytes, name) with(bytes, sizeof(bytes) - 1, name)

static void refuses_what_hides_a_name(void **state)
{
	char name[HELLO_NAME + 1];

	(void)state;
	assert_int_equal(WITH("\0\0\0\x06\0\x04\0\0\1a", name), 0);
	assert_string_equal(name, "a");
	/* two names, twice the extension, another type, an encrypted hello, no name's characters */
	assert_int_equal(WITH("\0\0\0\x0a\0\x08\0\0\1a\0\0\1b", name), -EPROTO);
	assert_int_equal(WITH("\0\0\0\x06\0\x04\0\0\1a\0\0\0\x06\0\x04\0\0\1a", name), -EPROTO);
	assert_int_equal(WITH("\0\0\0\x06\0\x04\1\0\1a", name), -EPROTO);
	assert_int_equal(WITH("\0\0\0\x06\0\x04\0\0\1a\xfe\x0d\0\0", name), -EPROTO);
	assert_int_equal(WITH("\0\0\0\x06\0\x04\0\0\1 ", name), -EPROTO);
	assert_int_equal(WITH("\0\0\0\x06\0\x04\0\0\1\0", name), -EPROTO);
	assert_int_equal(WITH("\0\0\0\x05\0\x03\0\0\0", name), -EPROTO);
	assert_int_equal(WITH("\0\0\0\x07\0\x05\0\0\1ab", name), -EPROTO);
	assert_int_equal(WITH("\0\0\0\x09\0\x04\0\0\1a", name), -EPROTO);
	assert_int_equal(hello_name((const unsigned char *)"GET / HTTP/1.1", 14, name), -EPROTO);
	assert_int_equal(hello_name((const unsigned char *)"\x16\3\1\0\0", 5, name), -EPROTO);
	assert_int_equal(hello_name((const unsigned char *)"\x16\3\1\xff\xff", 5, name), -EPROTO);
	assert_int_equal(hello_name((const unsigned char *)"\x16\3\1\0\4\2\0\0\0", 9, name),
			 -EPROTO);
}

static void survives_changed_bytes(void **state)
{
	unsigned char data[4096], changed[4096];
	char name[HELLO_NAME + 1];
	size_t size = hello("index.example", data, sizeof(data));
	const int rounds = getenv("CELLWALL_BRIEF") ? 2000 : 50000;
	uint32_t random = 1;

	(void)state;
	for (int i = 0; i < rounds; i++) {
		memcpy(changed, data, size);
		for (int j = 0; j < 1 + i % 4; j++) {
			random = random * 1664525 + 1013904223;
			changed[(random >> 16) % size] = (unsigned char)(random >> 8);
		}
		if (hello_name(changed, size, name) == 0)
			assert_true(strlen(name) <= HELLO_NAME);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_clients_send),
		cmocka_unit_test(refuses_what_hides_a_name),
		cmocka_unit_test(survives_changed_bytes),
	};

	return cmocka_run_group_tests_name("hello", tests, NULL, NULL);
}
