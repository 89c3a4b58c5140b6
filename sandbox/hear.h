/*
 * hear: what the supervisor does with what each of its peers says. One function per descriptor;
 * each takes what is there now and never blocks on its peer.
 */
#ifndef SANDBOX_HEAR_H
#define SANDBOX_HEAR_H

#include <stdbool.h>

#include "sandbox/supervisor.h"

/* The processes that build. Returns true when there may be more to read. */
bool hear_builder(struct supervisor *supervisor);
/* pid 1. */
void hear_init(struct supervisor *supervisor);
void hear_relay(struct supervisor *supervisor);
/* `which`: FD_COLLECTOR or FD_RECOVERER. */
void hear_collector(struct supervisor *supervisor, enum supervisor_fd which);
void hear_proxy(struct supervisor *supervisor);
/* Its lifeline hung up, or its socket did. */
void hear_proxy_gone(struct supervisor *supervisor);

#endif
