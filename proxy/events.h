/*
 * events: what the supervisor reports (sandbox/status.h), and what follows from it.
 */
#ifndef PROXY_EVENTS_H
#define PROXY_EVENTS_H

#include "proxy/session.h"

/* Takes every packet that is there. An end of file means that the supervisor is gone. */
void events_take(struct session *session);

#endif
