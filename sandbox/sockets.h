/*
 * sockets: socket files that a killed proxy left behind.
 */
#ifndef SANDBOX_SOCKETS_H
#define SANDBOX_SOCKETS_H

#include <stdbool.h>

/* Removes the socket file `path` (absolute) when nobody listens there any more; anything else stays
 * as it is, and so does what cannot be removed. Returns false when somebody listens. */
bool sockets_remove_dead(const char *path);

#endif
