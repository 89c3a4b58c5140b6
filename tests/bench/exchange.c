/*
 * exchange: a client of one kernel that costs next to nothing itself, for benchmarks.
 *
 *   exchange CONNECTION_FILE           over ZeroMQ, as jupyter_client does
 *   exchange HOST PORT PATH TOKEN      through a server's WebSocket
 * (v1.kernel.websocket.jupyter.org)
 *   exchange HOST PORT PATH TOKEN tls  the same over TLS; whose certificate it is does not matter
 * here
 *
 * Reads lines "N CODE", runs the code N times, one after the other, and writes a line for each:
 * microseconds from the request to its reply and its idle status (0: they did not come), messages
 * of stdout, and lines in them.
 */
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include "proxy/connection.h"
#include "proxy/sign.h"
#include "proxy/wire.h"

#define ROOM	     (1u << 20)
#define CODE_MAX     4096
#define STATUS_MAX   2048 /* of a message that is a status or a reply */
#define FRAMES_MAX   16
#define QUIET_S	     20 /* so long nothing comes: the end was lost */
#define SUBSCRIBE_MS 50

struct exchange {
	/* over ZeroMQ */
	void *context, *shell, *iopub;
	struct sign *sign;
	/* through a WebSocket */
	int fd;
	SSL *tls; /* or NULL */
	char *in;
	size_t begin, end, room;
	/* of what runs now */
	char id[33];
	bool replied, idle;
	unsigned long messages, lines;
};

