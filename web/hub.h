/*
 * hub: whether a JupyterHub knows a token, and whose it is (GET HUB/user with that token).
 *
 * Answers are kept HUB_KEEP_MS (refusals HUB_REFUSED_MS), so that a token that the Hub takes back
 * works that long. With scopes (JUPYTERHUB_OAUTH_ACCESS_SCOPES, a JSON list) a token needs one of
 * them. http only: a Hub's API is on its own host or behind what the deployment trusts. The Hub's
 * answer is parsed as a stranger's. Never logs, never blocks after hub_new.
 */
#ifndef WEB_HUB_H
#define WEB_HUB_H

#include <stdbool.h>
#include <stddef.h>

#include "sandbox/base.h"

#define HUB_KEEP_MS    60000
#define HUB_REFUSED_MS 5000
#define HUB_ANSWER_MS  10000

struct hub;
struct server;
struct user;

/* `url` like http://127.0.0.1:8081/hub/api; looks its name up. Returns 0 or a negative errno. */
int hub_new(struct server *server, const char *url, const char *scopes, struct hub **ret_hub,
	    struct err *err);
struct hub *hub_free(struct hub *hub); /* questions are answered with "not reached" */

/* Calls `done` once, at once when the answer is kept. `user` NULL and `reached`: a wrong token. */
void hub_ask(struct hub *hub, const char *token, size_t size,
	     void (*done)(void *arg, bool reached, const struct user *user), void *arg);
/* True when the last answer about this token was a good one, however long ago (of 1024 tokens). */
bool hub_knew(struct hub *hub, const char *token, size_t size);

/* True when the last answer about this token was a refusal (of 1024). */
bool hub_refused(struct hub *hub, const char *token, size_t size);

#endif
