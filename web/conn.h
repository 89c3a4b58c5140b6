/*
 * conn: one connection: its socket, its TLS, what waits to be written, and its deadlines.
 *
 * In: bytes of strangers. Out: heads to web/gate.h, bodies to handlers, frames to web/websocket.c.
 * Nothing here blocks: what cannot be written waits in a queue, and while an answer is owed nothing
 * more is read. A connection that dawdles with its handshake, its head, its body or our answer is
 * closed; when there are too many, the one that has waited longest without a request goes first.
 * Internal to the HTTP rooms; handlers use web/http.h.
 */
#ifndef WEB_CONN_H
#define WEB_CONN_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

#include "web/loop.h"
#include "web/parse.h"
#include "web/server.h"

#define CONN_READ_SIZE	(64u * 1024)
#define CONN_HEAD_MS	10000  /* handshake and head, from the first moment on */
#define CONN_KEEP_MS	75000  /* between two requests */
#define CONN_PACE_MS	20000  /* so often a body and an answer must have moved … */
#define CONN_PACE_BYTES 20480u /* … by so much */
#define CONN_LINGER_MS	2000   /* from a refusal to the end: the client still reads it */
#define CONN_PING_MS	30000
#define CONN_PONG_MS	90000

enum conn_state {
	CONN_HANDSHAKE,
	CONN_HEAD,
	CONN_WAIT, /* for the answer of a handler, or of the Hub */
	CONN_BODY,
	CONN_WEBSOCKET,
	CONN_CLOSING, /* flushes, then ends */
	CONN_GONE     /* its memory goes at the end of the round */
};

struct piece {
	TAILQ_ENTRY(piece) next;
	size_t size, sent, room;
	char data[];
};

struct websocket;

struct conn {
	struct server *server;
	struct listener *listener;
	enum conn_state state;
	int fd;
	struct watch *watch;
	unsigned events;
	SSL *ssl;
	bool want_write; /* TLS has to write before it can read */
	bool paused;	 /* nothing is read */
	bool look; /* there may be something to read: epoll said so, and it is not empty yet */
	bool half; /* we have said that nothing more comes from us */
	bool keep;
	struct timer *timer;
	uint64_t moved; /* bytes in and out, and how many at the last look */
	uint64_t moved_then;
	int64_t heard; /* now_ms() of the last bytes in */

	char *in; /* what was read and not used yet */
	size_t in_size;

	TAILQ_HEAD(pieces, piece) out;
	size_t out_size;
	int file; /* follows the queue */
	uint64_t file_offset, file_left;

	struct request *request; /* the one that is being read or answered */
	struct parse_chunks chunks;
	uint64_t body_left;
	struct websocket *websocket;

	char peer[64];		/* address, "unix" */
	unsigned uid;		/* of the peer on the Unix socket */
	char *certificate_name; /* common name of a verified client certificate */

	bool waiting, dirty;
	TAILQ_ENTRY(conn) in_waiting;
	LIST_ENTRY(conn) in_all;
	STAILQ_ENTRY(conn) in_dirty;
};

/* All connections of a server. */
struct conns {
	struct server *server;
	unsigned count, most;
	LIST_HEAD(conn_all, conn) all;
	TAILQ_HEAD(conn_waiting, conn) waiting; /* no request of theirs is being answered */
	STAILQ_HEAD(conn_dirty, conn) dirty;
	struct timer *timer;
	char *scratch; /* CONN_READ_SIZE bytes */
};

struct conns *conns_new(struct server *server, unsigned most);
struct conns *conns_free(struct conns *conns); /* closes all; accepts NULL; returns NULL */
/* Takes the descriptor in any case; `ctx` NULL: no TLS. */
void conn_accept(struct conns *conns, struct listener *listener, int fd, SSL_CTX *ctx,
		 const char *peer, unsigned uid);

/* Copies to the queue; written at the end of this round of the loop. Returns 0, -EPIPE, -ENOMEM. */
int conn_write(struct conn *conn, const struct iovec *parts, size_t count);
/* Something changed: writes, reads and goes on at the end of this round. */
void conn_touch(struct conn *conn);
/* The answer is in the queue: on to the next request, or to the end. */
void conn_answered(struct conn *conn);
/* Ends it at once; what is queued is lost. Its request and websocket are told. */
void conn_close(struct conn *conn);
/* Ends it when the queue is empty. */
void conn_finish(struct conn *conn);
/* From now on this state, with its deadline. */
void conn_set_state(struct conn *conn, enum conn_state state);

#endif
