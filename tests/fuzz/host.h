/*
 * host: what of a `cellwall serve` is the same in every target that goes through it: a directory of
 * its own, its users, a kernelspec, and kernels that are everything but a process.
 *
 * What is random in the server comes from a counter here, so that an input can hold the id of a
 * kernel, and the clock is a hundred seconds later with each input. Each wrapped function checks
 * what it is given.
 */
#ifndef FUZZ_HOST_H
#define FUZZ_HOST_H

#include <stdbool.h>

#include "web/kernels.h"
#include "web/server.h"

#define HOST_SECRET "what-nobody-may-have"
#define HOST_BENS   "what-ben-alone-may-have"
#define HOST_ALLOW  "ALLOWED_ONE"

enum { HOST_ADMIN, HOST_ANNA, HOST_BEN, HOST_USERS };
extern const char *const host_token[HOST_USERS];
extern struct server host_server;
/* By whom this input has shown to be sent. */
extern bool host_known[HOST_USERS];
/* The id of his kernel, which he and the administrator may see. */
extern char host_bens_kernel[KERNELS_ID + 1];
/* Drawn for this input, one after the other. */
extern unsigned host_drawn;

#define host_require(what)                                                                         \
	do {                                                                                       \
		if (!(what))                                                                       \
			__builtin_trap();                                                          \
	} while (0)

/* Before each input: users, two kernels and files as they were. */
void host_begin(void);
void host_end(void);
/* A kernel of this owner is started, ended, restarted or interrupted: somebody said who may. */
void host_check_owner(const char *owner);

#endif
