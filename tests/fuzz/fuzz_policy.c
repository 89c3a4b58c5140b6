/* Any bytes as a policy: what is taken is shown as a policy that shows the same, what is refused
 * says where. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/policy.h"

static void check_path(const char *path)
{
	if (*path == '\0' || strstr(path, "//") || strcmp(path, "/") == 0 ||
	    strcmp(path, "..") == 0 || strncmp(path, "../", 3) == 0 || strstr(path, "/../") ||
	    (strlen(path) >= 3 && strcmp(path + strlen(path) - 3, "/..") == 0))
		__builtin_trap();
}

/* Every path of the stage section is clean, whatever way it was written. */
static void check_paths(const struct policy *policy)
{
	for (const struct policy_input *input = policy->stage_in; input->path; input++) {
		check_path(input->path);
		check_path(input->name);
		if (input->name[0] == '/')
			__builtin_trap();
	}
	for (char **path = policy->may_add; *path; path++)
		if (strcmp(*path, ".") != 0)
			check_path(*path);
	for (char **path = policy->startup; *path; path++)
		check_path(*path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy policy, again;
	struct err err;
	char *first, *second;

	if (policy_parse("fuzz", (const char *)data, size, &policy, &err) < 0) {
		if (strncmp(err.text, "fuzz:", 5) != 0 || strchr(err.text, '\n'))
			__builtin_trap();
		return 0;
	}
	check_paths(&policy);
	first = policy_show(&policy);
	if (!first)
		__builtin_trap();
	/* What is shown is indented, so a file near the limit may become longer than a file may be.
	 */
	if (strlen(first) <= POLICY_FILE_MAX) {
		if (policy_parse("shown", first, strlen(first), &again, &err) < 0)
			__builtin_trap();
		second = policy_show(&again);
		if (!second || strcmp(first, second) != 0)
			__builtin_trap();
		policy_done(&again);
		free(second);
	}
	policy_done(&policy);
	free(first);
	return 0;
}
