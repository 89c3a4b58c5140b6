#include "web/near_name.h"

#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOST_MAX      255
#define ADDRESS_MAX   72 /* with a zone, and brackets around it */
#define ADDRESSES_MAX 8

/* What the process answers. */
struct found {
	int code; /* of getaddrinfo(3) */
	unsigned count;
	char addresses[ADDRESSES_MAX][ADDRESS_MAX];
};

struct near_name {
	int fd; /* -1: a numeric address, which is in `found` */
	pid_t child;
	bool asked;
	char host[HOST_MAX + 1];
	uint16_t port;
	struct found found;
	unsigned next;
};

static int split(const char *text, char host[HOST_MAX + 1], uint16_t *ret_port)
{
	const char *colon = strrchr(text, ':');
	size_t size = colon ? (size_t)(colon - text) : 0;
	uint64_t port = 0;

	if (!colon || parse_u64(colon + 1, UINT16_MAX, &port) < 0 || port == 0)
		return -EINVAL;
	if (size >= 2 && text[0] == '[' && text[size - 1] == ']') {
		text++;
		size -= 2;
	} else if (memchr(text, ':', size)) {
		return -EINVAL;
	}
	if (size == 0 || size > HOST_MAX)
		return -EINVAL;
	memcpy(host, text, size);
	host[size] = '\0';
	*ret_port = (uint16_t)port;
	return 0;
}

int near_name_port(const char *host, uint16_t *ret_port)
{
	char name[HOST_MAX + 1];

	return split(host, name, ret_port);
}

static void look_up(const char *host, int flags, struct found *ret_found)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags};
	struct addrinfo *list = NULL;

	*ret_found = (struct found){.code = getaddrinfo(host, NULL, &hints, &list)};
	if (ret_found->code != 0)
		return;
	for (const struct addrinfo *at = list; at && ret_found->count < ADDRESSES_MAX;
	     at = at->ai_next) {
		const bool six = at->ai_family == AF_INET6;
		char text[ADDRESS_MAX - 2];

		if (getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof(text), NULL, 0,
				NI_NUMERICHOST) == 0)
			(void)snprintf(ret_found->addresses[ret_found->count++], ADDRESS_MAX,
				       six ? "[%s]" : "%s", text);
	}
	freeaddrinfo(list);
}

/* Interrupts are for the whole group; the end is the other end's. */
static void answer_names(int fd, const char *host, pid_t parent)
{
	static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
	struct found found;
	char question;

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		(void)signal(ignored[i], SIG_IGN);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)prctl(PR_SET_NAME, "cellwall-name");
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (getppid() != parent)
		return;
	while (recv(fd, &question, 1, 0) == 1) {
		look_up(host, AI_ADDRCONFIG, &found);
		if (send(fd, &found, sizeof(found), 0) != sizeof(found))
			return;
	}
}

static int start_child(struct near_name *name, struct err *err)
{
	const pid_t parent = getpid();
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return err_errno(err, "cannot ask for the host's address");
	name->child = fork();
	if (name->child == 0) {
		close(ends[0]);
		answer_names(ends[1], name->host, parent);
		_exit(0);
	}
	close(ends[1]);
	name->fd = ends[0];
	return name->child < 0 ? err_errno(err, "cannot ask for the host's address") : 0;
}

int near_name_new(const char *host, struct near_name **ret_name, struct err *err)
{
	struct near_name *name = calloc(1, sizeof(*name));
	int code = 0;

	if (!name)
		return err_set(err, -ENOMEM, "out of memory");
	name->fd = -1;
	if (split(host, name->host, &name->port) < 0)
		code = err_set(err, -EINVAL, "%s is no HOST:PORT", host);
	if (code == 0)
		look_up(name->host, AI_NUMERICHOST, &name->found);
	if (code == 0 && name->found.count == 0)
		code = start_child(name, err);
	if (code < 0) {
		near_name_free(name);
		return code;
	}
	*ret_name = name;
	return 0;
}

struct near_name *near_name_free(struct near_name *name)
{
	if (!name)
		return NULL;
	close_fd(&name->fd); /* which ends the child */
	free(name);
	return NULL;
}

int near_name_fd(const struct near_name *name)
{
	return name->fd;
}

void near_name_ask(struct near_name *name)
{
	if (name->fd < 0 || name->asked)
		return;
	name->asked = send(name->fd, "?", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

/* Returns 0 when there is nothing yet. */
static int take_answer(struct near_name *name, struct found *ret_found)
{
	ssize_t size = recv(name->fd, ret_found, sizeof(*ret_found), MSG_DONTWAIT);

	if (size < 0 && (errno == EAGAIN || errno == EINTR) && name->asked)
		return 0;
	name->asked = false;
	if (size != sizeof(*ret_found))
		*ret_found = (struct found){.code = EAI_FAIL};
	return 1;
}

int near_name_take(struct near_name *name, char out[NEAR_ENDPOINT_MAX], struct err *err)
{
	struct found found;

	if (name->fd >= 0) {
		if (take_answer(name, &found) == 0)
			return 0;
		if (found.code == 0 && found.count > 0)
			name->found = found;
		else
			name->found.code = found.code;
	}
	if (name->found.count == 0)
		return err_set(err, -ENOENT, "no address is known for %s (%s)", name->host,
			       name->found.code ? gai_strerror(name->found.code) : "none");
	name->next %= name->found.count;
	(void)snprintf(out, NEAR_ENDPOINT_MAX, "tcp://%.*s:%u", ADDRESS_MAX - 1,
		       name->found.addresses[name->next++], name->port);
	return 1;
}
