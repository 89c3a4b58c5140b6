#include "web/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SELF_DAYS 825 /* what browsers take at the most */

struct tls {
	char *certificate, *private_key, *client_ca;
	bool must;
	SSL_CTX *ctx;
};

static int ssl_error(struct err *err, const char *what)
{
	char text[200] = "no reason given";
	unsigned long code = ERR_get_error();

	if (ERR_SYSTEM_ERROR(code))
		(void)snprintf(text, sizeof(text), "%s", strerrordesc_np(ERR_GET_REASON(code)));
	else if (code)
		ERR_error_string_n(code, text, sizeof(text));
	ERR_clear_error();
	return err_set(err, -EINVAL, "TLS: %s: %s", what, text);
}

/* The key is nobody else's: what others can read is no secret. */
static int check_key_file(const char *path, struct err *err)
{
	struct stat status;

	if (stat(path, &status) < 0)
		return err_errno(err, "TLS: %s", path);
	if (status.st_mode & 007)
		return err_set(err, -EPERM, "TLS: %s can be read by everybody (chmod 600)", path);
	return 0;
}

static int accept_http(SSL *ssl, const unsigned char **out, unsigned char *out_size,
		       const unsigned char *in, unsigned in_size, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";

	(void)ssl;
	(void)arg;
	if (SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_size, ours,
				  sizeof(ours) - 1, in, in_size) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	return SSL_TLSEXT_ERR_OK;
}

static int load(struct tls *tls, SSL_CTX *ctx, struct err *err)
{
	static const unsigned char session[] = "cellwall";

	if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1 ||
	    SSL_CTX_set_session_id_context(ctx, session, sizeof(session) - 1) != 1)
		return ssl_error(err, "settings");
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					 SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE |
					 SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				      SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_set_num_tickets(ctx, 0);
	SSL_CTX_set_alpn_select_cb(ctx, accept_http, NULL);
	if (SSL_CTX_use_certificate_chain_file(ctx, tls->certificate) != 1)
		return ssl_error(err, tls->certificate);
	if (SSL_CTX_use_PrivateKey_file(ctx, tls->private_key, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_check_private_key(ctx) != 1)
		return ssl_error(err, tls->private_key);
	if (tls->client_ca) {
		STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(tls->client_ca);

		if (!names || SSL_CTX_load_verify_file(ctx, tls->client_ca) != 1)
			return ssl_error(err, tls->client_ca);
		SSL_CTX_set_client_CA_list(ctx, names);
		SSL_CTX_set_verify(
			ctx, SSL_VERIFY_PEER | (tls->must ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
			NULL);
		SSL_CTX_set_verify_depth(ctx, 4);
	}
	return 0;
}

int tls_reload(struct tls *tls, struct err *err)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	int code = check_key_file(tls->private_key, err);

	if (!ctx)
		return ssl_error(err, "SSL_CTX_new");
	if (code == 0)
		code = load(tls, ctx, err);
	if (code < 0) {
		SSL_CTX_free(ctx);
		return code;
	}
	SSL_CTX_free(tls->ctx); /* connections that use it hold it */
	tls->ctx = ctx;
	return 0;
}

int tls_new(const char *certificate, const char *private_key, const char *client_ca, bool must,
	    struct tls **ret_tls, struct err *err)
{
	struct tls *tls = calloc(1, sizeof(*tls));
	int code;

	if (!tls)
		return err_set(err, -ENOMEM, "TLS: no memory");
	tls->certificate = strdup(certificate);
	tls->private_key = strdup(private_key);
	tls->client_ca = client_ca ? strdup(client_ca) : NULL;
	tls->must = must;
	code = tls->certificate && tls->private_key && (!client_ca || tls->client_ca)
		       ? tls_reload(tls, err)
		       : err_set(err, -ENOMEM, "TLS: no memory");
	if (code < 0) {
		tls_free(tls);
		return code;
	}
	*ret_tls = tls;
	return 0;
}

struct tls *tls_free(struct tls *tls)
{
	if (!tls)
		return NULL;
	SSL_CTX_free(tls->ctx);
	free(tls->certificate);
	free(tls->private_key);
	free(tls->client_ca);
	free(tls);
	return NULL;
}

SSL_CTX *tls_context(const struct tls *tls)
{
	return tls->ctx;
}

bool tls_has_name(const struct tls *tls, const char *name)
{
	return X509_check_host(SSL_CTX_get0_certificate(tls->ctx), name, 0, 0, NULL) == 1;
}

int tls_days_left(const struct tls *tls)
{
	int days = 0, seconds = 0;

	if (ASN1_TIME_diff(&days, &seconds, NULL,
			   X509_get0_notAfter(SSL_CTX_get0_certificate(tls->ctx))) != 1)
		return -1;
	return days < 0 || seconds < 0 ? -1 : days;
}

void tls_fingerprint(const struct tls *tls, char out[96])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned size = 0;

	out[0] = '\0';
	if (X509_digest(SSL_CTX_get0_certificate(tls->ctx), EVP_sha256(), digest, &size) != 1)
		return;
	for (unsigned i = 0; i < size && i < 32; i++)
		(void)snprintf(out + 3 * i, 4, "%02X%s", digest[i], i + 1 < size ? ":" : "");
}

