#include "kernelspec/prefix.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/environment.h"
#include "kernelspec/paths.h"
#include "sandbox/spec.h"
#include "sandbox/staging.h"

/*
 * Theory of operation. A program needs its own directory and, at every symbolic link on the way to
 * it, the directory of that link and of its target: the kernel of the sandbox resolves the same
 * chain again, in a root where nothing but the listed directories exists. For a Python the whole
 * prefix is needed (lib/ beside bin/), found twice: by the name as given, which decides about
 * virtual environments, and resolved, which is where the standard library and $ORIGIN libraries are
 * looked for. `home` in a pyvenv.cfg starts a second chain.
 */

#define HOPS_MAX   40 /* MAXSYMLINKS of the kernel, path_resolution(7) */
#define CHAINS_MAX 4  /* a virtual environment over one over one: none deeper was ever seen */

struct finder {
	struct paths_list paths;
	struct paths_list venvs; /* whose home was followed */
	bool python;
	struct err *err;
};

static int out_of_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

bool prefix_always_there(const char *path)
{
	static const char *const places[] = {"/usr",   "/bin",	 "/sbin",  "/lib",
					     "/lib32", "/lib64", "/libx32"};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (paths_within(path, places[i]))
			return true;
	return false;
}

/* Where `pip install --user` puts what it gets: PYTHONUSERBASE or ~/.local (site.py), links
 * resolved. */
static char *user_base(void)
{
	const char *named = getenv("PYTHONUSERBASE");
	cleanup(free_ptr) char *home = NULL, *base = NULL;

	if (named && named[0] == '/')
		return paths_real(named);
	home = paths_home();
	base = home ? path_join(home, ".local") : NULL;
	return base ? paths_real(base) : NULL;
}

static bool is_user_base(const char *directory)
{
	cleanup(free_ptr) char *base = user_base(), *real = paths_real(directory);

	return base && real && strcmp(base, real) == 0;
}

/* Would showing `real` show the whole of `place`? */
static bool holds(const char *real, const char *place)
{
	cleanup(free_ptr) char *target = paths_real(place);

	return target && paths_within(target, real);
}

/* The home and cellwall's own state, and what holds them, stay outside whatever anybody asks for.
 */
static int check_private(const char *directory, const char *real, struct err *err)
{
	cleanup(free_ptr) char *home = paths_home(), *state = NULL;

	if (!home || staging_state_directory(&state, err) < 0)
		return out_of_memory(err);
	if (strcmp(real, "/") == 0)
		return err_set(err, -EACCES, "%s is the whole file system", directory);
	if (holds(real, home))
		return err_set(err, -EACCES, "%s holds your home: it cannot be shown to a kernel",
			       directory);
	if (holds(real, state))
		return err_set(err, -EACCES,
			       "%s holds cellwall's own state: it cannot be shown to a kernel",
			       directory);
	return 0;
}

static int check_real(const char *directory, const char *real, struct err *err)
{
	/* Whole places that are more than a program's; and those the sandbox makes itself. */
	static const char *const whole[] = {"/home",	"/root",  "/etc",     "/var",
					    "/var/lib", "/tmp",	  "/var/tmp", "/boot",
					    "/mnt",	"/media", "/srv"};
	static const char *const below[] = {"/proc", "/sys",	  "/dev",
					    "/run",  INSIDE_WORK, INSIDE_SOCKETS};
	int code = check_private(directory, real, err);

	if (code < 0)
		return code;
	for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++)
		if (strcmp(real, whole[i]) == 0)
			return err_set(err, -EACCES, "%s is more than a program's own directory",
				       directory);
	for (size_t i = 0; i < sizeof(below) / sizeof(below[0]); i++)
		if (paths_within(directory, below[i]))
			return err_set(
				err, -EACCES,
				"%s lies below %s, which is another place inside a kernel: move it",
				directory, below[i]);
	if (is_user_base(real))
		return err_set(err, -EACCES,
			       "%s is where pip puts packages for your account (the user site)",
			       directory);
	return 0;
}

int prefix_may_show(const char *directory, struct err *err)
{
	cleanup(free_ptr) char *real = paths_real(directory);

	if (!real)
		return out_of_memory(err);
	return check_real(directory, real, err);
}

