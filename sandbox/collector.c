#include "sandbox/collector.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef CELLWALL_LEAKS
#include <sanitizer/lsan_interface.h>
#endif

#include "sandbox/caps.h"
#include "sandbox/confine.h"
#include "sandbox/process.h"
#include "sandbox/status.h"
#include "sandbox/tree.h"

/* A long copy is done in slices, and stops between two when the kernel has ended and the final turn
 * is due. */
#define SLICE_MS 250

struct collector {
	int socket, lifeline;
	struct staging *staging;
};

/* Waits for the supervisor, who waits for nobody; when that is gone, so is this process. */
static void send_words(const struct collector *collector, const char *word,
		       const char *const *fields, size_t count)
{
	char packet[STATUS_MAX];
	size_t size = status_encode(packet, word, fields, count);

	while (status_post(collector->socket, packet, size) == -EAGAIN) {
		struct pollfd watch[] = {{.fd = collector->lifeline},
					 {.fd = collector->socket, .events = POLLOUT}};

		if (poll(watch, 2, -1) > 0 && watch[0].revents)
			_exit(EXIT_ORPHAN);
	}
}

static void say(const struct collector *collector, const char *word, const char *sequence,
		const struct staging_report *report)
{
	char files[24], bytes[24], left[24];
	const char *const fields[] = {sequence, files, bytes, left, report->watched ? "1" : "0"};

	(void)snprintf(files, sizeof(files), "%" PRIu64, report->files);
	(void)snprintf(bytes, sizeof(bytes), "%" PRIu64, report->bytes);
	(void)snprintf(left, sizeof(left), "%" PRIu64, report->left);
	if (sequence)
		send_words(collector, word, fields, 5);
	else
		send_words(collector, word, &fields[1], 3);
}

static void notice(const struct collector *collector, const char *text)
{
	send_words(collector, "notice", &text, 1);
}

static void refused(void *arg, const char *path, const char *reason)
{
	const char *const fields[] = {path, reason};

	send_words(arg, "refused", fields, 2);
}

static void flagged(void *arg, const char *path, const char *reason)
{
	const char *const fields[] = {path, reason};

	send_words(arg, "flagged", fields, 2);
}

/* A file takes its blocks, and a share of what its file system has for names. */
static uint64_t size_of(const struct stat *status)
{
	const uint64_t bytes =
		(uint64_t)status->st_blocks * 512 / (status->st_nlink > 0 ? status->st_nlink : 1);

	return bytes > INODE_BYTES ? bytes : INODE_BYTES;
}

