/*
 * egress_serve: the processes that lead the connections of a build.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernelspec/egress.h"
#include "kernelspec/hello.h"
#include "sandbox/confine.h"
#include "sandbox/process.h"

#define HEAD_MAX      16384
#define HEAD_MS	      30000
#define CONNECT_MS    30000
#define IDLE_MS	      120000
#define CONNECTION_MS 3600000
#define CHILDREN_MAX  32
#define PUMP_BYTES    65536

struct connection {
	const struct egress *egress;
	struct egress_times times;
	int client, server;
	uint64_t in, out; /* bytes towards the build, and from it */
	uint64_t *total;  /* of all connections, shared */
	int64_t until;
	char head[HEAD_MAX];
	size_t size, used; /* of the head: read, and understood */
};

static struct egress_times times_of(const struct egress *egress)
{
	const struct egress_times *own = &egress->times;

	return (struct egress_times){own->head > 0 ? own->head : HEAD_MS,
				     own->connect > 0 ? own->connect : CONNECT_MS,
				     own->idle > 0 ? own->idle : IDLE_MS,
				     own->connection > 0 ? own->connection : CONNECTION_MS};
}

static bool wait_for(int fd, short events, int64_t until)
{
	for (;;) {
		struct pollfd watch = {.fd = fd, .events = events};
		int64_t left = until - now_ms();
		int got = left > 0 ? poll(&watch, 1, (int)left) : 0;

		if (got != 0 && !(got < 0 && errno == EINTR))
			return got > 0;
		if (left <= 0)
			return false;
	}
}

/* Up to and with the empty line; what came after it stays in `head`. */
static int read_head(int fd, char *head, size_t *size, size_t *ret_used, int64_t until)
{
	for (;;) {
		const char *stop = memmem(head, *size, "\r\n\r\n", 4);
		ssize_t got;

		if (stop) {
			*ret_used = (size_t)(stop - head) + 4;
			return 0;
		}
		if (*size == HEAD_MAX || !wait_for(fd, POLLIN, until))
			return -EPROTO;
		got = recv(fd, head + *size, HEAD_MAX - *size, 0);
		if (got <= 0)
			return -EPROTO;
		*size += (size_t)got;
	}
}

static int send_all(int fd, const char *data, size_t size, int64_t until)
{
	while (size > 0) {
		ssize_t sent = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (sent < 0 && !wait_for(fd, POLLOUT, until))
			return -ETIME;
		if (sent > 0) {
			data += sent;
			size -= (size_t)sent;
		}
	}
	return 0;
}

static void answer(struct connection *connection, const char *status, const char *text)
{
	char out[512];

	(void)snprintf(out, sizeof(out),
		       "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
		       "Connection: close\r\n\r\n%s",
		       status, strlen(text), text);
	(void)send_all(connection->client, out, strlen(out), connection->until);
}

static int connect_to(const struct addrinfo *address, int64_t until)
{
	cleanup(close_fd) int fd =
		socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int error = 0;
	socklen_t size = sizeof(error);

	if (fd < 0)
		return -errno;
	if (connect(fd, address->ai_addr, address->ai_addrlen) < 0 && errno != EINPROGRESS)
		return -errno;
	if (!wait_for(fd, POLLOUT, until) ||
	    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error != 0)
		return -ECONNREFUSED;
	return steal_fd(&fd);
}

/* Returns the word of the log's line. */
static const char *reach(struct connection *connection, const struct egress_host *host,
			 bool anywhere)
{
	struct addrinfo *list = egress_resolve(host);
	const char *verdict = "failed";

	for (const struct addrinfo *one = list; one && connection->server < 0; one = one->ai_next) {
		if (!anywhere && !egress_may_reach(host, one->ai_addr)) {
			verdict = "local";
			continue;
		}
		connection->server = connect_to(one, now_ms() + connection->times.connect);
	}
	if (list)
		freeaddrinfo(list);
	return connection->server >= 0 ? "ok" : verdict;
}

/* The host's own proxy is asked to lead on. */
static int ask_upstream(struct connection *connection, const struct egress_host *host,
			const char *auth)
{
	bool six = strchr(host->name, ':');
	cleanup(free_ptr) char *request =
		format_string("CONNECT %s%s%s:%u HTTP/1.1\r\nHost: %s%s%s:%u\r\n%s%s%s\r\n",
			      six ? "[" : "", host->name, six ? "]" : "", (unsigned)host->port,
			      six ? "[" : "", host->name, six ? "]" : "", (unsigned)host->port,
			      auth[0] ? "Proxy-Authorization: " : "", auth, auth[0] ? "\r\n" : "");
	cleanup(free_ptr) char *head = malloc(HEAD_MAX);
	size_t size = 0, used = 0;

	if (!request || !head)
		return -ENOMEM;
	if (send_all(connection->server, request, strlen(request), connection->until) < 0 ||
	    read_head(connection->server, head, &size, &used, connection->until) < 0 || size < 12)
		return -EPROTO;
	/* A server speaks first in no protocol of an index: nothing follows the head. */
	return used == size && strncmp(head, "HTTP/1.", 7) == 0 && strncmp(head + 8, " 200", 4) == 0
		       ? 0
		       : -ECONNREFUSED;
}