int prefix_may_stage(const char *real, struct err *err)
{
	return check_private(real, real, err);
}

/* Appends unless it is covered; drops what it covers. */
static int append(struct finder *finder, const char *directory)
{
	struct paths_list *list = &finder->paths;
	size_t kept = 0;

	for (size_t i = 0; i < list->count; i++)
		if (paths_within(directory, list->items[i]))
			return 0;
	for (size_t i = 0; i < list->count; i++) {
		if (paths_within(list->items[i], directory))
			free(list->items[i]);
		else
			list->items[kept++] = list->items[i];
	}
	list->count = kept;
	if (paths_list_add(list, directory) < 0)
		return err_set(finder->err, -E2BIG,
			       "too many directories on the way to the interpreter");
	return 0;
}

static int add_directory(struct finder *finder, const char *directory)
{
	/* Package managers that keep every package in a directory of its own: one needs all the
	 * others. */
	static const char *const stores[] = {"/nix/store", "/gnu/store"};
	cleanup(free_ptr) char *real = paths_real(directory);
	int code;

	if (!real)
		return out_of_memory(finder->err);
	for (size_t i = 0; i < sizeof(stores) / sizeof(stores[0]); i++)
		if (paths_within(real, stores[i]) && append(finder, stores[i]) < 0)
			return finder->err ? finder->err->code : -E2BIG;
	if (!prefix_always_there(directory)) {
		code = prefix_may_show(directory, finder->err);
		if (code == 0)
			code = append(finder, directory);
		if (code < 0)
			return code;
	}
	if (strcmp(real, directory) == 0 || prefix_always_there(real))
		return 0;
	code = prefix_may_show(real, finder->err);
	return code < 0 ? code : append(finder, real);
}

/* Does `directory` look like what a program was installed into, with bin/ and lib/? */
static bool looks_like_prefix(const struct finder *finder, const char *directory)
{
	static const char *const marks[] = {"lib", "lib64", "libexec", "share"};

	if (paths_exists(directory, "pyvenv.cfg") || paths_exists(directory, "conda-meta"))
		return true;
	if (finder->python)
		return environment_has_library(directory);
	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
		if (paths_exists(directory, marks[i]))
			return true;
	return false;
}

/* The directory that must be visible for one file of the chain. */
static int add_file(struct finder *finder, const char *path)
{
	cleanup(free_ptr) char *bin = paths_parent(path), *top = bin ? paths_parent(bin) : NULL;
	bool whole;

	if (!bin || !top)
		return out_of_memory(finder->err);
	whole = strcmp(paths_name(bin), "bin") == 0 && !is_user_base(top) &&
		looks_like_prefix(finder, top);
	/* A program in ~/bin or ~/.local/bin: its own directory is enough, its prefix is the home.
	 */
	if (whole && !finder->python && prefix_may_show(top, NULL) < 0)
		whole = false;
	return add_directory(finder, whole ? top : bin);
}

/* Where the link `hop` leads to, as a name that need not be resolved further. 0: no link. */
static int next_hop(const char *hop, char **ret_next, struct err *err)
{
	cleanup(free_ptr) char *parent = NULL, *joined = NULL;
	char target[PATH_MAX];
	ssize_t size = readlink(hop, target, sizeof(target) - 1);

	if (size < 0)
		return errno == EINVAL ? 0 : err_errno(err, "cannot follow %s", hop);
	target[size] = '\0';
	if (target[0] == '/') {
		*ret_next = paths_absolute(target);
	} else {
		parent = paths_parent(hop);
		joined = parent ? path_join(parent, target) : NULL;
		*ret_next = joined ? paths_absolute(joined) : NULL;
	}
	return *ret_next ? 1 : err_errno(err, "cannot follow %s", hop);
}

/* An interpreter that itself lives in the user site, with packages of every Python of this account.
 */
static int refuse_user_base(const char *real, struct err *err)
{
	cleanup(free_ptr) char *bin = paths_parent(real), *top = bin ? paths_parent(bin) : NULL;

	if (!top)
		return out_of_memory(err);
	if (strcmp(paths_name(bin), "bin") != 0 || !is_user_base(top))
		return 0;
	return err_set(err, -EACCES,
		       "%s lies in the user site (%s), which every Python of yours shares: make an "
		       "environment "
		       "over another one, /usr/bin/python3 -m venv ~/kernel-env",
		       real, top);
}

