/*
 * bounds: limits on the whole sandbox, and what the supervisor does so that they hold.
 *
 * Memory is held by a cgroup where there is one; the system then kills what grew, and here it is
 * told in words. Where there is none the supervisor looks itself: often near the limit and while
 * something grows, seldom when nothing moves. Other processes of the sandbox go first, the largest
 * first, when that helps; else the kernel. The disk is looked at in either case: the collector adds
 * up /work when its file system has lost a part of what is allowed. May log nothing; what the user
 * should read goes to the proxy as "exceeded" and "limits" (status.h).
 */
#ifndef SANDBOX_BOUNDS_H
#define SANDBOX_BOUNDS_H

#include "sandbox/cgroup.h"
#include "sandbox/usage.h"

struct supervisor;
struct status;

struct bounds {
	struct cgroup cgroup;	 /* .directory -1: none */
	struct inside inside;	 /* .proc -1: not known */
	char reason[256];	 /* why there is none */
	int work;		 /* the directory behind /work, or -1 */
	uint64_t disk;		 /* bytes it may hold; 0: no limit */
	int64_t next;		 /* when to look again, now_ms; 0: never */
	int64_t interval;	 /* ms between two looks */
	uint64_t activity;	 /* at the last */
	uint64_t blocks, inodes; /* free, when the disk was last asked about */
	int64_t asked;		 /* since when the collector adds up; 0: it does not */
	int64_t ask_at;		 /* when it is to do so even if nothing seems lost */
	uint64_t killed;	 /* processes that the cgroup's limit ended, as far as told */
	int64_t victim_at;	 /* a process was: to be told then, unless it was the kernel */
	int64_t killed_at;	 /* when the last one was */
	int64_t told;		 /* when "exceeded" was last said of a process */
};

/* Nothing is held yet. */
void bounds_init(struct bounds *bounds);
/* Before the builder is forked. Fails when the policy insists on a cgroup and there
 * is none. */
int bounds_start(struct supervisor *supervisor, struct err *err);
/* The private directory is there. */
void bounds_work(struct supervisor *supervisor);
/* "inside" came from pid 1 (build.h). Takes its descriptor. */
void bounds_inside(struct supervisor *supervisor, struct status *said);
/* The kernel runs: says "limits", and begins to look. */
void bounds_run(struct supervisor *supervisor);
/* A cell begins: what was idle may not be in a moment. */
void bounds_hurry(struct supervisor *supervisor);
/* It is time to look. */
void bounds_look(struct supervisor *supervisor);
/* The cgroup has something to tell: FD_EVENTS. */
void bounds_event(struct supervisor *supervisor);
/* The collector has added up /work. */
void bounds_measured(struct supervisor *supervisor, uint64_t bytes);
/* The kernel has ended, before "gone" is said. */
void bounds_ended(struct supervisor *supervisor);
/* Every process has ended: the cgroup goes. */
void bounds_finish(struct supervisor *supervisor);

#endif
