#include "proxy/widgets.h"

#include <string.h>

#include "proxy/forms.h"
#include "proxy/models.h"
#include "proxy/traits.h"

#define STATES_MAX KNOWN_COMMS

static bool refuse(struct tidy *tidy, const char *what, const char *why)
{
	blocked_add(&tidy->content->blocked, what, 0, why);
	return false;
}

/* The model that a state names; 0 and a word when it is none. */
static unsigned short model_of(struct tidy *tidy, const json_t *state, const char *module_key,
			       const char *name_key)
{
	const char *module = json_string_value(json_object_get(state, module_key));
	const char *name = json_string_value(json_object_get(state, name_key));
	unsigned short model = module && name ? models_find(module, name) : 0;

	if (model == 0)
		refuse(tidy, name ? name : "widget", "its JavaScript is not of ipywidgets itself");
	return model;
}

/* Whether a buffer may be put at `path`, from its element `from` on. */
static bool path_ok(const struct model *model, const json_t *path, size_t from)
{
	const char *trait = json_string_value(json_array_get(path, from));
	size_t length = json_array_size(path) - from;
	const char *member = json_string_value(json_array_get(path, from + 2));

	if (json_array_size(path) <= from || !trait)
		return false;
	if (models_trait(model, trait) == TRAIT_BINARY)
		return length == 1;
	if (models_trait(model, trait) != TRAIT_FILES || length < 2 || length > 3 ||
	    !json_is_integer(json_array_get(path, from + 1)))
		return false;
	return length == 2 || (member && strcmp(member, "content") == 0);
}

/* One path per buffer, each to a trait that comes in a buffer. */
static bool paths_ok(struct tidy *tidy, const struct model *model, const json_t *paths)
{
	const json_t *path;
	size_t i;

	if (json_array_size(paths) != tidy->content->buffer_count ||
	    (paths && !json_is_array(paths) && !json_is_null(paths)))
		return refuse(tidy, model->name, "buffers and buffer_paths do not match");
	json_array_foreach(paths, i, path)
	{
		if (!path_ok(model, path, 0))
			return refuse(tidy, model->name, "a buffer for a trait that has none");
	}
	return true;
}

unsigned short widgets_open(struct tidy *tidy, json_t *data)
{
	static const char *const keys[] = {"state", "buffer_paths", NULL};
	json_t *state = json_object_get(data, "state");
	unsigned short number;

	number = model_of(tidy, state, "_model_module", "_model_name");
	if (number == 0 ||
	    !paths_ok(tidy, models_get(number), json_object_get(data, "buffer_paths")))
		return 0;
	tidy_keys(tidy, data, keys);
	traits_filter(tidy, models_get(number), state);
	return number;
}

/* The only messages of their own that the views of ipywidgets know. */
static bool custom_ok(struct tidy *tidy, json_t *data)
{
	static const char *const keys[] = {"method", "content", NULL};
	static const char *const wanted[] = {"do", NULL};
	json_t *content = json_object_get(data, "content");
	const char *what = json_string_value(json_object_get(content, "do"));

	if (tidy->content->buffer_count != 0 || !what ||
	    (strcmp(what, "focus") != 0 && strcmp(what, "blur") != 0))
		return refuse(tidy, "custom message", "no widget of ipywidgets reads it");
	tidy_keys(tidy, data, keys);
	tidy_keys(tidy, content, wanted);
	return true;
}

/* A model changes neither name nor module: an update that says so is refused as a whole. */
static bool same_model(struct tidy *tidy, const struct model *model, const json_t *state)
{
	const json_t *module = json_object_get(state, "_model_module");
	const json_t *name = json_object_get(state, "_model_name");

	if ((module &&
	     (!json_is_string(module) || strcmp(json_string_value(module), model->module) != 0)) ||
	    (name && (!json_is_string(name) || strcmp(json_string_value(name), model->name) != 0)))
		return refuse(tidy, model->name, "a model stays what it is");
	return true;
}