static int add_chain(struct finder *finder, const char *program, unsigned depth);

/* A virtual environment on the way: its `home` is a way of its own. */
static int add_home(struct finder *finder, const char *hop, unsigned depth)
{
	struct environment environment;
	cleanup(free_ptr) char *venv = environment_venv(hop), *base = NULL;
	int code;

	for (size_t i = 0; venv && i < finder->venvs.count; i++)
		if (strcmp(finder->venvs.items[i], venv) == 0)
			return 0;
	if (!venv)
		return 0;
	code = paths_list_add(&finder->venvs, venv);
	if (code < 0)
		return err_set(finder->err, code, "too many virtual environments on the way");
	code = environment_read(hop, &environment, finder->err);
	if (code < 0)
		return code;
	base = environment_base_executable(environment.home, paths_name(hop));
	environment_done(&environment);
	code = add_directory(finder, venv);
	if (code == 0 && base)
		code = add_chain(finder, base, depth + 1);
	return code;
}

static int add_chain(struct finder *finder, const char *program, unsigned depth)
{
	cleanup(free_ptr) char *hop = strdup(program), *real = NULL;
	int code;

	if (!hop)
		return out_of_memory(finder->err);
	if (depth > CHAINS_MAX)
		return err_set(finder->err, -ELOOP,
			       "%s: virtual environments lead to one another without end", program);
	for (unsigned i = 0;; i++) {
		char *next = NULL;

		if (i >= HOPS_MAX)
			return err_set(finder->err, -ELOOP, "%s: too many symbolic links", program);
		code = add_file(finder, hop);
		if (code == 0 && finder->python)
			code = add_home(finder, hop, depth);
		if (code == 0)
			code = next_hop(hop, &next, finder->err);
		if (code <= 0)
			break;
		free_ptr(&hop);
		hop = next;
	}
	if (code < 0)
		return code;
	real = realpath(program, NULL);
	if (!real)
		return err_errno(finder->err, "cannot follow %s", program);
	code = finder->python ? refuse_user_base(real, finder->err) : 0;
	return code < 0 ? code : add_file(finder, real);
}

/* A Python in PATH that is no script; a program of another language may well be one (R is). */
static bool no_script(const char *path)
{
	cleanup(free_ptr) char *interpreter = NULL;

	return paths_shebang(path, &interpreter) == 0;
}

/* A link of another name (a shim of asdf, mise or snap) leads to a program that goes by its own. */
static bool program_itself(const char *path)
{
	cleanup(free_ptr) char *real = paths_real(path);

	return real && strcmp(paths_name(real), paths_name(path)) == 0 && no_script(real);
}

char *prefix_program(const char *name, const char *beside)
{
	const char *search = getenv("PATH");
	cleanup(free_ptr) char *path = search ? paths_search(search, name, program_itself) : NULL;

	if (!path && beside)
		path = paths_program(beside, name, program_itself); /* its name may have a ":" */
	return path ? paths_real(path) : NULL;
}

static bool python_name(const char *name)
{
	return strncmp(name, "python", 6) == 0;
}

/* Why there is no program at `path`: a link of an environment whose Python is gone, or its
 * directory. */
static int explain(const char *program, const char *path, struct err *err)
{
	char target[PATH_MAX], shown[PATH_MAX];
	ssize_t size = path ? readlink(path, target, sizeof(target)) : -1;
	struct stat st;

	if (!path || stat(path, &st) < 0) {
		int code = errno;

		if (code != ENOENT || size < 0)
			return err_set(err, -code, "%s: %s", program, strerrordesc_np(code));
		return err_set(err, -code,
			       "%s is a link to %s, which is not there: make the environment anew",
			       program, escape_text(shown, sizeof(shown), target, (size_t)size));
	}
	if (S_ISDIR(st.st_mode))
		return err_set(err, -EISDIR,
			       "%s is a directory: name the interpreter in it, as in "
			       "~/kernel-env/bin/python",
			       program);
	return err_set(err, -EACCES, "%s is not an executable file", program);
}

