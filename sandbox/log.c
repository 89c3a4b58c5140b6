#include "sandbox/log.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* At most PIPE_BUF (4096): then a line of two processes on one pipe is never mixed, pipe(7). */
#define LINE_SIZE 2048

static char program_name[32] = "cellwall";
static enum log_level most_detailed = LOG_LEVEL_WARNING;
static bool journal;

/* JOURNAL_STREAM is "DEVICE:INODE" of the journal's socket; a redirected stderr no longer matches,
 * sd-daemon(3). */
static bool stderr_is_journal(void)
{
	const char *value = getenv("JOURNAL_STREAM");
	char expected[64];
	struct stat status;

	if (!value || fstat(STDERR_FILENO, &status) < 0)
		return false;
	(void)snprintf(expected, sizeof(expected), "%ju:%ju", (uintmax_t)status.st_dev,
		       (uintmax_t)status.st_ino);
	return strcmp(value, expected) == 0;
}

void log_setup(const char *program, enum log_level most)
{
	(void)snprintf(program_name, sizeof(program_name), "%s", program);
	most_detailed = most;
	journal = stderr_is_journal();
}

/*
 * A server that started us with a pipe and does not read it must not stop us: a line that does not
 * fit is given up, and the next that fits says how many were.
 */
static void put_line(const char *line, size_t size)
{
	static unsigned given_up;
	struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
	char missing[80];

	if (poll(&room, 1, 0) == 0) {
		given_up++;
		return;
	}
	if (given_up) {
		int put = snprintf(missing, sizeof(missing), "%s: %u lines were lost here\n",
				   program_name, given_up);

		given_up = 0;
		if (put > 0 && write(STDERR_FILENO, missing, (size_t)put) < 0)
			return;
	}
	while (write(STDERR_FILENO, line, size) < 0 && errno == EINTR)
		;
}

bool log_wanted(enum log_level level)
{
	return level <= most_detailed;
}

void log_bare(enum log_level level, const char *line)
{
	char text[LINE_SIZE];
	int size = journal ? snprintf(text, sizeof(text), "<%u>%s\n", (unsigned)level, line)
			   : snprintf(text, sizeof(text), "%s\n", line);

	if (size > 0 && (size_t)size < sizeof(text) && log_wanted(level))
		put_line(text, (size_t)size);
}

void log_line(enum log_level level, const char *format, ...)
{
	char line[LINE_SIZE];
	int saved = errno, put;
	size_t at, end;
	va_list args;

	if (!log_wanted(level))
		return;
	if (journal)
		put = snprintf(line, sizeof(line), "<%u>%s[%d]: ", (unsigned)level, program_name,
			       (int)getpid());
	else
		put = snprintf(line, sizeof(line), "%s[%d]: ", program_name, (int)getpid());
	at = put > 0 ? (size_t)put : 0; /* the prefix always fits */
	va_start(args, format);
	errno = saved;
	put = vsnprintf(line + at, sizeof(line) - at, format, args);
	va_end(args);
	end = put > 0 ? at + (size_t)put : at;
	if (end > sizeof(line) - 1) {
		end = sizeof(line) - 1;
		memcpy(line + end - 3, "...", 3);
	}
	for (; at < end; at++) {
		if ((unsigned char)line[at] < 0x20 || line[at] == 0x7f)
			line[at] = '?'; /* one event is one line, whatever it says */
	}
	line[end++] = '\n';
	put_line(line, end);
	errno = saved;
}
