/*
 * plain: the second kind of wall, for hosts that give no namespaces: Landlock, system call filters
 * and limits (policy key "wall": "landlock"), by the user's own uid; as root by a uid that owns
 * nothing else.
 *
 * The kernel sees the host's files at the host's paths and opens only what the launch names; its
 * working directory, home, /tmp and sockets are directories in the private directory. Needs
 * Landlock's scopes (ABI 6). What it does not hide is in share/doc/walls.md. Never logs.
 */
#ifndef SANDBOX_PLAIN_H
#define SANDBOX_PLAIN_H

#include "sandbox/base.h"

struct build;
struct identity;

/* Whom everything behind this wall runs as, where it can be built here. 0, or a negative errno with
 * the reason. */
int plain_choose(struct identity *ret_identity, struct err *err);
/* Stages: the builder makes the directories, becomes the kernel's uid where that is another, for
 * good, and fills them; pid 1's stand-in shuts itself in with what it will start, so that it can
 * signal that and nothing else; the kernel's files. */
int plain_directories(struct build *build, struct err *err);
int plain_become(struct build *build, struct err *err);
int plain_files(struct build *build, struct err *err);
int plain_scope(struct build *build, struct err *err);
int plain_kernel(struct build *build, struct err *err);
/* The kernel's command and environment with the places of inside exchanged for the host's. Returns
 * NULL-terminated lists in one allocation each, or NULL: no memory. */
char **plain_argv(const struct build *build);
char **plain_env(const struct build *build);
/* Kills every child of this process that nobody else looks after. */
void plain_kill_orphans(void);

#endif