/* A name or path to an absolute path of an executable file. */
static int locate(const char *program, char **ret_path, struct err *err)
{
	cleanup(free_ptr) char *path = NULL;
	const char *search = getenv("PATH");
	struct stat st;

	if (program[0] == '\0')
		return err_set(err, -EINVAL, "no program given");
	if (strchr(program, '/')) {
		path = paths_absolute(program);
		if (!path || stat(path, &st) < 0 || !S_ISREG(st.st_mode) || access(path, X_OK) < 0)
			return explain(program, path, err);
	} else {
		path = paths_search(search, program, python_name(program) ? no_script : NULL);
		if (!path)
			path = paths_search(search, program, NULL);
		if (!path)
			return err_set(err, -ENOENT,
				       "%s was not found in PATH: give its whole path", program);
	}
	*ret_path = steal_ptr(&path);
	return 0;
}

/* A link in ~/.local/bin (uv, pipx) is not shown, as its prefix is the user site: what it leads to
 * is used. */
static int leave_user_base(char **path, struct err *err)
{
	for (unsigned i = 0; i < HOPS_MAX; i++) {
		cleanup(free_ptr) char *bin = paths_parent(*path),
				       *top = bin ? paths_parent(bin) : NULL;
		char *next = NULL;
		int code;

		if (!top)
			return out_of_memory(err);
		if (strcmp(paths_name(bin), "bin") != 0 || !is_user_base(top))
			return 0;
		code = next_hop(*path, &next, err);
		if (code < 0)
			return code;
		if (code == 0)
			return refuse_user_base(*path, err);
		free_ptr(path);
		*path = next;
	}
	return err_set(err, -ELOOP, "%s: too many symbolic links", *path);
}

/* The script's own interpreter must be visible as well, unless it is looked for in PATH inside. */
static int add_script(struct finder *finder, const char *path, const char *interpreter)
{
	cleanup(free_ptr) char *bin = paths_parent(path);
	bool python = python_name(paths_name(path));
	int code;

	if (!bin)
		return out_of_memory(finder->err);
	if (python || strcmp(paths_name(bin), "shims") == 0)
		return err_set(finder->err, -ENOEXEC,
			       "%s is a script that looks for an interpreter (pyenv, asdf): give "
			       "the interpreter "
			       "itself, the path that `pyenv which %s` prints",
			       path, paths_name(path));
	code = add_chain(finder, path, 0);
	if (code < 0 || interpreter[0] != '/' || prefix_always_there(interpreter))
		return code;
	finder->python = python_name(paths_name(interpreter)) || finder->python;
	return add_chain(finder, interpreter, 0);
}

int prefix_find(const char *program, struct prefix *ret_prefix, struct err *err)
{
	struct finder finder = {.err = err};
	cleanup(free_ptr) char *path = NULL, *interpreter = NULL, *venv = NULL;
	int code = locate(program, &path, err);

	if (code < 0)
		return code;
	venv = environment_venv(path);
	finder.python = venv || python_name(paths_name(path));
	if (finder.python && !venv)
		code = leave_user_base(&path, err);
	if (code < 0)
		return code;
	code = paths_shebang(path, &interpreter);
	if (code < 0)
		return err_set(err, code, "%s cannot be read: %s", path, strerrordesc_np(-code));
	code = code == 1 ? add_script(&finder, path, interpreter) : add_chain(&finder, path, 0);
	if (code == 0 && !finder.paths.items && !(finder.paths.items = calloc(1, sizeof(char *))))
		code = out_of_memory(err);
	paths_list_done(&finder.venvs);
	if (code < 0) {
		paths_list_done(&finder.paths);
		return code;
	}
	if (finder.paths.items)
		finder.paths.items[finder.paths.count] = NULL;
	*ret_prefix = (struct prefix){.executable = steal_ptr(&path),
				      .paths = finder.paths.items,
				      .python = finder.python || venv};
	return 0;
}

void prefix_done(struct prefix *prefix)
{
	for (char **path = prefix->paths; path && *path; path++)
		free(*path);
	free_ptr(&prefix->paths);
	free_ptr(&prefix->executable);
	*prefix = (struct prefix){0};
}
