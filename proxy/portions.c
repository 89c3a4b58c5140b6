#include "proxy/portions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/buffer.h"
#include "proxy/limits.h"
#include "proxy/requests.h"
#include "proxy/scan.h"
#include "sandbox/wall.h"

#define PORTION	   (4u * 1024 * 1024)
#define COLOUR_MAX 64 /* bytes of an SGR sequence */

/* What is around the text. */
static const char front[] = "{\"name\": \"stdout\", \"text\": \"", back[] = "\"}";
static char empty[] = "{}";
enum { FRONT = sizeof(front) - 1, BACK = sizeof(back) - 1, NAME_AT = 10, NAME = 6, EMPTY = 2 };

/* ---- where to cut ---- */

static bool is_surrogate(const char *at, size_t size, const char *digits)
{
	return size >= 6 && at[0] == '\\' && at[1] == 'u' && (at[2] | 0x20) == 'd' && at[3] &&
	       strchr(digits, at[3]);
}

/* Bytes of the escape at `at`. */
static size_t escape_length(const char *at, size_t size)
{
	size_t length = size > 1 && at[1] == 'u' ? 6 : 2;

	if (is_surrogate(at, size, "89abAB") && is_surrogate(at + 6, size - 6, "cdefCDEF"))
		length = 12;
	return length < size ? length : size;
}

/* No line ends before `at`: behind a space, which no address holds, or before a colour that would
 * be cut in two. */
static size_t without_lines(const char *begin, size_t at)
{
	const char *space = memrchr(begin, ' ', at);
	const size_t near = at < COLOUR_MAX ? at : COLOUR_MAX;
	const char *colour = memmem(begin + at - near, near, "\\u001b[", 7), *next;

	if (space)
		return (size_t)(space - begin) + 1;
	for (; (next = colour); colour = memmem(next, (size_t)(begin + at - next), "\\u001b[", 7)) {
		next += 7;
		while (next < begin + at && ((*next >= '0' && *next <= '9') || *next == ';'))
			next++;
		if (next == begin + at && colour > begin)
			return (size_t)(colour - begin);
	}
	return at;
}

size_t portions_next(struct iovec text, size_t most)
{
	const char *const begin = text.iov_base;
	size_t line = 0, at = 0;

	if (text.iov_len <= most)
		return text.iov_len;
	for (;;) {
		const char *escape = memchr(begin + at, '\\', most - at);
		size_t length;

		if (!escape)
			break;
		at = (size_t)(escape - begin);
		length = escape_length(escape, text.iov_len - at);
		if (at + length > most)
			break;
		at += length;
		if (length == 2 && escape[1] == 'n')
			line = at;
	}
	if (!memchr(begin + at, '\\', most - at))
		for (at = most; at > most - 4 && ((unsigned char)begin[at] & 0xc0) == 0x80;)
			at--;
	return line ? line : without_lines(begin, at);
}

/* ---- what is in it ---- */

/* Without its quotes. */
static bool is_string(struct iovec literal, struct iovec *ret_text)
{
	if (literal.iov_len < 2 || *(const char *)literal.iov_base != '"')
		return false;
	*ret_text = (struct iovec){(char *)literal.iov_base + 1, literal.iov_len - 2};
	return true;
}

static bool find_parts(struct iovec content, struct iovec *ret_name, struct iovec *ret_text)
{
	const struct iovec name = requests_member(content, "name"),
			   text = requests_member(content, "text");

	if (name.iov_len != NAME + 2 || (memcmp(name.iov_base, "\"stdout\"", NAME + 2) != 0 &&
					 memcmp(name.iov_base, "\"stderr\"", NAME + 2) != 0))
		return false;
	*ret_name = (struct iovec){(char *)name.iov_base + 1, NAME};
	return is_string(text, ret_text);
}

struct work {
	struct examine *examine;
	struct examination *examination; /* of all */
	bool links;
	int64_t deadline;
	struct iovec one; /* room for a portion as content */
	struct buffer out;
};

/* Adds the text of a content that has nothing else. */
static int add_text(struct work *work, struct iovec content)
{
	struct iovec name, text;

	if (!find_parts(content, &name, &text))
		return -EPROTO;
	buffer_add(&work->out, text.iov_base, text.iov_len);
	return work->out.failed ? -EMSGSIZE : 0;
}

/* Asks about what is in work->one. */
static int ask(struct work *work)
{
	struct examination one = {
		.rule = CONTENT_STREAM, .metadata = {empty, EMPTY}, .content = work->one};
	int r = now_ms() < work->deadline ? examine(work->examine, &one) : -ETIMEDOUT;

	if (r == 0 && one.blocked[0])
		memcpy(work->examination->blocked, one.blocked, sizeof(one.blocked));
	if (r == 0 && one.verdict == CONTENT_KEEP)
		r = add_text(work, work->one);
	else if (r == 0 && one.verdict == CONTENT_CHANGED)
		r = add_text(work, (struct iovec){one.new_content, one.new_content_size});
	else if (r == 0)
		r = -ENOMSG;
	free(one.new_content);
	free(one.new_metadata);
	return r;
}

static int take_portion(struct work *work, struct iovec text)
{
	struct iovec name, found;
	char *at = work->one.iov_base;

	memcpy(at + FRONT, text.iov_base, text.iov_len);
	memcpy(at + FRONT + text.iov_len, back, BACK);
	work->one.iov_len = FRONT + text.iov_len + BACK;
	if (!scan_stream(work->one, work->links, &name, &found))
		return ask(work);
	buffer_add(&work->out, found.iov_base, found.iov_len);
	return work->out.failed ? -EMSGSIZE : 0;
}

