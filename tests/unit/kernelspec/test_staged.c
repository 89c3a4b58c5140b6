#include "tests/unit/kernelspec/tree.h"

#include <errno.h>

#include "kernelspec/habits.h"
#include "kernelspec/inputs.h"
#include "kernelspec/staged.h"
#include "kernelspec/variables.h"

static char notices[8192];

static void take_notice(void *arg, char *text)
{
	size_t used = strlen(notices), size;

	(void)arg;
	assert_non_null(text);
	size = strlen(text);
	assert_true(used + size + 2 < sizeof(notices));
	memcpy(notices + used, text, size);
	memcpy(notices + used + size, "\n", 2);
	free(text);
}

struct world {
	struct policy policy;
	struct spec spec;
	struct staged_places places;
	struct err err;
	char folder[TREE_PATH];
};

static int setup(void **state)
{
	int r = tree_setup(state);

	notices[0] = '\0';
	make_file("home/project/data/x", 0644, "x");
	make_file("home/project/utils.py", 0644, "");
	make_file("big/set/y", 0644, "y");
	return r == 0 ? chdir(at("home/project")) : r;
}

static int teardown(void **state)
{
	return chdir("/") == 0 ? tree_teardown(state) : -1;
}

#define staged_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* `text` is a policy in which "@" stands for the tree. */
static void begin(struct world *world, const char *text)
{
	char filled[4096];
	size_t used = 0;

	*world = (struct world){0};
	for (; *text; text++)
		used += (size_t)snprintf(filled + used, sizeof(filled) - used,
					 *text == '@' ? "%s" : "%.1s", *text == '@' ? tree : text);
	if (policy_parse("p", filled, used, &world->policy, &world->err) < 0)
		fail_msg("%s", world->err.text);
	print_to(world->folder, "%s", at("home/project"));
}

static int run(struct world *world)
{
	const struct staged staged = {.spec = &world->spec,
				      .policy = &world->policy,
				      .folder = world->folder,
				      .places = &world->places,
				      .notice = take_notice};
	int r = staged_find(world->folder, NULL, &world->places, &world->err);

	if (r == 0)
		r = staged_inputs(&staged, &world->err);
	if (r == 0)
		r = staged_results(&staged, &world->err);
	return r == 0 ? habits_fill(&staged, &world->err) : r;
}

static void end(struct world *world)
{
	policy_done(&world->policy);
	spec_done(&world->spec);
	staged_places_done(&world->places);
}

static void assert_bind(const struct spec_bind *bind, const char *source, const char *target)
{
	assert_string_equal(bind->source, at(source));
	assert_string_equal(bind->target, target);
}

static int add(void *arg, struct inputs *inputs, struct err *err)
{
	struct input input;

	assert_int_equal(inputs_parse(at("home/project"), arg, &input, err), 0);
	assert_int_equal(inputs_put(inputs, &input), 0);
	return 1;
}

static void record(const char *word)
{
	char text[TREE_PATH];
	struct err err;

	print_to(text, "%s", word);
	if (inputs_change(at("home/project"), add, text, &err) != 1)
		fail_msg("%s", err.text);
}

static void stages_in_order(void **state)
{
	struct world world;
	char word[TREE_PATH];

	(void)state;
	make_dir("home/project/staging/in");
	print_to(word, "far/set=%s", at("big/set"));
	record("utils.py");
	begin(&world, "{\"stage\":{\"in\":[\"data\"],\"may_add\":[\".\"]}}");
	assert_int_equal(run(&world), 0);
	assert_int_equal(world.spec.stage_count, 3);
	assert_bind(&world.spec.stages[0], "home/project/staging/in", "/work/staging/in");
	assert_bind(&world.spec.stages[1], "home/project/data", "/work/data");
	assert_bind(&world.spec.stages[2], "home/project/utils.py", "/work/utils.py");
	assert_string_equal(world.places.out, at("home/project/staging/out"));
	assert_int_equal(world.spec.overlay_count, 0); /* no results yet */
	assert_string_equal(notices, "");
	end(&world);
	record(word);
	begin(&world, "{}");
	assert_int_equal(run(&world), 0);
	assert_non_null(strstr(notices, "far/set: the policy (stage.may_add)"));
	assert_int_equal(world.spec.stage_count, 2);
	end(&world);
	begin(&world, "{\"stage\":{\"may_add\":[\"@/big\"]}}");
	assert_int_equal(run(&world), 0);
	assert_int_equal(world.spec.stage_count, 2);
	assert_bind(&world.spec.stages[1], "big/set", "/work/far/set");
	end(&world);
}

static void places_that_meet(void **state)
{
	struct world world;

	(void)state;
	make_link("home/project/same", "data");
	begin(&world, "{\"stage\":{\"in\":[\"data\",\"data/x\",\"same/x\",\"same\","
		      "\"data/set=@/big/set\",\"up/a=@/big/set\",\"up=@/big\"]}}");
	assert_int_equal(run(&world), 0);
	/* data/x is in data; same/x goes before same, which covers it with the same files */
	assert_int_equal(world.spec.stage_count, 4);
	assert_bind(&world.spec.stages[1], "home/project/data/x", "/work/same/x");
	assert_bind(&world.spec.stages[2], "home/project/data", "/work/same");
	assert_bind(&world.spec.stages[3], "big/set", "/work/up/a");
	assert_non_null(strstr(notices, "data/set: its place is that of"));
	assert_non_null(strstr(notices, "up: its place is that of"));
	end(&world);
	begin(&world, "{\"stage\":{\"in\":[\"data\",{\"path\":\"@/big/set\",\"name\":\"data/set\","
		      "\"required\":true}]}}");
	assert_int_equal(run(&world), -EEXIST);
	end(&world);
}

