#include "sandbox/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static struct err err;

/* The records every spec needs, one by one; the tests leave one out or change it. */
static const char *const needed[] = {
	"argv|/usr/bin/python3", "relay|/r",	"connection|{}", "state|/s", "out|/o",
	"out_bytes|1",		 "out_files|2", "tmp_bytes|3",	 "memory|4", "pids|5",
	"open_files|6",
};

static char text[16384];
static size_t size;

/* Appends a record written with | for NUL. */
static void add(const char *record)
{
	size_t length = strlen(record) + 1;

	assert_true(size + length <= sizeof(text));
	memcpy(text + size, record, length);
	for (size_t i = 0; i < length; i++) {
		if (text[size + i] == '|')
			text[size + i] = '\0';
	}
	size += length;
}

static void add_needed_but(size_t left_out)
{
	size = 0;
	for (size_t i = 0; i < LENGTH(needed); i++) {
		if (i != left_out)
			add(needed[i]);
	}
}

static int parse(void)
{
	/* An exact copy: a sanitizer sees a read past its end. */
	cleanup(free_ptr) char *copy = malloc(size > 0 ? size : 1);
	struct spec spec = {.pids = 77};
	int r;

	assert_non_null(copy);
	memcpy(copy, text, size);
	r = spec_parse(copy, size, &spec, &err);
	if (r < 0)
		assert_int_equal(spec.pids, 77); /* untouched on failure */
	else
		spec_done(&spec);
	return r;
}

/* The verdict on all that is needed plus one more record. */
static int parse_with(const char *record)
{
	add_needed_but(LENGTH(needed));
	add(record);
	return parse();
}

/* The verdict with record `index` replaced. */
static int parse_instead(size_t index, const char *record)
{
	add_needed_but(index);
	add(record);
	return parse();
}

static void fill(struct spec *spec)
{
	assert_int_equal(spec_add_argv(spec, "/usr/bin/python3"), 0);
	assert_int_equal(spec_add_argv(spec, ""), 0);
	assert_int_equal(spec_add_argv(spec, "a\nb"), 0);
	for (int i = 0; i < 20; i++) {
		cleanup(free_ptr) char *entry = format_string("NAME%d=v=%d", i, i);
		cleanup(free_ptr) char *target = format_string("/t/%d", i);

		assert_int_equal(spec_add_env(spec, entry), 0);
		assert_int_equal(spec_add_bind(spec, "/source", target, i % 3 == 0), 0);
	}
	assert_int_equal(spec_add_stage(spec, "/home/x/staging/in", "/work/staging/in", false), 0);
	spec->relay = strdup("/opt/cellwall-relay");
	spec->connection = strdup("{\"key\": \"k\"}");
	spec->state = strdup("/home/x/.local/state");
	spec->out = strdup("/home/x/staging/out");
	spec->out_bytes = UINT64_MAX;
	spec->out_files = 0;
	spec->tmp_bytes = 3;
	spec->memory = 4;
	spec->pids = 5;
	spec->open_files = 6;
	spec->data = 7;
	spec->disk = 8;
	spec->cpus = 1500;
	spec->cgroup_only = 1;
}

