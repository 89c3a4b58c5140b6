/* examine: an examiner that crashes, hangs, lies or is killed costs one message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proxy/examine.h"
#include "proxy/limits.h"
#include "proxy/portions.h"

static char empty[] = "{}", plain[] = "{\"a\": 1}", bad[] = "{\"a\": NaN}";

static const struct outputs_rules rules = {.mode = OUTPUTS_STATIC};

static struct examine *begin(examine_server *server)
{
	struct examine *examine = NULL;
	struct err err;

	assert_int_equal(examine_start(server, &rules, NULL, &examine, &err), 0);
	return examine;
}

static int ask(struct examine *examine_of, char *content, struct examination *examination)
{
	*examination = (struct examination){.rule = CONTENT_EXTRA,
					    .metadata = {empty, 2},
					    .content = {content, strlen(content)}};
	return examine(examine_of, examination);
}

static void done(struct examination *examination)
{
	free(examination->new_content);
	free(examination->new_metadata);
}

static void answers(void **state)
{
	struct examine *examine_of = begin(examine_serve);
	struct examination examination;
	char proto[] = "{\"a\": {\"__proto__\": {\"b\": 1}, \"c\": 0.1}}";

	(void)state;
	assert_int_equal(ask(examine_of, plain, &examination), 0);
	assert_int_equal(examination.verdict, CONTENT_KEEP);
	assert_int_equal(ask(examine_of, proto, &examination), 0);
	assert_int_equal(examination.verdict, CONTENT_CHANGED);
	assert_string_equal(examination.new_content, "{\"a\":{\"c\":0.10000000000000001}}");
	assert_non_null(strstr(examination.blocked, "JavaScript"));
	done(&examination);
	assert_int_equal(ask(examine_of, bad, &examination), 0);
	assert_int_equal(examination.verdict, CONTENT_DROP);
	assert_non_null(strstr(examination.blocked, "NaN"));
	assert_int_equal(examine_replaced(examine_of), 0);
	examine_stop(examine_of);
}

/* Python writes both: bytes that are no UTF-8 and halves of surrogate pairs. */
static void mends(void **state)
{
	struct examine *examine_of = begin(examine_serve);
	struct examination examination;
	char text[] = "{\"a\": \"\\ud83d\\ude00 \\ud83d x \\ude00 \xff \\u0000 \\\\ud800\"}";

	(void)state;
	assert_int_equal(ask(examine_of, text, &examination), 0);
	assert_int_equal(examination.verdict, CONTENT_CHANGED);
	assert_string_equal(examination.new_content,
			    "{\"a\":\"\xf0\x9f\x98\x80 \xef\xbf\xbd x \xef\xbf\xbd \xef\xbf\xbd "
			    "\xef\xbf\xbd \\\\ud800\"}");
	done(&examination);
	examine_stop(examine_of);
}

static void too_large_or_deep(void **state)
{
	struct examine *examine_of = begin(examine_serve);
	struct examination examination;
	char deep[2 * (CONTENT_DEPTH + 1) + 8] = "{\"a\":";

	(void)state;
	memset(deep + 5, '[', CONTENT_DEPTH);
	memset(deep + 5 + CONTENT_DEPTH, ']', CONTENT_DEPTH);
	deep[5 + 2 * CONTENT_DEPTH] = '}';
	assert_int_equal(ask(examine_of, deep, &examination), 0);
	assert_int_equal(examination.verdict, CONTENT_DROP);
	examination = (struct examination){.rule = CONTENT_EXTRA,
					   .metadata = {empty, 2},
					   .content = {plain, EXAMINE_CONTENT_MAX + 1}};
	assert_int_equal(examine(examine_of, &examination), -EMSGSIZE);
	examine_stop(examine_of);
}

/* ---- long streams ---- */

static size_t next(const char *text, size_t most)
{
	char *copy = strdup(text);
	const size_t size = portions_next((struct iovec){copy, strlen(text)}, most);

	free(copy);
	return size;
}

