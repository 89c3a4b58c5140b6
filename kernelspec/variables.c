#include "kernelspec/variables.h"

#include <errno.h>
#include <string.h>

#include "kernelspec/habits.h"
#include "proxy/outputs_setting.h"
#include "sandbox/plots.h"

#define SYSTEM_PATH "/usr/local/bin:/usr/bin:/bin"

/* A later setting replaces an earlier one of the same name: which of two counts differs by program.
 */
int variables_set(struct spec *spec, const char *assignment)
{
	size_t name = (size_t)(strchr(assignment, '=') - assignment) + 1;

	for (size_t i = 0; i < spec->envc; i++) {
		if (strncmp(spec->env[i], assignment, name) == 0) {
			char *copy = strdup(assignment);

			if (!copy)
				return -ENOMEM;
			free(spec->env[i]);
			spec->env[i] = copy;
			return 0;
		}
	}
	return spec_add_env(spec, assignment);
}

static int add(void *arg, const char *name, const char *value)
{
	cleanup(free_ptr) char *text = format_string("%s=%s", name, value);

	return text ? variables_set(arg, text) : -ENOMEM;
}

/* The interpreter's own programs first, then the system's. */
static char *search_path(const char *executable)
{
	const char *slash = strrchr(executable, '/');

	return format_string("%.*s:" SYSTEM_PATH, (int)(slash - executable), executable);
}

int variables_fill(struct spec *spec, const struct policy *policy, const char *executable)
{
	cleanup(free_ptr) char *path = search_path(executable);
	int r = path ? 0 : -ENOMEM;
	const char *const fixed[][2] = {
		{"PATH", path},
		{"HOME", INSIDE_HOME},
		{"USER", INSIDE_USER},
		{"LOGNAME", INSIDE_USER},
		{"SHELL", "/bin/sh"},
		{"CELLWALL", CELLWALL_VERSION},
		{PLOTS_VARIABLE, outputs_mode_name(policy->outputs.mode)},
		{"PYTHONNOUSERSITE", "1"},
	};

	for (char **name = policy->env_keep; r == 0 && *name; name++) {
		const char *value = getenv(*name);

		/* ipykernel ends at once when its parent's number means nothing to it. */
		if (value && strcmp(*name, "JPY_PARENT_PID") != 0)
			r = add(spec, *name, value);
	}
	for (size_t i = 0; r == 0 && i < sizeof(fixed) / sizeof(fixed[0]); i++)
		r = add(spec, fixed[i][0], fixed[i][1]);
	if (r == 0)
		r = habits_variables(policy, spec->history != NULL, add, spec);
	for (char **set = policy->env_set; r == 0 && *set; set++)
		r = variables_set(spec, *set);
	return r;
}
