/*
 * probe: can this host do one thing that the wall is made of? Each question is tried for real, in a
 * forked child with an alarm, and answered with what to do about a no.
 *
 * Linux says "no" to the same call for many reasons (a sysctl, AppArmor, a container's seccomp
 * filter, a masked /proc): a probe reads what tells them apart. Nothing of the host is changed.
 * Never logs.
 */
#ifndef KERNELSPEC_PROBE_H
#define KERNELSPEC_PROBE_H

#include <stdbool.h>
#include <stddef.h>

enum probe_state {
	PROBE_OK,
	PROBE_LIMITED, /* kernels run, with less */
	PROBE_MISSING, /* kernels do not run, when the probe is a needed one */
};

struct probe_result {
	enum probe_state state;
	char detail[1024];
	char help[512]; /* what to do, with one command; "" when there is nothing to do */
};

struct probe {
	const char *what;
	bool needed; /* PROBE_MISSING means that no kernel can start */
	void (*run)(struct probe_result *result);
};

/* What the kernel and its configuration can give, in an order that isolates a cause: an early no
 * explains later ones. */
extern const struct probe probe_host[];
extern const size_t probe_host_count;

/* Fills in a result; `help` may be NULL. */
void probe_say(struct probe_result *result, enum probe_state state, const char *help,
	       const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Runs it in a child; a child that ends or hangs gives PROBE_MISSING. */
void probe_run(const struct probe *probe, struct probe_result *ret_result);

#endif
