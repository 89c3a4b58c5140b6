#include "web/near.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "proxy/answer.h"
#include "proxy/limits.h"
#include "proxy/requests.h"
#include "sandbox/log.h"
#include "sandbox/process.h"
#include "web/near_enclose.h"

#define START_MS       20000 /* a host that does not answer at all fails the start */
#define REFUSALS       4     /* one that answers, but never as it should, too */
#define TELL_APART_MS  2000  /* clients are told of longer absences */
#define LEAVE_MS       4000  /* clients kill after 5 s */
#define LEAVE_APART_MS 1000

/* ---- the end ---- */

/* Asks the host: "interrupt" or "shutdown". */
static void near_ask(struct near *near, const char *word)
{
	union {
		const void *constant;
		void *plain;
	} view = {.constant = word}; /* of string constants alone: it is borrowed for long */
	const struct iovec part = {view.plain, strlen(word)};

	if (link_stream_put(near->stream, LINK_EVENTS, &part, 1, NULL, NULL) < 0)
		log_error("\"%s\" was not sent to the kernel's host: out of memory", word);
}

void near_leave(struct near *near)
{
	if (near->leaving)
		return;
	near->leaving = true;
	near->leave_by = now_ms() + (near->phase == NEAR_TOGETHER ? LEAVE_MS : LEAVE_APART_MS);
	if (near->known || near->phase == NEAR_GREETING)
		near_ask(near, "shutdown");
	else
		near->leave_by = now_ms();
}

void near_fail(struct near *near, const char *text)
{
	if (near->phase >= NEAR_FAILED)
		return;
	log_error("%s", text);
	if (near->cell)
		notice_say(&near->notice, near->cell, text);
	free(near->failure);
	near->failure = strdup(text);
	near_host_close(near);
	near->exit_code = 1;
	near->phase = NEAR_FAILED;
	near->deadline = now_ms() + FAILED_MS;
}

static void take_signals(struct near *near)
{
	struct signalfd_siginfo info;

	while (read(near->signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGINT)
			near_ask(near, "interrupt");
		else
			near_leave(near);
	}
}

/* ---- the loop ---- */

enum {
	ITEM_SOCKETS,
	ITEM_MONITORS = WALL_CHANNELS,
	ITEM_SIGNALS = 2 * WALL_CHANNELS,
	ITEM_SERVER,
	ITEM_HOST,
	ITEM_MONITOR,
	ITEM_NAME,
	ITEMS
};

static void poll_items(const struct near *near, zmq_pollitem_t items[ITEMS])
{
	memset(items, 0, ITEMS * sizeof(items[0]));
	for (int i = 0; i < ITEMS; i++)
		items[i].fd = -1;
	for (int i = 0; i < WALL_CHANNELS; i++) {
		const enum wall_channel channel = (enum wall_channel)i;

		items[i].socket = channels_socket(near->channels, channel);
		items[i].events = near_local_takes(near, channel) ? ZMQ_POLLIN : 0;
		items[ITEM_MONITORS + i].socket = channels_monitor(near->channels, channel);
		items[ITEM_MONITORS + i].events = ZMQ_POLLIN;
	}
	items[ITEM_SIGNALS].fd = near->signals;
	items[ITEM_SERVER].fd = near->server;
	items[ITEM_HOST].fd = near->fds[0];
	items[ITEM_MONITOR].fd = near->fds[1];
	items[ITEM_NAME].fd = near->phase == NEAR_ASKING ? near_name_fd(near->name) : -1;
	for (int i = ITEM_SIGNALS; i < ITEMS; i++)
		items[i].events = items[i].fd >= 0 ? ZMQ_POLLIN : 0;
}

static long poll_timeout(const struct near *near)
{
	const int64_t now = now_ms();
	int64_t until = now + LINK_QUIET_MS;

	if (near->again)
		return 0;
	if (near->deadline && near->deadline < until)
		until = near->deadline;
	if (near->leaving && near->leave_by < until)
		until = near->leave_by;
	if (channels_waiting(near->channels) && now + REPLY_RETRY_EVERY < until)
		until = now + REPLY_RETRY_EVERY;
	if (channels_outstanding(near->channels) > 0 && near->phase == NEAR_TOGETHER &&
	    near->acknowledged != link_stream_received(near->stream) && now + 10 < until)
		until = now + 10;
	return until > now ? (long)(until - now) : 0;
}

