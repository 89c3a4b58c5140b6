#include "sandbox/hear.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sandbox/init.h"
#include "sandbox/log.h"
#include "sandbox/refusals.h"
#include "sandbox/status.h"
#include "sandbox/supervisor.h"

/* From SIGTERM to the kernel's SIGKILL. */
#define TERMINATE_GRACE_MS 1500

static pid_t parse_pid(const char *text)
{
	uint64_t pid;

	return text && parse_u64(text, INT32_MAX, &pid) == 0 ? (pid_t)pid : 0;
}

static void write_maps(struct supervisor *supervisor)
{
	struct err err = {0};

	if (userns_write_maps(&supervisor->identity, supervisor->child[CHILD_BUILDER], &err) < 0)
		supervisor_fail(supervisor, "namespaces", &err);
	else
		(void)status_send(supervisor->fd[FD_SYNC], NULL, "mapped", NULL);
	/* From here on the supervisor writes to no file of /proc that would belong to root then. */
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	/* While the builder is busy. */
	if (!supervisor->failed)
		supervisor_confine(supervisor);
}

/* Said when the kernel runs: its execve(2) waits for this process now. */
static void keep_layers(struct supervisor *supervisor, const struct status *said)
{
	for (size_t i = 0; i < SUPERVISOR_LAYERS; i++) {
		free(supervisor->layers[i]);
		supervisor->layers[i] = strdup(said->field[i]);
		if (!supervisor->layers[i])
			supervisor_fail_text(supervisor, "layers", "ENOMEM", "out of memory");
	}
}

static void obey_builder(struct supervisor *supervisor, struct status *said)
{
	if (strcmp(said->word, "map") == 0) {
		write_maps(supervisor);
	} else if (strcmp(said->word, "child") == 0 && said->fields == 2) {
		bool relay = strcmp(said->field[0], "relay") == 0;

		supervisor->child[relay ? CHILD_RELAY : CHILD_INIT] = parse_pid(said->field[1]);
	} else if (strcmp(said->word, "notice") == 0 && said->fields == 1) {
		supervisor_tell(supervisor, "notice", said->field[0], NULL);
	} else if (strcmp(said->word, "layers") == 0 && said->fields == 3) {
		keep_layers(supervisor, said);
	} else if (strcmp(said->word, "error") == 0 && said->fields == 3) {
		supervisor_fail_text(supervisor, said->field[0], said->field[1], said->field[2]);
	} else if (strcmp(said->word, "exec") == 0) {
		supervisor->executing = true;
	} else if (strcmp(said->word, "listener") == 0) {
		refusals_begin(supervisor, steal_fd(&said->fds[0]));
	} else if (strcmp(said->word, "unheard") == 0 && said->fields == 1) {
		log_warning("what the kernel is refused is not reported: the host gives no "
			    "listener (%s)",
			    said->field[0]);
	} else if (strcmp(said->word, "inside") == 0 && said->fields == 1 &&
		   strcmp(said->field[0], "mounts") == 0) {
		close_fd(&supervisor->fd[FD_MOUNTS]);
		supervisor->fd[FD_MOUNTS] = steal_fd(&said->fds[0]);
	} else if (strcmp(said->word, "inside") == 0) {
		bounds_inside(supervisor, said);
	} else if (strcmp(said->word, "egress") == 0) {
		(void)status_send_fds(supervisor->fd[FD_STATUS], said->fds, 1, NULL, "egress",
				      NULL);
	}
	for (size_t i = 0; i < STATUS_FDS; i++)
		close_fd(&said->fds[i]);
}