/* Moves what one side has to the other. Returns 0 at its end. */
static ssize_t move(struct connection *connection, int from, int to, char *buffer,
		    uint64_t *counter)
{
	ssize_t got = recv(from, buffer, PUMP_BYTES, MSG_DONTWAIT);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 1 : -1;
	if (got == 0) {
		(void)shutdown(to, SHUT_WR);
		return 0;
	}
	*counter += (uint64_t)got;
	if (__atomic_add_fetch(connection->total, (uint64_t)got, __ATOMIC_RELAXED) >
	    connection->egress->bytes)
		return -2;
	return send_all(to, buffer, (size_t)got, now_ms() + connection->times.idle) < 0 ? -1 : 1;
}

/* `out`: may the build say more? After a plain request it has no word left. */
static const char *pump(struct connection *connection, char *buffer, bool out)
{
	bool in = true;

	while (in || out) {
		struct pollfd watch[] = {
			{.fd = out ? connection->client : -1, .events = POLLIN},
			{.fd = in ? connection->server : -1, .events = POLLIN},
		};
		ssize_t r = 1;

		if (now_ms() > connection->until)
			return "limit";
		if (poll(watch, 2, (int)connection->times.idle) <= 0)
			return "ok";
		if (watch[0].revents) {
			r = move(connection, connection->client, connection->server, buffer,
				 &connection->out);
			out = r > 0;
		}
		if (r >= 0 && watch[1].revents) {
			r = move(connection, connection->server, connection->client, buffer,
				 &connection->in);
			in = r > 0;
			if (r == 0) /* the server has said all */
				break;
		}
		if (r < 0)
			return r == -2 ? "limit" : "ok";
	}
	return "ok";
}

static bool is_address(const char *name)
{
	unsigned char out[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, name, out) == 1 || inet_pton(AF_INET6, name, out) == 1;
}

/*
 * What a tunnel begins with is TLS with the host that was asked for: at the address of an index
 * others may be served too, by what is said inside. An address is no name (RFC 6066). Returns NULL
 * with the bytes in `head`, or the word of the log's line; `host` is the one that was meant then.
 */
static const char *check_hello(struct connection *connection, struct egress_host *host)
{
	const int64_t until = now_ms() + connection->times.head;
	char name[HELLO_NAME + 1] = "";
	int r;

	connection->size -= connection->used;
	memmove(connection->head, connection->head + connection->used, connection->size);
	connection->used = 0;
	while ((r = hello_name((const unsigned char *)connection->head, connection->size, name)) ==
	       -EAGAIN) {
		ssize_t got =
			connection->size < HEAD_MAX && wait_for(connection->client, POLLIN, until)
				? recv(connection->client, connection->head + connection->size,
				       HEAD_MAX - connection->size, 0)
				: -1;

		if (got <= 0)
			return got == 0 && connection->size == 0 ? "ok" : "refused";
		connection->size += (size_t)got;
	}
	if (r == 0 && (strcmp(name, host->name) == 0 || (!name[0] && is_address(host->name))))
		return NULL;
	if (r == 0 && name[0])
		(void)snprintf(host->name, sizeof(host->name), "%s", name);
	return "refused";
}

static const struct egress_way *way_of(const struct egress *egress, const struct egress_host *rule)
{
	return rule && rule->way ? &egress->ways[rule->way - 1] : NULL;
}

static const char *lead(struct connection *connection, struct egress_host *host,
			const char *forwarded)
{
	const struct egress *egress = connection->egress;
	const struct egress_host *rule = egress_find(egress, host);
	const struct egress_way *way = way_of(egress, rule);
	cleanup(free_ptr) char *buffer = malloc(PUMP_BYTES);
	const char *verdict;
	struct err err;

	if (!rule || !buffer) {
		answer(connection, "403 Forbidden",
		       "cellwall: this host is not the package index of this build\n");
		return "refused";
	}
	verdict = reach(connection, way ? &way->host : rule, way != NULL);
	if (connection->server >= 0 && way && !forwarded &&
	    ask_upstream(connection, host, way->authorization) < 0)
		verdict = "failed";
	if (strcmp(verdict, "ok") != 0) {
		answer(connection, "502 Bad Gateway",
		       verdict[0] == 'l' ? "cellwall: an address of the local network\n"
					 : "cellwall: the package index cannot be reached\n");
		return verdict;
	}
	/* What is left is to copy bytes. */
	if (confine_enter(CONFINE_EGRESS, &err) < 0)
		return "failed";
	if (!forwarded) {
		static const char ready[] = "HTTP/1.1 200 Connection established\r\n\r\n";

		if (send_all(connection->client, ready, sizeof(ready) - 1, connection->until) < 0)
			return "failed";
		verdict = check_hello(connection, host);
		if (verdict)
			return verdict;
	} else {
		const char *auth = way ? way->authorization : "";
		cleanup(free_ptr) char *head = format_string("%s%s%s%s\r\n", forwarded,
							     auth[0] ? "Proxy-Authorization: " : "",
							     auth, auth[0] ? "\r\n" : "");

		if (!head ||
		    send_all(connection->server, head, strlen(head), connection->until) < 0)
			return "failed";
		return pump(connection, buffer, false);
	}
	if (send_all(connection->server, connection->head, connection->size, connection->until) < 0)
		return "failed";
	return pump(connection, buffer, true);
}

