#include "kernelspec/staged.h"

#include <errno.h>
#include <string.h>

#include "kernelspec/inputs.h"
#include "kernelspec/paths.h"
#include "kernelspec/prefix.h"
#include "proxy/limits.h"
#include "sandbox/staging.h"

#define SHOWN 200 /* bytes of a path in a notice */

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

static void say(const struct staged *staged, const char *why)
{
	staged->notice(staged->arg, format_string("not staged: %s", why));
}

/* ---- where staging is ---- */

void staged_places_done(struct staged_places *places)
{
	free(places->in);
	free(places->out);
	*places = (struct staged_places){0};
}

/* A link named `name` led to `real`, out of the folder. */
static int check_agreed(const char *folder, const char *name, const char *real, struct err *err)
{
	struct inputs inputs = {0};
	bool agreed = false;
	char shown[SHOWN];
	int r = inputs_read(folder, &inputs, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < inputs.count; i++)
		agreed = agreed ||
			 (!inputs.items[i].source && strcmp(inputs.items[i].name, name) == 0 &&
			  strcmp(inputs.items[i].real, real) == 0);
	inputs_done(&inputs);
	if (agreed)
		return 0;
	return err_set(err, -ESTALE,
		       "%s leads out of the notebook's folder, to %s: if that is meant, run there: "
		       "cellwall stage add %s",
		       name, escape_string(shown, sizeof(shown), real), name);
}

/* TOP/`part`, links resolved; NULL when it is not there. */
static int find_part(const char *folder, const char *top, const char *part, char **ret_real,
		     struct err *err)
{
	cleanup(free_ptr) char *path = path_join(top, part), *real = NULL;
	cleanup(free_ptr) char *name = format_string("staging/%s", part);
	char shown[SHOWN];
	int r;

	if (!path || !name)
		return no_memory(err);
	real = realpath(path, NULL);
	if (!real && errno != ENOENT)
		return err_errno(err, "%s", escape_string(shown, sizeof(shown), path));
	if (real && !paths_within(real, top) && !paths_within(real, folder)) {
		r = check_agreed(folder, name, real, err);
		if (r < 0)
			return r;
	}
	*ret_real = steal_ptr(&real);
	return 0;
}

int staged_find(const char *folder, const char *option, struct staged_places *ret_places,
		struct err *err)
{
	cleanup(free_ptr) char *stage = NULL, *top = NULL;
	struct staged_places places = {0};
	char shown[SHOWN];
	int r = 0;

	if (!option)
		option = "staging";
	stage = option[0] == '/' ? strdup(option) : path_join(folder, option);
	top = stage ? realpath(stage, NULL) : NULL;
	if (stage && !top && errno == ENOENT)
		top = strdup(stage);
	if (!stage)
		return no_memory(err);
	if (!top)
		return err_errno(err, "%s", escape_string(shown, sizeof(shown), stage));
	/* What --stage names was meant. */
	if (strcmp(option, "staging") == 0 && !paths_within(top, folder))
		r = check_agreed(folder, "staging", top, err);
	if (r == 0)
		r = find_part(folder, top, "in", &places.in, err);
	if (r == 0)
		r = find_part(folder, top, "out", &places.out, err);
	if (r == 0 && !places.out) {
		places.out = path_join(top, "out");
		r = places.out ? 0 : no_memory(err);
	}
	if (r < 0) {
		staged_places_done(&places);
		return r;
	}
	*ret_places = places;
	return 0;
}

/* ---- one of them ---- */

enum meeting { APART, COVERED, CLASH };

/*
 * How a new place meets one that is taken. The same files at the same place are no matter: "data"
 * and "data/2026". Others would be mounted in a read-only tree, which has no place for them, or
 * over one.
 */
static enum meeting meet(const struct spec_bind *taken, const char *real, const char *target)
{
	const char *upper = taken->target, *lower = target;
	const char *upper_source = taken->source, *lower_source = real;
	bool below = paths_within(target, taken->target);

	if (!below && !paths_within(taken->target, target))
		return APART;
	if (!below) {
		upper = target;
		upper_source = real;
		lower = taken->target;
		lower_source = taken->source;
	}
	if (paths_within(lower_source, upper_source) &&
	    strcmp(lower_source + strlen(upper_source), lower + strlen(upper)) == 0)
		return below ? COVERED : APART;
	return CLASH;
}

