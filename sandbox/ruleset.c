#include "sandbox/ruleset.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/landlock.h: newer than the headers of Debian 12. */
#define CREATE_RULESET	       444
#define ADD_RULE	       445
#define RESTRICT_SELF	       446
#define CREATE_RULESET_VERSION 1u
#define RULE_PATH_BENEATH      1
#define RULE_NET_PORT	       2

#define FS_EXECUTE   (UINT64_C(1) << 0)
#define FS_READ_FILE (UINT64_C(1) << 2)
#define FS_TRUNCATE  (UINT64_C(1) << 14) /* ABI 3 */
#define FS_IOCTL_DEV (UINT64_C(1) << 15) /* ABI 5 */
#define FS_ALL	     ((UINT64_C(1) << 17) - 1)
/* What a rule on a file that is no directory may say. */
#define FS_OF_FILES  (FS_EXECUTE | FS_READ_FILE | RULESET_CHANGE | FS_IOCTL_DEV)
#define NET_BIND_TCP (UINT64_C(1) << 0) /* ABI 4, both */
#define NET_CONNECT  (UINT64_C(1) << 1)
#define NET_ALL	     (NET_BIND_TCP | NET_CONNECT)

struct ruleset_attr {
	uint64_t handled_access_fs;
	uint64_t handled_access_net; /* ABI 4 */
	uint64_t scoped;	     /* ABI 6 */
};

struct path_beneath_attr {
	uint64_t allowed_access;
	int32_t parent_fd;
} __attribute__((packed));

struct net_port_attr {
	uint64_t allowed_access;
	uint64_t port;
};

int ruleset_abi(void)
{
	long abi = syscall(CREATE_RULESET, NULL, 0, CREATE_RULESET_VERSION);

	return abi >= RULESET_ABI_LEAST ? (int)abi : 0;
}

/* The rights that the system's ABI knows; asking for others is an error. */
static uint64_t known(int abi)
{
	uint64_t access = FS_ALL;

	if (abi < 3)
		access &= ~FS_TRUNCATE;
	if (abi < 5)
		access &= ~FS_IOCTL_DEV;
	if (abi < 9)
		access &= ~RULESET_CONNECT;
	return access;
}

int ruleset_new(bool ports, uint64_t scoped, struct err *err)
{
	const int abi = ruleset_abi();
	const struct ruleset_attr attr = {
		.handled_access_fs = known(abi),
		.handled_access_net = ports ? NET_ALL : 0,
		.scoped = scoped,
	};
	size_t size = abi >= 6	 ? sizeof(attr)
		      : abi >= 4 ? offsetof(struct ruleset_attr, scoped)
				 : offsetof(struct ruleset_attr, handled_access_net);
	long ruleset = syscall(CREATE_RULESET, &attr, size, 0);

	return ruleset < 0 ? err_errno(err, "cannot make a Landlock ruleset") : (int)ruleset;
}

int ruleset_allow(int ruleset, const char *path, uint64_t access, struct err *err)
{
	cleanup(close_fd) int fd = open(path, O_PATH | O_CLOEXEC);
	struct path_beneath_attr rule = {.allowed_access = access & known(ruleset_abi()),
					 .parent_fd = fd};
	struct stat status;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(err, "cannot open %s", path);
	if (fstat(fd, &status) < 0)
		return err_errno(err, "cannot look at %s", path);
	if (!S_ISDIR(status.st_mode))
		rule.allowed_access &= FS_OF_FILES;
	/* Nothing that this system knows. */
	if (rule.allowed_access == 0)
		return 0;
	if (syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0) < 0)
		return err_errno(err, "cannot add a rule for %s", path);
	return 0;
}

static int allow_port(int ruleset, uint64_t access, uint16_t port, struct err *err)
{
	const struct net_port_attr rule = {.allowed_access = access, .port = port};

	if (ruleset_abi() < 4)
		return 0;
	if (syscall(ADD_RULE, ruleset, RULE_NET_PORT, &rule, 0) < 0)
		return err_errno(err, "cannot add a rule for port %u", port);
	return 0;
}

int ruleset_allow_bind(int ruleset, uint16_t port, struct err *err)
{
	return allow_port(ruleset, NET_BIND_TCP, port, err);
}

int ruleset_allow_connect(int ruleset, uint16_t port, struct err *err)
{
	return allow_port(ruleset, NET_CONNECT, port, err);
}

int ruleset_enter(int ruleset, struct err *err)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(err, "cannot set no_new_privs");
	if (syscall(RESTRICT_SELF, ruleset, 0) < 0)
		return err_errno(err, "cannot enter a Landlock ruleset");
	return 0;
}
