/*
 * near_enclose: what the near end of a link gives up before it hears its host.
 *
 * After near_enclose_files (where the system has Landlock) this process opens no file, binds no TCP
 * port but the connection file's and connects to no port but its host's. After near_enclose_calls
 * it executes nothing, makes no process, and of sockets TCP's alone, see sandbox/confine.h. Never
 * logs.
 */
#ifndef WEB_NEAR_ENCLOSE_H
#define WEB_NEAR_ENCLOSE_H

#include "proxy/connection.h"

/* `port`: of the host. Before libzmq has threads, which would not get it. Returns 0 or a negative
 * errno. */
int near_enclose_files(const struct connection *connection, uint16_t port, struct err *err);
/* After the connection file's sockets are bound. Returns 0 or a negative errno. */
int near_enclose_calls(struct err *err);

#endif
