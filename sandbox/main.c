/*
 * cellwall-sandbox: builds the wall around one kernel and watches over it. Started by cellwall,
 * with the descriptors of supervisor.h; not for use by hand.
 *
 * The order in which a sandbox comes to be is the one table below.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sandbox/build.h"
#include "sandbox/builder.h"
#include "sandbox/caps.h"
#include "sandbox/init.h"
#include "sandbox/kernel.h"
#include "sandbox/landlock.h"
#include "sandbox/layers.h"
#include "sandbox/log.h"
#include "sandbox/mounts.h"
#include "sandbox/network.h"
#include "sandbox/overlay.h"
#include "sandbox/plain.h"
#include "sandbox/proc.h"
#include "sandbox/rlimit.h"
#include "sandbox/share.h"
#include "sandbox/sources.h"
#include "sandbox/status.h"
#include "sandbox/supervisor.h"
#include "sandbox/userns.h"
#include "sandbox/without.h"

static int drop_capabilities(struct build *build, struct err *err)
{
	(void)build;
	return caps_drop_all(err);
}

static int lock_capabilities(struct build *build, struct err *err)
{
	(void)build;
	return caps_lock(err);
}

/* The walls that a step is of. */
enum { NAMESPACES = 1, LANDLOCK = 2, BOTH = NAMESPACES | LANDLOCK };

/* The name is what a failure is reported under; several steps may share one. */
static const struct stage {
	enum build_place place;
	unsigned walls;
	const char *name;
	int (*run)(struct build *build, struct err *err);
} stages[] = {
	/* First, so that all that is made counts. */
	{BUILD_BUILDER, BOTH, "limits", share_enter},
	/* While the host's files are still the host's. */
	{BUILD_BUILDER, BOTH, "layers", layers_host},
	{BUILD_BUILDER, NAMESPACES, "mounts", sources_open},
	/* What is above goes on while the supervisor makes the private directory. */
	{BUILD_BUILDER, BOTH, "staging", builder_work},
	{BUILD_BUILDER, NAMESPACES, "mounts", sources_given},
	{BUILD_BUILDER, NAMESPACES, "overlay", overlay_prepare},
	{BUILD_BUILDER, NAMESPACES, "namespaces", userns_enter},
	{BUILD_BUILDER, NAMESPACES, "mounts", mounts_private},
	{BUILD_BUILDER, NAMESPACES, "mounts", sources_enter},
	{BUILD_BUILDER, NAMESPACES, "overlay", overlay_open},
	/* Not before: root without CAP_SYS_ADMIN reads its own directories as their owner only. */
	{BUILD_BUILDER, NAMESPACES, "namespaces", userns_become},
	{BUILD_BUILDER, NAMESPACES, "mounts", mounts_root},
	{BUILD_BUILDER, LANDLOCK, "files", plain_directories},
	{BUILD_BUILDER, LANDLOCK, "uid", plain_become},
	{BUILD_BUILDER, LANDLOCK, "files", plain_files},
	{BUILD_BUILDER, BOTH, "keyring", builder_keyring},
	/* The relay keeps the descriptors made for it; its own steps are in airlock.c. It is begun
	   this early, and makes the network namespace, because both take long. */
	{BUILD_BUILDER, BOTH, "relay", builder_relay},
	{BUILD_BUILDER, NAMESPACES, "mounts", mounts_build},
	{BUILD_BUILDER, NAMESPACES, "overlay", overlay_build},
	{BUILD_BUILDER, NAMESPACES, "network", network_join},
	{BUILD_BUILDER, NAMESPACES, "uts", network_name},
	{BUILD_BUILDER, BOTH, "seccomp", seccomp_compile},
	{BUILD_BUILDER, BOTH, "init", init_start},

	/* The fresh /proc first: it is refused once the host's is out of sight. */
	{BUILD_INIT, NAMESPACES, "proc", proc_mount},
	{BUILD_INIT, NAMESPACES, "namespaces", init_lock},
	{BUILD_INIT, NAMESPACES, "limits", share_segments},
	{BUILD_INIT, NAMESPACES, "masks", proc_mask},
	{BUILD_INIT, NAMESPACES, "root", init_enter},
	/* From here on, and while the host's root is taken off, the kernel's process is made. */
	{BUILD_INIT, NAMESPACES, "kernel", kernel_start},
	{BUILD_INIT, NAMESPACES, "root", init_leave},
	/* Before a uid other than 0, which could not do it any more. */
	{BUILD_INIT, NAMESPACES, "capabilities", lock_capabilities},
	{BUILD_INIT, NAMESPACES, "namespaces", userns_settle},
	{BUILD_INIT, LANDLOCK, "landlock", plain_scope},
	{BUILD_INIT, LANDLOCK, "kernel", kernel_start},
	{BUILD_INIT, NAMESPACES, "limits", share_show},
	{BUILD_INIT, BOTH, "capabilities", drop_capabilities},
	/* Nothing of the kernel's runs beside a pid 1 that could do more than it. */
	{BUILD_INIT, NAMESPACES, "root", init_release},
	{BUILD_INIT, BOTH, "init", init_quiet},
	{BUILD_INIT, BOTH, "seccomp", seccomp_load_init},

	{BUILD_KERNEL, NAMESPACES, "capabilities", lock_capabilities},
	/* All the rest with capabilities: mapping uid 0 into U2 asks for CAP_SETFCAP at its making.
	 */
	{BUILD_KERNEL, NAMESPACES, "namespaces", userns_settle},
	{BUILD_KERNEL, BOTH, "kernel", kernel_detach},
	{BUILD_KERNEL, BOTH, "layers", layers_outer},
	{BUILD_KERNEL, NAMESPACES, "inner-userns", userns_nest},
	{BUILD_KERNEL, BOTH, "capabilities", drop_capabilities},
	{BUILD_KERNEL, BOTH, "kernel", kernel_prepare},
	{BUILD_KERNEL, NAMESPACES, "root", kernel_wait},
	{BUILD_KERNEL, NAMESPACES, "layers", layers_inputs},
	{BUILD_KERNEL, BOTH, "rlimits", rlimit_kernel},
	{BUILD_KERNEL, BOTH, "limits", share_processors},
	{BUILD_KERNEL, NAMESPACES, "landlock", landlock_kernel},
	{BUILD_KERNEL, LANDLOCK, "landlock", plain_kernel},
	{BUILD_KERNEL, BOTH, "seccomp", seccomp_load_kernel},
	{BUILD_KERNEL, BOTH, "layers", layers_report},
	{BUILD_KERNEL, BOTH, "kernel", kernel_execute},
};

