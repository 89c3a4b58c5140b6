#include "sandbox/status.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static int ends[2];
static struct status status;
static struct err err;

static int open_pair(void **state)
{
	(void)state;
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
}

static int close_pair(void **state)
{
	(void)state;
	close_fd(&ends[0]);
	close_fd(&ends[1]);
	return 0;
}

static void raw(const void *data, size_t size)
{
	assert_int_equal(send(ends[0], data, size, MSG_NOSIGNAL), size);
}

static int count_fds(void)
{
	int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void test_fields(void **state)
{
	char packet[64];

	(void)state;
	assert_int_equal(status_send(ends[0], &err, "started", NULL), 0);
	assert_int_equal(status_receive(ends[1], &status, &err), 1);
	assert_string_equal(status.word, "started");
	assert_int_equal(status.fields, 0);
	assert_null(status.field[0]);
	assert_int_equal(status.fds[0], -1);
	assert_int_equal(status.fds[1], -1);

	assert_int_equal(status_send(ends[0], &err, "six", "1", "", "3", "4", "5", "6", NULL), 0);
	assert_int_equal(status_receive(ends[1], &status, &err), 1);
	assert_string_equal(status.word, "six");
	assert_int_equal(status.fields, 6);
	assert_string_equal(status.field[0], "1");
	assert_string_equal(status.field[1], "");
	assert_string_equal(status.field[5], "6");

	assert_int_equal(status_send(ends[0], &err, "x", "1", "2", "3", "4", "5", "6", "7", NULL),
			 -EINVAL);
	assert_int_equal(status_send(ends[0], &err, "", NULL), -EINVAL);

	/* On the wire it is what the header promises. */
	assert_int_equal(status_send(ends[0], &err, "refused", "a\tb\n\\c\r\xff", "why", NULL), 0);
	assert_int_equal(recv(ends[1], packet, sizeof(packet), 0), 23);
	assert_memory_equal(packet, "refused\ta\\tb\\n\\\\c\r\xff\twhy", 23);
	assert_int_equal(status_send(ends[0], &err, "refused", "a\tb\n\\c\r\xff", "\\", NULL), 0);
	assert_int_equal(status_receive(ends[1], &status, &err), 1);
	assert_string_equal(status.field[0], "a\tb\n\\c\r\xff");
	assert_string_equal(status.field[1], "\\");
	assert_null(status.field[2]);
}

static void test_cut(void **state)
{
	static char longest[2 * STATUS_MAX], reason[200];

	(void)state;
	memset(longest, 'x', sizeof(longest) - 1);
	memset(reason, 'r', sizeof(reason) - 1);
	/* One field: everything but word, TAB and NUL. */
	assert_int_equal(status_send(ends[0], &err, "w", longest, NULL), 0);
	assert_int_equal(status_receive(ends[1], &status, &err), 1);
	assert_int_equal(strlen(status.field[0]), STATUS_MAX - 1 - 2);
	/* What comes after a long field still says something; a short one is whole. */
	assert_int_equal(status_send(ends[0], &err, "w", longest, reason, "tail", NULL), 0);
	assert_int_equal(status_receive(ends[1], &status, &err), 1);
	assert_int_equal(strlen(status.field[1]), 128);
	assert_string_equal(status.field[2], "tail");
	assert_int_equal(strlen(status.field[0]), STATUS_MAX - 1 - 2 - 1 - 128 - 5);
	/* Never half an escape. */
	for (size_t odd = 0; odd < 2; odd++) {
		memset(longest, '\n', sizeof(longest) - 1);
		if (odd)
			longest[0] = 'x';
		assert_int_equal(status_send(ends[0], &err, "w", longest, NULL), 0);
		assert_int_equal(status_receive(ends[1], &status, &err), 1);
		assert_int_equal(strlen(status.field[0]), (STATUS_MAX - 3 + odd) / 2);
	}
}

static void test_malformed(void **state)
{
	static const struct {
		const char *data;
		size_t size;
	} bad[] = {
		{"\t", 1},
		{"\tx", 2},
		{"a\0b", 3},
		{"a\0", 2},
		{"\0", 1},
		{"a\tb\\", 4},
		{"a\tb\\x", 5},
		{"a\\\tb", 4},
		{"a\nb", 3},
		{"a\tb\n", 4},
		{"w\t1\t2\t3\t4\t5\t6\t7", 15},
		{"w\t\t\t\t\t\t\t", 8},
		{"\\", 1},
		{"a\tb\\\n", 5},
	};
	static char large[STATUS_MAX + 1];

	(void)state;
	for (size_t i = 0; i < LENGTH(bad); i++) {
		raw(bad[i].data, bad[i].size);
		assert_int_equal(status_receive(ends[1], &status, &err), -EPROTO);
		assert_null(status.word);
		assert_int_equal(status.fields, 0);
	}
	memset(large, 'x', sizeof(large));
	raw(large, STATUS_MAX - 1);
	assert_int_equal(status_receive(ends[1], &status, &err), 1);
	assert_int_equal(strlen(status.word), STATUS_MAX - 1);
	raw(large, STATUS_MAX);
	assert_int_equal(status_receive(ends[1], &status, &err), -EPROTO);
	raw(large, STATUS_MAX + 1);
	assert_int_equal(status_receive(ends[1], &status, &err), -EPROTO);
	/* The boundary of packets holds after each of them. */
	raw("w\t\t\t\t\t\t", 7);
	assert_int_equal(status_receive(ends[1], &status, &err), 1);
	assert_int_equal(status.fields, 6);
	assert_string_equal(status.field[5], "");
}

static void test_descriptors(void **state)
{
	int pipes[2], before;
	struct stat sent, got;

	(void)state;
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	before = count_fds();
	assert_int_equal(status_send_fds(ends[0], pipes, 2, &err, "wall", "f", NULL), 0);
	assert_int_equal(status_receive(ends[1], &status, &err), 1);
	assert_string_equal(status.word, "wall");
	assert_string_equal(status.field[0], "f");
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(fcntl(status.fds[i], F_GETFD), FD_CLOEXEC);
		assert_int_equal(fstat(pipes[i], &sent), 0);
		assert_int_equal(fstat(status.fds[i], &got), 0);
		assert_int_equal(sent.st_ino, got.st_ino);
	}
	assert_int_equal(fcntl(status.fds[1], F_GETFL) & O_ACCMODE, O_WRONLY);
	close_fd(&status.fds[0]);
	close_fd(&status.fds[1]);

	assert_int_equal(status_send_fds(ends[0], pipes, 1, &err, "wall", NULL), 0);
	assert_int_equal(status_receive(ends[1], &status, &err), 1);
	assert_true(status.fds[0] >= 0);
	assert_int_equal(status.fds[1], -1);
	close_fd(&status.fds[0]);
	assert_int_equal(status_send_fds(ends[0], pipes, 0, &err, "wall", NULL), 0);
	assert_int_equal(status_receive(ends[1], &status, &err), 1);
	assert_int_equal(status.fds[0], -1);
	assert_int_equal(status_send_fds(ends[0], pipes, STATUS_FDS + 1, &err, "wall", NULL),
			 -EINVAL);
	assert_int_equal(count_fds(), before);

	/* A packet that does not parse leaves no descriptor behind. */
	assert_int_equal(
		status_send_fds(ends[0], pipes, 2, &err, "w", "1", "2", "3", "4", "5", "6", NULL),
		0);
	assert_int_equal(status_receive(ends[1], &status, &err), 1);
	close_fd(&status.fds[0]);
	close_fd(&status.fds[1]);
	assert_int_equal(count_fds(), before);
	close_fd(&pipes[0]);
	close_fd(&pipes[1]);
}

