#include "kernelspec/environment.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/paths.h"

void environment_done(struct environment *environment)
{
	free_ptr(&environment->root);
	free_ptr(&environment->home);
	free_ptr(&environment->base);
	*environment = (struct environment){0};
}

char *environment_venv(const char *executable)
{
	cleanup(free_ptr) char *bin = paths_parent(executable), *top = NULL;

	if (bin && paths_exists(bin, "pyvenv.cfg"))
		return steal_ptr(&bin);
	top = bin ? paths_parent(bin) : NULL;
	if (top && paths_exists(top, "pyvenv.cfg"))
		return steal_ptr(&top);
	return NULL;
}

/* Any python3* that can be run: ~/.local/bin may have a python3.11 alone. */
static char *any_python(const char *home)
{
	DIR *directory = opendir(home);
	const struct dirent *entry;
	char *found = NULL;

	while (directory && !found && (entry = readdir(directory))) {
		cleanup(free_ptr) char *path = NULL;

		if (strncmp(entry->d_name, "python3", 7) != 0 || strchr(entry->d_name, '-'))
			continue; /* python3-config, python3.11-gdb.py */
		path = path_join(home, entry->d_name);
		if (path && access(path, X_OK) == 0)
			found = steal_ptr(&path);
	}
	if (directory)
		closedir(directory);
	return found;
}

char *environment_base_executable(const char *home, const char *name)
{
	const char *candidates[] = {name, "python3", "python"};

	for (size_t i = 0; i < sizeof(candidates) / sizeof(candidates[0]); i++) {
		cleanup(free_ptr) char *path = path_join(home, candidates[i]);

		if (path && access(path, X_OK) == 0)
			return steal_ptr(&path);
	}
	return any_python(home);
}

/* Cuts white space off both ends, in place. */
static char *trim(char *text)
{
	size_t size;

	while (isspace((unsigned char)*text))
		text++;
	size = strlen(text);
	while (size > 0 && isspace((unsigned char)text[size - 1]))
		text[--size] = '\0';
	return text;
}

/* "key = value" lines; keys in any case (site.py). The first of a key counts. */
static int parse_cfg(char *text, char **ret_home, bool *ret_system_site)
{
	cleanup(free_ptr) char *home = NULL;
	bool system_site = false, seen = false;
	char *rest = text, *line;

	while ((line = strsep(&rest, "\n"))) {
		char *value = strchr(line, '=');
		char *key;

		if (!value)
			continue;
		*value++ = '\0';
		key = trim(line);
		value = trim(value);
		if (strcasecmp(key, "home") == 0 && !home) {
			home = strdup(value);
			if (!home)
				return -ENOMEM;
		} else if (strcasecmp(key, "include-system-site-packages") == 0 && !seen) {
			system_site = strcasecmp(value, "true") == 0;
			seen = true;
		}
	}
	*ret_home = steal_ptr(&home);
	*ret_system_site = system_site;
	return 0;
}

/* The prefix an executable lies in once every link is resolved. */
static char *real_prefix(const char *executable)
{
	cleanup(free_ptr) char *real = paths_real(executable);
	cleanup(free_ptr) char *bin = real ? paths_parent(real) : NULL;

	if (!bin)
		return NULL;
	return strcmp(paths_name(bin), "bin") == 0 ? paths_parent(bin) : steal_ptr(&bin);
}

static int read_venv(const char *venv, const char *executable, struct environment *environment,
		     struct err *err)
{
	cleanup(free_ptr) char *cfg = path_join(venv, "pyvenv.cfg"), *text = NULL, *home = NULL,
			       *base = NULL;
	size_t size;
	int code;

	if (!cfg)
		return err_set(err, -ENOMEM, "out of memory");
	code = read_file(AT_FDCWD, cfg, ENVIRONMENT_CFG_MAX, &text, &size, err);
	if (code < 0)
		return code;
	if (strlen(text) != size)
		return err_set(err, -EINVAL, "%s is not a text file", cfg);
	code = parse_cfg(text, &home, &environment->system_site);
	if (code < 0)
		return err_set(err, code, "out of memory");
	if (!home || home[0] != '/')
		return err_set(err, -EINVAL,
			       "%s names no absolute home: make the environment again", cfg);
	environment->home = paths_absolute(home);
	if (environment->home)
		base = environment_base_executable(environment->home, paths_name(executable));
	if (!base) {
		char shown[256];

		return err_set(err, -ENOENT,
			       "the virtual environment %s is broken: its Python in %s is gone; "
			       "make it again: "
			       "python3 -m venv --clear %s",
			       venv, escape_string(shown, sizeof(shown), home), venv);
	}
	environment->base = real_prefix(base);
	return environment->base ? 0 : err_set(err, -ENOMEM, "out of memory");
}

