/*
 * connection: the connection file a client wrote, and the kernel's own.
 *
 * (jupyter_client docs/kernels.rst, "Connection files"; JEP 106 for the schema: a port is an
 * integer or a string.) In: a path. Out: checked values and ready ZeroMQ endpoints. Read bounded;
 * parsed by jansson; never logs. The key is wiped by connection_done.
 */
#ifndef PROXY_CONNECTION_H
#define PROXY_CONNECTION_H

#include <stddef.h>

#include "sandbox/base.h"
#include "sandbox/wall.h"

#define CONNECTION_FILE_MAX (64 * 1024)
#define ENDPOINT_MAX	    256 /* "ipc://" and a sun_path of 107 bytes, or tcp://[v6]:port */

struct connection {
	char endpoint[WALL_CHANNELS][ENDPOINT_MAX]; /* indexed by enum wall_channel */
	char *ipc_path[WALL_CHANNELS]; /* the socket's path for transport ipc, else NULL */
	char *scheme;		       /* "hmac-sha256" when the file names none */
	char *key;
	size_t key_size;
	char *kernel_name; /* may be NULL */
};

/*
 * Reads and checks. Errors say what and where: missing field, port out of range or used twice,
 * transport that is neither tcp nor ipc, ipc path over 107 bytes, an address that is not loopback
 * together with an empty key, curve_* fields (not supported: says so). Returns 0 or a negative
 * errno.
 */
int connection_read(const char *path, struct connection *ret_connection, struct err *err);
/* The same from text (for fuzzing and tests); `name` is used in messages. */
int connection_parse(const char *name, const char *text, size_t size,
		     struct connection *ret_connection, struct err *err);
void connection_done(struct connection *connection);

/*
 * The text of the inner connection file: transport ipc, ip INSIDE_SOCKETS/INSIDE_IPC_NAME, ports 1
 * to 5 in jupyter_client's order (shell, iopub, stdin, control, hb), hmac-sha256, `key`,
 * kernel_name. Caller frees; NULL: no memory.
 */
char *connection_inner(const char *key, const char *kernel_name);

#endif
