/*
 * stage_inputs: `cellwall stage add`, `list` and `drop`, on the record of inputs.h.
 */
#include <errno.h>
#include <string.h>

#include "kernelspec/inputs.h"
#include "kernelspec/paths.h"
#include "kernelspec/stage.h"
#include "proxy/limits.h"
#include "sandbox/staging.h"

static bool is_all(const struct input *input)
{
	return !input->source && strcmp(input->name, INPUTS_ALL) == 0;
}

/* ---- add ---- */

struct addition {
	const struct stage *stage;
	struct inputs inputs; /* as parsed from the words */
};

/* Everything is looked at before anything is recorded: all of it, or nothing. */
static int check_words(struct addition *addition, struct err *err)
{
	const struct stage *stage = addition->stage;

	for (size_t i = 0; i < stage->count; i++) {
		struct input input = {0};
		int r = inputs_parse(stage->folder, stage->words[i], &input, err);

		if (r == 0 && is_all(&input))
			r = inputs_entries(stage->folder, NULL, NULL, err);
		else if (r == 0)
			r = staging_check_input(input.real, STAGE_ENTRIES_MAX, err);
		if (r == 0) {
			r = inputs_put(&addition->inputs, &input);
			if (r < 0)
				err_set(err, r, "too many inputs");
		}
		input_done(&input);
		if (r < 0)
			return r;
	}
	return 0;
}

/* A place inside another's tree would be in a read-only mount that does not have it. */
static int check_places(const struct inputs *inputs, const struct input *input, struct err *err)
{
	char shown[256], other[256];

	for (size_t i = 0; i < inputs->count; i++) {
		const struct input *taken = &inputs->items[i];

		if (strcmp(taken->name, input->name) == 0 || (!taken->source && !input->source))
			continue;
		if (paths_within(input->name, taken->name) ||
		    paths_within(taken->name, input->name))
			return err_set(err, -EEXIST, "%s and %s cannot be staged into one another",
				       escape_string(shown, sizeof(shown), input->name),
				       escape_string(other, sizeof(other), taken->name));
	}
	return 0;
}

static void say_added(const struct stage *stage, const struct input *input)
{
	char name[STAGE_SHOWN], real[STAGE_SHOWN];

	escape_string(name, sizeof(name), input->name);
	escape_string(real, sizeof(real), input->real);
	if (is_all(input))
		printf("added everything beside the notebook: what is not hidden, and not "
		       "staging\n");
	else if (paths_within(input->real, stage->folder))
		printf("added %s\n", name);
	else if (input->source)
		printf("added %s from %s (outside this folder: the policy's stage.may_add must "
		       "have it)\n",
		       name, real);
	else
		printf("added %s, which leads to %s\n", name, real);
}

static int record(void *arg, struct inputs *inputs, struct err *err)
{
	struct addition *addition = arg;

	for (size_t i = 0; i < addition->inputs.count; i++) {
		struct input *input = &addition->inputs.items[i];
		struct input copy = {.name = strdup(input->name),
				     .source = input->source ? strdup(input->source) : NULL,
				     .real = strdup(input->real)};
		int r = check_places(inputs, input, err);

		if (r == 0 && (!copy.name || !copy.real || (input->source && !copy.source)))
			r = err_set(err, -ENOMEM, "out of memory");
		if (r == 0) {
			r = inputs_put(inputs, &copy);
			if (r < 0)
				err_set(err, r, "more than %d inputs in one folder", INPUTS_MAX);
		}
		input_done(&copy);
		if (r < 0)
			return r;
	}
	return 1;
}

int stage_add(const struct stage *stage)
{
	struct addition addition = {.stage = stage};
	struct err err;
	int r = check_words(&addition, &err);

	if (r == 0)
		r = inputs_change(stage->folder, record, &addition, &err);
	for (size_t i = 0; r > 0 && i < addition.inputs.count; i++)
		say_added(stage, &addition.inputs.items[i]);
	inputs_done(&addition.inputs);
	if (r < 0)
		return stage_fail("%s", err.text);
	printf("kernels that are started in this folder from now on have it, read-only\n");
	return 0;
}

/* ---- list ---- */

/* What would keep it from being staged; "" when nothing does. */
static void state_of(const char *folder, const struct input *input, char out[512])
{
	cleanup(free_ptr) char *real = NULL;
	struct err err;

	out[0] = '\0';
	if (!is_all(input) && inputs_resolve(folder, input, &real, &err) < 0)
		(void)snprintf(out, 512, "%s", err.text);
}

static json_t *inputs_json(const char *folder, const struct inputs *inputs)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < inputs->count; i++) {
		const struct input *input = &inputs->items[i];
		json_t *object = json_object();
		char state[512];

		state_of(folder, input, state);
		if (!object || stage_json_path(object, "name", input->name) < 0 ||
		    stage_json_path(object, "path", input->real) < 0 ||
		    json_object_set_new(object, "ok", json_boolean(!*state)) < 0 ||
		    json_object_set_new(object, "state", json_string(*state ? state : "ok")) < 0 ||
		    json_array_append(list, object) < 0) {
			json_decref(object);
			json_decref(list);
			return NULL;
		}
		json_decref(object);
	}
	return list;
}

