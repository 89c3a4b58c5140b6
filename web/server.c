/*
 * Theory of operation
 *
 * server_new opens what can fail before anything is served: token file, certificate, the Hub's
 * name, sockets. What would let strangers in (an address that is not loopback without TLS or
 * without a way to know who asks) is refused there. Signals come through a descriptor: SIGHUP reads
 * certificate and token file again, SIGTERM and SIGINT end.
 */
#include "web/server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "web/auth.h"
#include "web/conn.h"
#include "web/eventlog.h"
#include "web/hub.h"
#include "web/kernels.h"
#include "web/kernels_api.h"
#include "web/link.h"
#include "web/listen.h"
#include "web/loop.h"
#include "web/request_parts.h"
#include "web/tls.h"
#include "web/trail.h"
#include "web/users.h"

#define WATCHDOG_PARTS 2   /* sd_watchdog_enabled(3): notify at half the time */
#define SPARE_FDS      256 /* besides connections and kernels: files, the link */
#define KERNEL_FDS     16  /* of one kernel: its sockets, those for its clients, its process */

/* ---- systemd ---- */

/* One datagram to $NOTIFY_SOCKET (sd_notify(3)); without one nothing happens. */
static void notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	cleanup(close_fd) int fd = -1;
	socklen_t size;

	if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, path, strlen(path));
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		(void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
			     size);
}

