#include "kernelspec/actions.h"

#include <string.h>

#include "sandbox/base.h"

/* "add, list, drop"; caller frees. */
static char *names_of(const struct action *actions)
{
	char *out = strdup("");

	for (size_t i = 0; out && actions[i].name; i++) {
		char *more = format_string("%s%s%s", out, i > 0 ? ", " : "", actions[i].name);

		free(out);
		out = more;
	}
	return out;
}

static void complain_of_word(const struct action *actions, struct argp_state *state)
{
	cleanup(free_ptr) char *names = names_of(actions);

	argp_error(state, "one of %s is expected", names ? names : "the words of --help");
}

size_t actions_find(const struct action *actions, const char *name, struct argp_state *state)
{
	size_t i = 0;

	while (actions[i].name && strcmp(actions[i].name, name) != 0)
		i++;
	if (!actions[i].name)
		complain_of_word(actions, state);
	return i;
}

void actions_check(const struct action *actions, const struct action *chosen, unsigned options,
		   size_t count, struct argp_state *state)
{
	const bool spared = chosen && (options & chosen->instead);

	if (!chosen)
		complain_of_word(actions, state);
	else if (options & ~chosen->options)
		argp_error(state, "%s does not take one of the options given", chosen->name);
	else if (count < chosen->least && !spared)
		argp_error(state, "%s needs %s", chosen->name, chosen->needs);
	else if (count > chosen->most)
		argp_error(state, "too many words for %s", chosen->name);
	else if (count > 0 && spared)
		argp_error(state, "%s: %s, not both", chosen->name, chosen->needs);
}
