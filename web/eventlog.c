#include "web/eventlog.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sandbox/base.h"

#define LINE_SIZE  1900 /* with its prefix less than what log.h lets through */
#define VALUE_SIZE 768
#define TAIL	   8 /* an escape, a quote and a brace always fit */

static bool json;

struct line {
	char text[LINE_SIZE];
	size_t size;
};

void eventlog_as_json(void)
{
	json = true;
}

/* Whole, or not at all. */
static void put(struct line *line, const char *text)
{
	const size_t size = strlen(text);

	if (line->size + size >= LINE_SIZE - TAIL)
		return;
	memcpy(line->text + line->size, text, size);
	line->size += size;
}

/* Between quotes: text without control characters, cut between two characters. */
static void put_quoted(struct line *line, const char *text)
{
	line->text[line->size++] = '"';
	for (; *text; text++) {
		const bool begins = ((unsigned char)*text & 0xc0) != 0x80;

		if (begins && line->size >= LINE_SIZE - TAIL - 8)
			break;
		if (*text == '"' || (json && *text == '\\'))
			line->text[line->size++] = '\\';
		line->text[line->size++] = *text;
	}
	line->text[line->size++] = '"';
}

static bool plain(const char *value)
{
	return *value && value[strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					     "0123456789-_.:/@,+*[]%~")] == '\0';
}

static void put_pair(struct line *line, const char *key, size_t key_size, const char *value,
		     bool number)
{
	char head[64];

	(void)snprintf(head, sizeof(head), json ? "%s\"%.*s\":" : "%s%.*s=",
		       line->size == 0 ? (json ? "{" : "") : (json ? "," : " "), (int)key_size,
		       key);
	if (line->size + strlen(head) >= LINE_SIZE - 5 * TAIL)
		return;
	put(line, head);
	if (number || (!json && plain(value)))
		put(line, value);
	else
		put_quoted(line, value);
}

static void put_text(struct line *line, const char *key, const char *value)
{
	char escaped[VALUE_SIZE];

	if (json)
		escape_line(escaped, sizeof(escaped), value);
	else
		escape_string(escaped, sizeof(escaped), value);
	put_pair(line, key, strcspn(key, "="), escaped, false);
}

static void put_time(struct line *line, enum log_level level)
{
	struct timespec now;
	struct tm utc;
	char text[64], whole[32];

	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (!gmtime_r(&now.tv_sec, &utc))
		utc = (struct tm){0};
	(void)strftime(whole, sizeof(whole), "%Y-%m-%dT%H:%M:%S", &utc);
	(void)snprintf(text, sizeof(text), "%s.%03ldZ", whole, now.tv_nsec / 1000000);
	put_text(line, "time", text);
	put_text(line, "level",
		 level == LOG_LEVEL_ERROR     ? "error"
		 : level == LOG_LEVEL_WARNING ? "warning"
		 : level == LOG_LEVEL_INFO    ? "info"
					      : "debug");
}

static void put_number(struct line *line, const char *key, const char *kind, va_list *values)
{
	char number[32];

	if (*kind == 'd')
		(void)snprintf(number, sizeof(number), "%d", va_arg(*values, int));
	else if (*kind == 'u')
		(void)snprintf(number, sizeof(number), "%u", va_arg(*values, unsigned));
	else
		(void)snprintf(number, sizeof(number), "%zu", va_arg(*values, size_t));
	put_pair(line, key, strcspn(key, "="), number, true);
}

static void put_values(struct line *line, const char *format, va_list *values)
{
	char word[32];

	for (const char *key = format, *value; (value = strchr(key, '=')); key = value) {
		size_t size = strcspn(++value, " ");

		if (*value != '%') {
			escape_text(word, sizeof(word), value, size);
			put_text(line, key, word);
		} else if (value[1] == 's') {
			const char *text = va_arg(*values, const char *);

			put_text(line, key, text ? text : "");
		} else {
			put_number(line, key, value + 1, values);
		}
		value += size;
		value += strspn(value, " ");
	}
}

void eventlog_line(enum log_level level, const char *event, const char *format, ...)
{
	struct line line = {.size = 0};
	const int saved = errno;
	va_list values;

	if (!log_wanted(level))
		return;
	if (json)
		put_time(&line, level);
	put_text(&line, "event", event);
	va_start(values, format);
	put_values(&line, format, &values);
	va_end(values);
	if (json)
		line.text[line.size++] = '}';
	line.text[line.size] = '\0';
	if (json)
		log_bare(level, line.text);
	else
		log_line(level, "%s", line.text);
	errno = saved;
}

void eventlog_output(const char *kernel, const char *text, size_t size)
{
	char line[VALUE_SIZE];

	if (!json) {
		(void)!write(STDERR_FILENO, text, size);
		return;
	}
	while (size > 0) {
		const char *end = memchr(text, '\n', size);
		size_t part = end ? (size_t)(end - text) : size;

		if (part > 0) {
			(void)snprintf(line, sizeof(line), "%.*s",
				       (int)(part < sizeof(line) ? part : sizeof(line) - 1), text);
			event_info("output", "kernel=%s text=%s", kernel, line);
		}
		part += end != NULL;
		text += part;
		size -= part;
	}
}