/* `real` at /work/`name`. Returns 0, or -EEXIST with words when the place is taken. */
static int place(const struct staged *staged, const char *real, const char *name, bool required,
		 struct err *err)
{
	cleanup(free_ptr) char *target = path_join(INSIDE_WORK, name);
	struct spec *spec = staged->spec;
	char shown[SHOWN], other[SHOWN];

	if (!target)
		return no_memory(err);
	for (size_t i = 0; i < spec->stage_count; i++) {
		const struct spec_bind *taken = &spec->stages[i];
		enum meeting meeting = meet(taken, real, target);

		if (meeting == COVERED)
			return 0;
		if (meeting == CLASH)
			return err_set(err, -EEXIST, "%s: its place is that of %s",
				       escape_string(shown, sizeof(shown), name),
				       escape_string(other, sizeof(other), taken->source));
	}
	return spec_add_stage(spec, real, target, required) < 0 ? no_memory(err) : 0;
}

/* ---- staging/in and the policy ---- */

static int stage_in(const struct staged *staged, struct err *err)
{
	const char *in = staged->places->in;
	char shown[SHOWN];
	int r;

	if (!in)
		return 0;
	r = inputs_check(staged->folder, in, in, false, err);
	if (r == 0)
		r = staging_check_input(in, STAGE_ENTRIES_MAX, err);
	if (r < 0)
		return err_wrap(err, "cannot stage %s", escape_string(shown, sizeof(shown), in));
	return place(staged, in, "staging/in", true, err);
}

/* A path relative to the folder, or absolute. */
static char *in_folder(const struct staged *staged, const char *path)
{
	return path[0] == '/' ? strdup(path) : path_join(staged->folder, path);
}

static int policy_input(const struct staged *staged, const struct policy_input *input,
			struct err *err)
{
	cleanup(free_ptr) char *source = in_folder(staged, input->path), *real = NULL;
	char shown[SHOWN];
	int r = 0;

	if (!source)
		return no_memory(err);
	escape_string(shown, sizeof(shown), source);
	real = realpath(source, NULL);
	if (!real)
		r = err_set(err, -errno, "the policy stages %s: %s", shown,
			    errno == ENOENT ? "not there" : strerrordesc_np(errno));
	if (r == 0)
		r = inputs_check(staged->folder, real, source, input->path[0] != '/', err);
	if (r == 0) {
		/* Not a matter of what is missing: somebody put it there. */
		r = staging_check_input(real, STAGE_ENTRIES_MAX, err);
		if (r == -EINVAL)
			return err_wrap(err, "cannot stage %s", shown);
	}
	if (r == 0)
		r = place(staged, real, input->name, input->required, err);
	if (r == 0 || r == -ENOMEM)
		return r;
	if (input->required)
		return err_wrap(err, "a required input");
	say(staged, err->text);
	return 0;
}

/* ---- the record ---- */

/* Does the policy let this be added? The links beside the notebook count as beside it. */
static bool may_add(const struct staged *staged, const struct input *input, const char *real)
{
	for (char **entry = staged->policy->may_add; *entry; entry++) {
		cleanup(free_ptr) char *tree = NULL;

		if (strcmp(*entry, ".") == 0) {
			if (!input->source || paths_within(real, staged->folder))
				return true;
			continue;
		}
		tree = paths_real(*entry);
		if (tree && paths_within(real, tree))
			return true;
	}
	return false;
}

static int recorded(const struct staged *staged, const struct input *input, struct err *err)
{
	cleanup(free_ptr) char *real = NULL;
	char shown[SHOWN];
	int r = inputs_resolve(staged->folder, input, &real, err);

	escape_string(shown, sizeof(shown), input->name);
	if (r == 0 && !may_add(staged, input, real))
		r = err_set(err, -EACCES, "%s: the policy (stage.may_add) does not let it be added",
			    shown);
	if (r == 0) {
		r = staging_check_input(real, STAGE_ENTRIES_MAX, err);
		if (r == -EINVAL)
			return err_wrap(err, "cannot stage %s (cellwall stage drop %s)", shown,
					shown);
	}
	if (r == 0)
		r = place(staged, real, input->name, false, err);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		say(staged, err->text);
	return 0;
}

struct entries {
	const struct staged *staged;
	const struct inputs *inputs;
	struct err *err;
};

