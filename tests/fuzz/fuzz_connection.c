/* Any bytes as a connection file: what is taken has five good endpoints, what is refused has one
 * line of reason. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/connection.h"

static void check(const struct connection *connection)
{
	for (size_t i = 0; i < WALL_CHANNELS; i++) {
		bool ipc = connection->ipc_path[i] != NULL;

		if (strncmp(connection->endpoint[i], ipc ? "ipc://" : "tcp://", 6) != 0)
			__builtin_trap();
		if (ipc &&
		    (strlen(connection->ipc_path[i]) > 107 || connection->ipc_path[i][0] == '@' ||
		     strcmp(connection->ipc_path[i], connection->endpoint[i] + 6) != 0))
			__builtin_trap();
		for (size_t j = 0; j < i; j++)
			if (strcmp(connection->endpoint[i], connection->endpoint[j]) == 0)
				__builtin_trap();
	}
	if (!connection->scheme || !connection->key ||
	    strlen(connection->key) != connection->key_size)
		__builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct connection connection;
	struct err err;

	if (connection_parse("fuzz", (const char *)data, size, &connection, &err) < 0) {
		if (strncmp(err.text, "fuzz: ", 6) != 0 || strchr(err.text, '\n'))
			__builtin_trap();
		return 0;
	}
	check(&connection);
	char *inner = connection_inner(connection.key, connection.kernel_name);
	connection_done(&connection);
	if (!inner || connection_parse("inner", inner, strlen(inner), &connection, &err) < 0)
		__builtin_trap();
	check(&connection);
	connection_done(&connection);
	free(inner);
	return 0;
}
