/*
 * echo_kernel: the smallest Jupyter kernel that answers, for benchmarks: no interpreter, so that
 * what is measured is the way to it and back.
 *
 *   echo_kernel [-f] CONNECTION_FILE
 *
 * execute_request: busy, execute_input, for the code "emit N SIZE" N stream messages of SIZE bytes
 * of text, for "repeat N TYPE CONTENT" N messages of that type with that content, execute_reply,
 * idle. kernel_info_request, shutdown_request and the other requests get a
 * minimal reply. Every message is signed and every signature checked, as a real kernel does. iopub
 * is a PUB without a limit: nothing is lost here.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

#include "proxy/connection.h"
#include "proxy/sign.h"
#include "proxy/wire.h"

#define FRAMES_MAX 64
#define EMIT_MAX   (256u * 1024 * 1024)

struct kernel {
	void *context;
	void *sockets[WALL_CHANNELS];
	struct sign *sign;
	char session[33];
	uint64_t messages; /* sent; part of each msg_id */
	int executions;
	bool stopping;
};

/* A request: its frames, and what was found in them. */
struct request {
	zmq_msg_t frames[FRAMES_MAX];
	struct iovec bytes[FRAMES_MAX];
	size_t count;
	struct wire_msg wire;
	json_t *header, *content;
};

