/* requests: found by who asked what, forgotten in order, never confused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/limits.h"
#include "proxy/requests.h"

static struct iovec part(char *text)
{
	return (struct iovec){text, strlen(text)};
}

static struct request *add(struct requests *requests, const char *client, const char *session,
			   const char *id, const char *type, const char *content)
{
	struct header fields = {0};
	char raw[1024], identity[64], *text = strdup(content);
	struct request *request;

	snprintf(fields.msg_id, sizeof(fields.msg_id), "%s", id);
	snprintf(fields.msg_type, sizeof(fields.msg_type), "%s", type);
	snprintf(fields.session, sizeof(fields.session), "%s", session);
	snprintf(raw, sizeof(raw), "{\"msg_id\": \"%s\", \"of\": \"%s\"}", id, client);
	snprintf(identity, sizeof(identity), "%s", client);
	request =
		requests_add(requests, WALL_SHELL, part(identity), part(raw), &fields, part(text));
	free(text);
	return request;
}

static struct request *asked(struct requests *requests, const char *id, enum wall_channel channel,
			     char *client)
{
	return requests_asked(requests, id, channel, part(client));
}

static void remembers(void **state)
{
	struct requests *requests = requests_new();
	struct request *request = add(requests, "c", "s", "1", "execute_request",
				      "{\"silent\": false, \"code\": \"1 + \\\"}\\\"\", "
				      "\"allow_stdin\":true}");
	char client[] = "c", other[] = "d";

	(void)state;
	assert_string_equal(request->code, "\"1 + \\\"}\\\"\"");
	assert_true(request->allows_stdin);
	assert_true(request->waits);
	assert_string_equal((char *)request->header.iov_base, "{\"msg_id\": \"1\", \"of\": \"c\"}");
	assert_ptr_equal(requests_find(requests, "1", "s"), request);
	assert_ptr_equal(requests_find(requests, "1", NULL), request);
	assert_null(requests_find(requests, "2", "s"));
	assert_ptr_equal(asked(requests, "1", WALL_SHELL, client), request);
	assert_null(asked(requests, "1", WALL_SHELL, other));
	assert_null(asked(requests, "1", WALL_CONTROL, client));
	requests_drop_code(requests, request);
	assert_null(request->code);
	request->waits = false;
	assert_null(asked(requests, "1", WALL_SHELL, client));
	assert_null(requests_instead(requests));
	request = add(requests, "c", "s", "2", "comm_msg", "{\"code\": \"1\"}");
	assert_null(request->code);
	assert_false(request->waits);
	requests_free(requests);
}

/* Two clients with the same msg_id: each gets its own reply, output goes by the session. */
static void same_id_twice(void **state)
{
	struct requests *requests = requests_new();
	struct request *first = add(requests, "c", "s", "1", "execute_request", "{}");
	struct request *second = add(requests, "d", "t", "1", "execute_request", "{}");
	char c[] = "c", d[] = "d";

	(void)state;
	assert_ptr_equal(asked(requests, "1", WALL_SHELL, c), first);
	assert_ptr_equal(asked(requests, "1", WALL_SHELL, d), second);
	assert_ptr_equal(requests_find(requests, "1", "s"), first);
	assert_ptr_equal(requests_find(requests, "1", "t"), second);
	assert_ptr_equal(requests_find(requests, "1", "u"), second);
	first->waits = false;
	assert_null(asked(requests, "1", WALL_SHELL, c));
	assert_ptr_equal(asked(requests, "1", WALL_SHELL, d), second);
	requests_free(requests);
}

/* 65,536 are kept; then the oldest goes, but not the one that still runs. */
static void forgets_in_order(void **state)
{
	struct requests *requests = requests_new();
	struct request *running;
	char id[16];

	(void)state;
	add(requests, "c", "s", "running", "execute_request", "{}");
	for (int i = 0; i < (int)REQUESTS_MAX - 1; i++) {
		snprintf(id, sizeof(id), "%d", i);
		add(requests, "c", "s", id, "comm_msg", "{}");
	}
	assert_non_null(requests_find(requests, "0", NULL));
	assert_null(requests_instead(requests));
	add(requests, "c", "s", "next", "comm_msg", "{}");
	assert_null(requests_find(requests, "0", NULL));
	assert_non_null(requests_find(requests, "1", NULL));
	running = requests_find(requests, "running", NULL);
	assert_non_null(running);
	assert_ptr_equal(requests_instead(requests), running);
	running->waits = false;
	running = add(requests, "c", "s", "newer", "execute_request", "{}");
	assert_ptr_equal(requests_instead(requests), running);
	requests_free(requests);
}

static void bounded_in_bytes(void **state)
{
	struct requests *requests = requests_new();
	char *content = malloc(20000020), id[16];

	(void)state;
	memcpy(content, "{\"code\": \"", 10);
	memset(content + 10, 'x', 20000000);
	memcpy(content + 20000010, "\"}", 3);
	for (int i = 0; i < 5; i++) {
		snprintf(id, sizeof(id), "%d", i);
		add(requests, "c", "s", id, "execute_request", content);
		requests_find(requests, id, NULL)->waits = i == 4;
	}
	assert_null(requests_find(requests, "1", NULL));
	assert_non_null(requests_find(requests, "2", NULL));
	assert_int_equal(strlen(requests_find(requests, "4", NULL)->code), 20000002);
	free(content);
	requests_free(requests);
}

static void members(void **state)
{
	static const struct {
		const char *text, *found;
	} cases[] = {
		{"{\"code\":\"a\"}", "\"a\""},
		{" { \"x\" : [1, {\"code\": 2}] , \"code\" : {\"a\": \"}\"} }", "{\"a\": \"}\"}"},
		{"{\"x\": \"\\\\\", \"code\": 1 , \"y\": 2}", "1"},
		{"{\"code\": 1, \"code\": 2}", "2"},
		{"{\"x\": \"\\\"code\\\": 1\"}", ""},
		{"{\"code\": \"cut", ""},
		{"{\"code\"", ""},
		{"{\"code\": [", ""},
		{"[\"code\", 1]", ""},
		{"{}", ""},
		{"", ""},
		{"{", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *text = strdup(cases[i].text);
		struct iovec found = requests_member(part(text), "code");

		assert_int_equal(found.iov_len, strlen(cases[i].found));
		if (found.iov_len)
			assert_memory_equal(found.iov_base, cases[i].found, found.iov_len);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(remembers),	    cmocka_unit_test(same_id_twice),
		cmocka_unit_test(forgets_in_order), cmocka_unit_test(bounded_in_bytes),
		cmocka_unit_test(members),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
