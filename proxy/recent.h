/*
 * recent: whether a 64-bit number was among the last 65,536 different ones.
 *
 * 1.5 MB of anonymous memory, of which a quiet kernel touches only a few pages. Constant time;
 * whoever chooses the numbers cannot prepare collisions. Never logs.
 */
#ifndef PROXY_RECENT_H
#define PROXY_RECENT_H

#include <stdbool.h>
#include <stdint.h>

#include "sandbox/base.h"

struct recent;

/* Returns 0 or a negative errno. */
int recent_new(struct recent **ret_recent, struct err *err);
struct recent *recent_free(struct recent *recent); /* accepts NULL; returns NULL */

/* Remembers `value` in place of the oldest. Returns false when it is remembered already. */
bool recent_add(struct recent *recent, uint64_t value);

#endif
