/*
 * eventlog: the server's log, one line per event: "event=NAME key=value …" after log.h's prefix, or
 * one JSON object.
 *
 * In: a name, and a format of pairs, "key=%s other=%u third=word": words of ours, and one
 * conversion of %s, %d, %u or %zu each. Values may be foreign text: they are escaped (base.h),
 * quoted where they have to be, and cannot become a pair of their own. JSON has "time" (UTC),
 * "level", "event" and the keys, all values as strings but those of %d, %u and %zu. A line is at
 * most PIPE_BUF; a value that does not fit is cut. Never fails, see log.h.
 */
#ifndef WEB_EVENTLOG_H
#define WEB_EVENTLOG_H

#include <stdbool.h>
#include <stddef.h>

#include "sandbox/log.h"

void eventlog_as_json(void);
void eventlog_line(enum log_level level, const char *event, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* What a kernel's process wrote on stderr: as it is, or an event for each of its lines. */
void eventlog_output(const char *kernel, const char *text, size_t size);

#define event_error(...)   eventlog_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define event_warning(...) eventlog_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define event_info(...)	   eventlog_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define event_debug(...)   eventlog_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
