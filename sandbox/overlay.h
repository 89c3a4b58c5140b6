/*
 * overlay: host directories that the kernel may change in its own eyes (spec.overlays). The host's
 * directory is the lower layer of an overlayfs, only ever read; what the kernel changes is copied
 * up. Where that cannot be, staging/out comes as a bounded copy and everything else read-only.
 *
 * At INSIDE_OUT the upper layer is work/staging/out of the private directory, so that the collector
 * finds there what was changed, and nothing but that; elsewhere it is a tmpfs that ends with the
 * kernel.
 */
#ifndef SANDBOX_OVERLAY_H
#define SANDBOX_OVERLAY_H

#include "sandbox/base.h"

struct build;

/* Stages of the builder, in this order: in the host's namespaces, after sources_open; in its own,
 * after sources_enter; as uid 0 of its user namespace, after mounts_build. */
int overlay_prepare(struct build *build, struct err *err);
int overlay_open(struct build *build, struct err *err);
int overlay_build(struct build *build, struct err *err);

#endif
