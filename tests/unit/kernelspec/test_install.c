#include "tests/unit/kernelspec/tree.h"

#include <errno.h>
#include <fcntl.h>

#include <jansson.h>

#include "kernelspec/list.h"
#include "kernelspec/search.h"
#include "kernelspec/verbs.h"

/* Runs a verb with the words after it; what it prints goes to TREE/out. Returns its exit code. */
static int run_words(int (*verb)(int, char **), const char *const *words)
{
	char *argv[16] = {strdup("cellwall verb")};
	int argc = 1, code, saved[2],
	    out = open(at("out"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(out >= 0);
	for (; words[argc - 1]; argc++)
		argv[argc] = strdup(words[argc - 1]);
	for (int i = 0; i < 2; i++) {
		fflush(NULL);
		saved[i] = dup(i + 1);
		assert_true(dup2(out, i + 1) >= 0);
	}
	code = verb(argc, argv);
	for (int i = 0; i < 2; i++) {
		fflush(NULL);
		assert_true(dup2(saved[i], i + 1) >= 0);
		close(saved[i]);
	}
	close(out);
	for (int i = 0; i < argc; i++)
		free(argv[i]);
	return code;
}

#define run(verb, ...) run_words(verb, (const char *const[]){__VA_ARGS__, NULL})

static void check_said(const char *words)
{
	char *text = NULL;

	assert_int_equal(read_file(-100, at("out"), 65536, &text, NULL, NULL), 0);
	if (!strstr(text, words))
		fail_msg("\"%s\" does not say \"%s\"", text, words);
	free(text);
}

static json_t *read_json(const char *name)
{
	json_t *json = json_load_file(at(name), JSON_REJECT_DUPLICATES, NULL);

	assert_non_null(json);
	return json;
}

/* The words of argv joined by single spaces, without the first. */
static void join_argv(const json_t *json, char out[2048])
{
	const json_t *argv = json_object_get(json, "argv"), *word;
	size_t i, used = 0;

	json_array_foreach(argv, i, word)
	{
		const char *text = json_string_value(word);

		assert_non_null(text);
		if (i == 0)
			assert_int_equal(text[0], '/');
		else
			used += (size_t)snprintf(out + used, 2048 - used, "%s%s", i > 1 ? " " : "",
						 text);
		assert_true(used < 2048);
	}
}

static size_t count_of(const char *text, const char *part)
{
	size_t count = 0;

	while ((text = strstr(text, part))) {
		count++;
		text += strlen(part);
	}
	return count;
}

static void make_kernel(void)
{
	make_python("base");
	make_venv("env", at("base"), false);
	make_module("env", "ipykernel");
}

static void test_python(void **state)
{
	static const char *const logos[] = {"logo-32x32.png", "logo-64x64.png", "logo-svg.svg"};
	char argv[2048], expected[2048];
	struct stat st;
	json_t *json, *metadata;

	(void)state;
	make_kernel();
	assert_int_equal(run(verb_install, "--prefix", at("p"), "--python", at("env/bin/python")),
			 0);
	json = read_json("p/share/jupyter/kernels/python3-isolated/kernel.json");
	join_argv(json, argv);
	print_to(expected,
		 "kernel -f {connection_file} -- %s -m ipykernel_launcher -f "
		 "{inner_connection_file}",
		 at("env/bin/python"));
	assert_string_equal(argv, expected);
	assert_int_equal(count_of(argv, "{connection_file}"), 1);
	assert_string_equal(json_string_value(json_object_get(json, "display_name")),
			    "Python 3 (isolated)");
	assert_string_equal(json_string_value(json_object_get(json, "language")), "python");
	assert_string_equal(json_string_value(json_object_get(json, "interrupt_mode")), "signal");
	assert_true(json_object_size(json_object_get(json, "env")) > 0);
	metadata = json_object_get(json, "metadata");
	assert_true(json_is_true(json_object_get(metadata, "debugger")));
	assert_true(json_is_object(json_object_get(metadata, "cellwall")));
	json_decref(json);
	for (size_t i = 0; i < 3; i++) {
		char name[TREE_PATH];

		print_to(name, "p/share/jupyter/kernels/python3-isolated/%s", logos[i]);
		assert_int_equal(stat(at(name), &st), 0);
		assert_true(st.st_size > 100);
		assert_int_equal(st.st_mode & 0777, 0644);
	}
	assert_int_equal(stat(at("p/share/jupyter/kernels/python3-isolated"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0755);
	assert_int_equal(st.st_nlink, 2);
}

static void test_options(void **state)
{
	char argv[2048], expected[2048];
	json_t *json;

	(void)state;
	make_kernel();
	make_file("policy.json", 0644, "{}");
	assert_int_equal(chdir(tree), 0);
	setenv("JUPYTER_DATA_DIR", at("data"), 1);
	assert_int_equal(run(verb_install, "--python", at("env/bin/python"), "--policy",
			     "policy.json", "--name", "course.1", "--display-name", "Course",
			     "--shared-environment"),
			 0);
	json = read_json("data/kernels/course.1/kernel.json");
	join_argv(json, argv);
	print_to(expected,
		 "kernel -f {connection_file} --policy %s --shared-environment -- %s -m "
		 "ipykernel_launcher -f "
		 "{inner_connection_file}",
		 at("policy.json"), at("env/bin/python"));
	assert_string_equal(argv, expected);
	assert_string_equal(json_string_value(json_object_get(json, "display_name")), "Course");
	json_decref(json);
	make_file("policy.json", 0644, "{ \"nonsense\": 1 }");
	assert_int_equal(
		run(verb_install, "--python", at("env/bin/python"), "--policy", "policy.json"), 1);
	check_said("policy.json:1:");
	assert_int_equal(access(at("data/kernels/python3-isolated"), F_OK), -1);
}

static void test_refused(void **state)
{
	static const char *const names[] = {"python", "python3", "Python3", "a/b",
					    "..",     "",	 "a b",	    ".hidden"};

	(void)state;
	make_kernel();
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_int_equal(run(verb_install, "--prefix", at("p"), "--python",
				     at("env/bin/python"), "--name", names[i]),
				 1);
	assert_int_equal(run(verb_install, "--prefix", at("p"), "--python", at("env/bin/python"),
			     "--display-name", "Python 3 (ipykernel)"),
			 1);
	make_venv("bare", at("base"), false);
	assert_int_equal(run(verb_install, "--prefix", at("p"), "--python", at("bare/bin/python")),
			 1);
	check_said("-m pip install ipykernel");
	assert_int_equal(run(verb_install, "--prefix", at("p"), "--python", at("none")), 1);
	setenv("JUPYTER_PATH", at("env/share/jupyter"), 1);
	make_dir("env/share/jupyter");
	assert_int_equal(run(verb_install, "--prefix", at("p"), "--python", at("env/bin/python")),
			 1);
	check_said("python3 -m venv ~/kernel-env");
	unsetenv("JUPYTER_PATH");
	assert_int_equal(access(at("p"), F_OK), -1);
}

static void test_replace(void **state)
{
	struct stat st;

	(void)state;
	make_kernel();
	/* Another's is left alone, whatever state it is in. */
	make_file("p/share/jupyter/kernels/mine/kernel.json", 0644, "{\"argv\": [\"x\"]}");
	make_file("p/share/jupyter/kernels/odd/kernel.json", 0644, "no json");
	make_file("p/share/jupyter/kernels/file", 0644, "");
	make_link("p/share/jupyter/kernels/link", at("p/share/jupyter/kernels/mine"));
	make_file("p/share/jupyter/kernels/half/notes.txt", 0644, "");
	make_dir("p/share/jupyter/kernels/empty");
	for (size_t i = 0; i < 5; i++) {
		static const char *const names[] = {"mine", "odd", "file", "link", "half"};

		assert_int_equal(run(verb_install, "--prefix", at("p"), "--python",
				     at("env/bin/python"), "--name", names[i]),
				 1);
		check_said("choose another --name");
	}
	assert_int_equal(access(at("p/share/jupyter/kernels/mine/kernel.json"), F_OK), 0);
	assert_int_equal(run(verb_install, "--prefix", at("p"), "--python", at("env/bin/python"),
			     "--name", "empty"),
			 0);
	/* Ours is replaced as a whole: what a former version left goes. */
	make_file("p/share/jupyter/kernels/empty/old.txt", 0644, "");
	assert_int_equal(run(verb_install, "--prefix", at("p"), "--python", at("env/bin/python"),
			     "--name", "empty"),
			 0);
	assert_int_equal(access(at("p/share/jupyter/kernels/empty/old.txt"), F_OK), -1);
	assert_int_equal(access(at("p/share/jupyter/kernels/empty/kernel.json"), F_OK), 0);
	/* No temporary directory stays: ".", "..", mine, odd, half, empty. */
	assert_int_equal(stat(at("p/share/jupyter/kernels"), &st), 0);
	assert_true(st.st_nlink == 6 || st.st_nlink == 1);
}

static void test_wrap(void **state)
{
	char argv[2048], expected[2048], text[TREE_PATH * 2];
	json_t *json;

	(void)state;
	make_program("julia/bin/julia");
	make_dir("julia/share");
	make_file("depot/kernel.jl", 0644, "");
	print_to(text,
		 "{\"argv\": [\"%s/bin/julia\", \"--x={resource_dir}/a\", \"%s/kernel.jl\", "
		 "\"{connection_file}\", "
		 "\"{other}\"], \"display_name\": \"Julia\", \"language\": \"julia\", "
		 "\"interrupt_mode\": \"message\",",
		 at("julia"), at("depot"));
	strncat(text,
		"\"env\": {\"A\": \"1\", \"B\": \"${HOME}\", \"API_TOKEN\": \"x\", \"C\": "
		"\"{prefix}\", \"D\": 3},"
		"\"metadata\": {\"debugger\": true, \"kernel_provisioner\": {\"provisioner_name\": "
		"\"x\"},"
		"\"supported_encryption\": [\"curve\"], \"interpreter\": {\"path\": \"/x\"}}}",
		sizeof(text) - strlen(text) - 1);
	make_file("data/kernels/julia-1.11/kernel.json", 0600, text);
	make_file("data/kernels/julia-1.11/logo-svg.svg", 0644, "<svg/>");
	setenv("JUPYTER_DATA_DIR", at("data"), 1);
	assert_int_equal(run(verb_install, "--wrap", "julia-1.11"), 0);
	check_said("env B was left out");
	check_said("env API_TOKEN was left out");
	check_said("env C was left out");
	check_said("env D was left out");
	check_said("provisioner");
	json = read_json("data/kernels/julia-1.11-isolated/kernel.json");
	join_argv(json, argv);
	print_to(expected,
		 "kernel -f {connection_file} --show %s --show %s --setenv A=1 -- %s/bin/julia "
		 "--x=%s/a %s/kernel.jl "
		 "{inner_connection_file} {other}",
		 at("data/kernels/julia-1.11"), at("depot"), at("julia"),
		 at("data/kernels/julia-1.11"), at("depot"));
	assert_string_equal(argv, expected);
	assert_string_equal(json_string_value(json_object_get(json, "display_name")),
			    "Julia (isolated)");
	assert_string_equal(json_string_value(json_object_get(json, "language")), "julia");
	assert_string_equal(json_string_value(json_object_get(json, "interrupt_mode")), "message");
	assert_int_equal(json_object_size(json_object_get(json, "metadata")), 2);
	assert_true(json_is_true(json_object_get(json_object_get(json, "metadata"), "debugger")));
	json_decref(json);
	/* The wrapped kernel's logo, not ours. */
	assert_int_equal(access(at("data/kernels/julia-1.11-isolated/logo-svg.svg"), F_OK), 0);
	assert_int_equal(access(at("data/kernels/julia-1.11-isolated/logo-32x32.png"), F_OK), -1);
	assert_int_equal(run(verb_install, "--wrap", "julia-1.11-isolated", "--name", "twice"), 1);
	check_said("isolated already");
	assert_int_equal(
		run(verb_install, "--wrap", at("data/kernels/julia-1.11"), "--name", "by-path"), 0);
	assert_int_equal(run(verb_install, "--wrap", "no-such"), 1);
	check_said("no kernelspec no-such");
}

static void test_wrap_python(void **state)
{
	char argv[2048], expected[2048];
	json_t *json;

	(void)state;
	make_kernel();
	/* "python" is the interpreter of the environment that holds the spec. */
	make_file("env/share/jupyter/kernels/python3/kernel.json", 0644,
		  "{\"argv\": [\"python\", \"-m\", \"ipykernel_launcher\", \"-f\", "
		  "\"{connection_file}\"],"
		  "\"display_name\": \"Python 3 (ipykernel)\", \"language\": \"python\","
		  "\"metadata\": {\"debugger\": true}}");
	assert_int_equal(run(verb_install, "--prefix", at("p"), "--wrap",
			     at("env/share/jupyter/kernels/python3")),
			 0);
	json = read_json("p/share/jupyter/kernels/python3-isolated/kernel.json");
	join_argv(json, argv);
	print_to(expected,
		 "kernel -f {connection_file} -- %s -m ipykernel_launcher -f "
		 "{inner_connection_file}",
		 at("env/bin/python"));
	assert_string_equal(argv, expected);
	assert_string_equal(json_string_value(json_object_get(json, "interrupt_mode")), "signal");
	json_decref(json);
}

static void test_wrap_refused(void **state)
{
	static const char *const specs[] = {
		"{}",
		"[]",
		"{\"argv\": []}",
		"{\"argv\": [1]}",
		"{\"argv\": [\"/bin/sh\", \"-c\"]}",
		"{\"argv\": [\"/no/such\", \"{connection_file}\"]}",
		"{\"argv\": [\"/bin/sh\", \"{connection_file}\"], \"interrupt_mode\": \"never\"}",
		"{\"argv\": [\"/bin/sh\", \"{prefix}\", \"{connection_file}\"]}",
		"{\"argv\": [\"/bin/sh\", \"{connection_file}\"], \"argv\": []}",
		"",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		make_file("spec/kernel.json", 0644, specs[i]);
		assert_int_equal(
			run(verb_install, "--prefix", at("p"), "--wrap", at("spec"), "--name", "x"),
			1);
	}
	assert_int_equal(access(at("p"), F_OK), -1);
}

static void test_list_and_remove(void **state)
{
	struct list list;

	(void)state;
	make_kernel();
	setenv("JUPYTER_DATA_DIR", at("data"), 1);
	setenv("JUPYTER_PATH", at("first"), 1);
	make_file("data/kernels/other/kernel.json", 0644, "{\"argv\": [\"x\"], \"metadata\": {}}");
	assert_int_equal(run(verb_install, "--python", at("env/bin/python"), "--name", "a"), 0);
	assert_int_equal(run(verb_install, "--python", at("env/bin/python"), "--name", "b"), 0);
	make_dir("first");
	make_python("other");
	make_module("other", "ipykernel");
	assert_int_equal(rename(at("data/kernels/b"), at("moved")), 0);
	make_dir("first/kernels");
	assert_int_equal(rename(at("moved"), at("first/kernels/b")), 0);
	assert_int_equal(run(verb_install, "--python", at("other/bin/python3"), "--name", "b"), 0);

	assert_int_equal(list_find(NULL, &list, NULL), 0);
	assert_int_equal(list.count, 3);
	assert_string_equal(list.rows[0].spec.directory, at("first/kernels/b"));
	assert_string_equal(list.rows[0].state, "ok");
	assert_string_equal(list.rows[0].kernel, at("env/bin/python"));
	assert_string_equal(list.rows[2].state, "hidden by the one of that name above");
	list_done(&list);
	assert_int_equal(run(verb_list, "--json"), 0);
	check_said("\"kernel\"");
	assert_int_equal(unlink(at("other/bin/python3")), 0);
	assert_int_equal(run(verb_list, NULL), 0);
	check_said("broken: ");

	assert_int_equal(run(verb_remove, "other"), 1);
	check_said("no kernelspec other made by cellwall");
	assert_int_equal(run(verb_remove, "b", "a"), 0);
	assert_int_equal(access(at("first/kernels/b"), F_OK), -1);
	assert_int_equal(access(at("data/kernels/b"), F_OK), 0);
	assert_int_equal(run(verb_remove, "b"), 0);
	assert_int_equal(access(at("data/kernels/other/kernel.json"), F_OK), 0);
	assert_int_equal(run(verb_remove, NULL), 2);
	assert_int_equal(run(verb_list, NULL), 0);
	check_said("no isolated kernels");
}

static void test_remove_follows_nothing(void **state)
{
	(void)state;
	make_kernel();
	make_file("precious/file", 0644, "x");
	assert_int_equal(run(verb_install, "--prefix", at("p"), "--python", at("env/bin/python"),
			     "--name", "a"),
			 0);
	make_link("p/share/jupyter/kernels/a/link", at("precious"));
	assert_int_equal(run(verb_remove, "--prefix", at("p"), "a"), 0);
	assert_int_equal(access(at("precious/file"), F_OK), 0);
	assert_int_equal(access(at("p/share/jupyter/kernels/a"), F_OK), -1);
}

static void test_sys_prefix(void **state)
{
	char text[TREE_PATH];

	(void)state;
	make_kernel();
	make_venv("lab", at("base"), false);
	assert_int_equal(run(verb_install, "--sys-prefix", "--python", at("env/bin/python")), 1);
	check_said("no jupyter in PATH");
	print_to(text, "#!%s/bin/python3\n", at("lab"));
	make_file("lab/bin/jupyter", 0755, text);
	make_link("path/jupyter", at("lab/bin/jupyter"));
	assert_int_equal(run(verb_install, "--sys-prefix", "--python", at("env/bin/python")), 0);
	assert_int_equal(access(at("lab/share/jupyter/kernels/python3-isolated/kernel.json"), F_OK),
			 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		tree_test(test_python),
		tree_test(test_options),
		tree_test(test_refused),
		tree_test(test_replace),
		tree_test(test_wrap),
		tree_test(test_wrap_python),
		tree_test(test_wrap_refused),
		tree_test(test_list_and_remove),
		tree_test(test_remove_follows_nothing),
		tree_test(test_sys_prefix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