/* Returns true when there may be more to read. */
bool hear_builder(struct supervisor *supervisor)
{
	struct status said;
	int r;

	if (supervisor->fd[FD_SYNC] < 0)
		return false;
	r = status_receive(supervisor->fd[FD_SYNC], &said, NULL);
	if (r == -EAGAIN)
		return false;
	if (r > 0) {
		obey_builder(supervisor, &said);
		for (size_t i = 0; i < STATUS_FDS; i++)
			close_fd(&said.fds[i]);
		return true;
	}
	close_fd(&supervisor->fd[FD_SYNC]);
	if (supervisor->phase == PHASE_BUILDING && !supervisor->failed && !supervisor->executing)
		supervisor_fail_text(supervisor, "launch", "ECHILD",
				     "the process that builds the sandbox was killed");
	return false;
}

/* Plain recv(2): whatever pid 1 may have become, it passes no descriptor on. */
void hear_init(struct supervisor *supervisor)
{
	struct init_report report;
	ssize_t got;

	while ((got = recv(supervisor->fd[FD_CONTROL], &report, sizeof(report), MSG_DONTWAIT)) ==
	       (ssize_t)sizeof(report)) {
		if (report.word == INIT_ENDED) {
			supervisor->ended = true;
			supervisor->code = report.value & 0xff;
			supervisor->signal = report.signal & 0x7f;
		} else if (report.word == INIT_PAUSED) {
			supervisor_tell(supervisor, "paused", report.value ? "1" : "0", NULL);
		} else if (report.word == INIT_RESUMED) {
			supervisor_tell(supervisor, "resumed", NULL, NULL);
		}
	}
	if (got >= 0)
		close_fd(&supervisor->fd[FD_CONTROL]);
}

/* The relay says on one line why it cannot start, or closes the pipe when it can. */
void hear_relay(struct supervisor *supervisor)
{
	char line[512], safe[1024];
	ssize_t got = read(supervisor->fd[FD_RELAY_ERROR], line, sizeof(line));

	close_fd(&supervisor->fd[FD_RELAY_ERROR]);
	if (got <= 0)
		return;
	if (line[got - 1] == '\n')
		got--;
	(void)escape_text(safe, sizeof(safe), line, (size_t)got);
	if (supervisor->phase == PHASE_BUILDING)
		supervisor_fail_text(supervisor, "relay", "ECHILD", safe);
	else
		supervisor_tell(supervisor, "notice", safe, NULL);
}

/* Killed, before its last word. What the kernel wrote is on disk, its directory is unlocked now. */
static void lose_collector(struct supervisor *supervisor)
{
	supervisor_tell(supervisor, "notice",
			"the process that copies results out was killed: they come out when the "
			"kernel ends",
			NULL);
	supervisor->collector_lost = true;
	if (supervisor->phase == PHASE_ENDING)
		supervisor->phase = PHASE_FINISHED;
}

/* What the collector and the recoverer report goes on to the proxy as it is. */
void hear_collector(struct supervisor *supervisor, enum supervisor_fd which)
{
	struct status said;
	int r = status_receive(supervisor->fd[which], &said, NULL);

	if (r == -EAGAIN)
		return;
	if (r <= 0) {
		close_fd(&supervisor->fd[which]);
		if (which == FD_COLLECTOR)
			lose_collector(supervisor);
		return;
	}
	if (strcmp(said.word, "measured") == 0) {
		uint64_t bytes = 0;

		if (said.fields == 1 && parse_u64(said.field[0], UINT64_MAX, &bytes) == 0)
			bounds_measured(supervisor, bytes);
	} else if (strcmp(said.word, "discarded") == 0) {
		supervisor->phase = PHASE_FINISHED;
	} else if (strcmp(said.word, "done") == 0) {
		supervisor->phase = PHASE_FINISHED;
		/* Said when everything has ended, see finish. */
		for (size_t i = 0; i < 3; i++)
			(void)parse_u64(said.field[i], UINT64_MAX, &supervisor->results[i]);
	} else {
		/* As many of these as the kernel makes files: the answers alone must arrive. */
		bool droppable = strcmp(said.word, "refused") == 0 ||
				 strcmp(said.word, "flagged") == 0 ||
				 strcmp(said.word, "notice") == 0;

		supervisor_say(supervisor, droppable, said.word, said.field, said.fields);
	}
}

