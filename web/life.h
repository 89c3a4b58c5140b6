/*
 * life: one kernel from its start to its end, for kernels.c alone.
 *
 * Owns the process, the bridge, the private directory and their timers. Calls back when the last
 * process of a kernel that is terminating is gone. Logs starts and ends.
 */
#ifndef WEB_LIFE_H
#define WEB_LIFE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "proxy/tally.h"
#include "web/bridge.h"
#include "web/kernels.h"
#include "web/start.h"

#define LIFE_TAIL 512 /* of what a kernel writes on stderr, for the reason of its end */

struct kernel {
	struct kernels *kernels;
	struct kernel *next, **link; /* kernels::first, or the terminating ones */
	struct loop *loop;
	char id[KERNELS_ID + 1];
	char *spec_name, *owner, *area, *folder;
	char *directory, *connection_file; /* private, in the run directory */
	json_t *spec, *variables;
	char *resources;
	bool walled, interrupt_by_message;
	unsigned start_timeout_ms;
	void (*gone)(struct kernel *kernel);

	struct bridge *bridge;
	struct start_process process; /* pid 0: none */
	const struct tally *tally;    /* NULL: nothing counts for it */
	int tally_fd;
	struct watch *end, *output;
	struct timer *starting, *ending, *returning;
	const char *state;
	char reason[LIFE_TAIL];
	char tail[LIFE_TAIL];
	size_t tail_size;
	bool answered;	  /* this process */
	bool restarting;  /* start again when it has ended */
	bool terminating; /* go when it has ended */
	bool given_up;	  /* dead when it has ended */
	unsigned ends;	  /* by itself, soon after its start, one after the other */
	unsigned restarts;
	unsigned step; /* of ending */
	int64_t launched;
	unsigned start_ms;
	struct timespec started, last_activity;
};

/* Starts a kernel whose names, directories and spec are filled in. 0 or a negative errno; free it
 * then. */
int life_begin(struct kernel *kernel, struct err *err);
/* Asks it to end, then makes it; gone() follows from the loop, at once when nothing runs. */
void life_end(struct kernel *kernel, const char *reason);
/* Removes a kernel's private directory and the files in it: its sockets, and the connection file
 * with the key when nobody has read it. */
void life_remove_files(int parent, const char *directory);
/* Kills what runs; removes what is on disk. Accepts NULL; returns NULL. */
struct kernel *life_free(struct kernel *kernel);

#endif
