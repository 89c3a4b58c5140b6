/*
 * log_parts: what the actions of `cellwall log` share. log_verb.c parses the words and options,
 * log_show.c prints and follows, log_verify.c looks at the chains. Logs are text that anybody with
 * the user's rights may have changed: all of it is escaped before it is printed.
 */
#ifndef KERNELSPEC_LOG_PARTS_H
#define KERNELSPEC_LOG_PARTS_H

#include <stdbool.h>

#include "proxy/logbook.h"

struct log_view {
	const char *word; /* KERNEL or FILE; NULL: all */
	bool follow, blocked, json, verify;
	char *path;    /* of the directory */
	int directory; /* -1: there is none yet */
};

/* Is this the log of the kernel that is meant? By the beginning of the file's name, of the launch's
 * ID in it, or of `kernel`, which the lines have (may be NULL). */
bool log_is_meant(const struct log_view *view, const char *name, const char *kernel);

/* Each returns the exit code. */
int log_show(const struct log_view *view);
int log_follow(struct log_view *view);
int log_verify(struct log_view *view);

/* "cellwall log: TEXT" to stderr; returns 1. */
int log_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
