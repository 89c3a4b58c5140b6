/*
 * link_parts: what the host's end of the link consists of, for its own files alone: link.c
 * (sockets, timers, who may connect), link_session.c (a kernel and its client), link_client.c (what
 * clients send).
 */
#ifndef WEB_LINK_PARTS_H
#define WEB_LINK_PARTS_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/keys.h"
#include "web/bridge.h"
#include "web/link_peers.h"
#include "web/link_stream.h"

#define LINK_ROUTING 5 /* bytes of a routing id that the ROUTER made: 0 and a number */

/* So long a client has to hear why its connection is ended. */
#define LINK_PARTING_MS 1000

struct timer;
struct watch;

#define HELD_COST 512 /* of a message that waits, besides its parts */

struct held {
	struct held *next;
	struct link_message *message;
};

struct session {
	struct session *next;
	struct link *link;
	unsigned char id[LINK_ID];
	char key[KEYS_TEXT];
	char owner[KEYS_NAME];
	unsigned char routing[LINK_ROUTING];
	bool there; /* it has a connection: `routing` and `fd` are its */
	int fd;
	int64_t heard, said;
	uint64_t acknowledged;
	struct link_stream *stream;
	struct kernel *kernel; /* NULL: gone */
	struct listener listener;
	struct held *first, **last; /* what the kernel does not take now */
	size_t held;		    /* bytes of that, with HELD_COST each */
	unsigned unsaid;	    /* lines that the log's rate left out */
	int64_t logged;
	bool full; /* its connection takes nothing more now; `retry` looks after it */
	bool paused, dropping;
	int64_t paused_at;
	size_t paused_queued; /* bytes that waited then */
	uint64_t dropped;
	bool stop; /* its kernel is to be stopped, `why` */
	bool revoked;
	const char *why;
	int64_t gone_at;
};

struct link {
	struct server *server;
	void *context, *router, *zap;
	struct link_peers *peers;
	struct watch *router_watch, *zap_watch, *peers_watch;
	struct timer *tick, *soon, *retry;
	int64_t ticked;
	struct keys_allowed *allowed;
	struct session *sessions;
	unsigned count;
	unsigned refused; /* handshakes; for the log's rate */
	int64_t refused_said;
};

/* Where a frame came from. */
struct link_origin {
	const char *key;
	unsigned char routing[LINK_ROUTING];
	int fd;
};

/* Looks after everything once the current call is over. */
void link_run_soon(struct link *link);
/* Returns 0; -EAGAIN when that connection takes nothing more now; -EHOSTUNREACH when it has ended.
 */
int link_send_to(struct link *link, const unsigned char routing[LINK_ROUTING], const void *bytes,
		 size_t size);
/* Sends to it again in a while. */
void link_retry(struct session *session);
/* One line a second of what a client can cause: whether to log it. `ret_count`: lines since then.
 */
bool link_may_log(struct session *session, unsigned *ret_count);
/* Tells it, and ends its connection when it had time to hear it. */
void link_refuse(struct link *link, const unsigned char routing[LINK_ROUTING], int fd,
		 enum link_refusal why, const char *text);

/* Sends what the window allows, and pauses the kernel or lets it go on. */
void link_flush(struct session *session);
/* It has no connection any more; what there still is of one is ended in `ms` milliseconds. */
void link_set_away(struct session *session, int64_t ms);
void link_send_number(struct session *session, enum link_type type, uint64_t number);
void link_send_event(struct session *session, const char *word, const char *text);
/* Tells the other end what was taken, unless something waits for the kernel. */
void link_acknowledge(struct session *session);
/* What a message counts for among those that are held. */
size_t link_held_bytes(const struct link_message *message);
/* Gives the kernel what it did not take before. */
void link_send_held(struct session *session);
/* Output that was dropped is told. */
void link_tell_dropped(struct session *session);
/* Sets what its kernel calls. */
void link_listen(struct session *session);
/* Stops its kernel; that it is gone follows from that. */
void link_stop_kernel(struct session *session, const char *why);
void link_session_free(struct session *session);
/* What is left to do outside of any call of a kernel; frees what is over. */
void link_look_after(struct link *link);

/* A frame of the owner of `origin->key`. */
void link_take_frame(struct link *link, const struct link_origin *origin, const void *bytes,
		     size_t size);

#endif
