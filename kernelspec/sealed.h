/*
 * sealed: the store of sealed environments. Content-addressed, read-only trees that kernels run
 * from, and names with generations that lead to them.
 *
 *   STORE/trees/<hash>/tree/      what is mounted at /env, directories 0555, files 0444 and 0555
 *   STORE/trees/<hash>/manifest   <hash> is its SHA-256: a line "p SHA256 SIZE parts/N" for each
 *                                 part, and last "m SHA256 SIZE lock"
 *   STORE/trees/<hash>/parts/<n>  a line for each entry, in the order of the tree: "d PATH",
 *                                 "f SHA256 SIZE PATH", "x SHA256 SIZE PATH", "l PATH" TAB
 *                                 "TARGET"; one begins at each directory of the upper levels, so
 *                                 that trees that are alike have most of them in common (pool.h)
 *   STORE/trees/<hash>/lock       requirements with hashes, as pip takes them
 *   STORE/names/<name>/<n>.json   generation n: tree, python, requirements, created, hosts, ...
 *   STORE/names/<name>/current    the number of the one that kernels get
 *   STORE/files/                   their files' bytes, once (pool.h)
 *   STORE/usage/<name>.json       what this user's kernels said that they imported of it
 *   STORE/wheels/<sha256>/<file>  what was downloaded, for the next build
 *   STORE/builds/<id>/            a build under way: flock(2)ed, else left over and to be removed
 *   STORE/live/<id>/              what a running kernel is shown of its cells' packages (added.h)
 *
 * A tree that is in use has a read lock (F_OFD_SETLK) on its manifest, by the proxy of each kernel
 * that runs from it: a write lock, which others could not hold, is what removes it.
 * Nothing in a tree is ever executed or imported by us. STORE is
 * $XDG_DATA_HOME/cellwall/environments; without that variable it is below ~/.local/share, for root
 * /var/lib/cellwall/environments, which everybody may use. Never logs.
 */
#ifndef KERNELSPEC_SEALED_H
#define KERNELSPEC_SEALED_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernelspec/prefix.h"
#include "sandbox/base.h"

#define SEALED_NAME_MAX 64
#define SEALED_HASH	64 /* hex digits */
#define SEALED_KEPT	3  /* generations before the current one that gc leaves */
#define SEALED_SHARED	"/var/lib/cellwall/environments"

/* One generation of a name. */
struct sealed {
	char *store, *name;
	uint64_t number;
	json_t *record;
	const char *hash, *python; /* in the record */
	char *directory;	   /* STORE/trees/<hash> */
	int held;		   /* the tree */
	int guard;		   /* its manifest, under a read lock for as long as it is used */
};

/* This user's store; caller frees. Returns 0 or a negative errno. */
int sealed_store(char **ret_store, struct err *err);
/* Letters, digits, ".", "-" and "_", at most SEALED_NAME_MAX. Returns 0 or -EINVAL with words. */
int sealed_check_name(const char *name, struct err *err);
/* The generation `number` (0: the current one) of `name` in this user's store, or, `shared`, in
 * root's else. Locks the tree. Returns 0, -ENOENT with what to do, or another negative errno. */
int sealed_find(const char *name, uint64_t number, bool shared, struct sealed *ret_sealed,
		struct err *err);
void sealed_done(struct sealed *sealed);
/* Where this user's kernels keep what they imported of the environment (proxy/imported.h). Caller
 * frees; NULL: no memory. */
char *sealed_usage(const char *name);
/* The prefix of `program`, a path below /env: that of the Python it was built with. Returns 0 or a
 * negative errno. */
int sealed_prefix(const struct sealed *sealed, const char *program, struct prefix *ret_prefix,
		  struct err *err);

/* Calls `found` for each generation of `name`, oldest first, then for each name when it is NULL;
 * records that cannot be read are passed over. Returns 0 or the first negative number of `found`.
 */
typedef int sealed_found_fn(void *arg, const char *name, uint64_t number, bool current,
			    const json_t *record);
int sealed_each(const char *store, const char *name, sealed_found_fn *found, void *arg);

/* A build under way. */
struct sealed_build {
	char *store, *name, *directory; /* STORE/builds/<id> */
	int share;			/* of the store: nothing is removed meanwhile */
	int lock;			/* of the name: one build at a time */
	int held;			/* the directory, locked */
	int tree, parts, wheels, pool;	/* DIRECTORY/new/tree, /parts, STORE/wheels and /files */
	FILE *manifest, *part;		/* NULL: none is open */
	char *part_text;
	size_t part_size;
	uint64_t part_count;
	pid_t sweeper;		       /* removes what it was built from, or 0 */
	char *lock_text, *record_text; /* of the bundle's notes; NULL: none */
	char *record_sum;	       /* the digest of the second, in hex */
	uint64_t files, bytes;
};
#define SEALED_NO_BUILD                                                                            \
	{                                                                                          \
		.share = -1, .lock = -1, .held = -1, .tree = -1, .parts = -1, .wheels = -1,        \
		.pool = -1                                                                         \
	}
/* Removes what dead builds left, takes the name. Waits while old ones are removed. -EBUSY: somebody
 * else builds it. */
int sealed_begin(const char *name, struct sealed_build *ret_build, struct err *err);
/* Reads the bundle `in` (lent) into the build. */
int sealed_take(struct sealed_build *build, int in, struct err *err);
/* Gives the tree its place and the name its next generation; `record` (lent) gets "tree", and where
 * it has one, that must be it (-EBADMSG). Returns the number of the generation or a negative errno.
 */
int64_t sealed_commit(struct sealed_build *build, json_t *record, struct err *err);
/* Makes STORE/WHERE/<id>, mode 0700, locked (both for the caller), and removes those that nobody
 * holds any more. Returns 0 or a negative errno. */
int sealed_hold(const char *store, const char *where, char **ret_directory, int *ret_held,
		struct err *err);
/* Removes what a build has not committed. */
void sealed_abandon(struct sealed_build *build);

/* Makes `number` the current generation. */
int sealed_choose(const char *store, const char *name, uint64_t number, struct err *err);
/* Removes the name with all generations; its trees go with sealed_collect. */
int sealed_forget(const char *store, const char *name, struct err *err);
/* Removes generations but the current and the SEALED_KEPT before it, trees that no generation names
 * and no kernel uses, and wheels that no lock names. `ret_removed` (may be NULL): how many. */
int sealed_collect(const char *store, uint64_t *ret_removed, struct err *err);

/* The SHA-256 of `size` bytes, in hex. Returns 0 or -ENOMEM. */
int sealed_digest(const void *data, size_t size, char hex[SEALED_HASH + 1]);
/* The lines of the manifest, with those of its parts in their places; caller frees. `differs` is
 * called for the manifest and for each part that is not as it was sealed; NULL: then -EBADMSG. */
typedef void sealed_differs_fn(void *arg, const char *path, const char *how);
int sealed_manifest(const char *directory, const char *hash, sealed_differs_fn *differs, void *arg,
		    char **ret_text, struct err *err);
/* Compares the tree with its manifest and that with `hash`. `differs` is called for each path that
 * is not as it was built, with what it is. Returns the number of differences or a negative errno.
 */
int64_t sealed_verify(const char *directory, const char *hash, sealed_differs_fn *differs,
		      void *arg, struct err *err);

#endif
