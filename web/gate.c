#include "web/gate.h"

#include <errno.h>
#include <openssl/x509.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "web/auth.h"
#include "web/conn.h"
#include "web/eventlog.h"
#include "web/listen.h"
#include "web/metrics.h"
#include "web/request_parts.h"
#include "web/tls.h"
#include "web/users.h"

#define LOG_RATE 20 /* refusals a second that the log names */

/* ---- the log ---- */

/* True when one more line may be written in this second. */
static bool may_log(void)
{
	static int64_t second;
	static unsigned lines, left_out;
	int64_t now = now_ms() / 1000;

	if (now != second) {
		if (left_out)
			event_warning("refused", "left_out=%u", left_out);
		second = now;
		lines = left_out = 0;
	}
	if (lines++ < LOG_RATE)
		return true;
	left_out++;
	return false;
}

void gate_log(const struct request *request, int status)
{
	const char *user = request->user ? request->user->name : "-";
	const char *path = request->path; /* without the query, where a token may be */
	int ms = (int)(now_ms() - request->own->begun);

	if (status == 401 || status == 403 || status == 421 || status == 429) {
		if (may_log())
			event_warning("refused", "method=%s path=%s status=%d user=%s address=%s",
				      request_method(request->method), path, status, user,
				      request->address);
		return;
	}
	event_debug("request", "method=%s path=%s status=%d user=%s address=%s ms=%d",
		    request_method(request->method), path, status, user, request->address, ms);
}

/* ---- where from ---- */

static bool is_trusted(const struct settings *settings, const char *address)
{
	for (size_t i = 0; settings->trusted_proxy[i]; i++)
		if (strcmp(settings->trusted_proxy[i], address) == 0)
			return true;
	return false;
}

/* From the end of one field back to where nobody is trusted. False: there, or at what is none. */
static bool follow_back(struct request *request, const char *list)
{
	const struct settings *settings = &request->server->settings;
	const char *end = list + strlen(list);

	while (end > list && is_trusted(settings, request->address)) {
		const char *item = end;
		char text[64], number[64];

		while (item > list && item[-1] != ',')
			item--;
		item += strspn(item, " \t");
		if (item > end || !parse_copy(text, sizeof(text), item, (size_t)(end - item)))
			return false;
		text[strcspn(text, " \t")] = '\0';
		if (!listen_number(text, number))
			return false;
		(void)snprintf(request->address, sizeof(request->address), "%s", number);
		while (item > list && item[-1] != ',')
			item--;
		end = item > list ? item - 1 : list;
	}
	return is_trusted(settings, request->address);
}

/*
 * The client's address: what the last proxy that is not trusted said is where it came from. A
 * client can write what it likes at the front of X-Forwarded-For, never behind what a trusted proxy
 * appends, be it to the client's field or as one of its own.
 */
static void find_address(struct request *request)
{
	const struct parse_head *head = &request->own->head;

	(void)snprintf(request->address, sizeof(request->address), "%s", request->conn->peer);
	for (size_t i = head->headers; i > 0; i--)
		if (strcmp(head->header[i - 1].name, "x-forwarded-for") == 0 &&
		    !follow_back(request, head->header[i - 1].value))
			return;
}

bool gate_over_tls(const struct request *request)
{
	const struct conn *conn = request->conn;
	const char *list = http_header(request, "x-forwarded-proto");
	size_t size =
		list ? strcspn(list, ", \t") : 0; /* each proxy appends what it was asked by */

	return listen_is_tls(conn->listener) ||
	       (is_trusted(&request->server->settings, conn->peer) && size == 5 &&
		strncasecmp(list, "https", size) == 0);
}

/* ---- Host and Origin ---- */

/* The name in "name:port", "[::1]:port"; false: it is none. */
static bool host_name(const char *host, char out[256])
{
	const char *end;

	if (*host == '[') {
		host++;
		end = strchr(host, ']');
		if (!end || (end[1] != ':' && end[1] != '\0'))
			return false;
	} else {
		end = strchrnul(host, ':');
	}
	return end != host && parse_copy(out, 256, host, (size_t)(end - host));
}

/*
 * Names that are ours. A number is never what DNS rebinding brings: the browser would have to be
 * sent there by it.
 */
