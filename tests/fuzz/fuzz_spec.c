/*
 * The launch spec as the supervisor reads it. What is accepted must hold what its users rely on,
 * and must come out the same after it was written again.
 */
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition)
		abort();
}

static void check_binds(const struct spec_bind *a, const struct spec_bind *b, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		require(a[i].source[0] == '/' && a[i].target[0] == '/');
		require(!strstr(a[i].target, "/../") && !strstr(a[i].target, "//"));
		require(strcmp(a[i].source, b[i].source) == 0 &&
			strcmp(a[i].target, b[i].target) == 0);
		require(a[i].required == b[i].required);
	}
}

static void check_list(char *const *a, char *const *b, size_t count)
{
	for (size_t i = 0; i < count; i++)
		require(strcmp(a[i], b[i]) == 0);
	require(count == 0 || (!a[count] && !b[count]));
}

static void check_again(const struct spec *spec)
{
	struct spec again;
	int fd = spec_write(spec, NULL);

	require(fd >= 0 && spec_read(fd, &again, NULL) == 0);
	require(spec->argc >= 1 && spec->argv[0][0] == '/');
	require(spec->argc == again.argc && spec->envc == again.envc);
	require(spec->bind_count == again.bind_count && spec->stage_count == again.stage_count);
	check_list(spec->argv, again.argv, spec->argc);
	check_list(spec->env, again.env, spec->envc);
	check_binds(spec->binds, again.binds, spec->bind_count);
	check_binds(spec->stages, again.stages, spec->stage_count);
	for (size_t i = 0; i < spec->stage_count; i++)
		require(strncmp(spec->stages[i].target, "/work/", 6) == 0 &&
			spec->stages[i].target[6]);
	require(strcmp(spec->relay, again.relay) == 0 &&
		strcmp(spec->connection, again.connection) == 0);
	require(strcmp(spec->state, again.state) == 0 && strcmp(spec->out, again.out) == 0);
	require(spec->out_bytes == again.out_bytes && spec->out_files == again.out_files);
	require(spec->tmp_bytes == again.tmp_bytes && spec->memory == again.memory);
	require(spec->pids == again.pids && spec->open_files == again.open_files);
	spec_done(&again);
	(void)close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct spec spec;
	struct err err;

	if (spec_parse(data, size, &spec, &err) < 0) {
		require(strlen(err.text) > 0);
		return 0;
	}
	check_again(&spec);
	spec_done(&spec);
	return 0;
}