static void test_round_trip(void **state)
{
	struct spec sent = {0}, got;
	int fd, seals;

	(void)state;
	fill(&sent);
	fd = spec_write(&sent, &err);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	seals = fcntl(fd, F_GET_SEALS);
	assert_int_equal(seals & 15, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	for (int round = 0; round < 2; round++) { /* the offset of the descriptor does not matter */
		assert_int_equal(spec_read(fd, &got, &err), 0);
		assert_int_equal(got.argc, 3);
		assert_string_equal(got.argv[0], "/usr/bin/python3");
		assert_string_equal(got.argv[1], "");
		assert_string_equal(got.argv[2], "a\nb");
		assert_null(got.argv[3]);
		assert_int_equal(got.envc, 20);
		assert_string_equal(got.env[19], "NAME19=v=19");
		assert_null(got.env[20]);
		assert_int_equal(got.bind_count, 20);
		for (size_t i = 0; i < 20; i++) { /* in order, required and not */
			assert_string_equal(got.binds[i].source, "/source");
			assert_string_equal(got.binds[i].target, sent.binds[i].target);
			assert_int_equal(got.binds[i].required, i % 3 == 0);
		}
		assert_int_equal(got.stage_count, 1);
		assert_string_equal(got.stages[0].target, "/work/staging/in");
		assert_false(got.stages[0].required);
		assert_string_equal(got.relay, "/opt/cellwall-relay");
		assert_string_equal(got.connection, "{\"key\": \"k\"}");
		assert_string_equal(got.state, "/home/x/.local/state");
		assert_string_equal(got.out, "/home/x/staging/out");
		assert_true(got.out_bytes == UINT64_MAX);
		assert_int_equal(got.out_files, 0);
		assert_int_equal(got.tmp_bytes, 3);
		assert_int_equal(got.memory, 4);
		assert_int_equal(got.pids, 5);
		assert_int_equal(got.open_files, 6);
		assert_int_equal(got.data, 7);
		assert_int_equal(got.disk, 8);
		assert_int_equal(got.cpus, 1500);
		assert_int_equal(got.cgroup_only, 1);
		spec_done(&got);
		assert_null(got.argv);
		spec_done(&got); /* of nothing */
	}
	close_fd(&fd);
	spec_done(&sent);
}

/* NULL-terminated after each step, whatever the capacity was. */
static void test_lists(void **state)
{
	struct spec spec = {0};

	(void)state;
	for (size_t i = 0; i < 70; i++) {
		assert_int_equal(spec_add_argv(&spec, "x"), 0);
		assert_int_equal(spec.argc, i + 1);
		assert_string_equal(spec.argv[i], "x");
		assert_null(spec.argv[i + 1]);
		assert_int_equal(spec_add_stage(&spec, "a", "b", true), 0);
		assert_int_equal(spec.stage_count, i + 1);
		assert_true(spec.stages[i].required);
	}
	spec_done(&spec);
}

static void test_needed(void **state)
{
	(void)state;
	add_needed_but(LENGTH(needed));
	assert_int_equal(parse(), 0);
	for (size_t i = 0; i < LENGTH(needed); i++) {
		add_needed_but(i);
		assert_int_equal(parse(), -EINVAL);
		assert_non_null(strstr(err.text, "is missing"));
		if (i > 0)
			assert_int_equal(parse_with(needed[i]), -EINVAL);
		else
			assert_int_equal(parse_with(needed[i]), 0);
	}
	size = 0;
	assert_int_equal(parse(), -EINVAL);
}

static void test_cut_off(void **state)
{
	size_t whole;

	(void)state;
	add_needed_but(LENGTH(needed));
	add("env|A=b");
	add("bind|/a|/b|1");
	whole = size;
	/* Cut between two optional records it is whole; everywhere else it is refused. */
	for (size = 0; size < whole; size++) {
		bool record_ends = size == whole - 13 || size == whole - 21;

		assert_int_equal(parse(), record_ends ? 0 : -EINVAL);
	}
	assert_int_equal(parse(), 0);
}

static void test_keys(void **state)
{
	(void)state;
	assert_int_equal(parse_with("argv|second"), 0);
	assert_int_equal(parse_with("arg|x"), -EINVAL);
	assert_string_equal(err.text, "spec: unknown key arg");
	assert_int_equal(parse_with("argvv|x"), -EINVAL);
	assert_int_equal(parse_with("|x"), -EINVAL);
	assert_int_equal(parse_with("b\x1b[2Jad|x"), -EINVAL);
	assert_string_equal(err.text, "spec: unknown key b\\x1b[2Jad");
	assert_int_equal(parse_with("env|A=|extra"), -EINVAL);
	assert_int_equal(parse_with("env"), -EINVAL);
	assert_string_equal(err.text, "spec: env is cut off");
}

static void test_numbers(void **state)
{
	static const char *const bad[] = {"memory|", "memory|-1", "memory|1k", "memory| 1",
					  "memory|18446744073709551616"};

	(void)state;
	for (size_t i = 0; i < LENGTH(bad); i++)
		assert_true(parse_instead(8, bad[i]) < 0);
	assert_int_equal(parse_instead(8, "memory|18446744073709551615"), 0);
	assert_int_equal(parse_instead(8, "memory|0"), 0);
}

static void test_paths(void **state)
{
	static const char *const bad_binds[] = {
		"bind|a|/b|1",	     "bind||/b|1",	    "bind|/a|b|1",
		"bind|/a||1",	     "bind|/a|/|1",	    "bind|/a|/b/..|1",
		"bind|/a|/../b|1",   "bind|/a|/..|1",	    "bind|/a|/b/./c|1",
		"bind|/a|/.|1",	     "bind|/a|//b|1",	    "bind|/a|/b/|1",
		"bind|/a|/b//c|1",   "bind|/a|/b|2",	    "bind|/a|/b|",
		"bind|/a|/b|true",   "stage|/a|/b|1",	    "stage|/a|/work|1",
		"stage|/a|/work/|1", "stage|/a|/workx/b|1", "stage|/a|/work/../b|1",
		"stage|a|/work/b|1",
	};
	static const char *const good_binds[] = {
		"bind|/a/../b|/b|1", "bind|/a|/b|0",  "bind|/a|/...|1",	    "bind|/a|/.b/..c|1",
		"bind|/|/host|1",    "bind|/a|/b.|1", "stage|/a|/work/b|1", "stage|/a|/work/b/c|0",
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(bad_binds); i++) {
		if (parse_with(bad_binds[i]) != -EINVAL)
			fail_msg("accepted: %s", bad_binds[i]);
	}
	for (size_t i = 0; i < LENGTH(good_binds); i++) {
		if (parse_with(good_binds[i]) != 0)
			fail_msg("refused: %s", good_binds[i]);
	}
	assert_int_equal(parse_instead(0, "argv|python3"), -EINVAL);
	assert_int_equal(parse_instead(0, "argv|"), -EINVAL);
	assert_int_equal(parse_instead(1, "relay|r"), -EINVAL);
	assert_int_equal(parse_instead(3, "state|"), -EINVAL);
	assert_int_equal(parse_instead(4, "out|../o"), -EINVAL);
	assert_int_equal(parse_instead(2, "connection|"), 0);
	assert_int_equal(parse_with("env|A"), -EINVAL);
	assert_int_equal(parse_with("env|=A"), -EINVAL);
	assert_int_equal(parse_with("env|"), -EINVAL);
	assert_int_equal(parse_with("env|A="), 0);
}

/* The writer refuses what the reader would. */
static void test_write_checks(void **state)
{
	struct spec spec = {0};

	(void)state;
	assert_int_equal(spec_write(&spec, &err), -EINVAL);
	fill(&spec);
	free_ptr(&spec.relay);
	assert_int_equal(spec_write(&spec, &err), -EINVAL);
	spec.relay = strdup("/r");
	free_ptr(&spec.connection);
	assert_int_equal(spec_write(&spec, &err), -EINVAL);
	spec.connection = strdup("");
	assert_int_equal(spec_add_env(&spec, "no equals"), 0);
	assert_int_equal(spec_write(&spec, &err), -EINVAL);
	spec_done(&spec);
}

static void test_size(void **state)
{
	cleanup(free_ptr) char *large = malloc(SPEC_MAX + 2);
	struct spec spec = {0}, got;
	int fd;
	off_t end;

	(void)state;
	assert_non_null(large);
	fill(&spec);
	fd = spec_write(&spec, &err);
	end = lseek(fd, 0, SEEK_END);
	close_fd(&fd);
	/* An argument that makes it exactly as large as allowed: "argv" NUL value NUL. */
	memset(large, 'x', SPEC_MAX + 2);
	large[SPEC_MAX - (size_t)end - 6] = '\0';
	assert_int_equal(spec_add_argv(&spec, large), 0);
	fd = spec_write(&spec, &err);
	assert_true(fd >= 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), SPEC_MAX);
	assert_int_equal(spec_read(fd, &got, &err), 0);
	spec_done(&got);
	close_fd(&fd);
	assert_int_equal(spec_add_argv(&spec, ""), 0);
	assert_int_equal(spec_write(&spec, &err), -E2BIG);
	spec_done(&spec);
	memset(large, 0, SPEC_MAX + 1);
	assert_int_equal(spec_parse(large, SPEC_MAX + 1, &got, &err), -E2BIG);
	assert_int_equal(spec_parse(large, SPEC_MAX, &got, &err), -EINVAL);
}