bool widgets_msg(struct tidy *tidy, const char *id, const struct known_comm *comm, json_t *data)
{
	static const char *const keys[] = {"method", "state", "buffer_paths", NULL};
	const char *method = json_string_value(json_object_get(data, "method"));
	json_t *state = json_object_get(data, "state");
	struct known_comm told = *comm;
	const struct model *model;

	if (method && strcmp(method, "custom") == 0)
		return custom_ok(tidy, data);
	if (!method || (strcmp(method, "update") != 0 && strcmp(method, "echo_update") != 0) ||
	    !json_is_object(state))
		return refuse(tidy, "comm_msg", "no method of the widgets' protocol");
	if (told.model == 0)
		told.model = model_of(tidy, state, "_model_module", "_model_name");
	model = models_get(told.model);
	if (!model || !same_model(tidy, model, state) ||
	    !paths_ok(tidy, model, json_object_get(data, "buffer_paths")))
		return false;
	if (told.model != comm->model && known_comm_set(tidy->content->known, id, &told) < 0)
		return refuse(tidy, model->name, "too many open comms");
	tidy_keys(tidy, data, keys);
	/* The front end that sent them has them; they hold what was made for it here. */
	if (strcmp(method, "echo_update") == 0)
		tidy_drop(tidy, state, "outputs");
	traits_filter(tidy, model, state);
	return true;
}

/* Whether one of all states may stay; its model is remembered. */
static bool state_known(struct tidy *tidy, const char *id, json_t *entry)
{
	struct known_comm comm = {.kind = KNOWN_WIDGET, .open = true}, before;
	bool known = known_comm_get(tidy->content->known, id, &before);

	comm.model = model_of(tidy, entry, "model_module", "model_name");
	if (comm.model == 0 || !json_is_object(json_object_get(entry, "state")))
		return false;
	if (known &&
	    (before.kind != KNOWN_WIDGET || (before.model != 0 && before.model != comm.model)))
		return refuse(tidy, id, "a model stays what it is");
	if (known && before.open && before.model == comm.model)
		return true;
	comm.by_client = known && before.by_client;
	return known_comm_set(tidy->content->known, id, &comm) == 0 ||
	       refuse(tidy, id, "too many open comms");
}

static void tidy_entry(struct tidy *tidy, const char *id, json_t *entry)
{
	static const char *const keys[] = {"model_name", "model_module", "model_module_version",
					   "state", NULL};
	json_t *state = json_object_get(entry, "state");
	struct known_comm comm;
	const struct model *model;

	known_comm_get(tidy->content->known, id, &comm);
	model = models_get(comm.model);
	if (!model)
		return;
	tidy_keys(tidy, entry, keys);
	if (!forms_version(json_object_get(entry, "model_module_version")))
		tidy_drop(tidy, entry, "model_module_version");
	traits_filter(tidy, model, state);
}

/*
 * Buffers cannot be taken out here, and the front end matches them by their order: what goes
 * nowhere gets the path of a model that there is not.
 */
static bool tidy_paths(struct tidy *tidy, const json_t *states, json_t *paths)
{
	size_t i;
	json_t *path;

	if (json_array_size(paths) != tidy->content->buffer_count || !json_is_array(paths))
		return refuse(tidy, "update_states", "buffers and buffer_paths do not match");
	json_array_foreach(paths, i, path)
	{
		const char *id = json_string_value(json_array_get(path, 0));
		struct known_comm comm = {.kind = KNOWN_NONE};

		if (id && json_object_get(states, id))
			known_comm_get(tidy->content->known, id, &comm);
		if (models_get(comm.model) && path_ok(models_get(comm.model), path, 1))
			continue;
		tidy->changed = true;
		if (json_array_set_new(paths, i, json_pack("[s]", "-")) < 0)
			tidy->failed = true;
	}
	return true;
}

bool widgets_control(struct tidy *tidy, json_t *data)
{
	static const char *const keys[] = {"method", "states", "buffer_paths", NULL};
	const char *method = json_string_value(json_object_get(data, "method"));
	json_t *states = json_object_get(data, "states");
	json_t *entry;
	const char *id;
	void *next;

	if (!method || strcmp(method, "update_states") != 0 || !json_is_object(states) ||
	    json_object_size(states) > STATES_MAX)
		return refuse(tidy, "comm_msg", "no method of the widgets' control protocol");
	tidy_keys(tidy, data, keys);
	tidy_drop(tidy, states, "-");
	/* first all, because each may name any other */
	json_object_foreach_safe(states, next, id, entry)
	{
		if (!state_known(tidy, id, entry))
			tidy_drop(tidy, states, id);
	}
	json_object_foreach(states, id, entry)
	{
		tidy_entry(tidy, id, entry);
	}
	return tidy_paths(tidy, states, json_object_get(data, "buffer_paths"));
}

bool widgets_view_ok(const struct content *content, const char *model_id)
{
	struct known_comm comm;

	known_comm_get(content->known, model_id, &comm);
	return comm.kind == KNOWN_WIDGET && comm.model != 0;
}
