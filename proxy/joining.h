/*
 * joining: adjacent pieces of one stream become one message when they come faster than anybody
 * reads.
 *
 * In: pieces that scan.h has recognised, as they stand in their JSON strings, with the headers that
 * they would have. Out: one message with all their text, under the first one's msg_id. A piece
 * waits only for more of its like: the caller sends what waits before anything else that the kernel
 * says, when its time is over, and when the next piece does not fit. Nothing that a front end would
 * not see: it joins the pieces of a stream itself, and the scan of each minds what is beside it
 * then.
 *
 * No clock, no I/O. At most JOIN_MAX bytes wait. Never logs.
 */
#ifndef PROXY_JOINING_H
#define PROXY_JOINING_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/corridor.h"

struct joining {
	unsigned tokens, milli; /* pieces that may come as they are; and thousandths of the next */
	int64_t filled;		/* when they were last counted, ms; 0: never */
	bool fast;
	bool behind;   /* set by the caller: clients have not taken what was sent */
	int64_t until; /* what waits goes on then; 0: nothing waits */
	char *bytes;   /* owned: topic, header, parent and content as far as it is known */
	size_t size, room;
	size_t topic, header, parent; /* sizes */
	size_t name, text;	      /* where the stream's name is, and where its text begins */
	unsigned moves;		      /* \r and \b, at the most */
};

/* Counts a piece. True when it is to be joined. */
bool joining_wants(struct joining *joining, int64_t now);
/* Keeps the piece of a passage. False: it does not fit to what waits, or out of memory. */
bool joining_add(struct joining *joining, const struct passage *passage, int64_t now);
/* What waits, as a frame signed by `sign`, which the caller owns; its content in *ret_content, as
 * long as the frame is. NULL: nothing waits, or it is lost as there is no memory (-ENOMEM in
 * *ret_code). */
struct wall_frame *joining_take(struct joining *joining, struct sign *sign,
				struct iovec *ret_content, int *ret_code);
void joining_done(struct joining *joining);

#endif
