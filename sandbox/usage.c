#include "sandbox/usage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h> /* getdents64 and pidfd_send_signal */
#include <sys/vfs.h>
#include <unistd.h>

/* Processes that are looked at in one go. */
#define PROCESSES_MAX 65536

/* ---- texts ---- */

uint64_t usage_kilobytes(const char *text, const char *key)
{
	const size_t length = strlen(key);

	for (; text; text = strchr(text, '\n')) {
		text += *text == '\n';
		if (strncmp(text, key, length) == 0 && text[length] == ':')
			return strtoull(text + length + 1, NULL, 10) * 1024;
	}
	return 0;
}

uint64_t usage_ticks(const char *text)
{
	/* Fields are numbered from 1, the third is the first after the name, which may hold
	 * anything. */
	static const int wanted[] = {10 /* minflt */, 14 /* utime */, 15 /* stime */};
	const char *at = strrchr(text, ')');
	uint64_t sum = 1;
	int field = 2;

	for (size_t i = 0; at && i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		while (at && field < wanted[i]) {
			at = strchr(at + 1, ' ');
			field++;
		}
		sum += at ? strtoull(at + 1, NULL, 10) : 0;
	}
	return at ? sum : 0;
}

uint64_t usage_sockets(const char *text)
{
	static const char first[] = "sockets: used ";
	uint64_t count = strncmp(text, first, sizeof(first) - 1) == 0
				 ? strtoull(text + sizeof(first) - 1, NULL, 10)
				 : 0;

	if (count <= USAGE_SOCKETS || count > UINT64_MAX / USAGE_SOCKET_BYTES)
		return 0;
	return (count - USAGE_SOCKETS) * USAGE_SOCKET_BYTES;
}

/* Returns false when it cannot be read: the process is gone, or is none of ours. */
static bool read_text(int directory, const char *file, char text[USAGE_STATUS_BYTES])
{
	cleanup(close_fd) int fd = openat(directory, file, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, USAGE_STATUS_BYTES - 1);

	if (got <= 0)
		return false;
	text[got] = '\0';
	return true;
}

/* ---- walking ---- */

typedef bool entry_fn(void *arg, int directory, const char *name);

/* Calls `found` for each entry that is a number, until it returns false. */
static int each_number(int directory, entry_fn *found, void *arg)
{
	union {
		struct dirent64 align;
		char bytes[8192];
	} buffer;
	long got;

	if (lseek(directory, 0, SEEK_SET) < 0)
		return -errno;
	while ((got = syscall(SYS_getdents64, directory, buffer.bytes, sizeof(buffer.bytes))) > 0) {
		for (long at = 0; at < got;) {
			const struct dirent64 *entry = (const void *)(buffer.bytes + at);

			at += entry->d_reclen;
			if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9' &&
			    !found(arg, directory, entry->d_name))
				return 0;
		}
	}
	return got < 0 ? -errno : 0;
}

struct sum {
	const struct inside *inside;
	struct usage *usage;
	bool exact;
	size_t looked; /* processes */
	uint64_t anonymous, shared;
	/* files in memory that no directory names */
	uint64_t files;
	size_t descriptors, seen_count;
	ino_t seen[USAGE_FILES];
};

static bool seen_before(struct sum *sum, ino_t number)
{
	for (size_t i = 0; i < sum->seen_count; i++)
		if (sum->seen[i] == number)
			return true;
	if (sum->seen_count < USAGE_FILES)
		sum->seen[sum->seen_count++] = number;
	return false;
}

static bool add_descriptor(void *arg, int directory, const char *name)
{
	struct sum *sum = arg;
	struct stat status;

	if (++sum->descriptors > USAGE_DESCRIPTORS)
		return false;
	/* Through the link to what is open, without opening it. */
	if (fstatat(directory, name, &status, 0) == 0 && S_ISREG(status.st_mode) &&
	    status.st_dev == sum->inside->memory && !seen_before(sum, status.st_ino))
		sum->files += (uint64_t)status.st_blocks * 512;
	return true;
}

/* The largest, in order. */
static void rank(struct usage *usage, uint64_t pid, uint64_t bytes)
{
	size_t at = usage->count;

	if (at == USAGE_LARGEST && usage->largest[at - 1].bytes >= bytes)
		return;
	if (at == USAGE_LARGEST)
		at--;
	else
		usage->count++;
	for (; at > 0 && usage->largest[at - 1].bytes < bytes; at--)
		usage->largest[at] = usage->largest[at - 1];
	usage->largest[at] = (struct usage_process){.pid = pid, .bytes = bytes};
}

/* ---- a process ---- */

/* Of its first thread the system shows nothing once that has ended, though others go on. */
struct living {
	int directory; /* of a thread that has memory, in the process's `task`; -1: none */
	char text[USAGE_STATUS_BYTES]; /* its status */
};

