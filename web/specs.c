#include "web/specs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/search.h"

#define SPECS_MAX 128

struct specs {
	struct specs_options options;
	char *base_url;
	struct search_spec found[SPECS_MAX];
	struct spec_entry entry[SPECS_MAX];
	size_t count;
};

/* ---- which ---- */

static bool is_walled(const json_t *json)
{
	const json_t *argv = json_object_get(json, "argv");
	const char *program = json_string_value(json_array_get(argv, 0));
	const char *verb = json_string_value(json_array_get(argv, 1));
	const char *slash = program ? strrchr(program, '/') : NULL;

	return program && verb && strcmp(slash ? slash + 1 : program, "cellwall") == 0 &&
	       strcmp(verb, "kernel") == 0;
}

static bool is_wanted(const struct specs *specs, const char *name, bool walled)
{
	if (!specs->options.names)
		return walled;
	for (const char *const *wanted = specs->options.names; *wanted; wanted++)
		if (strcmp(*wanted, name) == 0)
			return true;
	return false;
}

static void forget(struct specs *specs)
{
	for (size_t i = 0; i < specs->count; i++)
		search_done(&specs->found[i]);
	specs->count = 0;
}

static bool is_known(const struct specs *specs, const char *name)
{
	for (size_t i = 0; i < specs->count; i++)
		if (strcmp(specs->found[i].name, name) == 0)
			return true;
	return false;
}

/* Takes the names of one "…/kernels" directory; one that was found before goes before. */
static void take_directory(struct specs *specs, const char *path)
{
	DIR *directory = opendir(path);
	const struct dirent *entry;

	while (directory && specs->count < SPECS_MAX && (entry = readdir(directory))) {
		struct search_spec *found = &specs->found[specs->count];
		cleanup(free_ptr) char *place = path_join(path, entry->d_name);

		if (!place || !search_valid_name(entry->d_name) || entry->d_name[0] == '.' ||
		    is_known(specs, entry->d_name) || search_read(place, found, NULL) < 0)
			continue;
		if (is_wanted(specs, found->name, is_walled(found->json)))
			specs->count++;
		else
			search_done(found);
	}
	if (directory)
		(void)closedir(directory);
}

static int by_name(const void *a, const void *b)
{
	const struct search_spec *left = a, *right = b;

	return strcmp(left->name, right->name);
}

int specs_read(struct specs *specs, struct err *err)
{
	struct paths_list directories = {0};
	int code = search_directories(&directories, err);

	if (code < 0)
		return code;
	forget(specs);
	for (size_t i = 0; i < directories.count; i++)
		take_directory(specs, directories.items[i]);
	paths_list_done(&directories);
	qsort(specs->found, specs->count, sizeof(specs->found[0]), by_name);
	for (size_t i = 0; i < specs->count; i++)
		specs->entry[i] = (struct spec_entry){.name = specs->found[i].name,
						      .directory = specs->found[i].directory,
						      .json = specs->found[i].json,
						      .walled = is_walled(specs->found[i].json)};
	return 0;
}

const struct spec_entry *specs_find(const struct specs *specs, const char *name)
{
	if (!name)
		name = specs->options.default_name;
	if (!name)
		return specs->count > 0 ? &specs->entry[0] : NULL;
	for (size_t i = 0; i < specs->count; i++)
		if (strcmp(specs->entry[i].name, name) == 0)
			return &specs->entry[i];
	return NULL;
}

/* ---- what clients see ---- */

static const char *const logos[] = {"logo-32x32", "logo-64x64", "logo-svg", "kernel.js",
				    "kernel.css"};

