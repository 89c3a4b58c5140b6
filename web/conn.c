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
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "web/conn_parts.h"
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

bool conn_writing(const struct conn *conn)
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
		if (moves && conn_writing(conn)) /* who still reads does not come to answer */
			conn->heard = now_ms();
		loop_again(conn->timer, CONN_PING_MS);
		websocket_tick(conn);
	} else if (conn->state == CONN_WAIT ||
		   ((conn_writing(conn) || conn->state == CONN_BODY) && moves)) {
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

		if (conn_writing(conn) == false && size <= PIECE_SIZE / 8)
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
		count = conn_wire_put(conn, piece->data + piece->sent, piece->size - piece->sent);
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

/* ---- reading ---- */

/* Reads and uses what there is. False: the connection is to be closed. */
static bool take_in(struct conn *conn)
{
	char *scratch = conn->server->conns->scratch;
	size_t round = 0;

	if (conn->in_size && !conn_use(conn, NULL, 0))
		return false;
	while (conn->state != CONN_GONE && conn->look && conn_wants_input(conn)) {
		ssize_t count;

		if (conn->state == CONN_HANDSHAKE) {
			int result = conn_wire_handshake(conn);

			conn->look = result > 0;
			if (result <= 0)
				return result == 0;
			continue;
		}
		if (round >= READ_ROUND) {
			conn_touch(conn); /* others first; TLS may hold bytes that epoll knows
					     nothing of */
			return true;
		}
		count = conn_wire_get(conn, scratch, CONN_READ_SIZE);
		if (count < 0)
			return false;
		/* Less than there is room for is all that a socket has; TLS may hold more. */
		conn->look = conn->ssl ? count > 0 : count == CONN_READ_SIZE;
		if (count == 0)
			return true;
		if (conn->state == CONN_HEAD && !conn->in_size && conn->timer)
			loop_again(conn->timer, CONN_HEAD_MS);
		round += (size_t)count;
		conn->moved += (uint64_t)count;
		conn->heard = now_ms();
		if (conn->state != CONN_CLOSING && !conn_use(conn, scratch, (size_t)count))
			return false;
	}
	return true;
}

/* Writes what waits, reads what there is, writes what that has brought. False: the connection is to
 * be closed. */
static bool exchange(struct conn *conn)
{
	if (!flush(conn) || (conn->state != CONN_GONE && !take_in(conn)))
		return false;
	return conn->state == CONN_GONE || !conn_writing(conn) || flush(conn);
}

/* All is written. A client that is still writing gets our answer and not a reset. */
static void say_end(struct conn *conn)
{
	conn->half = true;
	if (conn->ssl)
		(void)SSL_shutdown(conn->ssl);
	(void)shutdown(conn->fd, SHUT_WR);
	loop_again(conn->timer, CONN_LINGER_MS);
}

static unsigned wanted_events(const struct conn *conn)
{
	return (conn_wants_input(conn) && !conn->want_write ? LOOP_READ : 0u) |
	       (conn->out_size || conn->want_write ? LOOP_WRITE : 0u);
}

static void step(struct conn *conn)
{
	unsigned events;

	if (!exchange(conn))
		conn_close(conn);
	if (conn->state == CONN_GONE)
		return;
	if (conn->state == CONN_CLOSING && !conn_writing(conn) && !conn->half)
		say_end(conn);
	if (conn->file_left && !conn->out_size)
		conn_touch(conn);
	events = wanted_events(conn);
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
	conn->look = conn->look || conn->ssl || (events & (LOOP_READ | LOOP_HANGUP));
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
		if (!conn_writing(conn))
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