static void wake(int number)
{
	(void)number; /* poll(2) ends, the line is written, and that is all */
}

/* A proxy of this host gets the whole URL. */
static int parse_head(struct connection *connection, struct egress_host *host, char **ret_forward)
{
	const struct egress *egress = connection->egress;
	int r = egress_parse(connection->head, connection->used, false, host, ret_forward);

	if (r < 0 || !*ret_forward || !way_of(egress, egress_find(egress, host)))
		return r;
	free_ptr(ret_forward);
	return egress_parse(connection->head, connection->used, true, host, ret_forward);
}

_Noreturn static void serve(const struct egress *egress, int client, int log, uint64_t *total)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	struct egress_host host = {0};
	cleanup(free_ptr) char *forwarded = NULL;
	const char *verdict = "refused";
	char line[1024], shown[4 * EGRESS_NAME + 1];

	if (!connection)
		_exit(1);
	(void)signal(SIGTERM, wake);
	connection->egress = egress;
	connection->client = client;
	connection->server = -1;
	connection->total = total;
	connection->times = times_of(egress);
	connection->until = now_ms() + connection->times.connection;
	if (read_head(client, connection->head, &connection->size, &connection->used,
		      now_ms() + connection->times.head) < 0 ||
	    parse_head(connection, &host, &forwarded) < 0)
		answer(connection, "400 Bad Request", "cellwall: no request for a package index\n");
	else
		verdict = lead(connection, &host, forwarded);
	if (snprintf(line, sizeof(line), "%s %s %u %" PRIu64 " %" PRIu64 "\n", verdict,
		     host.name[0] ? escape_string(shown, sizeof(shown), host.name) : "?",
		     (unsigned)host.port, connection->in, connection->out) < (int)sizeof(line))
		(void)write_full(log, line, strlen(line));
	_exit(0);
}

_Noreturn static void accept_all(const struct egress *egress, int listener, int lifeline, int log,
				 uint64_t *total)
{
	unsigned children = 0;

	for (;;) {
		struct pollfd watch[] = {
			{.fd = lifeline},
			{.fd = children < CHILDREN_MAX ? listener : -1, .events = POLLIN},
		};
		cleanup(close_fd) int client = -1;
		pid_t pid;

		(void)poll(watch, 2, children > 0 ? 100 : -1);
		if (watch[0].revents) {
			/* The connections: this group is our own. Their lines are waited for. */
			(void)signal(SIGTERM, SIG_IGN);
			(void)kill(0, SIGTERM);
			for (int i = 0; i < 20 && waitpid(-1, NULL, WNOHANG) >= 0; i++)
				(void)poll(NULL, 0, 50);
			_exit(0);
		}
		while (children > 0 && waitpid(-1, NULL, WNOHANG) > 0)
			children--;
		if (!watch[1].revents)
			continue;
		client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		pid = client < 0 ? -1 : fork();
		if (pid == 0) {
			close(listener);
			close(lifeline);
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
			serve(egress, client, log, total);
		}
		if (pid > 0)
			children++;
	}
}

pid_t egress_start(const struct egress *egress, int listener, int lifeline, int log,
		   struct err *err)
{
	uint64_t *total = mmap(NULL, sizeof(*total), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const struct rlimit memory = {UINT64_C(1) << 30, UINT64_C(1) << 30};
	pid_t pid;

	if (total == MAP_FAILED)
		return err_errno(err, "cannot share a counter");
	pid = fork();
	if (pid == 0) {
		const int kept[] = {listener, lifeline, log};

		if (setpgid(0, 0) < 0 || process_keep_fds(kept, 3) < 0)
			_exit(1);
		process_reset_signals();
		(void)signal(SIGPIPE, SIG_IGN);
#ifndef CELLWALL_SANITIZE
		(void)setrlimit(RLIMIT_AS, &memory);
#else
		(void)memory;
#endif
		(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
		accept_all(egress, 3, 4, 5, total);
	}
	(void)munmap(total, sizeof(*total));
	close(listener);
	close(lifeline);
	return pid < 0 ? err_errno(err, "cannot start the proxy of the build") : pid;
}
