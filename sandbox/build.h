/*
 * build: what the processes that become the sandbox share while they build it.
 *
 * The supervisor fills it in and forks the builder; the builder forks the relay and pid 1; pid 1
 * forks the kernel. Each of them runs its own part of the one table of stages in main.c.
 * Descriptors are CLOEXEC and -1 when absent.
 */
#ifndef SANDBOX_BUILD_H
#define SANDBOX_BUILD_H

#include <sys/types.h>

#include "sandbox/base.h"
#include "sandbox/layers.h"
#include "sandbox/seccomp.h"
#include "sandbox/spec.h"
#include "sandbox/userns.h"

struct source;

struct build {
	const struct spec *spec; /* borrowed */
	char *work;		 /* host path of the directory behind /work; see builder_work */
	char *directory;	 /* host path of the private directory, which holds it */
	struct identity identity;

	/* Made by the supervisor before the builder is forked. */
	int sync;	    /* to the supervisor: SOCK_SEQPACKET, see below */
	int lifeline;	    /* this process' own: the builder's, later pid 1's */
	int relay_lifeline; /* handed on by the builder */
	int init_lifeline;
	int wall;	     /* the relay's end of the wall */
	int relay_error;     /* the relay writes why it cannot start; closed by it when it can */
	int control;	     /* pid 1's end of its control socket, see init.h */
	int output;	     /* write end of the pipe that is the kernel's stdout and stderr */
	int cgroup;	     /* cgroup.procs of the sandbox's own group, or -1 */
	uint64_t processors; /* thousandths, to be kept by affinity; 0: need not */

	/* Made on the way. */
	int relay_program;	/* cellwall-relay, opened in the host's mount namespace */
	struct source *sources; /* everything of the host that will be visible, in mount order */
	size_t source_count;
	bool overlays_out;  /* an overlay at INSIDE_OUT is to be tried, see overlay.h */
	int upper, scratch; /* its layers in the private directory */
	int copier;	    /* socket to the process that copies where there is no overlayfs */
	pid_t copier_pid;
	int root;    /* the new root: a tmpfs */
	int sockets; /* a detached copy of the socket tmpfs, for the relay */
	int network; /* where the network namespace comes from, see network.h */
	int proc;    /* the fresh /proc, whole */
	int maps;    /* the same, not read-only: where the kernel's process writes its id maps */
	struct filter init_filter, kernel_filter; /* compiled by the builder, loaded by others */
	pid_t kernel;				  /* as pid 1 sees it */
	int gate; /* pid 1's and the kernel's end of a pipe: one byte when the host's root is gone
		   * and pid 1 has no capability */
	struct layers layers;
	int landlock; /* ABI of the ruleset that the kernel has entered, 0: none */
};

/*
 * Words on `sync`, as packets of status.h. To the builder: "work PATH" when the private directory
 * is there. To the supervisor: "map" (once: write the id maps; answered with "mapped"), "child NAME
 * PID", "notice TEXT", "error STAGE ERRNO TEXT", "layers HAS LACKS RLIMITS", "egress" with the
 * listener of network.c, "listener" with the descriptor of that name or "unheard ERRNO"
 * (seccomp.h), "inside proc PID", "inside room" and "inside mounts", each with a descriptor
 * (usage.h, share.c; PID: the kernel's, inside), and "exec" right before the kernel's execve(2).
 * The last holder of the socket closes it by that execve, so end of file after "exec" and no
 * "error" means that the kernel runs.
 */

enum build_place { BUILD_BUILDER, BUILD_INIT, BUILD_KERNEL };

/* Runs the stages of `place`. Returns 0, or a negative errno after the failure was reported on
 * `sync`. */
int build_run(struct build *build, enum build_place place);
/* A line for the user that is no failure. */
void build_notice(const struct build *build, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* main() of the builder: a fork of the supervisor. Never returns. */
_Noreturn void build_main(struct build *build);

#endif
