/*
 * audit: the log of one kernel, for who wants to know afterwards what happened.
 *
 * In: what session, traffic and corridor see. Out: lines in a file that nobody but cellwall writes
 * to, see logbook.h for its form and its chain. Recorded are the launch, the layers, each cell (as
 * SHA-256), what was blocked or refused, and the end; with audit.messages every message. Lines are
 * gathered and written once per turn of the loop, whole lines at a time; nothing waits for the
 * disk. What a kernel can cause by the thousand is counted past a rate.
 *
 * Every function takes NULL for "no log". Never logs: audit_flush returns what went wrong.
 */
#ifndef PROXY_AUDIT_H
#define PROXY_AUDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "sandbox/base.h"

struct audit;

/* The policy's words. */
struct audit_rules {
	bool content;  /* cells and messages themselves, not only their hashes */
	bool messages; /* every message, not only cells and what was blocked */
	bool required; /* no kernel without a log */
	uint64_t keep; /* bytes of all logs together */
};

/* Opens a new file for the kernel of this connection file, chained to the newest before it, and
 * removes the oldest past rules->keep. Returns 0 or a negative errno. */
int audit_open(const char *connection_file, const struct audit_rules *rules,
	       struct audit **ret_audit, struct err *err);
/* The last line, with the totals; frees. Returns 0 or a negative errno: it could not be written. */
int audit_close(struct audit *audit, struct err *err);
/* Writes what was gathered, and goes on in a new file when this one is full. Returns 0 or a
 * negative errno; what could not be written is lost, and counted in a line when writing works
 * again. */
int audit_flush(struct audit *audit, struct err *err);
bool audit_required(const struct audit *audit);
/* Its directory, for who may still open files there; NULL without a log. */
const char *audit_directory(const struct audit *audit);

void audit_launch(struct audit *audit, const char *folder, char *const *argv, const char *policy);
/* What this kernel really has, and what its host cannot give: names with spaces between; the limits
 * of each of its processes in words. */
void audit_layers(struct audit *audit, const char *has, const char *lacks, const char *limits);
/* Who holds the limits of all together ("cgroup", "watcher"), which they are in words, and why it
 * is no cgroup. */
void audit_limits(struct audit *audit, const char *holder, const char *limits, const char *reason);
/* A request to run code passed: its content as it came. */
void audit_cell(struct audit *audit, struct iovec content);
/* A message passed; nothing unless rules->messages. */
void audit_message(struct audit *audit, bool inward, const char *channel, const char *msg_type,
		   struct iovec content);
/* A message went no further. */
void audit_refused(struct audit *audit, bool inward, const char *channel, const char *msg_type,
		   size_t size, const char *verdict, const char *reason);
/* Anything else; what has a channel came from the kernel. Strings may be NULL and foreign; `size`
 * 0: none. */
void audit_note(struct audit *audit, const char *event, const char *channel, const char *msg_type,
		size_t size, const char *verdict, const char *reason);
void audit_gone(struct audit *audit, int code, int signal_number);

#endif
