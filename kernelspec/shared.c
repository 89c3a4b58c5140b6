#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "kernelspec/environment.h"
#include "kernelspec/paths.h"
#include "kernelspec/prefix.h"

/*
 * Theory of operation. What an untrusted package brings is written by the installer into the prefix
 * of the kernel's environment, anywhere below it (a wheel's data scheme), and runs on the host as
 * soon as a server loads code from there: .pth files at the start of its interpreter (site.py),
 * server extensions that etc/jupyter enables, browser code in share/jupyter/labextensions. So the
 * question is: does a server load code from the kernel's prefix? Asked three ways:
 *
 *   the search paths that every Jupyter process has, from the environment and in /usr/local;
 *   the Jupyter processes that this one descends from: the environment of their interpreter, its
 * base, and the libraries they have mapped (which also sees what PYTHONPATH or a .pth brought in);
 *   the environments of jupyter and jupyter-lab in PATH, when a server is installed there.
 *
 * Not shared: a base interpreter under two virtual environments, as packages go into the
 * environments. /usr alone is dpkg's, and nothing of a notebook is installed there, unless root's
 * pip filled /usr/local.
 */

#define ANCESTORS_MAX 16
#define CMDLINE_MAX   (64 * 1024)
#define MAPS_MAX      (4 * 1024 * 1024)

struct kernel {
	char *root;  /* where its packages are written, links resolved */
	bool system; /* root is /usr */
	struct err *err;
};

/* The refusal: what both share, and the one command. */
static int refuse(const struct kernel *kernel, const char *server, const char *path)
{
	char shown_root[200], shown_path[200];

	escape_string(shown_root, sizeof(shown_root), kernel->root);
	escape_string(shown_path, sizeof(shown_path), path);
	return err_set(kernel->err, -EEXIST,
		       "the kernel's environment %s is shared with %s (%s): its packages would run "
		       "outside the "
		       "wall; make one of its own: python3 -m venv ~/kernel-env && "
		       "~/kernel-env/bin/pip install "
		       "ipykernel, then cellwall install --python ~/kernel-env/bin/python",
		       shown_root, server, shown_path);
}

/* Is code below `path` written together with the kernel's packages? */
static bool covers(const struct kernel *kernel, const char *path)
{
	cleanup(free_ptr) char *real = paths_real(path);

	if (!real)
		return true; /* no memory: fail closed */
	return kernel->system ? strcmp(real, kernel->root) == 0 : paths_within(real, kernel->root);
}

/* One environment that a server runs in. */
static int compare(const struct kernel *kernel, const char *executable, const char *server)
{
	struct environment environment;
	int code = 0;

	if (environment_read(executable, &environment, NULL) < 0)
		return 0; /* no interpreter to start a server with */
	if (kernel->system) {
		/* Both are Debian's Python: apart from dpkg's files only root's pip writes where
		 * both look. */
		bool looks_there = !environment.home || environment.system_site;

		if (looks_there && covers(kernel, environment.base) &&
		    environment_prefix_filled("/usr/local"))
			code = refuse(kernel, server, "packages in /usr/local");
	} else if (covers(kernel, environment.root)) {
		code = refuse(kernel, server, environment.root);
	} else if (covers(kernel, environment.base)) {
		code = refuse(kernel, server, environment.base);
	}
	environment_done(&environment);
	return code;
}

