/*
 * layers: which layers a kernel really has, measured in its own process right before it is
 * executed: namespaces by their inodes against the host's, the rest as /proc/self/status has it.
 * What a host cannot be without stops the launch; what is reported as lacking here are layers that
 * the wall can do without, or, in a build for tests, those that were left out. Never logs.
 */
#ifndef SANDBOX_LAYERS_H
#define SANDBOX_LAYERS_H

#include <stdbool.h>
#include <sys/types.h>

#include "sandbox/base.h"

struct build;

enum layers_kind {
	LAYERS_USER,
	LAYERS_PID,
	LAYERS_MOUNT,
	LAYERS_NET,
	LAYERS_IPC,
	LAYERS_UTS,
	LAYERS_CGROUP,
	LAYERS_KINDS,
};

/* Inodes of namespaces (namespaces(7)): unique on a machine while one exists. */
struct layers {
	ino_t host[LAYERS_KINDS];
	ino_t outer;   /* the user namespace around the kernel's own */
	bool idmapped; /* all that is staged is mounted with a map */
};

/* Stages: the builder notes the host's; the kernel notes where it is before its own user namespace,
 * and how its inputs are mounted, when no mount of the host is in sight any more and before it is
 * limited in memory; and tells the supervisor "layers
 * HAS LACKS RLIMITS" (status.h) after everything else, the last in words. */
int layers_host(struct build *build, struct err *err);
int layers_outer(struct build *build, struct err *err);
int layers_inputs(struct build *build, struct err *err);
int layers_report(struct build *build, struct err *err);

#endif
