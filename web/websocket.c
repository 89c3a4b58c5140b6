/*
 * Theory of operation
 *
 * Frames are read as they come: a head is collected, its payload goes on to the end of the message.
 * Control frames have a small buffer of their own, so they may stand between the parts of a
 * message. A closing handshake is ours or theirs, once; `closed` is called when the connection is
 * freed.
 */
#include "web/http.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/queue.h>

#include "web/auth.h"
#include "web/conn.h"
#include "web/gate.h"
#include "web/request_parts.h"
#include "web/server.h"
#include "web/wsframe.h"

#define KEY_SIZE       24		    /* 16 bytes in base64 */
#define UNFINISHED_MAX (256u * 1024 * 1024) /* bytes of one user's messages that are not whole */

/* What all WebSockets of one user hold. */
struct share {
	LIST_ENTRY(share) next;
	const struct user *user;
	unsigned websockets;
	size_t unfinished;
};

static LIST_HEAD(, share) shares = LIST_HEAD_INITIALIZER(shares);

struct websocket {
	struct conn *conn;
	struct share *share;
	struct auth_lease lease;
	struct websocket_calls calls;
	void *arg;
	size_t message_max;
	unsigned char head[WSFRAME_HEAD_MAX];
	size_t head_size;
	bool inside; /* a frame's payload */
	struct wsframe frame;
	uint64_t done; /* bytes of this frame */
	unsigned char control[125];
	char *message;
	size_t message_size, message_room;
	size_t message_whole;	 /* of text: bytes up to its last whole character */
	unsigned message_opcode; /* 0: none has begun */
	bool closing;		 /* our close frame is in the queue */
	bool high;		 /* the queue was above WEBSOCKET_LOW */
	unsigned code;
};

/* ---- beginning ---- */

bool http_wants_upgrade(const struct request *request)
{
	return parse_list_has(http_header(request, "connection"), "upgrade") &&
	       parse_list_has(http_header(request, "upgrade"), "websocket");
}

bool http_offers(const struct request *request, const char *protocol)
{
	const struct parse_head *head = &request->own->head;

	for (size_t i = 0; i < head->headers; i++)
		if (strcmp(head->header[i].name, "sec-websocket-protocol") == 0 &&
		    parse_list_has(head->header[i].value, protocol))
			return true;
	return false;
}

