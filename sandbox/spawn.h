/*
 * spawn: the supervisor's children, and what it holds of each: the write end of a lifeline, and one
 * end of a socket or pipe. What it holds is in struct supervisor when a function returns 0.
 */
#ifndef SANDBOX_SPAWN_H
#define SANDBOX_SPAWN_H

#include "sandbox/supervisor.h"

/* Forks the builder, which waits for the private directory when it needs it. */
int spawn_builder(struct supervisor *supervisor, struct err *err);
int spawn_recoverer(struct supervisor *supervisor, struct err *err);
/* Makes the private directory, tells the builder, and forks the collector, which keeps its lock. */
int spawn_collector(struct supervisor *supervisor, struct err *err);
/* Sends "wall" to the proxy. */
int spawn_wall(struct supervisor *supervisor, struct err *err);

#endif