int environment_read(const char *executable, struct environment *ret_environment, struct err *err)
{
	struct environment environment = {0};
	int code = 0;

	environment.root = environment_venv(executable);
	if (environment.root) {
		code = read_venv(environment.root, executable, &environment, err);
	} else {
		environment.root = real_prefix(executable);
		environment.base = real_prefix(executable);
		if (!environment.root || !environment.base)
			code = err_set(err, -ENOMEM, "out of memory");
	}
	if (code < 0) {
		environment_done(&environment);
		return code;
	}
	*ret_environment = environment;
	return 0;
}

typedef bool library_test(const char *library, const char *arg);

/* Calls `test` with each PREFIX/lib/python3* until it returns true. */
static bool any_library(const char *prefix, library_test *test, const char *arg)
{
	static const char *const names[] = {"lib", "lib64"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		cleanup(free_ptr) char *top = path_join(prefix, names[i]);
		DIR *directory = top ? opendir(top) : NULL;
		const struct dirent *entry;
		bool found = false;

		while (directory && !found && (entry = readdir(directory))) {
			cleanup(free_ptr) char *library = NULL;

			if (strncmp(entry->d_name, "python3", 7) != 0 &&
			    strncmp(entry->d_name, "pypy3", 5) != 0)
				continue;
			library = path_join(top, entry->d_name);
			found = library && paths_is_directory(library) && test(library, arg);
		}
		if (directory)
			closedir(directory);
		if (found)
			return true;
	}
	return false;
}

static bool any(const char *library, const char *unused)
{
	(void)library;
	(void)unused;
	return true;
}

bool environment_has_library(const char *prefix)
{
	return any_library(prefix, any, NULL);
}

/* Calls `test` with the package directories of a library: site-packages, Debian's dist-packages. */
static bool any_site(const char *library, library_test *test, const char *arg)
{
	cleanup(free_ptr) char *site = path_join(library, "site-packages");
	cleanup(free_ptr) char *dist = path_join(library, "dist-packages");

	return (site && test(site, arg)) || (dist && test(dist, arg));
}

static bool has_module(const char *site, const char *module)
{
	cleanup(free_ptr) char *file = format_string("%s.py", module);

	return paths_exists(site, module) || (file && paths_exists(site, file));
}

static bool library_has(const char *library, const char *module)
{
	return any_site(library, has_module, module);
}

static bool ends_with(const char *text, const char *end)
{
	size_t size = strlen(text), end_size = strlen(end);

	return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

static bool is_filled(const char *site, const char *unused)
{
	static const char *const ends[] = {".dist-info", ".egg-info", ".egg-link", ".pth"};
	DIR *directory = opendir(site);
	const struct dirent *entry;
	bool found = false;

	(void)unused;
	while (directory && !found && (entry = readdir(directory)))
		for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
			found = found || ends_with(entry->d_name, ends[i]);
	if (directory)
		closedir(directory);
	return found;
}

static bool library_filled(const char *library, const char *unused)
{
	return any_site(library, is_filled, unused);
}

bool environment_prefix_has(const char *prefix, const char *module)
{
	return any_library(prefix, library_has, module);
}

bool environment_prefix_filled(const char *prefix)
{
	return any_library(prefix, library_filled, NULL);
}

/* Debian's Python in /usr also looks into /usr/local/lib/python3.X/dist-packages (site.py there).
 */
static bool base_has(const char *base, const char *module)
{
	return environment_prefix_has(base, module) ||
	       (strcmp(base, "/usr") == 0 && environment_prefix_has("/usr/local", module));
}

bool environment_has(const struct environment *environment, const char *module)
{
	if (!environment->home)
		return base_has(environment->base, module);
	return environment_prefix_has(environment->root, module) ||
	       (environment->system_site && base_has(environment->base, module));
}
