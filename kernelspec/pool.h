/*
 * pool: the bytes of the store's files, once. STORE/files/<2 hex>/<62 hex><mode> is another name (a
 * hard link) of a file of one or more trees, by the SHA-256 of its bytes and whether it may be
 * executed. Environments that are alike take little more room than one.
 *
 * In: a file that was just hashed. What the pool has under that hash is looked through anew before
 * it is shared: a byte changed in one tree must not come into the next. Never logs; nothing
 * of it fails a build.
 */
#ifndef KERNELSPEC_POOL_H
#define KERNELSPEC_POOL_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Makes `name` of `directory` a link to what the pool has of these `size` bytes, compared one by
 * one. False: it has none that is as it should be, or `name` is there.
 */
bool pool_find(int pool, int directory, const char *name, const char *hex, bool executable,
	       const void *data, size_t size);
/*
 * The file `name` of `directory`, which has the digest `hex` (64 digits), becomes a link to the
 * same bytes in the directory `pool`, or the one that is there later ones become links to. -1 for
 * `pool`: nothing is shared.
 */
void pool_share(int pool, int directory, const char *name, const char *hex, bool executable);
/* Removes what no tree has any more. Nothing is built meanwhile. */
void pool_sweep(int pool);

#endif
