/*
 * gate: whether a request may go on: its Host, its Origin, its route, who asks, and whether this
 * address has guessed too often.
 *
 * In: a request whose head was parsed. Out: the same with `user` and `address` set, on its way to
 * its handler, or answered with a refusal. Logs refusals, never a token. The order: Host (a name
 * that somebody else's DNS can point at us is not ours), route, Origin (a page of another site must
 * not use a cookie or be answered), user.
 */
#ifndef WEB_GATE_H
#define WEB_GATE_H

#include <openssl/ssl.h>
#include <stdbool.h>

struct request;

void gate_enter(struct request *request);
/* The token that lets it in, be it by way of a cookie; NULL: none is known. */
const char *gate_lease(const struct request *request);
/* True when its client came over TLS: to us, or to a proxy that is trusted (X-Forwarded-Proto). */
bool gate_over_tls(const struct request *request);
/* One line about an answer that was given, for the log. */
void gate_log(const struct request *request, int status);
/* The common name of a verified client certificate. Caller frees. NULL: there is none. */
char *gate_certificate_name(SSL *ssl);

#endif
