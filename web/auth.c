#include "web/auth.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <string.h>

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
	unsigned epoch;		 /* the user's then */
	int64_t ends;
};

struct auth {
	struct server *server;
	struct place place[PLACES];
	struct cookie cookie[COOKIES];
	unsigned next_cookie;
};

struct auth *auth_new(struct server *server)
{
	struct auth *auth = calloc(1, sizeof(*auth));

	if (auth)
		auth->server = server;
	return auth;
}

struct auth *auth_free(struct auth *auth)
{
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

struct question {
	struct auth *auth;
	char address[64];
	void (*done)(void *arg, enum auth_result result, const struct user *user);
	void *arg;
};

static void hub_answered(void *arg, bool reached, const struct user *user)
{
	struct question *question = arg;
	enum auth_result result = AUTH_UNAVAILABLE;

	if (reached)
		result = weigh(question->auth, question->address, &user);
	question->done(question->arg, result, user);
	free(question);
}

void auth_token(struct auth *auth, const char *address, const char *token, size_t size,
		void (*done)(void *arg, enum auth_result result, const struct user *user),
		void *arg)
{
	const struct user *user = users_by_token(auth->server->users, token, size);
	struct question *question;
	enum auth_result result;

	if (user || !auth->server->hub) {
		result = weigh(auth, address, &user);
		done(arg, result, user);
		return;
	}
	if (find_place(auth, address)->left < 1000 && !hub_knows(auth->server->hub, token, size)) {
		done(arg, weigh(auth, address, &user), NULL);
		return;
	}
	question = calloc(1, sizeof(*question));
	if (!question) {
		done(arg, AUTH_UNAVAILABLE, NULL);
		return;
	}
	*question = (struct question){.auth = auth, .done = done, .arg = arg};
	(void)snprintf(question->address, sizeof(question->address), "%s", address);
	hub_ask(auth->server->hub, token, size, hub_answered, question);
}

/* ---- cookies ---- */

static bool hash(const char *value, size_t size, unsigned char out[HASH_SIZE])
{
	return EVP_Digest(value, size, out, NULL, EVP_sha256(), NULL) == 1;
}

int auth_cookie_new(struct auth *auth, const struct user *user, char out[AUTH_COOKIE_HEX + 1])
{
	struct cookie *cookie = &auth->cookie[auth->next_cookie++ % COOKIES];
	int code = random_hex(out, AUTH_COOKIE_HEX / 2);

	if (code < 0)
		return code;
	if (!hash(out, AUTH_COOKIE_HEX, cookie->hash))
		return -ENOMEM;
	cookie->user = user;
	cookie->epoch = user->epoch;
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

const struct user *auth_cookie(struct auth *auth, const char *value, size_t size)
{
	struct cookie *cookie = find_cookie(auth, value, size);

	if (!cookie || cookie->ends < now_ms() || cookie->user->disabled ||
	    cookie->epoch != cookie->user->epoch)
		return NULL;
	return cookie->user;
}

void auth_cookie_end(struct auth *auth, const char *value, size_t size)
{
	struct cookie *cookie = find_cookie(auth, value, size);

	if (cookie)
		*cookie = (struct cookie){0};
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
