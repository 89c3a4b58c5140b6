/*
 * metrics: what this server counted, as Prometheus text (exposition format 0.0.4).
 *
 * Counters are plain numbers of one thread; gauges are asked for when somebody looks. No label has
 * a value that a client or a kernel chooses: channels, verdicts, kinds and states are ours, users
 * the operator's. Never logs.
 */
#ifndef WEB_METRICS_H
#define WEB_METRICS_H

#include <stddef.h>
#include <stdint.h>

struct server;
struct request;

/* In this order they are printed; the names are in metrics.c. */
enum metric {
	METRIC_CONNECTIONS,
	METRIC_CONNECTIONS_DROPPED,
	METRIC_HANDSHAKES_FAILED,
	METRIC_TIMEOUTS,
	METRIC_REQUESTS,
	METRIC_REQUESTS_REFUSED, /* answered with 4xx */
	METRIC_REQUESTS_FAILED,	 /* answered with 5xx */
	METRIC_LOGINS_FAILED,
	METRIC_LOGINS_LIMITED,
	METRIC_UPLOADED_BYTES,
	METRIC_DOWNLOADED_BYTES,
	METRICS
};

void metrics_add(enum metric metric, uint64_t count);
static inline void metrics_count(enum metric metric)
{
	metrics_add(metric, 1);
}
/* A kernel answered for the first time, so many milliseconds after it was started. */
void metrics_started(unsigned ms);
/* GET /metrics. */
void metrics_answer(struct request *request);

#endif
