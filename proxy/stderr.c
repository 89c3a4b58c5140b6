#include "proxy/stderr.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/limits.h"
#include "sandbox/base.h"
#include "sandbox/log.h"

#define LINE_MAX_BYTES 1000
#define LINE_COST      48 /* name, number and newline around a line */

struct stderr_log {
	int fd;
	int64_t second;	 /* when the current second of the rate began */
	size_t printed;	 /* bytes in it */
	size_t total;	 /* bytes since the start */
	size_t left_out; /* bytes not printed since the last line that says so */
	size_t used;
	char line[LINE_MAX_BYTES];
};

struct stderr_log *stderr_log_new(int fd)
{
	struct stderr_log *log = calloc(1, sizeof(*log));

	if (!log) {
		close(fd);
		return NULL;
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	log->fd = fd;
	return log;
}

int stderr_log_fd(const struct stderr_log *log)
{
	return log->fd;
}

static void print_line(struct stderr_log *log)
{
	char escaped[4 * LINE_MAX_BYTES];
	size_t size;

	if (log->used == 0)
		return;
	escape_text(escaped, sizeof(escaped), log->line, log->used);
	size = strlen(escaped) + LINE_COST;
	if (log->printed + size > STDERR_RATE || log->total + size > STDERR_TOTAL) {
		log->left_out += log->used;
	} else {
		log->printed += size;
		log->total += size;
		log_warning("kernel: %s", escaped);
	}
	log->used = 0;
}

static void new_second(struct stderr_log *log, int64_t now)
{
	if (now - log->second < 1000)
		return;
	log->second = now;
	log->printed = 0;
	if (log->total > STDERR_TOTAL - STDERR_RATE)
		return; /* told at the end */
	if (log->left_out)
		log_warning("kernel: (%zu bytes of its standard error left out)", log->left_out);
	log->left_out = 0;
}

void stderr_log_read(struct stderr_log *log, int64_t now)
{
	char data[16384];
	ssize_t got = read(log->fd, data, sizeof(data));

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		close_fd(&log->fd);
		return;
	}
	new_second(log, now);
	for (ssize_t i = 0; i < got; i++) {
		if (data[i] == '\n' || log->used == sizeof(log->line))
			print_line(log);
		if (data[i] != '\n')
			log->line[log->used++] = data[i];
	}
}

struct stderr_log *stderr_log_free(struct stderr_log *log)
{
	if (!log)
		return NULL;
	print_line(log);
	if (log->left_out)
		log_warning("kernel: (%zu bytes of its standard error left out)", log->left_out);
	close_fd(&log->fd);
	free(log);
	return NULL;
}
