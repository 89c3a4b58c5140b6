/*
 * search: where kernelspecs lie, and what is in one.
 *
 * The directories are jupyter_core's (paths.py): JUPYTER_PATH, the user's data directory,
 * share/jupyter of the prefix that `jupyter` in PATH runs in, /usr/local/share and /usr/share. That
 * prefix is read from the first line of `jupyter`, which is never run. kernel.json is read bounded
 * and parsed by jansson; a spec is ours when its metadata has a "cellwall" object. Never logs.
 */
#ifndef KERNELSPEC_SEARCH_H
#define KERNELSPEC_SEARCH_H

#include <stdbool.h>

#include <jansson.h>

#include "kernelspec/paths.h"
#include "sandbox/base.h"

#define SEARCH_JSON_MAX (1024 * 1024)

/* The user's data directory ("…/jupyter"). Caller frees; NULL: no memory. */
char *search_user_data(void);
/* The prefix of `jupyter` in PATH. Caller frees. Returns 0, or -ENOENT with words. */
int search_jupyter_prefix(char **ret_prefix, struct err *err);
/* The "…/kernels" directories in Jupyter's order, each once. Returns 0 or a negative errno. */
int search_directories(struct paths_list *ret_directories, struct err *err);

/* May this be the name of a kernelspec (jupyter_client kernelspec.py)? */
bool search_valid_name(const char *name);

struct search_spec {
	char *directory; /* of kernel.json, absolute */
	char *name;	 /* its last component */
	json_t *json;	 /* the object in kernel.json */
	mode_t mode;	 /* permission bits of kernel.json */
};

/* Reads DIRECTORY/kernel.json. Returns 0; -ENOENT when there is none; another negative errno with
 * words. */
int search_read(const char *directory, struct search_spec *ret_spec, struct err *err);
void search_done(struct search_spec *spec);
/* By name in `directories`, or by the path of a directory (anything with a "/"). 0 or a negative
 * errno. */
int search_find(const struct paths_list *directories, const char *name,
		struct search_spec *ret_spec, struct err *err);
/* Was it made by `cellwall install`? */
bool search_is_ours(const struct search_spec *spec);

#endif
