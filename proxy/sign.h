/*
 * sign: message signatures over raw bytes, and the memory of those already seen.
 *
 * Scheme "hmac-<hash>" as in the connection file (jupyter_client session.py): lower-case hex HMAC
 * over header, parent_header, metadata and content; buffers are not covered. An empty key means no
 * signature at all. Compared in constant time (CRYPTO_memcmp(3)); keys are wiped
 * (OPENSSL_cleanse(3)). Never logs.
 */
#ifndef PROXY_SIGN_H
#define PROXY_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "sandbox/base.h"

#define SIGN_HEX_MAX 129 /* the longest digest is 64 bytes; plus NUL */

struct sign;

/* `scheme` NULL means hmac-sha256. Returns 0, or -EINVAL naming the scheme and those that are
 * known. */
int sign_new(const char *scheme, const char *key, size_t key_size, struct sign **ret_sign,
	     struct err *err);
struct sign *sign_free(struct sign *sign); /* accepts NULL; returns NULL */
/* Whether a scheme is one of them, without a key: 0 or -EINVAL, as above. */
int sign_known(const char *scheme, struct err *err);

/* Writes the hex signature of the four parts and a NUL; an empty string for an empty key. Returns
 * its length or -errno. */
int sign_make(struct sign *sign, const struct iovec parts[4], char out[SIGN_HEX_MAX]);

enum sign_verdict { SIGN_GOOD, SIGN_MISSING, SIGN_WRONG, SIGN_REPEATED, SIGN_VERDICTS };
/*
 * Checks one message and remembers its signature: the last 65,536 are kept (as Session's digest
 * history), a repeated one is refused. With an empty key everything is SIGN_GOOD.
 */
enum sign_verdict sign_check(struct sign *sign, const struct iovec parts[4],
			     struct iovec signature);
const char *sign_verdict_text(enum sign_verdict verdict); /* "missing", "wrong", "repeated" */

#endif
