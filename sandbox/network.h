/*
 * network: the loopback interface and the name of a machine that has no other.
 */
#ifndef SANDBOX_NETWORK_H
#define SANDBOX_NETWORK_H

#include "sandbox/base.h"

struct build;

/* Stages of the builder, in the new network and UTS namespaces. */
int network_up(struct build *build, struct err *err);
int network_name(struct build *build, struct err *err);

#endif
