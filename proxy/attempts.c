#include "proxy/attempts.h"

#include <string.h>

#include "sandbox/log.h"

static const struct {
	enum tally_kind kind;
	const char *words;
} tried[] = {
	{TALLY_CONNECT, "connect to"},	     {TALLY_SEND, "send to"},
	{TALLY_BIND, "listen on"},	     {TALLY_SOCKET, "open a socket"},
	{TALLY_CALL, "use the system call"}, {TALLY_EXEC, "run the setuid program"},
	{TALLY_LOOKUP, "look up the name"},  {TALLY_READ, "read"},
};

static const char *words_for(const char *what, enum tally_kind *ret_kind)
{
	for (size_t i = 0; i < sizeof(tried) / sizeof(tried[0]); i++) {
		if (strcmp(what, tally_kinds[tried[i].kind]) == 0) {
			*ret_kind = tried[i].kind;
			return tried[i].words;
		}
	}
	return NULL;
}

/* FNV-1a: two lines that collide cost one of them its place in the notebook, not in the log. */
static uint64_t hash(const char *text)
{
	uint64_t value = 0xcbf29ce484222325u;

	for (; *text; text++)
		value = (value ^ (unsigned char)*text) * 0x100000001b3u;
	return value;
}

/* The first time: remembers it. */
static bool is_new(struct attempts *attempts, const char *text)
{
	const uint64_t value = hash(text);

	for (size_t i = 0; i < attempts->count && i < ATTEMPTS_MAX; i++) {
		if (attempts->seen[i] == value)
			return false;
	}
	if (attempts->count < ATTEMPTS_MAX)
		attempts->seen[attempts->count] = value;
	return true;
}

static char *note_attempt(struct attempts *attempts, struct audit *audit,
			  const struct status *status)
{
	const char *const who = *status->field[4] ? status->field[4] : status->field[0];
	enum tally_kind kind;
	const char *const words = words_for(status->field[2], &kind);
	char module[128], program[64], target[768], where[768];
	cleanup(free_ptr) char *text = NULL;
	cleanup(free_ptr) char *whole = NULL;

	if (!words)
		return NULL;
	tally_blocked(attempts->tally, kind, 1);
	escape_string(module, sizeof(module), *who ? who : "a program");
	escape_string(program, sizeof(program), status->field[0]);
	escape_string(target, sizeof(target), status->field[3]);
	escape_string(where, sizeof(where), status->field[5]);
	text = format_string("blocked: `%s` tried to %s %s", module, words, target);
	if (text)
		whole = format_string("%s (%s, process %s%s%s)", text, program, status->field[1],
				      *where ? ", " : "", where);
	if (!whole)
		return NULL;
	log_warning("%s", whole);
	audit_note(audit, "attempt", NULL, NULL, 0, NULL, whole);
	if (attempts->count > ATTEMPTS_MAX || !is_new(attempts, text))
		return NULL;
	if (attempts->count++ < ATTEMPTS_MAX)
		return steal_ptr(&text);
	return format_string("blocked: more than %d different attempts; the log names them",
			     ATTEMPTS_MAX);
}

char *attempts_note(struct attempts *attempts, struct audit *audit, const struct status *status)
{
	if (strcmp(status->word, "attempt") == 0 && status->fields == 6)
		return note_attempt(attempts, audit, status);
	if (strcmp(status->word, "untold") == 0 && status->fields == 1) {
		cleanup(free_ptr) char *text = format_string(
			"blocked: %s more attempts, too many to list", status->field[0]);
		uint64_t count;

		if (parse_u64(status->field[0], UINT32_MAX, &count) == 0)
			tally_blocked(attempts->tally, TALLY_UNLISTED, count);
		if (text)
			log_warning("%s", text);
		if (text)
			audit_note(audit, "attempt", NULL, NULL, 0, NULL, text);
	}
	return NULL;
}
