/*
 * answer: a launch that failed tells its clients in words, instead of a silent dead kernel.
 */
#ifndef PROXY_ANSWER_H
#define PROXY_ANSWER_H

#include "proxy/channel.h"
#include "proxy/corridor.h"
#include "proxy/notice.h"

/* Answers every request that has come on shell and control with a reply of status error that says
 * `why`; a request to run code gets it as an error output too. */
void answer_requests(struct channels *channels, struct corridor *corridor,
		     const struct notice *notice, const char *why);

#endif