static json_t *resources(const struct specs *specs, const struct spec_entry *entry)
{
	static const char *const suffix[] = {".png", ".png", ".svg", "", ""};
	json_t *object = json_object();

	for (size_t i = 0; object && i < sizeof(logos) / sizeof(logos[0]); i++) {
		cleanup(free_ptr) char *file = format_string("%s%s", logos[i], suffix[i]);
		cleanup(free_ptr) char *url =
			file ? format_string("%s/kernelspecs/%s/%s", specs->base_url, entry->name,
					     file)
			     : NULL;
		cleanup(free_ptr) char *path = file ? path_join(entry->directory, file) : NULL;

		if (url && path && access(path, R_OK) == 0)
			(void)json_object_set_new(object, logos[i], json_string(url));
	}
	return object;
}

/* The command and the environment are the operator's: clients have no use for them. */
static json_t *model(const struct specs *specs, const struct spec_entry *entry)
{
	static const char *const copied[] = {"display_name", "language", "interrupt_mode",
					     "metadata", "kernel_protocol_version"};
	json_t *spec = json_pack("{s:[],s:{},s:s,s:s}", "argv", "env", "display_name", entry->name,
				 "language", "");

	for (size_t i = 0; spec && i < sizeof(copied) / sizeof(copied[0]); i++) {
		json_t *value = json_object_get(entry->json, copied[i]);

		if (value)
			(void)json_object_set_new(spec, copied[i], json_deep_copy(value));
	}
	(void)json_object_del(json_object_get(spec, "metadata"), "cellwall");
	return json_pack("{s:s,s:o,s:o}", "name", entry->name, "spec", spec, "resources",
			 resources(specs, entry));
}

json_t *specs_entry_model(const struct specs *specs, const char *name)
{
	const struct spec_entry *entry = specs_find(specs, name);

	return entry ? model(specs, entry) : NULL;
}

json_t *specs_model(const struct specs *specs, bool (*may)(const void *arg, const char *name),
		    const void *arg)
{
	const struct spec_entry *first = specs_find(specs, NULL);
	json_t *all = json_object();

	for (size_t i = 0; all && i < specs->count; i++) {
		const struct spec_entry *entry = &specs->entry[i];

		if (may && !may(arg, entry->name))
			continue;
		(void)json_object_set_new(all, entry->name, model(specs, entry));
	}
	if (first && may && !may(arg, first->name))
		first = NULL;
	if (!first && all && json_object_iter(all))
		return json_pack("{s:s,s:o}", "default",
				 json_object_iter_key(json_object_iter(all)), "kernelspecs", all);
	return json_pack("{s:s,s:o}", "default", first ? first->name : "", "kernelspecs", all);
}

int specs_open_file(const struct specs *specs, const char *name, const char *file)
{
	const struct spec_entry *entry = specs_find(specs, name);
	cleanup(close_fd) int directory = -1;
	cleanup(close_fd) int fd = -1;
	struct stat status;

	if (!entry || strchr(file, '/') || file[0] == '.' || strcmp(file, "kernel.json") == 0)
		return -ENOENT;
	directory = open(entry->directory, O_DIRECTORY | O_PATH | O_CLOEXEC);
	if (directory < 0)
		return -errno;
	fd = openat(directory, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &status) < 0)
		return -ENOENT;
	if (!S_ISREG(status.st_mode))
		return -ENOENT;
	return steal_fd(&fd);
}

/* ---- life ---- */

int specs_new(const struct specs_options *options, struct specs **ret_specs, struct err *err)
{
	struct specs *specs = calloc(1, sizeof(*specs));
	int code;

	if (!specs)
		return err_set(err, -ENOMEM, "out of memory");
	specs->options = *options;
	specs->base_url = strdup(options->base_url ? options->base_url : "");
	code = specs->base_url ? specs_read(specs, err) : err_set(err, -ENOMEM, "out of memory");
	if (code < 0) {
		(void)specs_free(specs);
		return code;
	}
	*ret_specs = specs;
	return 0;
}

struct specs *specs_free(struct specs *specs)
{
	if (!specs)
		return NULL;
	forget(specs);
	free(specs->base_url);
	free(specs);
	return NULL;
}
