/*
 * startup: the file that IPython runs in every kernel when it starts. A comfort, no part of the
 * wall. What is needed later, if at all, is in files of its own, read when it is needed.
 */
#ifndef SANDBOX_STARTUP_H
#define SANDBOX_STARTUP_H

#define STARTUP_ETC   "/etc/ipython/"
#define STARTUP_PARTS STARTUP_ETC "cellwall/"

/* A file for IPython's startup directory. */
extern const char startup_text[];

#endif
