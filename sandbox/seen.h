/*
 * seen: the collector's memory. What it brought out, from which version of the source and as which
 * file of the host, and which paths it has reported.
 *
 * Kept in memory, in a hash table that the kernel's choice of names cannot slow down (SipHash with
 * a secret key), and on disk in the private directory's file "written", one fixed-size record per
 * file, so that a collector that was killed is continued where it was. Bounded by its user: entries
 * are added only below the limit of files plus SEEN_REFUSED_MAX. Never logs.
 */
#ifndef SANDBOX_SEEN_H
#define SANDBOX_SEEN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "sandbox/base.h"

/* Paths that are reported by name; a kernel that makes more of them is told so once. */
#define SEEN_REFUSED_MAX 1024

/* A version of a file: its ctime cannot be set, so no writer can hide a change that is older than
 * one clock tick. */
struct seen_source {
	uint64_t inode, size;
	int64_t mtime, ctime; /* nanoseconds */
};

/*
 * Our file on the host. No ctime: a backup's hard link or a synchroniser's attribute changes that
 * and is no change of the content. No device: its number may differ after a restart.
 */
struct seen_target {
	uint64_t inode, size;
	int64_t mtime;
};

struct seen_file {
	char *path; /* relative to work/; NULL: restored, its name not met again yet */
	uint64_t hash;
	struct seen_source source; /* all 0: not known, look again */
	struct seen_target target;
	struct seen_target
		before;	 /* what it took the place of, should the taking have been cut short */
	uint32_t beside; /* 0: under its own name; n: as "name (cellwall n)" */
	uint32_t slot;	 /* of its record */
	bool brought;	 /* it has a record: the above is set */
	bool unsettled;	 /* the time stamp cannot tell it from a later version: compare */
	bool reported;	 /* refused is said once per path */
	bool announced;	 /* and so is that it is still open */
	bool flagged;	 /* and so is that it may run code */
	bool earlier;	 /* brought, but by somebody else: the host had this content before */
};

struct seen {
	struct seen_file **table;
	size_t size, used; /* a power of two; at most half of it in use */
	uint64_t key[2];
	int journal; /* -1: in memory only */
	uint32_t slots;
	uint64_t files, bytes; /* brought out in this run, and how large they are together; without
				* what was there earlier */
	uint64_t refused;      /* entries that were never brought */
};

/* With a fresh key. Returns 0 or a negative errno. */
int seen_init(struct seen *seen);
void seen_done(struct seen *seen);
/* Uses `fd` (taken) as its file: reads what is there, at most `limit` files; begins anew when it is
 * not one of ours. */
int seen_journal(struct seen *seen, int fd, uint64_t limit);
/* The same file for reading only (taken): nothing is stored. */
int seen_peek(struct seen *seen, int fd, uint64_t limit);

/* NULL: not seen. */
struct seen_file *seen_find(struct seen *seen, const char *path);
/* Finds or adds; NULL: out of memory. */
struct seen_file *seen_add(struct seen *seen, const char *path);
/*
 * Records that `file` is about to appear as `target`, in the place of `replaced` (or NULL): whoever
 * kills us now, one of the two is known as ours. Returns 0, or a negative errno when its record
 * could not be written (the memory holds it).
 */
int seen_intend(struct seen *seen, struct seen_file *file, const struct seen_target *target,
		uint32_t beside, const struct seen_target *replaced);
/* Records that `file` was brought out. Returns as seen_intend. */
int seen_store(struct seen *seen, struct seen_file *file, const struct seen_source *source,
	       const struct seen_target *target, uint32_t beside, bool unsettled);
/* Records that the host had this content already: ours to replace later, but no result. */
int seen_store_earlier(struct seen *seen, struct seen_file *file, const struct seen_source *source,
		       const struct seen_target *target, uint32_t beside, bool unsettled);
/* Is this file of the host the one we left there? */
bool seen_is_ours(const struct seen_file *file, const struct seen_target *there);
/* Or one that we left for another file than this one (NULL: for any)? Looks through all of them. */
bool seen_is_anothers(const struct seen *seen, const struct seen_file *file,
		      const struct seen_target *there);

void seen_source_of(const struct stat *status, struct seen_source *ret_source);
void seen_target_of(const struct stat *status, struct seen_target *ret_target);
bool seen_same_source(const struct seen_source *a, const struct seen_source *b);
bool seen_same_target(const struct seen_target *a, const struct seen_target *b);

#endif
