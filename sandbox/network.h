/*
 * network: a namespace with the loopback interface alone, and the name of a machine without any
 * other.
 */
#ifndef SANDBOX_NETWORK_H
#define SANDBOX_NETWORK_H

#include "sandbox/base.h"

struct build;

/* Of the relay's process, before it is the relay: makes the network namespace that it shares with
 * the kernel, and sends it to `socket`, where network_join() waits; or sends why not. Returns 0 or
 * a negative errno. */
int network_make(int socket);

/* Stages of the builder. */
int network_join(struct build *build, struct err *err);
int network_name(struct build *build, struct err *err);

#endif
