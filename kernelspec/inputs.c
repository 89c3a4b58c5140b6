#include "kernelspec/inputs.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "kernelspec/paths.h"
#include "kernelspec/prefix.h"
#include "sandbox/spec.h"
#include "sandbox/staging.h"

#define SHOWN 256 /* bytes of a path in a message */

void input_done(struct input *input)
{
	free(input->name);
	free(input->source);
	free(input->real);
	*input = (struct input){0};
}

void inputs_done(struct inputs *inputs)
{
	for (size_t i = 0; i < inputs->count; i++)
		input_done(&inputs->items[i]);
	free(inputs->items);
	*inputs = (struct inputs){0};
}

static struct input *find(struct inputs *inputs, const char *name)
{
	for (size_t i = 0; i < inputs->count; i++)
		if (strcmp(inputs->items[i].name, name) == 0)
			return &inputs->items[i];
	return NULL;
}

int inputs_put(struct inputs *inputs, struct input *input)
{
	struct input *same = find(inputs, input->name), *items;

	if (!same) {
		if (inputs->count >= INPUTS_MAX)
			return -E2BIG;
		items = reallocarray(inputs->items, inputs->count + 1, sizeof(*items));
		if (!items)
			return -ENOMEM;
		inputs->items = items;
		same = &items[inputs->count++];
	} else {
		input_done(same);
	}
	*same = *input;
	*input = (struct input){0};
	return 0;
}

bool inputs_remove(struct inputs *inputs, const char *name)
{
	struct input *input = find(inputs, name);

	if (!input)
		return false;
	input_done(input);
	inputs->count--;
	memmove(input, input + 1, (size_t)(inputs->items + inputs->count - input) * sizeof(*input));
	return true;
}

/* ---- what may be staged ---- */

int inputs_check_name(const char *name, struct err *err)
{
	char shown[SHOWN];
	size_t depth = 0;

	escape_string(shown, sizeof(shown), name);
	if (strlen(name) > STAGING_PATH_MAX)
		return err_set(err, -EINVAL, "%s: longer than %d bytes", shown, STAGING_PATH_MAX);
	for (const char *at = name;;) {
		size_t size = strcspn(at, "/");

		if (size == 0 || (size == 1 && at[0] == '.') ||
		    (size == 2 && strncmp(at, "..", 2) == 0))
			return err_set(err, -EINVAL, "%s is not a plain relative name", shown);
		if (size > NAME_MAX || ++depth > STAGING_DEPTH_MAX)
			return err_set(err, -EINVAL, "%s: too long or too deep", shown);
		at += size;
		if (*at == '\0')
			break;
		at++;
	}
	if (paths_within(name, "staging/in"))
		return err_set(err, -EINVAL, "%s: staging/in is always staged", shown);
	if (paths_within(name, "staging"))
		return err_set(err, -EINVAL,
			       "%s: staging belongs to cellwall, and its out is where results go",
			       shown);
	if (strcmp(name, &INSIDE_HISTORY[sizeof(INSIDE_WORK)]) == 0)
		return err_set(err, -EINVAL, "%s: that name is taken in /work", shown);
	return 0;
}

bool inputs_is_staging(const char *name)
{
	return strcmp(name, "staging") == 0 || strcmp(name, "staging/in") == 0 ||
	       strcmp(name, "staging/out") == 0;
}

/* The system's view of itself, its devices and the sockets of its services. */
static const char *system_place(const char *real)
{
	static const char *const places[] = {"/proc", "/sys", "/dev", "/run"};
	/* where desktops mount what is plugged in, and memory that is used as a disk */
	static const char *const fine[] = {"/run/media", "/dev/shm"};

	for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++)
		if (paths_within(real, fine[i]) && strcmp(real, fine[i]) != 0)
			return NULL;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (paths_within(real, places[i]))
			return places[i];
	return NULL;
}

/* In a directory or under a name of the home that begins with a dot: keys, tokens, histories. */
static bool in_hidden_place(const char *real)
{
	cleanup(free_ptr) char *home = paths_home(), *top = home ? paths_real(home) : NULL;

	if (!top)
		return true; /* no memory: fail closed */
	return strcmp(top, "/") != 0 && paths_within(real, top) && strstr(real + strlen(top), "/.");
}

int inputs_check(const char *folder, const char *real, const char *shown, bool linked,
		 struct err *err)
{
	char name[SHOWN], place[SHOWN], both[2 * SHOWN + 32];
	const char *system = system_place(real);

	escape_string(name, sizeof(name), shown);
	escape_string(place, sizeof(place), real);
	if (strcmp(shown, real) == 0)
		(void)snprintf(both, sizeof(both), "%s", name);
	else
		(void)snprintf(both, sizeof(both), "%s leads to %s, which", name, place);
	if (prefix_may_stage(real, NULL) < 0)
		return err_set(err, -EACCES,
			       "%s is the home, cellwall's own state or what holds them: name what "
			       "the kernel needs in it",
			       both);
	if (system)
		return err_set(err, -EACCES, "%s is in %s, which belongs to the system", both,
			       system);
	if (paths_within(folder, real))
		return err_set(err, -EACCES,
			       "%s holds the notebook's folder: name what the kernel needs in it",
			       both);
	if (linked && !paths_within(real, folder) && in_hidden_place(real))
		return err_set(err, -EACCES,
			       "%s is a hidden place of your home: if that is meant, add it as "
			       "NAME=/abs/path",
			       both);
	return 0;
}

static char *host_path(const char *folder, const struct input *input)
{
	return input->source ? strdup(input->source) : path_join(folder, input->name);
}

