/*
 * plan: a kernelspec that is to be written: what its command starts, and how it looks to a client.
 *
 * Filled by install (a Python) or wrap (any installed kernelspec); then made into kernel.json
 * (jupyter_client docs/kernels.rst) and a directory that appears whole or not at all. Never logs:
 * what the user should read about what was left out is in `notices`.
 */
#ifndef KERNELSPEC_PLAN_H
#define KERNELSPEC_PLAN_H

#include <stdbool.h>

#include <jansson.h>

#include "kernelspec/paths.h"
#include "sandbox/base.h"

#define PLAN_LOGO_MAX (1024 * 1024)

struct plan {
	char *name;
	char *display_name;
	char *language;
	char *interrupt_mode; /* "signal" or "message" */
	bool debugger;
	char *wraps;		  /* directory of the wrapped kernelspec, or NULL */
	char *policy;		  /* absolute path, or NULL */
	char *environment;	  /* of `cellwall env`, or NULL */
	bool verify;		  /* it is compared with what was sealed before each start */
	bool shared_environment;  /* the user took the risk; recorded in the command */
	bool mode_private;	  /* kernel.json is for its owner alone, as the wrapped one was */
	struct paths_list shows;  /* directories to show read-only inside */
	struct paths_list setenv; /* "NAME=VALUE" for the kernel */
	struct paths_list argv;	  /* of the kernel, with {inner_connection_file}; or: */
	bool elsewhere;		  /* argv are options of `cellwall kernel --host` */
	struct paths_list notices;
};

void plan_done(struct plan *plan);
/* Adds a line for the user. Out of memory only loses the line. */
void plan_notice(struct plan *plan, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * May it be called so? Refused: the names and the display name that clients treat as their own
 * Python (VS Code hides or rewrites them). Returns 0 or -EINVAL with words.
 */
int plan_check_names(const struct plan *plan, struct err *err);
/*
 * Writes DIRECTORY/NAME (`directory` is a "…/kernels", made when missing) with kernel.json and
 * logos. Replaces a kernelspec of ours; refuses anything else there. Caller frees *ret_path. 0 or
 * -errno.
 */
int plan_write(const struct plan *plan, const char *cellwall, const char *directory,
	       char **ret_path, struct err *err);

/* Removes a kernelspec's directory: files, and directories at most four deep. Returns 0 or -errno.
 */
int plan_remove(const char *directory, struct err *err);

#endif
