/*
 * Theory of operation
 *
 * What a connection has to do is done in one place, step(), at the end of the round in which
 * something happened (conn_touch): write what is queued, read what there is, use what was read. So
 * many small messages become one write, and no callback finds its connection freed below it: what
 * is closed is marked CONN_GONE and freed by the same sweep.
 */
#include "web/conn.h"

#include <errno.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "web/gate.h"
#include "web/metrics.h"
#include "web/request_parts.h"

#define PIECE_SIZE (16u * 1024)
#define READ_ROUND (4 * CONN_READ_SIZE) /* of one connection in one round */

/* ---- the sweep ---- */

static void step(struct conn *conn);

static void free_conn(struct conn *conn)
{
	struct piece *piece;

	while ((piece = TAILQ_FIRST(&conn->out))) {
		TAILQ_REMOVE(&conn->out, piece, next);
		free(piece);
	}
	close_fd(&conn->file);
	free(conn->in);
	free(conn->certificate_name);
	free(conn);
}

static void sweep(void *arg)
{
	struct conns *conns = arg;
	STAILQ_HEAD(, conn) now = STAILQ_HEAD_INITIALIZER(now);
	struct conn *conn;

	conns->timer = NULL;
	STAILQ_CONCAT(&now, &conns->dirty);
	while ((conn = STAILQ_FIRST(&now))) {
		STAILQ_REMOVE_HEAD(&now, in_dirty);
		conn->dirty = false;
		if (conn->state != CONN_GONE)
			step(conn);
		if (conn->state == CONN_GONE && !conn->dirty) {
			if (conn->websocket)
				websocket_end(conn);
			free_conn(conn);
		}
	}
}

void conn_touch(struct conn *conn)
{
	struct conns *conns = conn->server->conns;

	if (conn->dirty)
		return;
	conn->dirty = true;
	STAILQ_INSERT_TAIL(&conns->dirty, conn, in_dirty);
	/* Without memory for a timer the next one that is touched makes the sweep. */
	if (!conns->timer)
		(void)loop_after(conn->server->loop, 0, sweep, conns, &conns->timer, NULL);
}

/* ---- a life ---- */

static void set_waiting(struct conn *conn, bool waiting)
{
	struct conns *conns = conn->server->conns;

	if (conn->waiting)
		TAILQ_REMOVE(&conns->waiting, conn, in_waiting);
	conn->waiting = waiting;
	if (waiting)
		TAILQ_INSERT_TAIL(&conns->waiting, conn, in_waiting);
}

/* True while a body of nobody known is collected. */
static bool of_stranger(const struct conn *conn)
{
	return conn->state == CONN_BODY && conn->request && !conn->request->user;
}

void conn_set_state(struct conn *conn, enum conn_state state)
{
	static const int64_t deadline[] = {
		[CONN_HANDSHAKE] = CONN_HEAD_MS, [CONN_HEAD] = CONN_KEEP_MS,
		[CONN_WAIT] = CONN_PACE_MS,	 [CONN_BODY] = CONN_PACE_MS,
		[CONN_WEBSOCKET] = CONN_PING_MS, [CONN_CLOSING] = CONN_PACE_MS,
	};

	if (conn->state == CONN_GONE)
		return;
	conn->state = state;
	conn->moved_then = conn->moved;
	set_waiting(conn, state == CONN_HANDSHAKE || state == CONN_HEAD || of_stranger(conn));
	loop_again(conn->timer, deadline[state]);
}

void conn_close(struct conn *conn)
{
	struct request *request = conn->request;

	if (conn->state == CONN_GONE)
		return;
	set_waiting(conn, false);
	conn->state = CONN_GONE;
	conn->timer = loop_cancel(conn->timer);
	conn->watch = loop_unwatch(conn->watch);
	if (conn->ssl) {
		(void)SSL_shutdown(conn->ssl);
		SSL_free(conn->ssl);
		conn->ssl = NULL;
	}
	close_fd(&conn->fd);
	LIST_REMOVE(conn, in_all);
	conn->server->conns->count--;
	conn->request = NULL;
	if (request)
		request_lost(request);
	conn_touch(conn);
}

void conn_finish(struct conn *conn)
{
	conn->keep = false;
	conn_set_state(conn, CONN_CLOSING);
	conn_touch(conn);
}