int inputs_resolve(const char *folder, const struct input *input, char **ret_real, struct err *err)
{
	cleanup(free_ptr) char *path = host_path(folder, input), *real = NULL;
	char shown[SHOWN], now[SHOWN], then[SHOWN];
	int r;

	if (!path)
		return err_set(err, -ENOMEM, "out of memory");
	escape_string(shown, sizeof(shown), path);
	real = realpath(path, NULL);
	if (!real)
		return err_set(err, -errno, "%s: %s%s", shown,
			       errno == ENOENT ? "not there" : strerrordesc_np(errno),
			       errno == ENOENT && !input->source && strchr(input->name, '=')
				       ? " (NAME=PATH needs an absolute path)"
				       : "");
	r = inputs_check(folder, real, path, !input->source, err);
	if (r < 0)
		return r;
	/* What the folder holds may have been changed by others, with a git pull for one: what a
	 * link leads to was agreed to when it was added. */
	if (!input->source && input->real && strcmp(real, input->real) != 0 &&
	    !paths_within(real, folder))
		return err_set(
			err, -ESTALE,
			"%s leads to %s now, not to %s as when it was added: add it again if that "
			"is meant",
			shown, escape_string(now, sizeof(now), real),
			escape_string(then, sizeof(then), input->real));
	*ret_real = steal_ptr(&real);
	return 0;
}

/* ---- what a person writes ---- */

/* The path with its directory resolved, for one that was written through a link to the folder. */
static char *resolve_parent(const char *path)
{
	cleanup(free_ptr) char *parent = paths_parent(path), *real = NULL;

	real = parent ? realpath(parent, NULL) : NULL;
	return real ? path_join(real, paths_name(path)) : NULL;
}

static const char *below(const char *path, const char *folder)
{
	const char *rest = path + strlen(folder);

	if (!paths_within(path, folder) || strcmp(path, folder) == 0)
		return NULL;
	return strcmp(folder, "/") == 0 ? path + 1 : rest + 1;
}

/* A path without a name before it. */
static int parse_path(const char *folder, const char *text, struct input *input, struct err *err)
{
	cleanup(free_ptr) char *path = paths_absolute(text), *other = NULL;
	const char *rest;
	char shown[SHOWN];

	if (!path)
		return err_set(err, -errno, "%s: %s", escape_string(shown, sizeof(shown), text),
			       errno == ENOENT ? "not there" : strerrordesc_np(errno));
	other = resolve_parent(path);
	if (strcmp(path, folder) == 0 || (other && strcmp(other, folder) == 0)) {
		input->name = strdup(INPUTS_ALL);
		return input->name ? 0 : err_set(err, -ENOMEM, "out of memory");
	}
	rest = below(path, folder);
	if (!rest && other)
		rest = below(other, folder);
	input->name = strdup(rest ? rest : paths_name(path));
	if (!rest)
		input->source = strdup(path);
	if (!input->name || (!rest && !input->source))
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

static int parse_text(const char *folder, const char *text, struct input *input, struct err *err)
{
	const char *equals = strstr(text, "=/");

	if (text[0] == '\0')
		return err_set(err, -EINVAL, "an empty path");
	/* What begins with "/" or "./" is a path whatever follows. */
	if (!equals || equals == text || text[0] == '/' || strncmp(text, "./", 2) == 0)
		return parse_path(folder, text, input, err);
	input->name = strndup(text, (size_t)(equals - text));
	input->source = paths_absolute(equals + 1);
	if (!input->name || !input->source)
		return err_errno(err, "cannot resolve what was named");
	return 0;
}

/* "." is every entry: of the home that would be everything there is. */
static int check_all(const char *folder, struct err *err)
{
	char shown[SHOWN];

	if (prefix_may_stage(folder, NULL) == 0)
		return 0;
	return err_set(
		err, -EACCES,
		"\".\" would stage all of %s, which is the home, cellwall's own state or what "
		"holds them: name what the kernel needs",
		escape_string(shown, sizeof(shown), folder));
}

int inputs_parse(const char *folder, const char *text, struct input *ret_input, struct err *err)
{
	struct input input = {0};
	int r = parse_text(folder, text, &input, err);

	if (r == 0 && strcmp(input.name, INPUTS_ALL) == 0 && !input.source) {
		r = check_all(folder, err);
		if (r == 0) {
			input.real = strdup(folder);
			r = input.real ? 0 : err_set(err, -ENOMEM, "out of memory");
		}
	} else if (r == 0) {
		/* First what it is: "/" and "..", whose last name is none, are refused for that. */
		r = inputs_resolve(folder, &input, &input.real, err);
		if (r == 0 && (input.source || !inputs_is_staging(input.name) ||
			       paths_within(input.real, folder)))
			r = inputs_check_name(input.name, err);
	}
	if (r < 0) {
		input_done(&input);
		return r;
	}
	*ret_input = input;
	return 0;
}

/* ---- what "." stands for ---- */

static int is_shown(const struct dirent *entry)
{
	return entry->d_name[0] != '.' && strcmp(entry->d_name, "staging") != 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

int inputs_entries(const char *folder, inputs_entry_fn *found, void *arg, struct err *err)
{
	struct dirent **entries = NULL;
	char shown[SHOWN];
	int count = scandir(folder, &entries, is_shown, by_bytes), r = 0;

	escape_string(shown, sizeof(shown), folder);
	if (count < 0)
		return err_errno(err, "%s", shown);
	if (count > INPUTS_ENTRIES_MAX)
		r = err_set(err, -E2BIG,
			    "\".\": %s has %d entries, at most %d: name what the kernel needs",
			    shown, count, INPUTS_ENTRIES_MAX);
	for (int i = 0; found && i < count && r >= 0; i++)
		r = found(arg, entries[i]->d_name);
	for (int i = 0; i < count; i++)
		free(entries[i]);
	free(entries);
	return r < 0 ? r : 0;
}
