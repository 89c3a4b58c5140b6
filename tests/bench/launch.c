/*
 * launch: one sandbox after the other with a program of no matter inside, for benchmarks: what it
 * costs to build the wall, without a proxy and without a client.
 *
 *   launch SANDBOX RELAY STATE ROUNDS PROGRAM [ARGUMENT…]
 *   launch - ROUNDS PROGRAM [ARGUMENT…]
 *
 * Per round a line on stdout, in microseconds from the fork: until the program was executed, until
 * it is known to have ended, until nothing of the sandbox is left; before it what the supervisor
 * notices (one built with CELLWALL_TIMES: "took PLACE STAGE MICROSECONDS"). STATE is an empty
 * directory. With "-" the program, which may be a sandbox of its own, is started and waited for by
 * the same means, and the line has one number: until it has ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "proxy/launch.h"
#include "sandbox/status.h"

#define ROUND_MS 10000

static int64_t now_us(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

struct round {
	int64_t started, gone;
	int held[STATUS_FDS]; /* the wall and the output: what the proxy would hold */
};

static void let_go(struct round *round)
{
	for (size_t i = 0; i < STATUS_FDS; i++)
		close_fd(&round->held[i]);
}

static int hear(struct round *round, const struct status *status, struct err *err)
{
	if (strcmp(status->word, "wall") == 0) {
		memcpy(round->held, status->fds, sizeof(round->held));
	} else if (strcmp(status->word, "started") == 0) {
		round->started = now_us();
	} else if (strcmp(status->word, "gone") == 0) {
		round->gone = now_us();
		let_go(round);
	} else if (strcmp(status->word, "notice") == 0) {
		(void)printf("%s\n", status->field[0]);
	} else if (strcmp(status->word, "error") == 0) {
		return err_set(err, -EIO, "%s: %s", status->field[0], status->field[2]);
	}
	return 0;
}

/* Hears the supervisor to its end. Returns 0, or a negative errno with words. */
static int follow(struct launch *launch, struct round *round, struct err *err)
{
	struct pollfd watch = {.fd = launch->status, .events = POLLIN};
	struct status status;
	int r = 0;

	while (poll(&watch, 1, ROUND_MS) == 1) {
		r = status_receive(launch->status, &status, err);
		if (r > 0)
			r = hear(round, &status, err);
		else if (r == 0 || r != -EAGAIN)
			break;
		if (r < 0 && r != -EAGAIN)
			break;
	}
	let_go(round);
	return r < 0 ? r : 0;
}

static int one(const char *program, const struct spec *spec, struct err *err)
{
	struct round round = {.held = {-1, -1, -1}};
	int64_t begin = now_us();
	struct launch launch;
	int r = launch_start(program, spec, &launch, err);

	if (r < 0)
		return r;
	r = follow(&launch, &round, err);
	launch_done(&launch, ROUND_MS);
	if (r == 0)
		(void)printf("%" PRId64 " %" PRId64 " %" PRId64 "\n", round.started - begin,
			     round.gone - begin, now_us() - begin);
	return r;
}

static int fill(struct spec *spec, char **argv)
{
	int r = spec_add_env(spec, "PATH=/usr/bin:/bin");

	spec->relay = strdup(argv[2]);
	/* Beside each other: what is left in a state is looked for at every start. */
	spec->state = format_string("%s/state", argv[3]);
	spec->connection = strdup("{}");
	spec->out = format_string("%s/out", argv[3]);
	spec->out_bytes = 1 << 20;
	spec->out_files = 100;
	spec->tmp_bytes = 1 << 20;
	spec->pids = 100;
	spec->open_files = 100;
	for (char **argument = argv + 5; r == 0 && *argument; argument++)
		r = spec_add_argv(spec, *argument);
	return spec->relay && spec->state && spec->connection && spec->out ? r : -ENOMEM;
}

/* One program after the other, each waited for. */
static int plain(char **argv, uint64_t rounds)
{
	for (uint64_t i = 0; i < rounds; i++) {
		const int64_t begin = now_us();
		int status = 0, null;
		pid_t pid = fork();

		if (pid == 0) {
			null = open("/dev/null", O_RDWR | O_CLOEXEC);
			if (null >= 0 && dup2(null, 0) >= 0 && dup2(null, 1) >= 0)
				(void)execv(argv[0], argv);
			_exit(127);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
			(void)fprintf(stderr, "launch: %s failed\n", argv[0]);
			return 1;
		}
		(void)printf("%" PRId64 "\n", now_us() - begin);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct spec spec = {0};
	struct err err = {0};
	uint64_t rounds = 0;
	int r;

	if (argc > 3 && strcmp(argv[1], "-") == 0 && parse_u64(argv[2], 100000, &rounds) == 0)
		return plain(argv + 3, rounds);
	if (argc < 6 || parse_u64(argv[4], 100000, &rounds) < 0) {
		(void)fprintf(stderr, "usage: launch SANDBOX RELAY STATE ROUNDS PROGRAM…\n"
				      "       launch - ROUNDS PROGRAM…\n");
		return 2;
	}
	r = fill(&spec, argv);
	for (uint64_t i = 0; r == 0 && i < rounds; i++)
		r = one(argv[1], &spec, &err);
	if (r < 0)
		(void)fprintf(stderr, "launch: %s\n", err.text);
	spec_done(&spec);
	return r < 0;
}
