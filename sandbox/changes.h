/*
 * changes: whether anything below /work was touched since the collector last looked through it.
 *
 * An inotify(7) instance that two processes hold: the collector watches each directory it walks and
 * takes the events away before it walks again; the proxy only asks whether there is one, which
 * costs a system call, and lets a cell that wrote nothing end without a collection.
 *
 * It never replaces looking: a kernel can make more directories than are watched, and what it then
 * gains is that each of its cells waits for a collection, as without this. A file written through a
 * mapping causes no event, but keeps the file open, so that it waits for its IN_CLOSE_WRITE anyway;
 * the final collection looks at everything. Never logs.
 */
#ifndef SANDBOX_CHANGES_H
#define SANDBOX_CHANGES_H

#include <stdbool.h>

/* Directories that are watched at once and made anew, together, in one kernel's life. A watch holds
 * about 1 KiB of the host's memory. */
#define CHANGES_WATCHES_MAX 4096

struct changes {
	int fd;	    /* -1: the host gives none (max_user_instances), nothing is watched */
	bool blind; /* something is not watched: the absence of events means nothing */
};

/* Opens an instance; fd is -1 when there is none to be had. */
void changes_open(struct changes *changes);
/* Takes away what has happened so far: to be called before looking. */
void changes_forget(struct changes *changes);
/* Watches one directory (lent), again or for the first time: to be called before reading it. */
void changes_watch(struct changes *changes, int directory);

/* The proxy's side: true when nothing has happened since changes_forget. */
bool changes_none(int fd);

#endif
