#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/connection.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define PORTS                                                                                      \
	"\"shell_port\": 5001, \"iopub_port\": 5002, \"stdin_port\": 5003, \"control_port\": "     \
	"5004, "                                                                                   \
	"\"hb_port\": 5005"

static int parse(const char *text, struct connection *connection, struct err *err)
{
	return connection_parse("f.json", text, strlen(text), connection, err);
}

/* As jupyter_client 8 writes it. */
static void reads_tcp(void **state)
{
	struct connection connection;

	(void)state;
	assert_int_equal(
		parse("{\n  " PORTS ",\n  \"ip\": \"127.0.0.1\",\n  \"key\": \"a0-b1\",\n"
		      "  \"transport\": \"tcp\",\n  \"signature_scheme\": \"hmac-sha256\",\n"
		      "  \"kernel_name\": \"python3\",\n  \"jupyter_session\": "
		      "\"/home/u/x.ipynb\"\n}",
		      &connection, NULL),
		0);
	assert_string_equal(connection.endpoint[WALL_SHELL], "tcp://127.0.0.1:5001");
	assert_string_equal(connection.endpoint[WALL_IOPUB], "tcp://127.0.0.1:5002");
	assert_string_equal(connection.endpoint[WALL_STDIN], "tcp://127.0.0.1:5003");
	assert_string_equal(connection.endpoint[WALL_CONTROL], "tcp://127.0.0.1:5004");
	assert_string_equal(connection.endpoint[WALL_HB], "tcp://127.0.0.1:5005");
	assert_null(connection.ipc_path[WALL_SHELL]);
	assert_string_equal(connection.key, "a0-b1");
	assert_int_equal(connection.key_size, 5);
	assert_string_equal(connection.scheme, "hmac-sha256");
	assert_string_equal(connection.kernel_name, "python3");
	connection_done(&connection);
	assert_null(connection.key);
}

static void reads_ipc(void **state)
{
	struct connection connection;

	(void)state;
	assert_int_equal(
		parse("{\"shell_port\":1,\"iopub_port\":2,\"stdin_port\":\"3\",\"control_port\":4,"
		      "\"hb_port\":2147483647,\"ip\":\"/run/"
		      "k-ipc\",\"key\":\"\",\"transport\":\"ipc\"}",
		      &connection, NULL),
		0);
	assert_string_equal(connection.endpoint[WALL_STDIN], "ipc:///run/k-ipc-3");
	assert_string_equal(connection.ipc_path[WALL_STDIN], "/run/k-ipc-3");
	assert_string_equal(connection.ipc_path[WALL_HB], "/run/k-ipc-2147483647");
	assert_string_equal(connection.scheme, "hmac-sha256");
	assert_int_equal(connection.key_size, 0);
	assert_null(connection.kernel_name);
	connection_done(&connection);
}

static void reads_addresses(void **state)
{
	static const struct {
		const char *ip, *key, *endpoint;
	} cases[] = {
		{"localhost", "", "tcp://127.0.0.1:5001"},
		{"127.8.9.1", "", "tcp://127.8.9.1:5001"},
		{"::1", "", "tcp://[::1]:5001"},
		{"[::1]", "", "tcp://[::1]:5001"},
		{"0:0:0:0:0:0:0:1", "", "tcp://[::1]:5001"},
		{"::ffff:127.0.0.1", "", "tcp://[::ffff:127.0.0.1]:5001"},
		{"*", "k", "tcp://*:5001"},
		{"0.0.0.0", "k", "tcp://0.0.0.0:5001"},
		{"192.0.2.7", "k", "tcp://192.0.2.7:5001"},
		{"2001:db8:1111:2222:3333:4444:5555:6666", "k",
		 "tcp://[2001:db8:1111:2222:3333:4444:5555:6666]:5001"},
		{"*", "", NULL},
		{"0.0.0.0", "", NULL},
		{"::", "", NULL},
		{"192.0.2.7", "", NULL},
		{"2001:db8::1", "", NULL},
		{"128.0.0.1", "", NULL},
		{"eth0", "k", NULL},
		{"example.org", "k", NULL},
		{"127.1", "k", NULL},
		{"", "k", NULL},
		{"[]", "k", NULL},
		{"[127.0.0.1]", "k", NULL},
		{"127.0.0.1:80;tcp://1.2.3.4", "k", NULL},
		{"fe80::1%lo", "k", NULL},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct connection connection;
		struct err err;
		char text[400];
		int r;

		snprintf(text, sizeof(text),
			 "{" PORTS ",\"transport\":\"tcp\",\"ip\":\"%s\",\"key\":\"%s\"}",
			 cases[i].ip, cases[i].key);
		r = parse(text, &connection, &err);
		if (!cases[i].endpoint) {
			assert_true(r < 0);
			assert_non_null(strstr(err.text, "f.json: ip "));
			continue;
		}
		assert_int_equal(r, 0);
		assert_string_equal(connection.endpoint[WALL_SHELL], cases[i].endpoint);
		connection_done(&connection);
	}
}

