/*
 * list: the kernelspecs made by cellwall, and whether each would start. Used by `list`, `remove`,
 * `doctor`.
 */
#ifndef KERNELSPEC_LIST_H
#define KERNELSPEC_LIST_H

#include <stdbool.h>

#include "kernelspec/search.h"

struct list_row {
	struct search_spec spec;
	char *kernel; /* the program behind the wall; "" when kernel.json does not say */
	char *policy; /* "" for the default policy */
	char *state;  /* "ok…", "hidden…" or "broken: …", one line */
	bool broken;
};

struct list {
	struct list_row *rows;
	size_t count;
};

/* All of them in Jupyter's order, or those below PREFIX/share/jupyter alone. Returns 0 or a
 * negative errno. */
int list_find(const char *prefix, struct list *ret_list, struct err *err);
void list_done(struct list *list);

#endif