/* Adds up what is in /work. */
static void measure(const struct collector *collector)
{
	cleanup(close_fd) int work = open(staging_work(collector->staging),
					  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct walk *walk = calloc(1, sizeof(*walk));
	const char *field;
	struct stat status;
	uint64_t bytes = 0;
	char number[24];
	int r;

	if (walk && work >= 0) {
		walk_init(walk);
		r = walk_start(walk, work);
		while (r >= 0 && (r = walk_next(walk)) != 0) {
			if (r < 0 || walk_stat(walk, &status) < 0) {
				r = 0; /* the next one */
				continue;
			}
			bytes += size_of(&status);
			if (S_ISDIR(status.st_mode))
				(void)walk_enter(walk);
		}
		walk_done(walk);
	}
	free(walk);
	(void)snprintf(number, sizeof(number), "%" PRIu64, bytes);
	field = number;
	send_words(collector, "measured", &field, 1);
}

/* A word that ends the present turn. The one that asks for a sum does not. */
static bool word_waits(const struct collector *collector)
{
	struct pollfd watch = {.fd = collector->socket, .events = POLLIN};
	struct status command;
	char first;

	while (poll(&watch, 1, 0) != 0) {
		if (recv(collector->socket, &first, 1, MSG_PEEK) != 1 || first != 'm')
			return true;
		if (status_receive(collector->socket, &command, NULL) <= 0)
			return true;
		measure(collector);
	}
	return false;
}

/* Adds one slice to `total`. Returns 1 when time ran out, 0 when all is done that can be, or a
 * negative errno. */
static int slice(struct collector *collector, int64_t deadline, struct staging_report *total,
		 struct err *err)
{
	struct staging_report report = {0};
	int r = staging_collect(collector->staging, deadline, refused, collector, &report, err);

	total->files += report.files;
	total->bytes += report.bytes;
	total->left = report.left;
	total->watched = report.watched;
	if (r < 0)
		return r;
	return report.left > 0 && now_ms() >= deadline;
}

static void collect(struct collector *collector, const char *sequence)
{
	struct staging_report total = {0};
	struct err err = {0};
	int r;

	do
		r = slice(collector, now_ms() + SLICE_MS, &total, &err);
	while (r > 0 && !word_waits(collector));
	if (r < 0)
		notice(collector, err.text);
	say(collector, "collected", sequence, &total);
}

/* Nothing writes to the directory any more. It goes only when nothing in it waits. */
static void finish(struct collector *collector)
{
	const char *directory = staging_directory(collector->staging);
	struct staging_report total = {0};
	struct err err = {0};
	char text[1024];
	int r;

	if (staging_history_back(collector->staging, &err) < 0)
		notice(collector, err.text);
	r = slice(collector, now_ms() + COLLECT_MS, &total, &err);
	if (r < 0) {
		(void)snprintf(text, sizeof(text), "results stay in %s: %s", directory, err.text);
		notice(collector, text);
	} else if (total.left > 0) {
		(void)snprintf(text, sizeof(text),
			       "%" PRIu64
			       " files are still in %s: \"cellwall stage recover\" brings them in",
			       total.left, directory);
		notice(collector, text);
	} else if (staging_remove(collector->staging, &err) < 0) {
		notice(collector, err.text);
	}
	say(collector, "done", NULL, &total);
}

static void discard(struct collector *collector)
{
	struct err err = {0};

	if (staging_remove(collector->staging, &err) < 0)
		notice(collector, err.text);
	send_words(collector, "discarded", NULL, 0);
}

/* Returns false when there is nothing more to do. */
static bool obey(struct collector *collector)
{
	struct status command;

	if (status_receive(collector->socket, &command, NULL) <= 0)
		return false;
	if (strcmp(command.word, "collect") == 0 && command.fields == 1)
		collect(collector, command.field[0]);
	else if (strcmp(command.word, "measure") == 0)
		measure(collector);
	else if (strcmp(command.word, "final") == 0)
		finish(collector);
	else if (strcmp(command.word, "discard") == 0)
		discard(collector);
	return true;
}

/*
 * As root: the kernel's files belong to another uid and may have any mode, and results get the
 * owner of staging/out. Everything else that root may do goes.
 */
#define CAPABILITY(number) (UINT64_C(1) << (number))
#define CAPABILITIES                                                                               \
	(CAPABILITY(CAP_CHOWN) | CAPABILITY(CAP_DAC_OVERRIDE) | CAPABILITY(CAP_DAC_READ_SEARCH) |  \
	 CAPABILITY(CAP_FOWNER) | CAPABILITY(CAP_LEASE))

static void prepare(int lifeline)
{
	process_reset_signals();
	/* A file larger than the user's own RLIMIT_FSIZE is an error (EFBIG), not the end of this
	 * process. */
	(void)signal(SIGXFSZ, SIG_IGN);
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (caps_keep(CAPABILITIES, NULL) < 0 || process_protect(lifeline, SIGKILL, NULL) < 0)
		_exit(EXIT_FAILURE);
}

_Noreturn void collector_main(int socket, int lifeline, struct staging *staging)
{
	struct collector collector = {.socket = socket, .lifeline = lifeline, .staging = staging};

	prepare(lifeline);
	if (confine_enter(CONFINE_COLLECTOR, NULL) < 0)
		_exit(EXIT_FAILURE);
	staging_on_flagged(staging, flagged, &collector);
	for (;;) {
		struct pollfd watch[] = {{.fd = lifeline}, {.fd = socket, .events = POLLIN}};

		if (poll(watch, 2, -1) < 0 && errno != EINTR)
			_exit(EXIT_FAILURE);
		if (watch[0].revents)
			_exit(EXIT_ORPHAN);
		if (watch[1].revents && !obey(&collector)) {
#ifdef CELLWALL_LEAKS
			__lsan_do_leak_check();
#endif
			_exit(EXIT_SUCCESS);
		}
	}
}

static void found(void *arg, const char *directory, const char *out,
		  const struct staging_report *report)
{
	const struct collector *collector = arg;
	char text[1024];

	(void)directory;
	if (report->files == 0)
		return;
	(void)snprintf(text, sizeof(text),
		       "%" PRIu64
		       " files that an earlier kernel could not bring out are now in %s%s",
		       report->files, out,
		       report->flagged ? ", some of them of types that run code when opened" : "");
	notice(collector, text);
}

/* The path is relative to another kernel's /work: who reads it would look for it in this one. */
static void refused_earlier(void *arg, const char *path, const char *reason)
{
	char text[STATUS_MAX / 2];
	const char *const fields[] = {path, text};

	(void)snprintf(text, sizeof(text), "from an earlier kernel: %s", reason);
	send_words(arg, "refused", fields, 2);
}

_Noreturn void collector_recover(int socket, int lifeline, const struct spec *spec)
{
	struct collector collector = {.socket = socket, .lifeline = lifeline};
	struct err err = {0};

	prepare(lifeline);
	if (staging_recover(spec->state, spec->out, 0, 0, refused_earlier, NULL, found, &collector,
			    &err) < 0)
		notice(&collector, err.text);
	_exit(EXIT_SUCCESS);
}