/* A packet with `count` descriptors, more than ours ever send. */
static void send_surplus(const char *text, size_t size, size_t count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * 32)];
	} control = {0};
	char copy[16];
	struct iovec part = {.iov_base = copy, .iov_len = size};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control};

	memcpy(copy, text, size);
	message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
	control.align.cmsg_level = SOL_SOCKET;
	control.align.cmsg_type = SCM_RIGHTS;
	control.align.cmsg_len = CMSG_LEN(sizeof(int) * count);
	for (size_t i = 0; i < count; i++)
		memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &ends[0], sizeof(int));
	assert_int_equal(sendmsg(ends[0], &message, MSG_NOSIGNAL), size);
}

static void test_surplus(void **state)
{
	int before = count_fds();

	(void)state;
	for (size_t count = STATUS_FDS + 1; count <= 32; count++) {
		send_surplus("wall", 4, count);
		assert_int_equal(status_receive(ends[1], &status, &err), -EPROTO);
		assert_int_equal(count_fds(), before);
	}
	send_surplus("a\nb", 3, 2);
	assert_int_equal(status_receive(ends[1], &status, &err), -EPROTO);
	assert_int_equal(count_fds(), before);
	send_surplus("", 0, 1); /* an empty packet with a descriptor is no end of file */
	assert_int_equal(status_receive(ends[1], &status, &err), -EPROTO);
	assert_int_equal(count_fds(), before);
}