static int64_t now_us(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static bool has(const char *data, size_t size, const char *word)
{
	return memmem(data, size, word, strlen(word)) != NULL;
}

/* One message, with everything that it is told by. */
static void look(struct exchange *exchange, const char *data, size_t size)
{
	const size_t front = size < STATUS_MAX ? size : STATUS_MAX;
	const char *end = data + size;

	if (!has(data, front, exchange->id))
		return;
	if (has(data, front, "\"stdout\"")) {
		exchange->messages++;
		while ((data = memchr(data, '\\', (size_t)(end - data))) && end - data >= 2) {
			exchange->lines += data[1] == 'n';
			data += 2;
		}
	} else if (size < STATUS_MAX) {
		exchange->idle = exchange->idle || has(data, size, "\"idle\"");
		exchange->replied = exchange->replied || has(data, size, "_reply\"");
	}
}

/* ---- the request ---- */

static size_t make_parts(const struct exchange *exchange, const char *type, const char *code,
			 char room[3 * CODE_MAX], struct iovec parts[4])
{
	static char empty[] = "{}";
	int head = snprintf(
		room, CODE_MAX,
		"{\"msg_id\":\"%s\",\"session\":\"exchange\",\"username\":\"\","
		"\"date\":\"2024-01-01T00:00:00.000000Z\",\"msg_type\":\"%s\",\"version\":\"5.4\"}",
		exchange->id, type);
	int content =
		snprintf(room + CODE_MAX, (size_t)2 * CODE_MAX,
			 "{\"code\":\"%s\",\"silent\":false,\"store_history\":false,"
			 "\"user_expressions\":{},\"allow_stdin\":false,\"stop_on_error\":true}",
			 code);

	parts[0] = (struct iovec){room, (size_t)head};
	parts[1] = parts[2] = (struct iovec){empty, 2};
	parts[3] = (struct iovec){room + CODE_MAX, (size_t)content};
	return parts[0].iov_len + 4 + parts[3].iov_len;
}

static int send_frames(struct exchange *exchange, const struct iovec parts[4])
{
	char signature[SIGN_HEX_MAX];
	int size = sign_make(exchange->sign, parts, signature);

	if (size < 0 ||
	    zmq_send(exchange->shell, wire_delimiter, sizeof(wire_delimiter), ZMQ_SNDMORE) < 0 ||
	    zmq_send(exchange->shell, signature, (size_t)size, ZMQ_SNDMORE) < 0)
		return -1;
	for (int i = 0; i < 4; i++)
		if (zmq_send(exchange->shell, parts[i].iov_base, parts[i].iov_len,
			     i < 3 ? ZMQ_SNDMORE : 0) < 0)
			return -1;
	return 0;
}

/* All of it, or not. */
static int put(const struct exchange *exchange, const void *data, size_t size)
{
	if (exchange->tls)
		return SSL_write(exchange->tls, data, (int)size) == (int)size ? 0 : -1;
	return send(exchange->fd, data, size, 0) == (ssize_t)size ? 0 : -1;
}

/* As recv(2). */
static ssize_t get(const struct exchange *exchange, void *data, size_t room)
{
	return exchange->tls ? SSL_read(exchange->tls, data, (int)room)
			     : recv(exchange->fd, data, room, 0);
}

/* What has come so far, the server asks; masked with 0. */
static int answer_ping(const struct exchange *exchange, const char *data, size_t size)
{
	unsigned char out[6 + 125] = {0x8a, (unsigned char)(0x80 | size)};

	memcpy(out + 6, data, size);
	return put(exchange, out, 6 + size);
}

/* A masked frame; the mask is 0. */
static int send_websocket(struct exchange *exchange, const struct iovec parts[4], size_t bytes)
{
	static const char channel[] = "shell";
	unsigned char out[14 + 8 * 7 + 5 + 3 * CODE_MAX] = {0x82, 0x80 | 126};
	uint64_t at = 8 * 7, numbers[7] = {htole64(6), htole64(at)};
	size_t size = 8, payload = (size_t)at + 5 + bytes;

	at += 5;
	for (int i = 0; i < 5; i++) {
		numbers[2 + i] = htole64(at);
		at += i < 4 ? parts[i].iov_len : 0;
	}
	out[2] = (unsigned char)(payload >> 8);
	out[3] = (unsigned char)payload;
	memcpy(out + size, numbers, sizeof(numbers));
	size += sizeof(numbers);
	memcpy(out + size, channel, 5);
	size += 5;
	for (int i = 0; i < 4; i++) {
		memcpy(out + size, parts[i].iov_base, parts[i].iov_len);
		size += parts[i].iov_len;
	}
	return put(exchange, out, size);
}

static int request(struct exchange *exchange, const char *type, const char *code)
{
	char room[3 * CODE_MAX];
	struct iovec parts[4];
	size_t bytes;

	if (random_hex(exchange->id, 16) < 0)
		return -1;
	exchange->replied = exchange->idle = false;
	exchange->messages = exchange->lines = 0;
	bytes = make_parts(exchange, type, code, room, parts);
	return exchange->shell ? send_frames(exchange, parts)
			       : send_websocket(exchange, parts, bytes);
}

/* ---- what comes ---- */

/* One message of `socket`; false: none is there. */
static bool take_message(struct exchange *exchange, void *socket)
{
	zmq_msg_t frame;
	char together[STATUS_MAX];
	size_t size = 0;
	bool first = true, small = true;

	do {
		(void)zmq_msg_init(&frame);
		if (zmq_msg_recv(&frame, socket, ZMQ_DONTWAIT) < 0)
			return !first;
		if (small && size + zmq_msg_size(&frame) <= sizeof(together)) {
			memcpy(together + size, zmq_msg_data(&frame), zmq_msg_size(&frame));
			size += zmq_msg_size(&frame);
		} else {
			small = false;
			look(exchange, zmq_msg_data(&frame), zmq_msg_size(&frame));
		}
		first = false;
		if (!zmq_msg_more(&frame)) {
			(void)zmq_msg_close(&frame);
			break;
		}
		(void)zmq_msg_close(&frame);
	} while (true);
	if (small)
		look(exchange, together, size);
	return true;
}

static int wait_frames(struct exchange *exchange, long ms)
{
	zmq_pollitem_t items[2] = {{exchange->iopub, 0, ZMQ_POLLIN, 0},
				   {exchange->shell, 0, ZMQ_POLLIN, 0}};

	int count = zmq_poll(items, 2, ms);

	if (count <= 0)
		return count == 0 ? -EAGAIN : -errno;
	while (take_message(exchange, exchange->iopub))
		;
	while (take_message(exchange, exchange->shell))
		;
	return 0;
}

/* The size of the frame at the beginning, 0: it is not whole; *ret_head is what goes before. */
static size_t whole_frame(const struct exchange *exchange, size_t *ret_head)
{
	const unsigned char *c = (unsigned char *)exchange->in + exchange->begin;
	size_t have = exchange->end - exchange->begin, extra;
	uint64_t size;

	if (have < 2)
		return 0;
	size = c[1] & 127u;
	extra = size == 126 ? 2 : size == 127 ? 8 : 0;
	if (have < 2 + extra)
		return 0;
	for (size_t i = size = extra ? 0 : size; extra && i < extra; i++)
		size = size << 8 | c[2 + i];
	*ret_head = 2 + extra;
	return have - *ret_head < size ? 0 : *ret_head + size;
}

static int wait_websocket(struct exchange *exchange)
{
	size_t size, head;
	ssize_t count;

	if (exchange->begin == exchange->end)
		exchange->begin = exchange->end = 0;
	if (exchange->room - exchange->end < ROOM) {
		memmove(exchange->in, exchange->in + exchange->begin,
			exchange->end - exchange->begin);
		exchange->end -= exchange->begin;
		exchange->begin = 0;
	}
	if (exchange->room - exchange->end < ROOM) {
		char *more = realloc(exchange->in, exchange->room * 2);

		if (!more)
			return -1;
		exchange->in = more;
		exchange->room *= 2;
	}
	count = get(exchange, exchange->in + exchange->end, ROOM);
	if (count <= 0)
		return count < 0 ? -errno : -EPIPE;
	exchange->end += (size_t)count;
	while ((size = whole_frame(exchange, &head))) {
		const char *body = exchange->in + exchange->begin + head;
		int opcode = exchange->in[exchange->begin] & 15;

		if (opcode == 8 || (opcode == 9 && (size - head > 125 ||
						    answer_ping(exchange, body, size - head) < 0)))
			return -1;
		if (opcode < 8)
			look(exchange, body, size - head);
		exchange->begin += size;
	}
	return 0;
}

/* 0, -EAGAIN: its end was lost, or another negative number. */
static int run(struct exchange *exchange, const char *code)
{
	int r = request(exchange, "execute_request", code);

	while (r == 0 && (!exchange->replied || !exchange->idle))
		r = exchange->shell ? wait_frames(exchange, QUIET_S * 1000)
				    : wait_websocket(exchange);
	return r;
}

/* ---- connecting ---- */

static int connect_frames(struct exchange *exchange, const char *file)
{
	struct connection connection = {0};
	struct err err;
	int code = connection_read(file, &connection, &err), none = 0;

	if (code == 0)
		code = sign_new(connection.scheme, connection.key, connection.key_size,
				&exchange->sign, &err);
	exchange->context = zmq_ctx_new();
	exchange->shell = zmq_socket(exchange->context, ZMQ_DEALER);
	exchange->iopub = zmq_socket(exchange->context, ZMQ_SUB);
	if (code < 0 || !exchange->shell || !exchange->iopub ||
	    zmq_setsockopt(exchange->shell, ZMQ_LINGER, &none, sizeof(none)) < 0 ||
	    zmq_setsockopt(exchange->iopub, ZMQ_SUBSCRIBE, "", 0) < 0 ||
	    zmq_setsockopt(exchange->iopub, ZMQ_RCVHWM, &none, sizeof(none)) < 0 ||
	    zmq_connect(exchange->shell, connection.endpoint[WALL_SHELL]) < 0 ||
	    zmq_connect(exchange->iopub, connection.endpoint[WALL_IOPUB]) < 0)
		code = -1;
	connection_done(&connection);
	/* Until something comes on iopub, too, the subscription is not there. */
	while (code == 0 && !exchange->idle) {
		code = request(exchange, "kernel_info_request", "");
		(void)wait_frames(exchange, SUBSCRIBE_MS);
		(void)wait_frames(exchange, SUBSCRIBE_MS);
	}
	return code;
}

static int begin_tls(struct exchange *exchange)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	exchange->tls = context ? SSL_new(context) : NULL;
	SSL_CTX_free(context); /* what is connected keeps it */
	return exchange->tls && SSL_set_fd(exchange->tls, exchange->fd) == 1 &&
			       SSL_connect(exchange->tls) == 1
		       ? 0
		       : -1;
}

