/*
 * sources: everything of the host that becomes visible inside, as detached read-only mounts.
 *
 * As root the mounts are made in the host's mount namespace (open_tree(2)) and carried by
 * descriptor into the new one; an ordinary user may not do that, so each path is opened again in
 * the new namespace and compared by device and inode with what it was before. Either way nothing is
 * resolved a second time after sources_enter.
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
	SOURCE_WORK,   /* the private directory: the only writable one, never idmapped */
};

struct source {
	enum source_kind kind;
	const char *path;   /* on the host; borrowed */
	const char *target; /* inside; borrowed */
	bool required;
	bool directory;
	int fd; /* the detached mount once sources_enter is over; -1: skipped */
	dev_t device;
	ino_t inode;
};

/* Stage of the builder, in the host's namespaces: opens the relay's program and all sources. */
int sources_open(struct build *build, struct err *err);
/* Stage of the builder, in its own namespaces: all descriptors become detached mounts. */
int sources_enter(struct build *build, struct err *err);

#endif