#define TEN	"xxxxxxxxxx"
#define SIXTY	TEN TEN TEN TEN TEN TEN
#define SMILING "\\ud83d\\ude00"

static void cuts(void **state)
{
	(void)state;
	assert_int_equal(next("short", 128), 5);
	assert_int_equal(next(SIXTY SIXTY SIXTY, 128), 128);
	assert_int_equal(next(SIXTY "\\n" SIXTY "x xxxxxx", 128), 62);
	assert_int_equal(next(SIXTY "\\\\n" SIXTY "x xxxxxx", 128), 125);
	assert_int_equal(next(SIXTY "\\\\n" SIXTY "xxxxxxxx", 128), 128);
	assert_int_equal(next(SIXTY SIXTY "xxxxxxx\\n", 128), 127);
	assert_int_equal(next(SIXTY SIXTY "xxxx\\u001b[", 128), 124);
	assert_int_equal(next(SIXTY SIXTY SMILING, 128), 120);
	assert_int_equal(next(SIXTY SIXTY "xx" SMILING, 128), 122);
	assert_int_equal(next(SIXTY TEN TEN TEN "\\u001b[38;5;200;38;5;201;38;5;202m", 120), 90);
	assert_int_equal(next(SIXTY TEN TEN TEN "\\u001b[38;5;200m38;5;201;38;5;202", 120), 120);
	assert_int_equal(next(SIXTY SIXTY "xxxxxxx\xe2\x82\xac", 128), 127);
}

/* Larger than is looked at in one: what is in order stays, the rest is as it would be alone, and
 * what is no JSON goes no further. */
static void long_streams(void **state)
{
	static const char front[] = "{\"name\":\"stderr\",\"text\":\"";
	struct examine *examine_of = begin(examine_serve);
	const size_t lines = (EXAMINE_CONTENT_MAX + 1000000) / 64;
	char *text = malloc(lines * 64 + 100), *at = text;
	struct examination examination = {.rule = CONTENT_STREAM, .metadata = {empty, 2}};

	(void)state;
	assert_non_null(text);
	memcpy(at, front, sizeof(front));
	at += strlen(at);
	for (size_t i = 0; i < lines; i++)
		at += snprintf(at, 65, "%-62s\\n",
			       i == lines / 2 ? "https://a.b/ \\u001b]0;x\\u0007y" : "-");
	memcpy(at, "\"}", 3);
	examination.content = (struct iovec){text, strlen(text)};
	assert_int_equal(portions_examine(examine_of, &examination, false), 0);
	assert_int_equal(examination.verdict, CONTENT_CHANGED);
	assert_int_equal(examination.new_content_size, strlen(examination.new_content));
	assert_memory_equal(examination.new_content, "{\"name\": \"stderr\", \"text\": \"-  ", 31);
	assert_non_null(strstr(examination.new_content, "https[:]//a.b/ y "));
	/* two letters more, the title less, and how it is written */
	assert_int_equal(examination.new_content_size, examination.content.iov_len + 2 - 16 + 3);
	done(&examination);
	at[-70] = '\x01';
	assert_int_equal(portions_examine(examine_of, &examination, false), 0);
	assert_int_equal(examination.verdict, CONTENT_DROP);
	assert_non_null(strstr(examination.blocked, "JSON"));
	done(&examination);
	memcpy(text, "{\"name\":\"stdxxx", 16);
	assert_int_equal(portions_examine(examine_of, &examination, false), -EINVAL);
	free(text);
	examine_stop(examine_of);
}

