#include "sandbox/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sandbox/build.h"

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

/* An ioctl instead of a netlink message: the kernel adds 127.0.0.1/8 and ::1 by itself,
 * netdevice(7). */
int network_up(struct build *build, struct err *err)
{
	cleanup(close_fd) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {.ifr_name = "lo"};

	(void)build;
	if (fd < 0)
		return err_errno(err, "cannot make a socket");
	if (ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		return err_errno(err, "cannot read the flags of lo");
	request.ifr_flags = (short)(request.ifr_flags | IFF_UP);
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		return err_errno(err, "cannot bring lo up");
	return try_loopback(err);
}

int network_name(struct build *build, struct err *err)
{
	(void)build;
	if (sethostname(INSIDE_HOSTNAME, strlen(INSIDE_HOSTNAME)) < 0 || setdomainname("", 0) < 0)
		return err_errno(err, "cannot set the host name");
	return 0;
}
