#include "web/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "web/conn.h"
#include "web/eventlog.h"
#include "web/loop.h"
#include "web/server.h"
#include "web/tls.h"
#include "web/users.h"

#define BACKLOG	     1024
#define ACCEPT_ROUND 64 /* in one round of the loop */

struct listener {
	struct server *server;
	enum listen_kind kind;
	int fd;
	struct watch *watch;
	struct timer *timer;
	struct tls *tls;
	char url[160];
	char *path;
};

/* ---- addresses ---- */

static bool is_loopback(const struct sockaddr_storage *address)
{
	if (address->ss_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

static int parse_host(const char *text, struct listen_address *address)
{
	struct sockaddr_in *four = (struct sockaddr_in *)&address->address;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&address->address;
	const char *colon = strrchr(text, ':');
	char host[64];
	uint64_t port;

	if (!colon || colon - text >= (ptrdiff_t)sizeof(host) ||
	    parse_u64(colon + 1, 65535, &port) < 0)
		return -EINVAL;
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	if (strcmp(host, "localhost") == 0)
		(void)snprintf(host, sizeof(host), "127.0.0.1");
	if (strcmp(host, "*") == 0)
		(void)snprintf(host, sizeof(host), "0.0.0.0");
	if (host[0] == '[' && host[strlen(host) - 1] == ']') {
		host[strlen(host) - 1] = '\0';
		six->sin6_family = AF_INET6;
		six->sin6_port = htons((uint16_t)port);
		address->size = sizeof(*six);
		return inet_pton(AF_INET6, host + 1, &six->sin6_addr) == 1 ? 0 : -EINVAL;
	}
	four->sin_family = AF_INET;
	four->sin_port = htons((uint16_t)port);
	address->size = sizeof(*four);
	return inet_pton(AF_INET, host, &four->sin_addr) == 1 ? 0 : -EINVAL;
}

int listen_parse(const char *text, struct listen_address *ret_address, struct err *err)
{
	static const struct {
		const char *scheme;
		enum listen_kind kind;
	} schemes[] = {{"http://", LISTEN_HTTP},
		       {"https://", LISTEN_HTTPS},
		       {"curve://", LISTEN_CURVE},
		       {"unix:", LISTEN_UNIX}};
	struct listen_address address = {.loopback = true};
	char escaped[128];

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		size_t size = strlen(schemes[i].scheme);

		if (strncmp(text, schemes[i].scheme, size) != 0)
			continue;
		address.kind = schemes[i].kind;
		if (address.kind == LISTEN_UNIX) {
			address.path = text + size;
			if (address.path[0] != '/' ||
			    strlen(address.path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
				return err_set(err, -EINVAL,
					       "--listen unix:PATH: an absolute path of at most "
					       "107 bytes is needed");
		} else {
			if (parse_host(text + size, &address) < 0)
				break;
			address.loopback = is_loopback(&address.address);
		}
		if (address.kind == LISTEN_HTTP && !address.loopback)
			return err_set(err, -EINVAL,
				       "--listen %s: without TLS only a loopback address can be "
				       "listened on; use https:// with --certificate and "
				       "--private-key, or --self-signed for a trial",
				       text);
		*ret_address = address;
		return 0;
	}
	return err_set(err, -EINVAL,
		       "--listen %s: https://ADDRESS:PORT, http://127.0.0.1:PORT, unix:PATH or "
		       "curve://ADDRESS:PORT is needed, with a number as address",
		       escape_string(escaped, sizeof(escaped), text));
}

/* ---- clients ---- */

static void name_peer(const struct sockaddr_storage *address, char out[64])
{
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
	const struct sockaddr_in *four = (const struct sockaddr_in *)address;

	out[0] = '\0';
	if (address->ss_family == AF_INET6)
		(void)inet_ntop(AF_INET6, &six->sin6_addr, out, 64);
	else if (address->ss_family == AF_INET)
		(void)inet_ntop(AF_INET, &four->sin_addr, out, 64);
	if (strncmp(out, "::ffff:", 7) == 0 && strchr(out, '.'))
		memmove(out, out + 7, strlen(out + 7) + 1);
}

bool listen_number(const char *text, char out[64])
{
	struct sockaddr_storage address = {0};

	if (inet_pton(AF_INET, text, &((struct sockaddr_in *)&address)->sin_addr) == 1)
		address.ss_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &((struct sockaddr_in6 *)&address)->sin6_addr) == 1)
		address.ss_family = AF_INET6;
	name_peer(&address, out);
	return out[0] != '\0';
}

static void take(struct listener *listener, int fd, const struct sockaddr_storage *address)
{
	struct ucred peer = {.uid = (uid_t)-1};
	socklen_t size = sizeof(peer);
	char name[64] = "unix";
	int on = 1;

	if (listener->kind == LISTEN_UNIX) {
		if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) {
			close_fd(&fd);
			return;
		}
	} else {
		name_peer(address, name);
		/* A message waits for no acknowledgement of the one before (tcp(7)). */
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	}
	conn_accept(listener->server->conns, listener, fd,
		    listener->tls ? tls_context(listener->tls) : NULL, name, peer.uid);
}

static void go_on(void *arg)
{
	struct listener *listener = arg;

	listener->timer = NULL;
	(void)loop_change(listener->watch, LOOP_READ);
}

static void ready(void *arg, unsigned events)
{
	struct listener *listener = arg;

	(void)events;
	for (int i = 0; i < ACCEPT_ROUND; i++) {
		struct sockaddr_storage address = {0};
		socklen_t size = sizeof(address);
		int fd = accept4(listener->fd, (struct sockaddr *)&address, &size,
				 SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			take(listener, fd, &address);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			/* The one that waits stays in the backlog; without a pause this would spin.
			 */
			event_warning("accept", "reason=%s", strerrordesc_np(errno));
			if (loop_after(listener->server->loop, 200, go_on, listener,
				       &listener->timer, NULL) == 0)
				(void)loop_change(listener->watch, 0);
			return;
		}
		if (errno == EAGAIN)
			return;
	}
}

