#include "sandbox/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sandbox/build.h"
#include "sandbox/status.h"

#define BACKLOG 64

/* ipykernel's forked children, debugpy, dask and asyncio servers talk over 127.0.0.1: see that it
 * works. */
static int try_loopback(struct err *err)
{
	cleanup(close_fd) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	char byte = 'c';

	if (fd < 0 || bind(fd, (const struct sockaddr *)&address, size) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &size) < 0 ||
	    connect(fd, (const struct sockaddr *)&address, size) < 0 ||
	    send(fd, &byte, 1, 0) != 1 || recv(fd, &byte, 1, 0) != 1)
		return err_errno(err, "127.0.0.1 does not work in the new network namespace");
	return 0;
}

/* The one way out of a build: made in here, where it stays bound, and accepted from by a process of
 * the host's, which decides where each connection may lead. */
static int lend_listener(struct build *build, struct err *err)
{
	cleanup(close_fd) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons((uint16_t)build->spec->egress),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, BACKLOG) < 0)
		return err_errno(err, "cannot listen for what the build fetches");
	return status_send_fds(build->sync, &fd, 1, err, "egress", NULL);
}

/* An ioctl instead of a netlink message: the kernel adds 127.0.0.1/8 and ::1 by itself,
 * netdevice(7). */
static int bring_up(struct err *err)
{
	cleanup(close_fd) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {.ifr_name = "lo"};

	if (fd < 0)
		return err_errno(err, "cannot make a socket");
	if (ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		return err_errno(err, "cannot read the flags of lo");
	request.ifr_flags = (short)(request.ifr_flags | IFF_UP);
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		return err_errno(err, "cannot bring lo up");
	return try_loopback(err);
}

/* Returns a descriptor of the new namespace, which is this process' too, or a negative errno. */
static int make(struct err *err)
{
	int fd;

	if (unshare(CLONE_NEWNET) < 0) {
		int code = err_errno(err, "cannot make a network namespace");

		userns_hint(err, code);
		return code;
	}
	if (bring_up(err) < 0)
		return err->code;
	fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	return fd < 0 ? err_errno(err, "cannot open the new network namespace") : fd;
}

int network_make(int socket)
{
	struct err err = {0};
	cleanup(close_fd) int fd = make(&err);
	char number[16];

	if (fd >= 0)
		return status_send_fds(socket, &fd, 1, NULL, "network", NULL);
	(void)snprintf(number, sizeof(number), "%d", -fd);
	(void)status_send(socket, NULL, "error", number, err.text, NULL);
	return fd;
}

int network_join(struct build *build, struct err *err)
{
	struct status answer;
	cleanup(close_fd) int fd = -1;
	int r = status_receive(build->network, &answer, err);
	uint64_t code = EIO;

	close_fd(&build->network);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(err, -ECHILD, "the process that makes its namespace was killed");
	fd = answer.fds[0];
	if (strcmp(answer.word, "network") != 0) {
		if (answer.fields == 2)
			(void)parse_u64(answer.field[0], INT32_MAX, &code);
		return err_set(err, -(int)code, "%s", answer.fields == 2 ? answer.field[1] : "");
	}
	if (setns(fd, CLONE_NEWNET) < 0)
		return err_errno(err, "cannot enter the new network namespace");
	return build->spec->egress > 0 ? lend_listener(build, err) : 0;
}

int network_name(struct build *build, struct err *err)
{
	(void)build;
	if (sethostname(INSIDE_HOSTNAME, strlen(INSIDE_HOSTNAME)) < 0 || setdomainname("", 0) < 0)
		return err_errno(err, "cannot set the host name");
	return 0;
}
