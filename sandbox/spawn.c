#include "sandbox/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sandbox/collector.h"
#include "sandbox/staging.h"
#include "sandbox/status.h"

DEFINE_CLEANUP(struct staging *, staging_free)

static int make_pipe(int *ret_read, int *ret_write, struct err *err)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(err, "cannot make a pipe");
	*ret_read = fds[0];
	*ret_write = fds[1];
	return 0;
}

/* Of the supervisor's end alone: it waits in poll(2) and nowhere else. */
static int never_block(int fd, struct err *err)
{
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return err_errno(err, "cannot set up a descriptor");
	return 0;
}

static int make_pair(int type, int *ret_ours, int *ret_theirs, struct err *err)
{
	int fds[2];

	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(err, "cannot make a pair of sockets");
	*ret_ours = fds[0];
	*ret_theirs = fds[1];
	return 0;
}

/*
 * In a child, before anything else: a second holder of a write end would keep another child alive
 * after the supervisor is gone, and one of the status socket would hide its end from the proxy.
 */
static void close_ours(struct supervisor *supervisor)
{
	for (size_t i = 0; i < FD_COUNT; i++)
		close_fd(&supervisor->fd[i]);
}

/* Returns like fork(2); in the child nothing of the supervisor's is open. */
static pid_t fork_child(struct supervisor *supervisor, enum supervisor_child which, struct err *err)
{
	pid_t pid = fork();

	if (pid < 0)
		return err_errno(err, "cannot fork");
	if (pid == 0)
		close_ours(supervisor);
	else
		supervisor->child[which] = pid;
	return pid;
}

/* The places of what is staged; what is missing now is left out by the builder, with a notice. */
static int place_stages(struct staging *staging, const struct spec *spec, struct err *err)
{
	for (size_t i = 0; i < spec->stage_count; i++) {
		const struct spec_bind *stage = &spec->stages[i];
		struct stat status;
		int r;

		if (strncmp(stage->target, INSIDE_WORK "/", sizeof(INSIDE_WORK)) != 0)
			return err_set(err, -EINVAL, "%s is not below " INSIDE_WORK, stage->target);
		if (stat(stage->source, &status) < 0)
			continue;
		if (spec->landlock)
			r = staging_link(staging, stage->target + sizeof(INSIDE_WORK),
					 stage->source, err);
		else
			r = staging_place(staging, stage->target + sizeof(INSIDE_WORK),
					  S_ISDIR(status.st_mode), err);
		if (r < 0)
			return err_wrap(err, "%s", stage->target);
		r = staging_note(staging, stage->target + sizeof(INSIDE_WORK), stage->source);
		if (r < 0)
			return err_set(err, r, "%s: %s", stage->target, strerrordesc_np(-r));
	}
	return 0;
}

/* Everything that is in the private directory before the kernel runs. */
static int fill(struct supervisor *supervisor, struct staging *staging, struct err *err)
{
	const struct spec *spec = &supervisor->spec;
	struct err problem = {0};
	char text[sizeof(problem.text) + 64];
	int r = place_stages(staging, spec, err);

	if (r < 0)
		return r;
	r = staging_let_out(staging, spec->out_names);
	if (r < 0)
		return err_set(err, r, "names that are let out: %s", strerrordesc_np(-r));
	if (!spec->history || staging_history(staging, spec->history, &problem) == 0)
		return 0;
	(void)snprintf(text, sizeof(text), "this kernel keeps no input history: %s", problem.text);
	supervisor_tell(supervisor, "notice", text, NULL);
	return 0;
}

static int make_private_directory(struct supervisor *supervisor, struct staging **ret_staging,
				  struct err *err)
{
	const struct spec *spec = &supervisor->spec;
	const struct identity *identity = &supervisor->identity;
	uid_t owner = identity->pair ? userns_kernel_uid(identity) : (uid_t)-1;
	struct staging *staging = NULL;
	int r = staging_create(spec->state, spec->out, owner, spec->out_bytes, spec->out_files,
			       &staging, err);

	if (r < 0)
		return r;
	r = fill(supervisor, staging, err);
	supervisor->work = strdup(staging_work(staging));
	if (r == 0 && !supervisor->work)
		r = err_set(err, -ENOMEM, "out of memory");
	if (r < 0) {
		(void)staging_remove(staging, NULL);
		(void)staging_free(staging);
		return r;
	}
	*ret_staging = staging;
	return 0;
}

/* One that has ended already says why on the same socket, or is missed. */
static int tell_builder(struct supervisor *supervisor, struct err *err)
{
	int r = status_send(supervisor->fd[FD_SYNC], err, "work", supervisor->work, NULL);

	return r == -EPIPE || r == -ECONNRESET ? 0 : r;
}

