#include "kernelspec/difference.h"

#include <errno.h>
#include <string.h>

#include "sandbox/base.h"

/*
 * Theory of operation. What both versions begin and end with is left out first. Of the rest the
 * shortest way from one to the other is found as in E. Myers, "An O(ND) Difference Algorithm and
 * Its Variations" (1986): for each number of edits the furthest point on each diagonal, all of them
 * kept to go back. Past EDITS_MAX edits the rest counts as replaced, which bounds the table.
 */

#define EDITS_MAX 400
#define AROUND	  3    /* lines */
#define LINE_MAX_ 2000 /* bytes shown */

struct line {
	const char *text;
	size_t size; /* without its newline */
};

struct lines {
	struct line *items;
	size_t count;
};

/* One line of the result: '-' and ' ' count in the first version, '+' and ' ' in the second. */
struct edits {
	char *kind;
	size_t count;
};

static int split(const char *text, size_t size, struct lines *lines)
{
	size_t count = 0, at = 0;

	for (size_t i = 0; i < size; i++)
		count += text[i] == '\n' || i + 1 == size;
	lines->items = calloc(count + 1, sizeof(*lines->items));
	if (!lines->items)
		return -ENOMEM;
	lines->count = count;
	for (size_t i = 0; i < count; i++) {
		const char *end = memchr(text + at, '\n', size - at);

		lines->items[i].text = text + at;
		lines->items[i].size = end ? (size_t)(end - text) - at : size - at;
		at += lines->items[i].size + 1;
	}
	return 0;
}

static bool same(const struct line *a, const struct line *b)
{
	return a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
}

static void add(struct edits *edits, char kind, size_t times)
{
	memset(edits->kind + edits->count, kind, times);
	edits->count += times;
}

/* ---- the shortest way ---- */

struct search {
	const struct line *a, *b; /* past what is common at the beginning */
	long n, m;
	long *reach; /* row d: furthest x on the diagonals -d … d, after d edits */
};

/* Row d begins after those of 0 … d-1, which have 2*i+1 places each. */
static long *row(const struct search *search, long d)
{
	return search->reach + d * d + d;
}

static bool goes_down(const long *last, long k, long d)
{
	return k == -d || (k != d && last[k - 1] < last[k + 1]);
}

/* Fills the rows. Returns the number of edits, or -1 past the limit. */
static long run(const struct search *search)
{
	for (long d = 0; d <= EDITS_MAX; d++) {
		long *now = row(search, d);
		const long *last = d > 0 ? row(search, d - 1) : NULL;

		for (long k = -d; k <= d; k += 2) {
			long x = 0, y;

			if (last)
				x = goes_down(last, k, d) ? last[k + 1] : last[k - 1] + 1;
			y = x - k;
			while (x >= 0 && y >= 0 && x < search->n && y < search->m &&
			       same(&search->a[x], &search->b[y])) {
				x++;
				y++;
			}
			now[k] = x;
			if (x >= search->n && y >= search->m)
				return d;
		}
	}
	return -1;
}

/* From the end to the beginning; `kind` gets the lines in reverse. Returns how many. */
static size_t go_back(const struct search *search, long d, char *kind)
{
	long x = search->n, y = search->m;
	size_t used = 0;

	for (; d > 0; d--) {
		const long *last = row(search, d - 1);
		long k = x - y;
		bool down = goes_down(last, k, d);
		long from_k = down ? k + 1 : k - 1, from_x = last[from_k];

		/* After the edit came lines that are the same. */
		for (; x > from_x + !down; x--)
			kind[used++] = ' ';
		kind[used++] = down ? '+' : '-';
		x = from_x;
		y = from_x - from_k;
	}
	for (; x > 0; x--)
		kind[used++] = ' ';
	return used;
}

