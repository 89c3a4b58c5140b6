/*
 * index: where packages come from, as pip's own configuration on this host says
 * (share/env/index.py).
 */
#ifndef KERNELSPEC_INDEX_H
#define KERNELSPEC_INDEX_H

#include "kernelspec/egress.h"
#include "kernelspec/paths.h"
#include "sandbox/base.h"
#include "sandbox/spec.h"

struct index {
	struct egress egress;	     /* what a build may reach */
	struct paths_list variables; /* "PIP_...=": the same configuration, for pip inside */
	struct paths_list notices;
	char *certificates;	       /* a file of the host, or NULL */
	struct paths_list directories; /* of find-links */
};

#define INDEX_PORT	   3128
#define INDEX_CERTIFICATES "/cellwall-certificates"

/* Reads the configuration; `more` (may be NULL) are URLs of hosts that may be reached besides.
 * Returns 0 or a negative errno. */
int index_read(const struct paths_list *more, struct index *ret_index, struct err *err);
/* A word of the configuration without what is secret in it: of a URL the scheme, the host and the
 * port, for a path may hold a token; "..." where nobody can tell. Caller frees; NULL: no memory. */
char *index_shown(const char *word);
/* Takes away the hosts that are not of `hosts` ("NAME" or "NAME:PORT", NULL-terminated) nor come
 * with one that is; a notice for each. Returns 0 or -ENOMEM. */
int index_narrow(struct index *index, char *const hosts[], struct err *err);
/* Adds what a build needs of it to a spec. Returns 0 or -ENOMEM. */
int index_fill(const struct index *index, struct spec *spec);
void index_done(struct index *index);

#endif
