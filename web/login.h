/*
 * login: from a token to a cookie for the page, who one is, and how the server does. Handlers of
 * web/routes.c.
 */
#ifndef WEB_LOGIN_H
#define WEB_LOGIN_H

struct request;

void login_enter(struct request *request); /* POST /login {"token": …} -> 204 and a cookie */
void login_leave(struct request *request); /* POST /logout */
void login_api(struct request *request);   /* GET /api */
void login_me(struct request *request);	   /* GET /api/me */

#endif
