/*
 * replica: a bounded copy of a host file or directory, made by the trusted side before the kernel
 * runs, where a mount cannot do: the host gives no overlayfs, a mount of it cannot be idmapped, or
 * single entries belong to ids that the kernel's user namespace does not have.
 *
 * In: descriptors of both ends. The source is walked with tree.h: never through a link, never to
 * another file system, bounded in depth, entries, files and bytes and time; regular files and
 * directories only. Never overwrites. Never logs; what did not fit is counted and the first named.
 */
#ifndef SANDBOX_REPLICA_H
#define SANDBOX_REPLICA_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "sandbox/base.h"

#define REPLICA_BYTES_MAX (UINT64_C(256) << 20)
#define REPLICA_FILES_MAX 10000
#define REPLICA_MS_MAX	  20000

enum replica_what {
	REPLICA_ALL,	 /* everything, symbolic links too: what is read inside */
	REPLICA_RESULTS, /* no symbolic links and no names that stay inside (names.h): no results */
	REPLICA_FOREIGN, /* as RESULTS, and only what others than `uid` and `gid` own */
};

struct replica {
	/* What the caller fills in. */
	enum replica_what what;
	uid_t uid; /* REPLICA_FOREIGN: who does not count; both must fit */
	gid_t gid;
	char *const *let_out; /* names that are results nevertheless, see names.h */
	/* Root: of whom everything may be copied; else only what everybody can read. -1: whatever
	 * can be opened. */
	uid_t owner;
	uid_t to_uid; /* owner and group of the copies; -1: leave */
	gid_t to_gid;
	uint64_t max_bytes, max_files;
	int64_t deadline; /* now_ms */
	/* NULL, or told of each copied file by its fstat(2). */
	void (*copied)(void *arg, const struct stat *status);
	void *arg;

	/* What it says. */
	uint64_t files, bytes;
	uint64_t left;	     /* entries that were not copied */
	char first[1300];    /* the first of them as it is, relative to the source; "" when none */
	const char *because; /* why: a constant */
};

/* With the limits above. */
void replica_init(struct replica *replica, enum replica_what what);
/* What is in the directory `from` goes into the directory `to`. Returns 0 (look at `left`) or a
 * negative errno when `to` cannot be written or `from` not be read. */
int replica_tree(struct replica *replica, int from, int to);
/* The regular file `from` becomes `to`/`name`. Returns the same. */
int replica_file(struct replica *replica, int from, int to, const char *name);

/*
 * Looks for an entry of the directory `from` that its owner `owner` can read and not everybody can.
 * Returns 1 with its path as it is in `ret`, 0 when there is none among the first `max_entries`, or
 * a negative errno.
 */
int replica_find_private(int from, uid_t owner, uint64_t max_entries, char *ret, size_t size);
/* Is it readable by everybody? */
bool replica_is_public(const struct stat *status);

#endif
