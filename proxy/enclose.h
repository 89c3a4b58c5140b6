/*
 * enclose: what the proxy gives up before it touches a client or the wall.
 *
 * In: the plan of a session. After enclose_files (where the system has Landlock) this process opens
 * and makes files only where its clients' sockets, the private directories, staging/out and the
 * audit logs are, and
 * binds no TCP port but the connection file's. After enclose_calls it executes nothing, makes no
 * socket and no process any more, see sandbox/confine.h. Never logs.
 */
#ifndef PROXY_ENCLOSE_H
#define PROXY_ENCLOSE_H

#include "proxy/session.h"

/* After the sandbox was started, which would inherit it, and before libzmq has threads, which would
 * not get it. Returns 0 or a negative errno. */
int enclose_files(const struct session_plan *plan, struct err *err);
/* After the sockets are bound. Returns 0 or a negative errno. */
int enclose_calls(struct err *err);

/* Adds to a ruleset (sandbox/ruleset.h) where each of a connection file's sockets is to be. Returns
 * 0 or a negative errno. */
int enclose_sockets(int ruleset, const struct connection *connection, struct err *err);

/* What holds of this process now, found by trying. */
struct enclosed {
	bool files, calls;
};
struct enclosed enclose_measure(void);

#endif
