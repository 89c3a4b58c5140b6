/*
 * attempts: what the kernel tried in vain (sandbox/refusals.h), in words for the user.
 *
 * In: "attempt" and "untold" of sandbox/status.h, with foreign text. Out: a line in the log and
 * one in the audit log for each, and one to say in the notebook the first time that a module or
 * program tries something with a target.
 */
#ifndef PROXY_ATTEMPTS_H
#define PROXY_ATTEMPTS_H

#include "proxy/audit.h"
#include "proxy/limits.h"
#include "proxy/tally.h"
#include "sandbox/status.h"

struct attempts {
	uint64_t seen[ATTEMPTS_MAX]; /* hashes of what was said */
	size_t count;
	struct tally *tally; /* borrowed; NULL: nobody counts */
};

/*
 * Logs `status`, in `audit` too (audit.h). Returns the line for the notebook (caller frees),
 * escaped: "blocked: `requests` tried to connect to 203.0.113.5:443"; NULL: it was said, or is not
 * for there.
 */
char *attempts_note(struct attempts *attempts, struct audit *audit, const struct status *status);

#endif
