#include "web/start.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kernelspec/paths.h"
#include "web/kernels.h"

#define ARGUMENTS_MAX 256
#define VARIABLES_MAX 256

/* Of our own environment: what programs need to find their way, and nothing that could be a secret.
 */
static const char *const kept[] = {"PATH",
				   "HOME",
				   "USER",
				   "LOGNAME",
				   "SHELL",
				   "LANG",
				   "LANGUAGE",
				   "TZ",
				   "TMPDIR",
				   "XDG_STATE_HOME",
				   "XDG_DATA_HOME",
				   "XDG_CONFIG_HOME",
				   "XDG_CACHE_HOME",
				   "XDG_RUNTIME_DIR",
				   "JUPYTER_PATH",
				   "JUPYTER_DATA_DIR",
				   "JUPYTER_PLATFORM_DIRS",
				   "PYTHONDONTWRITEBYTECODE",
				   "ASAN_OPTIONS"};

/* ---- the environment ---- */

static bool is_kept(const char *variable)
{
	const size_t size = (size_t)(strchrnul(variable, '=') - variable);

	if (strncmp(variable, "LC_", 3) == 0)
		return true;
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		if (strlen(kept[i]) == size && strncmp(kept[i], variable, size) == 0)
			return true;
	return false;
}

struct strings {
	char *item[VARIABLES_MAX + 1];
	size_t count;
};

static void strings_done(struct strings *strings)
{
	for (size_t i = 0; i < strings->count; i++)
		free(strings->item[i]);
}

/* Takes the text; NULL counts as no memory. */
static int strings_add(struct strings *strings, char *text)
{
	if (text && strings->count < VARIABLES_MAX) {
		strings->item[strings->count++] = text;
		return 0;
	}
	free(text);
	return text ? -E2BIG : -ENOMEM;
}

/* Sets NAME=VALUE, in the place of one that is there. */
static int set_variable(struct strings *strings, const char *name, const char *value)
{
	char *text = format_string("%s=%s", name, value);
	const size_t size = strlen(name) + 1;

	for (size_t i = 0; text && i < strings->count; i++) {
		if (strncmp(strings->item[i], text, size) != 0)
			continue;
		free(strings->item[i]);
		strings->item[i] = text;
		return 0;
	}
	return strings_add(strings, text);
}

static int set_object(struct strings *strings, const json_t *object)
{
	const char *name;
	json_t *value;
	union {
		const json_t *constant;
		json_t *plain;
	} view = {.constant = object};
	int code = 0;

	json_object_foreach(view.plain, name, value)
	{
		if (code == 0 && json_is_string(value))
			code = set_variable(strings, name, json_string_value(value));
	}
	return code;
}

static int fill_environment(struct strings *strings, const struct start_plan *plan)
{
	int code = 0;

	for (char **variable = environ; code == 0 && *variable; variable++)
		if (is_kept(*variable))
			code = strings_add(strings, strdup(*variable));
	if (code == 0)
		code = set_object(strings, plan->variables);
	/* The operator's word counts more than the client's. */
	if (code == 0)
		code = set_object(strings, json_object_get(plan->spec, "env"));
	if (code == 0)
		code = set_variable(strings, "KERNEL_GATEWAY", "1");
	if (code == 0 && plan->tally >= 0)
		code = set_variable(strings, "CELLWALL_TALLY", "3");
	return code;
}

int start_variables(const json_t *environment, const char *const *allowed, json_t **ret_variables,
		    struct err *err)
{
	static const char *const known[] = {"KERNEL_USERNAME", "KERNEL_LAUNCH_TIMEOUT", NULL};
	const char *const *lists[2] = {known, allowed};
	json_t *variables = json_object();

	if (!variables)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < 2; i++) {
		for (const char *const *name = lists[i]; name && *name; name++) {
			json_t *value = json_object_get(environment, *name);
			const char *text = json_string_value(value);
			bool good = text && json_string_length(value) <= KERNELS_VALUE_MAX;

			for (size_t c = 0; good && c < json_string_length(value); c++)
				good = (unsigned char)text[c] >= ' ' && text[c] != 0x7f;
			if (value && !good) {
				json_decref(variables);
				return err_set(err, -EINVAL,
					       "%s is not printable text of at most %d bytes",
					       *name, KERNELS_VALUE_MAX);
			}
			if (value)
				(void)json_object_set(variables, *name, value);
		}
	}
	*ret_variables = variables;
	return 0;
}

/* ---- the command ---- */

/* `text` with each {name} that Jupyter knows exchanged. Caller frees. */
static char *fill(const char *text, const struct start_plan *plan)
{
	static const char *const token[] = {"{connection_file}", "{resource_dir}"};
	const char *value[] = {plan->connection_file, plan->resources};
	char *result = strdup(text);

	for (size_t i = 0; result && i < 2; i++) {
		const char *at = strstr(result, token[i]);
		char *next = at ? format_string("%.*s%s%s", (int)(at - result), result, value[i],
						at + strlen(token[i]))
				: NULL;

		if (!at)
			continue;
		free(result);
		result = next;
	}
	return result;
}

