#include "sandbox/base.h"
#include "sandbox/siphash.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static void test_err(void **state)
{
	char text[2 * sizeof(((struct err *)NULL)->text)];
	struct err err;

	(void)state;
	assert_int_equal(err_set(NULL, -EPROTO, "x"), -EPROTO);
	assert_int_equal(err_set(&err, -EPROTO, "%d parts\nleft\x1b", 3), -EPROTO);
	assert_int_equal(err.code, -EPROTO);
	assert_string_equal(err.text, "3 parts?left?");

	errno = ENOENT;
	assert_int_equal(err_errno(NULL, "x"), -ENOENT);
	errno = ENOENT;
	assert_int_equal(err_errno(&err, "open %s", "a"), -ENOENT);
	assert_string_equal(err.text, "open a: No such file or directory");
	assert_int_equal(err_wrap(&err, "mounts %d", 2), -ENOENT);
	assert_string_equal(err.text, "mounts 2: open a: No such file or directory");
	assert_true(err_wrap(NULL, "x") < 0);

	errno = 0;
	assert_int_equal(err_errno(&err, "slip"), -EIO);
	errno = 4000;
	assert_int_equal(err_errno(&err, "odd"), -4000);
	assert_string_equal(err.text, "odd: Unknown error");

	/* A long text gives way to the reason; a long context is cut, never run over. */
	memset(text, 'p', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	errno = ENOENT;
	err_errno(&err, "%s", text);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
	assert_string_equal(err.text + strlen(err.text) - 30, "ppp: No such file or directory");
	err_wrap(&err, "%s", text);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
	err_set(&err, -1, "%s", text);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void test_cleanup(void **state)
{
	int copy, fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	char *text = strdup("x"), *kept;

	(void)state;
	copy = fd;
	errno = 77;
	close_fd(&fd);
	assert_int_equal(errno, 77);
	assert_int_equal(fd, -1);
	assert_int_equal(fcntl(copy, F_GETFD), -1);
	errno = 77;
	close_fd(&fd); /* of nothing: nothing happens */
	assert_int_equal(errno, 77);
	fd = 5;
	assert_int_equal(steal_fd(&fd), 5);
	assert_int_equal(fd, -1);
	kept = steal_ptr(&text);
	assert_null(text);
	assert_string_equal(kept, "x");
	free_ptr(&kept);
	assert_null(kept);
	free_ptr(&kept);
}

static void test_full(void **state)
{
	char data[3] = {0};
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(write_full(fds[1], "abc", 3), 0);
	assert_int_equal(read_full(fds[0], data, 3), 0);
	assert_memory_equal(data, "abc", 3);
	assert_int_equal(read_full(fds[0], data, 0), 0);
	assert_int_equal(read_full(fds[0], data, 1), -EAGAIN);
	assert_int_equal(write_full(fds[1], "ab", 2), 0);
	close_fd(&fds[1]);
	assert_int_equal(read_full(fds[0], data, 3), -EPIPE);
	assert_int_equal(write_full(fds[0], "x", 1), -EBADF);
	close_fd(&fds[0]);
	assert_int_equal(read_full(-1, data, 1), -EBADF);
}

/* More than a pipe holds: both sides go round several times. */
static void test_full_in_pieces(void **state)
{
	static unsigned char sent[300000], got[300000];
	int fds[2], status;
	pid_t child;

	(void)state;
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (unsigned char)(i * 31 >> 8);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	child = fork();
	if (child == 0)
		_exit(write_full(fds[1], sent, sizeof(sent)) != 0);
	assert_int_equal(read_full(fds[0], got, sizeof(got)), 0);
	assert_memory_equal(got, sent, sizeof(sent));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	close_fd(&fds[0]);
	close_fd(&fds[1]);
}

static char directory[] = "/tmp/test_base.XXXXXX";

static void test_files(void **state)
{
	static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 8192, 70000};
	cleanup(close_fd) int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *data = NULL, *text;
	size_t size = 99;
	struct stat status;
	struct err err;

	(void)state;
	for (size_t i = 0; i < LENGTH(sizes); i++) {
		text = malloc(sizes[i] + 1);
		assert_non_null(text);
		memset(text, 'a' + (int)i, sizes[i]);
		assert_int_equal(write_new_file(dir, "f", 0600, text, sizes[i], &err), 0);
		assert_int_equal(write_new_file(dir, "f", 0600, text, sizes[i], &err), -EEXIST);
		assert_int_equal(fstatat(dir, "f", &status, 0), 0);
		assert_int_equal(status.st_mode & 07777, 0600);
		assert_int_equal(read_file(dir, "f", sizes[i], &data, &size, &err), 0);
		assert_int_equal(size, sizes[i]);
		assert_memory_equal(data, text, size);
		assert_int_equal(data[size], '\0');
		free(data);
		assert_int_equal(read_file(dir, "f", SIZE_MAX, &data, NULL, &err), 0);
		free_ptr(&data);
		if (sizes[i] > 0)
			assert_int_equal(read_file(dir, "f", sizes[i] - 1, &data, &size, &err),
					 -EFBIG);
		assert_null(data);
		assert_int_equal(unlinkat(dir, "f", 0), 0);
		free(text);
	}
	/* Files whose size is not known beforehand. */
	assert_int_equal(read_file(AT_FDCWD, "/proc/self/status", 1 << 20, &data, &size, &err), 0);
	assert_int_equal(size, strlen(data));
	assert_true(size > 100);
	free_ptr(&data);
	assert_int_equal(read_file(AT_FDCWD, "/dev/zero", 10000, &data, &size, &err), -EFBIG);
	assert_string_equal(err.text, "/dev/zero is longer than 10000 bytes");
	assert_int_equal(read_file(dir, "none\n", 10, &data, &size, &err), -ENOENT);
	assert_string_equal(err.text, "cannot open none\\n: No such file or directory");
	assert_int_equal(read_file(dir, ".", 10, &data, &size, &err), -EISDIR);
	assert_null(data);
	/* A link somebody planted is not written through; a failed write leaves nothing behind. */
	assert_int_equal(symlinkat("/tmp/elsewhere", dir, "l"), 0);
	assert_int_equal(write_new_file(dir, "l", 0600, "x", 1, &err), -EEXIST);
	assert_int_equal(unlinkat(dir, "l", 0), 0);
	assert_int_equal(write_new_file(dir, "none/f", 0600, "x", 1, &err), -ENOENT);
}

static void check_escape(const char *text, size_t size, const char *expected)
{
	char out[256];

	assert_ptr_equal(escape_text(out, sizeof(out), text, size), out);
	assert_string_equal(out, expected);
}

static void test_escape_passes(void **state)
{
	static const char *const good[] = {
		"",
		" ~aZ09'\"",
		"\xc2\xa0",
		"caf\xc3\xa9",
		"\xe6\x97\xa5\xe6\x9c\xac",
		"\xf0\x9f\x98\x80",
		"\xd7\xa9\xd7\x9c", /* right-to-left letters themselves are text */
		"\xdf\xbf",
		"\xe0\xa0\x80",
		"\xed\x9f\xbf",
		"\xee\x80\x80",
		"\xef\xbf\xbd",
		"\xf0\x90\x80\x80",
		"\xf4\x8f\xbf\xbd", /* U+10FFFD */
		"\xe2\x80\x8a",
		"\xe2\x80\x90",
		"\xe2\x80\xa7",
		"\xe2\x80\xaf",
		"\xe2\x81\x9f",
		"\xe2\x81\xb0",
		"\xd8\x9b",
		"\xd8\x9d",
		"\xef\xb7\x8f",
		"\xef\xb7\xb0",
		"\xef\xbb\xbe",
		"\xf3\x9f\xbf\xbd",
		"\xf3\xa1\x80\x80",
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(good); i++)
		check_escape(good[i], strlen(good[i]), good[i]);
}

/* Encodes without judging, as an attacker would. */
static size_t encode(uint32_t point, char out[4])
{
	if (point < 0x80) {
		out[0] = (char)point;
		return 1;
	}
	if (point < 0x800) {
		out[0] = (char)(0xc0 | point >> 6);
		out[1] = (char)(0x80 | (point & 63));
		return 2;
	}
	if (point < 0x10000) {
		out[0] = (char)(0xe0 | point >> 12);
		out[1] = (char)(0x80 | (point >> 6 & 63));
		out[2] = (char)(0x80 | (point & 63));
		return 3;
	}
	out[0] = (char)(0xf0 | point >> 18);
	out[1] = (char)(0x80 | (point >> 12 & 63));
	out[2] = (char)(0x80 | (point >> 6 & 63));
	out[3] = (char)(0x80 | (point & 63));
	return 4;
}

static void test_escape_hidden(void **state)
{
	static const uint32_t bad[][2] = {
		{0x00, 0x08},	  {0x0b, 0x1f},	    {0x7f, 0x9f},	  {0x61c, 0x61c},
		{0x200b, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f},	  {0xd800, 0xdfff},
		{0xfdd0, 0xfdef}, {0xfeff, 0xfeff}, {0xfffe, 0xffff},	  {0x1fffe, 0x1ffff},
		{0xad, 0xad},	  {0x3164, 0x3164}, {0xffa0, 0xffa0},	  {0xe0000, 0xe0fff},
		{0x180e, 0x180e}, {0x34f, 0x34f},   {0x10fffe, 0x110010}, {0xfff9, 0xfffb},
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(bad); i++) {
		for (uint32_t point = bad[i][0]; point <= bad[i][1]; point++) {
			char text[4], expected[32] = "";
			size_t length = encode(point, text);

			for (size_t j = 0; j < length; j++)
				(void)snprintf(expected + 4 * j, sizeof(expected) - 4 * j,
					       "\\x%02x", (unsigned char)text[j]);
			check_escape(text, length, expected);
		}
	}
	check_escape("a\nb\tc\\d", 7, "a\\nb\\tc\\\\d");
	check_escape("\0", 1, "\\x00");
}

static void test_escape_malformed(void **state)
{
	static const char *const bad[] = {
		"\x80",
		"\xbf",
		"\xc0\x80",
		"\xc1\xbf",
		"\xe0\x80\x80",
		"\xe0\x9f\xbf",
		"\xf0\x8f\xbf\xbf",
		"\xf5\x80\x80\x80",
		"\xf8\x88\x80\x80\x80",
		"\xfe",
		"\xff",
		"\xc3",
		"\xe6\x97",
		"\xf0\x9f\x98",
		"\xf4\x90\x80\x80",
		"\xed\xa0\x80",
		"\xed\xbf\xbf",
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(bad); i++) {
		char text[16], expected[64];
		size_t length = strlen(bad[i]), at = 0;

		for (size_t j = 0; j < length; j++)
			at += (size_t)snprintf(expected + at, sizeof(expected) - at, "\\x%02x",
					       (unsigned char)bad[i][j]);
		check_escape(bad[i], length, expected);
		/* What follows a malformed sequence is read afresh. */
		(void)snprintf(text, sizeof(text), "%sA", bad[i]);
		(void)snprintf(expected + at, sizeof(expected) - at, "A");
		check_escape(text, length + 1, expected);
	}
	check_escape("\xe6\x97\xc3\xa9", 4, "\\xe6\\x97\xc3\xa9");
}

static void test_escape_cut(void **state)
{
	static const char full[] = "a\\xffb\\n\xc3\xa9z\\x1b";
	static const size_t units[] = {1, 4, 1, 2, 2, 1, 4};
	char out[64], expected[64];

	(void)state;
	memset(out, 'Z', sizeof(out));
	assert_string_equal(escape_text(out, 0, "abc", 3), "");
	assert_int_equal(out[0], 'Z');
	for (size_t room = 1; room < sizeof(full) + 4; room++) {
		size_t whole = 0, dots;

		memset(out, 'Z', sizeof(out));
		escape_text(out, room,
			    "a\xff"
			    "b\n\xc3\xa9z\x1b",
			    8);
		assert_int_equal(out[room], 'Z');
		if (room >= sizeof(full)) {
			assert_string_equal(out, full);
			continue;
		}
		/* The longest run of whole units after which the dots fit. */
		for (size_t i = 0, length = 0; i < LENGTH(units); i++) {
			length += units[i];
			if (length + 4 <= room)
				whole = length;
		}
		dots = room - 1 - whole < 3 ? room - 1 - whole : 3;
		(void)snprintf(expected, sizeof(expected), "%.*s%.*s", (int)whole, full, (int)dots,
			       "...");
		assert_string_equal(out, expected);
	}
	assert_string_equal(escape_string(out, 4, "abc"), "abc");
	assert_string_equal(escape_string(out, 4, "abcd"), "...");
	assert_string_equal(escape_string(out, 6, "abcdef"), "ab...");
	/* once escaped, a line stays as it is */
	assert_string_equal(escape_line(out, sizeof(out), "a\\x1b\x1b\n"), "a\\x1b\\x1b\\n");
}

static void test_path_join(void **state)
{
	static const char *const cases[][3] = {
		{"/a", "b", "/a/b"}, {"/a/", "b", "/a/b"},  {"/a//", "//b", "/a/b"},
		{"/", "b", "/b"},    {"//", "b", "/b"},	    {"", "b", "b"},
		{"a", "", "a/"},     {"a", "b/c", "a/b/c"},
	};

	(void)state;
	for (size_t i = 0; i < LENGTH(cases); i++) {
		cleanup(free_ptr) char *path = path_join(cases[i][0], cases[i][1]);

		assert_string_equal(path, cases[i][2]);
	}
}

static void test_make_directories(void **state)
{
	char path[64], below[80];
	struct stat status;
	struct err err;

	(void)state;
	(void)snprintf(path, sizeof(path), "%s/a//b/c/", directory);
	assert_int_equal(make_directories(path, 0700, &err), 0);
	assert_int_equal(make_directories(path, 0700, &err), 0);
	assert_int_equal(stat(path, &status), 0);
	assert_true(S_ISDIR(status.st_mode));
	assert_int_equal(status.st_mode & 07777, 0700);
	assert_int_equal(make_directories("/", 0700, &err), 0);
	assert_int_equal(make_directories("/proc/self", 0700, &err), 0);
	(void)snprintf(path, sizeof(path), "%s/file", directory);
	assert_int_equal(write_new_file(AT_FDCWD, path, 0600, "", 0, &err), 0);
	assert_int_equal(make_directories(path, 0700, &err), -ENOTDIR);
	(void)snprintf(below, sizeof(below), "%s/x", path);
	assert_int_equal(make_directories(below, 0700, &err), -ENOTDIR);
	assert_true(make_directories("/proc/none/x", 0700, &err) < 0);
}

static void test_random(void **state)
{
	char a[33], b[33], canary[6] = "ZZZZZ";
	uint64_t x = 0, y = 0;

	(void)state;
	assert_int_equal(random_bytes(&x, sizeof(x)), 0);
	assert_int_equal(random_bytes(&y, sizeof(y)), 0);
	assert_true(x != y);
	assert_int_equal(random_hex(a, 16), 0);
	assert_int_equal(random_hex(b, 16), 0);
	assert_int_equal(strlen(a), 32);
	assert_int_equal(strspn(a, "0123456789abcdef"), 32);
	assert_string_not_equal(a, b);
	assert_memory_not_equal(a, a + 16, 16); /* its halves are not the same bytes */
	assert_int_equal(random_hex(canary, 0), 0);
	assert_memory_equal(canary, "\0ZZZZ", 5);
	assert_int_equal(random_hex(canary, 2), 0);
	assert_int_equal(strlen(canary), 4);
	assert_int_equal(canary[5], '\0');
}

static void test_parse_u64(void **state)
{
	static const char *const invalid[] = {
		"", "-1", "+1", " 1", "1 ", "0x1", "1e3", "a", "1a", "\n", "99999999999999999999x"};
	uint64_t value = 7;

	(void)state;
	for (size_t i = 0; i < LENGTH(invalid); i++)
		assert_int_equal(parse_u64(invalid[i], UINT64_MAX, &value), -EINVAL);
	assert_int_equal(parse_u64(NULL, UINT64_MAX, &value), -EINVAL);
	assert_int_equal(parse_u64("18446744073709551616", UINT64_MAX, &value), -ERANGE);
	assert_int_equal(parse_u64("184467440737095516150", UINT64_MAX, &value), -ERANGE);
	assert_int_equal(parse_u64("99999999999999999999999", UINT64_MAX, &value), -ERANGE);
	assert_int_equal(parse_u64("11", 10, &value), -ERANGE);
	assert_int_equal(value, 7);
	assert_int_equal(parse_u64("10", 10, &value), 0);
	assert_int_equal(value, 10);
	assert_int_equal(parse_u64("0", 0, &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(parse_u64("007", 9, &value), 0);
	assert_int_equal(value, 7);
	assert_int_equal(parse_u64("18446744073709551615", UINT64_MAX, &value), 0);
	assert_true(value == UINT64_MAX);
}

static void test_now(void **state)
{
	int64_t before = now_ms();

	(void)state;
	usleep(20000);
	assert_in_range(now_ms() - before, 19, 5000);
}

static int make_directory(void **state)
{
	(void)state;
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	static const char *const made[] = {"a/b/c", "a/b", "a", "file", ""};
	char path[64];

	(void)state;
	for (size_t i = 0; i < LENGTH(made); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", directory, made[i]);
		(void)remove(path);
	}
	return access(directory, F_OK) == 0;
}

/* The example of the paper's appendix A. */
static void test_siphash(void **state)
{
	const uint64_t key[2] = {0x0706050403020100u, 0x0f0e0d0c0b0a0908u};
	unsigned char data[15];

	(void)state;
	for (unsigned char i = 0; i < sizeof(data); i++)
		data[i] = i;
	assert_true(siphash(key, data, sizeof(data)) == 0xa129ca6149be45e5u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_err),
		cmocka_unit_test(test_cleanup),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_full_in_pieces),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_escape_passes),
		cmocka_unit_test(test_escape_hidden),
		cmocka_unit_test(test_escape_malformed),
		cmocka_unit_test(test_escape_cut),
		cmocka_unit_test(test_path_join),
		cmocka_unit_test(test_make_directories),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_parse_u64),
		cmocka_unit_test(test_now),
		cmocka_unit_test(test_siphash),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