static void serve_clients(struct near *near, const zmq_pollitem_t items[ITEMS])
{
	static const enum wall_channel order[] = {WALL_CONTROL, WALL_STDIN, WALL_SHELL, WALL_HB};

	for (int i = 0; i < WALL_CHANNELS; i++)
		if (items[ITEM_MONITORS + i].revents)
			channels_watch(near->channels, (enum wall_channel)i);
	if (items[WALL_IOPUB].revents)
		notice_subscriptions(&near->notice);
	if (near->phase == NEAR_FAILED) {
		answer_requests(near->channels, &near->corridor, &near->notice, near->failure);
		return;
	}
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		if (items[order[i]].revents)
			near_local_receive(near, order[i]);
}

static void tell_apart(struct near *near, int64_t now)
{
	if (!near->apart_since || near->told_apart || now - near->apart_since < TELL_APART_MS ||
	    !near->known)
		return;
	near->told_apart = true;
	near_say(near,
		 format_string("the kernel's host %s does not answer; the kernel goes on there, "
			       "and what it shows comes when the host is back",
			       near->plan->host));
}

/* A host that says nothing any more, or never did. */
static void lose_the_silent(struct near *near, int64_t now)
{
	if (near->phase == NEAR_TOGETHER && now - near->heard > LINK_AWAY_MS)
		near_host_lose(near, "it is silent");
	if (near->phase == NEAR_GREETING && now >= near->deadline)
		near_host_lose(near, near->reached ? "it does not answer" : NEAR_NOBODY);
	if (near->phase == NEAR_ASKING && now >= near->deadline)
		near_host_lose(near, "its address is not found out");
}

/* A start that the host had time enough for, or refused often enough. */
static void fail_the_late(struct near *near, int64_t now)
{
	cleanup(free_ptr) char *text = NULL;

	if (near->phase != NEAR_APART || near->known || !near->apart_since)
		return;
	if (now - near->apart_since <= START_MS && near->refusals < REFUSALS)
		return;
	text = format_string("the kernel's host %s cannot be reached: %s", near->plan->host,
			     near->refused);
	near_fail(near, text ? text : "out of memory");
}

static void leave_in_time(struct near *near, int64_t now)
{
	if (!near->leaving || near->phase >= NEAR_FAILED || now < near->leave_by)
		return;
	if (near->known)
		log_warning("the kernel's host %s did not confirm that the kernel ended",
			    near->plan->host);
	near->exit_code = 0;
	near_local_part(near);
	near->phase = NEAR_OVER;
}

/* Does what time has come for. */
static void advance(struct near *near)
{
	const int64_t now = now_ms();

	(void)channels_retry(near->channels);
	lose_the_silent(near, now);
	fail_the_late(near, now);
	if (near->phase == NEAR_APART && now >= near->deadline)
		near_host_connect(near);
	tell_apart(near, now);
	if (near->phase == NEAR_FAILED && now >= near->deadline)
		near->phase = NEAR_OVER;
	leave_in_time(near, now);
}

/* As session.c: a Jupyter server names itself, and a kernel does not outlive it. */
static int watch_server(void)
{
	const char *text = getenv("JPY_PARENT_PID");
	uint64_t pid = 0;
	int fd;

	if (!text || parse_u64(text, INT_MAX, &pid) < 0 || pid <= 1)
		return -1;
	fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (fd < 0 && errno == ESRCH)
		kill(getpid(), SIGTERM);
	return fd;
}

