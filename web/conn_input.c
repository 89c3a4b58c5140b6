#include <stdlib.h>
#include <string.h>

#include "web/conn.h"
#include "web/conn_parts.h"
#include "web/gate.h"
#include "web/request_parts.h"

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

/* Bytes taken; all of them when the request was refused and answered. */
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

bool conn_wants_input(const struct conn *conn)
{
	if (conn->paused)
		return false;
	switch (conn->state) {
	case CONN_HEAD:
		return !conn_writing(conn);
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

	while (used < size && conn_wants_input(conn)) {
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

bool conn_use(struct conn *conn, const char *data, size_t size)
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
