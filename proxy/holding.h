/*
 * holding: a cell's end (its reply and its idle status) waits until its files are in staging/out,
 * at most HOLD_MS.
 *
 * Front ends stop listening to a cell when both have come: what the collector has to say must be
 * there before. One entry per cell, found by the parent's msg_id; bounded by HOLD_MAX, beyond that
 * a cell does not wait.
 */
#ifndef PROXY_HOLDING_H
#define PROXY_HOLDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proxy/channel.h"
#include "proxy/limits.h"

#define HOLD_FRAMES 4 /* a reply; a hostile kernel's further ones pass after these */

struct hold {
	bool used;
	bool released;	   /* its collection is over: the other half passes at once */
	uint64_t sequence; /* of the collection it waits for */
	int64_t deadline;
	char msg_id[256];
	char *parent; /* the parent header as raw JSON, for notices; may be NULL */
	size_t frames;
	struct {
		enum wall_channel channel;
		struct wall_frame *frame;
	} frame[HOLD_FRAMES];
};

/* Output that waits: an idle status for its cell's collection, what follows it for its turn. */
struct held_output {
	struct held_output *next;
	uint64_t sequence; /* of the collection it waits for; 0: for those before it alone */
	int64_t deadline;
	struct wall_frame *frame;
};

struct holding {
	struct held_output *first, **last; /* iopub, in the kernel's order */
	size_t bytes;			   /* of these */
	uint64_t sequence;		   /* the last collection asked for */
	size_t next; /* oldest entry, overwritten when all are used and released */
	struct hold hold[HOLD_MAX];
};

/* The entry of that cell, or a fresh one (*ret_fresh: ask for a collection with ->sequence), or
 * NULL: do not wait. */
struct hold *holding_enter(struct holding *holding, const char *msg_id, const char *parent,
			   size_t parent_size, int64_t now, bool *ret_fresh);
/* Keeps one reply (takes the reference). False: full or released, send it now. */
bool holding_keep(struct hold *hold, enum wall_channel channel, struct wall_frame *frame);
/*
 * Keeps one frame of iopub (takes the reference): `hold` is its cell's entry when it ends a cell,
 * else NULL. False: nothing that came before it waits, send it now. What is kept stays in order: a
 * front end shows the last status that it saw.
 */
bool holding_output(struct holding *holding, const struct hold *hold, struct wall_frame *frame);
/* Sends the output whose turn it is: collections up to `done` are over. */
void holding_flush(struct holding *holding, struct channels *channels, uint64_t done, int64_t now);
/* The next entry to let go: its collection (`done` and before) is over, or its time is. NULL: none.
 */
struct hold *holding_due(struct holding *holding, uint64_t done, int64_t now);
/* Sends the replies that an entry kept and marks it released. */
void holding_release(struct hold *hold, struct channels *channels);
/* Milliseconds until an entry's time is over, -1: none waits. */
int holding_timeout(const struct holding *holding, int64_t now);
void holding_done(struct holding *holding);

#endif
