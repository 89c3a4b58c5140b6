#include "proxy/connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "proxy/header.h"
#include "proxy/sign.h"
#include "sandbox/spec.h"

#define IPC_PATH_MAX   (sizeof(((struct sockaddr_un *)0)->sun_path) - 1) /* 107, unix(7) */
#define DEFAULT_SCHEME "hmac-sha256"

enum { TCP_PORT_MAX = 65535, IPC_PORT_MAX = INT_MAX };

static const char *const port_field[WALL_CHANNELS] = {
	[WALL_SHELL] = "shell_port", [WALL_CONTROL] = "control_port", [WALL_STDIN] = "stdin_port",
	[WALL_IOPUB] = "iopub_port", [WALL_HB] = "hb_port",
};

/* The order in which jupyter_client numbers the channels of an ipc connection. */
static const enum wall_channel inner_order[WALL_CHANNELS] = {
	WALL_SHELL, WALL_IOPUB, WALL_STDIN, WALL_CONTROL, WALL_HB,
};

/* A string in the file's JSON may hold the key: overwritten before the memory is given back. */
static void wipe_string(const json_t *value)
{
	if (json_is_string(value))
		OPENSSL_cleanse((void *)(uintptr_t)json_string_value(value),
				json_string_length(value));
}

static void json_done(json_t **object)
{
	if (!*object)
		return;
	wipe_string(json_object_get(*object, "key"));
	json_decref(*object);
}

/* The string of a field, or NULL with `err` filled. */
static const char *need_string(json_t *object, const char *field, struct err *err)
{
	const json_t *value = json_object_get(object, field);

	if (!value)
		err_set(err, -EINVAL, "%s is missing", field);
	else if (!json_is_string(value))
		err_set(err, -EINVAL, "%s is not a string", field);
	else
		return json_string_value(value);
	return NULL;
}

/* A string field that may be absent, null or empty: then NULL. Returns 0 or -EINVAL. */
static int maybe_string(json_t *object, const char *field, const char **ret_text, struct err *err)
{
	const json_t *value = json_object_get(object, field);

	if (value && !json_is_null(value) && !json_is_string(value))
		return err_set(err, -EINVAL, "%s is not a string", field);
	*ret_text = json_is_string(value) && json_string_length(value) > 0
			    ? json_string_value(value)
			    : NULL;
	return 0;
}

/* An integer or its decimal string (enhancement proposal 106). */
static int read_port(json_t *object, const char *field, uint64_t max, uint64_t *ret_port,
		     struct err *err)
{
	const json_t *value = json_object_get(object, field);
	uint64_t port = 0;

	if (!value)
		return err_set(err, -EINVAL, "%s is missing", field);
	if (json_is_integer(value) && json_integer_value(value) > 0)
		port = (uint64_t)json_integer_value(value);
	else if (json_is_string(value) && parse_u64(json_string_value(value), max, &port) < 0)
		port = 0;
	if (port < 1 || port > max)
		return err_set(err, -EINVAL, "%s is not a port number from 1 to %" PRIu64, field,
			       max);
	*ret_port = port;
	return 0;
}

static int read_ports(json_t *object, uint64_t max, uint64_t ports[WALL_CHANNELS], struct err *err)
{
	for (size_t i = 0; i < WALL_CHANNELS; i++) {
		int r = read_port(object, port_field[i], max, &ports[i], err);

		if (r < 0)
			return r;
		for (size_t j = 0; j < i; j++)
			if (ports[j] == ports[i])
				return err_set(err, -EINVAL, "%s and %s are both %" PRIu64,
					       port_field[j], port_field[i], ports[i]);
	}
	return 0;
}

/*
 * What a ZeroMQ endpoint needs for the address a client gave: a literal, so that no name is ever
 * looked up. Brackets around an IPv6 address are taken, because clients paste the text in front of
 * ":port".
 */
static int literal_address(const char *ip, char out[INET6_ADDRSTRLEN + 2], bool *ret_loopback,
			   struct err *err)
{
	char bare[INET6_ADDRSTRLEN], shown[80];
	struct in_addr v4;
	struct in6_addr v6;
	size_t length = strlen(ip);