static bool find_living(void *arg, int tasks, const char *name)
{
	struct living *living = arg;
	cleanup(close_fd) int directory = openat(tasks, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (directory < 0 || !read_text(directory, "status", living->text))
		return true;
	if (strstr(living->text, "\nRssAnon:")) {
		living->directory = steal_fd(&directory);
		return false;
	}
	return true;
}

static void add_memory(struct sum *sum, const struct living *living, uint64_t pid)
{
	struct usage *usage = sum->usage;
	char text[USAGE_STATUS_BYTES];
	uint64_t anonymous, shared;

	/* One that shows no page tables counts as it is. */
	if (sum->exact && read_text(living->directory, "smaps_rollup", text)) {
		anonymous = usage_kilobytes(text, "Pss_Anon") + usage_kilobytes(text, "SwapPss");
		shared = usage_kilobytes(text, "Pss_Shmem");
	} else {
		anonymous = usage_kilobytes(living->text, "RssAnon") +
			    usage_kilobytes(living->text, "VmSwap");
		shared = usage_kilobytes(living->text, "RssShmem");
	}
	sum->anonymous += anonymous;
	sum->shared += shared;
	if (pid == sum->inside->kernel) {
		usage->kernel = anonymous + shared;
		return;
	}
	usage->others += anonymous + shared;
	usage->processes++;
	rank(usage, pid, anonymous + shared);
}

static bool add_process(void *arg, int proc, const char *name)
{
	struct sum *sum = arg;
	struct living living = {.directory = -1};
	cleanup(close_fd) int tasks = -1, directory = -1, descriptors = -1;
	char path[32];
	uint64_t pid;

	/* pid 1 is ours, and small. */
	if (parse_u64(name, INT32_MAX, &pid) < 0 || pid == 1)
		return true;
	sum->looked++;
	(void)snprintf(path, sizeof(path), "%" PRIu64 "/task", pid);
	tasks = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tasks >= 0)
		(void)each_number(tasks, find_living, &living);
	directory = living.directory;
	if (directory < 0)
		return sum->looked < PROCESSES_MAX;
	add_memory(sum, &living, pid);
	if (sum->descriptors < USAGE_DESCRIPTORS && sum->inside->memory != 0)
		descriptors = openat(directory, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (descriptors >= 0)
		(void)each_number(descriptors, add_descriptor, sum);
	return sum->looked < PROCESSES_MAX;
}

static uint64_t in_rooms(const struct inside *inside)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < inside->rooms; i++) {
		struct statfs status;

		/* Not what stands in for an overlay that this system could not make. */
		if (fstatfs(inside->room[i], &status) == 0 && status.f_blocks > status.f_bfree &&
		    (status.f_type == TMPFS_MAGIC || status.f_type == OVERLAYFS_SUPER_MAGIC))
			bytes += (status.f_blocks - status.f_bfree) * (uint64_t)status.f_bsize;
	}
	return bytes;
}

int usage_measure(const struct inside *inside, bool exact, struct usage *ret_usage)
{
	struct usage usage = {0};
	struct sum sum = {.inside = inside, .usage = &usage, .exact = exact};
	char text[USAGE_STATUS_BYTES];
	uint64_t files;
	int r = each_number(inside->proc, add_process, &sum);

	if (r < 0)
		return r;
	files = sum.files + in_rooms(inside);
	/* What is mapped of files in memory is in both sums: never counted twice when it matters.
	 */
	if (exact)
		usage.total = sum.anonymous + (sum.shared > files ? sum.shared : files);
	else
		usage.total = sum.anonymous + sum.shared + files;
	/* Of the network namespace, which pid 1 is in as long as there is anything. */
	if (read_text(inside->proc, "1/net/sockstat", text))
		usage.total += usage_sockets(text);
	*ret_usage = usage;
	return 0;
}

static bool add_ticks(void *arg, int proc, const char *name)
{
	uint64_t *sum = arg;
	cleanup(close_fd) int directory = openat(proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char text[USAGE_STATUS_BYTES];

	if (directory >= 0 && read_text(directory, "stat", text))
		*sum += usage_ticks(text);
	return true;
}

uint64_t usage_activity(const struct inside *inside)
{
	uint64_t sum = 0;

	return each_number(inside->proc, add_ticks, &sum) < 0 ? 0 : sum;
}

int usage_kill(const struct inside *inside, uint64_t pid)
{
	char name[24];
	cleanup(close_fd) int directory = -1;

	(void)snprintf(name, sizeof(name), "%" PRIu64, pid);
	directory = openat(inside->proc, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0 || syscall(SYS_pidfd_send_signal, directory, SIGKILL, NULL, 0) < 0)
		return -errno;
	return 0;
}