static int connect_websocket(struct exchange *exchange, char **argv)
{
	const struct timeval quiet = {.tv_sec = QUIET_S};
	struct sockaddr_in address = {.sin_family = AF_INET};
	char text[2048];
	char *end = NULL;
	int on = 1, size;

	address.sin_port = htons((uint16_t)strtoul(argv[2], NULL, 10));
	exchange->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	exchange->room = 2 * ROOM;
	exchange->in = malloc(exchange->room);
	if (exchange->fd < 0 || !exchange->in ||
	    inet_pton(AF_INET, argv[1], &address.sin_addr) != 1 ||
	    connect(exchange->fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    setsockopt(exchange->fd, SOL_SOCKET, SO_RCVTIMEO, &quiet, sizeof(quiet)) < 0 ||
	    setsockopt(exchange->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		return -1;
	size = snprintf(
		text, sizeof(text),
		"GET %s HTTP/1.1\r\nHost: %s:%s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
		"Sec-WebSocket-Protocol: v1.kernel.websocket.jupyter.org\r\n"
		"Authorization: token %s\r\n\r\n",
		argv[3], argv[1], argv[2], argv[4]);
	if (size >= (int)sizeof(text) || (argv[5] && begin_tls(exchange) < 0) ||
	    put(exchange, text, (size_t)size) < 0)
		return -1;
	while (!end) {
		ssize_t count = get(exchange, exchange->in + exchange->end, ROOM - exchange->end);

		if (count <= 0)
			return -1;
		exchange->end += (size_t)count;
		end = memmem(exchange->in, exchange->end, "\r\n\r\n", 4);
	}
	exchange->begin = (size_t)(end + 4 - exchange->in);
	return has(exchange->in, exchange->begin, " 101 ") &&
			       has(exchange->in, exchange->begin, ": v1.kernel.websocket")
		       ? 0
		       : -1;
}

/* ---- orders ---- */

/* The next line, while the server's pings are answered. False: there is none. */
static bool next_order(struct exchange *exchange, char line[CODE_MAX])
{
	struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
				{.fd = exchange->fd, .events = POLLIN}};

	(void)fflush(stdout);
	while ((exchange->tls && SSL_pending(exchange->tls)) ||
	       (poll(fds, 2, -1) >= 0 && !fds[0].revents))
		if (wait_websocket(exchange) < 0)
			return false;
	if (!fgets(line, CODE_MAX, stdin))
		return false;
	line[strcspn(line, "\n")] = '\0';
	return true;
}

static int obey(struct exchange *exchange, const char *line)
{
	char *code;
	unsigned long count = strtoul(line, &code, 10);
	int r = *code == ' ' ? 0 : -EINVAL;

	for (unsigned long i = 0; i < count && r == 0; i++) {
		int64_t begin = now_us();

		r = run(exchange, code + 1);
		if (r < 0 && r != -EAGAIN)
			break;
		printf("%" PRId64 " %lu %lu\n", r < 0 ? 0 : now_us() - begin, exchange->messages,
		       exchange->lines);
		r = 0;
	}
	return r;
}

int main(int argc, char **argv)
{
	struct exchange exchange = {.fd = -1};
	char line[CODE_MAX];
	int code = -1;

	(void)signal(SIGPIPE, SIG_IGN);
	if (argc == 2)
		code = connect_frames(&exchange, argv[1]);
	else if (argc == 5 || (argc == 6 && strcmp(argv[5], "tls") == 0))
		code = connect_websocket(&exchange, argv);
	while (code == 0 && next_order(&exchange, line))
		code = obey(&exchange, line);
	if (code < 0)
		fprintf(stderr, "exchange: no connection, or no answer\n");
	return code < 0 ? 1 : 0; /* libzmq's threads and sockets end with the process */
}
