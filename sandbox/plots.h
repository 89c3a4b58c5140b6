/*
 * plots: plotting libraries of a Python kernel draw in a way that survives the policy's
 * outputs.mode.
 *
 * It acts when one of them is imported. A comfort, no part of the wall: what may be in an output
 * the proxy decides (proxy/outputs.h).
 */
#ifndef SANDBOX_PLOTS_H
#define SANDBOX_PLOTS_H

/* The mode, as the kernel is told it. */
#define PLOTS_VARIABLE "CELLWALL_OUTPUTS"

/* A part for startup.c: find_spec(finder, name, path, target), of importlib's meta path. */
extern const char plots_text[];

#endif
