#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/policy.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int parse(const char *text, struct policy *policy, struct err *err)
{
	return policy_parse("p.json", text, strlen(text), policy, err);
}

static void assert_same_list(char **a, char **b)
{
	size_t i;

	for (i = 0; a[i] && b[i]; i++)
		assert_string_equal(a[i], b[i]);
	assert_null(a[i]);
	assert_null(b[i]);
}

static void assert_same_inputs(const struct policy_input *a, const struct policy_input *b)
{
	for (; a->path && b->path; a++, b++) {
		assert_string_equal(a->path, b->path);
		assert_string_equal(a->name, b->name);
		assert_int_equal(a->required, b->required);
	}
	assert_null(a->path);
	assert_null(b->path);
}

static void assert_same(const struct policy *a, const struct policy *b)
{
	assert_same_inputs(a->stage_in, b->stage_in);
	assert_same_list(a->may_add, b->may_add);
	assert_same_list(a->out_names, b->out_names);
	assert_same_list(a->caches, b->caches);
	assert_same_list(a->startup, b->startup);
	assert_int_equal(a->history, b->history);
	assert_int_equal(a->build, b->build);
	assert_int_equal(!a->build_hosts, !b->build_hosts);
	if (a->build_hosts)
		assert_same_list(a->build_hosts, b->build_hosts);
	assert_int_equal(a->build_size, b->build_size);
	assert_int_equal(a->build_time, b->build_time);
	assert_same_list(a->env_keep, b->env_keep);
	assert_same_list(a->env_set, b->env_set);
	assert_int_equal(a->out_limit, b->out_limit);
	assert_int_equal(a->out_files, b->out_files);
	assert_int_equal(a->memory, b->memory);
	assert_int_equal(a->pids, b->pids);
	assert_int_equal(a->open_files, b->open_files);
	assert_int_equal(a->tmp, b->tmp);
	assert_int_equal(a->cpus, b->cpus);
	assert_int_equal(a->disk, b->disk);
	assert_int_equal(a->idle_timeout, b->idle_timeout);
	assert_int_equal(a->cgroup_only, b->cgroup_only);
	assert_int_equal(!a->python, !b->python);
	if (a->python)
		assert_string_equal(a->python, b->python);
}

static void an_empty_object_is_the_default(void **state)
{
	struct policy policy, empty, sections;

	(void)state;
	assert_int_equal(policy_default(&policy), 0);
	assert_int_equal(parse("{}", &empty, NULL), 0);
	assert_int_equal(parse("{\"stage\":{},\"env\":{},\"resources\":{},\"python\":null}",
			       &sections, NULL),
			 0);
	assert_same(&policy, &empty);
	assert_same(&policy, &sections);
	assert_null(policy.stage_in[0].path);
	assert_string_equal(policy.may_add[0], ".");
	assert_null(policy.may_add[1]);
	assert_null(policy.out_names[0]);
	assert_null(policy.caches[0]);
	assert_null(policy.startup[0]);
	assert_false(policy.history);
	assert_null(policy.env_set[0]);
	assert_null(policy.python);
	assert_string_equal(policy.env_keep[0], "LANG");
	assert_int_equal(policy.out_limit, 2ULL << 30);
	assert_int_equal(policy.out_files, 10000);
	assert_int_equal(policy.memory, 80); /* of a hundred */
	assert_int_equal(policy.cpus, 0);
	assert_int_equal(policy.disk, 20ULL << 30);
	assert_int_equal(policy.idle_timeout, 0);
	assert_false(policy.cgroup_only);
	assert_int_equal(policy.pids, 4096);
	assert_int_equal(policy.open_files, 4096);
	assert_int_equal(policy.tmp, 1ULL << 30);
	for (char **name = policy.env_keep; *name; name++) {
		assert_null(strstr(*name, "TOKEN"));
		assert_null(strstr(*name, "PATH"));
		assert_string_not_equal(*name, "HOME");
	}
	policy_done(&policy);
	policy_done(&policy); /* twice is harmless */
	policy_done(&empty);
	policy_done(&sections);
}

