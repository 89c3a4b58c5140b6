/*
 * place: where in a JSON text something is, for messages that begin with FILE:LINE:COLUMN as a
 * compiler's do.
 *
 * jansson keeps no positions of values, so the text is walked once more, along the path of keys to
 * what is wrong. In: a text that jansson has accepted (any other is walked safely, to a meaningless
 * place). Never recurses, never logs.
 */
#ifndef PROXY_PLACE_H
#define PROXY_PLACE_H

#include "sandbox/base.h"

#define PLACE_DEPTH 3

/* Borrows all of it. */
struct place {
	const char *name; /* of the file */
	const char *text;
	size_t size;
	const char *path[PLACE_DEPTH]; /* keys from the top: {"env", "set", "PATH"} */
	size_t depth;		       /* how many of them count; 0: the whole text */
	bool in_list;		       /* the path leads to a list, and this is its entry `index` */
	size_t index;
	const char *item; /* a key of that entry, which is an object then; NULL: the entry itself */
	struct err *err;
};

/*
 * Fills at->err with "FILE:LINE:COLUMN: " and the text, for the last key of the path (at_key) or
 * for its value. Lines and columns count from 1, columns in characters. Returns -EINVAL.
 */
int place_complain(const struct place *at, bool at_key, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
