#include "tests/unit/kernelspec/tree.h"

static void check_absolute(const char *path, const char *expected)
{
	char *absolute = paths_absolute(path);

	assert_non_null(absolute);
	assert_string_equal(absolute, expected);
	free(absolute);
}

static void test_absolute(void **state)
{
	char relative[TREE_PATH];

	(void)state;
	check_absolute("/", "/");
	check_absolute("//a///b/./c/", "/a/b/c");
	check_absolute("/a/.", "/a");
	check_absolute("/a/..b/c..", "/a/..b/c..");
	/* ".." goes where the disk says: up from where a link leads. */
	make_dir("deep/er");
	make_file("deep/x", 0644, "");
	make_link("link", "deep/er");
	print_to(relative, "%s/../x", at("link"));
	check_absolute(relative, at("deep/x"));
	print_to(relative, "%s/..", at("link"));
	check_absolute(relative, at("deep"));
	assert_int_equal(chdir(tree), 0);
	check_absolute("a/b", at("a/b"));
	assert_null(paths_absolute("/nowhere/../x"));
}

static void test_within(void **state)
{
	(void)state;
	assert_true(paths_within("/a/b", "/a"));
	assert_true(paths_within("/a", "/a"));
	assert_true(paths_within("/a", "/"));
	assert_false(paths_within("/ab", "/a"));
	assert_false(paths_within("/a", "/a/b"));
}

static void test_parent_and_name(void **state)
{
	static const char *const cases[][3] = {
		{"/a/b", "/a", "b"}, {"/a", "/", "a"}, {"a", ".", "a"}};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		char *parent = paths_parent(cases[i][0]);

		assert_string_equal(parent, cases[i][1]);
		assert_string_equal(paths_name(cases[i][0]), cases[i][2]);
		free(parent);
	}
}

static void check_shebang(const char *text, int expected, const char *interpreter)
{
	char *found = NULL;

	make_file("script", 0755, text);
	assert_int_equal(paths_shebang(at("script"), &found), expected);
	if (expected == 1)
		assert_string_equal(found, interpreter);
	else
		assert_null(found);
	free(found);
}

static void test_shebang(void **state)
{
	(void)state;
	check_shebang("#!/opt/venv/bin/python3\nimport sys\n", 1, "/opt/venv/bin/python3");
	check_shebang("#! /opt/venv/bin/python3 -I\n", 1, "/opt/venv/bin/python3");
	check_shebang("#!/usr/bin/env python3\n", 1, "python3");
	check_shebang("#!/usr/bin/env -S python3 -I\n", 1, "python3");
	/* What pip writes for long paths, with and without quotes. */
	check_shebang("#!/bin/sh\n'''exec' \"/a b/bin/python\" \"$0\" \"$@\"\n' '''\n", 1,
		      "/a b/bin/python");
	check_shebang("#!/bin/sh\n'''exec' /ab/bin/python \"$0\" \"$@\"\n' '''\n", 1,
		      "/ab/bin/python");
	check_shebang("\177ELF", 0, NULL);
	check_shebang("", 0, NULL);
	check_shebang("#!", -8, NULL); /* ENOEXEC */
	check_shebang("#!/usr/bin/env", -8, NULL);
	assert_true(paths_shebang(at("missing"), &(char *){NULL}) < 0);
}

static bool second(const char *path)
{
	return strstr(path, "/two/") != NULL;
}

static void test_search(void **state)
{
	char search[TREE_PATH];
	char *found;

	(void)state;
	make_program("one/tool");
	make_program("two/tool");
	make_file("zero/tool", 0644, "not executable");
	print_to(search, ":relative:%s:%s:%s", at("zero"), at("one"), at("two"));
	found = paths_search(search, "tool", NULL);
	assert_string_equal(found, at("one/tool"));
	free(found);
	found = paths_search(search, "tool", second);
	assert_string_equal(found, at("two/tool"));
	free(found);
	assert_null(paths_search(search, "other", NULL));
	assert_null(paths_search(NULL, "tool", NULL));
}

static void test_list_is_bounded(void **state)
{
	struct paths_list list = {0};

	(void)state;
	for (int i = 0; i < PATHS_LIST_MAX; i++)
		assert_int_equal(paths_list_add(&list, "x"), 0);
	assert_int_equal(paths_list_add(&list, "x"), -7); /* E2BIG */
	assert_null(list.items[PATHS_LIST_MAX]);
	paths_list_done(&list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tree_test(test_absolute), tree_test(test_within), tree_test(test_parent_and_name),
		tree_test(test_shebang),  tree_test(test_search), tree_test(test_list_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