void conn_answered(struct conn *conn)
{
	conn->request = NULL;
	if (conn->state == CONN_GONE)
		return;
	if (conn->state == CONN_BODY)
		conn->keep = false; /* the rest of the body is not waited for */
	if (conn->keep && !conn->server->stopping)
		conn_set_state(conn, CONN_HEAD);
	else
		conn_finish(conn);
	conn_touch(conn);
}

static bool writing(const struct conn *conn)
{
	return conn->out_size || conn->file_left;
}

/* The deadline of a state is over: closes what does not move, looks again at what does. */
static void tick(void *arg)
{
	struct conn *conn = arg;
	bool moves = conn->moved - conn->moved_then >= CONN_PACE_BYTES && !of_stranger(conn);

	conn->timer = NULL;
	if (loop_after(conn->server->loop, CONN_PACE_MS, tick, conn, &conn->timer, NULL) < 0) {
		conn_close(conn);
		return;
	}
	conn->moved_then = conn->moved;
	if (conn->state == CONN_WEBSOCKET) {
		loop_again(conn->timer, CONN_PING_MS);
		websocket_tick(conn);
	} else if (conn->state == CONN_WAIT ||
		   ((writing(conn) || conn->state == CONN_BODY) && moves)) {
		return;
	} else {
		metrics_count(METRIC_TIMEOUTS);
		conn_close(conn);
	}
}

/* ---- writing ---- */

int conn_write(struct conn *conn, const struct iovec *parts, size_t count)
{
	struct piece *last = TAILQ_LAST(&conn->out, pieces);
	size_t size = 0;

	if (conn->state == CONN_GONE)
		return -EPIPE;
	for (size_t i = 0; i < count; i++)
		size += parts[i].iov_len;
	if (!last || last->room - last->size < size) {
		size_t room = size > PIECE_SIZE ? size : PIECE_SIZE;

		if (writing(conn) == false && size <= PIECE_SIZE / 8)
			room = size; /* most answers and messages are small and alone */
		last = malloc(sizeof(*last) + room);
		if (!last)
			return -ENOMEM;
		last->size = last->sent = 0;
		last->room = room;
		TAILQ_INSERT_TAIL(&conn->out, last, next);
	}
	for (size_t i = 0; i < count; i++) {
		if (parts[i].iov_len)
			memcpy(last->data + last->size, parts[i].iov_base, parts[i].iov_len);
		last->size += parts[i].iov_len;
	}
	conn->out_size += size;
	conn_touch(conn);
	return 0;
}

/* Bytes written, 0 when there is no room now, or -1. */
static ssize_t put(struct conn *conn, const char *data, size_t size)
{
	ssize_t count;

	if (!conn->ssl) {
		do
			count = send(conn->fd, data, size, MSG_NOSIGNAL);
		while (count < 0 && errno == EINTR);
		return count >= 0 ? count : errno == EAGAIN ? 0 : -1;
	}
	ERR_clear_error();
	count = SSL_write(conn->ssl, data, size > INT32_MAX ? INT32_MAX : (int)size);
	if (count > 0)
		return count;
	switch (SSL_get_error(conn->ssl, (int)count)) {
	case SSL_ERROR_WANT_WRITE:
	case SSL_ERROR_WANT_READ:
		return 0;
	default:
		return -1;
	}
}

/* Reads the next part of the file that is being sent into the queue. False: it has become shorter.
 */
static bool feed_file(struct conn *conn)
{
	size_t size = conn->file_left > CONN_READ_SIZE ? CONN_READ_SIZE : (size_t)conn->file_left;
	struct iovec part = {.iov_base = conn->server->conns->scratch};
	ssize_t count = pread(conn->file, part.iov_base, size, (off_t)conn->file_offset);

	if (count <= 0)
		return false;
	part.iov_len = (size_t)count;
	conn->file_offset += (uint64_t)count;
	conn->file_left -= (uint64_t)count;
	if (!conn->file_left)
		close_fd(&conn->file);
	return conn_write(conn, &part, 1) == 0;
}

