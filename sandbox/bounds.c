#include "sandbox/bounds.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "sandbox/collector.h"
#include "sandbox/status.h"
#include "sandbox/supervisor.h"

/* Between two looks: the least; the most while something happens; and while nothing does, until
 * the proxy says that a cell begins. */
#define LEAST_MS 10
#define BUSY_MS	 500
#define IDLE_MS	 4000
/* Memory grows by no more in a millisecond: some cores clear pages at once. */
#define GROWTH_PER_MS (UINT64_C(8) << 20)
/* A look that takes long is not repeated at once: a twentieth of one processor at the most, a
 * quarter while the limit is passed. */
#define REST_FACTOR   20
#define PASSED_FACTOR 4
/* The processes that go make so much more room than is needed. */
#define MARGIN_PART 16
/* Part of what the disk may hold that its file system loses before somebody adds up. */
#define DISK_PART 16
/* It is added up so often while the kernel works. */
#define ASK_MS 5000
/* Of the disk's free space at the start, so much is for the kernel at the most. */
#define FREE_TENTHS 9
/* Whether the kernel was the one that the system killed is known by then, but for one whose memory
 * takes long to give back: an end that comes later is still told as what it is. */
#define VICTIM_MS 2000
#define DYING_MS  10000
/* "exceeded" for processes is said once in that time. */
#define TOLD_MS 2000

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

void bounds_init(struct bounds *bounds)
{
	*bounds = (struct bounds){
		.cgroup = {.parent = -1, .directory = -1}, .inside = {.proc = -1}, .work = -1};
}

/* ---- the start ---- */