/* Results of earlier runs; a link that leads out is agreed to first. */
static void finds_results(void **state)
{
	struct world world;

	(void)state;
	make_dir("home/project/staging/out");
	begin(&world, "{}");
	assert_int_equal(run(&world), 0);
	assert_int_equal(world.spec.overlay_count, 1);
	assert_bind(&world.spec.overlays[0], "home/project/staging/out", "/work/staging/out");
	end(&world);
	assert_int_equal(rmdir(at("home/project/staging/out")), 0);
	make_link("home/project/staging/out", at("big/set"));
	begin(&world, "{}");
	assert_int_equal(run(&world), -ESTALE);
	assert_non_null(strstr(world.err.text, "cellwall stage add staging/out"));
	end(&world);
	record("staging/out");
	begin(&world, "{}");
	assert_int_equal(run(&world), 0);
	assert_string_equal(world.places.out, at("big/set"));
	assert_int_equal(world.spec.stage_count, 0);
	end(&world);
	make_link("home/project/staging/out", at("big")); /* since then */
	begin(&world, "{}");
	assert_int_equal(run(&world), -ESTALE);
	end(&world);
	/* within the folder it may lead anywhere */
	make_dir("home/project/results");
	make_link("home/project/staging/out", "../results");
	begin(&world, "{}");
	assert_int_equal(run(&world), 0);
	assert_string_equal(world.places.out, at("home/project/results"));
	end(&world);
	make_link("home/project/staging/out", at("home/project"));
	begin(&world, "{}");
	assert_int_equal(run(&world), -EACCES);
	end(&world);
}

static const char *value_of(const struct spec *spec, const char *name)
{
	for (size_t i = 0; i < spec->envc; i++)
		if (strncmp(spec->env[i], name, strlen(name)) == 0 &&
		    spec->env[i][strlen(name)] == '=')
			return spec->env[i] + strlen(name) + 1;
	return NULL;
}

static void gives_caches(void **state)
{
	struct world world;

	(void)state;
	make_file("home/.cache/huggingface/token", 0600, "hf_secret");
	make_file("home/.cache/huggingface/hub/model", 0644, "m");
	make_file("nltk/corpora/c", 0644, "c");
	setenv("NLTK_DATA", at("nltk"), 1);
	setenv("HF_HUB_OFFLINE", "0", 1);
	begin(&world, "{\"stage\":{\"caches\":[\"huggingface\",\"nltk\",\"sklearn\"]},"
		      "\"env\":{\"keep\":[\"HF_HUB_OFFLINE\",\"NLTK_DATA\"],\"set\":{"
		      "\"TRANSFORMERS_OFFLINE\":\"0\"}}}");
	assert_int_equal(run(&world), 0);
	assert_int_equal(variables_fill(&world.spec, &world.policy, "/usr/bin/python3"), 0);
	unsetenv("NLTK_DATA");
	unsetenv("HF_HUB_OFFLINE");
	assert_int_equal(world.spec.overlay_count, 2);
	assert_bind(&world.spec.overlays[0], "home/.cache/huggingface/hub",
		    "/home/user/.cache/huggingface/hub");
	assert_bind(&world.spec.overlays[1], "nltk", "/home/user/nltk_data");
	assert_non_null(strstr(notices, "the policy gives the sklearn cache, but"));
	assert_string_equal(value_of(&world.spec, "HF_HUB_OFFLINE"), "1");
	assert_string_equal(value_of(&world.spec, "NLTK_DATA"), "/home/user/nltk_data");
	/* the administrator's own word is the last */
	assert_string_equal(value_of(&world.spec, "TRANSFORMERS_OFFLINE"), "0");
	assert_null(value_of(&world.spec, "CELLWALL_HISTORY"));
	end(&world);
}

static void gives_startup_files_and_history(void **state)
{
	struct world world;

	(void)state;
	make_file("home/project/a.py", 0600, "");
	make_dir("home/project/d.py");
	begin(&world, "{\"stage\":{\"startup\":[\"a.py\",\"d.py\",\"none.py\"],\"history\":"
		      "\"folder\"}}");
	assert_int_equal(run(&world), 0);
	assert_int_equal(variables_fill(&world.spec, &world.policy, "/usr/bin/python3"), 0);
	assert_int_equal(world.spec.bind_count, 1);
	assert_bind(&world.spec.binds[0], "home/project/a.py",
		    "/home/user/.ipython/profile_default/startup/00-a.py");
	assert_non_null(strstr(notices, "d.py is not a regular file"));
	assert_non_null(strstr(notices, "none.py: not there"));
	assert_non_null(strstr(world.spec.history, "/cellwall/folders/"));
	assert_string_equal(value_of(&world.spec, "CELLWALL_HISTORY"), INSIDE_HISTORY);
	end(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		staged_test(stages_in_order),
		staged_test(places_that_meet),
		staged_test(finds_results),
		staged_test(gives_caches),
		staged_test(gives_startup_files_and_history),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