static void request_done(struct request *request)
{
	for (size_t i = 0; i < request->count; i++)
		(void)zmq_msg_close(&request->frames[i]);
	json_decref(request->header);
	json_decref(request->content);
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

/* Takes all frames of one message; false when there are too many. */
static bool receive_frames(void *socket, struct request *request)
{
	for (;;) {
		zmq_msg_t *frame = &request->frames[request->count];

		if (request->count == FRAMES_MAX)
			return false;
		(void)zmq_msg_init(frame);
		if (zmq_msg_recv(frame, socket, 0) < 0)
			return false;
		request->bytes[request->count].iov_base = zmq_msg_data(frame);
		request->bytes[request->count++].iov_len = zmq_msg_size(frame);
		if (!zmq_msg_more(frame))
			return true;
	}
}

/* Receives, checks and parses. Returns false, with the reason on stderr, for anything that is not a
 * good request. */
static bool receive(struct kernel *kernel, void *socket, struct request *request)
{
	struct err err = {0};
	enum sign_verdict verdict;
	const struct iovec *part = request->wire.signed_part;

	if (!receive_frames(socket, request) ||
	    wire_parse(request->bytes, request->count, &request->wire, &err) < 0) {
		fprintf(stderr, "echo_kernel: %s\n", err.text[0] ? err.text : "too many frames");
		return false;
	}
	verdict = sign_check(kernel->sign, part, request->wire.signature);
	if (verdict != SIGN_GOOD) {
		fprintf(stderr, "echo_kernel: signature %s\n", sign_verdict_text(verdict));
		return false;
	}
	request->header =
		json_loadb(part[WIRE_HEADER].iov_base, part[WIRE_HEADER].iov_len, 0, NULL);
	request->content =
		json_loadb(part[WIRE_CONTENT].iov_base, part[WIRE_CONTENT].iov_len, 0, NULL);
	return request->header && request->content;
}

static void put(void *socket, const void *data, size_t size, int flags)
{
	if (zmq_send(socket, data, size, flags) < 0)
		fprintf(stderr, "echo_kernel: send: %s\n", zmq_strerror(errno));
}

static void date_of_now(char out[64])
{
	struct timespec now;
	struct tm tm;
	size_t used;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)gmtime_r(&now.tv_sec, &tm);
	used = strftime(out, 64, "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(out + used, 64 - used, ".%06ldZ", now.tv_nsec / 1000);
}

/*
 * Sends one message: on iopub with `topic` before it, else with the identities of the request.
 * `parent` is the header of the request, or "{}".
 */
static void send_message(struct kernel *kernel, enum wall_channel channel,
			 const struct request *request, const char *topic, const char *type,
			 struct iovec content)
{
	char date[64];
	char header[512];
	char signature[SIGN_HEX_MAX];
	char empty[] = "{}";
	struct iovec parts[4];
	void *socket = kernel->sockets[channel];
	int size;

	date_of_now(date);
	size = snprintf(header, sizeof(header),
			"{\"msg_id\":\"%s_%" PRIu64 "\",\"session\":\"%s\",\"username\":\"echo\","
			"\"date\":\"%s\",\"msg_type\":\"%s\",\"version\":\"5.4\"}",
			kernel->session, kernel->messages++, kernel->session, date, type);
	parts[WIRE_HEADER] = (struct iovec){header, (size_t)size};
	parts[WIRE_PARENT] =
		request ? request->wire.signed_part[WIRE_HEADER] : (struct iovec){empty, 2};
	parts[WIRE_METADATA] = (struct iovec){empty, 2};
	parts[WIRE_CONTENT] = content;
	size = sign_make(kernel->sign, parts, signature);
	if (size < 0)
		return;
	if (topic)
		put(socket, topic, strlen(topic), ZMQ_SNDMORE);
	for (size_t i = 0; !topic && request && i < request->wire.identities; i++)
		put(socket, request->bytes[i].iov_base, request->bytes[i].iov_len, ZMQ_SNDMORE);
	put(socket, wire_delimiter, sizeof(wire_delimiter), ZMQ_SNDMORE);
	put(socket, signature, (size_t)size, ZMQ_SNDMORE);
	for (size_t i = 0; i < 4; i++)
		put(socket, parts[i].iov_base, parts[i].iov_len, i < 3 ? ZMQ_SNDMORE : 0);
}

static void send_json(struct kernel *kernel, enum wall_channel channel,
		      const struct request *request, const char *topic, const char *type,
		      json_t *content)
{
	char *text = content ? json_dumps(content, JSON_COMPACT) : NULL;

	if (text)
		send_message(kernel, channel, request, topic, type,
			     (struct iovec){text, strlen(text)});
	free(text);
	json_decref(content);
}

static void send_state(struct kernel *kernel, const struct request *request, const char *state)
{
	send_json(kernel, WALL_IOPUB, request, "kernel.echo.status", "status",
		  json_pack("{s:s}", "execution_state", state));
}

/* `count` stream messages with `size` bytes of text each. */
static void emit(struct kernel *kernel, const struct request *request, uint64_t count,
		 uint64_t size)
{
	static const char before[] = "{\"name\":\"stdout\",\"text\":\"";
	static const char after[] = "\"}";
	const size_t front = sizeof(before) - 1;
	cleanup(free_ptr) char *content = malloc(front + size + sizeof(after));

	if (!content)
		return;
	memcpy(content, before, front);
	memset(content + front, 'x', size);
	memcpy(content + front + size, after, sizeof(after));
	for (uint64_t i = 0; i < count; i++)
		send_message(kernel, WALL_IOPUB, request, "stream.stdout", "stream",
			     (struct iovec){content, front + size + sizeof(after) - 1});
}

/* The two numbers of "emit N SIZE"; false for any other code. */
static bool parse_emit(const char *code, uint64_t *count, uint64_t *size)
{
	char *end;

	if (strncmp(code, "emit ", 5) != 0)
		return false;
	*count = strtoull(code + 5, &end, 10);
	*size = strtoull(end, &end, 10);
	return *size <= EMIT_MAX;
}

/* "repeat N TYPE CONTENT"; nothing for any other code. */
static void repeat(struct kernel *kernel, const struct request *request, const char *code)
{
	char type[64] = "";
	char *end;
	uint64_t count;
	size_t size;

	if (strncmp(code, "repeat ", 7) != 0)
		return;
	count = strtoull(code + 7, &end, 10);
	end += *end == ' ';
	size = strcspn(end, " ");
	if (size == 0 || size >= sizeof(type) || end[size] == '\0')
		return;
	memcpy(type, end, size);
	end += size + 1;
	for (uint64_t i = 0; i < count; i++)
		send_message(kernel, WALL_IOPUB, request, type, type,
			     (struct iovec){end, strlen(end)});
}

static void execute(struct kernel *kernel, enum wall_channel channel, const struct request *request)
{
	const char *code = text_of(request->content, "code");
	uint64_t count = 0;
	uint64_t size = 0;

	kernel->executions++;
	send_json(kernel, WALL_IOPUB, request, "kernel.echo.execute_input", "execute_input",
		  json_pack("{s:s,s:i}", "code", code, "execution_count", kernel->executions));
	if (parse_emit(code, &count, &size))
		emit(kernel, request, count, size);
	repeat(kernel, request, code);
	send_json(kernel, channel, request, NULL, "execute_reply",
		  json_pack("{s:s,s:i,s:[],s:{}}", "status", "ok", "execution_count",
			    kernel->executions, "payload", "user_expressions"));
}

static json_t *kernel_info(void)
{
	return json_pack("{s:s,s:s,s:s,s:s,s:s,s:[],s:{s:s,s:s,s:s,s:s}}", "status", "ok",
			 "protocol_version", "5.4", "implementation", "echo",
			 "implementation_version", "1", "banner", "echo", "help_links",
			 "language_info", "name", "echo", "version", "1", "mimetype", "text/plain",
			 "file_extension", ".txt");
}

/* The content of a reply to anything but execute_request; NULL for what has none. */
static json_t *simple_reply(struct kernel *kernel, const struct request *request, const char *type)
{
	if (strcmp(type, "kernel_info_request") == 0)
		return kernel_info();
	if (strcmp(type, "comm_info_request") == 0)
		return json_pack("{s:s,s:{}}", "status", "ok", "comms");
	if (strcmp(type, "is_complete_request") == 0)
		return json_pack("{s:s}", "status", "complete");
	if (strcmp(type, "history_request") == 0)
		return json_pack("{s:s,s:[]}", "status", "ok", "history");
	if (strcmp(type, "shutdown_request") == 0) {
		kernel->stopping = true;
		return json_pack("{s:s,s:b}", "status", "ok", "restart",
				 json_is_true(json_object_get(request->content, "restart")));
	}
	if (strcmp(type, "interrupt_request") == 0)
		return json_pack("{s:s}", "status", "ok");
	return NULL;
}

static void handle(struct kernel *kernel, enum wall_channel channel)
{
	static struct request request;
	char type[64];
	size_t stem;

	memset(&request, 0, sizeof(request));
	if (receive(kernel, kernel->sockets[channel], &request)) {
		(void)snprintf(type, sizeof(type), "%s", text_of(request.header, "msg_type"));
		send_state(kernel, &request, "busy");
		stem = strlen(type);
		if (strcmp(type, "execute_request") == 0) {
			execute(kernel, channel, &request);
		} else if (stem > 8 && strcmp(type + stem - 8, "_request") == 0) {
			json_t *reply = simple_reply(kernel, &request, type);

			memcpy(type + stem - 8, "_reply", sizeof("_reply"));
			if (reply)
				send_json(kernel, channel, &request, NULL, type, reply);
		}
		send_state(kernel, &request, "idle");
	}
	request_done(&request);
}

/* Sends back what came, as it came. */
static void echo_heartbeat(void *socket)
{
	zmq_msg_t frame;
	int more = 1;

	while (more) {
		(void)zmq_msg_init(&frame);
		if (zmq_msg_recv(&frame, socket, 0) < 0)
			return;
		more = zmq_msg_more(&frame);
		if (zmq_msg_send(&frame, socket, more ? ZMQ_SNDMORE : 0) < 0)
			(void)zmq_msg_close(&frame);
	}
}

static int bind_all(struct kernel *kernel, const struct connection *connection)
{
	const int no_limit = 0;
	const int linger = 1000;
	const int handover = 1;

	for (size_t i = 0; i < WALL_CHANNELS; i++) {
		bool pub = i == WALL_IOPUB;
		void *socket = zmq_socket(kernel->context, pub ? ZMQ_PUB : ZMQ_ROUTER);

		kernel->sockets[i] = socket;
		if (!socket || zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof(linger)) < 0 ||
		    zmq_setsockopt(socket, ZMQ_SNDHWM, &no_limit, sizeof(no_limit)) < 0 ||
		    zmq_setsockopt(socket, ZMQ_RCVHWM, &no_limit, sizeof(no_limit)) < 0 ||
		    (!pub && zmq_setsockopt(socket, ZMQ_ROUTER_HANDOVER, &handover,
					    sizeof(handover)) < 0) ||
		    zmq_bind(socket, connection->endpoint[i]) < 0) {
			fprintf(stderr, "echo_kernel: %s: %s\n", connection->endpoint[i],
				zmq_strerror(errno));
			return -1;
		}
	}
	return 0;
}

