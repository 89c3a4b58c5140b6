/*
 * session: one kernel's life, from the launch to the last collected file.
 *
 * In: a plan that names everything. Out: an exit code. session.c holds the phases and the event
 * loop, traffic.c what comes from clients and through the wall, events.c what the supervisor
 * reports; all three work on struct session, which nobody else touches.
 */
#ifndef PROXY_SESSION_H
#define PROXY_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "proxy/attempts.h"
#include "proxy/audit.h"
#include "proxy/connection.h"
#include "proxy/corridor.h"
#include "proxy/hint.h"
#include "proxy/holding.h"
#include "proxy/install.h"
#include "proxy/joining.h"
#include "proxy/launch.h"
#include "proxy/limits.h"
#include "proxy/notice.h"
#include "proxy/pressure.h"
#include "sandbox/spec.h"

struct session_plan {
	const struct connection *connection; /* borrowed */
	const struct spec *spec;	     /* borrowed */
	const char *sandbox;		     /* path of cellwall-sandbox */
	const char *inner_key;		     /* hex; in the inner connection file too */
	const char *folder;		     /* the notebook's, absolute; NULL: not known */
	uint64_t idle_timeout; /* seconds without a message after which the kernel ends; 0: never */
	struct audit *audit;   /* borrowed; NULL: no log */
	struct tally *tally;   /* borrowed; NULL: nobody counts */
	bool closed;	       /* the policy lets nobody add inputs: nobody is told how */
	struct install *install;	     /* borrowed; NULL: no cell asks for packages */
	const struct outputs_rules *outputs; /* borrowed; NULL: a trusted kernel */
	struct examine *examine;	     /* borrowed; needed with outputs, as the next */
	struct known *known;
	struct imported *imported; /* borrowed; NULL: nobody asks for it */
	char **notices;		   /* NULL-terminated, for the log */
	const char *failure;	   /* not NULL: nothing is started, clients are told this */
};

/* Runs until the kernel is gone. Returns the exit code of `cellwall kernel`: the kernel's own,
 * 128+N when signal N ended it, or EXIT_LAUNCH when it could not be started (the reason was
 * logged). */
#define EXIT_LAUNCH 1
int session_run(const struct session_plan *plan);

enum phase { STARTING, RUNNING, DRAINING, LEAVING, FAILED, OVER };

struct session {
	const struct session_plan *plan;
	enum phase phase;
	int64_t deadline; /* of the phase, now_ms; 0: none */
	int exit_code;
	bool ready;	/* the relay is connected to the kernel's iopub */
	bool lost;	/* the supervisor was killed */
	bool leaving;	/* a client or a signal asked for the end */
	bool exceeded;	/* the kernel was ended for a limit: said already */
	unsigned busy;	/* cells that the kernel was given and has not answered */
	int64_t heard;	/* the last message of a client, now_ms */
	unsigned terms; /* SIGTERMs received */

	struct launch launch;
	struct channels *channels;
	struct corridor corridor;
	struct notice notice;
	struct wall_reader *reader;
	struct wall_writer *writer;
	int wall, signals;
	int changes; /* where /work tells of them (sandbox/changes.h), or -1 */
	int server;  /* pidfd of the notebook server that started us, or -1 */
	struct stderr_log *stderr_log;

	struct pressure pressure;
	uint64_t dropped_messages, dropped_bytes; /* not said yet */
	int64_t dropped_said;
	unsigned lost_replies;
	int64_t retried; /* when waiting replies were last tried */
	unsigned pings;	 /* heartbeats that went in and did not come back yet */
	bool told_pause;
	bool told_log; /* that the audit log cannot be written */
	struct holding holding;
	struct joining joining;
	int64_t spare_until; /* memory of large messages goes then; 0: there is none */
	uint64_t asked;	     /* sequence of the last collection asked for: one at a time */
	uint64_t collected;  /* and of the last finished one */
	bool up_to_date;     /* after which nothing was left, and what changes is seen */
	unsigned refused_names;
	struct attempts attempts;
	struct hint_cells cells; /* for which no missing name was looked up yet */
	char *flagged; /* names for one notice per collection: results that act when opened */
	unsigned flagged_names;
	char *cell; /* header of the newest request to run code, raw JSON: the parent of our notices
		     */
	char *early[EARLY_NOTICES_MAX]; /* what is to be said when there is a cell to say it in */
	size_t early_count;
	char *failure; /* why the launch failed: what requests are answered with */
};

/* Says one word of status.h to the supervisor. */
void session_tell(struct session *session, const char *word);
/* The launch failed: clients are told `text` for FAILED_MS. */
void session_fail(struct session *session, const char *text);
/* Asks for a collection that covers all cells that wait, unless one is still under way. */
void session_collect(struct session *session);
/* A request that must find the kernel running is on its way. */
void session_resume(struct session *session);

#endif
