#include "sandbox/plain.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/build.h"
#include "sandbox/caps.h"
#include "sandbox/mounts.h"
#include "sandbox/process.h"
#include "sandbox/ruleset.h"

/*
 * Theory of operation
 *
 * Everything that is started shares the user's uid with the rest of the host; as root it has one
 * that is nobody else's, and root's modes are one more lock. What keeps it apart
 * are Landlock domains, nested: the process that stands for pid 1 enters one that restricts only
 * signals, and the kernel, its child, a second one with its files. kill(2) with -1 from the first
 * then reaches exactly what is inside, and nothing inside reaches it.
 *
 * Landlock knows nothing of connect(2) to a socket that has a path, of chmod(2) and its like, of
 * System V IPC and inotify(7): these are the filter's, see plain_checks in arguments.c.
 */

#define OWN (RULESET_READ | RULESET_CHANGE | RULESET_MAKE)

/* Below the private directory, and what they are inside the other wall. */
static const struct {
	const char *inside, *name;
} places[] = {
	{INSIDE_HOME, "home"},
	{INSIDE_WORK, "work"},
	{INSIDE_SOCKETS, "sockets"},
	{"/tmp", "tmp"},
};

#define PLACES (sizeof(places) / sizeof(places[0]))

int plain_choose(struct identity *ret_identity, struct err *err)
{
	if (ruleset_abi() < RULESET_ABI_ALONE)
		return err_set(err, -EOPNOTSUPP,
			       "the wall \"landlock\" needs Landlock ABI %d (Linux 6.12), this "
			       "system has %d",
			       RULESET_ABI_ALONE, ruleset_abi());
	*ret_identity = (struct identity){.host_uid = geteuid(), .host_gid = getegid()};
	if (geteuid() != 0)
		return 0;
	if (userns_choose(ret_identity, err) < 0)
		return err->code;
	if (!ret_identity->pair)
		return err_set(
			err, -EPERM,
			"as root the wall \"landlock\" gives the kernel a uid of its own, for "
			"which CAP_SETUID, CAP_SETGID, CAP_CHOWN and other uids are needed: "
			"run Jupyter as an ordinary user (docker run --user 1000)");
	return 0;
}

/* The host's path for one inside, or NULL when it is none of the private directory's; caller frees.
 */
static char *host_path(const struct build *build, const char *inside)
{
	for (size_t i = 0; i < PLACES; i++) {
		size_t length = strlen(places[i].inside);

		if (strncmp(inside, places[i].inside, length) == 0 &&
		    (inside[length] == '/' || inside[length] == '\0'))
			return format_string("%s/%s%s", build->directory, places[i].name,
					     inside + length);
	}
	return NULL;
}

/* Its path stands in a JSON text and in socket addresses. */
static int write_connection(const struct build *build, struct err *err)
{
	const char *text = build->spec->connection, *at = strstr(text, INSIDE_SOCKETS "/");
	cleanup(free_ptr) char *filled = NULL;

	if (!at || strpbrk(build->directory, "\"\\\n"))
		return err_set(err, -EINVAL, "%s cannot stand in a connection file",
			       build->directory);
	filled = format_string("%.*s%s/sockets%s", (int)(at - text), text, build->directory,
			       at + strlen(INSIDE_SOCKETS));
	if (!filled)
		return err_set(err, -ENOMEM, "out of memory");
	return write_new_file(build->sockets, "kernel.json", 0600, filled, strlen(filled), err);
}

