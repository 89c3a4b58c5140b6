#include "web/hub.h"

#include <errno.h>
#include <jansson.h>
#include <netdb.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "web/loop.h"
#include "web/parse.h"
#include "web/server.h"
#include "web/users.h"

#define ANSWER_MAX (256u * 1024)
#define ASKED_MAX  64u	 /* questions on their way; more are not reached */
#define KEPT	   1024u /* good answers, and as many refusals: neither pushes out the other */
#define HASH_SIZE  32u

struct kept {
	unsigned char hash[HASH_SIZE];
	const struct user *user; /* NULL: refused, or free */
	int64_t ends;		 /* 0: free */
};

struct question {
	struct hub *hub;
	LIST_ENTRY(question) next;
	unsigned char hash[HASH_SIZE];
	int fd;
	struct watch *watch;
	struct timer *timer;
	char *request;
	size_t request_size, sent;
	char *answer;
	size_t answer_size;
	void (*done)(void *arg, bool reached, const struct user *user);
	void *arg;
};

struct hub {
	struct server *server;
	struct sockaddr_storage address;
	socklen_t address_size;
	char host[256], path[256];
	char *scopes;
	struct kept good[KEPT], refused[KEPT];
	unsigned next_good, next_refused, asked;
	LIST_HEAD(, question) questions;
};

/* ---- making ---- */

static int parse_url(const char *url, char host[256], char port[16], char path[256])
{
	const char *rest, *slash, *colon;

	if (strncmp(url, "http://", 7) != 0)
		return -EINVAL;
	rest = url + 7;
	slash = strchrnul(rest, '/');
	colon = memchr(rest, ':', (size_t)(slash - rest));
	if (!colon)
		colon = slash;
	if (colon == rest || !parse_copy(host, 256, rest, (size_t)(colon - rest)) ||
	    !parse_copy(path, 256, slash, strlen(slash)))
		return -EINVAL;
	if (colon == slash)
		(void)parse_copy(port, 16, "80", 2);
	else if (!parse_copy(port, 16, colon + 1, (size_t)(slash - colon - 1)))
		return -EINVAL;
	while (*path && path[strlen(path) - 1] == '/')
		path[strlen(path) - 1] = '\0';
	return 0;
}

static bool is_list(const char *text)
{
	json_t *list = json_loads(text, 0, NULL), *scope;
	bool good = json_is_array(list);
	size_t i;

	json_array_foreach(list, i, scope) good = good && json_is_string(scope);
	json_decref(list);
	return good;
}

int hub_new(struct server *server, const char *url, const char *scopes, struct hub **ret_hub,
	    struct err *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
	struct hub *hub = calloc(1, sizeof(*hub));
	char port[16];
	int code;

	if (!hub)
		return err_set(err, -ENOMEM, "hub: no memory");
	if (parse_url(url, hub->host, port, hub->path) < 0) {
		free(hub);
		return err_set(err, -EINVAL, "--hub-api %s: like http://127.0.0.1:8081/hub/api",
			       url);
	}
	if (scopes && !is_list(scopes)) {
		free(hub);
		return err_set(err, -EINVAL,
			       "--hub-scopes, or JUPYTERHUB_OAUTH_ACCESS_SCOPES: a JSON list of "
			       "names is needed, not %s",
			       scopes);
	}
	code = getaddrinfo(hub->host, port, &hints, &found);
	if (code != 0) {
		free(hub);
		return err_set(err, -EHOSTUNREACH, "--hub-api %s: %s", url, gai_strerror(code));
	}
	memcpy(&hub->address, found->ai_addr, found->ai_addrlen);
	hub->address_size = found->ai_addrlen;
	freeaddrinfo(found);
	hub->server = server;
	hub->scopes = scopes ? strdup(scopes) : NULL;
	LIST_INIT(&hub->questions);
	*ret_hub = hub;
	return 0;
}

/* ---- questions ---- */

static struct kept *find_kept(struct kept table[KEPT], const unsigned char hash[HASH_SIZE])
{
	struct kept *found = NULL;

	for (unsigned i = 0; i < KEPT; i++)
		if (table[i].ends && CRYPTO_memcmp(table[i].hash, hash, HASH_SIZE) == 0)
			found = &table[i];
	return found;
}