static const char full[] =
	"{ \"stage\": { \"in\": [\"data\", \"./a//b/\", \"/abs/./path/\", "
	"\"big/one=/mnt/x/\", \"./odd=/x\", "
	"{\"required\": true, \"path\": \"keys.csv\"}, "
	"{\"path\": \"/srv/y\", \"name\": \"z\", \"required\": false}],\n"
	"\"may_add\": [\".\", \"/srv//data/\"], \"out_names\": [\"conftest.py\"],\n"
	"\"caches\": [\"torch\", \"huggingface\"], \"history\": \"folder\", "
	"\"startup\": [\"a.py\", \"/etc/x/b.ipy\"],\n"
	"\"out_limit\": \"3M\", \"out_files\": 7 },\n"
	"  \"python\": \"/opt/venvs/course/\",\n"
	"  \"env\": { \"keep\": [\"TZ\", \"GITHUB_TOKEN\"], \"set\": { "
	"\"OMP_NUM_THREADS\": \"2\", \"_x\": \"a=b\\n\\u00e9\" } },\n"
	"  \"resources\": { \"memory\": 4294967297, \"pids\": 1024, "
	"\"open_files\": 64, \"tmp\": \"1048577\", \"cpus\": 1.5, "
	"\"disk\": \"1G\", \"idle_timeout\": \"120m\", \"enforce\": \"cgroup\" } }\n";

static void assert_input(const struct policy_input *input, const char *path, const char *name,
			 bool required)
{
	assert_string_equal(input->path, path);
	assert_string_equal(input->name, name);
	assert_int_equal(input->required, required);
}

static void reads_every_key(void **state)
{
	struct policy policy;

	(void)state;
	assert_int_equal(parse(full, &policy, NULL), 0);
	assert_input(&policy.stage_in[0], "data", "data", false);
	assert_input(&policy.stage_in[1], "a/b", "a/b", false);
	assert_input(&policy.stage_in[2], "/abs/path", "path", false);
	assert_input(&policy.stage_in[3], "/mnt/x", "big/one", false);
	assert_input(&policy.stage_in[4], "odd=/x", "odd=/x", false);
	assert_input(&policy.stage_in[5], "keys.csv", "keys.csv", true);
	assert_input(&policy.stage_in[6], "/srv/y", "z", false);
	assert_null(policy.stage_in[7].path);
	assert_string_equal(policy.may_add[0], ".");
	assert_string_equal(policy.may_add[1], "/srv/data");
	assert_null(policy.may_add[2]);
	assert_string_equal(policy.out_names[0], "conftest.py");
	assert_string_equal(policy.caches[0], "torch");
	assert_string_equal(policy.caches[1], "huggingface");
	assert_true(policy.history);
	assert_string_equal(policy.startup[0], "a.py");
	assert_string_equal(policy.startup[1], "/etc/x/b.ipy");
	assert_int_equal(policy.out_limit, 3 << 20);
	assert_int_equal(policy.out_files, 7);
	assert_string_equal(policy.python, "/opt/venvs/course");
	assert_string_equal(policy.env_keep[0], "TZ");
	assert_string_equal(policy.env_keep[1], "GITHUB_TOKEN");
	assert_null(policy.env_keep[2]);
	assert_string_equal(policy.env_set[0], "OMP_NUM_THREADS=2");
	assert_string_equal(policy.env_set[1], "_x=a=b\n\xc3\xa9");
	assert_null(policy.env_set[2]);
	assert_int_equal(policy.memory, 4294967297);
	assert_int_equal(policy.pids, 1024);
	assert_int_equal(policy.open_files, 64);
	assert_int_equal(policy.tmp, 1048577);
	assert_int_equal(policy.cpus, 1500);
	assert_int_equal(policy.disk, 1 << 30);
	assert_int_equal(policy.idle_timeout, 7200);
	assert_true(policy.cgroup_only);
	policy_done(&policy);
}

