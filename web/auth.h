/*
 * auth: from a token or a cookie to a user, and how often one address may guess.
 *
 * An address has AUTH_BURST wrong tokens at once and one more every AUTH_REFILL_MS; past that its
 * tokens are not looked at, but those of users who were let in from there before (a classroom
 * behind one address is not locked out by one of its members). A Hub's tokens are long and random,
 * and the servers of all its users may share an address: past that the Hub is still asked, about
 * AUTH_ASKED new tokens of an address at a time, and a good one is let in. Cookies are random, of
 * this process alone, and end with it, with the token they came from (of a Hub's it is kept here,
 * to ask again as for the token itself) or after AUTH_COOKIE_S. Never logs.
 */
#ifndef WEB_AUTH_H
#define WEB_AUTH_H

#include <stdbool.h>
#include <stddef.h>

#include "sandbox/base.h"

#define AUTH_BURST	10
#define AUTH_REFILL_MS	6000
#define AUTH_ASKED	4
#define AUTH_COOKIE_S	(12 * 3600)
#define AUTH_COOKIE	"cellwall"
#define AUTH_COOKIE_HEX 64

struct auth;
struct server;
struct user;

enum auth_result {
	AUTH_GOOD,
	AUTH_WRONG,
	AUTH_LIMITED,	 /* too many wrong ones from this address */
	AUTH_UNAVAILABLE /* the Hub does not answer */
};

struct auth *auth_new(struct server *server);
struct auth *auth_free(struct auth *auth); /* accepts NULL; returns NULL */

typedef void auth_done(void *arg, enum auth_result result, const struct user *user);

/* Calls `done` once, at once or later (when a Hub is asked); `user` is NULL unless AUTH_GOOD. */
void auth_token(struct auth *auth, const char *address, const char *token, size_t size,
		auth_done *done, void *arg);

/* What an open connection came with; a connection's user is the one it was then. */
struct auth_lease {
	unsigned epoch; /* the user's then */
	char *token;	/* of a Hub; owned, NULL: none */
};
/* `token` may be NULL. Returns 0 or -ENOMEM. */
int auth_lease_new(struct auth *auth, const struct user *user, const char *token,
		   struct auth_lease *ret_lease);
void auth_lease_end(struct auth_lease *lease);
/* False: the user is gone, or the token is not good any more. Asks the Hub again, for next time. */
bool auth_lease_good(struct auth *auth, const struct user *user, const struct auth_lease *lease);

/* A new session of this user, who came with `token`. Returns 0 or a negative errno. */
int auth_cookie_new(struct auth *auth, const struct user *user, const char *token,
		    char out[AUTH_COOKIE_HEX + 1]);
/* As auth_token, with a cookie's value; AUTH_LIMITED does not come. */
void auth_cookie(struct auth *auth, const char *value, size_t size, auth_done *done, void *arg);
void auth_cookie_end(struct auth *auth, const char *value, size_t size);
/* The Hub's token that it came from; NULL: none. */
const char *auth_cookie_token(struct auth *auth, const char *value, size_t size);
/* The value of a cookie in a Cookie header; NULL: it is not there. */
const char *auth_find_cookie(const char *header, const char *name, size_t *ret_size);

#endif
