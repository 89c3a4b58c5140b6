/*
 * kernel_model: what the REST handlers of kernels and of sessions share.
 */
#ifndef WEB_KERNEL_MODEL_H
#define WEB_KERNEL_MODEL_H

#include <jansson.h>
#include <time.h>

#include "sandbox/base.h"

struct kernel;
struct request;

/* As jupyter_server's: id, name, last_activity, execution_state, connections; NULL: no memory. */
json_t *kernel_model(const struct kernel *kernel);
/* "2024-01-31T12:00:00.000000Z" */
json_t *kernel_time(struct timespec time);

/* The one that the path names: /api/kernels/{} is the request's user's own, /api/wall/kernels/{} an
 * administrator's whoever it belongs to. Answers 404 and returns NULL when there is none. */
struct kernel *kernel_named(struct request *request);
/* Starts a kernel for the request's user by {"name", "env"}. 0 or a negative errno. */
int kernel_order(struct request *request, const json_t *wanted, struct kernel **ret_kernel,
		 struct err *err);
/* Answers with what kernel_order said. */
void kernel_refuse(struct request *request, const struct err *err);

#endif