static void refuses_with_a_reason(void **state)
{
	static const struct {
		const char *text, *reason;
	} cases[] = {
		{"", "f.json: not valid JSON at line"},
		{"{\"key\": \"secret", "f.json: not valid JSON at line 1"},
		{"[]", "f.json: not a JSON object"},
		{"{}", "f.json: key is missing"},
		{"{\"key\":7}", "key is not a string"},
		{"{\"key\":\"k\"}", "transport is missing"},
		{"{\"key\":\"k\",\"transport\":\"tcp\"}", "ip is missing"},
		{"{\"key\":\"k\",\"transport\":\"inproc\",\"ip\":\"x\"}",
		 "transport \"inproc\" is neither tcp nor ipc"},
		{"{\"key\":\"k\",\"transport\":\"tcp\",\"ip\":\"127.0.0.1\"}",
		 "shell_port is missing"},
		{"{\"key\":\"k\",\"transport\":\"tcp\",\"ip\":\"127.0.0.1\",\"shell_port\":70000}",
		 "shell_port is not a port number from 1 to 65535"},
		{"{\"key\":\"k\",\"transport\":\"tcp\",\"ip\":\"127.0.0.1\",\"shell_port\":0}",
		 "shell_port is not"},
		{"{\"key\":\"k\",\"transport\":\"tcp\",\"ip\":\"127.0.0.1\",\"shell_port\":-1}",
		 "shell_port is not"},
		{"{\"key\":\"k\",\"transport\":\"tcp\",\"ip\":\"127.0.0.1\",\"shell_port\":\"1x\"}",
		 "shell_port is not"},
		{"{\"key\":\"k\",\"transport\":\"tcp\",\"ip\":\"127.0.0.1\",\"shell_port\":1.0}",
		 "shell_port is not"},
		{"{\"key\":\"k\",\"transport\":\"ipc\",\"ip\":\"k\",\"shell_port\":2147483648}",
		 "shell_port is not a port number from 1 to 2147483647"},
		{"{\"key\":\"k\",\"transport\":\"tcp\",\"ip\":\"127.0.0.1\",\"shell_port\":5,"
		 "\"iopub_port\":6,"
		 "\"stdin_port\":7,\"control_port\":\"5\",\"hb_port\":9}",
		 "shell_port and control_port are both 5"},
		{"{\"key\":\"k\",\"transport\":\"ipc\",\"ip\":\"@k\"," PORTS "}",
		 "abstract sockets"},
		{"{\"key\":\"k\",\"transport\":\"ipc\",\"ip\":\"\"," PORTS "}", "ip is empty"},
		{"{\"key\":\"k\",\"key\":\"l\"}", "not valid JSON"},
		{"{\"key\":\"k\",\"signature_scheme\":1}", "signature_scheme is not a string"},
		{"{\"key\":\"k\",\"signature_scheme\":\"rsa\"}",
		 "unknown signature_scheme \"rsa\""},
		{"{\"key\":\"k\",\"kernel_name\":[]}", "kernel_name is not a string"},
		{"{\"key\":\"k\",\"curve_publickey\":\"x\"}", "transport_encryption=disabled"},
		{"{\"key\":\"k\",\"curve_secretkey\":\"x\"}", "curve_secretkey is set"},
	};
	struct connection connection;
	struct err err;

	(void)state;
	memset(&connection, 7, sizeof(connection));
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_true(parse(cases[i].text, &connection, &err) < 0);
		if (!strstr(err.text, cases[i].reason))
			fail_msg("%s: got \"%s\"", cases[i].text, err.text);
		assert_null(strstr(err.text, "\"secret")); /* never quotes what may be the key */
	}
	assert_int_equal(connection.endpoint[0][0], 7); /* untouched on failure */
}