int spawn_collector(struct supervisor *supervisor, struct err *err)
{
	cleanup(staging_free_p) struct staging *staging = NULL;
	cleanup(close_fd) int lifeline = -1, socket = -1;
	pid_t pid;

	if (make_private_directory(supervisor, &staging, err) < 0)
		return err->code;
	if (tell_builder(supervisor, err) < 0 ||
	    make_pipe(&lifeline, &supervisor->fd[FD_COLLECTOR_LIFE], err) < 0 ||
	    make_pair(SOCK_SEQPACKET, &supervisor->fd[FD_COLLECTOR], &socket, err) < 0 ||
	    never_block(supervisor->fd[FD_COLLECTOR], err) < 0)
		pid = err->code;
	else
		pid = fork_child(supervisor, CHILD_COLLECTOR, err);
	if (pid == 0)
		collector_main(socket, lifeline, staging);
	if (pid < 0)
		(void)staging_remove(staging, NULL);
	else if (staging_changes(staging) >= 0)
		supervisor->fd[FD_CHANGES] = fcntl(staging_changes(staging), F_DUPFD_CLOEXEC, 0);
	/* Our copy goes; the directory's lock stays with the collector. */
	return pid < 0 ? pid : 0;
}

int spawn_recoverer(struct supervisor *supervisor, struct err *err)
{
	cleanup(close_fd) int lifeline = -1, socket = -1;
	pid_t pid;

	if (make_pipe(&lifeline, &supervisor->fd[FD_RECOVERER_LIFE], err) < 0 ||
	    make_pair(SOCK_SEQPACKET, &supervisor->fd[FD_RECOVERER], &socket, err) < 0 ||
	    never_block(supervisor->fd[FD_RECOVERER], err) < 0)
		return err->code;
	pid = fork_child(supervisor, CHILD_RECOVERER, err);
	if (pid == 0)
		collector_recover(socket, lifeline, &supervisor->spec);
	return pid < 0 ? pid : 0;
}

/* Both ends of the wall take more at once, as far as the system allows (socket(7), wmem_max). */
#define WALL_SNDBUF (1024 * 1024)

static void widen(int wall)
{
	const int size = WALL_SNDBUF;

	(void)setsockopt(wall, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

/* The one thing that goes through the wall, and the kernel's stdout and stderr: the far ends go to
 * the proxy. */
static int make_wall(struct supervisor *supervisor, struct build *build, struct err *err)
{
	int *fd = supervisor->fd;

	if (make_pair(SOCK_STREAM, &fd[FD_WALL], &build->wall, err) < 0 ||
	    make_pipe(&fd[FD_OUTPUT], &build->output, err) < 0)
		return err->code;
	widen(fd[FD_WALL]);
	widen(build->wall);
	return 0;
}

int spawn_wall(struct supervisor *supervisor, struct err *err)
{
	int *fd = supervisor->fd;
	const int fds[] = {fd[FD_WALL], fd[FD_OUTPUT], fd[FD_CHANGES]};
	int r = status_send_fds(fd[FD_STATUS], fds, fds[2] >= 0 ? 3 : 2, err, "wall", NULL);

	close_fd(&fd[FD_WALL]);
	close_fd(&fd[FD_OUTPUT]);
	close_fd(&fd[FD_CHANGES]);
	return r;
}

static int connect_builder(struct supervisor *supervisor, struct build *build, struct err *err)
{
	int *fd = supervisor->fd;

	if (make_wall(supervisor, build, err) < 0 ||
	    make_pair(SOCK_SEQPACKET, &fd[FD_SYNC], &build->sync, err) < 0 ||
	    make_pair(SOCK_SEQPACKET, &fd[FD_CONTROL], &build->control, err) < 0 ||
	    make_pipe(&fd[FD_RELAY_ERROR], &build->relay_error, err) < 0 ||
	    make_pipe(&build->lifeline, &fd[FD_BUILDER_LIFE], err) < 0 ||
	    make_pipe(&build->relay_lifeline, &fd[FD_RELAY_LIFE], err) < 0 ||
	    make_pipe(&build->init_lifeline, &fd[FD_INIT_LIFE], err) < 0 ||
	    never_block(fd[FD_SYNC], err) < 0 || never_block(fd[FD_CONTROL], err) < 0 ||
	    never_block(fd[FD_RELAY_ERROR], err) < 0)
		return err->code;
	return 0;
}

int spawn_builder(struct supervisor *supervisor, struct err *err)
{
	struct build build = {
		.spec = &supervisor->spec,
		.identity = supervisor->identity,
		.sync = -1,
		.lifeline = -1,
		.relay_lifeline = -1,
		.init_lifeline = -1,
		.wall = -1,
		.relay_error = -1,
		.control = -1,
		.output = -1,
		.cgroup = steal_fd(&supervisor->fd[FD_GROUP]),
		.processors = supervisor->bounds.cgroup.cpus ? 0 : supervisor->spec.cpus,
		.relay_program = -1,
		.upper = -1,
		.scratch = -1,
		.copier = -1,
		.root = -1,
		.sockets = -1,
		.network = -1,
		.proc = -1,
		.maps = -1,
		.gate = -1,
	};
	int *const theirs[] = {&build.sync,	     &build.lifeline, &build.relay_lifeline,
			       &build.init_lifeline, &build.wall,     &build.relay_error,
			       &build.control,	     &build.output,   &build.cgroup};
	int r = connect_builder(supervisor, &build, err);

	if (r == 0)
		r = fork_child(supervisor, CHILD_BUILDER, err);
	if (r == 0)
		build_main(&build);
	for (size_t i = 0; i < sizeof(theirs) / sizeof(theirs[0]); i++)
		close_fd(theirs[i]);
	return r < 0 ? r : 0;
}
