/*
 * actions: the first word of a verb that does several things (`cellwall stage add`), from a table.
 * What goes together is checked here; argp_error(3) says what does not, and ends the program.
 */
#ifndef KERNELSPEC_ACTIONS_H
#define KERNELSPEC_ACTIONS_H

#include <argp.h>
#include <stddef.h>

struct action {
	const char *name;
	size_t least, most; /* words after it */
	const char *needs;  /* what is missing below the least: "a FILE" */
	unsigned options;   /* of the verb's own enum: those it takes */
	unsigned instead;   /* of these one stands for the words */
};

/* The place of `name` in the table, which ends with a NULL name; or a line with all of them. */
size_t actions_find(const struct action *actions, const char *name, struct argp_state *state);
/* Do the `options` and the `count` of words go with it? NULL: no word was given. */
void actions_check(const struct action *actions, const struct action *chosen, unsigned options,
		   size_t count, struct argp_state *state);

#endif
