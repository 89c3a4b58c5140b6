/* Any bytes as what a kernel lets the supervisor read of an attempt: the line in the notebook is
 * one line of text, and bounded. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/attempts.h"
#include "sandbox/attempt.h"
#include "sandbox/log.h"

static void check_line(char *line)
{
	if (!line)
		return;
	if (strncmp(line, "blocked: ", 9) != 0 || strlen(line) > 2048)
		__builtin_trap();
	for (const unsigned char *at = (unsigned char *)line; *at; at++) {
		if (*at < 0x20 || *at == 0x7f)
			__builtin_trap();
	}
	free(line);
}

static void say(const char *program, const struct attempt_hook *hook)
{
	struct attempts attempts = {0};
	const struct status status = {
		.word = "attempt",
		.field = {program, "2", hook->what, hook->target, hook->who, hook->where},
		.fields = 6,
	};

	check_line(attempts_note(&attempts, NULL, &status));
	if (attempts_note(&attempts, NULL, &status))
		__builtin_trap();
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	log_setup("fuzz", LOG_LEVEL_ERROR);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size < ATTEMPT_HOOK_MAX ? size : ATTEMPT_HOOK_MAX);
	char *program = text ? strdup(text) : NULL;
	char target[ATTEMPT_TARGET_MAX], inside[16];
	struct attempt_hook hook;

	if (!program) {
		free(text);
		return 0;
	}
	if (attempt_address(data, size, target))
		say("python", &(struct attempt_hook){"connect", target, "", ""});
	if (attempt_process(program, inside) < 0 || strspn(inside, "0123456789") != strlen(inside))
		__builtin_trap();
	if (attempt_setuid(program))
		say(program, &(struct attempt_hook){"exec", program, "", ""});
	if (attempt_hook(text, &hook))
		say(program, &hook);
	free(text);
	free(program);
	return 0;
}