static void test_ends(void **state)
{
	(void)state;
	assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(status_receive(ends[1], &status, &err), -EAGAIN);
	/* What was sent before the end is read before the end. */
	assert_int_equal(status_send(ends[0], &err, "gone", "0", "9", NULL), 0);
	close_fd(&ends[0]);
	assert_int_equal(status_receive(ends[1], &status, &err), 1);
	assert_string_equal(status.field[1], "9");
	assert_int_equal(status_receive(ends[1], &status, &err), 0);
	assert_int_equal(status_receive(ends[1], &status, &err), 0);
	assert_int_equal(status_send(ends[1], &err, "kill", NULL), -EPIPE);
	assert_string_equal(err.text, "status: cannot send \"kill\": Broken pipe");
	assert_int_equal(status_receive(-1, &status, &err), -EBADF);
}

/* unix(7): a peer that closes with unread packets makes one ECONNRESET, ahead of its own last
 * packets. */
static void test_reset(void **state)
{
	(void)state;
	assert_int_equal(status_send(ends[1], &err, "collect", "1", NULL), 0);
	assert_int_equal(status_send(ends[0], &err, "gone", "0", "9", NULL), 0);
	assert_int_equal(status_send(ends[0], &err, "done", "0", "0", "0", NULL), 0);
	close_fd(&ends[0]);
	assert_int_equal(status_receive(ends[1], &status, &err), 1);
	assert_string_equal(status.word, "gone");
	assert_int_equal(status_receive(ends[1], &status, &err), 1);
	assert_string_equal(status.word, "done");
	assert_int_equal(status_receive(ends[1], &status, &err), 0);
}

static void test_reset_send(void **state)
{
	(void)state;
	assert_int_equal(status_send(ends[1], &err, "collect", "1", NULL), 0);
	close_fd(&ends[0]);
	assert_int_equal(status_send(ends[1], &err, "collect", "2", NULL), -EPIPE);
}

/* A full non-blocking socket is waited for. */
static void test_full_socket(void **state)
{
	static const char mark[] = "x";
	size_t sent = 0;
	pid_t child;
	int result;

	(void)state;
	assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	while (send(ends[0], mark, 1, MSG_NOSIGNAL) == 1)
		sent++;
	assert_int_equal(errno, EAGAIN);
	child = fork();
	if (child == 0) {
		usleep(50000);
		for (size_t i = 0; i <= sent; i++) {
			if (status_receive(ends[1], &status, NULL) != 1)
				_exit(1);
		}
		_exit(strcmp(status.word, "last") != 0);
	}
	assert_int_equal(status_send(ends[0], &err, "last", NULL), 0);
	assert_int_equal(waitpid(child, &result, 0), child);
	assert_int_equal(result, 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_pair, close_pair)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_fields),	TEST(test_cut),	       TEST(test_malformed),
		TEST(test_descriptors), TEST(test_surplus),    TEST(test_ends),
		TEST(test_reset),	TEST(test_reset_send), TEST(test_full_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