static void test_descriptor(void **state)
{
	struct spec got = {.pids = 77};
	int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	int fd;

	(void)state;
	add_needed_but(LENGTH(needed));
	for (int missing = 0; missing < 5; missing++) {
		fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		assert_int_equal(write_full(fd, text, size), 0);
		assert_int_equal(fcntl(fd, F_ADD_SEALS, seals & ~(missing < 4 ? 1 << missing : 0)),
				 0);
		assert_int_equal(spec_read(fd, &got, &err), missing < 4 ? -EINVAL : 0);
		close_fd(&fd);
	}
	spec_done(&got);
	/* Nothing in it; too much in it; no file of this kind. */
	fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	assert_int_equal(spec_read(fd, &got, &err), -E2BIG);
	close_fd(&fd);
	fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(fd, SPEC_MAX + 1), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	assert_int_equal(spec_read(fd, &got, &err), -E2BIG);
	close_fd(&fd);
	fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	assert_int_equal(spec_read(fd, &got, &err), -EINVAL);
	close_fd(&fd);
	assert_int_equal(spec_read(-1, &got, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_lists),
		cmocka_unit_test(test_needed),	   cmocka_unit_test(test_cut_off),
		cmocka_unit_test(test_keys),	   cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_paths),	   cmocka_unit_test(test_write_checks),
		cmocka_unit_test(test_size),	   cmocka_unit_test(test_descriptor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
