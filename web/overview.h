/*
 * overview: what the page asks: all kernels that this user may see with what they use, their logs,
 * orders to them, and the same of those that have ended. Handlers of web/routes.c. An administrator
 * sees everybody's.
 */
#ifndef WEB_OVERVIEW_H
#define WEB_OVERVIEW_H

struct request;

void overview_kernels(struct request *request); /* GET /api/wall/kernels */
void overview_log(struct request *request);    /* GET /api/wall/kernels/{}/log?q=&blocked=&since= */
void overview_policy(struct request *request); /* GET /api/wall/kernels/{}/policy */
void overview_stop(struct request *request);   /* POST /api/wall/kernels/{}/stop */
void overview_page(struct request *request);   /* GET / and /page/{} */

#endif
