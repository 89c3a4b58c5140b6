/*
 * corridor: the way of every message, room by room. relay_one() names the rooms in order; who opens
 * it sees the product.
 *
 * In: the frames of one message and the side it came from. Out: whether it goes on, what the guard
 * says of it, and the signature for the other side. Counts and logs what goes no further; keeps
 * nothing else.
 */
#ifndef PROXY_CORRIDOR_H
#define PROXY_CORRIDOR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "proxy/audit.h"
#include "proxy/guard.h"
#include "proxy/header.h"
#include "proxy/sign.h"
#include "proxy/wire.h"
#include "sandbox/wall.h"

struct corridor {
	struct sign *outer, *inner; /* owned; the clients' key and the kernel's */
	struct audit *audit;	    /* borrowed; NULL: no log */
	unsigned refused[2][SIGN_VERDICTS];
	unsigned malformed[2];
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
};

/* Returns true when the message goes on. Everything else of it passes byte for byte. */
bool relay_one(struct corridor *corridor, struct passage *passage);

/* Logs what was refused in all, and frees the keys. */
void corridor_done(struct corridor *corridor);

#endif