static void shows_what_it_reads_again(void **state)
{
	static const char *const texts[] = {
		"{}",
		full,
		"{\"stage\":{\"may_add\":[],\"history\":\"off\",\"startup\":[],\"in\":[\"./a=/"
		"b\"]}}",
		"{\"env\":{\"keep\":[]},\"resources\":{\"memory\":\"16T\"}}",
		"{\"outputs\":{\"mode\":\"interactive\",\"autolink\":\"leave\",\"mime\":[\"text/"
		"csv\"],"
		"\"extra_types\":[\"my_event\"],\"comm_targets\":[\"jupyter.widget\",\"x.Y:z-1\"]}"
		"}",
		"{\"outputs\":{\"mode\":\"off\"}}",
		"{\"build\":{\"allow\":false,\"hosts\":[]}}",
		"{\"build\":{\"size\":\"1M\",\"time\":\"90s\"}}",
		"{\"build\":{\"time\":0}}",
		"{\"build\":{\"hosts\":[\"pypi.org\",\"index.example:8080\"]}}",
		"{\"resources\":{\"memory\":\"33%\",\"cpus\":4,\"idle_timeout\":\"90s\",\"disk\":0}"
		"}",
		"{\"resources\":{\"memory\":0,\"cpus\":0,\"idle_timeout\":0,\"enforce\":\"best\"}"
		"}"};

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct policy policy, again;
		char *shown, *shown_again;

		assert_int_equal(parse(texts[i], &policy, NULL), 0);
		shown = policy_show(&policy);
		assert_non_null(shown);
		assert_int_equal(parse(shown, &again, NULL), 0);
		assert_same(&policy, &again);
		shown_again = policy_show(&again);
		assert_string_equal(shown, shown_again);
		free(shown);
		free(shown_again);
		policy_done(&policy);
		policy_done(&again);
	}
}

static void reads_sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes; /* 0: refused */
	} cases[] = {
		{"\"1M\"", 1 << 20},
		{"\"512M\"", 512ULL << 20},
		{"\"16T\"", 16ULL << 40},
		{"\"2048K\"", 2 << 20},
		{"1048576", 1 << 20},
		{"\"1048576\"", 1 << 20},
		{"\"17T\"", 0},
		{"\"1023K\"", 0},
		{"0", 0},
		{"-1", 0},
		{"1048576.0", 0},
		{"\"\"", 0},
		{"\"M\"", 0},
		{"\"1.5G\"", 0},
		{"\"512MB\"", 0},
		{"\"512m\"", 0},
		{"\" 512M\"", 0},
		{"\"-1G\"", 0},
		{"\"+1G\"", 0},
		{"null", 0},
		{"true", 0},
		{"[]", 0},
		{"\"99999999T\"", 0},
		{"\"18446744073709551616\"", 0},
		{"\"16777216T\"", 0},
		{"9223372036854775807", 0},
		{"\"\\u00e9\"", 0},
		{"\"0x100000\"", 0},
		{"{}", 0},
		{"\"111111111111111111111111111111\"", 0},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct policy policy;
		char text[96];
		int r;

		snprintf(text, sizeof(text), "{\"resources\":{\"tmp\":%s}}", cases[i].text);
		r = parse(text, &policy, NULL);
		if (cases[i].bytes == 0) {
			if (r != -EINVAL)
				fail_msg("%s was taken", text);
			continue;
		}
		assert_int_equal(r, 0);
		assert_int_equal(policy.tmp, cases[i].bytes);
		policy_done(&policy);
	}
}