/* Writes what can be written. False: the connection is to be closed. */
static bool flush(struct conn *conn)
{
	size_t before = conn->out_size;

	for (unsigned files = 0;;) {
		struct piece *piece = TAILQ_FIRST(&conn->out);
		ssize_t count;

		if (!piece) {
			if (!conn->file_left || files++ == 16)
				break;
			if (!feed_file(conn))
				return false;
			continue;
		}
		count = put(conn, piece->data + piece->sent, piece->size - piece->sent);
		if (count < 0)
			return false;
		if (count == 0)
			break;
		piece->sent += (size_t)count;
		conn->out_size -= (size_t)count;
		conn->moved += (uint64_t)count;
		if (piece->sent == piece->size) {
			TAILQ_REMOVE(&conn->out, piece, next);
			free(piece);
		}
	}
	if (conn->state == CONN_WEBSOCKET && conn->out_size < before)
		websocket_flushed(conn);
	return true;
}

/* ---- using what was read ---- */

static int64_t take_head(struct conn *conn, const char *data, size_t size)
{
	size_t head = parse_head_size(data, size > PARSE_HEAD_MAX ? PARSE_HEAD_MAX : size);
	struct request *request;
	int status;

	if (!head) {
		if (size < PARSE_HEAD_MAX)
			return 0;
		request_refuse(conn, 431);
		return (int64_t)size;
	}
	request = request_new(conn, data, head, &status);
	if (!request) {
		request_refuse(conn, status);
		return (int64_t)size;
	}
	conn->request = request;
	conn->keep = request->own->head.keep;
	conn->chunks = (struct parse_chunks){0};
	conn->body_left = request->own->head.length;
	conn_set_state(conn, CONN_WAIT);
	gate_enter(request); /* goes on with gate_passed, or answers */
	return (int64_t)head;
}

/* Bytes taken; -1: refused and answered. */
static int64_t take_body(struct conn *conn, const char *data, size_t size)
{
	struct request *request = conn->request;
	const char *part = data;
	size_t part_size = size;
	ptrdiff_t taken = (ptrdiff_t)size;
	int status = 0;
	bool done;

	if (request->own->head.chunked) {
		taken = parse_chunk(&conn->chunks, data, size, &part, &part_size);
		done = conn->chunks.state == CHUNK_DONE;
		if (taken < 0)
			status = 400;
	} else {
		if (part_size > conn->body_left) {
			part_size = (size_t)conn->body_left;
			taken = (ptrdiff_t)part_size;
		}
		conn->body_left -= part_size;
		done = conn->body_left == 0;
	}
	if (!status && part_size)
		status = request_body(request, part, part_size);
	if (status < 0 && conn->request)
		conn_close(conn);
	else if (status > 0)
		http_error(request, status, NULL, "the body of the request was refused");
	if (status)
		return (int64_t)size;
	if (done && conn->request && conn->state == CONN_BODY) {
		conn_set_state(conn, CONN_WAIT);
		request_complete(request);
	}
	return taken;
}

static bool wants_input(const struct conn *conn)
{
	if (conn->paused)
		return false;
	switch (conn->state) {
	case CONN_HEAD:
		return !writing(conn);
	case CONN_BODY:
	case CONN_WEBSOCKET:
	case CONN_HANDSHAKE:
		return true;
	case CONN_CLOSING: /* so that the client's last bytes cost our answer no reset */
		return true;
	default:
		return false;
	}
}

/* Uses `data` as far as the state allows. Returns how much of it was used. */
static size_t use(struct conn *conn, const char *data, size_t size)
{
	size_t used = 0;

	while (used < size && wants_input(conn)) {
		int64_t taken;

		switch (conn->state) {
		case CONN_HEAD:
			taken = take_head(conn, data + used, size - used);
			break;
		case CONN_BODY:
			taken = take_body(conn, data + used, size - used);
			break;
		case CONN_WEBSOCKET:
			taken = (int64_t)websocket_feed(conn, data + used, size - used);
			break;
		default:
			return size;
		}
		if (taken == 0)
			break;
		used += (size_t)taken;
	}
	return used;
}

