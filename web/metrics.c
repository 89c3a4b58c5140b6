#include "web/metrics.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "web/bridge.h"
#include "web/conn.h"
#include "web/http.h"
#include "web/kernels.h"
#include "web/link.h"
#include "web/server.h"
#include "web/socket.h"
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

static void begin(FILE *to, const char *name, const char *type, const char *help)
{
	fprintf(to, "# HELP cellwall_%s %s\n# TYPE cellwall_%s %s\n", name, help, name, type);
}

/* ---- what went through ---- */

static const char *const channels[WALL_CHANNELS] = {[WALL_SHELL] = "shell",
						    [WALL_CONTROL] = "control",
						    [WALL_STDIN] = "stdin",
						    [WALL_IOPUB] = "iopub"};

static void put_channels(FILE *to, const char *name, const char *direction,
			 const uint64_t figures[WALL_CHANNELS])
{
	for (unsigned i = 0; i < WALL_CHANNELS; i++)
		if (channels[i])
			fprintf(to, "cellwall_%s{channel=\"%s\",direction=\"%s\"} %" PRIu64 "\n",
				name, channels[i], direction, figures[i]);
}

static void put_traffic(FILE *to, const struct bridge_figures *figures)
{
	begin(to, "messages_total", "counter",
	      "Messages from clients to kernels (in) and from kernels (out).");
	put_channels(to, "messages_total", "in", figures->in);
	put_channels(to, "messages_total", "out", figures->out);
	begin(to, "message_bytes_total", "counter", "Bytes of these messages.");
	put_channels(to, "message_bytes_total", "in", figures->in_bytes);
	put_channels(to, "message_bytes_total", "out", figures->out_bytes);
	put(to, "messages_refused_total", "counter",
	    "Messages of kernels with a wrong signature, or too large.", (double)figures->refused);
}

static void put_verdicts(FILE *to, const char *name,
			 const uint64_t figures[2][WALL_CHANNELS][TALLY_VERDICTS])
{
	for (unsigned inward = 0; inward < 2; inward++)
		for (unsigned i = 0; i < WALL_CHANNELS; i++)
			for (unsigned v = 0; channels[i] && v < TALLY_VERDICTS; v++)
				fprintf(to,
					"cellwall_%s{channel=\"%s\",direction=\"%s\","
					"verdict=\"%s\"} %" PRIu64 "\n",
					name, channels[i], inward ? "in" : "out", tally_verdicts[v],
					figures[inward][i][v]);
}

static void put_walls(FILE *to, const struct tally *walls)
{
	begin(to, "wall_messages_total", "counter",
	      "Messages that came to the walls, by what became of them.");
	put_verdicts(to, "wall_messages_total", walls->messages);
	begin(to, "wall_message_bytes_total", "counter", "Bytes of these messages, as they came.");
	put_verdicts(to, "wall_message_bytes_total", walls->bytes);
	begin(to, "wall_blocked_total", "counter", "What kernels tried in vain.");
	for (unsigned i = 0; i < TALLY_KINDS; i++)
		fprintf(to, "cellwall_wall_blocked_total{kind=\"%s\"} %" PRIu64 "\n",
			tally_kinds[i], walls->blocked[i]);
}

/* ---- kernels ---- */

