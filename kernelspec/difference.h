/*
 * difference: two versions of a text, shown as diff -u does, safe to print. Pure but for the
 * stream; bounded in time and memory; never logs.
 */
#ifndef KERNELSPEC_DIFFERENCE_H
#define KERNELSPEC_DIFFERENCE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define DIFFERENCE_MAX (1024 * 1024) /* bytes of each version */

/*
 * Prints the changed lines with three lines around them, every one escaped and cut at 2,000 bytes.
 * Where more than 400 lines differ at a stretch, all of it is shown as replaced. What has a NUL in
 * it is no text: one line says that they differ. Returns 0 or -ENOMEM.
 */
int difference_print(FILE *out, const char *before, size_t before_size, const char *after,
		     size_t after_size);

#endif