/* RFC 6455, 4.2.2: proves that this answer is to that request. */
static bool accept_key(const char *key, char out[32])
{
	static const char fixed[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned size;
	char text[KEY_SIZE + sizeof(fixed)];

	(void)snprintf(text, sizeof(text), "%s%s", key, fixed);
	if (EVP_Digest(text, strlen(text), digest, &size, EVP_sha1(), NULL) != 1)
		return false;
	EVP_EncodeBlock((unsigned char *)out, digest, (int)size);
	return true;
}

/* 0, or the status that says what is wrong with the request. */
static int check_upgrade(const struct request *request)
{
	const char *version = http_header(request, "sec-websocket-version");
	const char *key = http_header(request, "sec-websocket-key");

	if (!http_wants_upgrade(request) || !version || strcmp(version, "13") != 0)
		return 426;
	if (!key || strlen(key) != KEY_SIZE || strcmp(key + KEY_SIZE - 2, "==") != 0 ||
	    request->own->head.chunked || request->own->head.length)
		return 400;
	return 0;
}

static struct share *share_of(const struct user *user)
{
	struct share *share;

	LIST_FOREACH(share, &shares, next)
	{
		if (share->user == user)
			break;
	}
	if (!share) {
		share = calloc(1, sizeof(*share));
		if (!share)
			return NULL;
		share->user = user;
		LIST_INSERT_HEAD(&shares, share, next);
	}
	share->websockets++;
	return share;
}

static void leave_share(struct share *share)
{
	if (--share->websockets)
		return;
	LIST_REMOVE(share, next);
	free(share);
}

static void refuse_upgrade(struct request *request, int status)
{
	if (status == 426) {
		http_add_header(request, "Upgrade", "websocket");
		http_add_header(request, "Connection", "Upgrade");
		http_add_header(request, "Sec-WebSocket-Version", "13");
	}
	http_error(request, status, NULL, "a WebSocket (RFC 6455, version 13) is spoken here");
}

struct websocket *http_upgrade(struct request *request, const char *protocol, size_t message_max,
			       const struct websocket_calls *calls, void *arg)
{
	struct conn *conn = request->conn;
	int status = conn ? check_upgrade(request) : 0;
	struct websocket *websocket;
	struct auth_lease lease = {0};
	struct share *share;
	char key[32], text[512];
	struct iovec part = {text, 0};

	if (!conn || status) {
		refuse_upgrade(request, status ? status : 400);
		return NULL;
	}
	websocket = calloc(1, sizeof(*websocket));
	share = share_of(request->user);
	if (!websocket || !share || !accept_key(http_header(request, "sec-websocket-key"), key) ||
	    auth_lease_new(conn->server->auth, request->user, gate_lease(request), &lease) < 0) {
		if (share)
			leave_share(share);
		free(websocket);
		http_error(request, 503, NULL, "no memory");
		return NULL;
	}
	*websocket = (struct websocket){.conn = conn,
					.share = share,
					.lease = lease,
					.calls = *calls,
					.arg = arg,
					.message_max = message_max,
					.code = 1006};
	part.iov_len = (size_t)snprintf(
		text, sizeof(text),
		"HTTP/1.1 101 Switching Protocols\r\nServer: cellwall\r\nUpgrade: websocket\r\n"
		"Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s%s%s\r\n",
		key, protocol ? "Sec-WebSocket-Protocol: " : "", protocol ? protocol : "",
		protocol ? "\r\n" : "");
	conn->request = NULL;
	conn->websocket = websocket;
	conn->keep = false;
	gate_log(request, 101);
	request_free(request);
	conn_set_state(conn, CONN_WEBSOCKET);
	(void)conn_write(conn, &part, 1);
	return websocket;
}

/* ---- sending ---- */

static int send_frame(struct websocket *websocket, unsigned opcode, const struct iovec *parts,
		      size_t count)
{
	struct iovec all[1 + 16];
	unsigned char head[WSFRAME_HEAD_MAX];
	uint64_t size = 0;
	int code;

	for (size_t i = 0; i < count; i++)
		size += parts[i].iov_len;
	all[0] = (struct iovec){head, wsframe_write(head, opcode, size)};
	if (count <= 16) {
		if (count)
			memcpy(all + 1, parts, count * sizeof(*parts));
		return conn_write(websocket->conn, all, count + 1);
	}
	code = conn_write(websocket->conn, all, 1);
	for (size_t i = 0; i < count && code == 0; i++)
		code = conn_write(websocket->conn, &parts[i], 1);
	if (code == -ENOMEM) /* half a frame cannot be taken back */
		conn_close(websocket->conn);
	return code;
}

int websocket_send(struct websocket *websocket, bool binary, const struct iovec *parts,
		   size_t count)
{
	int code;

	if (websocket->closing)
		return -EPIPE;
	code = send_frame(websocket, binary ? WSFRAME_BINARY : WSFRAME_TEXT, parts, count);
	if (websocket->conn->out_size > WEBSOCKET_LOW)
		websocket->high = true;
	return code;
}

size_t websocket_queued(const struct websocket *websocket)
{
	return websocket->conn->out_size;
}

void websocket_ping(struct websocket *websocket, uint64_t mark)
{
	struct iovec part = {&mark, sizeof(mark)};

	if (!websocket->closing)
		(void)send_frame(websocket, WSFRAME_PING, &part, 1);
}

void websocket_pause(struct websocket *websocket, bool paused)
{
	websocket->conn->paused = paused;
	conn_touch(websocket->conn);
}

static void send_close(struct websocket *websocket, unsigned code, const char *reason)
{
	unsigned char number[2] = {(unsigned char)(code >> 8), (unsigned char)code};
	struct iovec parts[2] = {{number, 2}, {(void *)(uintptr_t)reason, strnlen(reason, 123)}};

	if (websocket->closing)
		return;
	(void)send_frame(websocket, WSFRAME_CLOSE, parts, 2);
	websocket->closing = true;
}

void websocket_close(struct websocket *websocket, unsigned code, const char *reason)
{
	send_close(websocket, code, reason);
	if (websocket->conn->state == CONN_WEBSOCKET)
		conn_finish(websocket->conn);
}

static void fail(struct websocket *websocket, unsigned code, const char *reason)
{
	websocket->code = code;
	websocket_close(websocket, code, reason);
}

/* ---- receiving ---- */

static void take_close(struct websocket *websocket)
{
	size_t size = (size_t)websocket->frame.size;
	unsigned code = 1005;

	if (size >= 2)
		code = (unsigned)websocket->control[0] << 8 | websocket->control[1];
	if (size == 1 || (size >= 2 && !wsframe_code_good(code)) ||
	    (size > 2 && !parse_utf8(websocket->control + 2, size - 2))) {
		fail(websocket, 1002, "");
		return;
	}
	websocket->code = code;
	websocket_close(websocket, code == 1005 ? 1000 : code, "");
}

static void take_control(struct websocket *websocket)
{
	struct iovec part = {websocket->control, (size_t)websocket->frame.size};
	uint64_t mark;

	if (websocket->frame.opcode == WSFRAME_CLOSE) {
		take_close(websocket);
	} else if (websocket->frame.opcode == WSFRAME_PONG && part.iov_len == sizeof(mark) &&
		   websocket->calls.pong) {
		memcpy(&mark, part.iov_base, sizeof(mark));
		websocket->calls.pong(websocket->arg, mark);
	} else if (websocket->frame.opcode == WSFRAME_PING &&
		   websocket->conn->out_size < WEBSOCKET_LOW) { /* the last ping is what counts */
		(void)send_frame(websocket, WSFRAME_PONG, &part, 1);
	}
}

static void take_message(struct websocket *websocket)
{
	char *message = websocket->message;
	size_t size = websocket->message_size;
	bool binary = websocket->message_opcode == WSFRAME_BINARY;
	bool whole = binary || websocket->message_whole == size;

	websocket->message = NULL;
	websocket->share->unfinished -= websocket->message_room;
	websocket->message_size = websocket->message_room = websocket->message_whole = 0;
	websocket->message_opcode = 0;
	if (!whole)
		fail(websocket, 1007, "");
	else
		websocket->calls.message(websocket->arg, binary, message ? message : (char[1]){""},
					 size);
	free(message);
}

/* The head of a frame is there. False: refused. */
static bool begin_frame(struct websocket *websocket)
{
	const struct wsframe *frame = &websocket->frame;

	websocket->done = 0;
	if (frame->opcode >= WSFRAME_CLOSE)
		return true;
	if ((frame->opcode == WSFRAME_MORE) != (websocket->message_opcode != 0)) {
		fail(websocket, 1002, "");
		return false;
	}
	if (frame->size > websocket->message_max - websocket->message_size) {
		fail(websocket, 1009, "the message is too large");
		return false;
	}
	if (frame->opcode)
		websocket->message_opcode = frame->opcode;
	return true;
}

/* Room for what has come, not for what is announced. */
static bool make_room(struct websocket *websocket, size_t size)
{
	size_t need = websocket->message_size + size;
	size_t room = websocket->message_room;
	char *more;

	if (need <= room)
		return true;
	room = need + (need > 4096 ? need / 2 : 0);
	if (room > websocket->message_max)
		room = need > websocket->message_max ? need : websocket->message_max;
	if (room - websocket->message_room > UNFINISHED_MAX - websocket->share->unfinished)
		return false;
	more = realloc(websocket->message, room);
	if (!more)
		return false;
	websocket->share->unfinished += room - websocket->message_room;
	websocket->message = more;
	websocket->message_room = room;
	return true;
}

/* What has come of a text is refused as soon as nothing could make it UTF-8. */
static bool check_text(struct websocket *websocket)
{
	size_t whole = websocket->message_whole;
	ptrdiff_t more;

	if (websocket->message_opcode != WSFRAME_TEXT || websocket->message_size == whole)
		return true;
	more = parse_utf8_whole(websocket->message + whole, websocket->message_size - whole);
	if (more < 0) {
		fail(websocket, 1007, "");
		return false;
	}
	websocket->message_whole += (size_t)more;
	return true;
}

/* Payload of the frame that has begun. False: refused. */
static bool take_payload(struct websocket *websocket, const char *data, size_t size)
{
	struct wsframe *frame = &websocket->frame;
	char *to;

	if (frame->opcode >= WSFRAME_CLOSE) {
		to = (char *)websocket->control + websocket->done;
	} else {
		if (!make_room(websocket, size)) {
			fail(websocket, 1011, "there is no memory for this message");
			return false;
		}
		to = websocket->message + websocket->message_size;
		websocket->message_size += size;
	}
	if (size) {
		memcpy(to, data, size);
		wsframe_mask(frame->mask, websocket->done, to, size);
	}
	websocket->done += size;
	return frame->opcode >= WSFRAME_CLOSE || check_text(websocket);
}

static void end_frame(struct websocket *websocket)
{
	websocket->inside = false;
	if (websocket->frame.opcode >= WSFRAME_CLOSE)
		take_control(websocket);
	else if (websocket->frame.last)
		take_message(websocket);
}

/* One byte more of a head. False: refused. */
static bool take_head_byte(struct websocket *websocket, char byte)
{
	int size;

	websocket->head[websocket->head_size++] = (unsigned char)byte;
	size = wsframe_read(websocket->head, websocket->head_size, &websocket->frame);
	if (size < 0) {
		fail(websocket, 1002, "");
		return false;
	}
	if (size == 0)
		return true;
	websocket->head_size = 0;
	websocket->inside = true;
	return begin_frame(websocket);
}

size_t websocket_feed(struct conn *conn, const char *data, size_t size)
{
	struct websocket *websocket = conn->websocket;
	size_t before = size;

	while (size && conn->state == CONN_WEBSOCKET && !conn->paused) {
		size_t part = 1;

		if (!websocket->inside) {
			if (!take_head_byte(websocket, *data))
				break;
		} else {
			uint64_t left = websocket->frame.size - websocket->done;

			part = left < size ? (size_t)left : size;
			if (!take_payload(websocket, data, part))
				break;
		}
		data += part;
		size -= part;
		if (websocket->inside && websocket->done == websocket->frame.size)
			end_frame(websocket);
	}
	return conn->state == CONN_WEBSOCKET ? before - size : before;
}

/* ---- time, and the end ---- */

static void check_token(struct conn *conn)
{
	struct websocket *websocket = conn->websocket;

	if (websocket && conn->state == CONN_WEBSOCKET &&
	    !auth_lease_good(conn->server->auth, websocket->share->user, &websocket->lease))
		fail(websocket, 1008, "the token that this was opened with has ended");
}

void websocket_check_all(struct conns *conns)
{
	struct conn *conn;

	LIST_FOREACH(conn, &conns->all, in_all)
	{
		check_token(conn);
	}
}

void websocket_tick(struct conn *conn)
{
	if (!conn->paused && now_ms() - conn->heard > CONN_PONG_MS)
		conn_close(conn);
	else if (conn->out_size < WEBSOCKET_LOW)
		(void)send_frame(conn->websocket, WSFRAME_PING, NULL, 0);
	check_token(conn);
}

void websocket_flushed(struct conn *conn)
{
	struct websocket *websocket = conn->websocket;

	if (websocket->high && conn->out_size < WEBSOCKET_LOW) {
		websocket->high = false;
		websocket->calls.drained(websocket->arg);
	}
}

void websocket_end(struct conn *conn)
{
	struct websocket *websocket = conn->websocket;

	conn->websocket = NULL;
	websocket->calls.closed(websocket->arg, websocket->code);
	websocket->share->unfinished -= websocket->message_room;
	leave_share(websocket->share);
	auth_lease_end(&websocket->lease);
	free(websocket->message);
	free(websocket);
}
