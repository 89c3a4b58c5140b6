/*
 * corridor: the way of every message, room by room. relay_one() names the rooms in order; who opens
 * it sees the product.
 *
 * In: the frames of one message and the side it came from. Out: whether it goes on, what the guard
 * says of it, and the signature for the other side. From a client it goes on byte for byte. From
 * the kernel its headers are made anew and its content is examined (outward.c), unless the policy
 * says that the kernel is trusted. Counts and logs what goes no further.
 */
#ifndef PROXY_CORRIDOR_H
#define PROXY_CORRIDOR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "proxy/audit.h"
#include "proxy/examine.h"
#include "proxy/guard.h"
#include "proxy/header.h"
#include "proxy/recent.h"
#include "proxy/requests.h"
#include "proxy/sign.h"
#include "proxy/tally.h"
#include "proxy/wire.h"
#include "sandbox/wall.h"

/* Why a well-formed, signed message of the kernel goes no further. */
enum refusal {
	REFUSED_NOT,
	REFUSED_SILENTLY, /* as it should */
	REFUSED_TYPE,
	REFUSED_ID,
	REFUSED_REPEATED,
	REFUSED_PARENT,
	REFUSED_STATE,
	REFUSED_INPUT,
	REFUSED_CONTENT,
	REFUSED_SIZE,
	REFUSALS
};

struct joining;

struct corridor {
	struct sign *outer, *inner;	   /* owned; the clients' key and the kernel's */
	struct audit *audit;		   /* borrowed; NULL: no log */
	struct tally *tally;		   /* borrowed; NULL: nobody counts */
	struct requests *requests;	   /* owned; may be NULL: nothing is remembered */
	const struct outputs_rules *rules; /* borrowed; NULL: a trusted kernel */
	struct examine *examine;	   /* borrowed; needed with rules, as the next */
	struct known *known;
	struct recent *ids;  /* owned; of the kernel's messages, made when needed */
	const char *session; /* borrowed; what all messages to clients carry */
	bool forgot;	     /* it was said that old requests are forgotten */
	uint64_t asking;     /* the client that an input_request waits for; 0: none */
	unsigned told;	     /* as struct request's, for what belongs to none */
	uint64_t output;
	unsigned refused[2][SIGN_VERDICTS];
	unsigned malformed[2];
	unsigned kept_back[REFUSALS];
	struct joining *joining; /* borrowed; NULL: nothing is joined */
	unsigned blocked;	 /* messages of which something was taken out */
};

struct passage {
	enum guard_direction direction;
	enum wall_channel channel;
	const struct iovec *parts; /* borrowed */
	size_t count;
	/* what relay_one finds */
	struct wire_msg wire;
	struct header header;
	enum guard_verdict verdict;
	char signature[SIGN_HEX_MAX]; /* with the other side's key */
	size_t signature_part;	      /* index of the part it replaces */
	/* of a message of the kernel */
	struct request *request; /* what it belongs to, or NULL; until the next message comes in */
	bool moved;		 /* to the newest, as its own is forgotten */
	struct guard guard;
	struct iovec fresh[4];	   /* what its signed parts become */
	const char *topic;	   /* in place of what is before the delimiter, or NULL */
	size_t fresh_count;	   /* of parts */
	struct iovec stream, text; /* of a clean piece of a stream: its name and text */
	bool changed;		   /* something was taken out of it */
	bool joins;		   /* not signed: it becomes part of another message (joining.h) */
	char header_text[HEADER_REBUILT];
	char *content, *metadata; /* owned: what fresh points to */
	char *comm_close;	  /* owned: the content of an answer to the kernel */
	char *said;		  /* owned: for the notebook */
};

/* Returns true when the message goes on. Call passage_done in either case. */
bool relay_one(struct corridor *corridor, struct passage *passage);
/* Makes a kernel's frame what goes on. Returns 0 or -ENOMEM. */
int passage_dress(const struct passage *passage, struct wall_frame *frame);
void passage_done(struct passage *passage);

/* "shell", "control", … */
const char *corridor_channel(const struct passage *passage);

/* An interrupt is on its way: a question to a client is not waited for any more. */
void corridor_interrupted(struct corridor *corridor);

/* Logs what was refused in all, and frees what is owned. */
void corridor_done(struct corridor *corridor);

/* ---- outward.c ---- */

/*
 * The pure part: what a kernel's message becomes, from a look at its headers and a scan. Sets
 * *ret_examine when its content has to be examined first.
 */
enum refusal outward_prepare(struct corridor *corridor, struct passage *passage, bool *ret_examine);
/* Asks the guard process. A reply in which it refuses all goes on as an error that says so. */
enum refusal outward_examine(struct corridor *corridor, struct passage *passage);
/* It is signed and goes on: what follows from it for those to come. */
enum refusal outward_commit(struct corridor *corridor, struct passage *passage);
/* Remembers what a client's message means for those of the kernel. */
void outward_expect(struct corridor *corridor, struct passage *passage);

#endif