/* All of `text` into work->out. 0, or as of portions_examine(); -ENOMSG: it goes no further. */
static int take_all(struct work *work, struct iovec text)
{
	int r = 0;

	while (r == 0 && text.iov_len > 0) {
		const size_t size = portions_next(text, PORTION);

		r = take_portion(work, (struct iovec){text.iov_base, size});
		text.iov_base = (char *)text.iov_base + size;
		text.iov_len -= size;
	}
	return r;
}

/* ---- a stream ---- */

static int examine_stream(struct work *work)
{
	struct examination *all = work->examination;
	struct iovec name, text;
	int r;

	if (!find_parts(all->content, &name, &text))
		return -EINVAL;
	memcpy((char *)work->one.iov_base + NAME_AT, name.iov_base, NAME);
	buffer_add(&work->out, work->one.iov_base, FRONT);
	r = take_all(work, text);
	if (r < 0)
		return r;
	buffer_add(&work->out, back, BACK);
	all->new_metadata = strdup(empty);
	all->new_content = buffer_take(&work->out, &all->new_content_size);
	all->new_metadata_size = EMPTY;
	all->verdict = CONTENT_CHANGED;
	return all->new_content && all->new_metadata ? 0 : -ENOMEM;
}

/* ---- text/plain of an output ---- */

enum { MARK = 32 };

/* Asks about all but the text. The answer has the mark where the text belongs, or the text is none
 * of it. */
static int examine_rest(struct work *work, struct iovec text, const char mark[MARK])
{
	struct examination *all = work->examination, rest = *all;
	const char *content = all->content.iov_base, *after = (char *)text.iov_base + text.iov_len;
	const size_t before = (size_t)((char *)text.iov_base - content);
	struct buffer out = {.max = EXAMINE_CONTENT_MAX};
	int r;

	buffer_add(&out, content, before);
	buffer_add(&out, mark, MARK);
	buffer_add(&out, after, all->content.iov_len - before - text.iov_len);
	if (out.failed) {
		buffer_done(&out);
		return -EMSGSIZE;
	}
	rest.content = (struct iovec){out.data, out.size};
	r = examine(work->examine, &rest);
	rest.content = all->content;
	*all = rest;
	if (r == 0 && rest.verdict == CONTENT_KEEP) {
		all->verdict = CONTENT_CHANGED;
		all->new_metadata = strndup(rest.metadata.iov_base, rest.metadata.iov_len);
		all->new_metadata_size = rest.metadata.iov_len;
		all->new_content = buffer_take(&out, &all->new_content_size);
		r = all->new_content && all->new_metadata ? 0 : -ENOMEM;
	}
	buffer_done(&out);
	return r;
}

/* The text in the place of the mark. */
static int put_text(struct work *work, struct iovec text, const char *mark)
{
	struct examination *all = work->examination;
	const char *content = all->new_content, *after = mark + MARK;
	int r;

	buffer_add(&work->out, content, (size_t)(mark - content));
	r = take_all(work, text);
	if (r < 0)
		return r;
	buffer_add(&work->out, after, all->new_content_size - (size_t)(after - content));
	free(all->new_content);
	all->new_content = buffer_take(&work->out, &all->new_content_size);
	return all->new_content ? 0 : -ENOMEM;
}

static int examine_output(struct work *work)
{
	struct examination *all = work->examination;
	const struct iovec data = requests_member(all->content, "data");
	struct iovec text;
	char mark[MARK + 1];
	const char *found;
	int r;

	if (!is_string(requests_member(data, "text/plain"), &text) || text.iov_len < PORTION / 2)
		return -EINVAL;
	r = random_hex(mark, MARK / 2);
	if (r == 0)
		r = examine_rest(work, text, mark);
	if (r < 0 || all->verdict != CONTENT_CHANGED)
		return r;
	found = memmem(all->new_content, all->new_content_size, mark, MARK);
	r = found ? put_text(work, text, found) : 0;
	if (r < 0)
		all->verdict = CONTENT_DROP;
	return r;
}

/* As much as messages of the largest size might take one by one. */
static int64_t most_ms(size_t size)
{
	return (EXAMINE_MOST_MS + EXAMINE_WAIT_MS) * (1 + (int64_t)(size / EXAMINE_CONTENT_MAX));
}

int portions_examine(struct examine *examine, struct examination *examination, bool links)
{
	struct work work = {.examine = examine,
			    .examination = examination,
			    .links = links,
			    .deadline = now_ms() + most_ms(examination->content.iov_len),
			    .out.max = WALL_TOTAL_MAX};
	const bool stream = examination->rule == CONTENT_STREAM;
	int r;

	examination->verdict = CONTENT_DROP;
	examination->new_metadata = examination->new_content = NULL;
	examination->blocked[0] = '\0';
	work.one.iov_base = malloc(FRONT + PORTION + BACK);
	if (!work.one.iov_base)
		return -ENOMEM;
	memcpy(work.one.iov_base, front, FRONT);
	r = stream ? examine_stream(&work) : examine_output(&work);
	buffer_done(&work.out);
	free(work.one.iov_base);
	return r == -ENOMSG ? 0 : r;
}