	*ret_loopback = false;
	if (strcmp(ip, "*") == 0) {
		memcpy(out, "*", 2);
		return 0;
	}
	if (strcmp(ip, "localhost") == 0)
		ip = "127.0.0.1";
	if (inet_pton(AF_INET, ip, &v4) == 1) {
		*ret_loopback = (ntohl(v4.s_addr) >> 24) == IN_LOOPBACKNET;
		inet_ntop(AF_INET, &v4, out, INET6_ADDRSTRLEN);
		return 0;
	}
	if (length > 2 && ip[0] == '[' && ip[length - 1] == ']' && length - 2 < sizeof(bare)) {
		memcpy(bare, ip + 1, length - 2);
		bare[length - 2] = '\0';
		ip = bare;
	}
	if (inet_pton(AF_INET6, ip, &v6) == 1) {
		*ret_loopback = IN6_IS_ADDR_LOOPBACK(&v6) ||
				(IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == IN_LOOPBACKNET);
		out[0] = '[';
		inet_ntop(AF_INET6, &v6, out + 1, INET6_ADDRSTRLEN);
		strncat(out, "]", 2);
		return 0;
	}
	escape_string(shown, sizeof(shown), ip);
	return err_set(err, -EINVAL,
		       "ip \"%s\" is not a literal address (such as 127.0.0.1 or ::1)", shown);
}

static int tcp_endpoints(const char *ip, const uint64_t ports[WALL_CHANNELS],
			 struct connection *connection, struct err *err)
{
	char address[INET6_ADDRSTRLEN + 2];
	bool loopback;
	int r;

	r = literal_address(ip, address, &loopback, err);
	if (r < 0)
		return r;
	if (!loopback && connection->key_size == 0)
		return err_set(
			err, -EPERM,
			"ip %s is not loopback and key is empty: anybody on the network could "
			"run code in the kernel; use 127.0.0.1, or a key",
			address);
	for (size_t i = 0; i < WALL_CHANNELS; i++)
		(void)snprintf(connection->endpoint[i], ENDPOINT_MAX, "tcp://%s:%" PRIu64, address,
			       ports[i]);
	return 0;
}

/*
 * jupyter_client: "<ip>-<port>", relative to the working directory when it does not begin with a
 * slash. libzmq takes a leading "@" for an abstract name, which has no owner and no mode: any
 * process on the host could connect.
 */
static int ipc_endpoints(const char *ip, const uint64_t ports[WALL_CHANNELS],
			 struct connection *connection, struct err *err)
{
	if (ip[0] == '\0')
		return err_set(err, -EINVAL,
			       "ip is empty: for transport ipc it is the path of the sockets");
	if (ip[0] == '@')
		return err_set(
			err, -EINVAL,
			"ip begins with \"@\": abstract sockets are open to every local user");
	for (size_t i = 0; i < WALL_CHANNELS; i++) {
		char *path = format_string("%s-%" PRIu64, ip, ports[i]);

		if (!path)
			return err_set(err, -ENOMEM, "out of memory");
		connection->ipc_path[i] = path;
		if (strlen(path) > IPC_PATH_MAX)
			return err_set(
				err, -ENAMETOOLONG,
				"the ipc socket path for %s has %zu bytes, at most %zu (unix(7)): "
				"start the server with a shorter runtime directory "
				"(JUPYTER_RUNTIME_DIR)",
				port_field[i], strlen(path), IPC_PATH_MAX);
		(void)snprintf(connection->endpoint[i], ENDPOINT_MAX, "ipc://%s", path);
	}
	return 0;
}

static int read_endpoints(json_t *object, struct connection *connection, struct err *err)
{
	uint64_t ports[WALL_CHANNELS] = {0};
	const char *transport = need_string(object, "transport", err);
	const char *ip = transport ? need_string(object, "ip", err) : NULL;
	char shown[40];
	int r;

	if (!transport || !ip)
		return -EINVAL;
	if (strcmp(transport, "tcp") != 0 && strcmp(transport, "ipc") != 0) {
		escape_string(shown, sizeof(shown), transport);
		return err_set(err, -EINVAL, "transport \"%s\" is neither tcp nor ipc", shown);
	}
	if (strcmp(transport, "tcp") == 0) {
		r = read_ports(object, TCP_PORT_MAX, ports, err);
		return r < 0 ? r : tcp_endpoints(ip, ports, connection, err);
	}
	r = read_ports(object, IPC_PORT_MAX, ports, err);
	return r < 0 ? r : ipc_endpoints(ip, ports, connection, err);
}

/* The server wants CURVE (jupyter_client 8.9): plain sockets would only hang its clients, so say it
 * at once. */
static int refuse_curve(json_t *object, struct err *err)
{
	static const char *const fields[] = {"curve_publickey", "curve_secretkey"};

	for (size_t i = 0; i < 2; i++) {
		const json_t *value = json_object_get(object, fields[i]);

		if (value && !json_is_null(value))
			return err_set(
				err, -ENOTSUP,
				"%s is set, but encrypted transport is not supported: start the "
				"server with --MappingKernelManager.transport_encryption=disabled "
				"(or --KernelManager.transport_encryption=disabled)",
				fields[i]);
	}
	return 0;
}