/* A build for tests/bench alone says what each stage took. */
#ifdef CELLWALL_TIMES
static int64_t now_us(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int timed(const struct stage *stage, struct build *build, struct err *err)
{
	static const char *const places[] = {"builder", "pid 1", "kernel"};
	int64_t begin = now_us();
	int r = stage->run(build, err);

	/* pid 1's own filter lets no packet of descriptors out. */
	if (stage->run != seccomp_load_init)
		build_notice(build, "took %s %s %" PRId64, places[stage->place], stage->name,
			     now_us() - begin);
	return r;
}
#else
static int timed(const struct stage *stage, struct build *build, struct err *err)
{
	return stage->run(build, err);
}
#endif

int build_run(struct build *build, enum build_place place)
{
	const unsigned wall = build->spec->landlock ? LANDLOCK : NAMESPACES;
	struct err err = {0};

	for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
		int r;

		if (stages[i].place != place || !(stages[i].walls & wall) ||
		    without(stages[i].name))
			continue;
		r = timed(&stages[i], build, &err);
		if (r < 0) {
			const char *name = strerrorname_np(-r);

			if (wall == NAMESPACES)
				userns_explain(&err, r);
			(void)status_send(build->sync, NULL, "error", stages[i].name,
					  name ? name : "EIO", err.text, NULL);
			return r;
		}
	}
	return 0;
}

#ifdef CELLWALL_SANITIZE
/* Builds with a sanitizer only. The environment is empty, so this is the one way to say that leaks
 * are not looked for: their check attaches with ptrace(2), which no process here may do. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}
#endif

#ifdef CELLWALL_LEAKS
/* Whole stacks: most of what is allocated is so by libc's own functions. */
const char *__lsan_default_options(void);
__attribute__((visibility("default"))) const char *__lsan_default_options(void)
{
	return "fast_unwind_on_malloc=0";
}
#endif

int main(void)
{
	log_setup("cellwall-sandbox", LOG_LEVEL_WARNING);
	without_read();
	return supervisor_run();
}