/* The place is known by its key and by an address that we have bound: nobody else is there. */
static int make_id(struct near *near)
{
	const struct connection *connection = near->plan->connection;
	unsigned char digest[EVP_MAX_MD_SIZE];
	cleanup(free_ptr) char *place =
		format_string("%.*s %s", (int)connection->key_size, connection->key,
			      connection->endpoint[WALL_SHELL]);

	if (!place || EVP_Digest(place, strlen(place), digest, NULL, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	memcpy(near->id, digest, LINK_PLACE);
	explicit_bzero(place, strlen(place));
	return random_bytes(near->id + LINK_PLACE, LINK_ID - LINK_PLACE);
}

static int open_near(struct near *near, struct err *err)
{
	const struct connection *connection = near->plan->connection;
	uint16_t port = 0;
	int code = near_name_port(near->plan->host, &port);

	if (code == 0)
		code = near_name_new(near->plan->host, &near->name, err);
	if (code < 0)
		return code;
	near->signals = process_signals(err);
	if (near->signals < 0)
		return near->signals;
	near->server = watch_server();
	code = sign_new(connection->scheme, connection->key, connection->key_size,
			&near->corridor.outer, err);
	if (code == 0) /* the link carries no signatures */
		code = sign_new(NULL, "", 0, &near->corridor.inner, err);
	if (code == 0)
		code = near_enclose_files(connection, port, err);
	if (code == 0)
		code = channels_open(connection, near->signals, &near->channels, err);
	if (code == 0)
		code = near_enclose_calls(err);
	if (code < 0)
		return code;
	near->notice.channels = near->channels;
	near->notice.sign = near->corridor.outer;
	near->corridor.session = near->notice.session;
	near->corridor.requests = requests_new();
	near->stream = link_stream_new(WALL_TOTAL_MAX);
	near->context = zmq_ctx_new();
	if (!near->corridor.requests || !near->stream || !near->context)
		return err_set(err, -ENOMEM, "out of memory");
	code = make_id(near);
	if (code == 0)
		code = random_hex(near->notice.session, 16);
	return code < 0 ? err_set(err, code, "no random numbers") : 0;
}

static void close_near(struct near *near)
{
	near_host_close(near);
	if (near->context)
		zmq_ctx_term(near->context);
	near->notice.channels = NULL;
	near->channels = channels_free(near->channels, DRAIN_MS);
	link_stream_free(near->stream);
	near_name_free(near->name);
	corridor_done(&near->corridor);
	free(near->cell);
	free(near->failure);
	free(near->parting);
	free(near->parting_to.iov_base);
	close_fd(&near->signals);
	close_fd(&near->server);
}

int near_run(const struct near_plan *plan)
{
	struct near near = {.plan = plan,
			    .phase = NEAR_APART,
			    .exit_code = 1,
			    .fds = {-1, -1},
			    .signals = -1,
			    .server = -1};
	zmq_pollitem_t items[ITEMS];
	struct err err;

	prctl(PR_SET_DUMPABLE, 0);
	if (open_near(&near, &err) < 0) {
		log_error("%s", err.text);
		close_near(&near);
		return 1;
	}
	if (plan->failure)
		near_fail(&near, plan->failure);
	else
		near.apart_since = near.deadline = now_ms();
	while (near.phase != NEAR_OVER) {
		int code;

		poll_items(&near, items);
		code = channels_poll(near.channels, items, ITEMS, poll_timeout(&near));
		if (code < 0 && code != -EINTR) {
			log_error("poll: %s", strerrordesc_np(-code));
			break;
		}
		if (items[ITEM_SIGNALS].revents)
			take_signals(&near);
		if (items[ITEM_SERVER].events && items[ITEM_SERVER].revents) {
			close_fd(&near.server);
			near_leave(&near);
		}
		near_host_serve(&near);
		serve_clients(&near, items);
		advance(&near);
		near_host_tell(&near);
		/* Sending may have swallowed what a descriptor had to tell (ZMQ_FD). */
		if (near.socket) {
			int events = 0;
			size_t size = sizeof(events);

			zmq_getsockopt(near.socket, ZMQ_EVENTS, &events, &size);
			near.again = near.again || (events & ZMQ_POLLIN);
		}
	}
	close_near(&near);
	return near.exit_code;
}