/* ---- opening ---- */

/* A socket that nobody listens on any more is in the way; one that answers is another server's. */
static int clear_path(const struct sockaddr_un *address, struct err *err)
{
	cleanup(close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat status;

	if (lstat(address->sun_path, &status) < 0)
		return 0;
	if (!S_ISSOCK(status.st_mode) || status.st_uid != geteuid())
		return err_set(err, -EEXIST, "listen unix:%s: something else is there",
			       address->sun_path);
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
	    errno != ECONNREFUSED)
		return err_set(err, -EADDRINUSE, "listen unix:%s: in use", address->sun_path);
	(void)unlink(address->sun_path);
	return 0;
}

static int bind_unix(struct listener *listener, struct err *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	mode_t mask;
	int code;

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", listener->path);
	code = clear_path(&address, err);
	if (code < 0)
		return code;
	mask = umask(0177);
	code = bind(listener->fd, (struct sockaddr *)&address, sizeof(address));
	if (code < 0)
		code = err_errno(err, "listen unix:%s", listener->path);
	umask(mask);
	(void)snprintf(listener->url, sizeof(listener->url), "unix:%s", listener->path);
	if (code < 0)
		return code;
	code = listen_share(listener, err);
	if (code < 0)
		(void)unlink(listener->path);
	return code;
}

int listen_share(const struct listener *listener, struct err *err)
{
	mode_t mode = users_have_uids(listener->server->users) ? 0666 : 0600;
	cleanup(close_fd) int fd = open(listener->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat status;
	char held[32]; /* what was looked at, whatever the path names meanwhile */

	if (fd < 0 || fstat(fd, &status) < 0)
		return err_errno(err, "listen unix:%s", listener->path);
	if (!S_ISSOCK(status.st_mode) || status.st_uid != geteuid())
		return err_set(err, -EEXIST, "listen unix:%s: something else is there",
			       listener->path);
	(void)snprintf(held, sizeof(held), "/proc/self/fd/%d", fd);
	if (chmod(held, mode) < 0)
		return err_errno(err, "listen unix:%s", listener->path);
	return 0;
}

static const char *what_helps(int error)
{
	if (error == EACCES)
		return " (the system keeps low ports for root and CAP_NET_BIND_SERVICE: a port "
		       "from 1024 on, --listen)";
	if (error == EADDRNOTAVAIL)
		return " (an address that this host has: --listen)";
	return error == EADDRINUSE ? " (another port: --listen)" : "";
}

static int bind_inet(struct listener *listener, const struct listen_address *address,
		     struct err *err)
{
	struct sockaddr_storage bound = {0};
	socklen_t size = sizeof(bound);
	char host[64];
	int on = 1;

	(void)setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	name_peer(&address->address, host);
	if (bind(listener->fd, (const struct sockaddr *)&address->address, address->size) < 0)
		return err_errno(err, "cannot listen on %s port %u%s", host,
				 ntohs(((const struct sockaddr_in *)&address->address)->sin_port),
				 what_helps(errno));
	(void)getsockname(listener->fd, (struct sockaddr *)&bound, &size);
	(void)snprintf(listener->url, sizeof(listener->url),
		       bound.ss_family == AF_INET6 ? "%s://[%s]:%u" : "%s://%s:%u",
		       listener->kind == LISTEN_HTTPS ? "https" : "http", host,
		       ntohs(((struct sockaddr_in *)&bound)->sin_port));
	return 0;
}

int listen_open(struct server *server, const struct listen_address *address, struct tls *tls,
		struct listener **ret_listener, struct err *err)
{
	struct listener *listener = calloc(1, sizeof(*listener));
	bool local = address->kind == LISTEN_UNIX;
	int code;

	if (!listener)
		return err_set(err, -ENOMEM, "listen: no memory");
	*listener = (struct listener){.server = server,
				      .kind = address->kind,
				      .tls = address->kind == LISTEN_HTTPS ? tls : NULL};
	listener->path = local ? strdup(address->path) : NULL;
	listener->fd = socket(local ? AF_UNIX : address->address.ss_family,
			      SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener->fd < 0 || (local && !listener->path)) {
		code = err_errno(err, "listen: socket");
		free(steal_ptr(&listener->path)); /* nothing is bound yet */
	} else {
		code = local ? bind_unix(listener, err) : bind_inet(listener, address, err);
		if (code < 0)
			free(steal_ptr(&listener->path));
	}
	if (code == 0 && listen(listener->fd, BACKLOG) < 0)
		code = err_errno(err, "listen");
	if (code == 0)
		code = loop_watch(server->loop, listener->fd, LOOP_READ, ready, listener,
				  &listener->watch, err);
	if (code < 0) {
		listen_close(listener);
		return code;
	}
	*ret_listener = listener;
	return 0;
}

struct listener *listen_close(struct listener *listener)
{
	if (!listener)
		return NULL;
	loop_cancel(listener->timer);
	loop_unwatch(listener->watch);
	close_fd(&listener->fd);
	if (listener->path)
		(void)unlink(listener->path);
	free(listener->path);
	free(listener);
	return NULL;
}

bool listen_is_unix(const struct listener *listener)
{
	return listener->kind == LISTEN_UNIX;
}

bool listen_is_tls(const struct listener *listener)
{
	return listener->tls != NULL;
}

const char *listen_url(const struct listener *listener)
{
	return listener->url;
}
