/*
 * names: which names a result may have on the host, and the name beside one that is taken.
 *
 * In: one component of a path that a hostile kernel chose. Pure functions; libc only.
 */
#ifndef SANDBOX_NAMES_H
#define SANDBOX_NAMES_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "sandbox/base.h"

/* NULL, or why a file or directory of this name stays inside. */
const char *name_refusal(const char *name);

/* "report.csv" and 2 become "report (cellwall 2).csv"; 0 leaves the name. Shortened, between
 * characters, to NAME_MAX. */
void name_beside(const char *name, uint32_t number, char out[NAME_MAX + 1]);

#endif
