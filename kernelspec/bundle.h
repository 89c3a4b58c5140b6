/*
 * bundle: what a build made, on its way from the sandbox to the store. One file, written by
 * share/env/build.py among hostile packages and read here, record by record, believing nothing.
 *
 *   "cellwall bundle 1\n", then records: one byte, a little-endian 16 bit length and a name;
 *     'd'            a directory
 *     'f', 'x'       a file, one that can be executed: 64 bit size, the bytes
 *     'l'            a symbolic link: 64 bit size, what it says
 *     'm'            a file about the environment ("lock"), before all of the tree
 *     'w'            a wheel or source distribution that was used, by its file name, likewise
 *   and 'e' at the end. Names of the tree are relative paths, a directory before what is in it.
 *
 * Refused, with the name: absolute paths, "." and "..", empty components, control characters,
 * names twice or without their directory, links that lead out of the tree (but bin/python*, which
 * names the interpreter), more or larger than the limits below. Written with the *at calls below
 * directories made here, never through a link. Never logs.
 */
#ifndef KERNELSPEC_BUNDLE_H
#define KERNELSPEC_BUNDLE_H

#include <stdint.h>

#include "sandbox/base.h"

#define BUNDLE_BYTES (UINT64_C(64) << 30)
#define BUNDLE_FILES 2000000
#define BUNDLE_DEPTH 48
#define BUNDLE_PATH  1024
#define BUNDLE_TEXT  (1u << 20) /* of a link or a file about the environment */

/* What is told of each record as it is written. Sizes in bytes, hashes in hex; 0 or -errno. */
struct bundle_sink {
	/* `kind` as above; `digest` of a file, `to` of a link, NULL otherwise */
	int (*entry)(void *arg, char kind, const char *path, const char *digest, const char *to,
		     uint64_t size);
	/* a file about the environment: `name` and its text, lent */
	int (*note)(void *arg, const char *name, const char *text, size_t size);
	void *arg;
};

/*
 * Reads a bundle from `in` (lent), writes its tree below the directory `tree` and its wheels to
 * WHEELS/<sha256>/<name> below the directory `wheels` (both lent; -1: wheels are passed over).
 * Files get the modes 0444 and 0555, and share their bytes with those of `pool` (lent; pool.h).
 * Returns 0 or a negative errno; -EPROTO: not what is described above.
 */
int bundle_read(int in, int tree, int wheels, int pool, const struct bundle_sink *sink,
		struct err *err);

#endif