/* The whole line as the user sees it. */
static void says_where_and_what(void **state)
{
	static const struct {
		const char *text, *line;
	} cases[] = {
		{"{\n  \"stage\": {},\n  \"reosurces\": {}\n}",
		 "p.json:3:3: unknown key \"reosurces\", did you mean \"resources\"? (known: "
		 "stage, wall, python, install, env, resources, audit, outputs, build)"},
		{"{\"stage\": {\n\t\"inn\": []}}",
		 "p.json:2:2: unknown key \"inn\" in \"stage\", did you mean \"in\"? (known: in, "
		 "may_add, out_limit, out_files, out_names, caches, history, startup)"},
		{"{\"memory\": \"4G\"}", "p.json:1:2: unknown key \"memory\": it belongs in "
					 "\"resources\" (known: stage, wall, python, install, env, "
					 "resources, audit, outputs, build)"},
		{"{\"env\": {\"python\": \"/x\"}}",
		 "p.json:1:10: unknown key \"python\" in \"env\": it belongs at the top (known: "
		 "keep, set)"},
		{"{\"network\": \"none\"}",
		 "p.json:1:2: unknown key \"network\" (known: stage, "
		 "wall, python, install, env, resources, audit, outputs, build)"},
		{"{\"\\u0078\\n\": 1}",
		 "p.json:1:2: unknown key \"x\\n\" (known: stage, wall, python, "
		 "install, env, resources, audit, outputs, build)"},
		{"{\"stage\": 7}", "p.json:1:11: \"stage\" must be an object {...}, not a number"},
		{" [1]", "p.json:1:2: a policy must be an object {...}, not a list [...]"},
		{"{\"env\": {\"set\": {\"A\": \"{\\\"[\", \"\xc3\xa9\": \"\"}}}",
		 "p.json:1:31: \"\xc3\xa9\" is not a variable's name: letters, digits and _, no "
		 "pattern and no value"},
		{"{\"env\": {\"set\": {\"A\": 2}}}", "p.json:1:23: the value of \"A\" must be a "
						     "string, not a number: put it in quotes"},
		{"{\"env\": {\"set\": []}}", "p.json:1:17: \"set\" must be an object such as "
					     "{\"TZ\": \"UTC\"}, not a list [...]"},
		{"{\"env\": {\"keep\": [\"A\", \"B\" , \n\"LC_*\"]}}",
		 "p.json:2:1: \"LC_*\" is not a variable's name: letters, digits and _, no pattern "
		 "and no value"},
		{"{\"env\": {\"keep\": [\"A=1\"]}}",
		 "p.json:1:19: \"A=1\" is not a variable's name: letters, digits and _, no pattern "
		 "and no value"},
		{"{\"env\": {\"keep\": [\"A\", \"A\"]}}", "p.json:1:24: \"A\" is listed twice"},
		{"{\"env\": {\"keep\": \"A\"}}",
		 "p.json:1:18: \"keep\" must be a list such as [\"LANG\", \"TZ\"], not a string"},
		{"{\"env\": {\"keep\": [null]}}",
		 "p.json:1:19: an entry of \"keep\" must be a string, not null"},
		{"{\"stage\": {\"in\": [\"a\", [\"b\"], {\"c\": [1]}]}}",
		 "p.json:1:24: an entry of \"in\" must be a string or an object, not a list "
		 "[...]"},
		{"{\"stage\": {\"in\": [\".\"]}}",
		 "p.json:1:19: \".\" would show everything beside the notebook, secrets included: "
		 "name what the "
		 "kernel needs, such as \"data\""},
		{"{\"stage\": {\"in\": [\"a\", \"./\"]}}",
		 "p.json:1:24: \".\" would show everything beside the notebook, secrets included: "
		 "name what the "
		 "kernel needs, such as \"data\""},
		{"{\"stage\": {\"in\": [\"//.\"]}}",
		 "p.json:1:19: \"/\" would show the whole host: name what the kernel needs"},
		{"{\"stage\": {\"in\": [\"\"]}}",
		 "p.json:1:19: an empty path: name a folder or file, such as \"data\""},
		{"{\"stage\": {\"in\": [\"a/../b\"]}}",
		 "p.json:1:19: \"a/../b\": \"..\" is not allowed, write the absolute path"},
		{"{\"stage\": {\"in\": [\"/..\"]}}",
		 "p.json:1:19: \"/..\": \"..\" is not allowed, write the absolute path"},
		{"{\"stage\": {\"in\": [\"~/data\"]}}",
		 "p.json:1:19: \"~/data\": \"~\" is not expanded, write the absolute path"},
		{"{\"stage\": {\"in\": [\"/x/data\", \"a/data\", \"data\"]}}",
		 "p.json:1:40: it would take the place of \"/x/data\" in /work"},
		{"{\"stage\": {\"in\": [\"/x/staging\"]}}",
		 "p.json:1:19: staging/out is where results go and cannot be staged"},
		{"{\"stage\": {\"in\": [\"staging//in\"]}}",
		 "p.json:1:19: staging/in is always staged: leave it out"},
		{"{\"stage\": {\"in\": [\"./~\"]}}",
		 "p.json:1:19: \"./~\": \"~\" is not expanded, write the absolute path"},
		{"{\"stage\": {\"in\": [\"a/b\", \"a//b\"]}}",
		 "p.json:1:26: it would take the place of \"a/b\" in /work"},
		{"{\"stage\": {\"in\": [\"staging/./out/x\"]}}",
		 "p.json:1:19: staging/out is where results go and cannot be staged"},
		{"{\"stage\": {\"in\": [\"a\", {\"path\": \"b\",\n \"requried\": true}]}}",
		 "p.json:2:2: unknown key \"requried\" in an entry of \"in\" (known: path, name, "
		 "required)"},
		{"{\"stage\": {\"in\": [\"a\", {\"path\": \"b\",\n \"required\": 1}]}}",
		 "p.json:2:14: \"required\" must be true or false, not a number"},
		{"{\"stage\": {\"in\": [\"a\",\n{\"name\": \"b\"}]}}",
		 "p.json:2:1: \"path\" is missing in this entry of \"in\""},
		{"{\"stage\": {\"in\": [{\"path\": \"/b\",\n\"name\": \"/c\"}]}}",
		 "p.json:2:9: \"/c\" is not a name in /work, such as \"data\" or \"data/2026\""},
		{"{\"stage\": {\"in\": [{\"path\": [],\n\"name\": \"c\"}]}}",
		 "p.json:1:28: \"path\" must be a string, not a list [...]"},
		{"{\"stage\": {\"in\": [\"a/..=/x\"]}}",
		 "p.json:1:19: \"a/..\": \"..\" is not allowed, write the absolute path"},
		{"{\"stage\": {\"in\": [\"staging/out/x=/x\"]}}",
		 "p.json:1:19: staging/out is where results go and cannot be staged"},
		{"{\"stage\": {\"in\": [\"a\", \"a=/x\"]}}",
		 "p.json:1:24: it would take the place of \"a\" in /work"},
		{"{\"stage\": {\"may_add\": [\".\", \"data\"]}}",
		 "p.json:1:29: \"data\" is neither \".\" (what is beside the notebook) nor an "
		 "absolute directory"},
		{"{\"stage\": {\"may_add\": [\"/\"]}}",
		 "p.json:1:24: \"/\" would let the whole host be added: name the directories that "
		 "may"},
		{"{\"stage\": {\"may_add\": [\"/x\", \"/x/\"]}}",
		 "p.json:1:30: \"/x\" is listed twice"},
		{"{\"stage\": {\"may_add\": \".\"}}",
		 "p.json:1:23: \"may_add\" must be a list such "
		 "as [\".\", \"/srv/data\"], not a string"},
		{"{\"stage\": {\"out_names\": [\"a/b\"]}}",
		 "p.json:1:26: \"a/b\" is not one name of a file or directory, such as "
		 "\"conftest.py\""},
		{"{\"stage\": {\"out_names\": [\"*.pth\"]}}",
		 "p.json:1:26: \"*.pth\": patterns are not expanded, write the name"},
		{"{\"stage\": {\"caches\": [\"hugingface\"]}}",
		 "p.json:1:23: unknown cache \"hugingface\" (known: huggingface, nltk, sklearn, "
		 "torch)"},
		{"{\"stage\": {\"history\": true}}", "p.json:1:23: \"history\" must be \"off\" or "
						     "\"folder\" (kept for the notebooks of "
						     "one folder), not true or false"},
		{"{\"stage\": {\"history\": \"on\"}}",
		 "p.json:1:23: \"history\" must be \"off\" or "
		 "\"folder\" (kept for the notebooks of one "
		 "folder)"},
		{"{\"stage\": {\"startup\": [\"a.py\", \"b.txt\"]}}",
		 "p.json:1:32: \"b.txt\": IPython runs files that end with .py or .ipy only"},
		{"{\"stage\": {\"startup\": [\"../a.py\"]}}",
		 "p.json:1:24: \"../a.py\": \"..\" is not allowed, write the absolute path"},
		{"{\"python\": \"venv\"}",
		 "p.json:1:12: \"python\" must be the absolute path of an interpreter's folder, "
		 "such as \"/opt/venvs/course\""},
		{"{\"python\": \"/\"}", "p.json:1:12: \"/\" would show the whole host"},
		{"{\"resources\": {\"pids\": \"100\"}}",
		 "p.json:1:24: \"pids\" must be a whole number, not a string"},
		{"{\"resources\": {\"pids\": 1.5}}",
		 "p.json:1:24: \"pids\" must be a whole number, not a fraction"},
		{"{\"resources\": {\"pids\": -1}}",
		 "p.json:1:24: \"pids\" is out of range: 32 to 4194304"},
		{"{\"resources\": {\"tmp\" : 0}}",
		 "p.json:1:24: \"tmp\" is out of range: 1M to 16T"},
		{"{\"resources\": {\"memory\": \"1M\"}}",
		 "p.json:1:26: \"memory\" is out of range: 128M to 16T, or 0 for no limit"},
		{"{\"resources\": {\"memory\": \"4GB\"}}",
		 "p.json:1:26: \"4GB\" is not a size: bytes, or digits with K, M, G or T, such as "
		 "\"512M\""},
		{"{\"resources\": {\"memory\": \"101%\"}}",
		 "p.json:1:26: a share of the machine's memory is \"1%\" to \"100%\""},
		{"{\"resources\": {\"memory\": 80}}",
		 "p.json:1:26: \"memory\" is out of range: 128M to 16T, or 0 for no limit"},
		{"{\"resources\": {\"cpus\": \"2\"}}",
		 "p.json:1:24: \"cpus\" must be a number such as 2 or 0.5, not a string"},
		{"{\"resources\": {\"cpus\": -1}}",
		 "p.json:1:24: \"cpus\" is out of range: 0.01 to 4096, or 0 for no limit"},
		{"{\"resources\": {\"idle_timeout\": \"2 h\"}}",
		 "p.json:1:32: \"idle_timeout\" must be a time of at most 365 days such as "
		 "\"90s\", "
		 "\"30m\", \"2h\" or \"1d\", or 0 for never"},
		{"{\"resources\": {\"enforce\": true}}",
		 "p.json:1:27: \"enforce\" must be \"best\" or \"cgroup\""},
		{"{\"resources\": {\"memory\": true}}",
		 "p.json:1:26: \"memory\" must be a size such as \"512M\", not true or false"},
		{"{\"outputs\": {\"mode\": \"open\"}}",
		 "p.json:1:22: \"mode\" must be \"text\", \"static\", \"interactive\" or \"off\""},
		{"{\"outputs\": {\"autolink\": true}}",
		 "p.json:1:26: \"autolink\" must be \"defang\" or \"leave\" (addresses in text), "
		 "not "
		 "true or false"},
		{"{\"outputs\": {\"mime\": [\"text/html\"]}}",
		 "p.json:1:23: \"text/html\" cannot be named here: what becomes of it is said by "
		 "\"mode\""},
		{"{\"outputs\": {\"mime\": [\"application/x-javascript\"]}}",
		 "p.json:1:23: \"application/x-javascript\" cannot be named here: what becomes of "
		 "it "
		 "is said by \"mode\""},
		{"{\"outputs\": {\"mime\": [\"Text/CSV\"]}}",
		 "p.json:1:23: \"Text/CSV\" is not a MIME type in lower case, such as "
		 "\"text/csv\""},
		{"{\"outputs\": {\"extra_types\": [\"status\"]}}",
		 "p.json:1:30: \"status\" is a message of Jupyter's own: leave it out"},
		{"{\"build\": {\"hosts\": [\"https://pypi.org\"]}}",
		 "p.json:1:22: \"https://pypi.org\" is not a host in lower case, such as "
		 "\"pypi.org\" or \"index.example:8080\""},
		{"{\"build\": {\"hosts\": [\"a:70000\"]}}",
		 "p.json:1:22: \"a:70000\" is not a host in lower case, such as "
		 "\"pypi.org\" or \"index.example:8080\""},
		{"{\"outputs\": {\"comm_targets\": [\"a b\"]}}",
		 "p.json:1:31: \"a b\" is not the name of a comm target"},
	};
	struct policy policy;
	struct err err;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(parse(cases[i].text, &policy, &err), -EINVAL);
		assert_string_equal(err.text, cases[i].line);
		assert_int_equal(parse(cases[i].text, &policy, NULL), -EINVAL);
	}
}