static bool host_good(const struct request *request)
{
	const struct server *server = request->server;
	const char *host = http_header(request, "host");
	char name[256], own[256] = "", number[64];

	if (listen_is_unix(request->conn->listener))
		return true;
	if (!host || !host_name(host, name))
		return false;
	if (listen_number(name, number) || strcasecmp(name, "localhost") == 0)
		return true;
	for (size_t i = 0; server->settings.allow_host[i]; i++)
		if (strcasecmp(server->settings.allow_host[i], name) == 0)
			return true;
	if (gethostname(own, sizeof(own) - 1) == 0 && strcasecmp(own, name) == 0)
		return true;
	return server->tls && tls_has_name(server->tls, name);
}

/* True when the request's page is ours, one of --allow-origin, or no page sent it. */
static bool origin_good(struct request *request)
{
	const struct settings *settings = &request->server->settings;
	const char *origin = http_header(request, "origin");
	const char *host = http_header(request, "host");
	const char *rest;

	if (!origin)
		return true;
	rest = strstr(origin, "://");
	if (rest && host && strcasecmp(rest + 3, host) == 0 &&
	    (strncmp(origin, "https://", 8) == 0 ||
	     (strncmp(origin, "http://", 7) == 0 && !listen_is_tls(request->conn->listener))))
		return true; /* over TLS a page that came without it may be anybody's */
	for (size_t i = 0; settings->allow_origin[i]; i++) {
		if (strcmp(settings->allow_origin[i], origin) == 0) {
			http_add_header(request, "Access-Control-Allow-Origin", origin);
			http_add_header(request, "Vary", "Origin");
			return true;
		}
	}
	return false;
}

/* ---- on to the handler ---- */

static void passed(struct request *request)
{
	const struct route *route = request->own->route;
	const struct parse_head *head = &request->own->head;
	size_t most = request_body_max(route);

	if (route->flags & ROUTE_STREAM || (!head->chunked && !head->length)) {
		request->own->held = true;
		route->handler(request);
		return;
	}
	if (head->length > most) {
		http_error(request, 413, NULL, "a body of at most %zu bytes is taken here", most);
		return;
	}
	request->own->held = false; /* while its body comes nobody else has it */
	if (head->expects) {
		static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
		struct iovec part = {(void *)(uintptr_t)text, sizeof(text) - 1};

		(void)conn_write(request->conn, &part, 1);
	}
	conn_set_state(request->conn, CONN_BODY);
	conn_touch(request->conn);
}

static void refuse_user(struct request *request)
{
	http_add_header(request, "WWW-Authenticate", "token");
	http_error(request, 401, NULL,
		   "a token is needed (Authorization: token …), and this is none that is known");
}

static void check_user(struct request *request, const struct user *user)
{
	request->user = user;
	if (!user && request->own->route->who != ROUTE_ANYBODY)
		refuse_user(request);
	else if (request->own->route->who == ROUTE_ADMIN && !(user && user->admin))
		http_error(request, 403, NULL, "this is for administrators");
	else
		passed(request);
}

static void token_answered(void *arg, enum auth_result result, const struct user *user)
{
	struct request *request = arg;

	request->own->held = false;
	if (!request->conn) {
		request_free(request);
		return;
	}
	switch (result) {
	case AUTH_LIMITED:
		http_add_header(request, "Retry-After", "60");
		http_error(request, 429, NULL, "too many wrong tokens came from your address");
		break;
	case AUTH_UNAVAILABLE:
		http_add_header(request, "Retry-After", "5");
		http_error(request, 503, NULL, "the Hub that knows this token does not answer");
		break;
	case AUTH_WRONG:
		refuse_user(request);
		break;
	default:
		check_user(request, user);
	}
}

/* The token of a request, in its head or (of a WebSocket) in its address; NULL: it has none. */
static const char *gate_token(const struct request *request)
{
	const char *header = http_header(request, "authorization");
	const char *query = http_query(request, "token");

	if (header) {
		if (strncasecmp(header, "token ", 6) == 0)
			header += 6;
		else if (strncasecmp(header, "bearer ", 7) == 0)
			header += 7;
		else
			header = ""; /* "token" alone too: clients without one send it */
		header += strspn(header, " ");
		if (*header)
			return header;
	}
	/* Browsers and VS Code have no other place for it there; elsewhere it would end up in
	 * histories and in logs of proxies. */
	if (query && *query && request->own->route->flags & ROUTE_UPGRADE &&
	    http_wants_upgrade(request))
		return query;
	return NULL;
}

static const struct user *known_by_connection(const struct request *request)
{
	const struct conn *conn = request->conn;
	struct users *users = request->server->users;
	const struct user *user = NULL;

	if (listen_is_unix(conn->listener)) {
		user = users_by_uid(users, conn->uid);
		if (!user && (conn->uid == geteuid() || conn->uid == 0))
			user = users_local(users);
	} else if (conn->certificate_name) {
		user = users_by_certificate(users, conn->certificate_name);
	}
	return user;
}