static void notify_ready(const char *what)
{
	char text[256];
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	(void)snprintf(text, sizeof(text), "%s\nMONOTONIC_USEC=%lld", what,
		       (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
	notify(text);
}

static void feed_watchdog(void *arg)
{
	struct server *server = arg;
	struct timer *timer;
	const char *text = getenv("WATCHDOG_USEC");
	uint64_t usec;

	if (!text || parse_u64(text, UINT64_MAX, &usec) < 0 || usec < 2000)
		return;
	notify("WATCHDOG=1");
	(void)loop_after(server->loop, (int64_t)(usec / 1000 / WATCHDOG_PARTS), feed_watchdog,
			 server, &timer, NULL);
}

/* ---- signals ---- */

static void reload(struct server *server)
{
	struct err err;

	notify_ready("RELOADING=1");
	if (server->tls) {
		if (tls_reload(server->tls, &err) < 0)
			event_error("reload", "what=certificate result=kept reason=%s", err.text);
		else
			event_info("reload", "what=certificate days=%d",
				   tls_days_left(server->tls));
	}
	if (server->settings.token_file) {
		if (users_read(server->users, server->settings.token_file, &err) < 0)
			event_error("reload", "what=tokens result=kept reason=%s", err.text);
		else
			event_info("reload", "what=tokens");
	}
	websocket_check_all(server->conns);
	for (size_t i = 0; i < LISTEN_MAX; i++)
		if (server->listener[i] && listen_is_unix(server->listener[i]) &&
		    listen_share(server->listener[i], &err) < 0)
			event_error("reload", "what=socket result=kept reason=%s", err.text);
	notify_ready("READY=1");
}

static void stopped(void *arg)
{
	struct server *server = arg;

	loop_stop(server->loop);
}

static void stop(struct server *server)
{
	if (server->stopping) {
		loop_stop(server->loop);
		return;
	}
	server->stopping = true;
	notify("STOPPING=1");
	event_info("stop", "kernels=%u", kernels_count(server->kernels));
	kernels_stop(server->kernels, stopped, server);
}

static void take_signal(void *arg, unsigned events)
{
	struct server *server = arg;
	struct signalfd_siginfo info;

	(void)events;
	while (read(server->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGHUP)
			reload(server);
		else
			stop(server);
	}
}

static int watch_signals(struct server *server, struct err *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	(void)signal(SIGPIPE, SIG_IGN); /* libzmq and OpenSSL write without MSG_NOSIGNAL */
	server->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (server->signal_fd < 0)
		return err_errno(err, "signalfd");
	return loop_watch(server->loop, server->signal_fd, LOOP_READ, take_signal, server,
			  &server->signals, err);
}

/* ---- places ---- */

/* `given`, or `variable`/cellwall, or a directory of the user's. Made, 0700, and ours. */
static int make_place(const char *given, const char *variable, const char *otherwise,
		      char **ret_path, struct err *err)
{
	const char *base = getenv(variable), *home = getenv("HOME");
	struct stat status;
	int code;

	if (given)
		*ret_path = strdup(given);
	else if (base && base[0] == '/')
		*ret_path = format_string("%s/cellwall/serve", base);
	else if (home && home[0] == '/' && otherwise[0] != '/')
		*ret_path = format_string("%s/%s/cellwall/serve", home, otherwise);
	else
		*ret_path = format_string("/tmp/cellwall-serve-%u", (unsigned)geteuid());
	if (!*ret_path)
		return err_set(err, -ENOMEM, "no memory");
	if ((*ret_path)[0] != '/')
		return err_set(err, -EINVAL, "%s: an absolute path is needed", *ret_path);
	code = make_directories(*ret_path, 0700, err);
	if (code < 0)
		return code;
	if (lstat(*ret_path, &status) < 0 || !S_ISDIR(status.st_mode) ||
	    status.st_uid != geteuid() || (status.st_mode & 022))
		return err_set(err, -EPERM,
			       "%s: a directory is needed that belongs to us and that nobody else "
			       "can write to",
			       *ret_path);
	return 0;
}

/* ---- who may come ---- */

/* systemd puts what LoadCredential= names there (systemd.exec(5)). */
static char *find_credential(const char *name)
{
	const char *directory = getenv("CREDENTIALS_DIRECTORY");
	char *path = directory ? path_join(directory, name) : NULL;

	if (path && access(path, R_OK) < 0) {
		free(path);
		path = NULL;
	}
	return path;
}

/* Nobody said who may come: on loopback a token for this once, in a file that only we can read. */
static int make_token(struct server *server, struct err *err)
{
	cleanup(free_ptr) char *path = path_join(server->runtime, "token");
	char token[65];
	int code = path ? random_hex(token, 24) : -ENOMEM;

	if (code < 0)
		return err_set(err, code, "a token cannot be made");
	/* Held until our end: two servers would take each other's file away. */
	server->token_lock = open(server->runtime, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (flock(server->token_lock, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		return err_set(err, -EBUSY,
			       "%s has the token of another `cellwall serve`, which still runs: "
			       "--token-file FILE, or --runtime DIR",
			       path);
	(void)unlink(path);
	token[48] = '\n';
	code = write_new_file(AT_FDCWD, path, 0600, token, 49, err);
	token[48] = '\0';
	if (code == 0)
		code = users_add_token(server->users, token, err);
	if (code < 0)
		return code;
	event_warning("token", "file=%s reason=%s", path,
		      "it is in this file, made for this run alone, since there is no "
		      "--token-file");
	server->token = steal_ptr(&path);
	return 0;
}

/* What is to be listened on, and what that takes. */
struct listening {
	struct listen_address addresses[LISTEN_MAX];
	size_t count;
	bool web, local, reachable, secure;
};

static int open_users(struct server *server, const struct listening *listening, struct err *err)
{
	struct settings *settings = &server->settings;
	int code = users_new(&server->users, err);

	if (code < 0)
		return code;
	if (!settings->token_file)
		settings->token_file = find_credential("token"); /* lives as long as we do */
	if (settings->token_file)
		code = users_read(server->users, settings->token_file, err);
	if (code == 0 && settings->hub_api)
		code = hub_new(server, settings->hub_api, settings->hub_scopes, &server->hub, err);
	if (code < 0)
		return code;
	if (!listening->web || users_have_tokens(server->users) || server->hub ||
	    (settings->client_ca && users_have_certificates(server->users)))
		return 0;
	if (settings->token_file && listening->local)
		return 0; /* by uid */
	if (settings->token_file)
		return err_set(err, -EPERM,
			       "token file %s: nobody can come in by it: a user needs a \"token\", "
			       "a \"sha256\", or a \"certificate\" (with --client-ca)",
			       settings->token_file);
	if (listening->reachable && !settings->self_signed)
		return err_set(err, -EPERM,
			       "others can reach this address, so who comes has to be known: "
			       "--token-file FILE, --hub-api URL, or --client-ca FILE with users "
			       "that have a \"certificate\"");
	return make_token(server, err);
}

static int open_tls(struct server *server, struct err *err)
{
	struct settings *settings = &server->settings;
	bool must = settings->client_ca && !users_have_tokens(server->users) && !server->hub;
	char fingerprint[96];
	int code;

	if (settings->self_signed) {
		cleanup(free_ptr) char *directory = path_join(server->data, "tls");
		char *certificate = NULL, *key = NULL; /* live as long as we do */

		code = directory ? tls_self_signed(directory, settings->allow_host, &certificate,
						   &key, err)
				 : err_set(err, -ENOMEM, "no memory");
		if (code < 0)
			return code;
		settings->certificate = certificate;
		settings->private_key = key;
	}
	code = tls_new(settings->certificate, settings->private_key, settings->client_ca, must,
		       &server->tls, err);
	if (code < 0)
		return code;
	tls_fingerprint(server->tls, fingerprint);
	if (settings->self_signed)
		event_warning("certificate", "file=%s days=%d sha256=%s reason=%s",
			      settings->certificate, tls_days_left(server->tls), fingerprint,
			      "made here, for a trial: who connects compares the fingerprint, or "
			      "has the file");
	else
		event_info("certificate", "file=%s days=%d sha256=%s", settings->certificate,
			   tls_days_left(server->tls), fingerprint);
	return 0;
}

/* ---- opening ---- */

/* As many descriptors as the system lets us have. Returns how many connections that allows. */
static unsigned raise_limit(const struct settings *settings)
{
	uint64_t wanted = settings->max_connections;
	uint64_t spare = SPARE_FDS + settings->max_kernels * KERNEL_FDS;
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 256;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	(void)getrlimit(RLIMIT_NOFILE, &limit);
	if (spare > limit.rlim_cur / 2)
		spare = limit.rlim_cur / 2;
	if (wanted > limit.rlim_cur - spare)
		wanted = limit.rlim_cur - spare;
	return (unsigned)wanted;
}

static int open_link(struct server *server, const char *url, struct err *err)
{
	if (server->link)
		return err_set(err, -EINVAL, "%s: one curve:// is enough", url);
	return link_new(server, url + strlen("curve://"), &server->link, err);
}

static int open_sockets(struct server *server, const struct listen_address *addresses, size_t count,
			struct err *err)
{
	for (size_t i = 0; i < count; i++) {
		cleanup(free_ptr) char *url = NULL;
		int code;

		if (addresses[i].kind == LISTEN_CURVE) {
			code = open_link(server, server->settings.listen[i], err);
			if (code < 0)
				return code;
			continue;
		}
		code = listen_open(server, &addresses[i], server->tls, &server->listener[i], err);
		if (code < 0)
			return code;
		url = format_string("%s%s", listen_url(server->listener[i]),
				    server->settings.base_url);
		event_info("listen", "url=%s", url ? url : "");
	}
	return 0;
}

static int parse_listen(const struct settings *settings, struct listening *listening,
			struct err *err)
{
	int code = 0;

	*listening = (struct listening){.count = 0};
	for (size_t i = 0; code == 0 && settings->listen[i]; i++) {
		struct listen_address *address = &listening->addresses[listening->count++];

		code = listen_parse(settings->listen[i], address, err);
		if (code < 0 || address->kind == LISTEN_CURVE)
			continue;
		listening->web = true;
		listening->local = listening->local || address->kind == LISTEN_UNIX;
		listening->reachable = listening->reachable || !address->loopback;
		listening->secure = listening->secure || address->kind == LISTEN_HTTPS;
	}
	if (code == 0 && listening->secure && !settings->self_signed &&
	    (!settings->certificate || !settings->private_key))
		code = err_set(err, -EINVAL,
			       "--listen https:// needs --certificate and --private-key, or "
			       "--self-signed for a trial");
	return code;
}

static int open_all(struct server *server, struct err *err)
{
	struct settings *settings = &server->settings;
	struct listening listening;
	int code = parse_listen(settings, &listening, err);

	if (code == 0)
		code = make_place(settings->data, "XDG_DATA_HOME", ".local/share", &server->data,
				  err);
	if (code == 0)
		code = make_place(settings->runtime, "XDG_RUNTIME_DIR", "/", &server->runtime, err);
	if (code == 0)
		code = loop_new(&server->loop, err);
	if (code == 0)
		code = watch_signals(server, err);
	if (code == 0)
		code = open_users(server, &listening, err);
	if (code == 0 && listening.secure)
		code = open_tls(server, err);
	if (code < 0)
		return code;
	server->auth = auth_new(server);
	server->conns = conns_new(server, raise_limit(settings));
	server->trail = trail_new(server->loop);
	if (!server->auth || !server->conns || !server->trail)
		return err_set(err, -ENOMEM, "no memory");
	code = kernels_api_begin(server, err);
	return code < 0 ? code : open_sockets(server, listening.addresses, listening.count, err);
}

int server_new(const struct settings *settings, struct server **ret_server, struct err *err)
{
	struct server *server = calloc(1, sizeof(*server));
	int code;

	if (!server)
		return err_set(err, -ENOMEM, "no memory");
	server->settings = *settings;
	server->signal_fd = server->token_lock = -1;
	server->started = now_ms();
	code = open_all(server, err);
	if (code < 0) {
		server_free(server);
		return code;
	}
	*ret_server = server;
	return 0;
}

int server_run(struct server *server, struct err *err)
{
	int code;

	notify_ready("READY=1\nSTATUS=Serving");
	feed_watchdog(server);
	code = loop_run(server->loop, err);
	return code;
}

struct server *server_free(struct server *server)
{
	if (!server)
		return NULL;
	for (size_t i = 0; i < LISTEN_MAX; i++)
		listen_close(server->listener[i]);
	hub_free(server->hub);
	conns_free(server->conns);
	link_free(server->link);
	kernels_api_end(server);
	trail_free(server->trail);
	auth_free(server->auth);
	tls_free(server->tls);
	users_free(server->users);
	loop_unwatch(server->signals);
	close_fd(&server->signal_fd);
	loop_free(server->loop);
	if (server->token)
		(void)unlink(server->token);
	close_fd(&server->token_lock);
	free(server->token);
	free(server->data);
	free(server->runtime);
	free(server);
	return NULL;
}

int server_serve(const struct settings *settings)
{
	struct server *server = NULL;
	struct err err;
	int code = server_new(settings, &server, &err);

	if (code == 0)
		code = server_run(server, &err);
	if (code < 0)
		event_error("failed", "reason=%s", err.text);
	server_free(server);
	return code < 0 ? 1 : 0;
}

unsigned server_user_kernels(const struct server *server, unsigned own)
{
	return own ? own : (unsigned)server->settings.max_user_kernels;
}