static void keep(struct hub *hub, const unsigned char hash[HASH_SIZE], const struct user *user)
{
	/* One that was good stays there as refused: no flood of wrong ones makes it forgotten. */
	struct kept *kept = find_kept(hub->good, hash);

	if (!kept)
		kept = user ? &hub->good[hub->next_good++ % KEPT] : find_kept(hub->refused, hash);
	if (!kept)
		kept = &hub->refused[hub->next_refused++ % KEPT];
	memcpy(kept->hash, hash, HASH_SIZE);
	kept->user = user;
	kept->ends = now_ms() + (user ? HUB_KEEP_MS : HUB_REFUSED_MS);
}

static void answer(struct question *question, bool reached, const struct user *user)
{
	LIST_REMOVE(question, next);
	question->hub->asked--;
	loop_unwatch(question->watch);
	loop_cancel(question->timer);
	close_fd(&question->fd);
	if (reached)
		keep(question->hub, question->hash, user);
	question->done(question->arg, reached, user);
	if (question->request)
		OPENSSL_cleanse(question->request, question->request_size);
	free(question->request);
	free(question->answer);
	free(question);
}

struct hub *hub_free(struct hub *hub)
{
	struct question *question;

	if (!hub)
		return NULL;
	while ((question = LIST_FIRST(&hub->questions)))
		answer(question, false, NULL);
	free(hub->scopes);
	free(hub);
	return NULL;
}

/* True when one of the scopes that are asked for (a JSON list as text) is among those given. */
static bool has_scope(const char *wanted, const json_t *given)
{
	json_t *list = json_loads(wanted, 0, NULL), *scope, *have;
	size_t i, k;
	bool found = false;

	json_array_foreach(list, i, scope)
	{
		json_array_foreach(given, k, have)
		{
			const char *text = json_string_value(have);

			found = found || (text && json_string_value(scope) &&
					  strcmp(text, json_string_value(scope)) == 0);
		}
	}
	json_decref(list);
	return found;
}

static int read_user(json_t *root, const char *scopes, char name[64], bool *ret_admin)
{
	const char *text = json_string_value(json_object_get(root, "name"));
	const char *kind = json_string_value(json_object_get(root, "kind"));

	if (!text || !users_name_good(text) || (kind && strcmp(kind, "user") != 0))
		return 0;
	if (scopes && !has_scope(scopes, json_object_get(root, "scopes")))
		return 0;
	(void)snprintf(name, 64, "%s", text);
	*ret_admin = json_is_true(json_object_get(root, "admin"));
	return 1;
}

/* Reads the Hub's answer (the whole of it, with its head). 1 with name and admin, 0: a refusal, or
 * -EPROTO. Pure; `scopes` may be NULL. */
static int hub_read(const char *text, size_t size, const char *scopes, char name[64],
		    bool *ret_admin)
{
	const char *body = memmem(text, size, "\r\n\r\n", 4);
	json_t *root;
	int found;

	if (size < 12 || strncmp(text, "HTTP/1.", 7) != 0 || text[8] != ' ' || !body)
		return -EPROTO;
	if (strncmp(text + 9, "401", 3) == 0 || strncmp(text + 9, "403", 3) == 0 ||
	    strncmp(text + 9, "404", 3) == 0)
		return 0;
	if (strncmp(text + 9, "200", 3) != 0)
		return -EPROTO;
	body += 4;
	root = json_loadb(body, size - (size_t)(body - text), JSON_REJECT_DUPLICATES, NULL);
	found = json_is_object(root) ? read_user(root, scopes, name, ret_admin) : -EPROTO;
	json_decref(root);
	return found;
}

static void whole(struct question *question)
{
	struct hub *hub = question->hub;
	const struct user *user = NULL;
	char name[64];
	bool admin = false;
	int found = hub_read(question->answer ? question->answer : "", question->answer_size,
			     hub->scopes, name, &admin);

	if (found == 1)
		user = users_by_hub(hub->server->users, name, admin);
	answer(question, found >= 0, user);
}

