/*
 * files: cellwall's own parts and places on this host.
 *
 * Parts are found from the running executable (/proc/self/exe), so that an installed tree can be
 * moved: beside it (a build tree), or in ../libexec/cellwall and ../share/cellwall. Nothing is
 * looked up in PATH or in the working directory. Never logs.
 */
#ifndef KERNELSPEC_FILES_H
#define KERNELSPEC_FILES_H

#include "sandbox/base.h"

/* The absolute path of this executable, links resolved. Caller frees. Returns 0 or a negative
 * errno. */
int files_self(char **ret_path, struct err *err);
/*
 * The path of an executable part ("cellwall-sandbox"). It must belong to root or to the owner of
 * this executable and be writable by nobody else. Caller frees. Returns 0 or a negative errno.
 */
int files_part(const char *name, char **ret_path, struct err *err);
/* The path of something in share/cellwall ("logo-32x32.png", "sample"). Caller frees. 0 or -errno.
 */
int files_share(const char *name, char **ret_path, struct err *err);

#endif
