/*
 * fragment: markup that may stand in the page itself: tables and formatted text.
 *
 * A recogniser, not a sanitiser: it takes the whole text by a strict grammar and writes it anew, or
 * refuses it. There is no recovery from errors, no foreign content, no element with raw text and no
 * comment in the grammar, every element is closed where it stands, parts of tables stand only where
 * a browser leaves them, so that what is written has one reading. Grammar:
 *
 *   elements    div p br hr b i em strong u s sub sup code pre span small h1-h6 ul ol li table
 *               caption thead tbody tfoot tr th td img; lower case, nested at most 64 deep. <a> is
 *               left out and its text stays: a link names a host without a click.
 *   attributes  name="value", lower case, each once: class (dataframe), border (a digit), colspan,
 *               rowspan (1-4 digits), scope, align, halign, valign (a word), style; of img: src (a
 *               data: image), width, height, alt
 *   style       known properties with plain values, no url(), no position, nothing negative
 *   <style>     rules for .dataframe alone (pandas, polars), which are left out
 *   text        known entities are decoded and everything is escaped again; each $ and \ has a
 *               <span> of its own, so that MathJax finds no formula and no macro
 *
 * Property: what comes out is accepted again and comes out unchanged. Pure functions, linear, no
 * recursion; they never log.
 */
#ifndef PROXY_FRAGMENT_H
#define PROXY_FRAGMENT_H

#include <stddef.h>

#define FRAGMENT_DEPTH 64

/* The text written anew (caller frees). NULL: refused, or no memory. */
char *fragment_rewrite(const char *html, size_t size, size_t *ret_size);

#endif
