#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "web/users.h"

#define ANNA "anna-0123456789abcdef"
#define BEN  "ben-0123456789abcdef"

static int make_users(void **state)
{
	struct users *users;

	if (users_new(&users, NULL) < 0)
		return -1;
	*state = users;
	return 0;
}

static int remove_users(void **state)
{
	users_free(*state);
	return 0;
}

static int read_text(struct users *users, const char *text, struct err *err)
{
	char path[] = "/tmp/cellwall-users-XXXXXX";
	int fd = mkstemp(path), code;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	code = users_read(users, path, err);
	unlink(path);
	return code;
}

static void what_an_entry_says(void **state)
{
	struct users *users = *state;
	const struct user *user;
	struct err err;

	assert_int_equal(read_text(users,
				   "{\"users\": {\"anna\": {\"token\": \"" ANNA
				   "\", \"max_kernels\": 2, \"kernelspecs\": [\"r\"], "
				   "\"area_limit\": \"2G\", \"uid\": 77}}}",
				   &err),
			 0);
	user = users_by_token(users, ANNA, strlen(ANNA));
	assert_non_null(user);
	assert_string_equal(user->name, "anna");
	assert_int_equal(user->max_kernels, 2);
	assert_int_equal(user->area_limit, 2ull << 30);
	assert_false(user->admin);
	assert_true(user_may_start(user, "r"));
	assert_false(user_may_start(user, "python3"));
	assert_ptr_equal(users_by_uid(users, 77), user);
	assert_null(users_by_token(users, BEN, strlen(BEN)));
	assert_null(users_by_token(users, ANNA, strlen(ANNA) - 1));
}

static void who_is_taken_out_of_the_file(void **state)
{
	struct users *users = *state;
	const struct user *anna;
	struct err err;

	assert_int_equal(read_text(users,
				   "{\"users\": {\"anna\": {\"token\": \"" ANNA
				   "\", \"certificate\": \"desk\", \"uid\": 77}}}",
				   &err),
			 0);
	anna = users_by_certificate(users, "desk");
	assert_non_null(anna);
	/* All that she was known by is another's now. */
	assert_int_equal(read_text(users,
				   "{\"users\": {\"ben\": {\"token\": \"" ANNA
				   "\", \"certificate\": \"desk\", \"uid\": 77}}}",
				   &err),
			 0);
	assert_true(anna->disabled);
	assert_string_equal(users_by_certificate(users, "desk")->name, "ben");
	assert_string_equal(users_by_uid(users, 77)->name, "ben");
	assert_string_equal(users_by_token(users, ANNA, strlen(ANNA))->name, "ben");
	/* And she may come back. */
	assert_int_equal(
		read_text(users, "{\"users\": {\"anna\": {\"token\": \"" ANNA "\"}}}", &err), 0);
	assert_false(users_have_certificates(users));
	assert_ptr_equal(users_by_token(users, ANNA, strlen(ANNA)), anna);
}

static void what_cannot_be_read_changes_nothing(void **state)
{
	static const struct {
		const char *text, *words;
	} wrong[] = {
		{"", "a token has 16"},
		{"short", "a token has 16"},
		{"{}", "one member \"users\""},
		{"{\"users\": {\"anna\": {\"token\": \"short\"}}}", "a token has 16"},
		{"{\"users\": {\"../x\": {}}}", "no user's name"},
		{"{\"users\": {\"anna\": {\"nothing\": 1}}}", "unknown member \"nothing\""},
		{"{\"users\": {\"anna\": []}}", "an object"},
		{"{\"users\": {\"anna\": {\"token\": 1}}}", "\"token\" must be a string"},
		{"{\"users\": {\"anna\": {\"admin\": 1}}}", "\"admin\" must be true or false"},
		{"{\"users\": {\"anna\": {\"uid\": \"1\"}}}", "\"uid\" must be a whole number"},
		{"{\"users\": {\"anna\": {\"area_limit\": \"2X\"}}}", "area_limit"},
		{"{\"users\": {\"anna\": {\"area_limit\": \"99999999999T\"}}}", "area_limit"},
		{"{\"users\": {\"anna\": {\"sha256\": \"00\"}}}", "64 hexadecimal"},
		{"{\"users\": {\"anna\": {\"uid\": 4294967295}}}", "no uid"},
		{"{\"users\": {\"anna\": {}, \"anna\": {}}}", "a member twice"},
		{"{\"users\": {\"anna\": {\"token\": \"" BEN "\"}, \"ben\": {\"token\": \"" BEN
		 "\"}}}",
		 "the same token"},
	};
	struct users *users = *state;
	struct err err;

	assert_int_equal(read_text(users, ANNA "\n", &err), 0);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_true(read_text(users, wrong[i].text, &err) < 0);
		assert_non_null(strstr(err.text, wrong[i].words));
		assert_true(users_by_token(users, ANNA, strlen(ANNA))->admin);
		assert_null(users_by_token(users, BEN, strlen(BEN)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_an_entry_says, make_users, remove_users),
		cmocka_unit_test_setup_teardown(who_is_taken_out_of_the_file, make_users,
						remove_users),
		cmocka_unit_test_setup_teardown(what_cannot_be_read_changes_nothing, make_users,
						remove_users),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
