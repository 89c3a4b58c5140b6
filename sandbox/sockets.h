/*
 * sockets: socket files that a killed proxy left behind.
 */
#ifndef SANDBOX_SOCKETS_H
#define SANDBOX_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>

#define SOCKETS_MAX 64 /* more than that are left */

/*
 * Removes those of the socket files `paths` (absolute) where nobody listens any more; anything else
 * stays as it is, and so does what cannot be removed. Takes SOCKETS_PAUSE_MS when there are any.
 * Returns false when somebody listens on one.
 */
#define SOCKETS_PAUSE_MS 100
bool sockets_remove_dead(char *const *paths, size_t count);

#endif
