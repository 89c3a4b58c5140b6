/*
 * userns: who everybody is. User namespace U1 holds the sandbox, U2 inside it holds the kernel
 * (user_namespaces(7)).
 *
 * As root U1 maps 0 and 1 to a pair of host ids H and H+1 that own nothing: the relay runs as H,
 * pid 1 and the kernel as H+1. As an ordinary user U1 maps 0 to that user and all three run as it.
 * In U2 the kernel is 1000.
 */
#ifndef SANDBOX_USERNS_H
#define SANDBOX_USERNS_H

#include <stdbool.h>
#include <sys/types.h>

#include "sandbox/base.h"

struct build;

struct identity {
	bool pair;	/* true: host ids H, H+1; false: the user's own */
	bool detached;	/* mounts can be made in the host's mount namespace (CAP_SYS_ADMIN) */
	uid_t host_uid; /* H, or the user's own */
	gid_t host_gid;
	uid_t inside; /* pid 1's and the kernel's uid and gid in U1 */
};

/* Looks at who we are. Returns 0, or a negative errno when the kernel could not be run as nobody's
 * user. */
int userns_choose(struct identity *ret_identity, struct err *err);
/* The host's uid and gid of the kernel's files. */
uid_t userns_kernel_uid(const struct identity *identity);
gid_t userns_kernel_gid(const struct identity *identity);

/* Supervisor: writes the maps of `pid`, which has entered U1. */
int userns_write_maps(const struct identity *identity, pid_t pid, struct err *err);
/* Stages of the builder: a new user namespace and all other namespaces but the one for pids; and
 * then uid 0 of it, which on the host is nobody when we are root. */
int userns_enter(struct build *build, struct err *err);
int userns_become(struct build *build, struct err *err);
/* Stage of pid 1: becomes the kernel's uid, for good; no capability, no dump, still tied to its
 * lifeline. */
int userns_settle(struct build *build, struct err *err);
/* Stage of the kernel: enters U2 and writes its maps. */
int userns_nest(struct build *build, struct err *err);

/*
 * A user namespace in which host uid `uid` stands for the kernel's, for an idmapped mount
 * (mount_setattr(2)). With `gid` -1 no group has a counterpart in it: what has an owner or a group
 * without one can be read but never written, which a read-only mount alone does not say of sockets
 * and fifos (inode_permission in fs/namei.c). A lower layer of overlayfs, which shows neither of
 * these as the host's, gets its group. Returns a descriptor or a negative errno.
 */
int userns_idmap(const struct identity *identity, uid_t uid, gid_t gid, struct err *err);

/* Appends what the user can do about a namespace that the host refused with `code` (negative
 * errno). */
void userns_hint(struct err *err, int code);
/* The same for any other stage, where a filter or the system's age is the likely reason. */
void userns_explain(struct err *err, int code);

#endif
