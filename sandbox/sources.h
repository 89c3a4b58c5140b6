/*
 * sources: everything of the host that becomes visible inside, as detached read-only mounts.
 *
 * As root the mounts are made in the host's mount namespace (open_tree(2)) and carried by
 * descriptor into the new one; an ordinary user may not do that, so each path is opened again in
 * the new namespace and compared by device and inode with what it was before. Either way nothing is
 * resolved a second time after sources_enter.
 *
 * As root, what the file system cannot idmap must be readable by everybody; what is not comes as a
 * bounded copy (replica.h) that belongs to the kernel's uid.
 */
#ifndef SANDBOX_SOURCES_H
#define SANDBOX_SOURCES_H

#include <stdbool.h>
#include <sys/types.h>

#include "sandbox/base.h"

struct build;

enum source_kind {
	SOURCE_SYSTEM, /* of the distribution: as it is, missing ones are skipped in silence */
	SOURCE_DEVICE, /* a device node */
	SOURCE_GIVEN,  /* what the spec lists: idmapped where possible */
	SOURCE_WORK,   /* the private directory's work/: writable, never idmapped */
	SOURCE_COPY,   /* took the place of a given one, in the private directory */
	/* mounts_build leaves these to overlay_build: */
	SOURCE_LOWER,	/* what the kernel may change in its own eyes: idmapped where possible */
	SOURCE_PRIVATE, /* the whole private directory, for as long as the mounts are made */
};

struct source {
	enum source_kind kind;
	const char *path;   /* on the host; borrowed */
	const char *target; /* inside; borrowed */
	bool required;
	bool directory;
	bool idmapped; /* `owner` (and of a lower layer `group`) appear as the kernel's */
	bool public; /* readable by everybody; of a directory this says nothing of what is in it */
	uid_t owner;
	gid_t group;
	int fd; /* the detached mount once sources_enter is over; -1: skipped */
	dev_t device;
	ino_t inode;
};

/* Stages of the builder, in the host's namespaces: open the relay's program and what is the
 * distribution's; then what the spec lists and the private directory. */
int sources_open(struct build *build, struct err *err);
int sources_given(struct build *build, struct err *err);
/* Opens a source of the spec once more, for reading, by the path that it has in this mount
 * namespace, and only if it still is the same. Returns the descriptor or a negative errno. */
int sources_read(const struct source *source);
/* Of an ordinary user, in the builder's own namespaces: makes the detached mount anew. Returns 0 or
 * a negative errno. */
int sources_reopen(struct source *source, struct err *err);
/* Stage of the builder, in its own namespaces: all descriptors become detached mounts. */
int sources_enter(struct build *build, struct err *err);

#endif
