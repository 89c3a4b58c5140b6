/*
 * events: what the supervisor reports (sandbox/status.h), and what follows from it.
 */
#ifndef PROXY_EVENTS_H
#define PROXY_EVENTS_H

#include "proxy/session.h"

/* Takes every packet that is there. An end of file means that the supervisor is gone. */
void events_take(struct session *session);

/*
 * Says a line in the notebook, where the user looks: in the cell that waits for its files, else in
 * the newest one; what happens before there is a cell is said in the first.
 */
void events_say(struct session *session, const char *text);
/* The installer has something to report. */
void events_installed(struct session *session);
/* The first cell is on its way: says what waited for it. */
void events_say_early(struct session *session);

#endif