/* The same of an output's text; what stands beside it is judged as ever. */
static void long_texts(void **state)
{
	static const char front[] =
		"{\"data\": {\"text/html\": \"<b>b</b><script>1</script>\", \"text/plain\": \"";
	struct examine *examine_of = begin(examine_serve);
	const size_t lines = (EXAMINE_CONTENT_MAX + 1000000) / 64;
	char *text = malloc(lines * 64 + 200), *at = text;
	struct examination examination = {.rule = CONTENT_DISPLAY, .metadata = {empty, 2}};

	(void)state;
	assert_non_null(text);
	memcpy(at, front, sizeof(front));
	at += strlen(at);
	for (size_t i = 0; i < lines; i++)
		at += snprintf(at, 65, "%-62s\\n",
			       i == lines / 2 ? "https://a.b/ \\u001b]0;x\\u0007y" : "-");
	memcpy(at, "\"}, \"metadata\": {}}", 20);
	examination.content = (struct iovec){text, strlen(text)};
	assert_int_equal(portions_examine(examine_of, &examination, false), 0);
	assert_int_equal(examination.verdict, CONTENT_CHANGED);
	assert_int_equal(examination.new_content_size, strlen(examination.new_content));
	assert_non_null(strstr(examination.new_content, "https[:]//a.b/ y "));
	assert_null(strstr(examination.new_content, "<script"));
	assert_non_null(strstr(examination.blocked, "scripts"));
	assert_true(examination.new_content_size > lines * 64);
	done(&examination);
	at[-70] = '\x01';
	assert_int_equal(portions_examine(examine_of, &examination, false), 0);
	assert_int_equal(examination.verdict, CONTENT_DROP);
	done(&examination);
	/* without anything beside it */
	at[-70] = '-';
	memset(text + strlen("{\"data\": {"), ' ',
	       strlen("\"text/html\": \"<b>b</b><script>1</script>\","));
	assert_int_equal(portions_examine(examine_of, &examination, false), 0);
	assert_int_equal(examination.verdict, CONTENT_CHANGED);
	assert_true(examination.new_content_size > lines * 64);
	done(&examination);
	text[strlen("{\"")] = 'x';
	assert_int_equal(portions_examine(examine_of, &examination, false), -EINVAL);
	free(text);
	examine_stop(examine_of);
}

/* ---- bad examiners: each behaves on the message that says so, and well on others ---- */

static void crash(int fd, const struct outputs_rules *with, struct known *known)
{
	char byte;

	(void)with;
	(void)known;
	if (read(fd, &byte, 1) == 1)
		__builtin_trap();
}

static void hang(int fd, const struct outputs_rules *with, struct known *known)
{
	(void)with;
	(void)known;
	for (volatile unsigned i = (unsigned)fd;; i++)
		;
}

static void garbage(int fd, const struct outputs_rules *with, struct known *known)
{
	char bytes[8192];

	(void)with;
	(void)known;
	memset(bytes, 0xee, sizeof(bytes));
	while (read(fd, bytes, 1) == 1)
		if (write(fd, bytes, sizeof(bytes)) < 0)
			return;
}

static void bad_examiner(examine_server *server, int code)
{
	struct examine *examine_of = begin(server);
	struct examination examination;

	assert_int_equal(ask(examine_of, plain, &examination), code);
	assert_int_equal(examination.verdict, CONTENT_DROP);
	assert_int_equal(examine_replaced(examine_of), 1);
	assert_int_equal(ask(examine_of, plain, &examination), code);
	assert_int_equal(examine_replaced(examine_of), 2);
	examine_stop(examine_of);
}

static void crashes(void **state)
{
	(void)state;
	bad_examiner(crash, -EPIPE);
}

static void hangs(void **state)
{
	(void)state;
	bad_examiner(hang, -ETIMEDOUT);
}

static void lies(void **state)
{
	(void)state;
	bad_examiner(garbage, -EPROTO);
}

/* After a crash the next message is looked at by a new one: only the first crashes. */
static void recovers(int fd, const struct outputs_rules *with, struct known *known)
{
	bool *crashed = (bool *)(void *)known;
	char byte;

	if (!*crashed && read(fd, &byte, 1) == 1) {
		*crashed = true;
		__builtin_trap();
	}
	examine_serve(fd, with, NULL);
}

