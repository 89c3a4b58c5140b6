/*
 * examine: the guard process, in which what a kernel wrote is parsed and judged.
 *
 * Forked before the proxy has read a key, has threads or has a socket: a template that does nothing
 * but fork the examiner anew, a second one in case that is killed, and the examiner, which has one
 * socket, no files, a limit on its memory and a filter that leaves it reading, writing and
 * allocating. Question and answer, one at a time; one that takes too long or ends is killed and
 * replaced. All end with the proxy. Never logs.
 */
#ifndef PROXY_EXAMINE_H
#define PROXY_EXAMINE_H

#include "proxy/content.h"

struct examine;

/* What an examiner does with its socket until it hangs up. */
typedef void examine_server(int fd, const struct outputs_rules *rules, struct known *known);
examine_server examine_serve;

/* Forks. `rules` and `known` are borrowed. Returns 0 or a negative errno. */
int examine_start(examine_server *server, const struct outputs_rules *rules, struct known *known,
		  struct examine **ret_examine, struct err *err);
struct examine *examine_stop(struct examine *examine); /* accepts NULL; returns NULL */

struct examination {
	/* in */
	enum content_rule rule;
	struct iovec metadata, content;
	const struct iovec *buffers;
	size_t buffer_count;
	/* out, see content_examine; the bytes are foreign still */
	enum content_verdict verdict;
	char *new_metadata, *new_content; /* caller frees, whatever was returned */
	size_t new_metadata_size, new_content_size;
	char blocked[BLOCKED_TEXT]; /* printable ASCII */
};

/* Returns 0, or: -EMSGSIZE too large to ask, -ETIMEDOUT, -EPIPE it ended, -EPROTO its answer is
 * none, -ENOMEM. */
int examine(struct examine *examine, struct examination *examination);
/* How many examiners had to be replaced. */
unsigned examine_replaced(const struct examine *examine);

#endif
