/*
 * stderr: what the kernel's processes write to their standard output and error, as log lines.
 *
 * Foreign text: escaped, cut into lines, and bounded to STDERR_RATE bytes per second; the rest is
 * read and counted, so that a kernel never blocks on a full pipe.
 */
#ifndef PROXY_STDERR_H
#define PROXY_STDERR_H

#include <stdint.h>

struct stderr_log;

struct stderr_log *
stderr_log_new(int fd); /* takes the descriptor; NULL: no memory (it is closed) */
struct stderr_log *
stderr_log_free(struct stderr_log *log); /* prints what is left; accepts NULL; returns NULL */
int stderr_log_fd(const struct stderr_log *log); /* to poll; -1 after its end */
void stderr_log_read(struct stderr_log *log, int64_t now);

#endif