/* One entry beside the notebook. What may not be staged is left out: nobody named it. */
static int one_entry(const struct staged *staged, const char *name, struct err *err)
{
	/* Without a place that was agreed to a link may not lead out of the folder: a cloned
	 * project would choose it. */
	struct input input = {.name = strdup(name), .real = strdup("")};
	cleanup(free_ptr) char *real = NULL;
	char shown[SHOWN], place_shown[SHOWN];
	int r = input.name && input.real ? 0 : no_memory(err);

	escape_string(shown, sizeof(shown), name);
	if (r == 0)
		r = inputs_resolve(staged->folder, &input, &real, err);
	if (r == -ESTALE) {
		cleanup(free_ptr) char *link = path_join(staged->folder, name);
		cleanup(free_ptr) char *to = link ? realpath(link, NULL) : NULL;

		err_set(err, r,
			"%s leads out of the folder, to %s: \".\" does not follow it, cellwall "
			"stage add %s does",
			shown, escape_string(place_shown, sizeof(place_shown), to ? to : "?"),
			shown);
	}
	if (r == 0)
		r = inputs_check_name(name, err);
	if (r == 0)
		r = staging_check_input(real, STAGE_ENTRIES_MAX, err);
	if (r == 0)
		r = place(staged, real, name, false, err);
	input_done(&input);
	/* A name that the policy or the record stages from elsewhere is that one. */
	if (r < 0 && r != -ENOMEM && r != -EEXIST)
		say(staged, err->text);
	return r == -ENOMEM ? r : 0;
}

static int folder_entry(void *arg, const char *name)
{
	const struct entries *entries = arg;
	const struct spec *spec = entries->staged->spec;

	for (size_t i = 0; i < entries->inputs->count; i++)
		if (strcmp(entries->inputs->items[i].name, name) == 0)
			return 0; /* named too: seen to already */
	for (size_t i = 0; i < spec->stage_count; i++)
		if (strcmp(spec->stages[i].target + sizeof(INSIDE_WORK), name) == 0)
			return 0; /* by the policy */
	return one_entry(entries->staged, name, entries->err);
}

static int whole_folder(const struct staged *staged, const struct inputs *inputs, struct err *err)
{
	struct entries entries = {.staged = staged, .inputs = inputs, .err = err};
	const struct input all = {.name = (char[]){"x"}};
	int r = 0;

	if (prefix_may_stage(staged->folder, NULL) < 0)
		r = err_set(err, -EACCES,
			    "\".\": the folder is the home, cellwall's own state or holds them");
	else if (!may_add(staged, &all, staged->folder))
		r = err_set(err, -EACCES,
			    "\".\": the policy (stage.may_add) does not let it be added");
	if (r == 0)
		r = inputs_entries(staged->folder, folder_entry, &entries, err);
	if (r == -ENOMEM)
		return r;
	if (r < 0)
		say(staged, err->text);
	return 0;
}

/* What was named goes before what "." stands for. */
static int record(const struct staged *staged, struct err *err)
{
	struct inputs inputs = {0};
	bool all = false;
	int r = inputs_read(staged->folder, &inputs, err);

	if (r < 0) {
		/* Less is visible than was meant, which is the safe side. */
		say(staged, err->text);
		return r == -ENOMEM ? r : 0;
	}
	for (size_t i = 0; r == 0 && i < inputs.count; i++) {
		const char *name = inputs.items[i].name;

		if (strcmp(name, INPUTS_ALL) == 0)
			all = true;
		else if (!inputs_is_staging(name))
			r = recorded(staged, &inputs.items[i], err);
	}
	if (r == 0 && all)
		r = whole_folder(staged, &inputs, err);
	inputs_done(&inputs);
	return r;
}

int staged_inputs(const struct staged *staged, struct err *err)
{
	int r = stage_in(staged, err);

	for (const struct policy_input *input = staged->policy->stage_in; r == 0 && input->path;
	     input++)
		r = policy_input(staged, input, err);
	return r == 0 ? record(staged, err) : r;
}

/* ---- results of earlier runs ---- */

int staged_results(const struct staged *staged, struct err *err)
{
	const char *out = staged->places->out;
	struct spec *spec = staged->spec;

	for (char **name = staged->policy->out_names; *name; name++)
		if (spec_add_out_name(spec, *name) < 0)
			return no_memory(err);
	if (!paths_is_directory(out))
		return 0;
	/* Nor may results go there. */
	if (inputs_check(staged->folder, out, out, false, err) < 0)
		return err_wrap(err, "staging/out");
	return spec_add_overlay(spec, out, INSIDE_OUT, false) < 0 ? no_memory(err) : 0;
}
