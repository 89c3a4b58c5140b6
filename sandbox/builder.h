/*
 * builder: the short-lived process that enters the namespaces, makes everything in them and starts
 * what lives there. Its children are clones with CLONE_PARENT: the supervisor is their parent, and
 * they outlive the builder.
 */
#ifndef SANDBOX_BUILDER_H
#define SANDBOX_BUILDER_H

#include <sys/types.h>

#include "sandbox/base.h"

struct build;

/* As fork(2), for a child of the supervisor, with `flags` of clone(2) for its namespaces. */
pid_t builder_clone(int flags);
/* Tells the supervisor whose pid this is. */
int builder_report_child(const struct build *build, const char *name, pid_t pid, struct err *err);

/* Stages of the builder. */
/* Waits until the private directory is there and learns its path. */
int builder_work(struct build *build, struct err *err);
int builder_keyring(struct build *build, struct err *err);
int builder_relay(struct build *build, struct err *err);

#endif
