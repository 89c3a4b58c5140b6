/*
 * sockets: socket files that a killed proxy left behind.
 */
#ifndef SANDBOX_SOCKETS_H
#define SANDBOX_SOCKETS_H

/* Removes the socket file `path` (absolute) when nobody listens there any more; anything else stays
 * as it is. Never fails: what cannot be removed is left. */
void sockets_remove_dead(const char *path);

#endif
