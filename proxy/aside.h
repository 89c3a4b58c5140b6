/*
 * aside: one signature of a large message, computed in a thread of its own while the message still
 * arrives.
 *
 * SHA-256 takes longer than the bytes do through the wall, and a message needs two: one to check
 * and one to make. The thread reads only what it was told is there. It takes part in no decision:
 * the digest is compared, or used, by who asks for it.
 */
#ifndef PROXY_ASIDE_H
#define PROXY_ASIDE_H

#include <stddef.h>
#include <sys/uio.h>

#include "proxy/sign.h"

struct aside;

/* Begins. The bytes of `parts` (the array is copied) must stay until aside_free; none needs to be
 * there yet. NULL: not possible, or the key is empty. */
struct aside *aside_new(const struct sign *sign, const struct iovec parts[4]);
/* The first `size` bytes of the parts together are there and change no more. Never blocks. */
void aside_feed(struct aside *aside, size_t size);
/* All bytes are there: waits for the thread. The run, borrowed until aside_free, has them all. */
struct sign_run *aside_finish(struct aside *aside);
struct aside *aside_free(struct aside *aside); /* stops it; accepts NULL; returns NULL */

#endif
