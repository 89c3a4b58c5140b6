#include "sandbox/dispatch.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/*
 * Theory of operation
 *
 * Each call that the system does not know by heart runs through here, and to learn which ones it
 * may know it runs all numbers through once while a filter is loaded: so the number is looked for
 * by halves, and the bodies follow behind. A conditional jump of classic BPF goes 255 steps at the
 * most; the plain ones go as far as needed.
 */

/* So many calls or fewer are asked for one after the other. */
#define LEAF 3

struct program {
	const struct dispatch_call *calls; /* by number, each once */
	struct sock_filter *code;
	size_t at;	/* where the next step goes */
	size_t *bodies; /* where the body of each call begins */
	uint32_t otherwise;
};

static int by_number(const void *first, const void *second)
{
	const uint32_t a = ((const struct dispatch_call *)first)->number,
		       b = ((const struct dispatch_call *)second)->number;

	return (a > b) - (a < b);
}

/* Leaves each number once and sorts. Returns how many are left. */
static size_t settle(struct dispatch_call *calls, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++) {
		size_t known = 0;

		while (known < kept && calls[known].number != calls[i].number)
			known++;
		if (known == kept)
			calls[kept++] = calls[i];
	}
	qsort(calls, kept, sizeof(*calls), by_number);
	return kept;
}

/* How many steps `search` makes of so many calls. */
static size_t search_size(size_t count)
{
	return count <= LEAF ? 2 * count + 1
			     : 2 + search_size(count / 2) + search_size(count - count / 2);
}

static void step(struct program *program, struct sock_filter filter)
{
	program->code[program->at++] = filter;
}

/* To a step further on. */
static void jump(struct program *program, size_t to)
{
	step(program,
	     (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, (uint32_t)(to - program->at - 1)));
}

static void search(struct program *program, size_t first, size_t count)
{
	const size_t half = count / 2;
	const struct dispatch_call *calls = program->calls + first;

	if (count > LEAF) {
		step(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K,
							   calls[half].number, 0, 1));
		jump(program, program->at + 1 + search_size(half));
		search(program, first, half);
		search(program, first + half, count - half);
		return;
	}
	for (size_t i = 0; i < count; i++) {
		step(program, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							   calls[i].number, 0, 1));
		jump(program, program->bodies[first + i]);
	}
	step(program, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, program->otherwise));
}

static bool is_same(const struct dispatch_call *a, const struct dispatch_call *b)
{
	return a->size == b->size && memcmp(a->body, b->body, a->size * sizeof(*a->body)) == 0;
}

/* Says where each body is to be, from `begin` on; most are like one before them, and share its
 * place: what a program costs when it is loaded goes by its length. Returns the end. */
static size_t place(const struct program *program, size_t count, size_t begin)
{
	size_t end = begin;

	for (size_t i = 0; i < count; i++) {
		size_t like = 0;

		while (!is_same(&program->calls[like], &program->calls[i]))
			like++;
		program->bodies[i] = like < i ? program->bodies[like] : end;
		if (like == i)
			end += program->calls[i].size;
	}
	return end;
}

int dispatch_compile(const struct dispatch *dispatch, struct sock_fprog *ret_program)
{
	struct dispatch_call *calls = dispatch->calls;
	const size_t kept = settle(calls, dispatch->count);
	cleanup(free_ptr) size_t *bodies = calloc(kept + 1, sizeof(*bodies));
	struct program program = {
		.calls = calls, .bodies = bodies, .otherwise = dispatch->otherwise};
	size_t size;

	if (!bodies)
		return -ENOMEM;
	size = place(&program, kept, dispatch->prefix_size + 1 + search_size(kept));
	program.code = calloc(size, sizeof(*program.code));
	if (!program.code)
		return -ENOMEM;
	for (size_t i = 0; i < dispatch->prefix_size; i++)
		step(&program, dispatch->prefix[i]);
	step(&program, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
						    (uint32_t)offsetof(struct seccomp_data, nr)));
	search(&program, 0, kept);
	for (size_t i = 0; i < kept; i++)
		memcpy(&program.code[bodies[i]], calls[i].body,
		       calls[i].size * sizeof(*program.code));
	ret_program->filter = program.code;
	ret_program->len = (unsigned short)size;
	return 0;
}

/* The machine of bpf(4), as much of it as is used above; every jump goes forward. */
uint32_t dispatch_run(const struct sock_fprog *program, const struct seccomp_data *data)
{
	uint32_t value = 0;

	for (size_t at = 0; at < program->len; at++) {
		const struct sock_filter *step = &program->filter[at];

		switch (step->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			if (step->k > sizeof(*data) - sizeof(value))
				return SECCOMP_RET_KILL_PROCESS;
			memcpy(&value, (const char *)data + step->k, sizeof(value));
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			value &= step->k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			at += value == step->k ? step->jt : step->jf;
			break;
		case BPF_JMP | BPF_JA:
			at += step->k;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			at += value > step->k ? step->jt : step->jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			at += value >= step->k ? step->jt : step->jf;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			at += value & step->k ? step->jt : step->jf;
			break;
		case BPF_RET | BPF_K:
			return step->k;
		default:
			return SECCOMP_RET_KILL_PROCESS;
		}
	}
	return SECCOMP_RET_KILL_PROCESS;
}
