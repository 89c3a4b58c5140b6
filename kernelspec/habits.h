/*
 * habits: what people have beside their project: caches of models and data sets, the history of
 * what they typed, files that IPython runs at its start.
 *
 * In: the policy. Out: overlays, binds and the history file of the spec, and variables. Nothing of
 * it is there unless the policy says so; the user's own ~/.ipython is never read. What is missing
 * is a notice. Reads the disk and makes the directory of the history; never logs.
 */
#ifndef KERNELSPEC_HABITS_H
#define KERNELSPEC_HABITS_H

#include "kernelspec/staged.h"

/* Returns 0 or a negative errno with words. */
int habits_fill(const struct staged *staged, struct err *err);
/* The variables that go with it, given one by one (lent). Returns 0 or what `set` returned. */
typedef int habits_variable_fn(void *arg, const char *name, const char *value);
int habits_variables(const struct policy *policy, bool history, habits_variable_fn *set, void *arg);

#endif
