/*
 * make_lists: a program of the build: the lists of system calls that seccomp.c and airlock.c load,
 * compiled by libseccomp from the names in syscalls.def and below into programs, written as C to
 * stdout, one header for each of the two. A launch then
 * spends no time on it (1.3 ms), and libseccomp is not among what a sandbox runs.
 *
 * A program holds the numbers of one architecture, asks for it first, and ends a process that calls
 * by another one (int 0x80, x32).
 */
#include <errno.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sandbox/base.h"
#include "sandbox/dispatch.h"

enum answer { ANSWER_ALLOW, ANSWER_CHECK, ANSWER_ERRNO, ANSWER_REFUSE };

/* A line of syscalls.def. */
struct listed {
	const char *name;
	int number; /* where libseccomp 2.5.4 does not know the name; -1: it does */
	enum answer answer;
	int code; /* of ANSWER_ERRNO and ANSWER_REFUSE */
};

#define GROUP(why)
#define ALLOW(name)		       {#name, -1, ANSWER_ALLOW, 0},
#define ALLOW_NEW(name, number)	       {#name, number, ANSWER_ALLOW, 0},
#define CHECK(name)		       {#name, -1, ANSWER_CHECK, 0},
#define CHECK_NEW(name, number)	       {#name, number, ANSWER_CHECK, 0},
#define ANSWER(name, code)	       {#name, -1, ANSWER_ERRNO, code},
#define ANSWER_NEW(name, number, code) {#name, number, ANSWER_ERRNO, code},
#define REFUSE(name, code)	       {#name, -1, ANSWER_REFUSE, code},
#define REFUSE_NEW(name, number, code) {#name, number, ANSWER_REFUSE, code},

static const struct listed listed[] = {
#include "sandbox/syscalls.def"
};

/* pid 1 after its last fork: it waits, reads /proc, signals, and answers. Everything else ends it.
 */
static const char *const init_allowed[] = {
	"poll",	      "ppoll",	       "read",	       "recvfrom",
	"sendto",     "wait4",	       "kill",	       "openat",
	"getdents64", "lseek",	       "close",	       "clock_nanosleep",
	"nanosleep",  "clock_gettime", "rt_sigreturn", "restart_syscall",
	"exit",	      "exit_group",
};

/*
 * The relay: its sockets, its memory, the time. One thread, and no file: what asks for more is not
 * the relay any more. Of ppoll and gettimeofday one is what poll or clock_gettime is elsewhere.
 */
static const char *const relay_allowed[] = {
	"recvfrom",  "sendto",	      "sendmsg",      "connect",	 "poll",   "ppoll",
	"write",     "close",	      "brk",	      "munmap",		 "mremap", "madvise",
	"getrandom", "clock_gettime", "gettimeofday", "restart_syscall", "exit",   "exit_group",
};

static const struct {
	const char *name;
	struct scmp_arg_cmp arg;
} relay_conditional[] = {
	{"socket", {0, SCMP_CMP_EQ, AF_UNIX, 0}},
	{"mmap", {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}},
	{"mprotect", {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}},
};

#ifdef CELLWALL_SANITIZE
/*
 * Builds with a sanitizer only: its runtime reads /proc, maps memory with fixed addresses, and
 * reports by calls of its own, so that an allow list cannot be written for it. The filter is turned
 * round: everything but the following is allowed. Such a build is for tests, and no wall.
 */
static const char *const relay_refused[] = {"execve",	     "execveat", "kill",
					    "tkill",	     "tgkill",	 "pidfd_open",
					    "pidfd_getfd",   "ptrace",	 "pidfd_send_signal",
					    "io_uring_setup"};
#endif

static int resolve(const char *name, int number)
{
	int known = seccomp_syscall_resolve_name(name);

	/* Negative: libseccomp knows no such name, or no such call on this architecture. */
	return known >= 0 ? known : known == __NR_SCMP_ERROR ? number : -1;
}

static int rule(scmp_filter_ctx filter, uint32_t action, const char *name, int number,
		struct err *err)
{
	int call = resolve(name, number), r;

	if (call < 0)
		return 0;
	r = seccomp_rule_add(filter, action, call, 0);
	if (r < 0)
		return err_set(err, r, "cannot filter %s: %s", name, strerrordesc_np(-r));
	return 0;
}