static void goes_on(void **state)
{
	void *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct examine *examine_of = NULL;
	struct examination examination;

	(void)state;
	assert_ptr_not_equal(shared, MAP_FAILED);
	assert_int_equal(examine_start(recovers, &rules, shared, &examine_of, NULL), 0);
	assert_int_equal(ask(examine_of, plain, &examination), -EPIPE);
	assert_int_equal(ask(examine_of, empty, &examination), 0);
	assert_int_equal(examination.verdict, CONTENT_KEEP);
	examine_stop(examine_of);
}

/* The thread's children, newest last (proc_pid_children(5)). */
static size_t children(pid_t *pids, size_t size)
{
	FILE *file = fopen("/proc/thread-self/children", "re");
	size_t count = 0;

	assert_non_null(file);
	while (count < size && fscanf(file, "%d", &pids[count]) == 1)
		count++;
	fclose(file);
	return count;
}

/* Its examiner ends a moment later. */
static void kill_template(struct examine *examine_of, pid_t pid)
{
	struct examination examination;
	int r = 0;

	assert_int_equal(kill(pid, SIGKILL), 0);
	while (r == 0)
		r = ask(examine_of, plain, &examination);
	assert_int_equal(r, -EPIPE);
}

/* A template that is killed takes its examiner along: one message, and the second one takes over.
 * When both are gone nothing passes. */
static void templates_are_killed(void **state)
{
	struct examine *examine_of = begin(examine_serve);
	struct examination examination;
	pid_t pids[3];

	(void)state;
	assert_int_equal(ask(examine_of, plain, &examination), 0);
	assert_int_equal(children(pids, 3), 2);
	kill_template(examine_of, pids[0]);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ask(examine_of, plain, &examination), 0);
	assert_int_equal(examine_replaced(examine_of), 1);
	assert_int_equal(children(pids, 3), 1); /* the other one is no zombie */
	kill_template(examine_of, pids[0]);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ask(examine_of, plain, &examination), -EPIPE);
	assert_int_equal(examination.verdict, CONTENT_DROP);
	examine_stop(examine_of);
}

/* ---- what it may do ---- */

static void tries(int fd, const struct outputs_rules *with, struct known *known)
{
	char byte;
	unsigned done_of = 0;

	(void)with;
	(void)known;
	if (read(fd, &byte, 1) != 1)
		return;
	if (open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0)
		done_of |= 1;
	if (socket(AF_UNIX, SOCK_STREAM, 0) >= 0)
		done_of |= 2;
	if (fork() >= 0)
		done_of |= 4;
	if (kill(getppid(), 0) == 0)
		done_of |= 8;
	if (opendir("/proc/self/fd"))
		done_of |= 16;
	if (dup(fd) >= 0)
		done_of |= 32;
	if (done_of == 0)
		__builtin_trap(); /* it ends; else it would hang */
	for (;;)
		(void)done_of;
}

static void confined(void **state)
{
	struct examine *examine_of;
	struct examination examination;

	(void)state;
#ifdef CELLWALL_SANITIZE
	skip();
#endif
	examine_of = begin(tries);
	assert_int_equal(ask(examine_of, plain, &examination), -EPIPE);
	examine_stop(examine_of);
}

/* Both end when the proxy does, however it does: their socket pairs are the only ones there are. */
static void ends_with_its_parent(void **state)
{
	int ends[2];
	char byte;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	pid = fork();
	if (pid == 0) {
		(void)begin(hang);
		raise(SIGKILL);
	}
	close(ends[1]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(read(ends[0], &byte, 1), 0); /* nobody holds the other end */
	close(ends[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers),
		cmocka_unit_test(mends),
		cmocka_unit_test(too_large_or_deep),
		cmocka_unit_test(cuts),
		cmocka_unit_test(long_streams),
		cmocka_unit_test(long_texts),
		cmocka_unit_test(crashes),
		cmocka_unit_test(hangs),
		cmocka_unit_test(lies),
		cmocka_unit_test(goes_on),
		cmocka_unit_test(templates_are_killed),
		cmocka_unit_test(confined),
		cmocka_unit_test(ends_with_its_parent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
