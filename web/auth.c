#include "web/auth.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <string.h>
#include <sys/queue.h>

#include "web/hub.h"
#include "web/metrics.h"
#include "web/server.h"
#include "web/users.h"

#define PLACES	    1024u /* addresses that are remembered; the one looked at longest ago goes */
#define PLACE_USERS 32u
#define COOKIES	    4096u
#define HASH_SIZE   32u

struct place {
	char address[64];
	int64_t left;			       /* thousandths of a guess */
	int64_t looked;			       /* now_ms() */
	const struct user *known[PLACE_USERS]; /* let in from here */
	unsigned next_known;
};

struct cookie {
	unsigned char hash[HASH_SIZE];
	const struct user *user; /* NULL: free */
	struct auth_lease lease;
	int64_t ends;
};

struct question {
	struct auth *auth;
	LIST_ENTRY(question) next;
	char address[64];
	bool limited; /* no guess was left */
	auth_done *done;
	void *arg;
};

struct auth {
	struct server *server;
	LIST_HEAD(, question) questions;
	struct place place[PLACES];
	struct cookie cookie[COOKIES];
	unsigned next_cookie;
};

struct auth *auth_new(struct server *server)
{
	struct auth *auth = calloc(1, sizeof(*auth));

	if (auth) {
		auth->server = server;
		LIST_INIT(&auth->questions);
	}
	return auth;
}

static void clear_cookie(struct cookie *cookie)
{
	auth_lease_end(&cookie->lease);
	*cookie = (struct cookie){0};
}

struct auth *auth_free(struct auth *auth)
{
	for (unsigned i = 0; auth && i < COOKIES; i++)
		clear_cookie(&auth->cookie[i]);
	free(auth);
	return NULL;
}

/* ---- guesses ---- */

static struct place *find_place(struct auth *auth, const char *address)
{
	struct place *oldest = &auth->place[0], *found = NULL;
	int64_t now = now_ms();

	for (unsigned i = 0; i < PLACES && !found; i++) {
		if (strcmp(auth->place[i].address, address) == 0)
			found = &auth->place[i];
		else if (auth->place[i].looked < oldest->looked)
			oldest = &auth->place[i];
	}
	if (!found) {
		found = oldest;
		*found = (struct place){.left = AUTH_BURST * 1000, .looked = now};
		(void)snprintf(found->address, sizeof(found->address), "%s", address);
	}
	found->left += (now - found->looked) * 1000 / AUTH_REFILL_MS;
	if (found->left > AUTH_BURST * 1000)
		found->left = AUTH_BURST * 1000;
	found->looked = now;
	return found;
}

static bool is_known(const struct place *place, const struct user *user)
{
	for (unsigned i = 0; i < PLACE_USERS; i++)
		if (place->known[i] == user)
			return true;
	return false;
}

/* What a look at the tokens found, weighed with what was guessed from there before. */
static enum auth_result weigh(struct auth *auth, const char *address, const struct user **user)
{
	struct place *place = find_place(auth, address);

	if (place->left < 1000 && (!*user || !is_known(place, *user))) {
		*user = NULL;
		metrics_count(METRIC_LOGINS_LIMITED);
		return AUTH_LIMITED;
	}
	if (!*user) {
		place->left -= 1000;
		metrics_count(METRIC_LOGINS_FAILED);
		return AUTH_WRONG;
	}
	if (!is_known(place, *user))
		place->known[place->next_known++ % PLACE_USERS] = *user;
	return AUTH_GOOD;
}

/* ---- tokens ---- */

static void hub_answered(void *arg, bool reached, const struct user *user)
{
	struct question *question = arg;
	enum auth_result result = AUTH_UNAVAILABLE;

	if (reached && user)
		result = AUTH_GOOD;
	else if (reached)
		result = weigh(question->auth, question->address, &user);
	LIST_REMOVE(question, next);
	question->done(question->arg, result, user);
	free(question);
}

/* How many new tokens from there the Hub is asked about although no guess was left. */
static unsigned count_limited(const struct auth *auth, const char *address)
{
	const struct question *question;
	unsigned count = 0;

	LIST_FOREACH(question, &auth->questions, next)
	{
		if (question->limited && strcmp(question->address, address) == 0)
			count++;
	}
	return count;
}

void auth_token(struct auth *auth, const char *address, const char *token, size_t size,
		auth_done *done, void *arg)
{
	const struct user *user = users_by_token(auth->server->users, token, size);
	struct question *question;
	enum auth_result result;
	bool limited;

	if (user || !auth->server->hub) {
		result = weigh(auth, address, &user);
		done(arg, result, user);
		return;
	}
	limited =
		find_place(auth, address)->left < 1000 && !hub_knew(auth->server->hub, token, size);
	if (limited && count_limited(auth, address) >= AUTH_ASKED) {
		done(arg, weigh(auth, address, &user), NULL);
		return;
	}
	question = calloc(1, sizeof(*question));
	if (!question) {
		done(arg, AUTH_UNAVAILABLE, NULL);
		return;
	}
	*question = (struct question){.auth = auth, .limited = limited, .done = done, .arg = arg};
	(void)snprintf(question->address, sizeof(question->address), "%s", address);
	LIST_INSERT_HEAD(&auth->questions, question, next);
	hub_ask(auth->server->hub, token, size, hub_answered, question);
}

