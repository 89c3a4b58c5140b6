/*
 * supervisor: one sandbox from the spec to its last result.
 *
 * In: descriptors 3 (status), 4 (spec) and 5 (lifeline) from the proxy. Out: see status.h. It stays
 * in the host's namespaces, is single-threaded, reads nothing that the kernel can write but pid 1's
 * fixed-size reports, and ends only when nothing of the sandbox is left. May log.
 */
#ifndef SANDBOX_SUPERVISOR_H
#define SANDBOX_SUPERVISOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "sandbox/base.h"
#include "sandbox/bounds.h"
#include "sandbox/build.h"
#include "sandbox/outbox.h"
#include "sandbox/refusals.h"
#include "sandbox/spec.h"

#define SUPERVISOR_STATUS   3
#define SUPERVISOR_SPEC	    4
#define SUPERVISOR_LIFELINE 5

/* Every descriptor that the supervisor holds, so that a child can close them all. */
enum supervisor_fd {
	FD_STATUS, /* the proxy */
	FD_SPEC,
	FD_LIFELINE, /* hangs up when the proxy is gone */
	FD_SIGNALS,
	FD_SYNC,	   /* the processes that build, see build.h */
	FD_CONTROL,	   /* pid 1, see init.h */
	FD_RELAY_ERROR,	   /* the relay's reason when it cannot start */
	FD_COLLECTOR,	   /* see collector.h */
	FD_RECOVERER,	   /* the same words, from the short-lived one */
	FD_EVENTS,	   /* memory.events of the sandbox's cgroup */
	FD_CHANGES,	   /* see changes.h; until the proxy has it */
	FD_LISTENER,	   /* see refusals.h */
	FD_GROUP,	   /* cgroup.procs of it; until the builder has it */
	FD_PROXY,	   /* its pidfd */
	FD_COLLECTOR_LIFE, /* write ends: closing one ends that child */
	FD_RECOVERER_LIFE,
	FD_BUILDER_LIFE,
	FD_RELAY_LIFE,
	FD_INIT_LIFE,
	FD_MOUNTS, /* the mount namespace, so that pid 1's end does not wait for its own */
	FD_WALL,   /* the proxy's ends of the wall and of the kernel's output, until it has them */
	FD_OUTPUT,
	FD_COUNT,
};

enum supervisor_child {
	CHILD_COLLECTOR,
	CHILD_RECOVERER,
	CHILD_BUILDER,
	CHILD_RELAY,
	CHILD_INIT,
	CHILD_COUNT,
};

enum supervisor_phase {
	PHASE_BUILDING,
	PHASE_RUNNING,	/* the kernel was executed */
	PHASE_ENDING,	/* pid 1 is gone or was told to go; collecting what is left */
	PHASE_FINISHED, /* the collector has answered */
};

#define CLIENT_SOCKETS_MAX 64
#define SUPERVISOR_LAYERS  3

struct supervisor {
	struct spec spec;
	struct identity identity;
	char *work;
	int fd[FD_COUNT];	  /* -1: none */
	pid_t child[CHILD_COUNT]; /* 0: none, or gone */
	enum supervisor_phase phase;
	bool failed;	/* the launch failed and the proxy was told */
	bool executing; /* "exec" was seen: the kernel may have written something */
	bool confined;	/* it has its own filter */
	bool proxy_gone;
	bool signalled;	     /* asked to end by a signal: the proxy may be dying */
	bool collector_lost; /* it was killed: what it had not brought out is recovered at the end
			      */
	bool ended;	     /* pid 1 has said how the kernel ended */
	int code, signal;    /* and this is how */
	bool gone;	     /* pid 1 is gone, or never was */
	uint64_t results[3]; /* files and bytes collected at the end, files left */
	int64_t kill_at, relay_until, collect_until; /* now_ms; 0: not set */
	char *layers[SUPERVISOR_LAYERS]; /* fields of "layers" (status.h), until the kernel runs */
	char *sockets[CLIENT_SOCKETS_MAX]; /* paths of the client side (status.h, "socket") */
	size_t socket_count;
	struct bounds bounds;
	struct outbox outbox;	/* to the proxy */
	const char *last_order; /* to the collector, while its socket has no room */
	struct refusals refusals;
};

/* Returns the exit code of the process. */
int supervisor_run(void);

/* One packet to the proxy, while there is one: now or later, in order (outbox.h). */
void supervisor_say(struct supervisor *supervisor, bool droppable, const char *word,
		    const char *const *fields, size_t count);
/* The same, never dropped; `first` and `second` may be NULL. */
void supervisor_tell(struct supervisor *supervisor, const char *word, const char *first,
		     const char *second);
/* The launch failed: says so once and ends what was built. */
void supervisor_fail(struct supervisor *supervisor, const char *stage, const struct err *err);
void supervisor_fail_text(struct supervisor *supervisor, const char *stage, const char *name,
			  const char *text);
/* All is forked that ever will be, and nothing of the host is left to change. */
void supervisor_confine(struct supervisor *supervisor);
/* Everything inside is to end now. */
void supervisor_end(struct supervisor *supervisor);
void supervisor_end_relay(struct supervisor *supervisor);

#endif
