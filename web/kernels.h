/*
 * kernels: the table of kernels that this server runs: whose they are, how they are, and how many
 * there may be.
 *
 * In: orders of the REST side and of the link, which have checked who asks. Out: one `cellwall
 * kernel` process each (start.h), a bridge to it (bridge.h), and its states:
 *
 *   starting -> idle <-> busy -> (shutdown) terminating -> gone from the table
 *        \________|_________/ -> ended by itself -> restarting (with back-off) or dead
 *
 * A kernel is known by id and owner together: with a foreign owner it does not exist. A place is
 * taken before a process is started and given back when that process is gone. Logs starts and
 * ends. Foreign names and variables never become part of a path or of a command (see
 * kernels_order).
 */
#ifndef WEB_KERNELS_H
#define WEB_KERNELS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "proxy/tally.h"
#include "sandbox/base.h"
#include "web/bridge.h"

struct ended;
struct json_t;
struct kernel;
struct kernels;
struct loop;
struct specs;

#define KERNELS_ID 36 /* a version 4 UUID as text */

struct kernels_options {
	unsigned max_kernels;	   /* of all users together; 0: no limit */
	unsigned start_timeout_ms; /* until the first answer of a kernel */
	unsigned idle_timeout;	   /* seconds; an idle kernel is stopped then; 0: never */
	bool cull_connected;	   /* even when somebody is connected */
	bool cull_busy;		   /* even when it is busy */
	unsigned
		cull_interval; /* seconds between looks; 0: 30, or fewer for a short idle_timeout */
	const char *data;      /* absolute: DATA/users/NAME/AREA is a kernel's folder; made 0700 */
	const char *runtime;   /* absolute, short: a directory of our own is made in it, 0700 */
	const char *const
		*allowed_environment; /* names besides the known KERNEL_*, NULL at the end */
};

/* Copies what it needs of the options; borrows the rest. */
int kernels_new(const struct kernels_options *options, struct loop *loop, struct specs *specs,
		struct kernels **ret_kernels, struct err *err);
/* Asks all kernels to end; `done` is called from the loop when the last is gone (10 s at the
 * most). */
void kernels_stop(struct kernels *kernels, void (*done)(void *arg), void *arg);
/* Ends what is left at once. Accepts NULL; returns NULL. */
struct kernels *kernels_free(struct kernels *kernels);

/*
 * What a client wants. Everything in it is hostile: `spec` is looked up by name, of `environment`
 * (an object of strings, may be NULL) the allowed names are taken, values of up to
 * KERNELS_VALUE_MAX printable bytes. The folder it runs in is `area` below the owner's ("default"
 * when NULL; letters, digits, "-", "_" and "."), whatever KERNEL_WORKING_DIR says.
 */
#define KERNELS_VALUE_MAX 4096
struct kernels_order {
	const char *owner; /* a user's name, checked by who made it: letters, digits, - _ . @ */
	unsigned owner_kernels; /* how many she may have; 0: no limit */
	const char *spec;	/* NULL: the default kernelspec */
	const char *area;
	const struct json_t *environment;
};

/*
 * Starts one; it is "starting" when this returns. Returns 0; -ENOENT: no such kernelspec;
 * -EDQUOT: a limit is reached; -EINVAL: a variable or a name is refused; or what the start gave.
 * The text is for the user who asked.
 */
int kernels_start(struct kernels *kernels, const struct kernels_order *order,
		  struct kernel **ret_kernel, struct err *err);
/* Of this owner (NULL: of anybody). NULL: there is none. Kernels that are terminating are not
 * found. */
struct kernel *kernels_find(const struct kernels *kernels, const char *owner, const char *id);
/* Those that have ended, or were asked to. */
const struct ended *kernels_ended(const struct kernels *kernels);
/* Calls `each` for all of them (those of `owner` alone unless NULL) in the order of their start. */
void kernels_each(const struct kernels *kernels, const char *owner,
		  void (*each)(void *arg, struct kernel *kernel), void *arg);
/* What went through all of them, those that are gone included. */
struct kernels_totals {
	struct bridge_figures traffic; /* between this server and its kernels */
	struct tally walls;	       /* what `cellwall kernel` decided */
};
void kernels_sum(const struct kernels *kernels, struct kernels_totals *ret_totals);
/* Calls `each` for those too that are ending ("terminating" in their view). */
void kernels_each_place(const struct kernels *kernels,
			void (*each)(void *arg, struct kernel *kernel), void *arg);
unsigned kernels_count(const struct kernels *kernels); /* places taken, terminating ones too */

/* Returns 0, or a negative errno with a text for the user. */
int kernel_interrupt(struct kernel *kernel, struct err *err);
/* Returns at once; the kernel is "restarting" until the new one answers. Listeners stay. */
int kernel_restart(struct kernel *kernel, struct err *err);
/* Takes it out of the table; the process is asked to end, and killed when it does not. */
void kernel_shutdown(struct kernel *kernel, const char *reason);

struct bridge *kernel_bridge(struct kernel *kernel);

/* A look at one; the strings live as long as the kernel, `state` is constant text. */
struct kernel_view {
	const char *id, *spec, *owner, *area;
	const char *folder; /* absolute; staging/in and staging/out are in it */
	const char *state;  /* starting, idle, busy, restarting, dead, terminating */
	const char *reason; /* why it is dead; "" otherwise */
	size_t connections;
	pid_t pid; /* 0 while there is none */
	unsigned restarts;
	struct timespec last_activity, started; /* CLOCK_REALTIME */
	unsigned start_ms; /* from the start to its first answer; 0 while it has not answered */
};
void kernel_look(const struct kernel *kernel, struct kernel_view *ret_view);

#endif
