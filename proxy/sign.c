/*
 * Theory of operation
 *
 * The MAC is fetched and keyed once; per message only its state is reset (EVP_MAC_init(3) with a
 * NULL key keeps the key). The history has the first 64 bits of each accepted digest. Two different
 * messages with equal 64 bits would be taken for a repetition, once in 10^14 messages with a full
 * history.
 */
#include "proxy/sign.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <string.h>

#include "proxy/recent.h"

#define DIGEST_MAX  64
#define DEFAULT_MAC "hmac-sha256"

struct sign {
	EVP_MAC *mac;
	EVP_MAC_CTX *context; /* NULL: the key is empty */
	size_t digest_size;
	struct recent *recent;
};

/* hashlib's names, which jupyter_client takes (getattr(hashlib, name)), and the two that only
 * xeus-zmq uses. */
static const struct hash {
	const char *name;
	const char *openssl;
} hashes[] = {
	{"md5", "MD5"},
	{"sha1", "SHA1"},
	{"sha224", "SHA2-224"},
	{"sha256", "SHA2-256"},
	{"sha384", "SHA2-384"},
	{"sha512", "SHA2-512"},
	{"sha3_224", "SHA3-224"},
	{"sha3_256", "SHA3-256"},
	{"sha3_384", "SHA3-384"},
	{"sha3_512", "SHA3-512"},
	{"blake2b", "BLAKE2B-512"},
	{"blake2s", "BLAKE2S-256"},
	{"blake2b512", "BLAKE2B-512"},
	{"blake2s256", "BLAKE2S-256"},
	{"ripemd160", "RIPEMD160"},
};

static const struct hash *find_hash(const char *scheme)
{
	static const char prefix[] = "hmac-";

	if (strncmp(scheme, prefix, sizeof(prefix) - 1) != 0)
		return NULL;
	for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++)
		if (strcmp(scheme + sizeof(prefix) - 1, hashes[i].name) == 0)
			return &hashes[i];
	return NULL;
}

static int unknown_scheme(const char *scheme, struct err *err)
{
	char known[256] = "";
	char shown[64];
	size_t used = 0;

	for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++)
		used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", i ? ", " : "",
					 hashes[i].name);
	escape_string(shown, sizeof(shown), scheme);
	return err_set(err, -EINVAL, "unknown signature_scheme \"%s\" (known: hmac- and one of %s)",
		       shown, known);
}

/* Keys the MAC. OpenSSL builds may leave md5 or ripemd160 out, which shows only here. */
static int set_key(struct sign *sign, const struct hash *hash, const char *key, size_t key_size,
		   struct err *err)
{
	char *name = strdup(hash->openssl); /* OSSL_PARAM is not const */
	OSSL_PARAM params[2];
	int done = 0;

	if (!name)
		return err_set(err, -ENOMEM, "out of memory");
	params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0);
	params[1] = OSSL_PARAM_construct_end();
	sign->mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	if (sign->mac)
		sign->context = EVP_MAC_CTX_new(sign->mac);
	if (sign->context)
		done = EVP_MAC_init(sign->context, (const unsigned char *)key, key_size, params);
	free(name);
	if (done)
		sign->digest_size = EVP_MAC_CTX_get_mac_size(sign->context);
	if (!done || sign->digest_size == 0 || sign->digest_size > DIGEST_MAX)
		return err_set(err, -EINVAL,
			       "signature_scheme hmac-%s is not offered by this system's OpenSSL",
			       hash->name);
	return 0;
}

int sign_known(const char *scheme, struct err *err)
{
	return find_hash(scheme) ? 0 : unknown_scheme(scheme, err);
}

int sign_new(const char *scheme, const char *key, size_t key_size, struct sign **ret_sign,
	     struct err *err)
{
	const struct hash *hash = find_hash(scheme ? scheme : DEFAULT_MAC);
	struct sign *sign;
	int r = 0;

	if (!hash)
		return unknown_scheme(scheme, err);
	sign = calloc(1, sizeof(*sign));
	if (!sign)
		return err_set(err, -ENOMEM, "out of memory");
	if (key_size > 0) {
		r = set_key(sign, hash, key, key_size, err);
		if (r == 0)
			r = recent_new(&sign->recent, err);
	}
	if (r < 0) {
		sign_free(sign);
		return r;
	}
	*ret_sign = sign;
	return 0;
}

struct sign *sign_free(struct sign *sign)
{
	if (!sign)
		return NULL;
	EVP_MAC_CTX_free(sign->context); /* wipes the key, hmac_free() of the provider */
	EVP_MAC_free(sign->mac);
	recent_free(sign->recent);
	free(sign);
	return NULL;
}

static int digest_parts(struct sign *sign, const struct iovec parts[4],
			unsigned char digest[DIGEST_MAX])
{
	size_t size = 0;

	if (!EVP_MAC_init(sign->context, NULL, 0, NULL))
		return -EIO;
	for (size_t i = 0; i < 4; i++)
		if (parts[i].iov_len > 0 &&
		    !EVP_MAC_update(sign->context, parts[i].iov_base, parts[i].iov_len))
			return -EIO;
	if (!EVP_MAC_final(sign->context, digest, &size, DIGEST_MAX) || size != sign->digest_size)
		return -EIO;
	return 0;
}

static void to_hex(const unsigned char *digest, size_t size, char out[SIGN_HEX_MAX])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < size; i++) {
		out[2 * i] = digits[digest[i] >> 4];
		out[2 * i + 1] = digits[digest[i] & 15];
	}
	out[2 * size] = '\0';
}

int sign_make(struct sign *sign, const struct iovec parts[4], char out[SIGN_HEX_MAX])
{
	unsigned char digest[DIGEST_MAX];
	int r;

	out[0] = '\0';
	if (!sign->context)
		return 0;
	r = digest_parts(sign, parts, digest);
	if (r < 0)
		return r;
	to_hex(digest, sign->digest_size, out);
	return (int)(2 * sign->digest_size);
}

enum sign_verdict sign_check(struct sign *sign, const struct iovec parts[4], struct iovec signature)
{
	unsigned char digest[DIGEST_MAX];
	char hex[SIGN_HEX_MAX];
	uint64_t value;

	if (!sign->context)
		return SIGN_GOOD;
	if (signature.iov_len == 0)
		return SIGN_MISSING;
	if (signature.iov_len != 2 * sign->digest_size || digest_parts(sign, parts, digest) < 0)
		return SIGN_WRONG;
	to_hex(digest, sign->digest_size, hex);
	if (CRYPTO_memcmp(hex, signature.iov_base, signature.iov_len) != 0)
		return SIGN_WRONG;
	memcpy(&value, digest, sizeof(value));
	return recent_add(sign->recent, value) ? SIGN_GOOD : SIGN_REPEATED;
}

const char *sign_verdict_text(enum sign_verdict verdict)
{
	switch (verdict) {
	case SIGN_GOOD:
		return "good";
	case SIGN_MISSING:
		return "missing";
	case SIGN_WRONG:
		return "wrong";
	case SIGN_REPEATED:
		return "repeated";
	case SIGN_VERDICTS:
		break;
	}
	return "unknown";
}
