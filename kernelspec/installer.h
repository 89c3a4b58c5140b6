/*
 * installer: the process beside a kernel that alone starts builds for its cells.
 *
 * Forked before the proxy gives up making processes and opening files, and before it has the
 * kernel's key. Its one socket comes from the proxy (proxy/install.h has the words); one build at a
 * time, each in a process of its own, the same as `cellwall env` makes (env_build.h). Ends with the
 * proxy, however that ends: then the build is ended and the live directory is removed.
 */
#ifndef KERNELSPEC_INSTALLER_H
#define KERNELSPEC_INSTALLER_H

#include <sys/types.h>

#include "kernelspec/added.h"
#include "proxy/policy.h"

/* All of it is borrowed. */
struct installer {
	const struct added *added;
	const struct policy *policy;
	const struct spec *spec;   /* for what is staged */
	struct env_base base;	   /* without what was added before */
	void (*forget)(void *arg); /* wipes keys that it need not have; NULL: none */
	void *arg;
};

/* Forks. `ret_socket` is the proxy's end (non-blocking). Returns the pid or a negative errno. */
pid_t installer_start(const struct installer *installer, int *ret_socket, struct err *err);
/* After its socket was closed: waits until it is gone, and kills it when that takes too long. */
void installer_end(pid_t pid);

#endif
