#include "sandbox/layers.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "sandbox/build.h"
#include "sandbox/ruleset.h"
#include "sandbox/status.h"

#define LIST_MAX   768
#define MOUNTS_MAX (1 << 20)

struct lists {
	char has[LIST_MAX], lacks[LIST_MAX];
};

/* In the order of enum layers_kind: the file in /proc/self/ns, and what it is called here. */
static const struct {
	const char *file, *name;
} kinds[LAYERS_KINDS] = {
	{"user", "user-namespace"},	{"pid", "pid-namespace"}, {"mnt", "mount-namespace"},
	{"net", "network-namespace"},	{"ipc", "ipc-namespace"}, {"uts", "uts-namespace"},
	{"cgroup", "cgroup-namespace"},
};

static int look(size_t kind, ino_t *ret_inode, struct err *err)
{
	struct stat status;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/self/ns/%s", kinds[kind].file);
	if (stat(path, &status) < 0)
		return err_errno(err, "cannot look at %s", path);
	*ret_inode = status.st_ino;
	return 0;
}

int layers_host(struct build *build, struct err *err)
{
	for (size_t i = 0; i < LAYERS_KINDS; i++) {
		if (look(i, &build->layers.host[i], err) < 0)
			return err->code;
	}
	return 0;
}

/*
 * As root what is staged is mounted with a map that gives its owner no counterpart (userns_idmap).
 * Where a file system knows no such mounts that was said, with what it means: no lack is named
 * here. proc_pid_mountinfo(5): the point is the fifth field, its options the sixth.
 */
static bool inputs_are_idmapped(const struct build *build)
{
	cleanup(free_ptr) char *text = NULL;
	bool all = true, any = false;
	char *rest, *line;

	/* Reading the table takes longer than most stages: not for a launch that stages nothing. */
	if (!build->identity.pair || build->spec->landlock || build->spec->stage_count == 0 ||
	    read_file(AT_FDCWD, "/proc/self/mountinfo", MOUNTS_MAX, &text, NULL, NULL) < 0)
		return false;
	rest = text;
	while ((line = strsep(&rest, "\n"))) {
		const char *options;

		for (int i = 0; i < 4 && line; i++)
			(void)strsep(&line, " ");
		if (!line || strncmp(line, INSIDE_WORK "/", sizeof(INSIDE_WORK)) != 0)
			continue;
		/* What an overlay shows has owners of its own. */
		if (strstr(line, " - overlay "))
			continue;
		(void)strsep(&line, " ");
		options = line ? strsep(&line, " ") : "";
		any = true;
		all = all && strstr(options, "idmapped");
	}
	return any && all;
}

int layers_outer(struct build *build, struct err *err)
{
	return look(LAYERS_USER, &build->layers.outer, err);
}

int layers_inputs(struct build *build, struct err *err)
{
	(void)err;
	build->layers.idmapped = inputs_are_idmapped(build);
	return 0;
}

static void say(struct lists *lists, bool has, const char *name)
{
	char *list = has ? lists->has : lists->lacks;
	const size_t used = strlen(list), size = strlen(name);

	if (used + 1 + size >= LIST_MAX)
		return;
	if (used > 0)
		list[used] = ' ';
	memcpy(list + used + (used > 0), name, size + 1);
}

static int say_namespaces(const struct build *build, struct lists *lists, struct err *err)
{
	const struct layers *layers = &build->layers;
	ino_t own;

	for (size_t i = 0; i < LAYERS_KINDS; i++) {
		if (look(i, &own, err) < 0)
			return err->code;
		say(lists, own != layers->host[i], kinds[i].name);
		if (i == LAYERS_USER)
			say(lists, own != layers->outer && layers->outer != layers->host[i],
			    "inner-user-namespace");
	}
	return 0;
}

/* True when the line NAME of /proc/self/status has this number (proc_pid_status(5)). */
static bool line_is(const char *text, const char *name, uint64_t number)
{
	const char *line = strstr(text, name);

	return line && strtoull(line + strlen(name), NULL, 16) == number;
}

static int say_status(struct lists *lists, struct err *err)
{
	cleanup(free_ptr) char *text = NULL;

	if (read_file(AT_FDCWD, "/proc/self/status", 65536, &text, NULL, err) < 0)
		return err->code;
	say(lists, line_is(text, "\nNoNewPrivs:\t", 1), "no-new-privileges");
	say(lists,
	    line_is(text, "\nCapInh:\t", 0) && line_is(text, "\nCapPrm:\t", 0) &&
		    line_is(text, "\nCapEff:\t", 0),
	    "no-capabilities");
	say(lists, line_is(text, "\nSeccomp:\t", 2), "system-call-filter");
	return 0;
}

/* landlock(7): what each ABI brought. */
static void say_landlock(int abi, struct lists *lists)
{
	static const struct {
		int abi;
		const char *name;
	} parts[] = {
		{3, "landlock-truncation"},
		{5, "landlock-devices"},
		{6, "landlock-abstract-sockets"},
		{6, "landlock-signals"},
	};

	say(lists, abi > 0, "landlock");
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		say(lists, abi >= parts[i].abi, parts[i].name);
	/* Newer than most systems: its lack is no news. */
	if (abi >= 9)
		say(lists, true, "landlock-sockets");
}

/* What this process and all that it starts may each use: getrlimit(2). */
static void describe_limits(char out[LIST_MAX])
{
	static const struct {
		__rlimit_resource_t resource;
		const char *name;
	} limits[] = {
		{RLIMIT_NPROC, "processes"},	       {RLIMIT_NOFILE, "open files"},
		{RLIMIT_FSIZE, "bytes of a file"},     {RLIMIT_DATA, "bytes of a process"},
		{RLIMIT_CORE, "bytes of a core file"},
	};
	size_t used = 0;

	out[0] = '\0';
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct rlimit limit;
		char text[64];
		int length;

		if (getrlimit(limits[i].resource, &limit) < 0 || limit.rlim_max == RLIM_INFINITY)
			continue;
		length = snprintf(text, sizeof(text), "%s%ju %s", used ? ", " : "",
				  (uintmax_t)limit.rlim_max, limits[i].name);
		if (length < 0 || (size_t)length >= sizeof(text) ||
		    used + (size_t)length >= LIST_MAX)
			continue;
		memcpy(out + used, text, (size_t)length + 1);
		used += (size_t)length;
	}
}

/* Of the other processes: a launch in which one of these fails does not get to the end. */
static void say_others(struct lists *lists)
{
	say(lists, true, "relay-filter");
#ifndef CELLWALL_SANITIZE
	say(lists, true, "init-filter");
	say(lists, true, "supervisor-filter");
	say(lists, true, "collector-filter");
#endif
}

int layers_report(struct build *build, struct err *err)
{
	struct lists lists = {.has = "", .lacks = ""};
	char limits[LIST_MAX];

	if (say_namespaces(build, &lists, err) < 0 || say_status(&lists, err) < 0)
		return err->code;
	say_landlock(build->landlock, &lists);
	if (build->layers.idmapped)
		say(&lists, true, "idmapped-inputs");
	say_others(&lists);
	describe_limits(limits);
	return status_send(build->sync, err, "layers", lists.has, lists.lacks, limits, NULL);
}
