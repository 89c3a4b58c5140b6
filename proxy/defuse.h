/*
 * defuse: text of a widget that is harmless wherever a front end puts it.
 *
 * ipywidgets 8 shows a description as text, ipywidgets 7 as HTML; both look for formulas in it, and
 * a formula may hold a link or a style. A U+200B ZERO WIDTH SPACE, which nobody sees, after a "<"
 * that would start a tag, and after every backslash when typeset_latex() finds a dangerous command,
 * makes the same text harmless for all of them. Pure functions.
 */
#ifndef PROXY_DEFUSE_H
#define PROXY_DEFUSE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "proxy/tidy.h"

/*
 * Returns the string as a new value, or NULL when nothing changes. With `attribute` also without
 * double quotes, which would end an attribute.
 */
json_t *defuse_value(struct tidy *tidy, const json_t *text, bool attribute);
/* Markup as the text that it is: cleaned and escaped. Returns NULL when out of memory; the caller
 * frees. */
char *defuse_markup(const char *text, size_t size, size_t *ret_size);

#endif
