/*
 * install: the proxy's side of `%pip install` in a cell.
 *
 * In: each request to run code of a client, before the kernel gets it. Out: for each line that asks
 * for packages (pip.h) a file DIRECTORY/asked-N, which the kernel can read, and a word to the
 * installer (kernelspec/installer.h), the process that alone starts builds; for one that is refused
 * the reason. Nothing that comes from the kernel is looked at here. Never logs.
 *
 *   to the installer     "install" N UPGRADE UV ("p" REQUIREMENT | "f" FILE)...   each with a NUL
 *                        "cancel"
 *   from it              VERDICT TEXT, for the audit log
 *   DIRECTORY/asked-N    {"words": [...], "refused": bool}, by us
 *   DIRECTORY/said-N     what the build says, line by line; DIRECTORY/done-N: its exit code
 *   DIRECTORY/N/         what it added, see kernelspec/added.h
 */
#ifndef PROXY_INSTALL_H
#define PROXY_INSTALL_H

#include <sys/uio.h>

#include "sandbox/base.h"

#define INSTALL_PACKET	   (64u * 1024)
#define INSTALL_ASKED_MAX  500 /* of one kernel: each leaves a few files until its end */
#define INSTALL_CODE_MAX   (1u << 20)
#define INSTALL_REPORT_MAX 2048

enum install_mode { INSTALL_DENY, INSTALL_ALLOW, INSTALL_LISTED };

/* The policy's word. */
struct install_rules {
	enum install_mode mode;
	char **listed; /* owned; NULL-terminated names as requirement_name has them, or NULL */
};
void install_rules_done(struct install_rules *rules);
/* May a cell ask for this requirement (checked)? Returns 0 or -EACCES with words. */
int install_judge(const struct install_rules *rules, const char *requirement, struct err *err);

struct install;

/*
 * `socket` (SOCK_SEQPACKET, taken) leads to the installer, -1: there is none, and `never` says why;
 * `directory` is NULL then. `rules` and the texts are copied or borrowed as said: rules borrowed,
 * texts copied. NULL: out of memory.
 */
struct install *install_new(const struct install_rules *rules, int socket, const char *directory,
			    const char *never);
struct install *install_free(struct install *install); /* accepts NULL; returns NULL */

/* A request to run code: its content, as signed. Calls `say` with a line for the notebook for each
 * reason why something is not installed. */
typedef void install_say_fn(void *arg, const char *text);
void install_cell(struct install *install, struct iovec content, install_say_fn *say, void *arg);
/* The user interrupts: what is being built is given up. */
void install_cancel(struct install *install);
/* Where the installer's reports come, or -1; and one of them: "VERDICT" and text into `report`.
 * Returns 1, 0: none is there, or a negative errno: it is gone (and install_fd is -1). */
int install_fd(const struct install *install);
struct install_report {
	char verdict[32], text[INSTALL_REPORT_MAX];
};
int install_hear(struct install *install, struct install_report *ret_report);
/* The directory, for who may still write to it; NULL: there is none. */
const char *install_directory(const struct install *install);

#endif
