/*
 * names: which names a result may have on the host, which are told to be dangerous to open, and the
 * name beside one that is taken.
 *
 * In: one component of a path that a hostile kernel chose. Pure functions; libc only.
 */
#ifndef SANDBOX_NAMES_H
#define SANDBOX_NAMES_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "sandbox/base.h"

/*
 * NULL, or why a file or directory of this name stays inside: hidden names, names that a tool of
 * the host acts on because they are there (names.c has the list), and names that make a listing
 * lie. `let_out` (may be NULL, ends with NULL) are names that the policy lets out nevertheless;
 * those that lie never are.
 */
const char *name_refusal(const char *name, char *const *let_out);
/* Is this the name of a directory that python makes anew whenever it needs it? */
bool name_is_cache(const char *name, char *const *let_out);
/* NULL, or what a file of this name does when it is opened. `mode` is its st_mode. */
const char *name_flag(const char *name, unsigned int mode);

/* "report.csv" and 2 become "report (cellwall 2).csv"; 0 leaves the name. Shortened, between
 * characters, to NAME_MAX. */
void name_beside(const char *name, uint32_t number, char out[NAME_MAX + 1]);

#endif
