/* outward: what a kernel's message becomes, and what it has to belong to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/corridor.h"
#include "proxy/joining.h"
#include "proxy/limits.h"

static const struct outputs_rules rules = {.mode = OUTPUTS_STATIC};

struct world {
	struct corridor corridor;
	struct sign *kernel, *client;
	struct iovec parts[10];
	char text[4][1024], signature[SIGN_HEX_MAX], identity[16];
	unsigned number;
};

static char delimiter[] = "<IDS|MSG>", buffer[] = "buffer";

static struct iovec part(char *text)
{
	return (struct iovec){text, strlen(text)};
}

static struct sign *key(const char *secret)
{
	struct sign *sign = NULL;

	assert_int_equal(sign_new(NULL, secret, strlen(secret), &sign, NULL), 0);
	return sign;
}

static int begin(void **state)
{
	static struct world world;

	world = (struct world){.corridor = {.outer = key("outer"),
					    .inner = key("inner"),
					    .rules = &rules,
					    .session = "ours",
					    .requests = requests_new()},
			       .kernel = key("inner"),
			       .client = key("outer")};
	*state = &world;
	return world.corridor.requests ? 0 : -1;
}

static int end(void **state)
{
	struct world *world = *state;

	corridor_done(&world->corridor);
	sign_free(world->kernel);
	sign_free(world->client);
	return 0;
}

/* Frames of a message in world->parts; returns the passage of it. */
static struct passage message(struct world *world, enum guard_direction direction,
			      enum wall_channel channel, const char *identity, const char *id,
			      const char *type, const char *parent, const char *content)
{
	struct sign *sign = direction == GUARD_INWARD ? world->client : world->kernel;

	snprintf(world->identity, sizeof(world->identity), "%s", identity);
	snprintf(world->text[0], 1024, "{\"msg_id\": \"%s\", \"msg_type\": \"%s\", \"n\": %u}", id,
		 type, world->number++);
	snprintf(world->text[1], 1024, *parent ? "{\"msg_id\": \"%s\", \"msg_type\": \"x\"}" : "{}",
		 parent);
	snprintf(world->text[2], 1024, "{\"isolated\": true}");
	snprintf(world->text[3], 1024, "%s", content);
	world->parts[0] = part(world->identity);
	world->parts[1] = part(delimiter);
	for (size_t i = 0; i < 4; i++)
		world->parts[3 + i] = part(world->text[i]);
	world->parts[7] = part(buffer);
	assert_int_equal(sign_make(sign, &world->parts[3], world->signature), 64);
	world->parts[2] = part(world->signature);
	return (struct passage){
		.direction = direction, .channel = channel, .parts = world->parts, .count = 8};
}

static void ask(struct world *world, const char *client, const char *id, const char *type,
		const char *content)
{
	struct passage passage =
		message(world, GUARD_INWARD, WALL_SHELL, client, id, type, "", content);

	assert_true(relay_one(&world->corridor, &passage));
	passage_done(&passage);
}

/* Whether it goes on; `ret_content` (1024 bytes) is what its content is then. */
static bool say(struct world *world, enum wall_channel channel, const char *identity,
		const char *type, const char *parent, const char *content, char *ret_content)
{
	char id[32];
	struct passage passage;
	bool goes;

	snprintf(id, sizeof(id), "k%u", world->number);
	passage = message(world, GUARD_OUTWARD, channel, identity, id, type, parent, content);
	goes = relay_one(&world->corridor, &passage);
	if (goes && ret_content) {
		assert_true(passage.fresh[WIRE_CONTENT].iov_len < 1024);
		memcpy(ret_content, passage.fresh[WIRE_CONTENT].iov_base,
		       passage.fresh[WIRE_CONTENT].iov_len);
		ret_content[passage.fresh[WIRE_CONTENT].iov_len] = '\0';
	}
	passage_done(&passage);
	return goes;
}