static void init_word(struct supervisor *supervisor, enum init_command word)
{
	unsigned char byte = (unsigned char)word;

	if (supervisor->fd[FD_CONTROL] >= 0)
		(void)send(supervisor->fd[FD_CONTROL], &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void remember_socket(struct supervisor *supervisor, const struct status *said)
{
	char **path = &supervisor->sockets[supervisor->socket_count];

	if (supervisor->socket_count == CLIENT_SOCKETS_MAX || said->fields != 1)
		return;
	*path = strdup(said->field[0]);
	if (*path)
		supervisor->socket_count++;
}

/* One that finds no room is answered by us: the proxy holds a reply back until the answer. */
static void collect(struct supervisor *supervisor, const struct status *said)
{
	const char *const none[] = {said->field[0], "0", "0", "1", "0"};
	char packet[STATUS_MAX];
	size_t size;

	if (said->fields != 1)
		return;
	size = status_encode(packet, "collect", said->field, 1);
	if (supervisor->fd[FD_COLLECTOR] >= 0 &&
	    status_post(supervisor->fd[FD_COLLECTOR], packet, size) == 0)
		return;
	if (supervisor->phase == PHASE_RUNNING)
		supervisor_say(supervisor, false, "collected", none, 5);
}

static void obey(struct supervisor *supervisor, const struct status *said)
{
	bool running = supervisor->phase == PHASE_RUNNING;

	if (strcmp(said->word, "socket") == 0) {
		remember_socket(supervisor, said);
	} else if (strcmp(said->word, "collect") == 0) {
		collect(supervisor, said);
	} else if (strcmp(said->word, "kill") == 0) {
		supervisor_end(supervisor);
	} else if (strcmp(said->word, "terminate") == 0) {
		if (!running)
			supervisor_end(supervisor);
		init_word(supervisor, INIT_TERMINATE);
		supervisor->kill_at = now_ms() + TERMINATE_GRACE_MS;
	} else if (!running) {
		return; /* what follows is for a kernel that runs */
	} else if (strcmp(said->word, "busy") == 0) {
		bounds_hurry(supervisor);
	} else if (strcmp(said->word, "interrupt") == 0) {
		init_word(supervisor, INIT_INTERRUPT);
	} else if (strcmp(said->word, "pause") == 0) {
		init_word(supervisor, INIT_PAUSE);
	} else if (strcmp(said->word, "resume") == 0) {
		init_word(supervisor, INIT_RESUME);
	}
}

void hear_proxy_gone(struct supervisor *supervisor)
{
	struct status said;

	if (supervisor->proxy_gone)
		return;
	/* Of its last words, those that say what it cannot clean up any more. */
	while (supervisor->fd[FD_STATUS] >= 0 &&
	       status_receive(supervisor->fd[FD_STATUS], &said, NULL) > 0) {
		for (size_t i = 0; i < STATUS_FDS; i++)
			close_fd(&said.fds[i]);
		if (strcmp(said.word, "socket") == 0)
			remember_socket(supervisor, &said);
	}
	supervisor->proxy_gone = true;
	close_fd(&supervisor->fd[FD_STATUS]);
	close_fd(&supervisor->fd[FD_LIFELINE]);
	supervisor_end(supervisor);
	supervisor_end_relay(supervisor);
}

void hear_proxy(struct supervisor *supervisor)
{
	struct status said;
	int r = status_receive(supervisor->fd[FD_STATUS], &said, NULL);

	if (r == -EAGAIN)
		return;
	if (r <= 0) {
		hear_proxy_gone(supervisor);
		return;
	}
	for (size_t i = 0; i < STATUS_FDS; i++)
		close_fd(&said.fds[i]);
	obey(supervisor, &said);
}