/* ---- a certificate of one's own ---- */

static bool is_number(const char *name)
{
	struct in6_addr address;

	return inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;
}

static bool is_name(const char *name)
{
	return name[0] &&
	       !name[strspn(name,
			    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")];
}

static int add_name(GENERAL_NAMES *names, const char *name, struct err *err)
{
	const bool number = is_number(name);
	GENERAL_NAME *one = NULL;
	char shown[256];

	if (number || is_name(name))
		one = a2i_GENERAL_NAME(NULL, NULL, NULL, number ? GEN_IPADD : GEN_DNS, name, 0);
	if (one && sk_GENERAL_NAME_push(names, one) > 0)
		return 0;
	GENERAL_NAME_free(one);
	return err_set(err, -EINVAL, "%s: no name for a certificate",
		       escape_string(shown, sizeof(shown), name));
}

static int add_names(X509 *certificate, const char *const *more, struct err *err)
{
	static const char *const always[] = {"localhost", "127.0.0.1", "::1", NULL};
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
	char host[256] = "";
	int code = names ? 0 : ssl_error(err, "the names of the certificate");

	if (gethostname(host, sizeof(host) - 1) == 0 && is_name(host) && code == 0)
		code = add_name(names, host, err);
	for (const char *const *name = always; *name && code == 0; name++)
		code = add_name(names, *name, err);
	for (; *more && code == 0; more++)
		code = add_name(names, *more, err);
	if (code == 0 && X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, 0) != 1)
		code = ssl_error(err, "the names of the certificate");
	GENERAL_NAMES_free(names);
	return code;
}

static X509 *sign_own(EVP_PKEY *key, const char *const *names, struct err *err)
{
	X509 *certificate = X509_new();
	X509_NAME *name = certificate ? X509_get_subject_name(certificate) : NULL;
	uint64_t serial = 0;
	int code = 0;

	if (!name || random_bytes(&serial, sizeof(serial)) < 0 ||
	    X509_set_version(certificate, X509_VERSION_3) != 1 ||
	    ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial >> 1) != 1 ||
	    !X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) ||
	    !X509_time_adj_ex(X509_getm_notAfter(certificate), SELF_DAYS, 0, NULL) ||
	    X509_set_pubkey(certificate, key) != 1 ||
	    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"cellwall",
				       -1, -1, 0) != 1 ||
	    X509_set_issuer_name(certificate, name) != 1)
		code = ssl_error(err, "the certificate");
	if (code == 0)
		code = add_names(certificate, names, err);
	if (code == 0 && X509_sign(certificate, key, EVP_sha256()) == 0)
		code = ssl_error(err, "the certificate");
	if (code == 0)
		return certificate;
	X509_free(certificate);
	return NULL;
}

/* Writes a PEM file (0600) in the place of what is there. */
static int write_pem(const char *path, X509 *certificate, EVP_PKEY *key, struct err *err)
{
	BIO *memory = BIO_new(BIO_s_mem());
	char *data = NULL;
	long size;
	int code;

	if (!memory ||
	    (certificate ? PEM_write_bio_X509(memory, certificate)
			 : PEM_write_bio_PrivateKey(memory, key, NULL, NULL, 0, NULL, NULL)) != 1) {
		BIO_free(memory);
		return ssl_error(err, path);
	}
	size = BIO_get_mem_data(memory, &data);
	(void)unlink(path);
	code = write_new_file(AT_FDCWD, path, 0600, data, (size_t)size, err);
	BIO_free(memory);
	return code;
}

static int make_own(const char *certificate_path, const char *key_path, const char *const *names,
		    struct err *err)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = key ? sign_own(key, names, err) : NULL;
	int code;

	if (!key)
		return ssl_error(err, "a key");
	if (!certificate) {
		EVP_PKEY_free(key);
		return err ? err->code : -EINVAL;
	}
	code = write_pem(key_path, NULL, key, err);
	if (code == 0)
		code = write_pem(certificate_path, certificate, NULL, err);
	X509_free(certificate);
	EVP_PKEY_free(key);
	return code;
}

static bool has_names(const struct tls *tls, const char *const *names)
{
	X509 *certificate = SSL_CTX_get0_certificate(tls->ctx);

	for (; *names; names++)
		if (!tls_has_name(tls, *names) && X509_check_ip_asc(certificate, *names, 0) != 1)
			return false;
	return true;
}

int tls_self_signed(const char *directory, const char *const *names, char **ret_certificate,
		    char **ret_key, struct err *err)
{
	cleanup(free_ptr) char *certificate = path_join(directory, "certificate.pem");
	cleanup(free_ptr) char *key = path_join(directory, "key.pem");
	struct tls *old = NULL;
	bool good;
	int code;

	if (!certificate || !key)
		return err_set(err, -ENOMEM, "TLS: no memory");
	code = make_directories(directory, 0700, err);
	if (code < 0)
		return code;
	good = tls_new(certificate, key, NULL, false, &old, NULL) == 0 && tls_days_left(old) >= 1 &&
	       has_names(old, names);
	tls_free(old);
	if (!good)
		code = make_own(certificate, key, names, err);
	if (code < 0)
		return code;
	*ret_certificate = steal_ptr(&certificate);
	*ret_key = steal_ptr(&key);
	return 0;
}
