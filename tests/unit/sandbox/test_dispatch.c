#include "sandbox/dispatch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define CALLS 100
#define LONG  300 /* steps: further than a conditional jump goes */

static int compile(struct dispatch_call *calls, size_t count, struct sock_fprog *ret_program)
{
	const struct dispatch dispatch = {
		.calls = calls, .count = count, .otherwise = SECCOMP_RET_ALLOW};

	return dispatch_compile(&dispatch, ret_program);
}

static uint32_t ask(const struct sock_fprog *program, uint32_t number)
{
	const struct seccomp_data data = {.nr = (int)number};

	return dispatch_run(program, &data);
}

/* Of each number of calls from none on: those that are listed answer as their bodies say, the ones
 * between them pass. */
static void test_finds_every_call(void **state)
{
	struct sock_filter bodies[CALLS];

	(void)state;
	for (uint32_t i = 0; i < CALLS; i++)
		bodies[i] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | i);
	for (uint32_t count = 0; count <= CALLS; count++) {
		struct dispatch_call calls[CALLS];
		struct sock_fprog program = {0};

		/* Neither sorted nor side by side. */
		for (uint32_t i = 0; i < count; i++)
			calls[i] = (struct dispatch_call){3 * ((7 * i) % CALLS), &bodies[i], 1};
		assert_int_equal(compile(calls, count, &program), 0);
		for (uint32_t i = 0; i < CALLS; i++) {
			const uint32_t number = 3 * ((7 * i) % CALLS);

			assert_int_equal(ask(&program, number),
					 i < count ? SECCOMP_RET_ERRNO | i : SECCOMP_RET_ALLOW);
			assert_int_equal(ask(&program, number + 1), SECCOMP_RET_ALLOW);
		}
		assert_int_equal(ask(&program, UINT32_MAX), SECCOMP_RET_ALLOW);
		free(program.filter);
	}
}

static void test_first_counts(void **state)
{
	const struct sock_filter one = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
				 two = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES);
	struct dispatch_call calls[] = {{5, &one, 1}, {4, &two, 1}, {5, &two, 1}};
	struct sock_fprog program = {0};

	(void)state;
	assert_int_equal(compile(calls, 3, &program), 0);
	assert_int_equal(ask(&program, 5), SECCOMP_RET_ERRNO | EPERM);
	assert_int_equal(ask(&program, 4), SECCOMP_RET_ERRNO | EACCES);
	free(program.filter);
}

/* What is alike is there once, and what differs only later is not alike. */
static void test_shared_bodies(void **state)
{
	const struct sock_filter body[] = {
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
	};
	struct dispatch_call alike[] = {{1, body, 2}, {2, body + 2, 2}},
			     unlike[] = {{1, body, 2}, {2, body + 4, 2}};
	struct sock_fprog shared = {0}, apart = {0};

	(void)state;
	assert_int_equal(compile(alike, 2, &shared), 0);
	assert_int_equal(compile(unlike, 2, &apart), 0);
	assert_int_equal(shared.len + 2, apart.len);
	assert_int_equal(ask(&shared, 1), SECCOMP_RET_ERRNO | EPERM);
	assert_int_equal(ask(&shared, 2), SECCOMP_RET_ERRNO | EPERM);
	assert_int_equal(ask(&apart, 1), SECCOMP_RET_ERRNO | EPERM);
	assert_int_equal(ask(&apart, 2), SECCOMP_RET_ERRNO | EACCES);
	assert_int_equal(ask(&shared, 3), SECCOMP_RET_ALLOW);
	free(shared.filter);
	free(apart.filter);
}

/* Bodies are reached however far away they are, with the number still loaded. */
static void test_long_bodies(void **state)
{
	struct sock_filter body[LONG];
	struct dispatch_call calls[10];
	struct sock_fprog program = {0};

	(void)state;
	for (size_t i = 0; i < LONG - 2; i++)
		body[i] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, UINT32_MAX);
	body[LONG - 2] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 9, 0, 0);
	body[LONG - 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	for (uint32_t i = 0; i < 10; i++)
		calls[i] = (struct dispatch_call){i, body, LONG};
	assert_int_equal(compile(calls, 10, &program), 0);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(ask(&program, i), SECCOMP_RET_ERRNO | EPERM);
	assert_int_equal(ask(&program, 10), SECCOMP_RET_ALLOW);
	free(program.filter);
}

/* What comes first sees every call, listed or not, and those that it lets through are looked up. */
static void test_prefix(void **state)
{
	const struct sock_filter prefix[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 7, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)};
	const struct sock_filter pass = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct dispatch_call calls[] = {{5, &pass, 1}};
	const struct dispatch dispatch = {.prefix = prefix,
					  .prefix_size = 3,
					  .calls = calls,
					  .count = 1,
					  .otherwise = SECCOMP_RET_ERRNO | EPERM};
	struct sock_fprog program = {0};
	struct seccomp_data data = {.nr = 5, .arch = 7};

	(void)state;
	assert_int_equal(dispatch_compile(&dispatch, &program), 0);
	assert_int_equal(dispatch_run(&program, &data), SECCOMP_RET_ALLOW);
	data.nr = 6;
	assert_int_equal(dispatch_run(&program, &data), SECCOMP_RET_ERRNO | EPERM);
	data.arch = 8;
	assert_int_equal(dispatch_run(&program, &data), SECCOMP_RET_KILL_PROCESS);
	data.nr = 5;
	assert_int_equal(dispatch_run(&program, &data), SECCOMP_RET_KILL_PROCESS);
	free(program.filter);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_finds_every_call), cmocka_unit_test(test_first_counts),
		cmocka_unit_test(test_shared_bodies),	 cmocka_unit_test(test_long_bodies),
		cmocka_unit_test(test_prefix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
