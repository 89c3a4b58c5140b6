/*
 * fragment_style: the one attribute whose value is a language of its own.
 *
 * In: the value of a style attribute. Out: the same declarations in one form, or nothing at all.
 */
#ifndef PROXY_FRAGMENT_STYLE_H
#define PROXY_FRAGMENT_STYLE_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/buffer.h"

/* Appends "property: value; property: value". False: something in it is not known. */
bool fragment_style(const char *text, size_t size, struct buffer *out);

#endif