static void explains_syntax_errors(void **state)
{
	static const struct {
		const char *text, *where, *hint;
	} cases[] = {
		{"", "p.json:1:0: ", "the default policy is \"{}\""},
		{"{\n  // note\n}", "p.json:2:", "JSON has no comments"},
		{"{\n  # note\n}", "p.json:2:", "JSON has no comments"},
		{"{\"stage\": {},\n}", "p.json:2:", "no comma after the last entry"},
		{"{\"env\": {\"keep\": [\"A\",]}}", "p.json:1:", "no comma after the last entry"},
		{"{'stage': {}}", "p.json:1:", "strings are in double quotes"},
		{"{\"env\": {}, \"env\": {}}", "p.json:1:", "duplicate object key"},
		{"{\"python\": \"/a\\u0000b\"}", "p.json:1:", "not allowed"},
		{"{\"resources\": {\"tmp\": 99999999999999999999}}",
		 "p.json:1:", "too big integer"},
		{"{\"python\": \"\x1b[31m\"}", "p.json:1:", "control character"},
	};
	struct policy policy;
	struct err err;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		assert_int_equal(parse(cases[i].text, &policy, &err), -EINVAL);
		if (!strstr(err.text, cases[i].where) || !strstr(err.text, cases[i].hint))
			fail_msg("%s: got \"%s\"", cases[i].text, err.text);
		assert_null(strchr(err.text, '\x1b'));
	}
}

