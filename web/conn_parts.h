/*
 * conn_parts: what a connection consists of, for its own files alone: conn.c (its life, its turns
 * and what it writes), conn_wire.c (its socket and its TLS), conn_input.c (what its bytes are for).
 */
#ifndef WEB_CONN_PARTS_H
#define WEB_CONN_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct conn;

/* Whether something waits to be written. */
bool conn_writing(const struct conn *conn);

/* Of the TLS. 1: done, 0: goes on later, -1: refused. */
int conn_wire_handshake(struct conn *conn);
/* Bytes written, 0 when there is no room now, or -1. */
ssize_t conn_wire_put(struct conn *conn, const char *data, size_t size);
/* Bytes read, 0: none now, -1: the end. */
ssize_t conn_wire_get(struct conn *conn, char *data, size_t size);

/* Whether its state is one in which bytes are used. */
bool conn_wants_input(const struct conn *conn);
/* Adds `data` to what is kept, uses it as far as the state allows, keeps the rest. False: no
 * memory.
 */
bool conn_use(struct conn *conn, const char *data, size_t size);

#endif