static void serve(struct kernel *kernel)
{
	static const enum wall_channel order[] = {WALL_CONTROL, WALL_SHELL, WALL_HB};
	zmq_pollitem_t items[3] = {{0}};

	send_state(kernel, NULL, "starting");
	for (size_t i = 0; i < 3; i++) {
		items[i].socket = kernel->sockets[order[i]];
		items[i].events = ZMQ_POLLIN;
	}
	while (!kernel->stopping) {
		if (zmq_poll(items, 3, -1) < 0)
			continue;
		for (size_t i = 0; i < 3; i++) {
			if (!(items[i].revents & ZMQ_POLLIN))
				continue;
			if (order[i] == WALL_HB)
				echo_heartbeat(items[i].socket);
			else
				handle(kernel, order[i]);
		}
	}
}

int main(int argc, char **argv)
{
	struct kernel kernel = {0};
	struct connection connection = {0};
	struct err err = {0};
	int status = EXIT_FAILURE;

	if (argc < 2) {
		fprintf(stderr, "usage: echo_kernel [-f] CONNECTION_FILE\n");
		return EXIT_FAILURE;
	}
	if (connection_read(argv[argc - 1], &connection, &err) < 0 ||
	    sign_new(connection.scheme, connection.key, connection.key_size, &kernel.sign, &err) <
		    0) {
		fprintf(stderr, "echo_kernel: %s\n", err.text);
		connection_done(&connection);
		return EXIT_FAILURE;
	}
	kernel.context = zmq_ctx_new();
	if (kernel.context && random_hex(kernel.session, 16) == 0 &&
	    bind_all(&kernel, &connection) == 0) {
		serve(&kernel);
		status = EXIT_SUCCESS;
	}
	for (size_t i = 0; i < WALL_CHANNELS; i++) {
		if (kernel.sockets[i])
			(void)zmq_close(kernel.sockets[i]);
	}
	if (kernel.context)
		(void)zmq_ctx_term(kernel.context);
	kernel.sign = sign_free(kernel.sign);
	connection_done(&connection);
	return status;
}
