#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "proxy/corridor.h"

#define LARGE (3u * 1024 * 1024) /* signed by two threads */

static char header[] = "{\"msg_id\": \"1\", \"msg_type\": \"stream\"}";
static char topic[] = "stream", delimiter[] = "<IDS|MSG>", empty[] = "{}";

struct world {
	struct corridor corridor;
	struct sign *kernel, *client; /* what the two ends compute, each with its own memory */
	struct iovec parts[7];
	char signature[SIGN_HEX_MAX];
	char *content;
};

static struct iovec text(char *bytes)
{
	return (struct iovec){bytes, strlen(bytes)};
}

static struct sign *key(const char *secret)
{
	struct sign *sign = NULL;

	assert_int_equal(sign_new(NULL, secret, strlen(secret), &sign, NULL), 0);
	return sign;
}

/* A message of the kernel whose content has `size` bytes, signed. */
static void make(struct world *world, size_t size, char fill)
{
	memset(world->content, fill, size);
	world->parts[0] = text(topic);
	world->parts[1] = text(delimiter);
	world->parts[3] = text(header);
	world->parts[4] = world->parts[5] = text(empty);
	world->parts[6] = (struct iovec){world->content, size};
	assert_int_equal(sign_make(world->kernel, &world->parts[3], world->signature), 64);
	world->parts[2] = text(world->signature);
}

static int begin(void **state)
{
	static struct world world;

	world = (struct world){.corridor = {.outer = key("outer"), .inner = key("inner")},
			       .kernel = key("inner"),
			       .client = key("outer"),
			       .content = malloc(LARGE)};
	*state = &world;
	return world.content ? 0 : -1;
}

static int end(void **state)
{
	struct world *world = *state;

	corridor_done(&world->corridor);
	sign_free(world->kernel);
	sign_free(world->client);
	free(world->content);
	return 0;
}

static struct passage passage_of(const struct world *world)
{
	return (struct passage){.direction = GUARD_OUTWARD,
				.channel = WALL_IOPUB,
				.parts = world->parts,
				.count = 7};
}

/* Small and large alike: checked with the one key, signed with the other, and no second time. */
static void passes(void **state)
{
	static const size_t sizes[] = {2, 4096, LARGE};
	struct world *world = *state;

	for (size_t i = 0; i < 3; i++) {
		struct passage passage = passage_of(world);
		char expected[SIGN_HEX_MAX];

		make(world, sizes[i], (char)('a' + i));
		assert_true(relay_one(&world->corridor, &passage));
		assert_int_equal(sign_make(world->client, &world->parts[3], expected), 64);
		assert_string_equal(passage.signature, expected);
		assert_int_equal(passage.signature_part, 2);
		assert_string_equal(passage.header.msg_type, "stream");
		passage = passage_of(world);
		assert_false(relay_one(&world->corridor, &passage));
		assert_int_equal(world->corridor.refused[GUARD_OUTWARD][SIGN_REPEATED], i + 1);
	}
}

/* One byte changed, at the end; or no signature at all. */
static void refuses(void **state)
{
	static const size_t sizes[] = {2, LARGE};
	struct world *world = *state;

	for (size_t i = 0; i < 2; i++) {
		struct passage passage = passage_of(world);

		make(world, sizes[i], (char)('k' + i));
		world->content[sizes[i] - 1] ^= 1;
		assert_false(relay_one(&world->corridor, &passage));
		assert_int_equal(world->corridor.refused[GUARD_OUTWARD][SIGN_WRONG], i + 1);
		world->content[sizes[i] - 1] ^= 1;
		world->parts[2].iov_len = 0;
		assert_false(relay_one(&world->corridor, &passage));
		assert_int_equal(world->corridor.refused[GUARD_OUTWARD][SIGN_MISSING], i + 1);
		world->parts[2] = text(world->signature);
		assert_true(relay_one(&world->corridor, &passage));
	}
}

/* Without keys nothing is checked and the signature is empty, on either side. */
static void empty_keys(void **state)
{
	struct world *world = *state;
	struct passage passage = passage_of(world);

	make(world, LARGE, 'z');
	world->corridor.inner = sign_free(world->corridor.inner);
	world->corridor.outer = sign_free(world->corridor.outer);
	world->corridor.inner = key("");
	world->corridor.outer = key("");
	world->parts[2].iov_len = 0;
	assert_true(relay_one(&world->corridor, &passage));
	assert_string_equal(passage.signature, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(passes, begin, end),
		cmocka_unit_test_setup_teardown(refuses, begin, end),
		cmocka_unit_test_setup_teardown(empty_keys, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
