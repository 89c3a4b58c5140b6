/*
 * caps: giving up capabilities for good (capabilities(7)).
 */
#ifndef SANDBOX_CAPS_H
#define SANDBOX_CAPS_H

#include "sandbox/base.h"

/* Empties bounding, ambient, inheritable, permitted and effective sets, locks securebits (NOROOT,
 * NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE) where that is permitted, and sets no_new_privs. Returns 0
 * or a negative errno. */
int caps_drop_all(struct err *err);

/*
 * The same, but the capabilities in `kept` (bits, as far as they are held) stay permitted and
 * effective: for a process that goes on as root and never executes anything.
 */
int caps_keep(uint64_t kept, struct err *err);

/* The bounding set and the securebits alone, while CAP_SETPCAP is still there. After it a change of
 * uid takes no capability away: caps_drop_all does. */
int caps_lock(struct err *err);

#endif