static int add_listed(scmp_filter_ctx filter, struct err *err)
{
	for (size_t i = 0; i < sizeof(listed) / sizeof(listed[0]); i++) {
		const struct listed *call = &listed[i];
		uint32_t action = call->answer == ANSWER_ERRNO
					  ? SCMP_ACT_ERRNO((uint32_t)call->code)
					  : SCMP_ACT_ALLOW;

		if (rule(filter, action, call->name, call->number, err) < 0)
			return err->code;
	}
	return 0;
}

static int allow_init(scmp_filter_ctx filter, struct err *err)
{
	for (size_t i = 0; i < sizeof(init_allowed) / sizeof(init_allowed[0]); i++) {
		if (rule(filter, SCMP_ACT_ALLOW, init_allowed[i], -1, err) < 0)
			return err->code;
	}
	return 0;
}

static int rule_if(scmp_filter_ctx filter, uint32_t action, const char *name,
		   struct scmp_arg_cmp arg, struct err *err)
{
	int call = resolve(name, -1);
	int r = call < 0 ? 0 : seccomp_rule_add_array(filter, action, call, 1, &arg);

	return r < 0 ? err_set(err, r, "cannot filter %s: %s", name, strerrordesc_np(-r)) : 0;
}

#ifndef CELLWALL_SANITIZE
#define RELAY_OTHERWISE SCMP_ACT_KILL_PROCESS

static int add_relay(scmp_filter_ctx filter, struct err *err)
{
	for (size_t i = 0; i < sizeof(relay_allowed) / sizeof(relay_allowed[0]); i++) {
		if (rule(filter, SCMP_ACT_ALLOW, relay_allowed[i], -1, err) < 0)
			return err->code;
	}
	for (size_t i = 0; i < sizeof(relay_conditional) / sizeof(relay_conditional[0]); i++) {
		if (rule_if(filter, SCMP_ACT_ALLOW, relay_conditional[i].name,
			    relay_conditional[i].arg, err) < 0)
			return err->code;
	}
	return 0;
}
#else
#define RELAY_OTHERWISE SCMP_ACT_ALLOW

static int add_relay(scmp_filter_ctx filter, struct err *err)
{
	const struct scmp_arg_cmp family = {0, SCMP_CMP_NE, AF_UNIX, 0};
	const struct scmp_arg_cmp exec = {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC};

	(void)relay_allowed;
	(void)relay_conditional;
	for (size_t i = 0; i < sizeof(relay_refused) / sizeof(relay_refused[0]); i++) {
		if (rule(filter, SCMP_ACT_KILL_PROCESS, relay_refused[i], -1, err) < 0)
			return err->code;
	}
	if (rule_if(filter, SCMP_ACT_KILL_PROCESS, "socket", family, err) < 0 ||
	    rule_if(filter, SCMP_ACT_KILL_PROCESS, "mmap", exec, err) < 0 ||
	    rule_if(filter, SCMP_ACT_KILL_PROCESS, "mprotect", exec, err) < 0)
		return err->code;
	return 0;
}
#endif

/* libseccomp gives its program to a descriptor only. */
static int export(scmp_filter_ctx filter, struct sock_fprog *ret_program, struct err *err)
{
	cleanup(close_fd) int fd = memfd_create("filter", MFD_CLOEXEC);
	off_t size;
	int r;

	if (fd < 0)
		return err_errno(err, "cannot make a memory file");
	r = seccomp_export_bpf(filter, fd);
	size = lseek(fd, 0, SEEK_END);
	if (r < 0 || size <= 0)
		return err_set(err, r < 0 ? r : -EIO, "cannot compile a filter");
	ret_program->len = (unsigned short)((size_t)size / sizeof(*ret_program->filter));
	ret_program->filter = calloc(ret_program->len, sizeof(*ret_program->filter));
	if (!ret_program->filter)
		return err_set(err, -ENOMEM, "out of memory");
	if (pread(fd, ret_program->filter, (size_t)size, 0) != size)
		return err_set(err, -EIO, "cannot read a filter back");
	return 0;
}

