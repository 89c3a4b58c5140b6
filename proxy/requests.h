/*
 * requests: what clients have asked, so that a kernel can answer that and nothing else.
 *
 * In: every message of a client on shell and control. Out: the request that a message of the kernel
 * says it belongs to, with the header, the code and the client as they were, not as the kernel
 * repeats them. The newest REQUESTS_MAX are kept within REQUESTS_BYTES; of the oldest those that
 * still wait for their reply stay a while longer. Constant time, with a keyed hash (SipHash, as
 * clients choose their ids). Never logs.
 */
#ifndef PROXY_REQUESTS_H
#define PROXY_REQUESTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "proxy/header.h"
#include "sandbox/base.h"
#include "sandbox/wall.h"

struct request {
	struct request *next; /* of the same bucket */
	enum wall_channel channel;
	bool waits;	   /* for its one reply */
	bool allows_stdin; /* the kernel may ask this client */
	unsigned told;	   /* what was said of it already: a bit each, the corridor's */
	uint64_t output;   /* bytes */
	size_t size;	   /* of this block, and of code */
	const char *msg_id, *msg_type, *session;
	struct iovec header, identity; /* as they came; the header is followed by a NUL */
	char *code;		       /* a JSON string with its quotes, or NULL */
};

struct requests;

struct requests *requests_new(void); /* NULL: no memory or no random numbers */
struct requests *requests_free(struct requests *requests); /* accepts NULL; returns NULL */

/* Remembers a request; `content` is looked at for an execute_request alone. Returns it, or NULL
 * when out of memory. */
struct request *requests_add(struct requests *requests, enum wall_channel channel,
			     struct iovec identity, struct iovec header,
			     const struct header *fields, struct iovec content);

/*
 * The newest request with this msg_id whose session is the same (NULL: any), or failing that the
 * newest with this msg_id. NULL: none.
 */
struct request *requests_find(const struct requests *requests, const char *msg_id,
			      const char *session);
/* The one that came from this client on this channel and waits for a reply. NULL: none. */
struct request *requests_asked(const struct requests *requests, const char *msg_id,
			       enum wall_channel channel, struct iovec identity);
/* The newest request to run code that is not over, else the newest of all: for output of a request
 * that was forgotten. NULL while none was. */
struct request *requests_instead(const struct requests *requests);
/* Gives its code's memory back: it is needed once. */
void requests_drop_code(struct requests *requests, struct request *request);

/*
 * The bytes of a member of a JSON object, as they are in it, from its first to its last; of several
 * with that name the last. `text` is a client's own. iov_len 0: there is none.
 */
struct iovec requests_member(struct iovec text, const char *name);

/* SipHash-2-4 (Aumasson and Bernstein 2012) with the key of `requests`. */
uint64_t requests_hash(const struct requests *requests, const void *data, size_t size);

#endif
