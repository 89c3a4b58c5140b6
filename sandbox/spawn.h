/*
 * spawn: the supervisor's children, and what it holds of each: the write end of a lifeline, and one
 * end of a socket or pipe. What it holds is in struct supervisor when a function returns 0.
 */
#ifndef SANDBOX_SPAWN_H
#define SANDBOX_SPAWN_H

#include "sandbox/supervisor.h"

/* Makes the private directory and forks the collector, which keeps its lock. */
int spawn_collector(struct supervisor *supervisor, struct err *err);
int spawn_recoverer(struct supervisor *supervisor, struct err *err);
/* Sends "wall" to the proxy and forks the builder. */
int spawn_builder(struct supervisor *supervisor, struct err *err);

#endif
