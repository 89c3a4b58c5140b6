/*
 * traffic: messages from clients into the wall, and out of the wall to clients, each through
 * relay_one.
 */
#ifndef PROXY_TRAFFIC_H
#define PROXY_TRAFFIC_H

#include "proxy/session.h"

/* Take what is there, a burst at a time, so that every socket gets its turn. */
void traffic_from_clients(struct session *session, enum wall_channel channel);
void traffic_from_wall(struct session *session);
/* Sends the pieces of a stream that wait for more of it. */
void traffic_send_joined(struct session *session);
/* Writes what the wall takes now. */
void traffic_to_wall(struct session *session);
/* Tells what the relay dropped since the last time, at most every DROPPED_EVERY_MS. */
void traffic_say_dropped(struct session *session, int64_t now);
void traffic_close_wall(struct session *session);

#endif
