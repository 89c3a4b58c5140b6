/*
 * record: the text of inputs.json, see inputs.h. Pure; never logs.
 */
#ifndef KERNELSPEC_RECORD_H
#define KERNELSPEC_RECORD_H

#include "kernelspec/inputs.h"

#define RECORD_MAX (4 * 1024 * 1024)

/* The text for `folder` (caller frees); NULL: no memory. */
char *record_format(const char *folder, const struct inputs *inputs);
/*
 * Reads it back: `folder` (caller frees) is whose it is. Every name is checked again. Returns 0,
 * -EINVAL with words, or -ENOMEM.
 */
int record_parse(const char *text, size_t size, char **ret_folder, struct inputs *ret_inputs,
		 struct err *err);

#endif
