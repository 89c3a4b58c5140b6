/*
 * tree: fake installations in a temporary directory, for the tests of this room.
 */
#ifndef TESTS_UNIT_KERNELSPEC_TREE_H
#define TESTS_UNIT_KERNELSPEC_TREE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernelspec/paths.h"
#include "kernelspec/plan.h"
#include "sandbox/base.h"

#define TREE_PATH 512

static char tree[64]; /* the temporary directory, links resolved */

/* snprintf into a buffer of TREE_PATH bytes that must be large enough. */
__attribute__((format(printf, 2, 3))) static inline void print_to(char *out, const char *format,
								  ...)
{
	va_list args;
	int size;

	va_start(args, format);
	size = vsnprintf(out, TREE_PATH, format, args);
	va_end(args);
	assert_true(size >= 0 && size < TREE_PATH);
}

/* TREE/name, in one of a few turns' buffers. */
static inline const char *at(const char *name)
{
	static char buffers[8][TREE_PATH];
	static unsigned turn;
	char *out = buffers[turn++ % 8];

	print_to(out, "%s/%s", tree, name);
	return out;
}

static inline void make_parent(const char *path)
{
	char *parent = paths_parent(path);

	assert_non_null(parent);
	assert_int_equal(make_directories(parent, 0755, NULL), 0);
	free(parent);
}

static inline void make_dir(const char *name)
{
	assert_int_equal(make_directories(at(name), 0755, NULL), 0);
}

static inline void make_file(const char *name, mode_t mode, const char *text)
{
	const char *path = at(name);

	make_parent(path);
	(void)unlink(path);
	assert_int_equal(write_new_file(-100, path, mode, text, strlen(text), NULL), 0);
	assert_int_equal(chmod(path, mode), 0);
}

/* A program that is no script: the first bytes of an ELF file. */
static inline void make_program(const char *name)
{
	make_file(name, 0755, "\177ELF fake");
}

static inline void make_link(const char *name, const char *target)
{
	const char *path = at(name);

	make_parent(path);
	(void)unlink(path);
	assert_int_equal(symlink(target, path), 0);
}

/* An installed Python with lib/python3.11. */
static inline void make_python(const char *prefix)
{
	char name[TREE_PATH];

	print_to(name, "%s/bin/python3.11", prefix);
	make_program(name);
	print_to(name, "%s/bin/python3", prefix);
	make_link(name, "python3.11");
	print_to(name, "%s/lib/python3.11/site-packages", prefix);
	make_dir(name);
}

static inline void make_cfg(const char *venv, const char *home, bool system_site)
{
	char name[TREE_PATH], text[TREE_PATH];

	print_to(name, "%s/pyvenv.cfg", venv);
	print_to(text, "home = %s\ninclude-system-site-packages = %s\nversion = 3.11.2\n", home,
		 system_site ? "true" : "false");
	make_file(name, 0644, text);
}

/* A virtual environment over `base` (an absolute prefix), as python -m venv makes it. */
static inline void make_venv(const char *venv, const char *base, bool system_site)
{
	char name[TREE_PATH], target[TREE_PATH];

	print_to(target, "%s/bin", base);
	make_cfg(venv, target, system_site);
	print_to(target, "%s/bin/python3", base);
	print_to(name, "%s/bin/python3", venv);
	make_link(name, target);
	print_to(name, "%s/bin/python", venv);
	make_link(name, "python3");
	print_to(name, "%s/lib/python3.11/site-packages", venv);
	make_dir(name);
}

/* Puts a package into a prefix. */
static inline void make_module(const char *prefix, const char *module)
{
	char name[TREE_PATH];

	print_to(name, "%s/lib/python3.11/site-packages/%s", prefix, module);
	make_dir(name);
}

/* A fresh tree; HOME and every variable that these rooms read point into it. */
static inline int tree_setup(void **state)
{
	static const char *const cleared[] = {
		"JUPYTER_PATH",	      "JUPYTER_CONFIG_PATH", "JUPYTER_DATA_DIR",
		"JUPYTER_CONFIG_DIR", "JUPYTERLAB_DIR",	     "PYTHONPATH",
		"PYTHONUSERBASE",     "XDG_DATA_HOME",	     "XDG_STATE_HOME"};
	char name[] = "/tmp/cellwall-test-XXXXXX";
	char *real;

	(void)state;
	if (!mkdtemp(name) || !(real = realpath(name, NULL)))
		return -1;
	assert_true(strlen(real) < sizeof(tree));
	memcpy(tree, real, strlen(real) + 1);
	free(real);
	for (size_t i = 0; i < sizeof(cleared) / sizeof(cleared[0]); i++)
		unsetenv(cleared[i]);
	make_dir("home");
	make_dir("path");
	setenv("HOME", at("home"), 1);
	setenv("PATH", at("path"), 1);
	return 0;
}

static inline int remove_deep(const char *directory)
{
	char *argv[] = {(char[]){"rm"}, (char[]){"-rf"}, (char[]){"--"}, strdup(directory), NULL};
	pid_t pid = fork();

	if (pid == 0) {
		execv("/bin/rm", argv);
		_exit(127);
	}
	free(argv[3]);
	return pid < 0 ? -1 : 0;
}

static inline int tree_teardown(void **state)
{
	(void)state;
	return remove_deep(tree);
}

#define tree_test(name) cmocka_unit_test_setup_teardown(name, tree_setup, tree_teardown)

#endif