static int find_edits(const struct lines *a, const struct lines *b, struct edits *edits)
{
	size_t head = 0, tail = 0, used;
	struct search search;
	long d;

	while (head < a->count && head < b->count && same(&a->items[head], &b->items[head]))
		head++;
	while (tail < a->count - head && tail < b->count - head &&
	       same(&a->items[a->count - 1 - tail], &b->items[b->count - 1 - tail]))
		tail++;
	search = (struct search){.a = a->items + head,
				 .b = b->items + head,
				 .n = (long)(a->count - head - tail),
				 .m = (long)(b->count - head - tail)};
	edits->kind = malloc(a->count + b->count + 1);
	search.reach =
		calloc((EDITS_MAX + 1) * (EDITS_MAX + 1) + EDITS_MAX + 1, sizeof(*search.reach));
	if (!edits->kind || !search.reach) {
		free(search.reach);
		return -ENOMEM;
	}
	add(edits, ' ', head);
	d = run(&search);
	if (d < 0) {
		add(edits, '-', (size_t)search.n);
		add(edits, '+', (size_t)search.m);
	} else {
		char *kind = edits->kind + edits->count;

		used = go_back(&search, d, kind);
		for (size_t i = 0; i < used / 2; i++) {
			char swap = kind[i];

			kind[i] = kind[used - 1 - i];
			kind[used - 1 - i] = swap;
		}
		edits->count += used;
	}
	add(edits, ' ', tail);
	free(search.reach);
	return 0;
}

/* ---- printing ---- */

static void print_line(FILE *out, char kind, const struct line *line)
{
	char text[LINE_MAX_];

	fprintf(out, "%c%s\n", kind, escape_text(text, sizeof(text), line->text, line->size));
}

/* The first edit after `at` that changes something, or the count. */
static size_t next_change(const struct edits *edits, size_t at)
{
	while (at < edits->count && edits->kind[at] == ' ')
		at++;
	return at;
}

/* Where the stretch that begins with the change at `change` ends: changes that are near belong
 * together. */
static size_t hunk_end(const struct edits *edits, size_t change)
{
	size_t end = change;

	for (;;) {
		size_t next;

		while (end < edits->count && edits->kind[end] != ' ')
			end++;
		next = next_change(edits, end);
		if (next == edits->count || next - end > 2 * AROUND)
			return end + AROUND < edits->count ? end + AROUND : edits->count;
		end = next;
	}
}

static void print_hunk(FILE *out, const struct lines *a, const struct lines *b,
		       const struct edits *edits, size_t from, size_t to, size_t *in_a,
		       size_t *in_b)
{
	size_t of_a = 0, of_b = 0;

	for (size_t i = from; i < to; i++) {
		of_a += edits->kind[i] != '+';
		of_b += edits->kind[i] != '-';
	}
	fprintf(out, "@@ -%zu,%zu +%zu,%zu @@\n", *in_a + (of_a > 0), of_a, *in_b + (of_b > 0),
		of_b);
	for (size_t i = from; i < to; i++) {
		const struct line *line =
			edits->kind[i] == '+' ? &b->items[*in_b] : &a->items[*in_a];

		print_line(out, edits->kind[i], line);
		*in_a += edits->kind[i] != '+';
		*in_b += edits->kind[i] != '-';
	}
}

static void print_edits(FILE *out, const struct lines *a, const struct lines *b,
			const struct edits *edits)
{
	size_t at = 0, in_a = 0, in_b = 0;

	for (size_t change; (change = next_change(edits, at)) < edits->count;) {
		size_t from = change - at > AROUND ? change - AROUND : at;
		size_t to = hunk_end(edits, change);

		in_a += from - at;
		in_b += from - at;
		print_hunk(out, a, b, edits, from, to, &in_a, &in_b);
		at = to;
	}
}

int difference_print(FILE *out, const char *before, size_t before_size, const char *after,
		     size_t after_size)
{
	struct lines a = {0}, b = {0};
	struct edits edits = {0};
	int r;

	if (memchr(before, '\0', before_size) || memchr(after, '\0', after_size)) {
		fprintf(out, "(not text: they differ)\n");
		return 0;
	}
	r = split(before, before_size, &a);
	if (r == 0)
		r = split(after, after_size, &b);
	if (r == 0)
		r = find_edits(&a, &b, &edits);
	if (r == 0)
		print_edits(out, &a, &b, &edits);
	free(a.items);
	free(b.items);
	free(edits.kind);
	return r;
}
