/*
 * picture: images of a kernel, as base64 text.
 *
 * A raster image is what its first bytes say it is; whether the rest of it is well-formed is for
 * the browser's decoder. An SVG never becomes part of a page: it is shown by an <img> with a data
 * address, in which nothing runs and nothing is fetched. Pure functions; they never log.
 */
#ifndef PROXY_PICTURE_H
#define PROXY_PICTURE_H

#include <stdbool.h>
#include <stddef.h>

#define PICTURE_MAX (16u * 1024 * 1024) /* bytes of one image, decoded */

/* Whether `mime` is image/png, jpeg, gif, webp or bmp. */
bool picture_is_type(const char *mime);
/* The base64 text of an image of that type without white space (Python ends it with a newline and
 * may break lines). Caller frees; NULL: something else, too large or no memory. */
char *picture_clean(const char *mime, const char *text, size_t size, size_t *ret_size);
/* Whether `text` is base64 without white space whose first bytes are those of `mime`; of
 * image/svg+xml the alphabet alone. */
bool picture_is_clean(const char *mime, const char *text, size_t size);
/* <img src="data:image/svg+xml;base64,...">. Caller frees; NULL: does not begin like an SVG, too
 * large or no memory. */
char *picture_svg(const char *text, size_t size, size_t *ret_size);

#endif
