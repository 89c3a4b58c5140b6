#include "web/login.h"

#include <stdio.h>
#include <string.h>

#include "web/auth.h"
#include "web/gate.h"
#include "web/http.h"
#include "web/server.h"
#include "web/users.h"

static void set_cookie(struct request *request, const char *value, int seconds)
{
	const struct server *server = request->server;
	char text[512];

	(void)snprintf(text, sizeof(text),
		       AUTH_COOKIE "=%s; Path=%s/; Max-Age=%d; HttpOnly; SameSite=Strict%s", value,
		       server->settings.base_url, seconds,
		       gate_over_tls(request) ? "; Secure" : "");
	http_add_header(request, "Set-Cookie", text);
}

/* The token in the body, which the caller gives back; NULL: there is none. */
static json_t *read_token(struct request *request)
{
	json_t *body = NULL, *token = NULL;
	struct err err;

	if (http_body_json(request, &body, &err) == 0)
		token = json_incref(json_object_get(body, "token"));
	json_decref(body);
	if (json_string_length(token) > 0)
		return token;
	json_decref(token);
	return NULL;
}

static bool begin_session(struct request *request, const struct user *user,
			  char value[AUTH_COOKIE_HEX + 1])
{
	json_t *token = request->conn ? read_token(request) : NULL;
	bool good = token && auth_cookie_new(request->server->auth, user, json_string_value(token),
					     value) == 0;

	json_decref(token);
	return good;
}

static void answered(void *arg, enum auth_result result, const struct user *user)
{
	struct request *request = arg;
	char value[AUTH_COOKIE_HEX + 1];

	if (result == AUTH_LIMITED) {
		http_add_header(request, "Retry-After", "60");
		http_error(request, 429, NULL,
			   "too many wrong tokens came from your address; wait a minute");
	} else if (result == AUTH_UNAVAILABLE) {
		http_error(request, 503, NULL, "the Hub that knows this token does not answer");
	} else if (!user) {
		http_error(request, 401, NULL, "this is no token that is known here");
	} else if (!begin_session(request, user, value)) {
		http_error(request, 503, NULL, "no memory");
	} else {
		set_cookie(request, value, AUTH_COOKIE_S);
		http_empty(request, 204);
	}
}

void login_enter(struct request *request)
{
	const char *type = http_header(request, "content-type");
	json_t *token;

	/* A form of another site cannot send this type without asking first. */
	if (!type || strncmp(type, "application/json", 16) != 0) {
		http_error(request, 400, NULL, "Content-Type: application/json is needed");
		return;
	}
	token = read_token(request);
	if (!token)
		http_error(request, 400, NULL, "{\"token\": \"…\"} is needed");
	else
		auth_token(request->server->auth, request->address, json_string_value(token),
			   json_string_length(token), answered, request);
	json_decref(token);
}

void login_leave(struct request *request)
{
	size_t size = 0;
	const char *value = auth_find_cookie(http_header(request, "cookie"), AUTH_COOKIE, &size);

	if (value)
		auth_cookie_end(request->server->auth, value, size);
	if (request->conn)
		set_cookie(request, "", 0);
	http_empty(request, 204);
}

void login_api(struct request *request)
{
	http_json(request, 200, json_pack("{s:s}", "version", CELLWALL_VERSION));
}

void login_me(struct request *request)
{
	const struct user *user = request->user;

	http_json(request, 200,
		  json_pack("{s:{s:s, s:s, s:s, s:s, s:n, s:n}, s:{}, s:b, s:I}", "identity",
			    "username", user->name, "name", user->name, "display_name", user->name,
			    "initials", "", "avatar_url", "color", "permissions", "admin",
			    user->admin, "max_kernels",
			    (json_int_t)server_user_kernels(request->server, user->max_kernels)));
}
