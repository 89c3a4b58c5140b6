/*
 * hint: an error that names something missing, and the line that says how it is staged.
 *
 * In: the content of an `error` message of the kernel, which may be forged from end to end; names
 * and paths of our own. Out: where to look beside the notebook (beside.h looks), and words. Pure
 * functions: bounded, no recursion, libc only; they never log and never touch a file.
 *
 * A hostile kernel would have the user stage what it wants to read. So nothing hidden, nothing that
 * is called like a key or a password and nothing outside the notebook's folder is ever named, a
 * command is shown only when it can be copied as it stands, and the words leave the choice to the
 * reader. Nothing of the answer goes into the wall; hint_cells makes sure that there is one look
 * per cell that a client sent, whatever the kernel sends, so that even one who could tell by the
 * time how it ended would learn of one name per cell.
 */
#ifndef PROXY_HINT_H
#define PROXY_HINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "proxy/beside.h"
#include "sandbox/spec.h"

#define HINT_PATH_MAX 512 /* of a path below the notebook's folder */
#define HINT_PLACES   4
#define HINT_CELLS    256 /* "run all" sends a whole notebook at once */

/* A place to look at, relative to the notebook's folder, and how much of it is to be staged. */
struct hint_place {
	char path[HINT_PATH_MAX];
	size_t named; /* bytes of path: of "utils/__init__.py" it is "utils" */
};

struct hint {
	size_t count;
	struct hint_place place[HINT_PLACES]; /* in the order in which to look */
};

/*
 * Reads the content of an error: ModuleNotFoundError, ImportError of a name in a package of unknown
 * place, FileNotFoundError, and what %run says. `folder` is the notebook's, absolute. Returns
 * whether there is a place to look at.
 */
bool hint_read(struct iovec content, const char *folder, struct hint *ret_hint);

/* Whether the kernel sees `path` (relative to `folder`) already, or it is where results go. */
bool hint_is_known(const struct spec *spec, const char *folder, const char *path);

/*
 * The line for `path`, which is there as `kind` (not BESIDE_NOTHING). Caller frees. NULL when it
 * could not be copied from the line as it stands, or out of memory.
 */
char *hint_line(const char *path, enum beside kind);

/* The line for a file of that name among the results of earlier runs, which the kernel sees in
 * another place. */
char *hint_result_line(const char *path);

/* The cells of the clients for which nobody has looked yet. Zeroed: none. */
struct hint_cells {
	uint64_t id[HINT_CELLS]; /* hash of the msg_id; 0: none */
	size_t next;
};

void hint_cells_add(struct hint_cells *cells, const char *msg_id);
/* Takes it out: true at the first call for a cell that was added. */
bool hint_cells_take(struct hint_cells *cells, const char *msg_id);

#endif
