#include "sandbox/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/build.h"

/* landlock(7), linux/landlock.h: newer than the headers of Debian 12. */
#define CREATE_RULESET 444
#define ADD_RULE       445
#define RESTRICT_SELF  446

#define CREATE_RULESET_VERSION 1u
#define RULE_PATH_BENEATH      1

#define FS_EXECUTE     (UINT64_C(1) << 0)
#define FS_WRITE_FILE  (UINT64_C(1) << 1)
#define FS_READ_FILE   (UINT64_C(1) << 2)
#define FS_READ_DIR    (UINT64_C(1) << 3)
#define FS_REMOVE_DIR  (UINT64_C(1) << 4)
#define FS_REMOVE_FILE (UINT64_C(1) << 5)
#define FS_MAKE_CHAR   (UINT64_C(1) << 6)
#define FS_MAKE_DIR    (UINT64_C(1) << 7)
#define FS_MAKE_REG    (UINT64_C(1) << 8)
#define FS_MAKE_SOCK   (UINT64_C(1) << 9)
#define FS_MAKE_FIFO   (UINT64_C(1) << 10)
#define FS_MAKE_BLOCK  (UINT64_C(1) << 11)
#define FS_MAKE_SYM    (UINT64_C(1) << 12)
#define FS_REFER       (UINT64_C(1) << 13) /* ABI 2 */
#define FS_TRUNCATE    (UINT64_C(1) << 14) /* ABI 3 */
#define FS_IOCTL_DEV   (UINT64_C(1) << 15) /* ABI 5 */

#define SCOPE_ABSTRACT_UNIX_SOCKET (UINT64_C(1) << 0) /* ABI 6 */
#define SCOPE_SIGNAL		   (UINT64_C(1) << 1)

struct ruleset_attr {
	uint64_t handled_access_fs;
	uint64_t handled_access_net; /* ABI 4 */
	uint64_t scoped;	     /* ABI 6 */
};

struct path_beneath_attr {
	uint64_t allowed_access;
	int32_t parent_fd;
} __attribute__((packed));

#define READ   (FS_EXECUTE | FS_READ_FILE | FS_READ_DIR)
#define CHANGE (FS_WRITE_FILE | FS_TRUNCATE)
#define MAKE                                                                                       \
	(FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG | FS_MAKE_SOCK |               \
	 FS_MAKE_FIFO | FS_MAKE_SYM | FS_REFER)
#define EVERYTHING (READ | CHANGE | MAKE | FS_MAKE_CHAR | FS_MAKE_BLOCK | FS_IOCTL_DEV)
/* What a rule on a file that is no directory may say. */
#define OF_FILES (FS_EXECUTE | FS_READ_FILE | CHANGE | FS_IOCTL_DEV)

/* The places that are always there. Everything else that is mounted is read-only, and in the spec.
 */
static const struct {
	const char *path;
	uint64_t access;
} places[] = {
	{"/", FS_READ_DIR}, /* "ls /" */
	{"/usr", READ},
	{"/bin", READ},
	{"/sbin", READ},
	{"/lib", READ},
	{"/lib32", READ},
	{"/lib64", READ},
	{"/libx32", READ},
	{"/etc", READ},
	/* its own: comm, oom_score_adj, and descriptors of pipes by name */
	{"/proc", READ | CHANGE},
	/* terminals are asked by ioctl(2); the filter says which */
	{"/dev", READ | CHANGE | FS_IOCTL_DEV},
	{"/dev/shm", READ | CHANGE | MAKE},
	{"/tmp", READ | CHANGE | MAKE},
	{INSIDE_HOME, READ | CHANGE | MAKE},
	{INSIDE_SOCKETS, READ | CHANGE | MAKE},
	{INSIDE_WORK, READ | CHANGE | MAKE},
};

int landlock_abi(void)
{
	long abi = syscall(CREATE_RULESET, NULL, 0, CREATE_RULESET_VERSION);

	return abi >= LANDLOCK_LEAST ? (int)abi : 0;
}

/* The rights that the system's ABI knows; asking for others is an error. */
static uint64_t known(int abi)
{
	uint64_t access = EVERYTHING;

	if (abi < 3)
		access &= ~FS_TRUNCATE;
	if (abi < 5)
		access &= ~FS_IOCTL_DEV;
	return access;
}

static int allow(int ruleset, const char *path, uint64_t access, struct err *err)
{
	cleanup(close_fd) int fd = open(path, O_PATH | O_CLOEXEC);
	struct path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};
	struct stat status;

	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(err, "cannot open %s", path);
	if (fstat(fd, &status) < 0)
		return err_errno(err, "cannot look at %s", path);
	if (!S_ISDIR(status.st_mode))
		rule.allowed_access &= OF_FILES;
	if (syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0) < 0)
		return err_errno(err, "cannot add a rule for %s", path);
	return 0;
}

static int allow_all(int ruleset, uint64_t mask, const struct spec *spec, struct err *err)
{
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (allow(ruleset, places[i].path, places[i].access & mask, err) < 0)
			return err->code;
	}
	/* What is staged or copied up lies in /work or in the home. */
	for (size_t i = 0; i < spec->bind_count; i++) {
		if (allow(ruleset, spec->binds[i].target, READ & mask, err) < 0)
			return err->code;
	}
	return 0;
}

int landlock_kernel(struct build *build, struct err *err)
{
	const int abi = landlock_abi();
	const struct ruleset_attr attr = {
		.handled_access_fs = known(abi),
		.scoped = SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL,
	};
	size_t size = abi >= 6	 ? sizeof(attr)
		      : abi >= 4 ? offsetof(struct ruleset_attr, scoped)
				 : offsetof(struct ruleset_attr, handled_access_net);
	cleanup(close_fd) int ruleset = -1;

	if (!abi)
		return 0;
	ruleset = (int)syscall(CREATE_RULESET, &attr, size, 0);
	if (ruleset < 0)
		return err_errno(err, "cannot make a Landlock ruleset");
	if (allow_all(ruleset, attr.handled_access_fs, build->spec, err) < 0)
		return err->code;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_errno(err, "cannot set no_new_privs");
	if (syscall(RESTRICT_SELF, ruleset, 0) < 0)
		return err_errno(err, "cannot enter the Landlock ruleset");
	return 0;
}