#define EXECUTE "{\"code\": \"1 + 1\", \"allow_stdin\": true}"
#define REPLY	"{\"status\":\"ok\",\"execution_count\":1,\"user_expressions\":{},\"payload\":[]}"
#define STREAM	"{\"name\":\"stdout\",\"text\":\"x\"}"

/* The frame that goes on: signed by us, with the client's own header as its parent. */
static void dresses(void **state)
{
	struct world *world = *state;
	struct wall_frame *frame = calloc(1, sizeof(*frame) + 8 * sizeof(struct iovec));
	char signature[SIGN_HEX_MAX];
	struct passage passage;
	struct iovec header;

	ask(world, "c", "1", "execute_request", EXECUTE);
	passage = message(world, GUARD_OUTWARD, WALL_IOPUB, "\x01", "k", "stream", "1", STREAM);
	memcpy(frame->parts, world->parts, 8 * sizeof(struct iovec));
	frame->count = 8;
	assert_true(relay_one(&world->corridor, &passage));
	assert_int_equal(passage_dress(&passage, frame), 0);
	assert_int_equal(frame->count, 7); /* no buffers on a stream */
	assert_memory_equal(frame->parts[0].iov_base, "stream", 6);
	assert_int_equal(sign_make(world->client, &frame->parts[3], signature), 64);
	assert_memory_equal(frame->parts[2].iov_base, signature, 64);
	header = frame->parts[4];
	assert_memory_equal(header.iov_base,
			    "{\"msg_id\": \"1\", \"msg_type\": \"execute_request\"", 44);
	assert_memory_equal(frame->parts[5].iov_base, "{}", 2);
	assert_ptr_equal(frame->parts[6].iov_base, world->parts[6].iov_base);
	passage_done(&passage);
	free(frame->added);
	free(frame);
}

static void replies(void **state)
{
	struct world *world = *state;

	ask(world, "c", "1", "execute_request", EXECUTE);
	assert_false(say(world, WALL_SHELL, "d", "execute_reply", "1", REPLY, NULL));
	assert_false(say(world, WALL_CONTROL, "c", "execute_reply", "1", REPLY, NULL));
	assert_false(say(world, WALL_SHELL, "c", "execute_reply", "2", REPLY, NULL));
	assert_false(say(world, WALL_SHELL, "c", "execute_reply", "", REPLY, NULL));
	assert_false(
		say(world, WALL_SHELL, "c", "shutdown_reply", "1", "{\"status\":\"ok\"}", NULL));
	assert_true(say(world, WALL_SHELL, "c", "execute_reply", "1", REPLY, NULL));
	assert_false(say(world, WALL_SHELL, "c", "execute_reply", "1", REPLY, NULL));
	assert_int_equal(world->corridor.kept_back[REFUSED_PARENT], 6);
}

/* Nobody is left waiting by what is wrong with a reply; here nobody can look at it. */
static void what_is_blocked_is_answered(void **state)
{
	static const char nan[] = "{\"status\":\"ok\",\"execution_count\":1,\"x\":NaN}";
	struct world *world = *state;
	char content[1024];

	ask(world, "c", "1", "execute_request", EXECUTE);
	assert_false(say(world, WALL_IOPUB, "t", "display_data", "1", "{\"data\":NaN}", NULL));
	assert_true(say(world, WALL_SHELL, "c", "execute_reply", "1", nan, content));
	assert_string_equal(content, "{\"status\": \"error\", \"ename\": \"Blocked\", \"evalue\": "
				     "\"the kernel's reply was blocked: the process that looked "
				     "at it ended\", \"traceback\": [], \"execution_count\": 0}");
	assert_false(say(world, WALL_SHELL, "c", "execute_reply", "1", nan, NULL));
}

