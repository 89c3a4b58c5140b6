/*
 * tls: the server's certificate, read again on SIGHUP, and what TLS is spoken with: 1.2 and 1.3,
 * no renegotiation, no compression, no tickets.
 */
#ifndef WEB_TLS_H
#define WEB_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "sandbox/base.h"

struct tls;

/*
 * `certificate` and `private_key` are PEM files, `client_ca` (may be NULL) those whose client
 * certificates are accepted; `must`: a client without one is refused. Returns 0 or a negative
 * errno.
 */
int tls_new(const char *certificate, const char *private_key, const char *client_ca, bool must,
	    struct tls **ret_tls, struct err *err);
struct tls *tls_free(struct tls *tls); /* accepts NULL; returns NULL */
/* Reads the files again for connections from now on; on failure all stays as it was. */
int tls_reload(struct tls *tls, struct err *err);
SSL_CTX *tls_context(const struct tls *tls); /* borrowed */
/* True when the certificate is for this name. */
bool tls_has_name(const struct tls *tls, const char *name);
/* Days until the certificate ends; negative: it is over. */
int tls_days_left(const struct tls *tls);
/* SHA-256 of the certificate, "AA:BB:…". */
void tls_fingerprint(const struct tls *tls, char out[96]);

/*
 * For a trial: a key and a certificate for localhost, this host's name and `names` (ends with NULL;
 * names and numbers) in `directory` (made, 0700), unless they are there and good for a day. Caller
 * frees the paths. Returns 0 or a negative errno.
 */
int tls_self_signed(const char *directory, const char *const *names, char **ret_certificate,
		    char **ret_key, struct err *err);

#endif
