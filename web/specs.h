/*
 * specs: the kernelspecs that clients may start.
 *
 * Those found where Jupyter looks (kernelspec/search.h) whose command is `cellwall kernel`, and
 * those the operator named. Read again when a client lists them. A name from a client is compared
 * with names found, never joined to a path. Never logs.
 */
#ifndef WEB_SPECS_H
#define WEB_SPECS_H

#include <stdbool.h>

#include <jansson.h>

#include "sandbox/base.h"

struct spec_entry {
	const char *name;
	const char *directory; /* absolute */
	json_t *json;	       /* kernel.json */
	bool walled;	       /* its command is `cellwall kernel` */
};

struct specs;

struct specs_options {
	const char *const *names; /* NULL: all that are walled; else these, walled or not; NULL at
				     the end */
	const char *default_name; /* NULL: the first */
	const char *base_url;	  /* "" or "/prefix", for the addresses of logos */
};
int specs_new(const struct specs_options *options, struct specs **ret_specs, struct err *err);
struct specs *specs_free(struct specs *specs); /* accepts NULL; returns NULL */

/* Looks again what is there. Returns 0 or a negative errno; then the old list stays. */
int specs_read(struct specs *specs, struct err *err);
/* NULL: none. Valid until specs_read. `name` NULL: the default one. */
const struct spec_entry *specs_find(const struct specs *specs, const char *name);

/* The answers of /api/kernelspecs and /api/kernelspecs/NAME, without what is the operator's alone
 * (command, environment); of those that `may` lets (NULL: all). Caller frees; NULL: no memory, or
 * no such name. */
json_t *specs_model(const struct specs *specs, bool (*may)(const void *arg, const char *name),
		    const void *arg);
json_t *specs_entry_model(const struct specs *specs, const char *name);
/* A file beside kernel.json: a logo or kernel.js. The descriptor is a regular file's below that
 * directory, no links followed. Caller closes. Returns it or a negative errno. */
int specs_open_file(const struct specs *specs, const char *name, const char *file);

#endif