/* Adds `data` to what is kept, uses it, keeps the rest. False: no memory. */
static bool use_all(struct conn *conn, const char *data, size_t size)
{
	size_t used;

	if (!conn->in_size) {
		used = use(conn, data, size);
		if (used == size || conn->state == CONN_GONE)
			return true;
		conn->in = malloc(size - used);
		if (!conn->in)
			return false;
		memcpy(conn->in, data + used, size - used);
		conn->in_size = size - used;
		return true;
	}
	if (size) {
		char *more = realloc(conn->in, conn->in_size + size);

		if (!more)
			return false;
		memcpy(more + conn->in_size, data, size);
		conn->in = more;
		conn->in_size += size;
	}
	used = use(conn, conn->in, conn->in_size);
	conn->in_size -= used;
	if (!conn->in_size) {
		free(conn->in);
		conn->in = NULL;
	} else if (used) {
		memmove(conn->in, conn->in + used, conn->in_size);
	}
	return true;
}

/* ---- reading ---- */

static void refuse_plain(struct conn *conn)
{
	static const char text[] = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n"
				   "Connection: close\r\n\r\nThis port speaks HTTPS.\n";

	if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_HTTP_REQUEST)
		(void)!send(conn->fd, text, sizeof(text) - 1, MSG_NOSIGNAL);
}