static size_t keep_list(char *text, size_t entries)
{
	size_t used = (size_t)snprintf(text, 64, "{\"env\": {\"keep\": [");

	for (size_t i = 0; i < entries; i++)
		used += (size_t)snprintf(text + used, 64, "%s\"N%zu\"", i ? "," : "", i);
	return used + (size_t)snprintf(text + used, 64, "]}}");
}

static void bounds_lists_and_values(void **state)
{
	char *text = malloc(POLICY_FILE_MAX + 2);
	struct policy policy;
	struct err err;
	size_t used;

	(void)state;
	used = keep_list(text, 1025);
	assert_int_equal(policy_parse("p.json", text, used, &policy, &err), -EINVAL);
	assert_string_equal(err.text, "p.json:1:18: \"keep\" has 1025 entries, at most 1024");

	used = (size_t)snprintf(text, 64, "{\"env\":{\"set\":{\"A\":\"");
	memset(text + used, 'x', 128 * 1024);
	memcpy(text + used + 128 * 1024 - 3, "\"}}}", 5);
	assert_int_equal(parse(text, &policy, &err), 0); /* 2 + 131069 + 1 */
	policy_done(&policy);
	memcpy(text + used + 128 * 1024 - 3, "x\"}}}", 6);
	assert_int_equal(parse(text, &policy, &err), -EINVAL);
	assert_non_null(strstr(err.text, "longer than a process may be given"));

	used = (size_t)snprintf(text, 64, "{\"stage\":{\"in\":[\"");
	memset(text + used, 'x', 1025);
	memcpy(text + used + 1025, "\"]}}", 5);
	assert_int_equal(parse(text, &policy, &err), -EINVAL);
	assert_string_equal(err.text, "p.json:1:17: a path of 1025 bytes, at most 1024");

	memset(text, ' ', POLICY_FILE_MAX + 1);
	memcpy(text, "{}", 2);
	assert_int_equal(policy_parse("p.json", text, POLICY_FILE_MAX, &policy, &err), 0);
	policy_done(&policy);
	assert_int_equal(policy_parse("p.json", text, POLICY_FILE_MAX + 1, &policy, &err), -EFBIG);
	free(text);
}

