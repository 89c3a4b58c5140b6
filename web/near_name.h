/*
 * near_name: where the link's host is, asked again for each connection: a laptop moves from one
 * network to another.
 *
 * A name is resolved (getaddrinfo(3)) by a process of its own, which is started before the near end
 * gives up files and sockets (near_enclose.h), knows this one name, and ends with the near end. For
 * a numeric address there is none. All addresses of a name get their turn. What was found last
 * serves when nothing is found. Never logs.
 */
#ifndef WEB_NEAR_NAME_H
#define WEB_NEAR_NAME_H

#include <stdbool.h>

#include "sandbox/base.h"

#define NEAR_ENDPOINT_MAX 128

struct near_name;

/* "HOST:PORT" or "[ADDRESS]:PORT". Returns 0 and the port, or -EINVAL. */
int near_name_port(const char *host, uint16_t *ret_port);

/* `host` as above. Before any thread is started. Returns 0 or a negative errno. */
int near_name_new(const char *host, struct near_name **ret_name, struct err *err);
/* Accepts NULL; returns NULL. */
struct near_name *near_name_free(struct near_name *name);
/* To be polled for reading, or -1. */
int near_name_fd(const struct near_name *name);

/* Asks, unless an answer is on its way. */
void near_name_ask(struct near_name *name);
/*
 * The endpoint of the next address, "tcp://ADDRESS:PORT". Returns 1; 0 when the answer is not here
 * yet; -ENOENT and why when there is no address.
 */
int near_name_take(struct near_name *name, char out[NEAR_ENDPOINT_MAX], struct err *err);

#endif