/* Search paths of every Jupyter process and every Python (jupyter_core paths.py; site.py). */
static int check_search_paths(const struct kernel *kernel)
{
	static const char *const names[] = {"JUPYTER_PATH",	"JUPYTER_CONFIG_PATH",
					    "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR",
					    "JUPYTERLAB_DIR",	"PYTHONPATH"};
	static const char *const fixed[] = {"/usr/local/share/jupyter", "/usr/local/etc/jupyter"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *value = getenv(names[i]);

		while (value && *value) {
			size_t size = strcspn(value, ":");
			cleanup(free_ptr) char *entry = strndup(value, size);
			cleanup(free_ptr) char *path = entry ? paths_absolute(entry) : NULL;

			if (size > 0 && path && covers(kernel, path))
				return refuse(kernel, names[i], path);
			value += size + (value[size] == ':');
		}
	}
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
		/* A kernel of /usr has its own packages from dpkg: refused when root's pip used
		 * that place. */
		bool used = paths_is_directory(fixed[i]) && environment_prefix_filled("/usr/local");

		if (kernel->system ? used : paths_within(fixed[i], kernel->root))
			return refuse(kernel, "every Jupyter server of this host", fixed[i]);
	}
	return 0;
}

/* A small file of /proc/PID; NULL when it cannot be read. Several strings stay separated by NUL. */
static char *read_proc(pid_t pid, const char *name, size_t limit, size_t *ret_size)
{
	cleanup(free_ptr) char *path = format_string("/proc/%d/%s", pid, name);
	char *text = NULL;

	if (!path || read_file(AT_FDCWD, path, limit, &text, ret_size, NULL) < 0)
		return NULL;
	return text;
}

static pid_t parent_of(pid_t pid)
{
	size_t size;
	cleanup(free_ptr) char *text = read_proc(pid, "status", CMDLINE_MAX, &size);
	const char *line = text ? strstr(text, "\nPPid:\t") : NULL;
	uint64_t parent;
	char number[16];
	size_t digits;

	if (!line)
		return 0;
	line += 7;
	digits = strspn(line, "0123456789");
	if (digits == 0 || digits >= sizeof(number))
		return 0;
	memcpy(number, line, digits);
	number[digits] = '\0';
	return parse_u64(number, INT_MAX, &parent) < 0 ? 0 : (pid_t)parent;
}

/* The value of NAME in an environment block, or NULL. */
static const char *block_value(const char *block, size_t size, const char *name)
{
	size_t length = strlen(name);

	for (const char *at = block; at && at < block + size; at += strlen(at) + 1)
		if (strncmp(at, name, length) == 0 && at[length] == '=')
			return at + length + 1;
	return NULL;
}

/* Does it speak to kernels: pyzmq mapped, or a command line of the well-known? */
static bool is_jupyter(const char *cmdline, size_t size, const char *maps)
{
	static const char *const words[] = {"jupyter",	 "nbclient", "papermill",
					    "nbconvert", "voila",    "notebook"};

	if (maps && (strstr(maps, "/zmq/") || strstr(maps, "/libzmq")))
		return true;
	for (const char *at = cmdline; at < cmdline + size; at += strlen(at) + 1)
		for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
			if (strcasestr(at, words[i]))
				return true;
	return false;
}

/* Has the process mapped a library from the kernel's packages or standard library? */
static int check_maps(const struct kernel *kernel, char *maps, const char *server)
{
	char *rest = maps, *line;

	while (!kernel->system && (line = strsep(&rest, "\n"))) {
		char *path = strchr(line, '/');

		if (path && paths_within(path, kernel->root) && strstr(path, "/python3"))
			return refuse(kernel, server, path);
	}
	return 0;
}

/* argv[0] as a path: what decides about the virtual environment. NULL: not known. */
static char *interpreter_path(pid_t pid, const char *argv0)
{
	size_t size;
	cleanup(free_ptr) char *block = NULL;

	if (argv0[0] == '/')
		return strdup(argv0);
	if (strchr(argv0, '/'))
		return format_string("/proc/%d/cwd/%s", pid, argv0);
	block = read_proc(pid, "environ", MAPS_MAX, &size);
	return block ? paths_search(block_value(block, size, "PATH"), argv0, NULL) : NULL;
}

