/*
 * added: what the cells of a folder's notebooks have had installed beside their kernel's own
 * environment (proxy/install.h). An environment of the store like any other, named by the folder
 * and the base, that no kernelspec runs from. Its tree has two directories:
 *
 *   lib/    distributions that the base has not: last on sys.path
 *   over/   those that take the place of one of the base's: before its site-packages, from the next
 *           start on
 *
 * A running kernel sees it read-only in INSIDE_ADDED: 0/ is the tree that it was started with, 1/
 * and so on what was added since, which appears there whole. That directory is STORE/live/<id>, and
 * 1/ is made of hard links to the tree of the store.
 */
#ifndef KERNELSPEC_ADDED_H
#define KERNELSPEC_ADDED_H

#include "kernelspec/env_build.h"
#include "kernelspec/sealed.h"
#include "sandbox/spec.h"

struct added {
	char *name;	      /* of the environment */
	char *directory;      /* STORE/live/<id>, links resolved */
	int held;	      /* it, locked */
	struct sealed sealed; /* what there was at the start; number 0: nothing */
};
#define ADDED_NONE                                                                                 \
	{                                                                                          \
		.held = -1, .sealed = {.held = -1, .guard = -1 }                                   \
	}

/* Names it, finds what there is, makes the directory. `base` is env_base's name, `python` the
 * interpreter on this host. Returns 0 or a negative errno. */
int added_open(const char *folder, const char *base, const char *python, struct added *ret_added,
	       struct err *err);
/* Whether a generation of what was added was built for another tree than `base`, or does not say
 * for which (NULL: the base is no sealed environment, and nobody knows). */
bool added_base_changed(const struct sealed *added, const char *base);
/* Shows it to a kernel whose variables are set. Returns 0 or a negative errno. */
int added_fill(const struct added *added, const struct prefix *prefix, struct spec *spec,
	       struct err *err);
/* A tree of the store (a directory) becomes `name` of the live directory, at once. Returns 0 or a
 * negative errno. */
int added_publish(int live, int tree, const char *name, struct err *err);
void added_done(struct added *added);

/* One build: what a cell asks for, added to what is there, and shown to the kernel. */
struct addition {
	const struct added *added;
	const struct policy *policy; /* of the kernel */
	struct env_base base;	     /* without before, lock and requirements */
	const char *lines;	     /* requirements, a line each */
	bool uv;		     /* asked for */
	const char *number;	     /* its name in the live directory */
};
/* Prints what it does. Returns the exit code. */
int added_build(const struct addition *addition);

#endif