static int fill_arguments(struct strings *strings, const struct start_plan *plan, struct err *err)
{
	const json_t *argv = json_object_get(plan->spec, "argv");
	int code = 0;

	if (json_array_size(argv) == 0 || json_array_size(argv) > ARGUMENTS_MAX)
		return err_set(err, -EINVAL, "the kernelspec has no command");
	for (size_t i = 0; code == 0 && i < json_array_size(argv); i++) {
		const char *text = json_string_value(json_array_get(argv, i));

		code = text ? strings_add(strings, fill(text, plan)) : -EINVAL;
	}
	if (code == 0 && !strchr(strings->item[0], '/')) {
		const char *search = getenv("PATH");
		char *found =
			paths_search(search ? search : "/usr/bin:/bin", strings->item[0], NULL);

		if (!found)
			return err_set(err, -ENOENT, "%s is not in PATH", strings->item[0]);
		free(strings->item[0]);
		strings->item[0] = found;
	}
	return code < 0 ? err_set(err, code, "the kernelspec's command cannot be used") : 0;
}

/* ---- the process ---- */

struct child {
	char **argv, **environment;
	const char *folder;
	int input, output, tally;
	int death_signal;
	pid_t parent;
};

/* Descriptor 3, and nothing of ours after it. */
static int keep_tally(int fd)
{
	unsigned first = 3;

	if (fd == 3 && fcntl(fd, F_SETFD, 0) < 0)
		return -1;
	if (fd >= 0 && fd != 3 && dup2(fd, 3) < 0)
		return -1;
	if (fd >= 0)
		first++;
	return (int)syscall(SYS_close_range, first, ~0u, 0);
}

/* After fork: async-signal-safe calls alone. */
static void run_child(const struct child *child)
{
	sigset_t none;

	(void)setsid();
	(void)sigemptyset(&none);
	for (int i = 1; i < NSIG; i++)
		(void)signal(i, SIG_DFL);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (dup2(child->input, 0) < 0 || dup2(child->output, 1) < 0 || dup2(child->output, 2) < 0 ||
	    keep_tally(child->tally) < 0)
		_exit(1);
	/* Gone before the signal was asked for: then nothing would end this process. */
	if (prctl(PR_SET_PDEATHSIG, child->death_signal) < 0 || getppid() != child->parent)
		_exit(1);
	if (chdir(child->folder) < 0) {
		(void)!write(2, "cannot enter the kernel's folder\n", 33);
		_exit(1);
	}
	(void)execve(child->argv[0], child->argv, child->environment);
	(void)!write(2, "cannot run the kernel's command\n", 32);
	_exit(1);
}

static int run(struct child *child, struct start_process *process, struct err *err)
{
	cleanup(close_fd) int input = open("/dev/null", O_RDONLY | O_CLOEXEC);
	cleanup(close_fd) int theirs = -1, ours = -1;
	int ends[2];

	if (input < 0 || pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(err, "cannot make a pipe");
	ours = ends[0];
	theirs = ends[1];
	if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
		return err_errno(err, "cannot make a pipe");
	child->input = input;
	child->output = theirs;
	child->parent = getpid();
	process->pid = fork();
	if (process->pid == 0)
		run_child(child);
	if (process->pid < 0)
		return err_errno(err, "cannot fork");
	process->pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0);
	if (process->pidfd < 0) {
		int code = err_errno(err, "cannot watch the kernel's process");

		(void)kill(process->pid, SIGKILL);
		return code;
	}
	process->output = steal_fd(&ours);
	return 0;
}

int start_run(const struct start_plan *plan, struct start_process *ret_process, struct err *err)
{
	struct strings arguments = {.count = 0}, environment = {.count = 0};
	struct start_process process = {.pidfd = -1, .output = -1};
	struct child child = {.argv = arguments.item,
			      .environment = environment.item,
			      .folder = plan->folder,
			      .tally = plan->tally,
			      .death_signal = plan->walled ? SIGTERM : SIGKILL};
	int code = fill_arguments(&arguments, plan, err);

	if (code == 0 && fill_environment(&environment, plan) < 0)
		code = err_set(err, -ENOMEM, "the kernel's environment is too large");
	if (code == 0)
		code = run(&child, &process, err);
	if (code == 0)
		*ret_process = process;
	strings_done(&arguments);
	strings_done(&environment);
	return code;
}

/* ---- the connection file ---- */

int start_connection(const char *directory, const char *file, const char *kernel_name,
		     struct connection *ret_connection, struct err *err)
{
	cleanup(free_ptr) char *sockets = path_join(directory, "s");
	char key[65];
	cleanup(free_ptr) char *text = NULL;
	json_t *object;
	int code = random_hex(key, 32);

	if (code < 0)
		return err_set(err, code, "no random numbers");
	object = json_pack("{s:s,s:s,s:s,s:s,s:s,s:i,s:i,s:i,s:i,s:i}", "transport", "ipc", "ip",
			   sockets ? sockets : "", "key", key, "signature_scheme", "hmac-sha256",
			   "kernel_name", kernel_name, "shell_port", 1, "iopub_port", 2,
			   "stdin_port", 3, "control_port", 4, "hb_port", 5);
	text = object ? json_dumps(object, JSON_INDENT(1)) : NULL;
	json_decref(object);
	explicit_bzero(key, sizeof(key));
	if (!text || !sockets)
		return err_set(err, -ENOMEM, "out of memory");
	code = connection_parse(file, text, strlen(text), ret_connection, err);
	if (code == 0) {
		(void)unlink(file);
		code = write_new_file(AT_FDCWD, file, 0600, text, strlen(text), err);
		if (code < 0)
			connection_done(ret_connection);
	}
	explicit_bzero(text, strlen(text));
	return code;
}
