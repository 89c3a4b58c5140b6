#include "sandbox/attempt.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "sandbox/hook.h"

static bool inner_v4(uint32_t address)
{
	return ntohl(address) >> 24 == IN_LOOPBACKNET || address == htonl(INADDR_ANY);
}

static bool inner_v6(const struct in6_addr *address)
{
	uint32_t last;

	if (IN6_IS_ADDR_LOOPBACK(address) || IN6_IS_ADDR_UNSPECIFIED(address))
		return true;
	memcpy(&last, &address->s6_addr[12], sizeof(last));
	return IN6_IS_ADDR_V4MAPPED(address) && inner_v4(last);
}

bool attempt_address(const void *address, size_t size, char out[ATTEMPT_TARGET_MAX])
{
	char text[INET6_ADDRSTRLEN];
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	sa_family_t family;

	if (size < sizeof(family))
		return false;
	memcpy(&family, address, sizeof(family));
	/* ipv6(7): the scope at its end came later. */
	if (family == AF_INET && size >= sizeof(v4)) {
		memcpy(&v4, address, sizeof(v4));
		if (inner_v4(v4.sin_addr.s_addr) ||
		    !inet_ntop(AF_INET, &v4.sin_addr, text, sizeof(text)))
			return false;
		(void)snprintf(out, ATTEMPT_TARGET_MAX, "%s:%u", text, ntohs(v4.sin_port));
		return true;
	}
	if (family == AF_INET6 && size >= offsetof(struct sockaddr_in6, sin6_scope_id)) {
		memcpy(&v6, address, offsetof(struct sockaddr_in6, sin6_scope_id));
		if (inner_v6(&v6.sin6_addr) ||
		    !inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof(text)))
			return false;
		(void)snprintf(out, ATTEMPT_TARGET_MAX, "[%s]:%u", text, ntohs(v6.sin6_port));
		return true;
	}
	return false;
}

void attempt_socket(uint64_t domain, uint64_t type, uint64_t protocol, char out[ATTEMPT_TARGET_MAX])
{
	static const struct {
		uint32_t family;
		const char *name;
	} names[] = {
		{AF_INET, "AF_INET"}, {AF_INET6, "AF_INET6"}, {AF_NETLINK, "AF_NETLINK"},
		{AF_ALG, "AF_ALG"},   {AF_VSOCK, "AF_VSOCK"}, {AF_PACKET, "AF_PACKET"},
		{AF_XDP, "AF_XDP"},   {AF_TIPC, "AF_TIPC"},   {AF_BLUETOOTH, "AF_BLUETOOTH"},
		{AF_CAN, "AF_CAN"},   {AF_RDS, "AF_RDS"},     {AF_KEY, "AF_KEY"},
	};
	const uint32_t family = (uint32_t)domain;
	char number[24];
	const char *name = number;

	(void)snprintf(number, sizeof(number), "family %u", family);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (names[i].family == family)
			name = names[i].name;
	}
	if (family == AF_INET || family == AF_INET6 || family == AF_NETLINK)
		(void)snprintf(out, ATTEMPT_TARGET_MAX, "%s type %u protocol %u", name,
			       (uint32_t)type & 0xf, (uint32_t)protocol);
	else
		(void)snprintf(out, ATTEMPT_TARGET_MAX, "%s", name);
}

bool attempt_setuid(const char *path)
{
	static const char *const names[] = {
		"sudo",	  "su",		"doas",	       "pkexec",    "mount",
		"umount", "fusermount", "fusermount3", "newuidmap", "newgidmap",
		"passwd", "chsh",	"chfn",	       "gpasswd",   "newgrp",
		"sg",	  "crontab",	"at",	       "run0",	    "ssh-keysign",
	};
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

bool attempt_hook(char *text, struct attempt_hook *ret_hook)
{
	static const char *const reports[] = {"lookup", "read", "send", "imported"};
	char *rest = text;
	const char *word = strsep(&rest, "\t"), *what = strsep(&rest, "\t");

	ret_hook->target = strsep(&rest, "\t");
	ret_hook->who = strsep(&rest, "\t");
	ret_hook->where = strsep(&rest, "\t");
	if (strcmp(word, HOOK_WORD) != 0 || !what || !ret_hook->where)
		return false;
	ret_hook->what = "where";
	for (size_t i = 0; i < sizeof(reports) / sizeof(reports[0]); i++) {
		if (strcmp(what, reports[i]) == 0)
			ret_hook->what = reports[i];
	}
	return true;
}

/* The last decimal number of a line of proc(5). False: no such line, or none that fits. */
static bool last_number(const char *status, const char *name, char out[16])
{
	const char *at = strstr(status, name);
	const char *end = at ? at + strcspn(at + 1, "\n") + 1 : NULL;
	size_t size = 0;

	while (end && end - size > at && end[-1 - (ssize_t)size] >= '0' &&
	       end[-1 - (ssize_t)size] <= '9')
		size++;
	if (size == 0 || size >= 16)
		return false;
	memcpy(out, end - size, size);
	out[size] = '\0';
	return true;
}

pid_t attempt_process(const char *status, char inside[16])
{
	char outside[16];
	uint64_t pid = 0;

	inside[0] = '\0';
	if (!last_number(status, "\nTgid:\t", outside) || parse_u64(outside, INT32_MAX, &pid) < 0 ||
	    !last_number(status, "\nNStgid:\t", inside))
		return 0;
	return (pid_t)pid;
}