static void cells(void **state)
{
	struct world *world = *state;
	char content[1024];

	ask(world, "c", "1", "execute_request", EXECUTE);
	assert_true(say(world, WALL_IOPUB, "t", "execute_input", "1",
			"{\"code\":\"evil\",\"execution_count\":7}", content));
	assert_string_equal(content, "{\"code\": \"1 + 1\", \"execution_count\": 7}");
	assert_false(say(world, WALL_IOPUB, "t", "execute_input", "1",
			 "{\"code\":\"evil\",\"execution_count\":7}", NULL));
	assert_true(say(world, WALL_IOPUB, "t", "clear_output", "1", "{\"wait\":true}", NULL));
	assert_false(say(world, WALL_IOPUB, "t", "clear_output", "2", "{\"wait\":true}", NULL));
	assert_true(
		say(world, WALL_IOPUB, "t", "status", "", "{\"execution_state\":\"idle\"}", NULL));
	assert_false(
		say(world, WALL_IOPUB, "t", "status", "", "{\"execution_state\":\"dead\"}", NULL));
	assert_false(say(world, WALL_IOPUB, "t", "debug_event", "1", "{}", NULL));
}

static void ids_come_once(void **state)
{
	struct world *world = *state;

	for (int i = 0; i < 2; i++) {
		struct passage passage = message(world, GUARD_OUTWARD, WALL_IOPUB, "t", "same",
						 "stream", "", STREAM);

		assert_int_equal(relay_one(&world->corridor, &passage), i == 0);
		passage_done(&passage);
	}
}

/* Without a guard process what the scanner does not know stops here, and is said once. */
static void fails_closed(void **state)
{
	struct world *world = *state;

	ask(world, "c", "1", "execute_request", EXECUTE);
	for (int i = 0; i < 3; i++) {
		char id[8];
		struct passage passage;

		snprintf(id, sizeof(id), "d%d", i);
		passage = message(world, GUARD_OUTWARD, WALL_IOPUB, "t", id, "display_data", "1",
				  "{\"data\": {\"text/html\": \"x\"}, \"metadata\": {}}");
		assert_false(relay_one(&world->corridor, &passage));
		assert_int_equal(passage.said != NULL, i == 0);
		passage_done(&passage);
	}
}

/* Past the hard cap output of that cell stops, said once; its reply, state and errors do not, nor
 * does output of the next cell. */
static void one_cell_has_an_end(void **state)
{
	struct world *world = *state;
	struct request *request;
	struct passage passage;

	ask(world, "c", "1", "execute_request", EXECUTE);
	ask(world, "c", "2", "execute_request", EXECUTE);
	request = requests_find(world->corridor.requests, "1", NULL);
	assert_true(say(world, WALL_IOPUB, "t", "stream", "1", STREAM, NULL));
	assert_int_equal(request->output, strlen(STREAM) + strlen(buffer));
	request->output = CELL_OUTPUT_MAX;
	passage = message(world, GUARD_OUTWARD, WALL_IOPUB, "t", "a", "stream", "1", STREAM);
	assert_false(relay_one(&world->corridor, &passage));
	assert_non_null(strstr(passage.said, "1024 MiB"));
	passage_done(&passage);
	passage = message(world, GUARD_OUTWARD, WALL_IOPUB, "t", "b", "stream", "1", STREAM);
	assert_false(relay_one(&world->corridor, &passage));
	assert_null(passage.said);
	passage_done(&passage);
	assert_true(say(world, WALL_IOPUB, "t", "stream", "2", STREAM, NULL));
	assert_true(
		say(world, WALL_IOPUB, "t", "status", "1", "{\"execution_state\":\"idle\"}", NULL));
	assert_true(say(world, WALL_SHELL, "c", "execute_reply", "1", REPLY, NULL));
}