/* ---- what lasts longer than a request ---- */

int auth_lease_new(struct auth *auth, const struct user *user, const char *token,
		   struct auth_lease *ret_lease)
{
	struct auth_lease lease = {.epoch = user->epoch};

	if (token && auth->server->hub &&
	    users_by_token(auth->server->users, token, strlen(token)) != user) {
		lease.token = strdup(token);
		if (!lease.token)
			return -ENOMEM;
	}
	*ret_lease = lease;
	return 0;
}

void auth_lease_end(struct auth_lease *lease)
{
	if (lease->token)
		OPENSSL_cleanse(lease->token, strlen(lease->token));
	free(lease->token);
	*lease = (struct auth_lease){0};
}

static void answered_for_later(void *arg, bool reached, const struct user *user)
{
	(void)arg;
	(void)reached;
	(void)user;
}

bool auth_lease_good(struct auth *auth, const struct user *user, const struct auth_lease *lease)
{
	struct hub *hub = auth->server->hub;

	if (user->disabled || lease->epoch != user->epoch)
		return false;
	if (!lease->token)
		return true;
	hub_ask(hub, lease->token, strlen(lease->token), answered_for_later, NULL);
	return !hub_refused(hub, lease->token, strlen(lease->token));
}

/* ---- cookies ---- */

static bool hash(const char *value, size_t size, unsigned char out[HASH_SIZE])
{
	return EVP_Digest(value, size, out, NULL, EVP_sha256(), NULL) == 1;
}

int auth_cookie_new(struct auth *auth, const struct user *user, const char *token,
		    char out[AUTH_COOKIE_HEX + 1])
{
	struct cookie *cookie = &auth->cookie[auth->next_cookie++ % COOKIES];
	int code = random_hex(out, AUTH_COOKIE_HEX / 2);

	if (code < 0)
		return code;
	clear_cookie(cookie);
	code = auth_lease_new(auth, user, token, &cookie->lease);
	if (code < 0)
		return code;
	if (!hash(out, AUTH_COOKIE_HEX, cookie->hash))
		return -ENOMEM;
	cookie->user = user;
	cookie->ends = now_ms() + AUTH_COOKIE_S * 1000LL;
	return 0;
}

static struct cookie *find_cookie(struct auth *auth, const char *value, size_t size)
{
	unsigned char wanted[HASH_SIZE];
	struct cookie *found = NULL;

	if (size != AUTH_COOKIE_HEX || !hash(value, size, wanted))
		return NULL;
	for (unsigned i = 0; i < COOKIES; i++)
		if (auth->cookie[i].user &&
		    CRYPTO_memcmp(auth->cookie[i].hash, wanted, HASH_SIZE) == 0)
			found = &auth->cookie[i];
	return found;
}

struct check {
	auth_done *done;
	void *arg;
	const struct user *user; /* the cookie's */
};

static void hub_asked_again(void *arg, bool reached, const struct user *user)
{
	struct check *check = arg;

	if (!reached)
		check->done(check->arg, AUTH_UNAVAILABLE, NULL);
	else if (user != check->user)
		check->done(check->arg, AUTH_WRONG, NULL);
	else
		check->done(check->arg, AUTH_GOOD, user);
	free(check);
}

void auth_cookie(struct auth *auth, const char *value, size_t size, auth_done *done, void *arg)
{
	struct cookie *cookie = find_cookie(auth, value, size);
	struct check *check;

	if (!cookie || cookie->ends < now_ms() || cookie->user->disabled ||
	    cookie->lease.epoch != cookie->user->epoch) {
		done(arg, AUTH_WRONG, NULL);
		return;
	}
	if (!cookie->lease.token) {
		done(arg, AUTH_GOOD, cookie->user);
		return;
	}
	check = calloc(1, sizeof(*check));
	if (!check) {
		done(arg, AUTH_UNAVAILABLE, NULL);
		return;
	}
	*check = (struct check){.done = done, .arg = arg, .user = cookie->user};
	hub_ask(auth->server->hub, cookie->lease.token, strlen(cookie->lease.token),
		hub_asked_again, check);
}

const char *auth_cookie_token(struct auth *auth, const char *value, size_t size)
{
	const struct cookie *cookie = find_cookie(auth, value, size);

	return cookie ? cookie->lease.token : NULL;
}

void auth_cookie_end(struct auth *auth, const char *value, size_t size)
{
	struct cookie *cookie = find_cookie(auth, value, size);

	if (cookie)
		clear_cookie(cookie);
}

const char *auth_find_cookie(const char *header, const char *name, size_t *ret_size)
{
	size_t size = strlen(name);

	while (header && *header) {
		header += strspn(header, "; \t");
		if (strncmp(header, name, size) == 0 && header[size] == '=') {
			*ret_size = strcspn(header + size + 1, ";");
			return header + size + 1;
		}
		header += strcspn(header, ";");
	}
	return NULL;
}
