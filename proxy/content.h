/*
 * content: what may be in a message of the kernel when it reaches a front end.
 *
 * One rule per type of message (the guard's table names it), each a pure function on the message's
 * parsed metadata and content: it leaves them, changes them in place, or says that the message goes
 * no further. No kernel string is ever forwarded as HTML: every piece of markup that goes out is
 * built here. Runs in the guard process (proxy/examine.h), where a bug costs one message. Never
 * logs; bounded by CONTENT_MAX and CONTENT_DEPTH before jansson sees a byte.
 */
#ifndef PROXY_CONTENT_H
#define PROXY_CONTENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "sandbox/base.h"

#define CONTENT_DEPTH 64

enum outputs_mode {
	OUTPUTS_TEXT,	     /* text/plain and pictures alone */
	OUTPUTS_STATIC,	     /* markup in frames without scripts */
	OUTPUTS_INTERACTIVE, /* scripts run, in frames that let nothing out */
	OUTPUTS_OFF,	     /* a trusted kernel: nothing is looked at */
};

struct figures;

/* The policy's words on outputs. The lists are NULL-terminated and may be NULL. */
struct outputs_rules {
	enum outputs_mode mode;
	bool links;	     /* addresses in plain text are left as they are */
	char **mime;	     /* further MIME types that pass as they are */
	char **extra_types;  /* further msg_types of iopub that pass as they are */
	char **comm_targets; /* instead of jupyter.widget alone */
	/* what draws plotly's and vega's figures (borrowed, proxy/figures.h); NULL: nothing does */
	const struct figures *figures;
};

/* Which rule looks at a message. */
enum content_rule {
	CONTENT_NONE, /* nothing in it is forwarded as it came: the proxy makes it anew */
	/* iopub */
	CONTENT_STREAM,
	CONTENT_DISPLAY, /* display_data */
	CONTENT_RESULT,	 /* execute_result */
	CONTENT_UPDATE,	 /* update_display_data */
	CONTENT_CLEAR,
	CONTENT_ERROR,
	CONTENT_DEBUG_EVENT,
	CONTENT_COMM_OPEN,
	CONTENT_COMM_MSG, /* on shell too: a front end's answer has no other type */
	CONTENT_COMM_CLOSE,
	CONTENT_EXTRA, /* of outputs.extra_types */
	/* replies */
	CONTENT_EXECUTE_REPLY,
	CONTENT_INSPECT_REPLY,
	CONTENT_COMPLETE_REPLY,
	CONTENT_HISTORY_REPLY,
	CONTENT_IS_COMPLETE_REPLY,
	CONTENT_KERNEL_INFO_REPLY,
	CONTENT_COMM_INFO_REPLY,
	CONTENT_DEBUG_REPLY,
	CONTENT_USAGE_REPLY,
	CONTENT_SUBSHELL_REPLY,
	CONTENT_STATUS_REPLY, /* shutdown, interrupt: status and restart alone */
	/* stdin */
	CONTENT_INPUT_REQUEST,
	/* from a client: passed as it is, but what it opens is remembered */
	CONTENT_CLIENT_COMM_OPEN,
	CONTENT_CLIENT_COMM_CLOSE,
	CONTENT_RULES
};

enum content_verdict {
	CONTENT_KEEP, /* not one byte changes */
	CONTENT_CHANGED,
	CONTENT_DROP,	   /* goes no further; `blocked` says why */
	CONTENT_DROP_COMM, /* nor may that comm exist: the kernel is answered with comm_close */
};

/* What was taken out, for the placeholder, the audit log and the counters: one phrase each. */
#define BLOCKED_TEXT 512
struct blocked {
	unsigned count;		 /* also of those that found no room */
	char text[BLOCKED_TEXT]; /* "; " between phrases; printable ASCII alone */
};
/* Adds "WHAT, N bytes: WHY" (`what` escaped and cut; bytes 0: left out). */
void blocked_add(struct blocked *blocked, const char *what, size_t bytes, const char *why);

/* What is known of this kernel's comms and displays: fixed size, shared by one guard process and
 * its successor (proxy/known.h). */
struct known;

struct content {
	/* in and out: both objects, changed in place; references owned by the caller */
	json_t *metadata, *content;
	/* in */
	const struct iovec *buffers;
	size_t buffer_count;
	const struct outputs_rules *rules;
	struct known *known;
	/* out */
	struct blocked blocked;
};

/* Returns the verdict; on lack of memory CONTENT_DROP. */
enum content_verdict content_judge(enum content_rule rule, struct content *content);

/*
 * The same from bytes to bytes: parses both (after a look at size and depth; what Python writes and
 * JSON does not know is mended), removes keys that mean something to JavaScript, judges, and writes
 * what is new. `content` has what is "in" besides the two objects. ret_metadata and ret_content
 * (caller frees) are set for CONTENT_CHANGED; for CONTENT_DROP_COMM ret_content is what the kernel
 * gets in a comm_close; else NULL.
 */
enum content_verdict content_examine(enum content_rule rule, struct iovec metadata,
				     struct iovec text, struct content *content,
				     char **ret_metadata, char **ret_content);

#endif
