#include "kernelspec/search.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

char *search_user_data(void)
{
	const char *data = getenv("JUPYTER_DATA_DIR");
	const char *xdg = getenv("XDG_DATA_HOME");
	cleanup(free_ptr) char *home = NULL;

	if (data && *data)
		return paths_absolute(data);
	if (xdg && *xdg) {
		cleanup(free_ptr) char *absolute = paths_absolute(xdg);

		return absolute ? path_join(absolute, "jupyter") : NULL;
	}
	home = paths_home();
	return home ? path_join(home, ".local/share/jupyter") : NULL;
}

/* Debian's and pip's `jupyter` are scripts of the interpreter in whose prefix they work. */
static bool of_python(const char *path)
{
	cleanup(free_ptr) char *interpreter = NULL;

	return paths_shebang(path, &interpreter) == 1 && interpreter[0] == '/' &&
	       strncmp(paths_name(interpreter), "py", 2) == 0;
}

int search_jupyter_prefix(char **ret_prefix, struct err *err)
{
	static const char *const names[] = {"jupyter", "jupyter-lab", "jupyter-kernelspec"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		cleanup(free_ptr) char *path = paths_search(getenv("PATH"), names[i], of_python);
		cleanup(free_ptr) char *interpreter = NULL, *bin = NULL;

		if (!path || paths_shebang(path, &interpreter) != 1)
			continue;
		bin = paths_parent(interpreter);
		*ret_prefix = bin ? paths_parent(bin) : NULL;
		return *ret_prefix ? 0 : err_set(err, -ENOMEM, "out of memory");
	}
	return err_set(
		err, -ENOENT,
		"no jupyter in PATH: activate the environment of your notebook server, or name its "
		"prefix with --prefix DIR");
}

static int add_once(struct paths_list *list, const char *data)
{
	cleanup(free_ptr) char *absolute = paths_absolute(data);
	cleanup(free_ptr) char *kernels = absolute ? path_join(absolute, "kernels") : NULL;

	if (!kernels)
		return 0; /* a directory that cannot be resolved holds nothing */
	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->items[i], kernels) == 0)
			return 0;
	return paths_list_add(list, kernels);
}

static int add_all(struct paths_list *list, const char *search)
{
	int code = 0;

	while (code == 0 && search && *search) {
		size_t size = strcspn(search, ":");
		cleanup(free_ptr) char *entry = strndup(search, size);

		if (!entry)
			return -ENOMEM;
		if (size > 0)
			code = add_once(list, entry);
		search += size + (search[size] == ':');
	}
	return code;
}

int search_directories(struct paths_list *ret_directories, struct err *err)
{
	cleanup(free_ptr) char *user = search_user_data(), *prefix = NULL, *shared = NULL;
	struct paths_list list = {0};
	int code = add_all(&list, getenv("JUPYTER_PATH"));

	if (code == 0)
		code = user ? add_once(&list, user) : -ENOMEM;
	if (code == 0 && search_jupyter_prefix(&prefix, NULL) == 0) {
		shared = path_join(prefix, "share/jupyter");
		code = shared ? add_once(&list, shared) : -ENOMEM;
	}
	if (code == 0)
		code = add_once(&list, "/usr/local/share/jupyter");
	if (code == 0)
		code = add_once(&list, "/usr/share/jupyter");
	if (code < 0) {
		paths_list_done(&list);
		return err_set(err, code, "cannot list Jupyter's data directories: %s",
			       strerrordesc_np(-code));
	}
	*ret_directories = list;
	return 0;
}

bool search_valid_name(const char *name)
{
	size_t size = strlen(name);

	if (size == 0 || size > 128 || name[0] == '.')
		return false;
	for (; *name; name++)
		if (!isascii((unsigned char)*name) ||
		    (!isalnum((unsigned char)*name) && !strchr("._-", *name)))
			return false;
	return true;
}

int search_read(const char *directory, struct search_spec *ret_spec, struct err *err)
{
	cleanup(free_ptr) char *path = path_join(directory, "kernel.json"), *text = NULL;
	struct search_spec spec = {0};
	json_error_t where;
	struct stat st;
	size_t size;
	int code;

	if (!path)
		return err_set(err, -ENOMEM, "out of memory");
	if (stat(path, &st) < 0)
		return err_errno(err, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "%s is not a regular file", path);
	code = read_file(AT_FDCWD, path, SEARCH_JSON_MAX, &text, &size, err);
	if (code < 0)
		return code;
	spec.json = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
	if (!json_is_object(spec.json)) {
		char shown[128] = "an object is needed";

		if (!spec.json)
			escape_string(shown, sizeof(shown), where.text);
		else
			where.line = where.column = 1;
		json_decref(spec.json);
		return err_set(err, -EINVAL, "%s:%d:%d: not a kernelspec: %s", path, where.line,
			       where.column, shown);
	}
	spec.mode = st.st_mode & 0777;
	spec.directory = strdup(directory);
	spec.name = strdup(paths_name(directory));
	*ret_spec = spec;
	if (spec.directory && spec.name)
		return 0;
	search_done(ret_spec);
	return err_set(err, -ENOMEM, "out of memory");
}

void search_done(struct search_spec *spec)
{
	free_ptr(&spec->directory);
	free_ptr(&spec->name);
	json_decref(spec->json);
	*spec = (struct search_spec){0};
}

static int find_by_path(const char *path, struct search_spec *ret_spec, struct err *err)
{
	cleanup(free_ptr) char *absolute = paths_absolute(path), *parent = NULL;

	if (!absolute)
		return err_errno(err, "%s", path);
	if (strcmp(paths_name(absolute), "kernel.json") == 0) {
		parent = paths_parent(absolute);
		if (!parent)
			return err_set(err, -ENOMEM, "out of memory");
	}
	return search_read(parent ? parent : absolute, ret_spec, err);
}

int search_find(const struct paths_list *directories, const char *name,
		struct search_spec *ret_spec, struct err *err)
{
	if (strchr(name, '/'))
		return find_by_path(name, ret_spec, err);
	if (!search_valid_name(name)) {
		char shown[128];

		return err_set(err, -EINVAL, "%s cannot be the name of a kernelspec",
			       escape_string(shown, sizeof(shown), name));
	}
	for (size_t i = 0; i < directories->count; i++) {
		cleanup(free_ptr) char *directory = path_join(directories->items[i], name);
		int code;

		if (!directory)
			return err_set(err, -ENOMEM, "out of memory");
		code = search_read(directory, ret_spec, err);
		if (code != -ENOENT && code != -ENOTDIR)
			return code;
	}
	return err_set(err, -ENOENT,
		       "no kernelspec %s in Jupyter's directories (see jupyter kernelspec list)",
		       name);
}

bool search_is_ours(const struct search_spec *spec)
{
	return json_is_object(json_object_get(json_object_get(spec->json, "metadata"), "cellwall"));
}