/* Pieces of streams that come fast are joined: not signed, counted like all; nothing else is. */
static void fast_pieces(void **state)
{
	struct joining joining = {.behind = true};
	struct world *world = *state;
	struct passage passage;

	world->corridor.joining = &joining;
	ask(world, "c", "1", "execute_request", EXECUTE);
	passage = message(world, GUARD_OUTWARD, WALL_IOPUB, "t", "a", "stream", "1", STREAM);
	assert_true(relay_one(&world->corridor, &passage));
	assert_true(passage.joins);
	assert_int_equal(passage.signature[0], '\0');
	assert_int_equal(passage.text.iov_len, 1);
	assert_int_equal(passage.request->output, strlen(STREAM) + strlen(buffer));
	passage_done(&passage);
	/* not twice, nor with a wrong signature */
	passage = message(world, GUARD_OUTWARD, WALL_IOPUB, "t", "a", "stream", "1", STREAM);
	assert_false(relay_one(&world->corridor, &passage));
	passage_done(&passage);
	passage = message(world, GUARD_OUTWARD, WALL_IOPUB, "t", "b", "stream", "1", STREAM);
	world->signature[0] ^= 1;
	assert_false(relay_one(&world->corridor, &passage));
	passage_done(&passage);
	passage = message(world, GUARD_OUTWARD, WALL_IOPUB, "t", "c", "status", "1",
			  "{\"execution_state\":\"idle\"}");
	assert_true(relay_one(&world->corridor, &passage));
	assert_false(passage.joins);
	passage_done(&passage);
	joining.behind = false;
	passage = message(world, GUARD_OUTWARD, WALL_IOPUB, "t", "d", "stream", "1", STREAM);
	assert_true(relay_one(&world->corridor, &passage));
	assert_false(passage.joins);
	assert_int_equal(strlen(passage.signature), 64);
	passage_done(&passage);
}

/* Output of a request that is forgotten goes to the newest cell, said once; before anything was
 * forgotten an unknown parent is none. */
static void forgotten_parents(void **state)
{
	struct world *world = *state;
	struct passage passage;

	ask(world, "c", "old", "execute_request", EXECUTE);
	assert_true(say(world, WALL_SHELL, "c", "execute_reply", "old", REPLY, NULL));
	passage = message(world, GUARD_OUTWARD, WALL_IOPUB, "t", "a", "stream", "guess", STREAM);
	assert_true(relay_one(&world->corridor, &passage));
	assert_null(passage.request);
	passage_done(&passage);
	for (unsigned i = 0; i <= REQUESTS_MAX; i++) {
		char id[16];

		snprintf(id, sizeof(id), "n%u", i);
		ask(world, "c", id, "comm_msg", "{}");
	}
	ask(world, "c", "new", "execute_request", EXECUTE);
	for (int i = 0; i < 2; i++) {
		passage = message(world, GUARD_OUTWARD, WALL_IOPUB, "t", i ? "c" : "b", "stream",
				  "old", STREAM);
		assert_true(relay_one(&world->corridor, &passage));
		assert_string_equal(passage.request->msg_id, "new");
		assert_int_equal(passage.said != NULL, i == 0);
		passage_done(&passage);
	}
	passage = message(world, GUARD_OUTWARD, WALL_IOPUB, "t", "d", "status", "old",
			  "{\"execution_state\":\"idle\"}");
	assert_true(relay_one(&world->corridor, &passage));
	assert_null(passage.request); /* a state never moves */
	passage_done(&passage);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(dresses, begin, end),
		cmocka_unit_test_setup_teardown(replies, begin, end),
		cmocka_unit_test_setup_teardown(what_is_blocked_is_answered, begin, end),
		cmocka_unit_test_setup_teardown(cells, begin, end),
		cmocka_unit_test_setup_teardown(ids_come_once, begin, end),
		cmocka_unit_test_setup_teardown(fails_closed, begin, end),
		cmocka_unit_test_setup_teardown(one_cell_has_an_end, begin, end),
		cmocka_unit_test_setup_teardown(fast_pieces, begin, end),
		cmocka_unit_test_setup_teardown(forgotten_parents, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
