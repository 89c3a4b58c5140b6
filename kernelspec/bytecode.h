/*
 * bytecode: compiled modules beside the packages of a kernel's environment. A kernel may not write
 * there: what an installer has not compiled (uv compiles nothing), each start compiles anew.
 *
 * Compiled at `cellwall install`, outside the wall, and so by nothing of that environment: by the
 * system's own interpreter (root's, below /usr) with -I -S -m compileall, which reads no variables
 * and no .pth files and imports none of the modules; and only where the packages belong to the user
 * who installs, so that no link of another's leads him elsewhere. Never logs.
 */
#ifndef KERNELSPEC_BYTECODE_H
#define KERNELSPEC_BYTECODE_H

#include "sandbox/base.h"

#define BYTECODE_MAKE_MS 300000

/*
 * Returns 1 when the packages are compiled now; 0 when they were, or there are none; -EPERM with a
 * line that says which command does it, where it is not for us to do; or a negative errno.
 */
int bytecode_make(const char *interpreter, struct err *err);

#endif
