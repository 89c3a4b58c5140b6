#include "tests/unit/kernelspec/tree.h"

#include <errno.h>

#include "kernelspec/environment.h"
#include "kernelspec/prefix.h"

/* Finds `program`; the paths must be exactly `expected` (relative to the tree, NULL-terminated), in
 * any order. */
static void check_paths(const char *program, bool python, const char *const *expected)
{
	struct prefix prefix;
	struct err err = {0};
	size_t count = 0, wanted = 0;

	if (prefix_find(program, &prefix, &err) < 0)
		fail_msg("%s: %s", program, err.text);
	assert_int_equal(prefix.python, python);
	while (prefix.paths[count])
		count++;
	for (; expected[wanted]; wanted++) {
		bool found = false;

		for (size_t i = 0; i < count; i++)
			found = found || strcmp(prefix.paths[i], at(expected[wanted])) == 0;
		if (!found)
			fail_msg("%s: %s is not among its %zu paths (first: %s)", program,
				 expected[wanted], count, count ? prefix.paths[0] : "none");
	}
	assert_int_equal(count, wanted);
	prefix_done(&prefix);
}

#define check(program, python, ...)                                                                \
	check_paths(program, python, (const char *const[]){__VA_ARGS__, NULL})

static void check_refused(const char *program, int code, const char *words)
{
	struct prefix prefix;
	struct err err = {0};

	assert_int_equal(prefix_find(program, &prefix, &err), code);
	if (!strstr(err.text, words))
		fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

static void test_system_python_needs_nothing(void **state)
{
	(void)state;
	if (access("/usr/bin/python3", X_OK) == 0)
		check(("/usr/bin/python3"), true, NULL);
}

static void test_venv_over_system(void **state)
{
	(void)state;
	if (access("/usr/bin/python3", X_OK) < 0)
		return;
	make_venv("venv", "/usr", false);
	check(at("venv/bin/python"), true, "venv");
	check(at("venv/bin/../bin/python3"), true, "venv");
}

static void test_executable_stays_as_given(void **state)
{
	struct prefix prefix;

	(void)state;
	make_python("base");
	make_venv("real", at("base"), false);
	make_link("alias", "real");
	assert_int_equal(prefix_find(at("alias/bin/python"), &prefix, NULL), 0);
	assert_string_equal(prefix.executable, at("alias/bin/python"));
	prefix_done(&prefix);
	check(at("alias/bin/python"), true, "alias", "real", "base");
}

static void test_venv_over_pyenv(void **state)
{
	(void)state;
	make_python("home/.pyenv/versions/3.11.7");
	make_venv("home/project/.venv", at("home/.pyenv/versions/3.11.7"), false);
	check(at("home/project/.venv/bin/python"), true, "home/project/.venv",
	      "home/.pyenv/versions/3.11.7");
}

static void test_venv_over_uv(void **state)
{
	(void)state;
	/* uv: a versioned directory behind a link without the patch level, a link in ~/.local/bin.
	 */
	make_python("home/.local/share/uv/python/cpython-3.11.9");
	make_link("home/.local/share/uv/python/cpython-3.11", "cpython-3.11.9");
	make_dir("home/.local/lib/python3.11/site-packages");
	make_link("home/.local/bin/python3.11",
		  at("home/.local/share/uv/python/cpython-3.11/bin/python3.11"));
	make_venv("venv", at("home/.local/share/uv/python/cpython-3.11"), false);
	check(at("venv/bin/python"), true, "venv", "home/.local/share/uv/python/cpython-3.11",
	      "home/.local/share/uv/python/cpython-3.11.9");
	/* By its link in ~/.local/bin: what it leads to, never ~/.local itself. */
	check(at("home/.local/bin/python3.11"), true, "home/.local/share/uv/python/cpython-3.11",
	      "home/.local/share/uv/python/cpython-3.11.9");
	/* In the middle of a chain: the link's directory alone. */
	make_link("venv2/bin/python3", at("home/.local/bin/python3.11"));
	make_cfg("venv2", at("home/.local/bin"), false);
	check(at("venv2/bin/python3"), true, "venv2", "home/.local/bin",
	      "home/.local/share/uv/python/cpython-3.11",
	      "home/.local/share/uv/python/cpython-3.11.9");
}

static void test_nested_venvs(void **state)
{
	(void)state;
	make_python("base");
	make_venv("first", at("base"), false);
	make_cfg("second", at("first/bin"), true);
	make_link("second/bin/python", at("first/bin/python"));
	check(at("second/bin/python"), true, "second", "first", "base");
}

static void test_conda(void **state)
{
	(void)state;
	make_python("conda");
	make_dir("conda/conda-meta");
	make_python("conda/envs/stats");
	make_dir("conda/envs/stats/conda-meta");
	check(at("conda/envs/stats/bin/python3"), true, "conda/envs/stats");
	check(at("conda/bin/python3"), true, "conda");
	/* A virtual environment inside the base's directory is covered by it. */
	make_venv("conda/venv", at("conda"), false);
	check(at("conda/venv/bin/python"), true, "conda");
}

static void test_chain_of_links(void **state)
{
	(void)state;
	make_python("opt/python-3.11.9");
	make_link("opt/python", "python-3.11.9");
	make_link("links/a/python", "../b/python");
	make_link("links/b/python", at("opt/python/bin/python3"));
	check(at("links/a/python"), true, "links/a", "links/b", "opt/python", "opt/python-3.11.9");
}

static void test_loops(void **state)
{
	(void)state;
	make_link("loop/python", "other");
	make_link("loop/other", "python");
	check_refused(at("loop/python"), -ELOOP, "loop/python");
	/* Environments that name one another as their home. */
	make_program("a/bin/python3");
	make_program("b/bin/python3");
	make_cfg("a", at("b/bin"), false);
	make_cfg("b", at("a/bin"), false);
	check(at("a/bin/python3"), true, "a", "b");
	make_cfg("self", at("self/bin"), false);
	make_program("self/bin/python3");
	check(at("self/bin/python3"), true, "self");
}

static void test_broken_venvs(void **state)
{
	char *large = malloc(ENVIRONMENT_CFG_MAX + 2);

	(void)state;
	make_python("base");
	make_venv("venv", at("base"), false);
	make_cfg("venv", at("gone/bin"), false);
	check_refused(at("venv/bin/python"), -ENOENT, "python3 -m venv --clear");
	make_file("venv/pyvenv.cfg", 0644, "version = 3\n");
	check_refused(at("venv/bin/python"), -EINVAL, "names no absolute home");
	make_file("venv/pyvenv.cfg", 0644, "home = bin\n");
	check_refused(at("venv/bin/python"), -EINVAL, "names no absolute home");
	assert_non_null(large);
	memset(large, 'x', ENVIRONMENT_CFG_MAX + 1);
	large[ENVIRONMENT_CFG_MAX + 1] = '\0';
	make_file("venv/pyvenv.cfg", 0644, large);
	free(large);
	check_refused(at("venv/bin/python"), -EFBIG, "pyvenv.cfg");
	make_link("venv/bin/python3", at("nowhere"));
	check_refused(at("venv/bin/python"), -ENOENT, "venv/bin/python");
}

static void test_scripts(void **state)
{
	char path[TREE_PATH];
	struct prefix prefix;

	(void)state;
	make_file("home/.pyenv/shims/python3", 0755, "#!/usr/bin/env bash\nexec pyenv exec\n");
	check_refused(at("home/.pyenv/shims/python3"), -ENOEXEC, "pyenv which python3");
	/* In PATH a shim is passed over when there is an interpreter behind it. */
	make_python("base");
	print_to(path, "%s:%s", at("home/.pyenv/shims"), at("base/bin"));
	setenv("PATH", path, 1);
	assert_int_equal(prefix_find("python3", &prefix, NULL), 0);
	assert_string_equal(prefix.executable, at("base/bin/python3"));
	prefix_done(&prefix);
	setenv("PATH", at("home/.pyenv/shims"), 1);
	check_refused("python3", -ENOEXEC, "pyenv which python3");
	check_refused("python9", -ENOENT, "not found in PATH");
	/* Another language's wrapper script (R) is fine; its interpreter comes along. */
	make_file("rlang/bin/R", 0755, "#!/bin/sh\n");
	make_dir("rlang/lib/R");
	check(at("rlang/bin/R"), false, "rlang");
	make_venv("venv", at("base"), false);
	print_to(path, "#!%s\n", at("venv/bin/python"));
	make_file("tools/bin/mykernel", 0755, path);
	check(at("tools/bin/mykernel"), true, "tools/bin", "venv", "base");
}

static void test_other_programs(void **state)
{
	(void)state;
	make_program("julia-1.11/bin/julia");
	make_dir("julia-1.11/share/julia");
	make_link("home/bin/julia", at("julia-1.11/bin/julia"));
	check(at("julia-1.11/bin/julia"), false, "julia-1.11");
	check(at("home/bin/julia"), false, "home/bin", "julia-1.11");
	/* ~/.cargo holds a token: nothing but bin/ is shown. */
	make_program("home/.cargo/bin/evcxr_jupyter");
	make_file("home/.cargo/credentials.toml", 0600, "token");
	check(at("home/.cargo/bin/evcxr_jupyter"), false, "home/.cargo/bin");
	make_program("home/.local/bin/deno");
	make_dir("home/.local/share");
	check(at("home/.local/bin/deno"), false, "home/.local/bin");
	if (access("/bin/sh", X_OK) == 0)
		check("/bin/sh", false, NULL);
}

static void test_program_itself(void **state)
{
	char *found;

	(void)state;
	setenv("PATH", at("shims"), 1);
	make_program("manager/bin/mise");
	make_link("shims/uv", at("manager/bin/mise"));
	assert_null(prefix_program("uv", NULL));
	make_file("venv/bin/uv", 0755, "#!/bin/sh\n");
	assert_null(prefix_program("uv", at("venv/bin")));
	make_program("cellar/uv/bin/uv");
	make_link("home/bin/uv", at("cellar/uv/bin/uv"));
	found = prefix_program("uv", at("home/bin"));
	assert_non_null(found);
	assert_string_equal(found, at("cellar/uv/bin/uv"));
	free(found);
	/* a directory is one, also where a list would end at its colon */
	make_program("a:b/bin/uv");
	found = prefix_program("uv", at("a:b/bin"));
	assert_non_null(found);
	assert_string_equal(found, at("a:b/bin/uv"));
	free(found);
}

static void test_forbidden_prefixes(void **state)
{
	struct err err;

	(void)state;
	make_python("home");
	check_refused(at("home/bin/python3"), -EACCES, "holds your home");
	make_python("home/.local");
	check_refused(at("home/.local/bin/python3"), -EACCES, "user site");
	make_venv("venv", at("home/.local"), false);
	check_refused(at("venv/bin/python"), -EACCES, "user site");
	make_program("home/python3");
	check_refused(at("home/python3"), -EACCES, "holds your home");
	make_python("state");
	setenv("XDG_STATE_HOME", at("state"), 1);
	check_refused(at("state/bin/python3"), -EACCES, "own state");
	assert_int_equal(prefix_may_show("/", &err), -EACCES);
	assert_int_equal(prefix_may_show("/home", &err), -EACCES);
	assert_int_equal(prefix_may_show("/root", &err), -EACCES);
	assert_int_equal(prefix_may_show("/etc", &err), -EACCES);
	assert_int_equal(prefix_may_show("/proc/self", &err), -EACCES);
	assert_int_equal(prefix_may_show("/cellwall/x", &err), -EACCES);
	assert_int_equal(prefix_may_show(tree, &err), -EACCES);
	assert_int_equal(prefix_may_show(at("venv"), &err), 0);
	make_link("sneaky", at("home"));
	assert_int_equal(prefix_may_show(at("sneaky"), &err), -EACCES);
}

static void test_wrong_input(void **state)
{
	(void)state;
	make_file("plain", 0644, "x");
	make_dir("directory");
	check_refused("", -EINVAL, "no program");
	check_refused(at("plain"), -EACCES, "not an executable file");
	check_refused(at("directory"), -EISDIR, "is a directory");
	check_refused(at("missing"), -ENOENT, "missing");
}

static void test_modules(void **state)
{
	struct environment environment;

	(void)state;
	make_python("base");
	make_module("base", "ipykernel");
	make_venv("apart", at("base"), false);
	make_venv("open", at("base"), true);
	assert_int_equal(environment_read(at("base/bin/python3"), &environment, NULL), 0);
	assert_true(environment_has(&environment, "ipykernel"));
	assert_string_equal(environment.root, at("base"));
	environment_done(&environment);
	assert_int_equal(environment_read(at("apart/bin/python"), &environment, NULL), 0);
	assert_false(environment_has(&environment, "ipykernel"));
	assert_string_equal(environment.base, at("base"));
	assert_string_equal(environment.root, at("apart"));
	environment_done(&environment);
	assert_int_equal(environment_read(at("open/bin/python"), &environment, NULL), 0);
	assert_true(environment_has(&environment, "ipykernel"));
	assert_false(environment_has(&environment, "pandas"));
	environment_done(&environment);
	make_file("apart/lib/python3.11/site-packages/single.py", 0644, "");
	assert_true(environment_prefix_has(at("apart"), "single"));
	assert_false(environment_prefix_filled(at("apart")));
	make_file("apart/lib/python3.11/site-packages/x.pth", 0644, "");
	assert_true(environment_prefix_filled(at("apart")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tree_test(test_system_python_needs_nothing),
		tree_test(test_venv_over_system),
		tree_test(test_executable_stays_as_given),
		tree_test(test_venv_over_pyenv),
		tree_test(test_venv_over_uv),
		tree_test(test_nested_venvs),
		tree_test(test_conda),
		tree_test(test_chain_of_links),
		tree_test(test_loops),
		tree_test(test_broken_venvs),
		tree_test(test_scripts),
		tree_test(test_other_programs),
		tree_test(test_program_itself),
		tree_test(test_forbidden_prefixes),
		tree_test(test_wrong_input),
		tree_test(test_modules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
