#include "tests/unit/kernelspec/tree.h"

#include <errno.h>
#include <sys/wait.h>

#include "kernelspec/prefix.h"

/* This program again, as a fake server: `SELF jupyter-lab ask PROGRAM` forks a child that asks. */
#define ASK	  "ask"
#define IS_APART  10
#define IS_SHARED 11

static int ask(const char *program, struct err *err)
{
	struct prefix prefix;
	int code = prefix_find(program, &prefix, err);

	if (code < 0)
		return code;
	code = prefix_shared_with_server(&prefix, err);
	prefix_done(&prefix);
	return code;
}

static void check_apart(const char *program)
{
	struct err err = {0};

	if (ask(program, &err) < 0)
		fail_msg("%s", err.text);
}

static void check_shared(const char *program, const char *one, const char *other)
{
	struct err err = {0};

	assert_int_equal(ask(program, &err), -EEXIST);
	if (!strstr(err.text, one) || !strstr(err.text, other))
		fail_msg("\"%s\" does not name %s and %s", err.text, one, other);
	assert_non_null(strstr(err.text, "python3 -m venv ~/kernel-env"));
	assert_non_null(strstr(err.text, "cellwall install --python ~/kernel-env/bin/python"));
	assert_null(strchr(err.text, '\n'));
}

/* Makes PREFIX/bin/jupyter a script of PREFIX's python and puts it first in PATH. */
static void activate(const char *prefix)
{
	char text[TREE_PATH], name[TREE_PATH];

	print_to(text, "#!%s/bin/python3\nimport sys\n", at(prefix));
	print_to(name, "%s/bin/jupyter", prefix);
	make_file(name, 0755, text);
	print_to(text, "%s/bin", at(prefix));
	setenv("PATH", text, 1);
}

static void test_apart(void **state)
{
	(void)state;
	make_python("base");
	make_venv("lab", at("base"), false);
	make_venv("kernel", at("base"), false);
	make_module("lab", "jupyter_server");
	check_apart(at("kernel/bin/python"));
	activate("lab");
	check_apart(at("kernel/bin/python")); /* two environments over one base */
	check_apart("/bin/sh");
}

static void test_jupyter_in_path(void **state)
{
	(void)state;
	make_python("base");
	make_venv("lab", at("base"), false);
	activate("lab");
	/* ipykernel alone brings a `jupyter` too: only a server makes it a server's environment. */
	check_apart(at("lab/bin/python"));
	make_module("lab", "jupyter_server");
	check_shared(at("lab/bin/python"), at("lab"), at("lab/bin/jupyter"));
	/* Whatever name it goes by. */
	make_link("alias", at("lab"));
	check_shared(at("alias/bin/python"), at("lab"), at("lab/bin/jupyter"));
}

static void test_search_paths(void **state)
{
	static const char *const names[] = {"JUPYTER_PATH",	"JUPYTER_CONFIG_PATH",
					    "PYTHONPATH",	"JUPYTER_CONFIG_DIR",
					    "JUPYTER_DATA_DIR", "JUPYTERLAB_DIR"};
	char value[TREE_PATH];

	(void)state;
	make_python("base");
	make_venv("kernel", at("base"), false);
	make_dir("kernel/share/jupyter");
	make_link("elsewhere", at("kernel/share"));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		print_to(value, "%s::%s", at("home"), at("kernel/share/jupyter"));
		setenv(names[i], value, 1);
		check_shared(at("kernel/bin/python"), at("kernel"), names[i]);
		setenv(names[i], at("elsewhere/jupyter"), 1);
		check_shared(at("kernel/bin/python"), at("kernel"), names[i]);
		setenv(names[i], at("home"), 1);
		check_apart(at("kernel/bin/python"));
		unsetenv(names[i]);
	}
}

static void test_base_is_the_kernels(void **state)
{
	(void)state;
	make_python("base");
	make_venv("lab", at("base"), true);
	make_module("lab", "jupyterlab");
	activate("lab");
	check_shared(at("base/bin/python3"), at("base"), at("lab/bin/jupyter"));
	/* Without its packages the standard library is still the kernel's to write. */
	make_venv("lab", at("base"), false);
	check_shared(at("base/bin/python3"), at("base"), at("lab/bin/jupyter"));
	/* The other way round: the server in the base, the kernel in an environment over it. */
	make_venv("kernel", at("base"), true);
	make_module("base", "jupyter_server");
	activate("base");
	check_apart(at("kernel/bin/python"));
}

static void test_conda(void **state)
{
	(void)state;
	make_python("conda");
	make_dir("conda/conda-meta");
	make_python("conda/envs/a");
	make_dir("conda/envs/a/conda-meta");
	make_module("conda", "notebook");
	activate("conda");
	check_apart(at("conda/envs/a/bin/python3")); /* where conda puts environments, with the
							server in base */
	make_module("conda/envs/a", "notebook");
	activate("conda/envs/a");
	check_shared(at("conda/bin/python3"), at("conda"), at("conda/envs/a/bin/jupyter"));
}

static void copy_self(const char *name)
{
	char *data = NULL;
	size_t size;

	assert_int_equal(read_file(-100, "/proc/self/exe", 256u << 20, &data, &size, NULL), 0);
	make_parent(at(name));
	assert_int_equal(write_new_file(-100, at(name), 0755, data, size, NULL), 0);
	free(data);
}

/* Runs this program under the name `argv0` as a server with `word` in its command line, which asks
 * about `program`. */
static int ask_below(const char *argv0, const char *word, const char *program)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		char *argv[] = {strdup(argv0), strdup(word), (char[]){ASK}, strdup(program), NULL};

		execv(argv0, argv);
		_exit(127);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_ancestors(void **state)
{
	(void)state;
	make_dir("base/lib/python3.11");
	copy_self("base/bin/python3");
	make_venv("lab", at("base"), false);
	make_venv("kernel", at("base"), false);
	assert_int_equal(ask_below(at("lab/bin/python"), "jupyter-lab", at("kernel/bin/python")),
			 IS_APART);
	assert_int_equal(ask_below(at("lab/bin/python"), "jupyter-lab", at("lab/bin/python")),
			 IS_SHARED);
	assert_int_equal(
		ask_below(at("lab/bin/python"), "/opt/bin/papermill", at("lab/bin/python3")),
		IS_SHARED);
	assert_int_equal(ask_below(at("lab/bin/python"), "jupyter-lab", at("base/bin/python3")),
			 IS_SHARED);
	/* A Python that is no client: an installer's, a test's. */
	assert_int_equal(ask_below(at("lab/bin/python"), "setup", at("lab/bin/python")), IS_APART);
}

/* The server's side of ask_below: stays as the parent of the one that asks. */
static int serve(const char *program)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct err err = {0};
		int code = ask(program, &err);

		_exit(code == 0 ? IS_APART : code == -EEXIST ? IS_SHARED : 1);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		tree_test(test_apart),	      tree_test(test_jupyter_in_path),
		tree_test(test_search_paths), tree_test(test_base_is_the_kernels),
		tree_test(test_conda),	      tree_test(test_ancestors),
	};

	if (argc == 4 && strcmp(argv[2], ASK) == 0)
		return serve(argv[3]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
