/*
 * height: how high a page of a kernel would like to be, in pixels.
 *
 * A frame cannot ask what is in it, so this guesses from the text: heights that it names, rows of
 * tables, lines, and what libraries are known to draw. A wrong guess costs a scroll bar or an empty
 * strip, never more. Nothing is parsed. Pure; it never fails and never logs.
 */
#ifndef PROXY_HEIGHT_H
#define PROXY_HEIGHT_H

#include <stddef.h>

#define HEIGHT_MIN 60

/* Between HEIGHT_MIN and 1200. */
unsigned height_estimate(const char *body, size_t size);

#endif
