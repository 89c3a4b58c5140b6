/*
 * tally: what one kernel's wall decided, as numbers in memory that who started it reads.
 *
 * In: messages by direction, channel and verdict, attempts by kind. Out: the same numbers, in
 * another process: `cellwall serve` makes a sealed memfd (memfd_create(2)) for each kernel, hands
 * its descriptor down and names it in CELLWALL_TALLY; `cellwall kernel` maps it and counts. Nothing
 * of it is text of a kernel's, and no process behind the wall has it. One writer at a time. Every
 * function takes NULL for "nobody counts". Never logs.
 */
#ifndef PROXY_TALLY_H
#define PROXY_TALLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sandbox/base.h"
#include "sandbox/wall.h"

enum tally_verdict { TALLY_PASSED, TALLY_CHANGED, TALLY_DROPPED, TALLY_VERDICTS };

/* What was tried in vain, as the supervisor says it; two more that come in other words. */
enum tally_kind {
	TALLY_CONNECT,
	TALLY_SEND,
	TALLY_BIND,
	TALLY_SOCKET,
	TALLY_CALL,
	TALLY_EXEC,
	TALLY_LOOKUP,
	TALLY_READ,
	TALLY_UNLISTED, /* too many to be told one by one */
	TALLY_RESULT,	/* a file that did not come out */
	TALLY_KINDS
};

struct tally {
	uint64_t messages[2][WALL_CHANNELS][TALLY_VERDICTS]; /* [1]: from clients */
	uint64_t bytes[2][WALL_CHANNELS][TALLY_VERDICTS];    /* as they came */
	uint64_t blocked[TALLY_KINDS];
};

extern const char *const tally_verdicts[TALLY_VERDICTS];
extern const char *const tally_kinds[TALLY_KINDS];

/* A new one, zero, to be read, and the descriptor for who counts (close-on-exec). tally_done frees
 * the one, the caller closes the other. Returns 0 or a negative errno. */
int tally_make(const struct tally **ret_tally, int *ret_fd, struct err *err);
/* The one that CELLWALL_TALLY names, to be counted in until the process ends; its descriptor is
 * closed. NULL: there is none, or it is not one of tally_make. */
struct tally *tally_take(void);
const struct tally *tally_done(const struct tally *tally); /* returns NULL */

void tally_message(struct tally *tally, bool inward, enum wall_channel channel,
		   enum tally_verdict verdict, size_t bytes);
void tally_blocked(struct tally *tally, enum tally_kind kind, uint64_t count);
/* Adds all of `tally`, which may be counted in meanwhile. */
void tally_add(struct tally *sum, const struct tally *tally);

#endif