static void bounds_ipc_paths(void **state)
{
	struct connection connection;
	struct err err;
	char text[400], path[120];

	(void)state;
	for (size_t length = 105; length <= 106; length++) {
		memset(path, 'p', length);
		path[length] = '\0';
		snprintf(text, sizeof(text),
			 "{\"key\":\"\",\"transport\":\"ipc\",\"ip\":\"%s\",\"shell_port\":1,"
			 "\"iopub_port\":2,"
			 "\"stdin_port\":3,\"control_port\":4,\"hb_port\":5}",
			 path);
		if (length == 105) {
			assert_int_equal(parse(text, &connection, &err), 0);
			assert_int_equal(strlen(connection.ipc_path[WALL_HB]), 107);
			connection_done(&connection);
		} else {
			assert_int_equal(parse(text, &connection, &err), -ENAMETOOLONG);
			assert_non_null(strstr(err.text, "108 bytes, at most 107"));
		}
	}
}

static void takes_an_empty_or_null_scheme(void **state)
{
	struct connection connection;

	(void)state;
	assert_int_equal(parse("{\"key\":\"k\",\"transport\":\"tcp\",\"ip\":\"localhost\","
			       "\"signature_scheme\":\"\","
			       "\"kernel_name\":null,\"curve_publickey\":null," PORTS "}",
			       &connection, NULL),
			 0);
	assert_string_equal(connection.scheme, "hmac-sha256");
	connection_done(&connection);
}

static void reads_only_bounded_regular_files(void **state)
{
	char directory[] = "/tmp/cellwall-test-XXXXXX", path[64], *big;
	struct connection connection;
	struct err err;
	FILE *file;

	(void)state;
	assert_non_null(mkdtemp(directory));
	assert_int_equal(connection_read(directory, &connection, &err), -EINVAL);
	assert_non_null(strstr(err.text, "not a regular file"));
	snprintf(path, sizeof(path), "%s/c.json", directory);
	assert_int_equal(connection_read(path, &connection, &err), -ENOENT);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(connection_read(path, &connection, &err), -EINVAL);
	unlink(path);

	big = malloc(CONNECTION_FILE_MAX + 1);
	memset(big, ' ', CONNECTION_FILE_MAX + 1);
	file = fopen(path, "w");
	fwrite(big, 1, CONNECTION_FILE_MAX + 1, file);
	fclose(file);
	assert_int_equal(connection_read(path, &connection, &err), -EFBIG);
	assert_int_equal(connection_parse("x", big, CONNECTION_FILE_MAX + 1, &connection, &err),
			 -EFBIG);
	free(big);

	file = fopen(path, "w");
	fputs("{\"key\":\"k\",\"transport\":\"tcp\",\"ip\":\"127.0.0.1\"," PORTS "}\n", file);
	fclose(file);
	assert_int_equal(connection_read(path, &connection, &err), 0);
	assert_string_equal(connection.key, "k");
	connection_done(&connection);
	unlink(path);
	rmdir(directory);
}

static void writes_the_inner_file(void **state)
{
	char *text = connection_inner("0123-\"key", "python3");
	struct connection connection;

	(void)state;
	assert_non_null(text);
	assert_int_equal(parse(text, &connection, NULL), 0);
	assert_string_equal(connection.ipc_path[WALL_SHELL], "/cellwall/k-1");
	assert_string_equal(connection.ipc_path[WALL_IOPUB], "/cellwall/k-2");
	assert_string_equal(connection.ipc_path[WALL_STDIN], "/cellwall/k-3");
	assert_string_equal(connection.ipc_path[WALL_CONTROL], "/cellwall/k-4");
	assert_string_equal(connection.ipc_path[WALL_HB], "/cellwall/k-5");
	assert_string_equal(connection.key, "0123-\"key");
	assert_string_equal(connection.kernel_name, "python3");
	connection_done(&connection);
	free(text);
	text = connection_inner("k", NULL);
	assert_int_equal(parse(text, &connection, NULL), 0);
	assert_null(connection.kernel_name);
	connection_done(&connection);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_tcp),
		cmocka_unit_test(reads_ipc),
		cmocka_unit_test(reads_addresses),
		cmocka_unit_test(refuses_with_a_reason),
		cmocka_unit_test(bounds_ipc_paths),
		cmocka_unit_test(takes_an_empty_or_null_scheme),
		cmocka_unit_test(reads_only_bounded_regular_files),
		cmocka_unit_test(writes_the_inner_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