static int read_object(json_t *object, struct connection *connection, struct err *err)
{
	const char *key, *scheme = NULL, *kernel_name = NULL;
	int r;

	r = refuse_curve(object, err);
	if (r < 0)
		return r;
	key = need_string(object, "key", err);
	if (!key)
		return -EINVAL;
	r = maybe_string(object, "signature_scheme", &scheme, err);
	if (r == 0)
		r = maybe_string(object, "kernel_name", &kernel_name, err);
	if (r < 0)
		return r;
	connection->key = strdup(key);
	connection->scheme = strdup(scheme ? scheme : DEFAULT_SCHEME);
	if (kernel_name)
		connection->kernel_name = strdup(kernel_name);
	if (!connection->key || !connection->scheme || (kernel_name && !connection->kernel_name))
		return err_set(err, -ENOMEM, "out of memory");
	connection->key_size = strlen(connection->key);
	r = sign_known(connection->scheme, err);
	return r < 0 ? r : read_endpoints(object, connection, err);
}

static int parse_text(const char *text, size_t size, struct connection *connection, struct err *err)
{
	cleanup(json_done) json_t *object = NULL;
	json_error_t error;

	if (size > CONNECTION_FILE_MAX)
		return err_set(err, -EFBIG, "longer than %d bytes", CONNECTION_FILE_MAX);
	object = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
	/* jansson's own text quotes what it found, which may be the key. */
	if (!object)
		return err_set(err, -EINVAL, "not valid JSON at line %d, column %d", error.line,
			       error.column);
	if (!json_is_object(object))
		return err_set(err, -EINVAL, "not a JSON object");
	return read_object(object, connection, err);
}

int connection_parse(const char *name, const char *text, size_t size,
		     struct connection *ret_connection, struct err *err)
{
	struct connection connection = {0};
	char shown[200];
	int r;

	r = parse_text(text, size, &connection, err);
	if (r < 0) {
		connection_done(&connection);
		escape_string(shown, sizeof(shown), name);
		err_wrap(err, "%s", shown);
		return r;
	}
	*ret_connection = connection;
	return 0;
}

int connection_read(const char *path, struct connection *ret_connection, struct err *err)
{
	struct stat status;
	char *text = NULL;
	char shown[200];
	size_t size = 0;
	int r;

	escape_string(shown, sizeof(shown), path);
	/* Opening a fifo would wait for a writer for ever. */
	if (stat(path, &status) < 0)
		return err_errno(err, "connection file %s", shown);
	if (!S_ISREG(status.st_mode))
		return err_set(err, -EINVAL, "connection file %s is not a regular file", shown);
	r = read_file(AT_FDCWD, path, CONNECTION_FILE_MAX, &text, &size, err);
	if (r < 0) {
		err_wrap(err, "connection file");
		return r;
	}
	r = connection_parse(path, text, size, ret_connection, err);
	OPENSSL_cleanse(text, size);
	free(text);
	return r;
}

void connection_done(struct connection *connection)
{
	for (size_t i = 0; i < WALL_CHANNELS; i++)
		free(connection->ipc_path[i]);
	if (connection->key)
		OPENSSL_cleanse(connection->key, connection->key_size);
	free(connection->key);
	free(connection->scheme);
	free(connection->kernel_name);
	*connection = (struct connection){0};
}

static void wipe_literal(char **text)
{
	if (*text)
		OPENSSL_cleanse(*text, strlen(*text));
	free(*text);
}

/* The fields and their order are jupyter_client's; ipykernel rewrites the file if one that it knows
 * differs. */
char *connection_inner(const char *key, const char *kernel_name)
{
	cleanup(wipe_literal) char *key_text = json_literal(key, strlen(key));
	cleanup(free_ptr) char *name_text =
		json_literal(kernel_name ? kernel_name : "", kernel_name ? strlen(kernel_name) : 0);
	char ports[160] = "";
	size_t used = 0;

	if (!key_text || !name_text)
		return NULL;
	for (size_t i = 0; i < WALL_CHANNELS; i++)
		used += (size_t)snprintf(ports + used, sizeof(ports) - used, "  \"%s\": %zu,\n",
					 port_field[inner_order[i]], i + 1);
	return format_string("{\n%s  \"ip\": \"" INSIDE_SOCKETS "/" INSIDE_IPC_NAME "\",\n"
			     "  \"key\": %s,\n"
			     "  \"transport\": \"ipc\",\n"
			     "  \"signature_scheme\": \"" DEFAULT_SCHEME "\",\n"
			     "  \"kernel_name\": %s\n}\n",
			     ports, key_text, name_text);
}