static void print_inputs(const char *folder, const struct inputs *inputs, const char *indent)
{
	for (size_t i = 0; i < inputs->count; i++) {
		const struct input *input = &inputs->items[i];
		char name[STAGE_SHOWN], real[STAGE_SHOWN], state[512];

		escape_string(name, sizeof(name), input->name);
		escape_string(real, sizeof(real), input->real);
		state_of(folder, input, state);
		printf("%s%s", indent, name);
		if (is_all(input))
			printf("  (everything beside the notebook but staging and hidden names)");
		else if (!paths_within(input->real, folder))
			printf("  (from %s)", real);
		if (*state)
			printf("  NOT STAGED: %s", state);
		putchar('\n');
	}
}

struct listing {
	json_t *list; /* NULL: as text */
	size_t folders;
	bool failed;
};

static void list_folder(void *arg, const char *folder, const struct inputs *inputs)
{
	struct listing *listing = arg;
	const bool gone = !paths_is_directory(folder);
	char shown[STAGE_SHOWN];
	json_t *object;

	listing->folders++;
	if (!listing->list) {
		printf("%s%s\n", escape_string(shown, sizeof(shown), folder),
		       gone ? "  (not there any more: cellwall stage drop --gone)" : "");
		print_inputs(folder, inputs, "  ");
		return;
	}
	object = json_pack("{s:b, s:o}", "gone", gone, "inputs", inputs_json(folder, inputs));
	if (!object || stage_json_path(object, "folder", folder) < 0)
		listing->failed = true;
	if (json_array_append_new(listing->list, object) < 0)
		listing->failed = true;
}

static int list_all(const struct stage *stage)
{
	const bool json = stage->options & STAGE_JSON;
	struct listing listing = {.list = json ? json_array() : NULL};
	struct err err;
	int r, code = 0;

	if (json && !listing.list)
		return stage_fail("out of memory");
	r = inputs_folders(list_folder, &listing, &err);
	if (json && listing.failed) {
		json_decref(listing.list);
		listing.list = NULL;
	}
	if (json)
		code = stage_json_print(listing.list);
	else if (listing.folders == 0)
		printf("nothing was added in any folder\n");
	return r < 0 ? stage_fail("%s", err.text) : code;
}

int stage_list(const struct stage *stage)
{
	struct inputs inputs = {0};
	struct err err;
	int code = 0;

	if (stage->options & STAGE_ALL)
		return list_all(stage);
	if (inputs_read(stage->folder, &inputs, &err) < 0)
		return stage_fail("%s", err.text);
	if (stage->options & STAGE_JSON)
		code = stage_json_print(inputs_json(stage->folder, &inputs));
	else if (inputs.count == 0)
		printf("nothing was added for this folder: cellwall stage add PATH\n");
	else
		print_inputs(stage->folder, &inputs, "");
	inputs_done(&inputs);
	return code;
}

/* ---- drop ---- */

/* The record's name for a word: as listed, or a path that leads to it. */
static const char *name_of(const struct stage *stage, const struct inputs *inputs, const char *word)
{
	cleanup(free_ptr) char *path = NULL;

	for (size_t i = 0; i < inputs->count; i++)
		if (strcmp(inputs->items[i].name, word) == 0)
			return inputs->items[i].name;
	path = paths_absolute(word);
	for (size_t i = 0; path && i < inputs->count; i++) {
		const struct input *input = &inputs->items[i];
		cleanup(free_ptr) char *own =
			input->source ? strdup(input->source)
				      : path_join(stage->folder, is_all(input) ? "" : input->name);

		if (own &&
		    (strcmp(own, path) == 0 || (is_all(input) && strcmp(path, stage->folder) == 0)))
			return input->name;
	}
	return NULL;
}

static int forget(void *arg, struct inputs *inputs, struct err *err)
{
	const struct stage *stage = arg;
	char shown[256];

	if (stage->options & STAGE_ALL) {
		while (inputs->count > 0)
			input_done(&inputs->items[--inputs->count]);
		return 1;
	}
	for (size_t i = 0; i < stage->count; i++) {
		const char *name = name_of(stage, inputs, stage->words[i]);

		if (!name)
			return err_set(err, -ENOENT,
				       "%s was not added for this folder: cellwall stage list",
				       escape_string(shown, sizeof(shown), stage->words[i]));
		(void)inputs_remove(inputs, name);
	}
	return 1;
}

struct gone {
	struct paths_list folders;
	int code;
};

static void find_gone(void *arg, const char *folder, const struct inputs *inputs)
{
	struct gone *gone = arg;

	(void)inputs;
	if (!paths_is_directory(folder) && paths_list_add(&gone->folders, folder) < 0)
		gone->code = 1;
}

static int drop_gone(struct stage *all)
{
	struct gone gone = {0};
	char shown[STAGE_SHOWN];
	struct err err;
	int r = inputs_folders(find_gone, &gone, &err);

	for (size_t i = 0; r == 0 && i < gone.folders.count; i++) {
		r = inputs_change(gone.folders.items[i], forget, all, &err);
		if (r > 0) {
			printf("forgot %s\n",
			       escape_string(shown, sizeof(shown), gone.folders.items[i]));
			r = 0;
		}
	}
	if (r == 0 && gone.folders.count == 0)
		printf("no folder with a record is gone\n");
	paths_list_done(&gone.folders);
	return r < 0 ? stage_fail("%s", err.text) : gone.code;
}

int stage_drop(const struct stage *stage)
{
	struct stage copy = *stage;
	struct err err;

	if (stage->options & STAGE_GONE) {
		copy.options = STAGE_ALL;
		return drop_gone(&copy);
	}
	if (inputs_change(stage->folder, forget, &copy, &err) < 0)
		return stage_fail("%s", err.text);
	printf("kernels that run now keep it until they end\n");
	return 0;
}