static int check_process(const struct kernel *kernel, pid_t pid)
{
	size_t size = 0, maps_size;
	cleanup(free_ptr) char *cmdline = read_proc(pid, "cmdline", CMDLINE_MAX, &size),
			       *maps = NULL;
	cleanup(free_ptr) char *exe = format_string("/proc/%d/exe", pid), *real = NULL,
			       *named = NULL;
	cleanup(free_ptr) char *script = NULL;
	const char *second;
	char server[64];
	int code = 0;

	real = exe ? realpath(exe, NULL) : NULL;
	if (!cmdline || size == 0)
		return 0;
	if (!(real && strncmp(paths_name(real), "py", 2) == 0) &&
	    strncmp(paths_name(cmdline), "py", 2) != 0)
		return 0; /* neither python nor pypy */
	maps = read_proc(pid, "maps", MAPS_MAX, &maps_size);
	if (!is_jupyter(cmdline, size, maps))
		return 0;
	snprintf(server, sizeof(server), "the Jupyter process %d", pid);
	named = interpreter_path(pid, cmdline);
	if (named)
		code = compare(kernel, named, server);
	if (code == 0 && real)
		code = compare(kernel, real, server);
	second = cmdline + strlen(cmdline) + 1;
	if (code == 0 && second < cmdline + size && second[0] == '/' &&
	    paths_shebang(second, &script) == 1 && script[0] == '/')
		code = compare(kernel, script, server);
	if (code == 0 && maps)
		code = check_maps(kernel, maps, server);
	return code;
}

static int check_ancestors(const struct kernel *kernel)
{
	pid_t pid = getppid();

	for (int i = 0; i < ANCESTORS_MAX && pid > 1; i++) {
		int code = check_process(kernel, pid);

		if (code < 0)
			return code;
		pid = parent_of(pid);
	}
	return 0;
}

/* Every environment with ipykernel has a `jupyter`: it is a server's when a server is installed in
 * it. */
static bool has_server(const char *interpreter)
{
	static const char *const servers[] = {"jupyter_server", "jupyterlab", "notebook",
					      "nbclassic"};
	struct environment environment;
	bool found = false;

	if (environment_read(interpreter, &environment, NULL) < 0)
		return false;
	for (size_t i = 0; i < sizeof(servers) / sizeof(servers[0]) && !found; i++)
		found = environment_has(&environment, servers[i]);
	environment_done(&environment);
	return found;
}

static int check_commands(const struct kernel *kernel)
{
	static const char *const commands[] = {"jupyter", "jupyter-lab", "jupyter-notebook",
					       "jupyter-server"};

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		cleanup(free_ptr) char *path = paths_search(getenv("PATH"), commands[i], NULL);
		cleanup(free_ptr) char *interpreter = NULL;
		int code;

		if (!path || paths_shebang(path, &interpreter) != 1 || interpreter[0] != '/')
			continue;
		if (!has_server(interpreter))
			continue;
		code = compare(kernel, interpreter, path);
		if (code < 0)
			return code;
	}
	return 0;
}

int prefix_shared_with_server(const struct prefix *prefix, struct err *err)
{
	struct kernel kernel = {.err = err};
	struct environment environment;
	cleanup(free_ptr) char *script = NULL;
	const char *interpreter = prefix->executable;
	int code;

	if (!prefix->python)
		return 0; /* no server loads R's or Julia's packages */
	if (paths_shebang(interpreter, &script) == 1 && script[0] == '/')
		interpreter = script; /* an installed command of a Python package */
	code = environment_read(interpreter, &environment, err);
	if (code < 0)
		return code;
	kernel.root = paths_real(environment.root);
	environment_done(&environment);
	if (!kernel.root)
		return err_set(err, -ENOMEM, "out of memory");
	kernel.system = strcmp(kernel.root, "/usr") == 0;

	code = check_search_paths(&kernel);
	if (code == 0)
		code = check_ancestors(&kernel);
	if (code == 0)
		code = check_commands(&kernel);
	free_ptr(&kernel.root);
	return code;
}