static void print(const struct sock_fprog *program, const char *name)
{
	(void)printf("static const struct sock_filter %s[] = {\n", name);
	for (size_t i = 0; i < program->len; i++) {
		const struct sock_filter *line = &program->filter[i];

		(void)printf("\t{0x%x, %u, %u, 0x%xu},\n", line->code, line->jt, line->jf, line->k);
	}
	(void)printf("};\n");
}

/* ---- the same by ranges ---- */

/*
 * A program that asks for numbers alone answers the same for whole ranges of them. What it says at
 * the beginning of each is asked of it, and a new one is written that looks for the range by
 * halves: a sixth as long, and loading it takes the system as much less time. Both are compared
 * afterwards.
 */
#define RANGES_MAX  120 /* a conditional jump goes 255 steps at the most */
#define ANSWERS_MAX 16
#define HEAD	    4 /* steps before the search: the architecture, and the number loaded */

struct ranges {
	uint32_t first[RANGES_MAX], answer[RANGES_MAX]; /* of the numbers from `first` on */
	size_t count;
	uint32_t answers[ANSWERS_MAX]; /* each once */
	size_t answer_count;
};

static uint32_t ask(const struct sock_fprog *program, uint32_t architecture, uint32_t number)
{
	const struct seccomp_data data = {.nr = (int)number, .arch = architecture};

	return dispatch_run(program, &data);
}

static int by_value(const void *first, const void *second)
{
	const uint32_t a = *(const uint32_t *)first, b = *(const uint32_t *)second;

	return (a > b) - (a < b);
}

/* An answer can change at a number that the program compares with, or after it. Returns how many
 * such numbers there are; 0: it asks for more than numbers. */
static size_t find_edges(const struct sock_fprog *program, uint32_t *edges)
{
	size_t count = 0;

	edges[count++] = 0;
	for (size_t i = 0; i < program->len; i++) {
		const struct sock_filter *step = &program->filter[i];

		if (BPF_CLASS(step->code) == BPF_LD &&
		    step->k != offsetof(struct seccomp_data, nr) &&
		    step->k != offsetof(struct seccomp_data, arch))
			return 0;
		if (BPF_CLASS(step->code) != BPF_JMP)
			continue;
		edges[count++] = step->k;
		if (step->k < UINT32_MAX)
			edges[count++] = step->k + 1;
	}
	qsort(edges, count, sizeof(*edges), by_value);
	return count;
}

static int find_ranges(const struct sock_fprog *program, struct ranges *ranges, struct err *err)
{
	cleanup(free_ptr) uint32_t *edges = calloc(2 * (size_t)program->len + 1, sizeof(*edges));
	const size_t count = edges ? find_edges(program, edges) : 0;

	if (count == 0)
		return err_set(err, -EINVAL, "a list asks for more than numbers");
	for (size_t i = 0; i < count; i++) {
		const uint32_t answer = ask(program, seccomp_arch_native(), edges[i]);
		size_t known = 0;

		if (ranges->count > 0 && ranges->answer[ranges->count - 1] == answer)
			continue;
		while (known < ranges->answer_count && ranges->answers[known] != answer)
			known++;
		if (ranges->count == RANGES_MAX || known == ANSWERS_MAX)
			return err_set(err, -E2BIG, "a list is too long");
		if (known == ranges->answer_count)
			ranges->answers[ranges->answer_count++] = answer;
		ranges->first[ranges->count] = edges[i];
		ranges->answer[ranges->count++] = answer;
	}
	return 0;
}

/* The step that returns the answer of a range: behind the search, which is one less than there are
 * ranges. */
static size_t answer_at(const struct ranges *ranges, size_t range)
{
	size_t at = 0;

	while (ranges->answers[at] != ranges->answer[range])
		at++;
	return HEAD + ranges->count - 1 + at;
}

/* Writes the search among ranges [first, last] from step `at` on. Returns the step to jump to. */
static size_t search(const struct ranges *ranges, struct sock_filter *code, size_t first,
		     size_t last, size_t at)
{
	const size_t middle = first + (last - first + 1) / 2;
	size_t below, above;

	if (first == last)
		return answer_at(ranges, first);
	below = search(ranges, code, first, middle - 1, at + 1);
	above = search(ranges, code, middle, last, at + middle - first);
	code[at] =
		(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, ranges->first[middle],
					     (uint8_t)(above - at - 1), (uint8_t)(below - at - 1));
	return at;
}

