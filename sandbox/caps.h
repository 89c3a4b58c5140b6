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

#endif
