/*
 * kernels_api: the REST side of kernels, kernelspecs and sessions, as jupyter_server has it
 * (jupyter_server services/api/api.yaml), for the GatewayClient of jupyter_server and for clients
 * that come directly.
 *
 * Handlers for the table in routes.c: each is given a request that was allowed, and answers it. A
 * user sees her own kernels alone, an administrator too: others' are on the page. A session is a
 * name for a kernel and lives as long as it, in memory.
 */
#ifndef WEB_KERNELS_API_H
#define WEB_KERNELS_API_H

#include "sandbox/base.h"

struct request;
struct server;

/* Fills server->specs, kernels and zmq by its settings; base URL, loop, run_directory and data have
 * to be there. 0 or -errno. */
int kernels_api_begin(struct server *server, struct err *err);
/* Ends what still runs. */
void kernels_api_end(struct server *server);

void kernels_api_list(struct request *request);	     /* GET /api/kernels */
void kernels_api_start(struct request *request);     /* POST /api/kernels */
void kernels_api_get(struct request *request);	     /* GET /api/kernels/{} */
void kernels_api_delete(struct request *request);    /* DELETE /api/kernels/{} */
void kernels_api_interrupt(struct request *request); /* POST /api/kernels/{}/interrupt */
void kernels_api_restart(struct request *request);   /* POST /api/kernels/{}/restart */
void kernels_api_channels(struct request *request);  /* GET /api/kernels/{}/channels: WebSocket */
void kernels_api_specs(struct request *request);     /* GET /api/kernelspecs */
void kernels_api_spec(struct request *request);	     /* GET /api/kernelspecs/{} */
void kernels_api_file(struct request *request);	     /* GET /kernelspecs/{}/{} */
void kernels_api_status(struct request *request);    /* GET /api/status */

void sessions_api_list(struct request *request);   /* GET /api/sessions */
void sessions_api_start(struct request *request);  /* POST /api/sessions */
void sessions_api_get(struct request *request);	   /* GET /api/sessions/{} */
void sessions_api_change(struct request *request); /* PATCH /api/sessions/{} */
void sessions_api_delete(struct request *request); /* DELETE /api/sessions/{} */

#endif
