/*
 * server: headers of the notebook server that close what an output could still reach from a page.
 *
 * They are the server's business, not the kernel's: jupyter_config.json of a Jupyter configuration
 * directory (jupyter_core paths.py; the .d directories are read for extensions alone). The file is
 * ours when its object has a "cellwall" member; any other is never touched. The user's page is
 * share/doc/server.md. Never logs.
 */
#ifndef KERNELSPEC_SERVER_H
#define KERNELSPEC_SERVER_H

#include <stdbool.h>

#include "sandbox/base.h"

/* The text of the file. Caller frees; NULL: no memory. */
char *server_text(void);
/* The user's configuration directory; with a prefix, PREFIX/etc/jupyter. Caller frees; NULL: no
 * memory. */
char *server_directory(const char *prefix);
/* Writes it, replacing one of ours. -EEXIST with words when another is there. Caller frees
 * *ret_path. Returns 0 or a negative errno. */
int server_write(const char *directory, char **ret_path, struct err *err);
/* Removes one of ours. -ENOENT when there is none, -EEXIST when it is another. 0 or -errno. */
int server_remove(const char *directory, char **ret_path, struct err *err);
/* The first file of ours in the directories that a server here reads. Caller frees. Returns 1, 0
 * when there is none, or -ENOMEM. */
int server_find(char **ret_path);

/* What to do where there is none, for install and doctor. */
#define SERVER_HINT "cellwall install --server-config, then start the notebook server anew"

#endif
