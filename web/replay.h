/*
 * replay: what one client of a kernel is to be told, over as many connections as that takes: what
 * waits for it, and what was sent and may not have arrived.
 *
 * In: a kernel's messages (packet.h), by reference, and how many of those sent have arrived, which
 * a ping behind them asks for. Out: the next one to send; after a connection's end those again that
 * nobody confirmed. Bounded: REPLAY_BYTES for what was sent, and for what waits by replay_shorten;
 * how many were lost to that is told by a line that goes before the rest, and again until it has
 * arrived. Never blocks, never logs.
 */
#ifndef WEB_REPLAY_H
#define WEB_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REPLAY_BYTES (16u * 1024 * 1024)
#define REPLAY_COUNT 20000u

struct packet;
struct queued;

struct replay {
	/* for its user to read */
	size_t count, bytes; /* of what waits */
	/* its own */
	struct queued *first, **last;
	struct queued *sent, **sent_last; /* and perhaps not arrived */
	size_t sent_bytes;
	uint64_t total, asked; /* messages sent, and how many of them a ping asked for */
	uint64_t answered;     /* so many have arrived */
	uint64_t forgotten;    /* so many are not in `sent` any more, for want of room */
	unsigned long more;    /* what lines told of that were forgotten */
	unsigned long lost;    /* and not told of yet */
};

/* It is not moved from here on. */
void replay_init(struct replay *replay);
void replay_done(struct replay *replay);

/* Keeps a reference; without memory it is counted as lost. */
void replay_put(struct replay *replay, struct packet *packet);
/* What is to be sent now, borrowed; NULL: nothing. Then one of the two: */
const struct packet *replay_next(struct replay *replay);
void replay_sent(struct replay *replay);   /* kept until it has arrived */
void replay_remove(struct replay *replay); /* forgotten */

/* Whether something was sent and no ping is on its way; what number one is to ask for; and that the
 * client has read so many. */
bool replay_unasked(const struct replay *replay);
uint64_t replay_ask(struct replay *replay);
void replay_arrived(struct replay *replay, uint64_t number);

/* The connection is over: what may not have arrived goes back to the front of the queue. */
void replay_take_back(struct replay *replay);
/* Nobody is there: the oldest outputs go, past REPLAY_BYTES or REPLAY_COUNT. */
void replay_shorten(struct replay *replay);

#endif
