/*
 * process: what every child of ours does before anything else, so that none outlives its parent.
 *
 * PR_SET_PDEATHSIG (prctl(2)) alone loses a race: a parent that dies before the call sends nothing,
 * and getppid is always 0 for pid 1 of a namespace. So each child also holds the read end of a
 * pipe, its lifeline, whose only write end is its parent's: a hang-up means the parent is gone.
 * Async-signal-safe; never logs.
 */
#ifndef SANDBOX_PROCESS_H
#define SANDBOX_PROCESS_H

#include <stdbool.h>
#include <stddef.h>

#include "sandbox/base.h"

/* Empties the signal mask and sets every disposition to its default: an inherited blocked SIGINT
 * makes Python deaf to interrupts, an inherited ignored SIGPIPE turns a closed pipe into a loop. */
void process_reset_signals(void);
/* Its second half, for a child of a process that has done both and set no disposition since. */
void process_unblock_signals(void);

/* PR_SET_PDEATHSIG with `signal`, then looks at the lifeline: _exit(EXIT_ORPHAN) when it has hung
 * up. Call it after the last setresuid, which clears the first. Returns 0 or a negative errno. */
#define EXIT_ORPHAN 113
int process_protect(int lifeline, int signal, struct err *err);

/* Blocks the signals that ask for an end (INT, TERM, HUP, QUIT), ignores SIGPIPE and
 * SIGXFSZ, and returns a non-blocking signalfd(2) of the first, or a negative errno. Before any
 * thread is started. */
int process_signals(struct err *err);

/* True when one of these signals is pending: blocked, and not read yet. */
bool process_interrupted(void);

/* True when the parent that holds the other end is gone. Never blocks. */
bool process_orphaned(int lifeline);

/*
 * Makes descriptor i of `fds` descriptor 3+i (without CLOEXEC), and closes everything above. 0, 1
 * and 2 are left as they are. Returns 0 or a negative errno. `count` at most 16.
 */
int process_keep_fds(const int *fds, size_t count);

#endif