static void reads_only_regular_files(void **state)
{
	char directory[] = "/tmp/cellwall-test-XXXXXX", path[64], start[96];
	struct policy policy;
	struct err err;
	FILE *file;

	(void)state;
	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/p.json", directory);
	assert_int_equal(policy_read(path, &policy, &err), -ENOENT);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(policy_read(path, &policy, &err), -EINVAL);
	assert_non_null(strstr(err.text, "not a regular file"));
	unlink(path);
	file = fopen(path, "w");
	fputs("{\"resources\": {\"pids\": 64}}\n", file);
	fclose(file);
	assert_int_equal(policy_read(path, &policy, &err), 0);
	assert_int_equal(policy.pids, 64);
	policy_done(&policy);
	file = fopen(path, "w");
	fputs("{\n\"pids\": 64}\n", file);
	fclose(file);
	assert_int_equal(policy_read(path, &policy, &err), -EINVAL);
	snprintf(start, sizeof(start), "%s:2:1: unknown key", path);
	assert_memory_equal(err.text, start, strlen(start));
	unlink(path);
	rmdir(directory);
}

static void who_may_install(void **state)
{
	static const struct {
		const char *text;
		enum install_mode mode;
	} good[] = {
		{"{}", INSTALL_DENY},
		{"{\"install\": \"deny\"}", INSTALL_DENY},
		{"{\"install\": \"allow\"}", INSTALL_ALLOW},
		{"{\"install\": [\"Foo_Bar\"]}", INSTALL_LISTED},
		{"{\"install\": []}", INSTALL_LISTED},
	};
	static const char *const bad[] = {
		"{\"install\": true}",
		"{\"install\": \"all\"}",
		"{\"install\": [\"pandas>=2\"]}",
		"{\"install\": [\"a\", \"A\"]}",
		"{\"install\": [\"../a\"]}",
		"{\"install\": [1]}",
	};
	struct policy policy, again;
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		char *shown;

		assert_int_equal(parse(good[i].text, &policy, &err), 0);
		assert_int_equal(policy.install.mode, good[i].mode);
		shown = policy_show(&policy);
		assert_non_null(shown);
		assert_int_equal(parse(shown, &again, &err), 0);
		assert_int_equal(again.install.mode, good[i].mode);
		assert_int_equal(install_judge(&again.install, "foo.bar>=1", &err) == 0,
				 i == 2 || i == 3);
		free(shown);
		policy_done(&again);
		policy_done(&policy);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_true(parse(bad[i], &policy, &err) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_object_is_the_default),
		cmocka_unit_test(reads_every_key),
		cmocka_unit_test(shows_what_it_reads_again),
		cmocka_unit_test(reads_sizes),
		cmocka_unit_test(says_where_and_what),
		cmocka_unit_test(explains_syntax_errors),
		cmocka_unit_test(bounds_lists_and_values),
		cmocka_unit_test(reads_only_regular_files),
		cmocka_unit_test(who_may_install),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