/* 1: done, 0: goes on later, -1: refused. */
static int handshake(struct conn *conn)
{
	int result;

	ERR_clear_error();
	result = SSL_accept(conn->ssl);
	if (result == 1) {
		conn->want_write = false;
		conn->certificate_name = gate_certificate_name(conn->ssl);
		conn->state = CONN_HEAD; /* the deadline goes on */
		return 1;
	}
	switch (SSL_get_error(conn->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		conn->want_write = false;
		return 0;
	case SSL_ERROR_WANT_WRITE:
		conn->want_write = true;
		return 0;
	default:
		refuse_plain(conn);
		metrics_count(METRIC_HANDSHAKES_FAILED);
		return -1;
	}
}

/* Bytes read, 0: none now, -1: the end. */
static ssize_t get(struct conn *conn, char *data, size_t size)
{
	ssize_t count;

	conn->want_write = false;
	if (!conn->ssl) {
		do
			count = recv(conn->fd, data, size, 0);
		while (count < 0 && errno == EINTR);
		return count > 0 ? count : count < 0 && errno == EAGAIN ? 0 : -1;
	}
	ERR_clear_error();
	count = SSL_read(conn->ssl, data, (int)size);
	if (count > 0)
		return count;
	switch (SSL_get_error(conn->ssl, (int)count)) {
	case SSL_ERROR_WANT_WRITE:
		conn->want_write = true;
		return 0;
	case SSL_ERROR_WANT_READ:
		return 0;
	default:
		return -1;
	}
}

/* Reads and uses what there is. False: the connection is to be closed. */
static bool take_in(struct conn *conn)
{
	char *scratch = conn->server->conns->scratch;
	size_t round = 0;

	if (conn->in_size && !use_all(conn, NULL, 0))
		return false;
	while (conn->state != CONN_GONE && wants_input(conn)) {
		ssize_t count;

		if (conn->state == CONN_HANDSHAKE) {
			int result = handshake(conn);

			if (result <= 0)
				return result == 0;
			continue;
		}
		if (round >= READ_ROUND) {
			conn_touch(conn); /* others first; TLS may hold bytes that epoll knows
					     nothing of */
			return true;
		}
		count = get(conn, scratch, CONN_READ_SIZE);
		if (count < 0)
			return false;
		if (count == 0)
			return true;
		if (conn->state == CONN_HEAD && !conn->in_size && conn->timer)
			loop_again(conn->timer, CONN_HEAD_MS);
		round += (size_t)count;
		conn->moved += (uint64_t)count;
		conn->heard = now_ms();
		if (conn->state != CONN_CLOSING && !use_all(conn, scratch, (size_t)count))
			return false;
	}
	return true;
}

static void step(struct conn *conn)
{
	unsigned events;

	if (!flush(conn) || (conn->state != CONN_GONE && !take_in(conn))) {
		conn_close(conn);
		return;
	}
	if (conn->state != CONN_GONE && writing(conn) && !flush(conn)) {
		conn_close(conn);
		return;
	}
	if (conn->state == CONN_GONE)
		return;
	if (conn->state == CONN_CLOSING && !writing(conn) && !conn->half) {
		/* A client that is still writing gets our answer and not a reset. */
		conn->half = true;
		if (conn->ssl)
			(void)SSL_shutdown(conn->ssl);
		(void)shutdown(conn->fd, SHUT_WR);
		loop_again(conn->timer, CONN_LINGER_MS);
	}
	if (conn->file_left && !conn->out_size)
		conn_touch(conn);
	events = (wants_input(conn) && !conn->want_write ? LOOP_READ : 0u) |
		 (conn->out_size || conn->want_write ? LOOP_WRITE : 0u);
	if (events != conn->events && loop_change(conn->watch, events) == 0)
		conn->events = events;
}

static void ready(void *arg, unsigned events)
{
	struct conn *conn = arg;

	if (events & LOOP_HANGUP && !(events & LOOP_READ)) {
		conn_close(conn);
		return;
	}
	conn_touch(conn);
}

/* ---- all of them ---- */

/* Who goes when there are too many: the one that has waited longest and reads no answer of ours.
 * All read one: the first of them, or who reads slowly would keep everybody out. */
static struct conn *longest_waiting(const struct conns *conns)
{
	struct conn *conn;

	TAILQ_FOREACH(conn, &conns->waiting, in_waiting)
	{
		if (!writing(conn))
			return conn;
	}
	return TAILQ_FIRST(&conns->waiting);
}

void conn_accept(struct conns *conns, struct listener *listener, int fd, SSL_CTX *ctx,
		 const char *peer, unsigned uid)
{
	struct server *server = conns->server;
	struct conn *conn;

	if (conns->count >= conns->most && !TAILQ_EMPTY(&conns->waiting)) {
		metrics_count(METRIC_CONNECTIONS_DROPPED);
		conn_close(longest_waiting(conns));
	}
	conn = conns->count < conns->most ? calloc(1, sizeof(*conn)) : NULL;
	if (!conn) {
		metrics_count(METRIC_CONNECTIONS_DROPPED);
		close_fd(&fd);
		return;
	}
	*conn = (struct conn){.server = server,
			      .listener = listener,
			      .fd = fd,
			      .file = -1,
			      .uid = uid,
			      .heard = now_ms()};
	TAILQ_INIT(&conn->out);
	(void)snprintf(conn->peer, sizeof(conn->peer), "%s", peer);
	conn->events = LOOP_READ;
	if (ctx) {
		conn->ssl = SSL_new(ctx);
		if (conn->ssl && SSL_set_fd(conn->ssl, fd) != 1) {
			SSL_free(conn->ssl);
			conn->ssl = NULL;
		}
	}
	if ((ctx && !conn->ssl) ||
	    loop_after(server->loop, CONN_HEAD_MS, tick, conn, &conn->timer, NULL) < 0 ||
	    loop_watch(server->loop, fd, LOOP_READ, ready, conn, &conn->watch, NULL) < 0) {
		conn->timer = loop_cancel(conn->timer);
		SSL_free(conn->ssl);
		close_fd(&conn->fd);
		free_conn(conn);
		return;
	}
	conns->count++;
	LIST_INSERT_HEAD(&conns->all, conn, in_all);
	conn->state = ctx ? CONN_HANDSHAKE : CONN_HEAD;
	set_waiting(conn, true);
	metrics_count(METRIC_CONNECTIONS);
}

struct conns *conns_new(struct server *server, unsigned most)
{
	struct conns *conns = calloc(1, sizeof(*conns));

	if (!conns)
		return NULL;
	conns->server = server;
	conns->most = most;
	conns->scratch = malloc(CONN_READ_SIZE);
	LIST_INIT(&conns->all);
	TAILQ_INIT(&conns->waiting);
	STAILQ_INIT(&conns->dirty);
	return conns->scratch ? conns : conns_free(conns);
}

struct conns *conns_free(struct conns *conns)
{
	struct conn *conn;

	if (!conns)
		return NULL;
	while ((conn = LIST_FIRST(&conns->all)))
		conn_close(conn);
	while (!STAILQ_EMPTY(&conns->dirty)) {
		conns->timer = loop_cancel(conns->timer);
		sweep(conns);
	}
	free(conns->scratch);
	free(conns);
	return NULL;
}
