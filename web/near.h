/*
 * near: the near end of the link: a kernel on another host that looks to the clients of a
 * connection file as if it ran here.
 *
 * In: the connection file's sockets (proxy/channel.h), whose messages are checked and signed as
 * `cellwall kernel` does it; signals; the notebook server's end. Out: a session with the host
 * (link_frame.h), over as many connections as it takes, and an exit code. What clients send while
 * the host is away waits; heartbeats are answered here. Logs; the notebook is told when the host
 * is away and when it is back. Before it hears its host it gives up what it does not need
 * (near_enclose.h). near.c is its life, near_host.c the connections to the host, near_name.c where
 * that is, near_local.c what goes to and comes from the clients.
 */
#ifndef WEB_NEAR_H
#define WEB_NEAR_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/channel.h"
#include "proxy/connection.h"
#include "proxy/corridor.h"
#include "proxy/keys.h"
#include "proxy/notice.h"
#include "web/link_stream.h"
#include "web/near_name.h"

struct near_plan {
	const struct connection *connection; /* borrowed, as all */
	const char *host;		     /* HOST:PORT */
	const struct key *host_key;	     /* public */
	const struct key *own_key;	     /* secret */
	const char *order;		     /* JSON, less than LINK_ORDER */
	const char *failure;		     /* not NULL: nothing is tried, clients are told this */
};

/* Runs until the kernel or its clients are gone. Returns 0 when it was asked to end, 1 otherwise
 * (the reason was logged). */
int near_run(const struct near_plan *plan);

/* ---- between the three ---- */

enum near_phase {
	NEAR_APART,    /* no connection; `deadline`: when to try again */
	NEAR_ASKING,   /* where the host is; until `deadline` */
	NEAR_GREETING, /* HELLO is sent; until `deadline` */
	NEAR_TOGETHER,
	NEAR_FAILED, /* telling the clients why, until `deadline` */
	NEAR_OVER
};

struct near {
	const struct near_plan *plan;
	enum near_phase phase;
	int64_t deadline;
	int exit_code;

	struct near_name *name;
	void *context, *socket, *monitor;
	int fds[2]; /* ZMQ_FD of the two */
	bool again; /* one of them may have more */
	struct link_stream *stream;
	unsigned char id[LINK_ID];
	bool known;	     /* the host has the session */
	bool reached;	     /* this connection came to its handshake */
	bool unwanted;	     /* the host refused our key */
	unsigned refusals;   /* connections that came no further than that */
	int64_t heard, said; /* the last frame from and to the host, now_ms */
	int64_t apart_since; /* 0: together */
	bool told_apart;
	uint64_t acknowledged; /* to the host */
	size_t ahead;	       /* bytes that it has sent since */
	char refused[200];     /* why the last connection failed */

	int signals, server;
	bool leaving; /* the end was asked for; until leave_by */
	int64_t leave_by;
	char *parting;		 /* the shutdown_request's header, to be answered, or NULL */
	struct iovec parting_to; /* its client; its bytes are owned */
	bool parting_restart;

	struct channels *channels;
	struct corridor corridor;
	struct notice notice;
	char *cell; /* header of the newest request to run code */
	char *failure;
	unsigned long progress; /* of the clients, at `progress_at` */
	int64_t progress_at;
};

/* The end was asked for. */
void near_leave(struct near *near);
/* Clients are told `text` for a while, then it is over. */
void near_fail(struct near *near, const char *text);

/* Logs a line and shows it in the notebook. Takes `text`, NULL when there was no memory for it. */
void near_say(struct near *near, char *text);

/* Asks where it is; near_host_serve goes on from there. */
void near_host_connect(struct near *near);
/* Ends the connection without a word. */
void near_host_close(struct near *near);
/* It has ended, or is ended for a reason: to be made anew. */
void near_host_lose(struct near *near, const char *why);
#define NEAR_NOBODY                                                                                \
	"nobody answers there: is `cellwall serve --listen curve://…` running, and does a "      \
	"firewall let the port through?"
/* Takes what the host has sent and what became of the connection. */
void near_host_serve(struct near *near);
/* Sends what is to be sent, and what was taken. */
void near_host_tell(struct near *near);

/* True when messages of this channel may be taken now. */
bool near_local_takes(const struct near *near, enum wall_channel channel);
void near_local_receive(struct near *near, enum wall_channel channel);
/* A message of the kernel. Takes `data` of it. */
void near_local_deliver(struct near *near, struct link_message *message);
/* Answers the shutdown_request, if one was asked. */
void near_local_part(struct near *near);
/* Whether clients take so little that the host should wait; cuts those that stand still. */
bool near_local_full(struct near *near, int64_t now);

#endif
