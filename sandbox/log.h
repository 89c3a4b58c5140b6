/*
 * log: one line per event on stderr, "cellwall[PID]: message", for a person who reads the server's
 * terminal.
 *
 * When stderr is connected to a journal (JOURNAL_STREAM, sd-daemon(3)) the line starts with "<N>".
 * Foreign text never goes in raw: pass it through escape_text first. Never blocks on a slow reader
 * longer than one write(2) does; never fails. Only main, session and supervisor log; leaf rooms
 * return errors.
 */
#ifndef SANDBOX_LOG_H
#define SANDBOX_LOG_H

#include <stdarg.h>
#include <stdbool.h>

enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7
};

/* Name before the colon, and the most detailed level that is printed (default: warning). */
void log_setup(const char *program, enum log_level most);
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For a room with a form of its own: is this level printed; a line as it is, without a prefix. */
bool log_wanted(enum log_level level);
void log_bare(enum log_level level, const char *line);

#define log_error(...)	 log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)	 log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)	 log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
