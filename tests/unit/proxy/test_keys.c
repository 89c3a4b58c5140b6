#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/keys.h"

static char place[64];

static char *at(const char *name)
{
	char *path = path_join(place, name);

	assert_non_null(path);
	return path;
}

static int make_place(void **state)
{
	(void)state;
	(void)snprintf(place, sizeof(place), "/tmp/keys-XXXXXX");
	return mkdtemp(place) ? 0 : -1;
}

static int remove_place(void **state)
{
	static const char *const names[] = {"a.key", "a.key_secret", "b.key", "text"};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		cleanup(free_ptr) char *path = at(names[i]);

		unlink(path);
	}
	return rmdir(place);
}

static void what_is_written_is_read(void **state)
{
	cleanup(free_ptr) char *open = at("a.key"), *secret = at("a.key_secret");
	struct key made, read;
	struct stat status;
	struct err err;

	(void)state;
	assert_int_equal(keys_make(&made, &err), 0);
	assert_int_equal(keys_write(open, &made, "a", false, &err), 0);
	assert_int_equal(keys_write(secret, &made, "a", true, &err), 0);
	assert_int_equal(stat(secret, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(keys_write(secret, &made, "a", true, &err), -EEXIST);

	assert_int_equal(keys_read(open, false, &read, &err), 0);
	assert_string_equal(read.public_key, made.public_key);
	assert_string_equal(read.secret_key, "");
	assert_int_equal(keys_read(open, true, &read, &err), -EACCES);
	assert_int_equal(keys_read(secret, true, &read, &err), 0);
	assert_string_equal(read.secret_key, made.secret_key);
	assert_int_equal(chmod(secret, 0640), 0);
	assert_int_equal(keys_read(secret, true, &read, &err), -EACCES);
}

static int read_text(const char *text, bool secret, struct key *key, struct err *err)
{
	cleanup(free_ptr) char *path = at("text");

	unlink(path);
	assert_int_equal(write_new_file(AT_FDCWD, path, 0600, text, strlen(text), err), 0);
	return keys_read(path, secret, key, err);
}

static void other_certificates_are_refused_in_words(void **state)
{
	struct key key, other;
	struct err err;
	cleanup(free_ptr) char *mixed = NULL;

	(void)state;
	assert_int_equal(read_text("", false, &key, &err), -EINVAL);
	assert_int_equal(read_text("curve\n    public-key = \"short\"\n", false, &key, &err),
			 -EINVAL);
	/* 40 characters, but not of Z85 */
	assert_int_equal(
		read_text("curve\n    public-key = "
			  "\"\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\"
			  "\\\\\\\\\\\\\\\\\"\n",
			  false, &key, &err),
		-EINVAL);
	assert_int_equal(keys_make(&key, &err), 0);
	assert_int_equal(keys_make(&other, &err), 0);
	mixed = format_string("curve\n  public-key=\"%s\"\n  secret-key=\"%s\"\n", key.public_key,
			      other.secret_key);
	assert_int_equal(read_text(mixed, true, &other, &err), -EINVAL);
	assert_non_null(strstr(err.text, "do not belong together"));
}

/* As czmq writes it: a banner, metadata first, and an entry that is not known. */
static void a_certificate_of_czmq_is_read(void **state)
{
	struct key key, read;
	struct err err;
	cleanup(free_ptr) char *text = NULL;

	(void)state;
	assert_int_equal(keys_make(&key, &err), 0);
	text = format_string("#   ****  Generated on 2024-01-01 00:00:00 by CZMQ  ****\n"
			     "#   ZeroMQ CURVE Public Certificate\n\nmetadata\n"
			     "    public-key = \"not here\"\ncurve\n    version = 1\n"
			     "    public-key = \"%s\"\n",
			     key.public_key);
	assert_int_equal(read_text(text, false, &read, &err), 0);
	assert_string_equal(read.public_key, key.public_key);
}

static const char *name_now(struct keys_allowed *allowed, const struct key *key)
{
	keys_allowed_look(allowed);
	return keys_allowed_name(allowed, key->public_key);
}

static void who_comes_and_goes_is_seen(void **state)
{
	cleanup(free_ptr) char *path = at("b.key");
	struct keys_allowed *allowed;
	struct key key;
	struct err err;

	(void)state;
	assert_int_equal(keys_make(&key, &err), 0);
	assert_int_equal(keys_allowed_new(place, &allowed, &err), 0);
	assert_null(name_now(allowed, &key));
	assert_int_equal(keys_write(path, &key, "b", false, &err), 0);
	assert_string_equal(name_now(allowed, &key), "b");
	assert_int_equal(unlink(path), 0);
	assert_null(name_now(allowed, &key));
	keys_allowed_free(allowed);
}

static void write_over(const char *path, const struct key *key)
{
	FILE *file = fopen(path, "r+");

	assert_non_null(file);
	assert_true(fprintf(file, "curve\n    public-key = \"%s\"\n", key->public_key) > 0);
	assert_int_equal(fclose(file), 0);
}

/* Once what was read is old enough to be believed: in the file itself, its size and time as before,
 * and by a rename, the directory's time as before. */
static void another_key_in_the_same_place_is_seen(void **state)
{
	cleanup(free_ptr) char *path = at("b.key"), *other = at("other");
	const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	struct keys_allowed *allowed;
	struct key keys[3];
	struct err err;

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(keys_make(&keys[i], &err), 0);
	assert_int_equal(keys_allowed_new(place, &allowed, &err), 0);
	assert_int_equal(write_new_file(AT_FDCWD, path, 0644, "", 0, &err), 0);
	assert_int_equal(write_new_file(AT_FDCWD, other, 0644, "", 0, &err), 0);
	write_over(path, &keys[0]);
	write_over(other, &keys[2]);
	assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
	assert_int_equal(utimensat(AT_FDCWD, other, old, 0), 0);
	assert_int_equal(utimensat(AT_FDCWD, place, old, 0), 0);
	sleep(3);
	assert_string_equal(name_now(allowed, &keys[0]), "b");
	assert_string_equal(name_now(allowed, &keys[0]), "b");

	write_over(path, &keys[1]);
	assert_int_equal(utimensat(AT_FDCWD, path, old, 0), 0);
	assert_null(name_now(allowed, &keys[0]));
	assert_string_equal(name_now(allowed, &keys[1]), "b");
	assert_int_equal(rename(other, path), 0);
	assert_int_equal(utimensat(AT_FDCWD, place, old, 0), 0);
	assert_null(name_now(allowed, &keys[1]));
	assert_string_equal(name_now(allowed, &keys[2]), "b");
	keys_allowed_free(allowed);
}

static void names_are_plain(void **state)
{
	(void)state;
	assert_true(keys_name("anna.b-c_1@lab"));
	assert_false(keys_name(""));
	assert_false(keys_name(".."));
	assert_false(keys_name("a/b"));
	assert_false(keys_name("a b"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_written_is_read, make_place, remove_place),
		cmocka_unit_test_setup_teardown(other_certificates_are_refused_in_words, make_place,
						remove_place),
		cmocka_unit_test_setup_teardown(a_certificate_of_czmq_is_read, make_place,
						remove_place),
		cmocka_unit_test_setup_teardown(who_comes_and_goes_is_seen, make_place,
						remove_place),
		cmocka_unit_test_setup_teardown(another_key_in_the_same_place_is_seen, make_place,
						remove_place),
		cmocka_unit_test(names_are_plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
