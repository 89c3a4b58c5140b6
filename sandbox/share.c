#include "sandbox/share.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h> /* seccomp has no wrapper */
#include <unistd.h>

#include "sandbox/build.h"
#include "sandbox/status.h"

/* Of 1000: half of the machine counts as used by each process, so that one of ours is chosen
 * (proc_pid_oom_score_adj(5)). */
#define FIRST_TO_GO "500"

int share_enter(struct build *build, struct err *err)
{
	cleanup(close_fd) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	/* Where it is refused the machine chooses by size, as always. */
	if (fd >= 0)
		(void)write_full(fd, FIRST_TO_GO, strlen(FIRST_TO_GO));
	if (build->cgroup >= 0 && write(build->cgroup, "0", 1) != 1)
		return err_errno(err, "cannot enter the new cgroup");
	close_fd(&build->cgroup);
	return 0;
}

int share_segments(struct build *build, struct err *err)
{
	char pages[24];
	cleanup(close_fd) int fd = openat(build->proc, "sys/kernel/shmall", O_WRONLY | O_CLOEXEC);

	(void)err;
	(void)snprintf(pages, sizeof(pages), "%" PRIu64,
		       build->spec->tmp_bytes / (uint64_t)sysconf(_SC_PAGESIZE));
	/* Before Linux 5.19 an ordinary user's namespace may not set it; a cgroup counts them. */
	if (fd >= 0)
		(void)write_full(fd, pages, strlen(pages));
	return 0;
}

static int send_directory(struct build *build, const char *path, const char *kind,
			  const char *number, int flags, struct err *err)
{
	cleanup(close_fd) int fd = open(path, flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return err_errno(err, "cannot open %s inside", path);
	return status_send_fds(build->sync, &fd, 1, err, "inside", kind, number, NULL);
}

/*
 * Taking all mounts down waits for every processor of the system. That is left to the supervisor:
 * held open by it, they outlive pid 1 by a moment, and it says "gone" before it lets go of them.
 * What comes after that, the last results and "done", does wait for it.
 */
static int send_mounts(struct build *build, struct err *err)
{
	cleanup(close_fd) int fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_errno(err, "cannot open the mount namespace");
	return status_send_fds(build->sync, &fd, 1, err, "inside", "mounts", NULL);
}

int share_show(struct build *build, struct err *err)
{
	static const char *const rooms[] = {"/tmp", "/dev/shm", INSIDE_HOME};
	const struct spec *spec = build->spec;
	char number[16];
	int r;

	(void)snprintf(number, sizeof(number), "%d", (int)build->kernel);
	r = send_directory(build, "/proc", "proc", number, O_RDONLY, err);
	if (r == 0)
		r = send_mounts(build, err);
	for (size_t i = 0; r == 0 && i < sizeof(rooms) / sizeof(rooms[0]); i++)
		r = send_directory(build, rooms[i], "room", NULL, O_PATH, err);
	/* The upper layers of others than this one are in memory too (overlay.h). */
	for (size_t i = 0; r == 0 && i < spec->overlay_count; i++)
		if (strcmp(spec->overlays[i].target, INSIDE_OUT) != 0)
			(void)send_directory(build, spec->overlays[i].target, "room", NULL, O_PATH,
					     err);
	return r;
}

/* The mask is the process' own to change otherwise. Who asks for the impossible hears so. */
static int forbid_change(struct err *err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_setaffinity, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0)
		return err_errno(err, "cannot keep the number of processors");
	return 0;
}

int share_processors(struct build *build, struct err *err)
{
	const uint64_t wanted = (build->processors + 999) / 1000;
	cpu_set_t allowed, chosen;
	uint64_t count, first, at = 0;
	uint32_t number = 0;

	if (build->processors == 0)
		return 0;
	if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
		return err_errno(err, "cannot tell the processors");
	count = (uint64_t)CPU_COUNT(&allowed);
	if (wanted >= count)
		return 0;
	/* Kernels that begin anywhere do not all use the same ones. */
	(void)random_bytes(&number, sizeof(number));
	first = number % count;
	CPU_ZERO(&chosen);
	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed))
			continue;
		if ((at++ + count - first) % count < wanted)
			CPU_SET(cpu, &chosen);
	}
	if (sched_setaffinity(0, sizeof(chosen), &chosen) < 0)
		return err_errno(err, "cannot choose processors");
	return forbid_change(err);
}