static const double start_bounds[] = {0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
#define START_BOUNDS (sizeof(start_bounds) / sizeof(start_bounds[0]))
static uint64_t starts[START_BOUNDS + 1], starts_ms; /* each bucket alone; the last: longer */

void metrics_started(unsigned ms)
{
	unsigned i = 0;

	while (i < START_BOUNDS && (double)ms / 1000 > start_bounds[i])
		i++;
	starts[i]++;
	starts_ms += ms;
}

static void put_starts(FILE *to)
{
	uint64_t sum = 0;

	begin(to, "kernel_start_seconds", "histogram",
	      "From the start of a kernel's process to its first answer.");
	for (unsigned i = 0; i < START_BOUNDS; i++) {
		sum += starts[i];
		fprintf(to, "cellwall_kernel_start_seconds_bucket{le=\"%g\"} %" PRIu64 "\n",
			start_bounds[i], sum);
	}
	sum += starts[START_BOUNDS];
	fprintf(to,
		"cellwall_kernel_start_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n"
		"cellwall_kernel_start_seconds_sum %.3f\n"
		"cellwall_kernel_start_seconds_count %" PRIu64 "\n",
		sum, (double)starts_ms / 1000, sum);
}

/* How many there are of each user and state; both are of characters that need no escape. */
static void count_kernel(void *arg, struct kernel *kernel)
{
	json_t *series = arg;
	struct kernel_view view;
	cleanup(free_ptr) char *labels = NULL;

	kernel_look(kernel, &view);
	labels = format_string("user=\"%s\",state=\"%s\"", view.owner, view.state);
	if (labels)
		(void)json_object_set_new(
			series, labels,
			json_integer(json_integer_value(json_object_get(series, labels)) + 1));
}

static void put_kernels(FILE *to, const struct kernels *kernels)
{
	json_t *series = json_object();
	struct kernels_totals totals;
	const char *labels;
	json_t *value;

	begin(to, "kernels", "gauge", "Kernels now, those that are ending too.");
	kernels_each_place(kernels, count_kernel, series);
	json_object_foreach(series, labels, value) fprintf(
		to, "cellwall_kernels{%s} %lld\n", labels, (long long)json_integer_value(value));
	json_decref(series);
	put_starts(to);
	kernels_sum(kernels, &totals);
	put_traffic(to, &totals.traffic);
	put_walls(to, &totals.walls);
}

/* ---- what waits ---- */

static void put_queues(FILE *to, const struct server *server)
{
	struct socket_depths sockets;
	struct link_depths link;
	const struct conn *conn;
	size_t unsent = 0;

	socket_look(&sockets);
	link_look(server->link, &link);
	LIST_FOREACH(conn, &server->conns->all, in_all)
	{
		unsent += conn->out_size;
	}
	put(to, "websockets", "gauge", "WebSockets now.", (double)sockets.connections);
	put(to, "sessions_away", "gauge", "Sessions whose WebSocket is gone and may come back.",
	    (double)sockets.away);
	put(to, "link_sessions", "gauge", "Kernels of clients on other hosts.",
	    (double)link.sessions);
	put(to, "link_sessions_away", "gauge", "Those whose client is away.", (double)link.away);
	begin(to, "queue_messages", "gauge", "Messages that wait.");
	fprintf(to,
		"cellwall_queue_messages{queue=\"to_clients\"} %zu\n"
		"cellwall_queue_messages{queue=\"to_kernels\"} %zu\n",
		sockets.to_clients, sockets.to_kernels);
	begin(to, "queue_bytes", "gauge",
	      "Bytes that wait, for WebSockets, in connections, and on the link.");
	fprintf(to,
		"cellwall_queue_bytes{queue=\"to_clients\"} %zu\n"
		"cellwall_queue_bytes{queue=\"to_kernels\"} %zu\n"
		"cellwall_queue_bytes{queue=\"connections\"} %zu\n"
		"cellwall_queue_bytes{queue=\"link_to_clients\"} %zu\n"
		"cellwall_queue_bytes{queue=\"link_to_kernels\"} %zu\n",
		sockets.to_clients_bytes, sockets.to_kernels_bytes, unsent, link.to_clients,
		link.to_kernels);
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
	put_kernels(to, server->kernels);
	put_queues(to, server);
	if (server->tls)
		put(to, "certificate_days", "gauge", "Days until the certificate ends.",
		    tls_days_left(server->tls));
	if (fclose(to) != 0)
		http_error(request, 503, NULL, "no memory");
	else
		http_bytes(request, 200, "text/plain; version=0.0.4; charset=utf-8", text, size);
	free(text);
}