static int make_group(struct supervisor *supervisor, struct err *err)
{
	const struct spec *spec = &supervisor->spec;
	const struct cgroup_limits limits = {
		.memory = spec->memory, .pids = spec->pids, .cpus = spec->cpus};
	struct cgroup *cgroup = &supervisor->bounds.cgroup;
	cleanup(free_ptr) char *parent = NULL;

	if (cgroup_find(&parent, err) < 0 || cgroup_make(parent, &limits, cgroup, err) < 0)
		return err->code;
	supervisor->fd[FD_GROUP] = openat(cgroup->directory, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	if (supervisor->fd[FD_GROUP] < 0)
		return err_errno(err, "cannot open cgroup.procs of a new cgroup");
	supervisor->fd[FD_EVENTS] =
		openat(cgroup->directory, "memory.events", O_RDONLY | O_CLOEXEC);
	/* Once read, it is ready when it has changed. */
	bounds_event(supervisor);
	return 0;
}

/* Of files that no directory names: memfd_create(2), shared anonymous memory, System V's. */
static dev_t memory_device(void)
{
	cleanup(close_fd) int fd = memfd_create("device", MFD_CLOEXEC);
	struct stat status;

	return fd >= 0 && fstat(fd, &status) == 0 ? status.st_dev : 0;
}

static void say_processors(struct supervisor *supervisor, const char *reason)
{
	const uint64_t cpus = supervisor->spec.cpus;
	char text[1024];

	if (cpus % 1000 == 0)
		return; /* whole ones are held by affinity */
	(void)snprintf(text, sizeof(text),
		       "resources.cpus is held as %" PRIu64
		       ": parts of a processor cannot be had here (%s)",
		       (cpus + 999) / 1000, reason);
	supervisor_tell(supervisor, "notice", text, NULL);
}

int bounds_start(struct supervisor *supervisor, struct err *err)
{
	struct bounds *bounds = &supervisor->bounds;
	const struct spec *spec = &supervisor->spec;
	struct err problem = {0};

	bounds->inside.memory = memory_device();
	if (make_group(supervisor, &problem) < 0) {
		close_fd(&supervisor->fd[FD_GROUP]);
		close_fd(&supervisor->fd[FD_EVENTS]);
		cgroup_remove(&bounds->cgroup);
		if (spec->cgroup_only)
			return err_set(err, problem.code,
				       "the policy asks for a cgroup (resources.enforce): %s; "
				       "`cellwall doctor` says how to get one",
				       problem.text);
	} else if (spec->cgroup_only && spec->cpus > 0 && !bounds->cgroup.cpus) {
		return err_set(err, -ENOTSUP,
			       "the policy asks for a cgroup (resources.enforce): %s/%s has no "
			       "controller cpu",
			       "the one that can be had", bounds->cgroup.name);
	}
	if (spec->cpus > 0 && !bounds->cgroup.cpus)
		say_processors(supervisor, bounds->cgroup.directory < 0
						   ? problem.text
						   : "the cgroup has no controller cpu");
	if (spec->landlock && spec->memory > 0 && bounds->cgroup.directory < 0)
		supervisor_tell(supervisor, "notice",
				"resources.memory holds for each process, not for all together: "
				"without namespaces only a cgroup counts them",
				NULL);
	(void)escape_string(bounds->reason, sizeof(bounds->reason), problem.text);
	return 0;
}

void bounds_work(struct supervisor *supervisor)
{
	struct bounds *bounds = &supervisor->bounds;
	struct statvfs status;
	uint64_t free_bytes;

	bounds->disk = supervisor->spec.disk;
	bounds->work = open(supervisor->work, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (bounds->work < 0 || fstatvfs(bounds->work, &status) < 0)
		return;
	bounds->blocks = status.f_bavail;
	bounds->inodes = status.f_favail;
	/* What is free is not all ours to take. */
	free_bytes = status.f_bavail * status.f_frsize / 10 * FREE_TENTHS;
	if (bounds->disk > free_bytes)
		bounds->disk = free_bytes;
}

void bounds_inside(struct supervisor *supervisor, struct status *said)
{
	struct inside *inside = &supervisor->bounds.inside;

	if (said->fields < 1 || said->fds[0] < 0)
		return;
	if (strcmp(said->field[0], "proc") == 0 && said->fields == 2 && inside->proc < 0 &&
	    parse_u64(said->field[1], INT32_MAX, &inside->kernel) == 0)
		inside->proc = steal_fd(&said->fds[0]);
	else if (strcmp(said->field[0], "room") == 0 && inside->rooms < USAGE_ROOMS_MAX)
		inside->room[inside->rooms++] = steal_fd(&said->fds[0]);
}

/* What holds for all processes together: as the group's files say it, or as it is looked at. */
static void describe(const struct supervisor *supervisor, char *out, size_t size)
{
	const struct bounds *bounds = &supervisor->bounds;
	const int group = bounds->cgroup.directory;
	uint64_t memory = supervisor->spec.memory, pids = 0, quota;
	int used;

	if (group >= 0 && (cgroup_number(group, "memory.max", NULL, &memory) < 0 ||
			   cgroup_number(group, "pids.max", NULL, &pids) < 0))
		memory = 0;
	/* Without a pid namespace nobody sums up, see bounds_start. */
	if (group < 0 && supervisor->spec.landlock)
		memory = 0;
	if (memory == 0 || memory == CGROUP_NONE)
		used = snprintf(out, size, "memory unlimited");
	else
		used = snprintf(out, size, "%" PRIu64 " bytes of memory", memory);
	if (pids > 0)
		used += snprintf(out + used, size - (size_t)used, ", %" PRIu64 " processes", pids);
	if (group >= 0 && cgroup_number(group, "cpu.max", NULL, &quota) == 0 &&
	    quota != CGROUP_NONE)
		used += snprintf(out + used, size - (size_t)used,
				 ", %" PRIu64 " us of processors in each 100000", quota);
	if (bounds->disk > 0)
		(void)snprintf(out + used, size - (size_t)used, ", %" PRIu64 " bytes of disk",
			       bounds->disk);
}

void bounds_run(struct supervisor *supervisor)
{
	struct bounds *bounds = &supervisor->bounds;
	char words[256];
	const char *const fields[] = {bounds->cgroup.directory < 0 ? "watcher" : "cgroup",
				      bounds->reason, words};

	describe(supervisor, words, sizeof(words));
	supervisor_say(supervisor, false, "limits", fields, 3);
	bounds->ask_at = now_ms() + ASK_MS;
	bounds_hurry(supervisor);
}

void bounds_hurry(struct supervisor *supervisor)
{
	struct bounds *bounds = &supervisor->bounds;

	bounds->interval = BUSY_MS / 2;
	bounds->next = least(bounds->next > 0 ? bounds->next : INT64_MAX, now_ms() + BUSY_MS / 2);
}

/* ---- telling ---- */

static void tell_exceeded(struct supervisor *supervisor, const char *what, const char *who,
			  uint64_t used, uint64_t limit)
{
	char numbers[2][24];
	const char *const fields[] = {what, who, numbers[0], numbers[1]};

	(void)snprintf(numbers[0], sizeof(numbers[0]), "%" PRIu64, used);
	(void)snprintf(numbers[1], sizeof(numbers[1]), "%" PRIu64, limit);
	supervisor_say(supervisor, false, "exceeded", fields, 4);
}

static void tell_processes(struct supervisor *supervisor, uint64_t used)
{
	struct bounds *bounds = &supervisor->bounds;

	if (bounds->told > 0 && now_ms() < bounds->told + TOLD_MS)
		return;
	bounds->told = now_ms();
	tell_exceeded(supervisor, "memory", "process", used, supervisor->spec.memory);
}

static void end_kernel(struct supervisor *supervisor, const char *what, uint64_t used,
		       uint64_t limit)
{
	supervisor->bounds.next = 0;
	tell_exceeded(supervisor, what, "kernel", used, limit);
	supervisor_end(supervisor);
}

/* ---- memory: the cgroup ---- */

static uint64_t peak(const struct supervisor *supervisor)
{
	uint64_t value;

	/* Since Linux 5.19; it is the limit that was reached in any case. */
	if (cgroup_number(supervisor->bounds.cgroup.directory, "memory.peak", NULL, &value) < 0)
		value = supervisor->spec.memory;
	return value;
}

void bounds_event(struct supervisor *supervisor)
{
	struct bounds *bounds = &supervisor->bounds;
	char text[1024];
	uint64_t killed;
	/* The same descriptor: what was read of it decides when it is ready again. */
	ssize_t got = pread(supervisor->fd[FD_EVENTS], text, sizeof(text) - 1, 0);

	if (got < 0) {
		close_fd(&supervisor->fd[FD_EVENTS]);
		return;
	}
	text[got] = '\0';
	if (cgroup_parse(text, "oom_kill", &killed) < 0 || killed <= bounds->killed)
		return;
	bounds->killed = killed;
	bounds->killed_at = now_ms();
	if (bounds->victim_at == 0)
		bounds->victim_at = bounds->killed_at + VICTIM_MS;
}

void bounds_ended(struct supervisor *supervisor)
{
	struct bounds *bounds = &supervisor->bounds;

	if (supervisor->fd[FD_EVENTS] >= 0)
		bounds_event(supervisor);
	if (supervisor->signal == SIGKILL && bounds->killed > 0 &&
	    now_ms() < bounds->killed_at + DYING_MS)
		tell_exceeded(supervisor, "memory", "kernel", peak(supervisor),
			      supervisor->spec.memory);
	bounds->victim_at = 0;
	bounds->next = 0;
}

/* ---- memory: looking ---- */

static void relieve(struct supervisor *supervisor, const struct usage *usage)
{
	const uint64_t limit = supervisor->spec.memory;
	const uint64_t needed = usage->total - limit + limit / MARGIN_PART;
	uint64_t freed = 0;

	if (usage->others == 0 || usage->total - usage->others > limit) {
		end_kernel(supervisor, "memory", usage->total, limit);
		return;
	}
	for (size_t i = 0; i < usage->count && freed < needed; i++) {
		if (usage_kill(&supervisor->bounds.inside, usage->largest[i].pid) == 0)
			freed += usage->largest[i].bytes;
	}
	tell_processes(supervisor, usage->total);
}

/* Returns how much is left. */
static uint64_t look_at_memory(struct supervisor *supervisor)
{
	const struct inside *inside = &supervisor->bounds.inside;
	const uint64_t limit = supervisor->spec.memory;
	struct usage usage;

	if (usage_measure(inside, false, &usage) < 0)
		return limit;
	if (usage.total > limit && usage_measure(inside, true, &usage) < 0)
		return limit;
	if (usage.total <= limit)
		return limit - usage.total;
	relieve(supervisor, &usage);
	return 0;
}

/* ---- disk ---- */

static void look_at_disk(struct supervisor *supervisor)
{
	struct bounds *bounds = &supervisor->bounds;
	struct statvfs status;
	uint64_t lost = 0;

	if (bounds->disk == 0 || bounds->asked > 0 || bounds->work < 0 ||
	    fstatvfs(bounds->work, &status) < 0)
		return;
	if (status.f_bavail < bounds->blocks)
		lost = (bounds->blocks - status.f_bavail) * status.f_frsize;
	else
		bounds->blocks = status.f_bavail;
	if (status.f_favail < bounds->inodes)
		lost += (bounds->inodes - status.f_favail) * INODE_BYTES;
	else
		bounds->inodes = status.f_favail;
	/* Others may have made room meanwhile. */
	if ((lost < bounds->disk / DISK_PART && now_ms() < bounds->ask_at) ||
	    supervisor->fd[FD_COLLECTOR] < 0 ||
	    status_post(supervisor->fd[FD_COLLECTOR], "measure", strlen("measure")) < 0)
		return;
	bounds->asked = now_ms();
	bounds->blocks = status.f_bavail;
	bounds->inodes = status.f_favail;
}

void bounds_measured(struct supervisor *supervisor, uint64_t bytes)
{
	struct bounds *bounds = &supervisor->bounds;

	const int64_t now = now_ms(), pause = (now - bounds->asked) * REST_FACTOR;

	bounds->asked = 0;
	bounds->ask_at = now + (pause > ASK_MS ? pause : ASK_MS);
	if (supervisor->phase == PHASE_RUNNING && bounds->disk > 0 && bytes > bounds->disk)
		end_kernel(supervisor, "disk", bytes, bounds->disk);
}

/* ---- time ---- */

/* Of this process, in microseconds: what a look costs does not depend on who else runs. */
static int64_t processor_time(void)
{
	struct timespec time = {0};

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (int64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

/* The next look: soon where little is left, never so that looking is all we do. */
static void rest(struct bounds *bounds, uint64_t left, int64_t took)
{
	const int64_t pause = took * (left == 0 ? PASSED_FACTOR : REST_FACTOR) / 1000;
	int64_t interval = (int64_t)(left / GROWTH_PER_MS);

	interval = least(interval > LEAST_MS ? interval : LEAST_MS, BUSY_MS);
	bounds->interval = interval > pause ? interval : pause;
}

void bounds_look(struct supervisor *supervisor)
{
	struct bounds *bounds = &supervisor->bounds;
	const int64_t begin = now_ms(), before = processor_time();
	uint64_t activity, left = UINT64_MAX;

	if (bounds->victim_at > 0 && begin >= bounds->victim_at) {
		bounds->victim_at = 0;
		tell_processes(supervisor, peak(supervisor));
	}
	if (bounds->next == 0 || begin < bounds->next || supervisor->phase != PHASE_RUNNING)
		return;
	activity = bounds->inside.proc < 0 ? 0 : usage_activity(&bounds->inside);
	if (activity > 0 && activity == bounds->activity) {
		bounds->interval = least(2 * bounds->interval, IDLE_MS);
		bounds->next = begin + bounds->interval;
		return;
	}
	bounds->activity = activity;
	look_at_disk(supervisor);
	if (supervisor->spec.memory > 0 && bounds->cgroup.directory < 0 && bounds->inside.proc >= 0)
		left = look_at_memory(supervisor);
	if (bounds->next == 0)
		return; /* the kernel was ended */
	rest(bounds, left, processor_time() - before);
	bounds->next = now_ms() + bounds->interval;
}

void bounds_finish(struct supervisor *supervisor)
{
	struct bounds *bounds = &supervisor->bounds;

	close_fd(&bounds->inside.proc);
	for (size_t i = 0; i < bounds->inside.rooms; i++)
		close_fd(&bounds->inside.room[i]);
	bounds->inside.rooms = 0;
	close_fd(&bounds->work);
	cgroup_remove(&bounds->cgroup);
}
