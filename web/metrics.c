#include "web/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "web/bridge.h"
#include "web/conn.h"
#include "web/http.h"
#include "web/kernels.h"
#include "web/server.h"
#include "web/tls.h"

static uint64_t counts[METRICS];

static const struct {
	const char *name;
	const char *help;
} names[METRICS] = {
	[METRIC_CONNECTIONS] = {"connections_total", "Connections that were accepted."},
	[METRIC_CONNECTIONS_DROPPED] = {"connections_dropped_total",
					"Idle connections that made room for new ones."},
	[METRIC_HANDSHAKES_FAILED] = {"handshakes_failed_total", "TLS handshakes that failed."},
	[METRIC_TIMEOUTS] = {"timeouts_total", "Connections that were closed for being slow."},
	[METRIC_REQUESTS] = {"requests_total", "HTTP requests."},
	[METRIC_REQUESTS_REFUSED] = {"requests_refused_total", "Requests answered with 4xx."},
	[METRIC_REQUESTS_FAILED] = {"requests_failed_total", "Requests answered with 5xx."},
	[METRIC_LOGINS_FAILED] = {"logins_failed_total", "Wrong tokens."},
	[METRIC_LOGINS_LIMITED] = {"logins_limited_total",
				   "Tokens not looked at after too many wrong ones."},
	[METRIC_UPLOADED_BYTES] = {"uploaded_bytes_total", "Bytes put into staging areas."},
	[METRIC_DOWNLOADED_BYTES] = {"downloaded_bytes_total", "Bytes sent out of files."},
};

void metrics_add(enum metric metric, uint64_t count)
{
	counts[metric] += count;
}

static void put(FILE *to, const char *name, const char *type, const char *help, double value)
{
	fprintf(to, "# HELP cellwall_%s %s\n# TYPE cellwall_%s %s\ncellwall_%s %.15g\n", name, help,
		name, type, name, value);
}

static double resident(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long pages = 0;

	if (file) {
		if (fscanf(file, "%*u %lu", &pages) != 1)
			pages = 0;
		fclose(file);
	}
	return (double)pages * 4096.0;
}

/* One family of series, a line for each kernel and channel. */
static void put_traffic(void *arg, struct kernel *kernel)
{
	static const char *const channels[WALL_CHANNELS] = {[WALL_SHELL] = "shell",
							    [WALL_CONTROL] = "control",
							    [WALL_STDIN] = "stdin",
							    [WALL_IOPUB] = "iopub"};
	const struct bridge_figures *figures = bridge_figures(kernel_bridge(kernel));
	struct kernel_view view;
	FILE *to = arg;

	kernel_look(kernel, &view);
	for (unsigned i = 0; i < WALL_CHANNELS; i++) {
		if (!channels[i])
			continue;
		fprintf(to,
			"cellwall_kernel_messages_total{kernel=\"%s\",owner=\"%s\",channel=\"%s\","
			"direction=\"in\"} %" PRIu64 "\n",
			view.id, view.owner, channels[i], figures->in[i]);
		fprintf(to,
			"cellwall_kernel_messages_total{kernel=\"%s\",owner=\"%s\",channel=\"%s\","
			"direction=\"out\"} %" PRIu64 "\n",
			view.id, view.owner, channels[i], figures->out[i]);
	}
}

static void put_start(void *arg, struct kernel *kernel)
{
	struct kernel_view view;

	kernel_look(kernel, &view);
	fprintf(arg, "cellwall_kernel_start_seconds{kernel=\"%s\",owner=\"%s\"} %.3f\n", view.id,
		view.owner, (double)view.start_ms / 1000);
}

static void put_kernels(FILE *to, const struct server *server)
{
	put(to, "kernels", "gauge", "Kernels, also those that are starting or ending.",
	    kernels_count(server->kernels));
	fputs("# HELP cellwall_kernel_messages_total Messages of a kernel, since it was started.\n"
	      "# TYPE cellwall_kernel_messages_total counter\n",
	      to);
	kernels_each(server->kernels, NULL, put_traffic, to);
	fputs("# HELP cellwall_kernel_start_seconds From a kernel's start to its first answer.\n"
	      "# TYPE cellwall_kernel_start_seconds gauge\n",
	      to);
	kernels_each(server->kernels, NULL, put_start, to);
}

void metrics_answer(struct request *request)
{
	const struct server *server = request->server;
	char *text = NULL;
	size_t size = 0;
	FILE *to = open_memstream(&text, &size);

	if (!to) {
		http_error(request, 503, NULL, "no memory");
		return;
	}
	for (unsigned i = 0; i < METRICS; i++)
		put(to, names[i].name, "counter", names[i].help, (double)counts[i]);
	put(to, "connections", "gauge", "Connections now.", server->conns->count);
	put(to, "uptime_seconds", "gauge", "Seconds since the start.",
	    (double)(now_ms() - server->started) / 1000);
	put(to, "resident_bytes", "gauge", "Resident memory of this process.", resident());
	put_kernels(to, server);
	if (server->tls)
		put(to, "certificate_days", "gauge", "Days until the certificate ends.",
		    tls_days_left(server->tls));
	if (fclose(to) != 0)
		http_error(request, 503, NULL, "no memory");
	else
		http_bytes(request, 200, "text/plain; version=0.0.4; charset=utf-8", text, size);
	free(text);
}