static void ready(void *arg, unsigned events)
{
	struct question *question = arg;
	ssize_t count;
	char *more;

	if (question->sent < question->request_size) {
		count = send(question->fd, question->request + question->sent,
			     question->request_size - question->sent, MSG_NOSIGNAL);
		if (count < 0 && errno != EAGAIN && errno != EINTR)
			answer(question, false, NULL);
		else if (count > 0 && (question->sent += (size_t)count) == question->request_size)
			(void)loop_change(question->watch, LOOP_READ);
		return;
	}
	if (!(events & (LOOP_READ | LOOP_HANGUP)))
		return;
	more = realloc(question->answer, question->answer_size + 16384);
	if (!more || question->answer_size > ANSWER_MAX) {
		if (more)
			question->answer = more;
		answer(question, false, NULL);
		return;
	}
	question->answer = more;
	count = recv(question->fd, more + question->answer_size, 16384, 0);
	if (count > 0)
		question->answer_size += (size_t)count;
	else if (count == 0)
		whole(question);
	else if (errno != EAGAIN && errno != EINTR)
		answer(question, false, NULL);
}

static void late(void *arg)
{
	struct question *question = arg;

	question->timer = NULL;
	answer(question, false, NULL);
}

/* HTTP/1.0: the answer ends with the connection and has no chunks. */
static bool begin(struct question *question, const char *token, size_t size)
{
	struct hub *hub = question->hub;

	for (size_t i = 0; i < size; i++)
		if (token[i] <= ' ' || token[i] > '~')
			return false;
	question->request = format_string("GET %s/user HTTP/1.0\r\nHost: %s\r\nAccept: "
					  "application/json\r\nAuthorization: token %.*s\r\n\r\n",
					  hub->path, hub->host, (int)size, token);
	question->fd =
		socket(hub->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (!question->request || question->fd < 0)
		return false;
	question->request_size = strlen(question->request);
	if (connect(question->fd, (struct sockaddr *)&hub->address, hub->address_size) < 0 &&
	    errno != EINPROGRESS)
		return false;
	return loop_after(hub->server->loop, HUB_ANSWER_MS, late, question, &question->timer,
			  NULL) == 0 &&
	       loop_watch(hub->server->loop, question->fd, LOOP_WRITE, ready, question,
			  &question->watch, NULL) == 0;
}

/* What the Hub said a short while ago; NULL: it has to be asked. */
static const struct kept *find_recent(struct hub *hub, const unsigned char hash[HASH_SIZE])
{
	const struct kept *kept = find_kept(hub->good, hash);

	if (!kept)
		kept = find_kept(hub->refused, hash);
	if (!kept || kept->ends <= now_ms() || (kept->user && kept->user->disabled))
		return NULL;
	return kept;
}

bool hub_knew(struct hub *hub, const char *token, size_t size)
{
	unsigned char hash[HASH_SIZE];
	const struct kept *kept = NULL;

	if (EVP_Digest(token, size, hash, NULL, EVP_sha256(), NULL) == 1)
		kept = find_kept(hub->good, hash);
	return kept && kept->user;
}

bool hub_refused(struct hub *hub, const char *token, size_t size)
{
	unsigned char hash[HASH_SIZE];
	const struct kept *kept = NULL;

	if (EVP_Digest(token, size, hash, NULL, EVP_sha256(), NULL) == 1)
		kept = find_kept(hub->good, hash);
	if (!kept && EVP_Digest(token, size, hash, NULL, EVP_sha256(), NULL) == 1)
		kept = find_kept(hub->refused, hash);
	return kept && !kept->user;
}

void hub_ask(struct hub *hub, const char *token, size_t size,
	     void (*done)(void *arg, bool reached, const struct user *user), void *arg)
{
	struct question *question;
	unsigned char hash[HASH_SIZE];
	const struct kept *kept = NULL;

	if (size <= 1024 && EVP_Digest(token, size, hash, NULL, EVP_sha256(), NULL) == 1)
		kept = find_recent(hub, hash);
	if (kept || size > 1024) {
		done(arg, true, kept ? kept->user : NULL);
		return;
	}
	question = hub->asked < ASKED_MAX ? calloc(1, sizeof(*question)) : NULL;
	if (!question) {
		done(arg, false, NULL);
		return;
	}
	*question = (struct question){.hub = hub, .fd = -1, .done = done, .arg = arg};
	memcpy(question->hash, hash, HASH_SIZE);
	hub->asked++;
	LIST_INSERT_HEAD(&hub->questions, question, next);
	if (!begin(question, token, size))
		answer(question, false, NULL);
}