static bool same(const struct sock_fprog *a, const struct sock_fprog *b, const uint32_t *edges,
		 size_t count)
{
	for (size_t i = 0; i < count; i++) {
		for (uint32_t step = 0; step < 3; step++) {
			const uint32_t number = edges[i] + step - 1, native = seccomp_arch_native();

			if (ask(a, native, number) != ask(b, native, number) ||
			    ask(a, ~native, number) != ask(b, ~native, number))
				return false;
		}
	}
	return true;
}

/* `program` is replaced. */
static int shorten(struct sock_fprog *program, struct err *err)
{
	const uint32_t native = seccomp_arch_native();
	cleanup(free_ptr) uint32_t *edges = calloc(2 * (size_t)program->len + 1, sizeof(*edges));
	struct ranges ranges = {.count = 0};
	struct sock_fprog made = {0};
	int r = find_ranges(program, &ranges, err);

	if (r < 0)
		return r;
	made.len = (unsigned short)(HEAD + ranges.count - 1 + ranges.answer_count);
	made.filter = calloc(made.len, sizeof(*made.filter));
	if (!made.filter || !edges)
		return err_set(err, -ENOMEM, "out of memory");
	made.filter[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						      offsetof(struct seccomp_data, arch));
	made.filter[1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, native, 1, 0);
	made.filter[2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, ask(program, ~native, 0));
	made.filter[3] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						      offsetof(struct seccomp_data, nr));
	(void)search(&ranges, made.filter, 0, ranges.count - 1, HEAD);
	for (size_t i = 0; i < ranges.answer_count; i++)
		made.filter[HEAD + ranges.count - 1 + i] =
			(struct sock_filter)BPF_STMT(BPF_RET | BPF_K, ranges.answers[i]);
	if (!same(program, &made, edges, find_edges(program, edges)))
		return err_set(err, -EIO, "a list does not answer as it did before");
	free(program->filter);
	*program = made;
	return 0;
}

typedef int add_fn(scmp_filter_ctx filter, struct err *err);

/* `numbers`: nothing but numbers is asked for. */
static int compile(const char *name, uint32_t otherwise, add_fn *add, bool numbers, struct err *err)
{
	scmp_filter_ctx filter = seccomp_init(otherwise);
	struct sock_fprog program = {0};
	int r = 0;

	if (!filter)
		return err_set(err, -ENOMEM, "out of memory");
	/* The whole process ends, not the thread alone; a tree keeps a long list cheap. */
	if (seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) < 0 ||
	    seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) < 0)
		r = err_set(err, -EINVAL, "cannot configure a filter");
	if (r == 0)
		r = add(filter, err);
	if (r == 0)
		r = export(filter, &program, err);
	if (r == 0 && numbers)
		r = shorten(&program, err);
	if (r == 0)
		print(&program, name);
	free(program.filter);
	seccomp_release(filter);
	return r;
}

/* What passes the list because the program beside it answers. */
static void print_refused(void)
{
	(void)printf("static const struct arguments_answer refused_list[] = {\n");
	for (size_t i = 0; i < sizeof(listed) / sizeof(listed[0]); i++) {
		int number = resolve(listed[i].name, listed[i].number);

		if (listed[i].answer == ANSWER_REFUSE && number >= 0)
			(void)printf("\t{%d, %d, \"%s\"},\n", number, listed[i].code,
				     listed[i].name);
	}
	(void)printf("};\n");
}

int main(int argc, char **argv)
{
	const bool relay = argc == 2 && strcmp(argv[1], "relay") == 0;
	struct err err = {0};
	int r;

	(void)printf("/* Made by make_lists.c. */\n");
	if (relay)
		r = compile("relay_list", RELAY_OTHERWISE, add_relay, false, &err);
	else if ((r = compile("kernel_list", SCMP_ACT_ERRNO(ENOSYS), add_listed, true, &err)) == 0)
		r = compile("init_list", SCMP_ACT_KILL_PROCESS, allow_init, false, &err);
	if (r < 0) {
		(void)fprintf(stderr, "make_lists: %s\n", err.text);
		return EXIT_FAILURE;
	}
	if (!relay)
		print_refused();
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