/* As root: what only leads to the kernel's directories can be passed through, not looked into. */
static int let_through(const struct build *build, int directory, struct err *err)
{
	const gid_t group = userns_kernel_gid(&build->identity);
	cleanup(close_fd) int at = openat(directory, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fchown(directory, (uid_t)-1, group) < 0 || fchmod(directory, 0710) < 0)
		return err_errno(err, "cannot let the kernel through");
	/* STATE/cellwall/kernels and STATE/cellwall, which are ours too. */
	for (int i = 0; i < 2; i++) {
		struct stat status;
		int up;

		if (at < 0 || fstat(at, &status) < 0 ||
		    (!(status.st_mode & S_IXOTH) &&
		     fchmod(at, (status.st_mode & 07777) | S_IXOTH) < 0))
			return err_errno(err, "cannot let the kernel through");
		up = openat(at, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close_fd(&at);
		at = up;
	}
	return 0;
}

int plain_directories(struct build *build, struct err *err)
{
	const struct identity *identity = &build->identity;
	cleanup(close_fd) int directory = -1;

	build->relay_program = open(build->spec->relay, O_PATH | O_CLOEXEC);
	if (build->relay_program < 0)
		return err_errno(err, "cannot open %s", build->spec->relay);
	directory = open(build->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return err_errno(err, "cannot open %s", build->directory);
	for (size_t i = 0; i < PLACES; i++) {
		if (mkdirat(directory, places[i].name, 0700) < 0 && errno != EEXIST)
			return err_errno(err, "cannot make %s", places[i].name);
		if (identity->pair &&
		    fchownat(directory, places[i].name, userns_kernel_uid(identity),
			     userns_kernel_gid(identity), AT_SYMLINK_NOFOLLOW) < 0)
			return err_errno(err, "cannot give %s away", places[i].name);
	}
	return identity->pair ? let_through(build, directory, err) : 0;
}

int plain_become(struct build *build, struct err *err)
{
	const uid_t uid = userns_kernel_uid(&build->identity);
	const gid_t gid = userns_kernel_gid(&build->identity);

	if (!build->identity.pair)
		return 0;
	if (caps_keep(UINT64_C(1) << CAP_SETUID | UINT64_C(1) << CAP_SETGID, err) < 0)
		return err->code;
	if (setgroups(0, NULL) < 0)
		return err_errno(err, "cannot give up the supplementary groups");
	if (setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return err_errno(err, "cannot become uid %u", (unsigned)uid);
	if (caps_drop_all(err) < 0)
		return err->code;
	/* The change of uid has cleared the death signal, prctl(2). */
	return process_protect(build->lifeline, SIGKILL, err);
}

/* What others may not read the kernel may not either: said here, or each cell would find out. */
static int check_reach(const struct build *build, const char *path, const char *advice,
		       struct err *err)
{
	struct stat status;
	bool there = stat(path, &status) == 0;

	if (!build->identity.pair || (!there && errno == ENOENT) ||
	    (there && access(path, S_ISDIR(status.st_mode) ? R_OK | X_OK : R_OK) == 0))
		return 0;
	return err_set(err, -EACCES,
		       "as root the kernel has a uid of its own (the wall \"landlock\"), which may "
		       "not read %s: %s",
		       path, advice);
}

static int check_all(const struct build *build, struct err *err)
{
	static const char others[] = "let others read it and enter the directories above it (chmod "
				     "-R o+rX), or run Jupyter as an ordinary user";
	const struct spec *spec = build->spec;

	if (check_reach(build, build->work,
			"keep the state where others may enter (XDG_STATE_HOME=/var/lib), or run "
			"Jupyter as an ordinary user",
			err) < 0)
		return err->code;
	for (size_t i = 0; i < spec->bind_count; i++) {
		if (check_reach(build, spec->binds[i].source, others, err) < 0)
			return err->code;
	}
	for (size_t i = 0; i < spec->stage_count; i++) {
		if (check_reach(build, spec->stages[i].source, others, err) < 0)
			return err->code;
	}
	return 0;
}

int plain_files(struct build *build, struct err *err)
{
	cleanup(free_ptr) char *sockets = host_path(build, INSIDE_SOCKETS);

	if (check_all(build, err) < 0)
		return err->code;
	build->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (build->root < 0)
		return err_errno(err, "cannot open /");
	build->sockets = sockets ? open(sockets, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (build->sockets < 0)
		return err_errno(err, "cannot open the directory of sockets");
	return write_connection(build, err);
}

int plain_scope(struct build *build, struct err *err)
{
	cleanup(close_fd) int ruleset = ruleset_new(false, RULESET_ABSTRACT | RULESET_SIGNALS, err);

	(void)build;
	if (ruleset < 0)
		return ruleset;
	/* What daemons leave behind becomes its child, and ends with it. */
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return err_errno(err, "cannot adopt orphans");
	if (ruleset_allow(ruleset, "/", OWN | RULESET_IOCTL, err) < 0)
		return err->code;
	return ruleset_enter(ruleset, err);
}

struct allowing {
	int ruleset;
	struct err *err;
};

static int allow_host(void *arg, bool device, const char *path)
{
	const struct allowing *allowing = arg;

	return ruleset_allow(allowing->ruleset, path,
			     device ? RULESET_READ | RULESET_CHANGE | RULESET_IOCTL : RULESET_READ,
			     allowing->err);
}

static int allow_all(const struct build *build, int ruleset, struct err *err)
{
	/* Of the host's /proc what libraries ask for before they work, and of its own directory
	   what does not tell of the host: no mounts, no network. */
	static const char *const asked[] = {
		"/proc/stat",	     "/proc/meminfo",	"/proc/cpuinfo",   "/proc/uptime",
		"/proc/loadavg",     "/proc/version",	"/proc/self/stat", "/proc/self/status",
		"/proc/self/statm",  "/proc/self/maps", "/proc/self/fd",   "/proc/self/cmdline",
		"/proc/self/limits", "/etc/passwd",	"/etc/group",	   "/etc/hosts",
		"/etc/localtime",
	};
	const struct spec *spec = build->spec;
	struct allowing allowing = {.ruleset = ruleset, .err = err};
	int r = mounts_each_host_path(allow_host, &allowing);

	for (size_t i = 0; r >= 0 && i < sizeof(asked) / sizeof(asked[0]); i++)
		r = ruleset_allow(ruleset, asked[i], RULESET_READ, err);
	for (size_t i = 0; r >= 0 && i < spec->bind_count; i++)
		r = ruleset_allow(ruleset, spec->binds[i].source, RULESET_READ, err);
	for (size_t i = 0; r >= 0 && i < spec->stage_count; i++)
		r = ruleset_allow(ruleset, spec->stages[i].source, RULESET_READ, err);
	for (size_t i = 0; r >= 0 && i < PLACES; i++) {
		cleanup(free_ptr) char *path = host_path(build, places[i].inside);

		r = path ? ruleset_allow(ruleset, path, OWN, err) : -ENOMEM;
	}
	return r;
}

int plain_kernel(struct build *build, struct err *err)
{
	cleanup(close_fd) int ruleset = ruleset_new(true, RULESET_ABSTRACT | RULESET_SIGNALS, err);

	if (ruleset < 0)
		return ruleset;
	/* What execve(2) does soon after: the listener looks at its first call already. */
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
		return err_errno(err, "cannot become dumpable");
	if (allow_all(build, ruleset, err) < 0)
		return err->code ? err->code : err_set(err, -ENOMEM, "out of memory");
	if (ruleset_enter(ruleset, err) < 0)
		return err->code;
	build->landlock = ruleset_abi();
	return 0;
}

char **plain_argv(const struct build *build)
{
	const struct spec *spec = build->spec;
	cleanup(free_ptr) char **argv = calloc(spec->argc + 1, sizeof(*argv));

	for (size_t i = 0; argv && i < spec->argc; i++) {
		argv[i] = strcmp(spec->argv[i], INSIDE_CONNECTION) == 0
				  ? host_path(build, INSIDE_CONNECTION)
				  : spec->argv[i];
		if (!argv[i])
			return NULL;
	}
	return steal_ptr(&argv);
}

char **plain_env(const struct build *build)
{
	const struct spec *spec = build->spec;
	cleanup(free_ptr) char **env = calloc(spec->envc + 2, sizeof(*env));

	for (size_t i = 0; env && i < spec->envc; i++) {
		const char *text = spec->env[i], *value = strchr(text, '=');
		cleanup(free_ptr) char *path = value ? host_path(build, value + 1) : NULL;

		env[i] = path ? format_string("%.*s=%s", (int)(value - text), text, path)
			      : spec->env[i];
		if (!env[i])
			return NULL;
	}
	if (env && !(env[spec->envc] = format_string("TMPDIR=%s/tmp", build->directory)))
		return NULL;
	return steal_ptr(&env);
}

void plain_kill_orphans(void)
{
	cleanup(free_ptr) char *text = NULL;
	char *rest, *word;

	if (read_file(AT_FDCWD, "/proc/thread-self/children", 1 << 20, &text, NULL, NULL) < 0)
		return;
	rest = text;
	while ((word = strsep(&rest, " "))) {
		uint64_t pid;

		if (parse_u64(word, INT32_MAX, &pid) == 0 && pid > 0)
			(void)kill((pid_t)pid, SIGKILL);
	}
}