/* The value of the request's cookie; NULL: it has none that counts. */
static const char *find_cookie(const struct request *request, size_t *ret_size)
{
	const char *header = http_header(request, "cookie");

	/* A page of another site can make the browser send it: what changes something has to say
	 * where it comes from, and origin_good has looked at that. */
	if ((request->own->route->flags & ROUTE_UPGRADE ||
	     !(request->method & (HTTP_GET | HTTP_HEAD))) &&
	    !http_header(request, "origin"))
		return NULL;
	return auth_find_cookie(header, AUTH_COOKIE, ret_size);
}

const char *gate_lease(const struct request *request)
{
	const char *token = gate_token(request), *cookie;
	size_t size = 0;

	if (token || known_by_connection(request))
		return token;
	cookie = find_cookie(request, &size);
	return cookie ? auth_cookie_token(request->server->auth, cookie, size) : NULL;
}

static void find_user(struct request *request)
{
	const char *token = gate_token(request), *cookie;
	const struct user *user;
	size_t size = 0;

	if (request->own->route->who == ROUTE_ANYBODY) {
		check_user(request, NULL);
		return;
	}
	if (token) {
		request->own->held = true;
		auth_token(request->server->auth, request->address, token, strlen(token),
			   token_answered, request);
		return;
	}
	user = known_by_connection(request);
	cookie = user ? NULL : find_cookie(request, &size);
	if (cookie) {
		request->own->held = true;
		auth_cookie(request->server->auth, cookie, size, token_answered, request);
		return;
	}
	check_user(request, user);
}

static void refuse_route(struct request *request, unsigned methods)
{
	char allow[128] = "";
	size_t size = 0;

	if (!methods) {
		http_error(request, 404, NULL, "there is nothing of this name");
		return;
	}
	for (unsigned bit = HTTP_GET; bit <= HTTP_OPTIONS; bit <<= 1) {
		const char *name = request_method((enum http_method)bit);

		if (!(methods & bit))
			continue;
		if (size)
			size += parse_copy(allow + size, sizeof(allow) - size, ", ", 2) ? 2u : 0u;
		if (parse_copy(allow + size, sizeof(allow) - size, name, strlen(name)))
			size += strlen(name);
	}
	http_add_header(request, "Allow", allow);
	if (request->method == HTTP_OPTIONS)
		http_empty(request, 204);
	else
		http_error(request, 405, NULL, "this is done with %s", allow);
}

/* What a page of --allow-origin asks before it asks. */
static void answer_preflight(struct request *request)
{
	http_add_header(request, "Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE");
	http_add_header(request, "Access-Control-Allow-Headers", "Authorization, Content-Type");
	http_add_header(request, "Access-Control-Max-Age", "600");
	http_empty(request, 204);
}

/* The base URL without its slash: the page's addresses are relative to it with one. */
static bool send_to_root(struct request *request)
{
	const char *base = request->server->settings.base_url;
	char root[1024];

	if (!*base || strcmp(request->own->head.path, base) != 0)
		return false;
	(void)snprintf(root, sizeof(root), "%s/", base);
	http_add_header(request, "Location", root);
	http_empty(request, 302);
	return true;
}

void gate_enter(struct request *request)
{
	unsigned methods;

	find_address(request);
	if (!host_good(request)) {
		http_error(request, 421, NULL,
			   "this server does not go by that name; --allow-host gives it one");
		return;
	}
	if (!origin_good(request)) {
		http_error(request, 403, NULL,
			   "a page of another site may not ask; --allow-origin lets one");
		return;
	}
	if (send_to_root(request))
		return;
	request->own->route = routes_find(request->method, request->part, request->parts, &methods);
	if (!request->own->route) {
		if (request->method == HTTP_OPTIONS && methods && http_header(request, "origin"))
			answer_preflight(request);
		else
			refuse_route(request, methods);
		return;
	}
	if (request->server->stopping) {
		http_error(request, 503, NULL, "this server is stopping");
		return;
	}
	find_user(request);
}

char *gate_certificate_name(SSL *ssl)
{
	X509 *certificate = SSL_get0_peer_certificate(ssl);
	char name[256];
	int size;

	if (!certificate || SSL_get_verify_result(ssl) != X509_V_OK)
		return NULL;
	size = X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name,
					 sizeof(name));
	/* A NUL inside would make two names of one. */
	return size > 0 && strlen(name) == (size_t)size ? strdup(name) : NULL;
}
